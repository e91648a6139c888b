"""A package that is installed in an environment of its own, and a series for it."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import py_compile
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fixtool.git.objects import MACHINE, Commit, Oid
from fixtool.git.repo import Repo
from fixtool.git.store import Store
from fixtool.git.trees import scratch_index, write_tree
from fixtool.progress import Silence
from fixtool.series.line import Upstream
from fixtool.series.patch import export
from fixtool.series.write import upstream_toml
from fixtool.settings import Settings
from fixtool.sources.source import Releases
from support.command import run_here
from support.package_index import ELF, X86, make_wheel, use_index
from support.repositories import Git, Ran
from support.wheels import make_venv

FILES = {
    "sglang/__init__.py": b"x = 1\n",
    "sglang/_core.cpython-311-x86_64-linux-gnu.so": ELF,
    "sglang/srt/__init__.py": b"",
    "sglang/srt/model.py": "".join(f"x{n} = {n}\n" for n in range(1, 31)).encode(),
    "sglang/srt/gone.py": b"old = True\n",
    "sglang/srt/E=32,N=1,device_name=X.json": b"{}\n",
}
MODEL = FILES["sglang/srt/model.py"].replace(b"x20 = 20\n", b"x20 = 99\n")
ADDED = b"new = True\n"
SERIES: dict[str, bytes | None] = {
    "python/sglang/srt/model.py": MODEL,
    "python/sglang/srt/extra/added.py": ADDED,
    "python/sglang/srt/gone.py": None,
    "test/test_model.py": b"pass\n",
}
"""What the series of ``main`` changes in the tree of the release."""

URL = "https://github.com/sgl-project/sglang.git"

OTHER: dict[str, bytes | None] = {
    "python/sglang/srt/model.py": FILES["sglang/srt/model.py"].replace(b"x5 = 5\n", b"x5 = 55\n")
}


@dataclass(frozen=True)
class Environment:
    """An environment with the package, below ``root``, and the patch repository ``team``."""

    root: Path
    team: Path
    settings: Settings

    @property
    def python(self) -> str:
        return str(self.root / "bin" / "python")

    @property
    def packages(self) -> Path:
        (folder,) = self.root.glob("lib/python*/site-packages")
        return folder

    @property
    def info(self) -> Path:
        (folder,) = self.packages.glob("sglang-*.dist-info")
        return folder

    def run(self, verb: str, *words: str, cwd: Path | None = None) -> Ran:
        folder = ["-C", str(self.team)] if "-C" not in words else []
        return run_here(verb, "--python", self.python, *folder, *words, cwd=cwd or self.team)

    def snapshot(self) -> dict[str, tuple[str, int, bytes]]:
        """Every file of the packages: its mode, its time and its bytes."""
        return snapshot(self.packages)

    def record(self) -> list[list[str]]:
        return list(csv.reader(io.StringIO((self.info / "RECORD").read_text())))

    def check_record(self) -> None:
        """RECORD names each file of the package and of dist-info, with its hash and size."""
        paths = [row[0] for row in self.record()]
        assert len(paths) == len(set(paths))
        for path, digest, size in self.record():
            data = (self.packages / path).read_bytes()
            if digest:
                assert (digest, int(size)) == (_digest(data), len(data)), path
        there = {file.relative_to(self.packages).as_posix()
                 for folder in (self.info, self.packages / "sglang")
                 for file in folder.rglob("*") if file.is_file()}  # fmt: skip
        assert {path for path in there if not path.endswith(".pyc")} <= set(paths)


def snapshot(folder: Path) -> dict[str, tuple[str, int, bytes]]:
    return {
        str(file.relative_to(folder)): (
            oct(file.stat().st_mode), file.stat().st_mtime_ns, file.read_bytes()
        )
        for file in sorted(folder.rglob("*"))
        if file.is_file() and "/pip/" not in str(file)
    }  # fmt: skip


def _digest(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={digest.decode()}"


def unpack(wheel: Path, packages: Path, *, compiled: bool = True) -> None:
    """Install a wheel as pip does: lines of RECORD end with CR LF, and bytecode has no hash."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        archive.extractall(packages)
    info = next(name.split("/")[0] for name in names if ".dist-info/" in name)
    (packages / info / "INSTALLER").write_text("pip\n")
    rows: list[tuple[str, str, str]] = []
    for name in sorted({*names, f"{info}/INSTALLER"} - {f"{info}/RECORD"}):
        path = packages / name
        os.utime(path, (1_700_000_000, 1_700_000_000))
        rows.append((name, _digest(path.read_bytes()), str(path.stat().st_size)))
        if compiled and name.endswith(".py"):
            cached = py_compile.compile(str(path), doraise=True)
            rows.append((str(Path(cached).relative_to(packages)), "", ""))
    with (packages / info / "RECORD").open("w", newline="") as file:
        csv.writer(file).writerows([*rows, (f"{info}/RECORD", "", "")])


def write_line(
    repo: Repo, team: Path, name: str, base: Oid, release: str | None, files: Mapping[str, bytes | None],
    **project: str,
) -> None:  # fmt: skip
    """A line of one patch, which changes ``files`` of the commit ``base``."""
    with scratch_index(repo, base) as scratch:
        rows = []
        for path, data in files.items():
            blob = repo.run("hash-object", "-w", "--stdin", stdin=data or b"").text
            rows.append(f"{'100644' if data is not None else '0'} {blob}\t{path}\n")
        repo.run("update-index", "--index-info", stdin="".join(rows).encode(), index=scratch)
        tree = write_tree(repo, scratch)
    message = (
        f"model: change what {name} changes\n\nWhy.\n\nOrigin: vendor\nForwarded: no\n"
        "Drop-When: never\nSigned-off-by: A Person <person@example.org>\n"
    )
    commit = repo.write_commit(Commit(tree, (base,), MACHINE, MACHINE, message))
    folder = team / "patches" / name
    folder.mkdir(parents=True)
    (folder / f"{name}-fix.patch").write_bytes(export(repo, commit))
    (folder / "series").write_text(f"{name}-fix.patch\n")
    tree, day = repo.tree_id(base), "2026-01-02"
    about = Upstream(URL, base, tree, release, "1.0", day)
    about = replace(about, **project)  # type: ignore[arg-type]
    (folder / "upstream.toml").write_text(upstream_toml(about, "a test"))


def make_environment(folder: Path, served: Path, settings: Settings) -> Environment:
    """An environment with release 1.0 from a wheel that is put into ``served``, and the lines
    ``main`` and ``other`` for it."""
    wheel = make_wheel(served, "1.0", X86, FILES)
    make_venv(folder / "venv")
    environment = Environment(folder / "venv", folder / "team", settings)
    unpack(wheel, environment.packages)
    releases = Releases(settings, Silence())
    base = releases.release("1.0").commit
    for name, files in (("main", SERIES), ("other", OTHER)):
        write_line(releases.repo, environment.team, name, base, "1.0", files)
    return environment


@pytest.fixture(scope="session")
def made_environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``environment`` is a copy of, made once."""
    folder = tmp_path_factory.mktemp("installed")
    with pytest.MonkeyPatch.context() as patched:
        use_index(patched, FIND_LINKS=str(folder / "served"), NO_INDEX="1")
        settings = Settings(state=folder / "state", cache=folder / "cache")
        make_environment(folder, folder / "served", settings)
    return folder


@pytest.fixture
def environment(
    tmp_path: Path, made_environment: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Environment:
    """An environment with release 1.0, and the lines ``main`` and ``other`` for it."""
    use_index(monkeypatch, FIND_LINKS=str(made_environment / "served"), NO_INDEX="1")
    for name, place in (("venv", tmp_path), ("team", tmp_path), ("state", settings.state.parent)):
        shutil.copytree(made_environment / name, place / name, symlinks=True)
    return Environment(tmp_path / "venv", tmp_path / "team", settings)


def patched_tree(environment: Environment, files: Mapping[str, bytes | None]) -> Oid:
    """The id of python/sglang with ``files`` in the release's tree, as git computes it."""
    repo = Store.create(environment.settings.stores / "pypi-sglang.git")
    ref = repo.ref("refs/fixtool/releases/1.0")
    assert ref is not None
    with scratch_index(repo, ref) as scratch:
        rows = []
        for path, data in files.items():
            blob = repo.run("hash-object", "-w", "--stdin", stdin=data or b"").text
            rows.append(f"{'100644' if data is not None else '0'} {blob}\t{path}\n")
        repo.run("update-index", "--index-info", stdin="".join(rows).encode(), index=scratch)
        return Oid(repo.run("rev-parse", f"{write_tree(repo, scratch)}:python/sglang").text)


def make_checkout(folder: Path, upstream: Git, settings: Settings) -> Environment:
    """An environment with an editable install from a detached checkout of ``upstream``, and the
    line ``main`` for its commit."""
    for path, data in FILES.items():
        upstream.write(f"python/{path}", data)
    upstream.write("test/test_old.py", "pass\n")
    base = upstream.commit("package")
    upstream("checkout", "--quiet", "--detach")
    make_venv(folder / "venv")
    environment = Environment(folder / "venv", folder / "team", settings)
    info = environment.packages / "sglang-0.0.0.dist-info"
    info.mkdir()
    pth = "__editable__.sglang-0.0.0.pth"
    (environment.packages / pth).write_text(f"{upstream.path / 'python'}\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sglang\nVersion: 0.0.0\n")
    (info / "RECORD").write_text(f"{pth},,\n{info.name}/RECORD,,\n")
    url = {"url": f"file://{upstream.path}/python", "dir_info": {"editable": True}}
    (info / "direct_url.json").write_text(json.dumps(url))
    store = Store.create(folder / "patching.git")
    store.borrow(upstream.repo)
    write_line(store, environment.team, "main", Oid(base), None, SERIES)
    return environment
