"""Wheels of patched trees: what they are built from, and what is in them."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import io
import subprocess
import zipfile
from pathlib import Path
from venv import create as create_venv

import pytest

from fixtool.git.objects import MACHINE, Commit, Oid
from fixtool.git.repo import Repo
from fixtool.git.store import Store
from fixtool.git.trees import scratch_index, write_tree
from fixtool.history.log import UpstreamCommit
from fixtool.judgement.manifest import Manifest, ManifestPatch
from fixtool.replay.verdict import Verdict
from fixtool.settings import Settings
from fixtool.sources import release
from fixtool.sources.release import Release
from support.package_index import X86, Server
from support.releases import make_release

THEIRS = UpstreamCommit(Oid("e" * 40), "A Person", "2026-05-23T10:00:00+08:00", "Fix it (#26)", 26)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    return Store.create(tmp_path / "store.git")


@pytest.fixture
def imported(server: Server, repo: Repo, settings: Settings) -> Release:
    """Release 1.0, imported from a synthetic wheel."""
    make_release(server.folder)
    return release.import_release("1.0", repo, settings, tags=[X86])


@pytest.fixture(scope="session")
def venv(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_venv(tmp_path_factory.mktemp("venv") / "v")


def make_venv(folder: Path) -> str:
    """The interpreter of a new virtual environment. Its pip is a link to the pip of this Python,
    where it has one: to unpack a new pip, and to compile it at each start, takes seconds."""
    pip = importlib.util.find_spec("pip")
    create_venv(folder, symlinks=True, with_pip=pip is None)
    if pip and pip.origin:
        (packages,) = folder.glob("lib/python*/site-packages")
        (packages / "pip").symlink_to(Path(pip.origin).parent)
    return str(folder / "bin" / "python")


def ask(python: str, code: str) -> str:
    """What ``code`` prints in the interpreter ``python``."""
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    ).stdout.strip()


def patched(repo: Repo, base: str, files: dict[str, bytes | None], mode: str = "100644") -> str:
    """A child of ``base`` with these files written (None: deleted)."""
    with scratch_index(repo, base) as scratch:
        lines = []
        for path, data in files.items():
            blob = repo.run("hash-object", "-w", "--stdin", stdin=data or b"").text
            lines.append(f"{mode if data is not None else '0'} {blob}\t{path}\n")
        repo.run("update-index", "--index-info", stdin="".join(lines).encode(), index=scratch)
        tree = write_tree(repo, scratch)
    return repo.write_commit(Commit(tree, (base,), MACHINE, MACHINE, "patched\n"))


def read(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel, after checking it: RECORD names each, with its hash and size."""
    with zipfile.ZipFile(wheel) as archive:
        assert archive.testzip() is None
        entries = archive.infolist()
        data = {entry.filename: archive.read(entry) for entry in entries}
    names = [entry.filename for entry in entries]
    assert len(set(names)) == len(names)
    info = next(name.split("/")[0] for name in names if ".dist-info/" in name)
    outside = [name for name in names if not name.startswith(f"{info}/")]
    inside = [name for name in names if name.startswith(f"{info}/")]
    assert names == sorted(outside) + sorted(inside[:-1]) + [f"{info}/RECORD"]
    assert {entry.date_time for entry in entries} == {(1980, 1, 1, 0, 0, 0)}
    assert {oct(entry.external_attr >> 16) for entry in entries} <= {"0o100644", "0o100755"}
    rows = list(csv.reader(io.StringIO(data[f"{info}/RECORD"].decode())))
    assert [row[0] for row in rows] == names
    assert rows[-1] == [f"{info}/RECORD", "", ""]
    for name, digest, size in rows[:-1]:
        sha = base64.urlsafe_b64encode(hashlib.sha256(data[name]).digest()).decode().rstrip("=")
        assert (digest, size) == (f"sha256={sha}", str(len(data[name]))), name
    return data


def carried(slug: str, verdict: Verdict = Verdict.CLEAN) -> ManifestPatch:
    """A patch that is in the tree."""
    return ManifestPatch(slug, f"area: {slug}", "a" * 64, verdict, Oid("c" * 40))


def left_out(
    slug: str, verdict: Verdict, *evidence: str, culprit: UpstreamCommit | None = None
) -> ManifestPatch:
    return ManifestPatch(slug, f"area: {slug}", "a" * 64, verdict, None, evidence, culprit)


def manifest(*patches: ManifestPatch, own_commits: int = 0) -> Manifest:
    """A manifest of line main."""
    return Manifest("main", Oid("b" * 40), Oid("d" * 40), patches, own_commits)
