"""``fixtool status`` names each thing that keeps the installed line from being what runs."""

from __future__ import annotations

import importlib.util
import os
import py_compile
import shutil
from pathlib import Path

import pytest

from support.installed import Environment, environment, made_environment
from support.json_documents import document

__all__ = ["environment", "made_environment"]  # fixtures


@pytest.fixture(autouse=True)
def installed(environment: Environment) -> None:
    """Line ``main`` is there."""
    assert environment.run("install", "--line", "main").status == 0


def faults(environment: Environment, cwd: Path | None = None) -> list[tuple[str, str]]:
    answer = document(environment.run("status", "--json", cwd=cwd))
    assert answer["ok"] is (answer["problems"] == [])
    return [(problem["fault"], problem["path"]) for problem in answer["problems"]]


def test_no_series(environment: Environment) -> None:
    environment.run("uninstall")
    assert faults(environment) == [("not-installed", "sglang")]
    ran = environment.run("status")
    assert (ran.status, "no series is in sglang 1.0" in ran.out) == (1, True)


def test_edited_and_missing_files(environment: Environment) -> None:
    srt = environment.packages / "sglang/srt"
    (srt / "model.py").write_text("x = 1\n")
    (srt / "extra/added.py").unlink()
    (environment.packages / "sglang/__init__.py").write_text("x = 2\n")
    assert set(faults(environment)) == {
        ("edited", "sglang/srt/model.py"), ("missing", "sglang/srt/extra/added.py"),
        ("edited", "sglang/__init__.py"),
    }  # fmt: skip


def test_native_code_and_record(environment: Environment) -> None:
    native = environment.packages / "sglang/_core.cpython-311-x86_64-linux-gnu.so"
    raw = native.read_bytes()
    native.write_bytes(raw + b"x")
    assert faults(environment) == [("edited", f"sglang/{native.name}")]
    native.write_bytes(raw)
    record = environment.info / "RECORD"
    record.write_bytes(record.read_bytes().replace(b"\r\n", b"\n", 1))
    assert faults(environment) == [("record", f"{environment.info.name}/RECORD")]


@pytest.mark.parametrize("mode", ["TIMESTAMP", "UNCHECKED_HASH", "CHECKED_HASH"])
def test_bytecode_that_python_would_believe(environment: Environment, mode: str) -> None:
    """Bytecode of another text counts if Python does not notice that: by a time and a size that
    are right by accident, or since it is told not to look."""
    model = environment.packages / "sglang/srt/model.py"
    other = model.with_name("other.py")
    other.write_bytes(model.read_bytes().replace(b"99", b"98"))
    status = model.stat()
    os.utime(other, ns=(status.st_mtime_ns, status.st_mtime_ns))
    cached = importlib.util.cache_from_source(str(model))
    how = py_compile.PycInvalidationMode[mode]
    py_compile.compile(str(other), cached, str(model), invalidation_mode=how, doraise=True)
    other.unlink()
    name = Path(cached).relative_to(environment.packages).as_posix()
    wrong = [] if mode == "CHECKED_HASH" else [("stale-bytecode", name)]
    assert faults(environment) == wrong


def test_a_copy_in_the_current_folder(environment: Environment, tmp_path: Path) -> None:
    here = tmp_path / "here"
    (here / "sglang").mkdir(parents=True)
    assert faults(environment, here) == []  # a folder without __init__.py comes last
    copy = here / "sglang/__init__.py"
    copy.write_text("")
    assert faults(environment, here) == [("shadowed", str(copy))]
    assert faults(environment, environment.packages) == []


def test_a_copy_on_the_path(
    environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "other/sglang/__init__.py"
    copy.parent.mkdir(parents=True)
    copy.write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "other"))
    assert faults(environment) == [("shadowed", str(copy))]
    monkeypatch.delenv("PYTHONPATH")
    # A .pth file of an editable install, or of another environment, comes first too.
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'other')!r})\n"
    (environment.packages / "a.pth").write_text(code)
    assert faults(environment) == [("elsewhere", str(copy))]


def test_a_file_that_is_loaded_instead_of_a_module(environment: Environment) -> None:
    """A folder goes before a module of its name. Another file of somebody's own is a note."""
    srt = environment.packages / "sglang/srt"
    (srt / "mine.py").write_text("")
    answer = document(environment.run("status", "--json"))
    assert (answer["problems"], "sglang/srt/mine.py" in answer["notes"][0]) == ([], True)
    (srt / "model").mkdir()
    (srt / "model/__init__.py").write_text("")
    assert faults(environment) == [("shadowed", "sglang/srt/model/__init__.py")]


def test_an_environment_that_moved_is_still_right(environment: Environment) -> None:
    root = environment.root.rename(environment.root.with_name("moved"))
    moved = Environment(root, environment.team, environment.settings)
    assert faults(moved) == []
    assert moved.run("uninstall").status == 0
    assert faults(moved) == [("not-installed", "sglang")]


def test_what_is_not_installed(environment: Environment) -> None:
    assert environment.run("status", "--python", "/no/such/python").status == 2
    for path in environment.info.iterdir():
        if path.is_file():
            path.unlink()
    assert environment.run("status").status in (1, 4)


def test_a_line_that_has_changed_since(environment: Environment) -> None:
    """Whoever pulled the patch repository, and installed nothing, has yesterday's series."""
    folder = environment.team / "patches/main"
    (patch,) = folder.glob("*.patch")
    patch.write_bytes(patch.read_bytes().replace(b"[PATCH] ", b"[PATCH] still: "))
    assert faults(environment) == [("outdated", str(folder))]
    assert f"put in: {patch.stem} is changed; fixtool install" in environment.run("status").out
    (folder / "series").write_text("# none\n")
    assert f"put in: {patch.stem} is gone" in environment.run("status").out
    shutil.rmtree(folder)
    ran = environment.run("status")
    assert (ran.status, "has no line main" in ran.out) == (0, True)
