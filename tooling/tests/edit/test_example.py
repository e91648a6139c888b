"""What `fixtool init --example` lays out: our own lines, byte for byte, without replacing a file."""

from __future__ import annotations

import re
import subprocess
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import fixtool as fixtool_package
from fixtool.edit import example
from fixtool.series.line import PatchRepository
from support.json_documents import document
from support.repositories import ROOT, Ran

Run = Callable[..., Ran]


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def ours() -> dict[str, bytes]:
    """What git has of our lines and their checks, without the tests, results and notes."""
    command = ["git", "-C", ROOT, "ls-files", "-z", "patches", "verify"]
    listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    return {
        name: (ROOT / name).read_bytes()
        for name in listed
        if name and not name.startswith(("verify/tests/", "verify/results/"))
        and not name.endswith(".md")
    }  # fmt: skip


def test_the_example_has_our_lines_and_checks_byte_for_byte(
    fixtool: Run, tmp_path: Path, ours: dict[str, bytes]
) -> None:
    ran = fixtool("init", "--example", "example")
    assert (ran.status, ran.err) == (0, "")
    laid = content(tmp_path / "example")
    settings = laid.pop("pyproject.toml")
    assert {name for name in laid if name.startswith(".")} == {".gitattributes", ".gitignore"}
    assert {name: data for name, data in laid.items() if not name.startswith(".")} == ours
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert tomllib.loads(settings.decode())["tool"]["fixtool"] == whole["tool"]["fixtool"]


def test_what_comes_next_is_told_as_it_is_typed(fixtool: Run, tmp_path: Path) -> None:
    ran = fixtool("init", "--example", "a folder")
    newest = max(
        (line for line in PatchRepository(ROOT).lines if line.upstream.release),
        key=lambda line: line.upstream.date,
    )
    assert f"cd 'a folder' && fixtool apply --ref {newest.name} --source pypi" in ran.out
    listed = document(fixtool("list", "--json", cwd=tmp_path / "a folder"))
    assert [line["line"] for line in listed["lines"]] == list(PatchRepository(ROOT).line_names)


def test_the_example_is_laid_again_without_a_change(fixtool: Run, tmp_path: Path) -> None:
    first = document(fixtool("init", "--example", ".", "--json"))
    assert first["lines"] == list(PatchRepository(ROOT).line_names)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    missing = tmp_path / "patches" / first["lines"][0]
    for path in missing.iterdir():
        path.unlink()
    missing.rmdir()  # as a run leaves it that was killed between two lines
    assert fixtool("init", "--example", ".").status == 0
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert after.keys() == before.keys()
    assert [
        path for path in after if after[path] != before[path] and missing not in path.parents
    ] == []


@pytest.mark.parametrize(
    ("name", "link"),
    [("pyproject.toml", False), ("patches/own/series", False), ("verify/checks.toml", False),
     ("verify/checks.toml", True)],
)  # fmt: skip
def test_a_file_of_ones_own_is_not_replaced(
    fixtool: Run, tmp_path: Path, name: str, link: bool
) -> None:
    own = tmp_path / "own" / name
    own.parent.mkdir(parents=True)
    if link:
        own.symlink_to(ROOT / name)
    else:
        own.write_text("mine\n")
    before = content(tmp_path / "own")
    failed = document(fixtool("init", "--example", "own", "--json"))
    assert failed["exit_code"] == 1
    assert "of its own" in failed["error"]["message"]
    assert content(tmp_path / "own") == before


def test_a_file_is_no_folder(fixtool: Run, tmp_path: Path) -> None:
    (tmp_path / "own").write_text("mine\n")
    ran = fixtool("init", "--example", "own")
    assert (ran.status, (tmp_path / "own").read_text()) == (1, "mine\n")


@pytest.mark.parametrize(
    "words", [["--example", "x", "--base", "v1.0"], ["x"], ["x", "--base", "v1.0"]]
)
def test_the_example_chooses_for_itself_and_nothing_else_does(
    fixtool: Run, tmp_path: Path, words: list[str]
) -> None:
    ran = fixtool("init", *words)
    assert ran.status == 2
    assert not (tmp_path / "x").exists()


def test_an_installation_without_the_example_says_so(
    fixtool: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example, "_IN_A_CHECKOUT", tmp_path)
    monkeypatch.setattr(example, "_IN_A_WHEEL", tmp_path / "none")
    ran = fixtool("init", "--example", "x")
    assert ran.status == 4
    assert ran.err.endswith("  try: pip install --force-reinstall sglang-fixtool\n")


def test_a_wheel_carries_the_example_and_a_py_typed(
    tmp_path: Path, ours: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes as the repository, where ``init --example`` looks for them."""
    pytest.importorskip("hatchling", reason="pip install '.[dev]' brings hatchling")
    pytest.importorskip("hatch_fancy_pypi_readme", reason="pip install '.[dev]' brings it")
    from hatchling.builders.wheel import WheelBuilder

    (built,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as archive:
        archive.extractall(tmp_path / "site")
        names = set(archive.namelist())
    inside = tmp_path / "site/fixtool/example"
    assert content(inside) == ours
    monkeypatch.setattr(example, "_IN_A_WHEEL", inside)
    monkeypatch.setattr(example, "_IN_A_CHECKOUT", tmp_path / "none")
    assert example.example_files() == ours
    assert "fixtool/py.typed" in names
    (page,) = (name for name in names if name.endswith(".data/data/share/man/man1/fixtool.1"))
    assert (tmp_path / "site" / page).read_bytes() == (ROOT / "docs/fixtool.1").read_bytes()
    code = Path(fixtool_package.__file__).parent
    assert {
        path.relative_to(code.parent).as_posix() for path in code.rglob("*.py")
    } <= names  # fmt: skip
    metadata = next(
        (tmp_path / "site" / name).read_text("utf-8")
        for name in names
        if name.endswith("/METADATA")
    )
    assert metadata.startswith("Metadata-Version: 2.")
    assert "\nName: sglang-fixtool\n" in metadata
    readme = metadata.split("\n\n", 1)[1]
    assert readme.startswith("# fixtool\n")
    assert [
        target for target in re.findall(r"\]\(([^)\s]+)\)", readme)
        if not target.startswith("https://")
    ] == []  # fmt: skip
