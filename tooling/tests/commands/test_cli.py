"""The command as people and programs meet it."""

from __future__ import annotations

import pty
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from support.json_documents import SCHEMA, document
from support.repositories import NUMBERS, Git, Ran, Team

Run = Callable[..., Ran]
FIX = NUMBERS.replace("line 20\n", "line 20 fixed\n")
VERBS = [
    "announce",
    "apply",
    "build",
    "list",
    "show",
    "lint",
    "export",
    "import",
    "init",
    "verify",
    "report",
    "rebase",
    "history",
    "deps",
    "drop",
    "refresh",
    "upstream",
]


@pytest.fixture
def series(team: Team) -> Team:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    return team


def test_apply_as_typed(fixtool: Run, series: Team, tmp_path: Path) -> None:
    ran = fixtool(
        "apply", "--sglang-ref", "v1.0", "--source", series.upstream.path, "--no-build",
        "--worktree", tmp_path / "wt", cwd=series.root,
    )  # fmt: skip
    assert (ran.status, ran.err) == (0, "")
    assert re.search(r"^fix +clean +[0-9a-f]{12} +fix twenty$", ran.out, re.MULTILINE)
    assert f"worktree  {tmp_path / 'wt'}" in ran.out
    assert "\x1b" not in ran.out
    assert (tmp_path / "wt/python/model.py").read_text() == FIX


def test_apply_json(fixtool: Run, series: Team) -> None:
    args = [
        "apply",
        "--sglang-ref",
        "v1.0",
        "--source",
        series.upstream.path,
        "--no-build",
        "--json",
    ]
    found = document(fixtool(*args, "-C", series.root))
    assert [one["verdict"] for one in found["patches"]] == ["clean"]
    assert found["commit"] == Git(Path(found["worktree"]))("rev-parse", "HEAD")
    assert found["tree"] == Git(Path(found["worktree"]))("rev-parse", "HEAD^{tree}")
    again = document(fixtool("-C", series.root, *args))
    assert (again["commit"], again["reused"], again["changed"]) == (found["commit"], 1, False)


def test_a_conflict_exits_3_and_says_where(fixtool: Run, series: Team, tmp_path: Path) -> None:
    series.upstream.commit("theirs", python__model_py=NUMBERS.replace("line 20\n", "theirs\n"))
    args = ["apply", "--sglang-ref", "main", "--source", series.upstream.path, "-C", series.root]
    ran = fixtool(*args, "--worktree", tmp_path / "wt")
    assert ran.status == 3
    assert "python/model.py: conflict" in ran.out
    assert "hunk 1: conflict, written for line 17, no place found here" in ran.out
    assert "nothing was changed" in ran.out
    assert not (tmp_path / "wt").exists()
    found = document(fixtool(*args, "--json"))
    assert (found["commit"], found["worktree"]) == (None, None)


def test_dry_run_writes_no_work_tree(fixtool: Run, series: Team, home: Path) -> None:
    args = ["--sglang-ref", "v1.0", "--source", series.upstream.path, "-C", series.root]
    found = document(fixtool("apply", *args, "--dry-run", "--json"))
    assert found["commit"] is not None
    assert found["worktree"] is None
    assert not (home / "state" / "worktrees").exists()


@pytest.mark.parametrize("as_json", [False, True])
def test_an_error_is_one_message(fixtool: Run, series: Team, *, as_json: bool) -> None:
    args = ["apply", "--sglang-ref", "--upload-pack=x", "-C", series.root]
    ran = fixtool(*args, *(["--json"] if as_json else []))
    assert ran.status == 2
    if as_json:
        assert "is not a commit id" in document(ran)["error"]["message"]
        assert ran.err == ""
    else:
        assert ran.out == ""
        assert re.fullmatch(r"error: .*\n  try: .*\n", ran.err)


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example_that_parses(fixtool: Run, verb: str) -> None:
    ran = fixtool(verb, "--help")
    assert ran.status == 0
    text = " ".join(ran.out.split())
    example = re.search(rf"Example: (fixtool {verb} .*?) (Options|Arguments):", text)
    assert example is not None
    options = set(re.findall(r"(--[a-z-]+)", text))
    assert set(re.findall(r"(--[a-z-]+)", example[1])) <= options
    assert "--json" in options


def test_bare_command_shows_help(fixtool: Run) -> None:
    ran = fixtool()
    assert all(verb in ran.out + ran.err for verb in VERBS)


@pytest.mark.parametrize(
    "words", [["nope"], ["apply", "--nope"], ["show"], ["build", "--editable"]]
)
def test_usage_errors_exit_2(fixtool: Run, series: Team, words: list[str]) -> None:
    assert fixtool(*words, cwd=series.root).status == 2


def test_list_show_lint(fixtool: Run, series: Team) -> None:
    assert "fix twenty" in fixtool("list", cwd=series.root).out
    listed = document(fixtool("list", "--json", cwd=series.root))["lines"]
    assert [one["slug"] for one in listed[0]["patches"]] == ["fix"]
    raw = (series.root / "patches/main/fix.patch").read_text()
    assert fixtool("show", "fix", cwd=series.root).out == raw
    shown = document(fixtool("show", "fix.patch", "--json", cwd=series.root))
    assert shown["diff"] in raw
    assert fixtool("show", "nope", cwd=series.root).status == 2
    assert fixtool("lint", "--drift", "--source", series.upstream.path, cwd=series.root).status == 0
    (series.root / "patches/main/extra.patch").write_text("x")
    found = document(fixtool("lint", "--json", cwd=series.root))
    assert found["exit_code"] == 1
    assert [one["rule"] for one in found["findings"]] == ["orphan"]


def test_export_and_import_round(fixtool: Run, series: Team, tmp_path: Path) -> None:
    place = ["--worktree", tmp_path / "wt"]
    source = ["--source", series.upstream.path]
    fixtool("apply", "--sglang-ref", "v1.0", *source, *place, "--no-build", cwd=series.root)
    tree = Git(tmp_path / "wt")
    assert fixtool("export", "--check", cwd=tree.path).status == 0
    tree.commit("area: more", more_py="y = 2\n")
    assert document(fixtool("export", "--check", "--json", cwd=tree.path))["exit_code"] == 1
    found = document(fixtool("export", "--json", cwd=tree.path))
    assert [one["change"] for one in found["patches"]] == ["unchanged", "added"]
    moved = tmp_path / "moved.patch"
    (series.root / "patches/main/area-more.patch").rename(moved)
    (series.root / "patches/main/series").write_text("fix.patch\n")
    brought = document(fixtool("import", moved, *source, "--json", cwd=series.root))
    assert [one["slug"] for one in brought["patches"]] == ["area-more"]
    assert fixtool("lint", cwd=series.root).status == 0


def test_init_starts_another_teams_series(fixtool: Run, upstream: Git, tmp_path: Path) -> None:
    base = upstream("rev-parse", "v1.0")
    args = ["init", "ours", "--upstream", upstream.path, "--base", base]
    found = document(fixtool(*args, "--json"))
    assert found["upstream"]["base"] == base
    upstream.commit("fork: twenty", python__model_py=FIX)
    source = ["--source", upstream.path]
    ours = tmp_path / "ours"
    brought = fixtool("import", f"{base}..main", "--from", upstream.path, cwd=ours)
    assert (brought.status, brought.err) == (0, "")
    applied = document(fixtool("apply", *source, "--no-build", "--json", cwd=ours))
    assert applied["tree"] == upstream("rev-parse", "main^{tree}")
    again = fixtool(*args)
    assert again.status == 1
    assert "exists already" in again.err


def test_a_terminal_gets_a_table(series: Team) -> None:
    """Colour and drawn columns where a person looks, and only there."""
    import os
    import subprocess
    import sys

    read, write = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "fixtool", "list"], stdout=write, cwd=series.root, check=True,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(write)
    shown = os.read(read, 65536).decode()
    os.close(read)
    assert done.returncode == 0
    assert "\x1b[" in shown
    assert "fix twenty" in shown


def test_a_closed_pipe_is_no_error(series: Team) -> None:
    import subprocess
    import sys

    line = f"{sys.executable} -m fixtool show fix | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=series.root, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_patch_text_cannot_drive_the_terminal(fixtool: Run, series: Team) -> None:
    path = series.root / "patches/main/fix.patch"
    path.write_bytes(path.read_bytes().replace(b"fix twenty", b"fix \x1b[2Jtwenty"))
    ran = fixtool("list", cwd=series.root)
    assert "\x1b" not in ran.out
    assert "\\x1b[2J" in ran.out


def test_the_schema_of_the_documents_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
