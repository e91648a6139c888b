"""Wheels of patched trees: built, read back entry by entry, installed into a real interpreter."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packaging.tags import sys_tags

from fixtool import interpreter
from fixtool.errors import CannotRun, Refused, UsageError
from fixtool.git.repo import Repo
from fixtool.git.store import Store
from fixtool.git.trees import list_tree
from fixtool.settings import Settings
from fixtool.sources import release
from fixtool.sources.release import Release
from fixtool.wheel import build
from fixtool.wheel.build import BuildRequest, BuiltWheel
from support.package_index import (
    ELF,
    REAL_CACHE,
    X86,
    Server,
    largest_file,
    make_wheel,
    online,
    server,
)
from support.releases import NAMES, SO, make_release, real_wheel
from support.repositories import Git
from support.wheels import ask, carried, imported, manifest, patched, read, repo, venv

__all__ = ["imported", "online", "repo", "server", "venv"]  # fixtures

PYPROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "sglang"
dynamic = ["version"]
description = "Serves models."
readme = "README.md"
license = { file = "LICENSE" }
requires-python = ">=3.10"
dependencies = ["torch==2.11.0", "av ; sys_platform == 'linux'"]
[project.optional-dependencies]
all = ["sglang[tracing]"]
tracing = ["opentelemetry-api"]
[project.scripts]
sglang = "sglang.cli:main"
[tool.setuptools.packages.find]
exclude = ["assets*", "tests*"]
[tool.setuptools_scm]
version_file = "sglang/_version.py"
[[tool.setuptools-rust.ext-modules]]
target = "sglang.srt.grpc._core"
path = "../rust/Cargo.toml"
"""


def executables(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename for entry in archive.infolist() if entry.external_attr >> 16 & 0o111}


def leftovers(settings: Settings) -> list[str]:
    wheels = settings.cache / "wheels"
    return [entry.name for entry in wheels.iterdir() if entry.name.startswith(".")]


# -- of a release ------------------------------------------------------------------------------


def test_an_unpatched_release_comes_back(repo: Repo, settings: Settings, imported: Release) -> None:
    built = build.build(repo, imported.commit, BuildRequest("1.0", (X86,), imported), settings)
    version = f"1.0+fixtool.{imported.tree[:12]}"
    assert built.version == version
    assert built.path.name == f"sglang-{version}-{X86}.whl"
    assert (built.natives_kept, built.natives_missing, built.notes) == ((SO,), (), ())
    assert (built.size, built.reused) == (built.path.stat().st_size, False)
    original = release.wheel_path(imported, imported.wheel, settings)
    with zipfile.ZipFile(original) as archive:
        before = {
            name.replace("sglang-1.0.dist", f"sglang-{version}.dist"): archive.read(name)
            for name in archive.namelist()
        }
    after = read(built.path)
    info = f"sglang-{version}.dist-info"
    assert set(after) == set(before)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"sglang/_version.py", f"{info}/METADATA", f"{info}/RECORD"}
    assert after[f"{info}/METADATA"] == (
        f"Metadata-Version: 2.1\nName: sglang\nVersion: {version}\n\nVersion: body\n".encode()
    )
    assert executables(built.path) == executables(original) == {SO, "sglang/__init__.py"}
    names: dict[str, object] = {}
    exec(after["sglang/_version.py"], names)
    assert names["__version__"] == version
    assert names["version_tuple"] == (1, 0, f"fixtool.{imported.tree[:12]}")


def test_patches_are_in_the_wheel_and_files_outside_the_packages_are_not(
    repo: Repo, settings: Settings, imported: Release
) -> None:
    commit = patched(
        repo,
        imported.commit,
        {
            "python/sglang/__init__.py": b"x = 2\n",
            "python/sglang/new/kernel.py": b"y = 3\n",
            "python/tools/get_version_tag.py": None,
            "python/pyproject.toml": b"not for a wheel",
            "test/registered/test_new.py": b"not for a wheel",
        },
    )
    commit = patched(repo, commit, {"python/sglang/run.sh": b"#!/bin/sh\n"}, "100755")
    built = build.build(repo, commit, BuildRequest("1.0", (X86,), imported), settings)
    files = {name: data for name, data in read(built.path).items() if ".dist-info/" not in name}
    expected = {**NAMES, SO: ELF, "sglang/__init__.py": b"x = 2\n"}
    expected |= {"sglang/new/kernel.py": b"y = 3\n", "sglang/run.sh": b"#!/bin/sh\n"}
    del expected["tools/get_version_tag.py"], expected["sglang/_version.py"]
    del files["sglang/_version.py"]
    assert files == expected
    assert "sglang/run.sh" in executables(built.path)


def test_the_same_tree_is_the_same_bytes(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_release(server.folder)
    wheels = set()
    for number, (zone, umask) in enumerate([("UTC", 0o022), ("Asia/Tokyo", 0o077)]):
        monkeypatch.setenv("TZ", zone)
        old = os.umask(umask)
        try:
            repo = Store.create(tmp_path / f"{number}.git")
            settings = Settings(tmp_path / f"state{number}", tmp_path / f"cache{number}")
            imported = release.import_release("1.0", repo, settings, tags=[X86])
            commit = patched(repo, imported.commit, {"python/sglang/__init__.py": b"x = 2\n"})
            other = patched(repo, commit, {"python/sglang/__init__.py": b"x = 3\n"})
            commit = patched(repo, other, {"python/sglang/__init__.py": b"x = 2\n"})
            built = build.build(repo, commit, BuildRequest("1.0", (X86,), imported), settings)
        finally:
            os.umask(old)
        wheels.add((built.path.name, built.path.parent.name, built.sha256, built.path.read_bytes()))
    assert len(wheels) == 1


def test_a_wheel_is_built_once_and_a_damaged_one_again(
    repo: Repo, settings: Settings, imported: Release
) -> None:
    request = BuildRequest("1.0", (X86,), imported)
    first = build.build(repo, imported.commit, request, settings)
    again = build.build(repo, imported.commit, request, settings)
    assert again.reused
    assert (again.path, again.sha256, again.natives_kept) == (
        first.path,
        first.sha256,
        first.natives_kept,
    )
    good = first.path.read_bytes()
    first.path.write_bytes(good[:-9])
    third = build.build(repo, imported.commit, request, settings)
    assert (third.reused, third.path.read_bytes()) == (False, good)
    assert leftovers(settings) == []


def test_a_wheel_that_another_run_built_first(
    repo: Repo, settings: Settings, imported: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = BuildRequest("1.0", (X86,), imported)
    theirs = build.build(repo, imported.commit, request, settings)
    look, asked = build._reusable, []

    def not_at_first(*words: Any) -> BuiltWheel | None:
        asked.append(words)
        return look(*words) if len(asked) > 1 else None

    monkeypatch.setattr(build, "_reusable", not_at_first)
    assert build.build(repo, imported.commit, request, settings) == replace(theirs, reused=True)


def test_a_wheel_in_a_folder_that_others_may_write_is_not_believed(
    repo: Repo, settings: Settings, imported: Release
) -> None:
    request = BuildRequest("1.0", (X86,), imported)
    wheel = build.build(repo, imported.commit, request, settings).path
    wheel.parent.parent.chmod(0o777)
    with pytest.raises(CannotRun, match="wheels can be written to by every user"):
        build.build(repo, imported.commit, request, settings)


def test_an_interpreter_without_a_wheel_gets_a_pure_one_and_is_told(
    repo: Repo, settings: Settings, imported: Release
) -> None:
    built = build.build(
        repo, imported.commit, BuildRequest("1.0", ("cp39-cp39-win32",), imported), settings
    )
    assert built.path.name.endswith("-py3-none-any.whl")
    assert (built.natives_kept, built.natives_missing) == ((), ("sglang.srt._core",))
    assert built.notes == (
        "sglang.srt._core is not in this wheel: it is native code, and release 1.0 has no wheel "
        "for this interpreter",
    )
    files = read(built.path)
    assert SO not in files
    wheel = files[f"sglang-{built.version}.dist-info/WHEEL"].decode()
    assert "Root-Is-Purelib: true\nTag: py3-none-any\n" in wheel


def test_a_cleaned_cache_fetches_the_wheel_for_its_natives(
    server: Server, repo: Repo, settings: Settings, imported: Release
) -> None:
    release.wheel_path(imported, imported.wheel, settings).unlink()
    downloads = len(server.asked(".whl"))
    built = build.build(repo, imported.commit, BuildRequest("1.0", (X86,), imported), settings)
    assert read(built.path)[SO] == ELF
    assert len(server.asked(".whl")) == downloads + 1


def test_a_full_disk_leaves_nothing(repo: Repo, settings: Settings, imported: Release) -> None:
    noise = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(250)) * 2
    commit = patched(repo, imported.commit, {"python/sglang/data.bin": noise})
    with largest_file(4000), pytest.raises(CannotRun, match="cannot write the wheel") as caught:
        build.build(repo, commit, BuildRequest("1.0", (X86,), imported), settings)
    assert caught.value.hint is not None
    assert "FIXTOOL_CACHE_DIR" in caught.value.hint
    assert list((settings.cache / "wheels").iterdir()) == []
    assert build.build(repo, commit, BuildRequest("1.0", (X86,), imported), settings).path.is_file()


@pytest.mark.parametrize(
    ("base", "version"),
    [
        ("0.5.23", "0.5.23+fixtool.0123456789ab"),
        ("0.5.12.post1", "0.5.12.post1+fixtool.0123456789ab"),
        ("1.0+cu130", "1.0+cu130.fixtool.0123456789ab"),
        ("v1.0rc1", "1.0rc1+fixtool.0123456789ab"),
    ],
)
def test_the_version_names_the_tree(base: str, version: str) -> None:
    assert build.local_version(base, "0123456789ab" + "f" * 28) == version


def test_a_version_that_is_none(repo: Repo, settings: Settings, imported: Release) -> None:
    with pytest.raises(UsageError, match="'main' is not a release"):
        build.build(repo, imported.commit, BuildRequest("main", (X86,), imported), settings)


def test_litter_of_a_killed_run_goes_after_a_day(
    repo: Repo, settings: Settings, imported: Release
) -> None:
    old, young = (settings.cache / "wheels" / f".new-{digit * 16}" for digit in "ab")
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (1, 1))
    build.build(repo, imported.commit, BuildRequest("1.0", (X86,), imported), settings)
    assert leftovers(settings) == [young.name]


# -- of a git commit ---------------------------------------------------------------------------


@pytest.fixture
def project(make_git: Callable[[str], Git]) -> Git:
    """A source tree like SGLang's own, with its odd corners."""
    git = make_git("project")
    git.write("python/pyproject.toml", PYPROJECT)
    git.write("README.md", "# Read me\n")
    git.write("LICENSE", "Do as you like.\n")
    git.write("shared/.clang-format", "Style: X\n")
    git.write("python/sglang/__init__.py", "")
    git.write("python/sglang/cli.py", "def main():\n    print('it runs')\n")
    git.write("python/sglang/no_init/module.py", "")
    git.write("python/sglang/.agents/skill-1.2/SKILL.md", "a tracked file below a package")
    git.write("python/sglang/tests/inner.py", "not excluded: the pattern is for the top")
    git.write("python/tests/outer.py", "excluded")
    git.write("python/assets_more/logo.svg", "excluded")
    git.write("python/tools/tag.py", "")
    git.write("test/registered/x.py", "")
    (git.path / "python/sglang/.clang-format").symlink_to("../../shared/.clang-format")
    (git.path / "python/sglang/dangling").symlink_to("../../nowhere")
    (git.path / "python/sglang/outside").symlink_to("/etc/passwd")
    git.commit("base")
    return git


def test_a_git_tree_is_packed_as_setuptools_would(project: Git, settings: Settings) -> None:
    head = project("rev-parse", "HEAD")
    built = build.build(project.repo, head, BuildRequest("1.0.post1", (X86,)), settings)
    files = read(built.path)
    info = f"sglang-{built.version}.dist-info"
    assert {name for name in files if not name.startswith(info)} == {
        "sglang/__init__.py",
        "sglang/_version.py",
        "sglang/cli.py",
        "sglang/no_init/module.py",
        "sglang/.agents/skill-1.2/SKILL.md",
        "sglang/.clang-format",
        "sglang/tests/inner.py",
        "tools/tag.py",
    }
    assert files["sglang/.clang-format"] == b"Style: X\n"
    assert files[f"{info}/top_level.txt"] == b"sglang\ntools\n"
    assert files[f"{info}/entry_points.txt"] == b"[console_scripts]\nsglang = sglang.cli:main\n"
    assert files[f"{info}/licenses/LICENSE"] == b"Do as you like.\n"
    assert built.metadata_source == "python/pyproject.toml"
    assert built.natives_missing == ("sglang.srt.grpc._core",)
    assert set(built.notes) == {
        "python/sglang/dangling is left out: it links to nothing in this tree",
        "python/sglang/outside is left out: it links to nothing in this tree",
        "sglang.srt.grpc._core (the gRPC server) is not in this wheel: it is native code, to be built with --native",
    }
    (metadata,) = importlib.metadata.distributions(path=[str(unpack(built))])
    assert (metadata.name, metadata.version) == ("sglang", built.version)
    assert metadata.requires == [
        "torch==2.11.0",
        'av; sys_platform == "linux"',
        'sglang[tracing]; extra == "all"',
        'opentelemetry-api; extra == "tracing"',
    ]
    assert metadata.metadata["Description-Content-Type"] == "text/markdown"
    assert metadata.read_text("METADATA").endswith("# Read me\n")  # type: ignore[union-attr]


def unpack(built: BuiltWheel) -> Path:
    folder = built.path.parent / "unpacked"
    with zipfile.ZipFile(built.path) as archive:
        archive.extractall(folder)
    return folder


def test_a_tree_without_readme_or_license(project: Git, settings: Settings) -> None:
    project("rm", "--quiet", "--cached", "README.md", "LICENSE")
    project("commit", "--quiet", "-m", "no papers")
    head = project("rev-parse", "HEAD")
    built = build.build(project.repo, head, BuildRequest("1.0", (X86,)), settings)
    assert "the tree has no README.md: the wheel's metadata goes without readme" in built.notes
    assert "the tree has no LICENSE: the wheel's metadata goes without license" in built.notes
    assert not [name for name in read(built.path) if "licenses" in name]


def test_license_files_by_pattern(project: Git, settings: Settings) -> None:
    spdx = 'license = "Apache-2.0"\nlicense-files = ["LIC*", "NOTICE"]'
    table = PYPROJECT.replace('license = { file = "LICENSE" }', spdx)
    project.write("python/pyproject.toml", table)
    project.write("python/LICENSE.txt", "Do it.\n")
    project.write("python/NOTICE", "Done.\n")
    head = project.commit("license by pattern")
    built = build.build(project.repo, head, BuildRequest("1.0", (X86,)), settings)
    licenses = {name.partition("/licenses/")[2]: data for name, data in read(built.path).items()
                if "/licenses/" in name}  # fmt: skip
    assert licenses == {"LICENSE.txt": b"Do it.\n", "NOTICE": b"Done.\n"}


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("[project]", "[project", Refused, "not valid TOML"),
        ('name = "sglang"', "", Refused, "not valid project metadata"),
        ('">=3.10"', '"three"', Refused, "Invalid specifier|requires-python"),
        ('["version"]', '["version", "dependencies"]', CannotRun, "leaves dependencies to the"),
        ("[tool.setuptools.packages.find]", "[tool.other]", CannotRun, "packages.find"),
    ],
)
def test_metadata_that_cannot_be_followed(
    project: Git, settings: Settings, old: str, new: str, error: type[Exception], message: str
) -> None:
    project.write("python/pyproject.toml", PYPROJECT.replace(old, new))
    head = project.commit("broken")
    with pytest.raises(error, match=message):
        build.build(project.repo, head, BuildRequest("1.0", (X86,)), settings)
    assert leftovers(settings) == []


def test_a_tree_that_is_no_project(project: Git, settings: Settings) -> None:
    project("rm", "--quiet", "-r", "python")
    project("commit", "--quiet", "-m", "gone")
    with pytest.raises(CannotRun, match=r"no pyproject\.toml"):
        build.build(
            project.repo, project("rev-parse", "HEAD"), BuildRequest("1.0", (X86,)), settings
        )


# -- native builds -----------------------------------------------------------------------------


def test_native_names_the_compiler_that_is_missing(
    tmp_path: Path, project: Git, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in ("git", "env"):
        (programs / program).symlink_to(shutil.which(program) or program)
    monkeypatch.setenv("PATH", str(programs))
    head = project.repo.head()
    assert head is not None
    request = BuildRequest("1.0", (X86,), native=True, python=sys.executable)
    with pytest.raises(CannotRun, match="there is no cargo on PATH"):
        build.build(project.repo, head, request, settings)
    (programs / "cargo").symlink_to("/bin/false")
    with pytest.raises(CannotRun, match="there is no protoc on PATH"):
        build.build(project.repo, head, request, settings)
    (programs / "protoc").symlink_to("/bin/false")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(CannotRun, match=r"the native build failed: .*setuptools") as caught:
        build.build(project.repo, head, request, settings)
    assert "leave --native out" in str(caught.value.hint)
    assert leftovers(settings) == []


def test_native_runs_the_projects_own_build(
    tmp_path: Path, project: Git, settings: Settings, venv: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a build backend of a few lines in the compilers' place: what it is given, and what
    becomes of the natives it makes."""
    backend = (
        "import os, zipfile\n"
        "def build_wheel(folder, config_settings=None, metadata_directory=None):\n"
        "    version = os.environ['SETUPTOOLS_SCM_PRETEND_VERSION']\n"
        "    assert os.path.exists('README.md') and os.path.exists('../shared/.clang-format')\n"
        "    name = f'sglang-{version}-cp311-cp311-linux_x86_64.whl'\n"
        "    with zipfile.ZipFile(os.path.join(folder, name), 'w') as archive:\n"
        f"        archive.writestr('sglang/srt/grpc/_core.abi3.so', {ELF!r})\n"
        "        info = f'sglang-{version}.dist-info'\n"
        "        archive.writestr(f'{info}/METADATA', 'Metadata-Version: 2.1\\nName: sglang\\n'\n"
        "                         f'Version: {version}\\n')\n"
        "        archive.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\\n')\n"
        "    return name\n"
    )
    project.write("python/backend.py", backend)
    text = PYPROJECT.replace('["setuptools"]', "[]\nbackend-path = ['.']")
    project.write("python/pyproject.toml", text.replace("setuptools.build_meta", "backend"))
    head = project.commit("own backend")
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in ("cargo", "protoc"):
        (programs / program).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    request = BuildRequest("1.0", (X86,), native=True, python=sys.executable)
    built = build.build(project.repo, head, request, settings)
    assert built.path.name == f"sglang-{built.version}-cp311-cp311-linux_x86_64.whl"
    assert read(built.path)["sglang/srt/grpc/_core.abi3.so"] == ELF
    assert built.natives_kept == ("sglang/srt/grpc/_core.abi3.so",)
    assert built.natives_missing == ()
    assert not [note for note in built.notes if "native" in note]
    assert build.build(project.repo, head, request, settings).reused
    with_manifest = replace(request, manifest=manifest(carried("fix")))
    built = build.build(project.repo, head, with_manifest, settings)
    info = f"sglang-{built.version}.dist-info"
    files = read(built.path)
    assert b'"slug": "fix"' in files[f"{info}/fixtool-patches.json"]
    assert b"Carries: fix (clean)" in files[f"{info}/METADATA"]
    editable = replace(with_manifest, python=venv)
    built = build.install_editable(project.repo, head, editable, settings, project.path)
    assert built.natives_kept == ("sglang/srt/grpc/_core.abi3.so",)
    assert (project.path / "python/sglang/srt/grpc/_core.abi3.so").read_bytes() == ELF
    assert ask(venv, "import importlib.metadata as m; print(m.version('sglang'))") == built.version


def test_native_is_for_git_bases(repo: Repo, settings: Settings, imported: Release) -> None:
    request = BuildRequest("1.0", (X86,), imported, native=True, python=sys.executable)
    with pytest.raises(UsageError, match="a release brings its native code"):
        build.build(repo, imported.commit, request, settings)


# -- other interpreters ------------------------------------------------------------------------


def test_the_tags_are_those_the_interpreter_would_say() -> None:
    assert build.interpreter_tags(sys.executable) == tuple(map(str, sys_tags()))


def test_tags_of_another_machine(tmp_path: Path) -> None:
    facts = (
        '{"name": "cpython", "version": [3, 13], "threads": 1, "debug": false, '
        '"libc": ["glibc", "2.35"], "platform": "linux-riscv64"}'
    )
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho '{facts}'\n")
    python.chmod(0o755)
    tags = build.interpreter_tags(str(python))
    assert tags[0] == "cp313-cp313t-manylinux_2_35_riscv64"
    assert "cp313-cp313t-linux_riscv64" in tags
    assert "py3-none-any" in tags
    assert not [tag for tag in tags if "x86_64" in tag or "2_36" in tag or "-cp313-" in tag]


def test_only_linux_has_tags_of_its_libc() -> None:
    assert interpreter._platforms("macosx-14.0-arm64", ("glibc", "2.35")) == ["macosx_14_0_arm64"]
    assert interpreter._platforms("linux-riscv64", ("", "")) == ["linux_riscv64"]
    assert interpreter._platforms("linux-riscv64", ("glibc", "2.5")) == [
        "manylinux_2_5_riscv64", "linux_riscv64",
    ]  # fmt: skip


def test_an_interpreter_that_is_missing_or_broken(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no interpreter"):
        build.interpreter_tags(str(tmp_path / "none"))
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'error: libpython is gone' >&2\nexit 127\n")
    python.chmod(0o755)
    with pytest.raises(CannotRun, match="does not work as a Python interpreter: error: libpython"):
        build.interpreter_tags(str(python))
    with pytest.raises(CannotRun, match="could not install"):
        build.install(str(python), tmp_path / "x.whl")


WHERE = (
    "import sglang, importlib.metadata as m; from pathlib import Path; "
    f"at = Path(sglang.__file__).parent; so = at / 'srt' / {Path(SO).name!r}; "
    "print(m.version('sglang'), sglang.x, so.read_bytes()[:4] if so.exists() else 'none', at)"
)


@pytest.mark.slow(8)
def test_a_wheel_installs_over_an_older_one(
    tmp_path: Path,
    repo: Repo,
    settings: Settings,
    imported: Release,
    venv: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(Path(venv).parent)
    tags = build.interpreter_tags("./python")
    assert tags == build.interpreter_tags(venv)
    old = make_wheel(tmp_path / "old", "0.1", "py3-none-any", {"sglang/old.py": b""})
    build.install(venv, old)
    commit = patched(repo, imported.commit, {"python/sglang/__init__.py": b"x = 7\n"})
    request = BuildRequest("1.0", tags, imported)
    built = build.build(repo, commit, request, settings)
    build.install("./python", built.path)
    version, x, head, at = ask(venv, WHERE).split(" ")
    assert (version, x) == (built.version, "7")
    assert head == (str(ELF[:4]) if built.natives_kept else "none")
    assert not (Path(at) / "old.py").exists()
    assert Path(at, "__init__.py").stat().st_mode & 0o111


def test_an_editable_install_follows_the_worktree(
    tmp_path: Path, repo: Repo, settings: Settings, imported: Release, venv: str
) -> None:
    worktree = tmp_path / "worktree"
    repo.run("worktree", "add", "--quiet", "--detach", str(worktree), imported.commit)
    request = BuildRequest("1.0", (X86,), imported, python=venv)
    built = build.install_editable(repo, imported.commit, request, settings, worktree)
    assert built.natives_kept == (SO,)
    assert (worktree / "python" / SO).read_bytes() == ELF
    assert (worktree / "python" / SO).stat().st_mode & 0o111
    (worktree / "python/sglang/__init__.py").write_text("x = 'edited'\n")
    version, x, head, at = ask(venv, WHERE).split(" ")
    assert (version, x, head) == (built.version, "edited", str(ELF[:4]))
    assert Path(at) == worktree / "python" / "sglang"
    opened = Repo.open(worktree)
    assert opened.status() == ["python/sglang/__init__.py"]
    assert (Path(venv).parent / "sglang").is_file()  # the entry point
    assert leftovers(settings) == []


def test_a_native_is_not_written_through_a_link(
    tmp_path: Path, repo: Repo, settings: Settings, imported: Release, venv: str
) -> None:
    worktree = tmp_path / "worktree"
    repo.run("worktree", "add", "--quiet", "--detach", str(worktree), imported.commit)
    target = tmp_path / "elsewhere"
    (worktree / "python/sglang/srt").rename(target)
    (worktree / "python/sglang/srt").symlink_to(target)
    before = sorted(target.iterdir())
    request = BuildRequest("1.0", (X86,), imported, python=venv)
    with pytest.raises(Refused, match="leads out of the worktree"):
        build.install_editable(repo, imported.commit, request, settings, worktree)
    assert sorted(target.iterdir()) == before


# -- real releases -----------------------------------------------------------------------------


@pytest.mark.slow(15)
@pytest.mark.release(sample_of="wheels of real releases")
@pytest.mark.pypi
@pytest.mark.parametrize("version", ["0.5.12.post1", "0.5.13", "0.5.23"])
def test_a_real_release_comes_back(
    tmp_path: Path, online: None, repo: Repo, venv: str, version: str
) -> None:
    """Unpatched, all but the version is what upstream released; and it installs."""
    settings = Settings(state=tmp_path / "state", cache=tmp_path / "cache")
    original = real_wheel(version, X86)
    (settings.cache).mkdir()
    (settings.cache / "releases").symlink_to(REAL_CACHE / "releases")
    imported = release.import_release(version, repo, settings, tags=[X86])
    built = build.build(repo, imported.commit, BuildRequest(version, (X86,), imported), settings)
    after = read(built.path)
    with zipfile.ZipFile(original) as archive:
        before = {
            member.filename.replace(
                f"sglang-{version}.dist", f"sglang-{built.version}.dist"
            ): member
            for member in archive.infolist()
            if not member.is_dir()
        }
        assert set(after) == set(before)
        info = f"sglang-{built.version}.dist-info"
        changed = {name for name, member in before.items() if archive.read(member) != after[name]}
        metadata = archive.read(before[f"{info}/METADATA"])
    assert changed == {"sglang/_version.py", f"{info}/METADATA", f"{info}/RECORD"}
    lines = zip(metadata.splitlines(), after[f"{info}/METADATA"].splitlines(), strict=True)
    assert [pair for pair in lines if pair[0] != pair[1]] == [
        (f"Version: {version}".encode(), f"Version: {built.version}".encode())
    ]
    bits = {name for name, member in before.items() if member.external_attr >> 16 & 0o111}
    assert executables(built.path) == bits - {f"{info}/RECORD"}
    target = tmp_path / "target"
    subprocess.run(
        [venv, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile",
         "--target", str(target), str(built.path)], check=True, capture_output=True,
    )  # fmt: skip
    (metadata,) = importlib.metadata.distributions(path=[str(target)])
    assert metadata.version == built.version
    assert {"sglang", "killall_sglang"} == {script.name for script in metadata.entry_points}
    for native in built.natives_kept:
        assert (target / native).read_bytes() == after[native]


@pytest.mark.history
def test_a_real_git_tree(tmp_path: Path) -> None:
    base = "b0ce16d0c577e127b3f7b82ada1739277d988687"
    repo = Repo.open(Path(os.environ["FIXTOOL_SGLANG_REPO"]), bare=True)
    settings = Settings(state=tmp_path / "state", cache=tmp_path / "cache")
    built = build.build(repo, base, BuildRequest("0.5.12.post1", (X86,)), settings)
    names = {name for name in read(built.path) if ".dist-info/" not in name}
    tracked = {path[len("python/") :] for path in list_tree(repo, base, "python")}
    assert tracked - names == {
        f"pyproject{kind}.toml" for kind in ("", "_cpu", "_npu", "_other", "_xpu")
    }
    assert names - tracked == {"sglang/_version.py"}
    assert built.natives_missing == ("sglang.srt.grpc._core",)
