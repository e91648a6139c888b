"""The command as people and programs meet it."""

from __future__ import annotations

import errno
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main
from jsonschema import Draft202012Validator

from fixtool.cli import app
from fixtool.series.line import PatchRepository
from support.json_documents import SCHEMA, document
from support.repositories import NUMBERS, Git, Ran, Team

FIX = NUMBERS.replace("line 20\n", "line 20 fixed\n")
VERBS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.fixture
def series(team: Team) -> Team:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    return team


@pytest.fixture
def run(fixtool: Callable[..., Ran], series: Team) -> Callable[..., Ran]:
    """Runs the words of a command, in the patch repository unless ``cwd`` is given."""

    def run(command: str, *words: str | Path, cwd: Path = series.root) -> Ran:
        return fixtool(*command.split(), *words, cwd=cwd)

    return run


@pytest.fixture
def upstream_option(series: Team) -> tuple[str, Path]:
    return "--source", series.upstream.path


def test_help_loads_only_what_it_needs(tmp_path: Path) -> None:
    code = "import sys; from fixtool.cli import app\ntry: app(['--help'])\nfinally: print(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    loaded = set(shown.stdout.splitlines()[-1].split())
    assert {"fixtool.commands.undo", "fixtool.terminal"} <= loaded
    unneeded = {"ctypes", "tomllib", "fixtool.documents", "fixtool.files", "fixtool.git",
                "fixtool.isolation", "fixtool.commands.completion", "fixtool.commands.fault"}  # fmt: skip
    assert loaded & unneeded == set()


def test_apply_as_typed(run: Any, upstream_option: Any, tmp_path: Path) -> None:
    words = ("--worktree", tmp_path / "wt", "--no-build")
    ran = run("apply --sglang-ref v1.0", *upstream_option, *words)
    assert (ran.status, ran.err) == (0, "")
    assert re.search(r"^fix +clean +[0-9a-f]{12} +fix twenty$", ran.out, re.MULTILINE)
    assert f"worktree  {tmp_path / 'wt'}" in ran.out
    assert "\x1b" not in ran.out
    assert (tmp_path / "wt/python/model.py").read_text() == FIX


def test_apply_json(fixtool: Any, series: Team, upstream_option: Any) -> None:
    command = ["apply", "--sglang-ref", "v1.0", *upstream_option, "--no-build", "--json"]
    applied = document(fixtool(*command, "-C", series.root))
    tree = Git(Path(applied["worktree"]))
    assert [patch["verdict"] for patch in applied["patches"]] == ["clean"]
    assert applied["commit"] == tree("rev-parse", "HEAD")
    assert applied["tree"] == tree("rev-parse", "HEAD^{tree}")
    again = document(fixtool("-C", series.root, *command))
    assert (again["commit"], again["reused"], again["changed"]) == (applied["commit"], 1, False)


def test_a_conflict_exits_3_and_says_where(
    run: Any, series: Team, upstream_option: Any, tmp_path: Path
) -> None:
    series.upstream.commit("theirs", python__model_py=NUMBERS.replace("line 20\n", "theirs\n"))
    ran = run("apply --sglang-ref main", *upstream_option, "--worktree", tmp_path / "wt")
    assert ran.status == 3
    assert "python/model.py: conflict" in ran.out
    assert "hunk 1: conflict, written for line 17, no place found here" in ran.out
    assert "nothing was changed" in ran.out
    new = series.upstream.head()[:9]  # there is a line `main` already
    assert f"--new-line {new}\n" in ran.out
    assert not (tmp_path / "wt").exists()
    refused = document(run("apply --sglang-ref main --json", *upstream_option))
    assert (refused["commit"], refused["worktree"]) == (None, None)


def test_dry_run_writes_no_work_tree(run: Any, upstream_option: Any, home: Path) -> None:
    planned = document(run("apply --sglang-ref v1.0 --dry-run --json", *upstream_option))
    assert planned["commit"] is not None
    assert planned["worktree"] is None
    assert not (home / "state" / "worktrees").exists()


@pytest.mark.parametrize("option", ["", " --json"])
def test_an_error_is_one_message(run: Any, option: str) -> None:
    ran = run(f"apply --sglang-ref --upload-pack=x{option}")
    assert ran.status == 2
    if option:
        assert "is not a commit id" in document(ran)["error"]["message"]
        assert ran.err == ""
    else:
        assert ran.out == ""
        assert re.fullmatch(r"error: .*\n   at: .*\n  try: .*\n", ran.err)


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example_that_parses(fixtool: Any, verb: str) -> None:
    ran = fixtool(verb, "--help")
    assert ran.status == 0
    text = " ".join(ran.out.split())
    (example,) = re.findall(rf"Example: (fixtool {verb} .*?) (?:Options|Arguments):", text)
    options = set(re.findall(r"(--[a-z-]+)", text))
    assert set(re.findall(r"(--[a-z-]+)", example)) <= options
    assert "--json" in options


def test_bare_command_shows_help(fixtool: Any) -> None:
    ran = fixtool()
    assert all(verb in ran.out + ran.err for verb in VERBS)


@pytest.mark.parametrize("command", ["nope", "apply --nope", "show", "build --editable"])
def test_usage_errors_exit_2(run: Any, command: str) -> None:
    assert run(command).status == 2


@pytest.mark.parametrize("text", ["tool = 3", "[tool]\nfixtool = 3"])
def test_settings_that_are_no_table_are_refused(run: Any, series: Team, text: str) -> None:
    (series.root / "pyproject.toml").write_text(text)
    ran = run("list")
    assert ran.status == 1
    assert "[tool.fixtool] is not a table" in ran.err


def test_list_show_lint(run: Any, series: Team, upstream_option: Any) -> None:
    assert "fix twenty" in run("list").out
    listed = document(run("list --json"))["lines"]
    assert [patch["slug"] for patch in listed[0]["patches"]] == ["fix"]
    raw = (series.root / "patches/main/fix.patch").read_text()
    assert run("show fix").out == raw
    assert document(run("show fix.patch --json"))["diff"] in raw
    assert run("show nope").status == 2
    assert run("lint --drift", *upstream_option).status == 0
    (series.root / "patches/main/extra.patch").write_text("x")
    linted = document(run("lint --json"))
    assert linted["exit_code"] == 1
    assert [finding["rule"] for finding in linted["findings"]] == ["orphan"]


def test_export_and_import_round(
    run: Any, series: Team, upstream_option: Any, tmp_path: Path
) -> None:
    words = ("--worktree", tmp_path / "wt", "--no-build")
    run("apply --sglang-ref v1.0", *upstream_option, *words)
    tree = Git(tmp_path / "wt")
    assert run("export --check", cwd=tree.path).status == 0
    tree.commit("area: more", more_py="y = 2\n")
    assert document(run("export --check --json", cwd=tree.path))["exit_code"] == 1
    exported = document(run("export --json", cwd=tree.path))
    assert [patch["change"] for patch in exported["patches"]] == ["unchanged", "added"]
    moved = tmp_path / "moved.patch"
    (series.root / "patches/main/area-more.patch").rename(moved)
    (series.root / "patches/main/series").write_text("fix.patch\n")
    imported = document(run("import --json", moved, *upstream_option))
    assert [patch["slug"] for patch in imported["patches"]] == ["area-more"]
    assert run("lint").status == 0


def test_init_starts_another_teams_series(fixtool: Any, upstream: Git, tmp_path: Path) -> None:
    base = upstream("rev-parse", "v1.0")
    command = ["init", "ours", "--upstream", upstream.path, "--base", base]
    assert document(fixtool(*command, "--json"))["upstream"]["base"] == base
    upstream.commit("fork: twenty", python__model_py=FIX)
    ours = tmp_path / "ours"
    imported = fixtool("import", f"{base}..main", "--from", upstream.path, cwd=ours)
    assert (imported.status, imported.err) == (0, "")
    words = ["--source", upstream.path, "--no-build", "--json"]
    applied = document(fixtool("apply", *words, cwd=ours))
    assert applied["tree"] == upstream("rev-parse", "main^{tree}")
    again = fixtool(*command)
    assert again.status == 2
    assert "exists already" in again.err


def test_a_terminal_gets_a_table(series: Team) -> None:
    """Colours and drawn columns are for a terminal only."""
    read, write = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "fixtool", "list"], stdout=write, cwd=series.root, check=True,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"},
    )  # fmt: skip
    os.close(write)
    shown = os.read(read, 65536).decode()
    os.close(read)
    assert "\x1b[" in shown
    assert "fix twenty" in shown


def test_a_closed_pipe_is_no_error(series: Team) -> None:
    script = f"{sys.executable} -m fixtool show fix | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", script], cwd=series.root, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_pipe_to_another_process_that_breaks_is_an_error(
    run: Any, series: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An apply whose git had ended printed nothing, made nothing, and exited with 0."""

    def end(_: object) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    monkeypatch.setattr(PatchRepository, "find", end)
    ran = run("list")
    assert (ran.status, ran.err) == (4, "error: Broken pipe\n")


def test_patch_text_cannot_drive_the_terminal(run: Any, series: Team) -> None:
    path = series.root / "patches/main/fix.patch"
    path.write_bytes(path.read_bytes().replace(b"fix twenty", b"fix \x1b[2Jtwenty"))
    ran = run("list")
    assert "\x1b" not in ran.out
    assert "\\x1b[2J" in ran.out


def test_the_schema_is_one_and_knows_every_verb() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["properties"]["command"]["enum"]) == {*VERBS, "fixtool"}


@pytest.mark.parametrize("verb", VERBS)
def test_an_empty_value_is_a_usage_error(fixtool: Any, series: Team, verb: str) -> None:
    """An empty value comes from a variable that is not set: it is never the default."""
    command = typer.main.get_command(app).get_command(None, verb)
    valued = [option for option in command.params if not getattr(option, "is_flag", False)]
    words = [[option.opts[-1], ""] for option in valued if option.opts[0].startswith("-")]
    words += [[f"{word}=", "a"] for word, _ in words if word.startswith("--")]
    words += [[""]] * any(not option.opts[0].startswith("-") for option in valued)
    assert words
    for given in words:
        ran = fixtool(verb, *given, cwd=series.root)
        assert (ran.status, "it is empty" in ran.err) == (2, True), (given, ran.err)


def test_an_empty_folder_is_a_usage_error(fixtool: Any, series: Team) -> None:
    ran = fixtool("-C", "", "list", cwd=series.root)
    assert (ran.status, "it is empty" in ran.err) == (2, True), ran.err
    assert "try: fixtool list\n" in ran.err


def test_a_folder_that_was_removed_is_named(tmp_path: Path) -> None:
    """`fixtool edit --abort`, typed in its own work tree, removes the folder that one is in."""
    gone = tmp_path / "gone"
    script = 'mkdir "$1"; cd "$1"; rmdir "$1"; exec "$2" -m fixtool list'
    ran = subprocess.run(
        ["sh", "-c", script, "sh", gone, sys.executable], capture_output=True, text=True
    )
    assert ran.returncode == 4
    assert ran.stderr == (
        f"error: the folder that you are in has been removed\n   at: {gone}\n"
        "  try: go to another folder: cd DIR && fixtool list\n"
    )
