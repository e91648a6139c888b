"""`fixtool build`: what it says of the patches in the wheel."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtool.commands.build import show_built
from fixtool.wheel.build import BuiltWheel
from support.json_documents import document
from support.repositories import Git, Ran, Team
from support.wheels import read

PYPROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "sglang"
dynamic = ["version"]
description = "Serves models."
[tool.setuptools.packages.find]
"""
FILE = "fixtool-patches.json"
Fixtool = Callable[..., Ran]


@pytest.fixture
def tree(team: Team, fixtool: Fixtool, tmp_path: Path) -> Git:
    """The work tree of a line with two patches, of which upstream has one."""
    git = team.upstream
    git.write("python/pyproject.toml", PYPROJECT)
    base = git.commit("a project", python__sglang__cli_py="a\n")
    team.line("own", base)
    team.patch("fix", "fix the command", base=base, python__sglang__cli_py="b\n")
    team.patch("theirs", "add a file", base=base, python__sglang__new_py="n\n")
    series = team.root / "patches/main"
    for name in ("fix.patch", "theirs.patch", "series"):
        (series / name).rename(team.root / "patches/own" / name)
    git.commit("took it", python__sglang__new_py="n\n")
    ran = fixtool(
        "apply", "-C", team.root, "--line", "own", "--sglang-ref", "main", "--source", git.path,
        "--worktree", tmp_path / "tree", "--no-build",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    return Git(tmp_path / "tree")


def test_the_command_that_installs_the_wheel_can_be_typed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = Path("/my cache/sglang-1.0+fixtool.1-py3-none-any.whl")
    show_built(BuiltWheel(path, "1.0+fixtool.1", "0" * 64, 1, False, (), (), "tree", (), None))
    (shown,) = [line for line in capsys.readouterr().out.split("\n") if line.startswith("next")]
    assert shlex.split(shown) == ["next", "pip", "install", "--no-deps", str(path)]


def record_of(tree: Git) -> Path:
    return Path(tree("rev-parse", "--absolute-git-dir")) / "fixtool.json"


def test_it_names_what_is_left_out(tree: Git, fixtool: Fixtool) -> None:
    answer = document(fixtool("build", "--worktree", tree.path, "--json"))["build"]
    assert {patch["slug"]: patch["verdict"] for patch in answer["manifest"]["patches"]} == {
        "fix": "clean", "theirs": "absorbed",
    }  # fmt: skip
    assert answer["manifest"] == json.loads(record_of(tree).read_text())["manifest"]
    inside = json.loads(read(Path(answer["path"]))[f"sglang-{answer['version']}.dist-info/{FILE}"])
    assert answer["manifest"].items() <= inside.items()
    assert not [note for note in answer["notes"] if "which patches" in note]
    text = fixtool("build", "--worktree", tree.path).out
    assert "\nleft out  theirs: absorbed" in text
    assert "left out  fix" not in text


def test_a_patch_left_out_with_an_option_changes_the_version(
    team: Team, tree: Git, fixtool: Fixtool, tmp_path: Path
) -> None:
    whole = document(fixtool("build", "--worktree", tree.path, "--json"))["build"]
    words = ("apply", "-C", team.root, "--line", "own", "--sglang-ref", "main", "--without", "fix",
             "--source", team.upstream.path, "--worktree", tmp_path / "less", "--json")  # fmt: skip
    less = document(fixtool(*words))["build"]
    assert not whole["version"].endswith("without1")
    assert less["version"].endswith(".without1")
    fix, theirs = less["manifest"]["patches"]
    assert (fix["verdict"], fix["commit"]) == ("left-out", None)
    assert theirs == whole["manifest"]["patches"][1]


def test_a_patch_that_a_person_took_out_changes_the_version(tree: Git, fixtool: Fixtool) -> None:
    whole = document(fixtool("build", "--worktree", tree.path, "--json"))["build"]
    tree("reset", "--quiet", "--hard", "HEAD~1")
    less = document(fixtool("build", "--worktree", tree.path, "--json"))["build"]
    assert not whole["version"].endswith("without1")
    assert less["version"].endswith(".without1")
    assert (
        "left out  fix: left-out, its commit was" in fixtool("build", "--worktree", tree.path).out
    )


def test_a_work_tree_of_an_older_fixtool_is_built_as_before(tree: Git, fixtool: Fixtool) -> None:
    path = record_of(tree)
    record = json.loads(path.read_text())
    del record["manifest"]
    path.write_text(json.dumps(record))
    answer = document(fixtool("build", "--worktree", tree.path, "--json"))["build"]
    assert answer["manifest"] is None
    assert answer["version"] == f"1.0+fixtool.{tree('rev-parse', 'HEAD^{tree}')[:12]}"
    assert not [name for name in read(Path(answer["path"])) if name.endswith(FILE)]
    (note,) = [note for note in answer["notes"] if "which patches" in note]
    assert note.endswith("fixtool apply had not recorded them; it does so when you run it again")
    assert f"note      {note}\n" in fixtool("build", "--worktree", tree.path).out


def test_a_head_elsewhere_says_nothing_of_patches(tree: Git, fixtool: Fixtool) -> None:
    top = json.loads(record_of(tree).read_text())["onto"]
    tree("checkout", "--quiet", "--detach", f"{top}~1")
    answer = document(fixtool("build", "--worktree", tree.path, "--json"))["build"]
    assert answer["manifest"] is None
    (note,) = [note for note in answer["notes"] if "which patches" in note]
    assert note.endswith(f"HEAD does not descend from {top[:12]}, to which they were applied")
