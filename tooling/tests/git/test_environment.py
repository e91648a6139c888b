"""Git variables of the caller change nothing: not in a shell that has set them, and not in a hook.

`git commit` hands GIT_INDEX_FILE to its hooks, `git rebase --exec` hands GIT_DIR on, and people
export others. Each of them is set here to what would do the most harm.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import fixtool as package
from fixtool.git import process
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.replay.run import replay
from fixtool.replay.verdict import Verdict
from support.command import command_line, run_process
from support.repositories import NUMBERS, Git, Team

HOOKS = ("pre-commit", "prepare-commit-msg", "commit-msg", "post-commit", "post-rewrite",
         "pre-rebase", "post-checkout", "pre-push")  # fmt: skip
_HARM = """\
[core]
	hooksPath = {folder}/hooks
	autocrlf = true
	attributesFile = {folder}/attributes
	excludesFile = {folder}/attributes
	fsmonitor = false
[commit]
	gpgSign = true
[gpg]
	program = false
[diff]
	external = false
	algorithm = patience
	renames = copies
[merge]
	conflictStyle = zdiff3
	renames = false
[apply]
	whitespace = error-all
[user]
	name = Mallory
	email = mallory@example.com
"""


def harmful(decoy: Git, folder: Path) -> dict[str, dict[str, str]]:
    """Sets of variables by name. Each set belongs together, and most are of one variable."""
    config = folder / "harm"
    config.write_text(_HARM.format(folder=folder))
    (folder / "attributes").write_text("* -text binary merge=union\n")
    git_dir = decoy.path / ".git"
    single = {
        "GIT_DIR": git_dir, "GIT_WORK_TREE": decoy.path, "GIT_INDEX_FILE": git_dir / "index",
        "GIT_COMMON_DIR": git_dir, "GIT_OBJECT_DIRECTORY": git_dir / "objects",
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": folder / "nowhere", "GIT_NAMESPACE": "other",
        "GIT_CEILING_DIRECTORIES": folder, "GIT_DISCOVERY_ACROSS_FILESYSTEM": "0",
        "GIT_CONFIG": config, "GIT_CONFIG_GLOBAL": config, "GIT_CONFIG_SYSTEM": config,
        "GIT_CONFIG_NOSYSTEM": "0", "GIT_CONFIG_COUNT": "0",
        "GIT_CONFIG_PARAMETERS": "'core.autocrlf'='true' 'merge.renames'='false'",
        "GIT_EXTERNAL_DIFF": "false", "GIT_DIFF_OPTS": "--unified=0", "GIT_EDITOR": "false",
        "GIT_SEQUENCE_EDITOR": "false", "GIT_PAGER": "false", "GIT_LITERAL_PATHSPECS": "1",
        "GIT_GLOB_PATHSPECS": "1", "GIT_NOGLOB_PATHSPECS": "1", "GIT_ICASE_PATHSPECS": "1",
        "GIT_ALLOW_PROTOCOL": "none", "GIT_PROTOCOL_FROM_USER": "0", "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "0", "GIT_REPLACE_REF_BASE": "refs/heads/",
        "GIT_OPTIONAL_LOCKS": "1", "GIT_TERMINAL_PROMPT": "1", "GIT_ADVICE": "1",
        "GIT_ATTR_NOSYSTEM": "0", "GIT_ATTR_SOURCE": decoy.head(), "GIT_TRACE": "1",
        "GIT_TRACE_SETUP": "1", "GIT_TRACE2": "1", "GIT_TEMPLATE_DIR": folder,
        "GIT_DEFAULT_HASH": "sha256", "GIT_SHALLOW_FILE": folder / "attributes",
        "GIT_GRAFT_FILE": folder / "attributes", "GIT_PREFIX": "python/",
        "GIT_QUARANTINE_PATH": folder, "GIT_MERGE_AUTOEDIT": "yes", "GIT_MERGE_VERBOSITY": "5",
        "GIT_REFLOG_ACTION": "decoy", "GIT_INDEX_VERSION": "4", "GIT_FLUSH": "0",
        "GIT_PYTHON_GIT_EXECUTABLE": "/bin/false", "GIT_PYTHON_REFRESH": "raise",
        "GIT_PYTHON_TRACE": "full", "GIT_ASKPASS": "false", "GIT_SSH": "false",
        "GIT_SSH_COMMAND": "false", "LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de",
        "TZ": "Pacific/Kiritimati",
    }  # fmt: skip
    sets = {name: {name: str(value)} for name, value in single.items()}
    for who in ("AUTHOR", "COMMITTER"):
        for what, value in {
            "NAME": "Mallory",
            "EMAIL": "m@example.com",
            "DATE": "@1 +0000",
        }.items():
            sets[f"GIT_{who}_{what}"] = {f"GIT_{who}_{what}": value}
    counted = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "merge.renames",
               "GIT_CONFIG_VALUE_0": "false"}  # fmt: skip
    return sets | {"a counted setting": counted}


@pytest.fixture
def decoy(make_git: Callable[[str], Git]) -> Git:
    """Another repository, in which the caller is at work."""
    git = make_git("decoy")
    git.commit("decoy", python__model_py="decoy\n", README_txt="decoy\n")
    git.write("python/model.py", "staged\n")
    git("add", "--all")
    return git


@pytest.fixture
def series(team: Team) -> Team:
    """A series whose second patch of three needs a three-way merge, on a base that went on."""
    team.patch("one", "fix two", python__model_py=NUMBERS.replace("line 2\n", "line 2 fixed\n"))
    both = NUMBERS.replace("line 2\n", "line 2 fixed\n").replace("line 20\n", "line 20 fixed\n")
    team.patch("two", "fix twenty", base="patch/one", python__model_py=both)
    team.patch("three", "fix beta", python__other_py="alpha\nBETA\ngamma\n")
    upstream = NUMBERS.replace("line 22\n", "line 22 new\n")
    team.upstream.commit("go on", python__model_py=upstream, docs__two_txt="two\n")
    return team


def replayed(team: Team, cache: Path | None = None) -> Mapping[str, Any]:
    """The replay of the series, without the number of results that the cache gave."""
    line, onto = team.repository.line("main"), Oid(team.upstream.head())
    result = asdict(replay(Repo.open(team.upstream.path), line, onto, cache=cache))
    del result["reused"]
    return result


def test_the_series_merges_in_the_middle(series: Team) -> None:
    verdicts = [patch["verdict"] for patch in replayed(series)["patches"]]
    assert verdicts == [Verdict.CLEAN, Verdict.MERGED, Verdict.CLEAN]


def test_all_variables_of_the_caller_change_no_replay(
    series: Team, decoy: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, before = replayed(series), decoy.snapshot()
    for variables in harmful(decoy, tmp_path).values():
        for variable, value in variables.items():
            monkeypatch.setenv(variable, value)
    assert replayed(series) == wanted
    monkeypatch.undo()
    assert decoy.snapshot() == before


@pytest.mark.slow(8)
@pytest.mark.release(sample_of="variables of the caller")
def test_one_variable_of_the_caller_changes_no_replay(
    series: Team, decoy: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, before = replayed(series), (decoy.snapshot(), series.upstream.snapshot())
    for name, variables in harmful(decoy, tmp_path).items():
        with monkeypatch.context() as patched:
            for variable, value in variables.items():
                patched.setenv(variable, value)
            assert replayed(series, tmp_path / name) == wanted, name
        assert replayed(series, tmp_path / name) == wanted, name
    assert (decoy.snapshot(), series.upstream.snapshot()) == before


@pytest.mark.slow(8)
@pytest.mark.release(sample_of="variables of the caller")
def test_variables_of_the_caller_change_no_replay_together(
    series: Team, decoy: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In forty random halves of the variables, every two of them meet, with and without any third.
    FIXTOOL_PAIRS=all tries every two of them alone, which takes minutes."""
    sets = harmful(decoy, tmp_path)
    draw = random.Random("pairs")
    groups: Iterable[Sequence[str]] = (draw.sample(sorted(sets), len(sets) // 2) for _ in range(40))
    if os.environ.get("FIXTOOL_PAIRS") == "all":
        groups = itertools.combinations(sorted(sets), 2)
    wanted, before = replayed(series), decoy.snapshot()
    for names in groups:
        with monkeypatch.context() as patched:
            for variable, value in (pair for name in names for pair in sets[name].items()):
                patched.setenv(variable, value)
            assert replayed(series) == wanted, names
    assert decoy.snapshot() == before


def test_every_variable_that_fixtool_knows_is_tried(decoy: Git, tmp_path: Path) -> None:
    """What the program sets or reads, by the text of its modules. GIT_EXEC_PATH names git itself,
    and the rest names certificates."""
    tried = {name for names in harmful(decoy, tmp_path).values() for name in names}
    texts = (path.read_text("utf-8") for path in Path(package.__file__).parent.rglob("*.py"))
    known = {name for text in texts for name in re.findall(r"\b(?:GIT|LC)_[A-Z_]+\b", text)}
    kept = {name for name in known if "SSL" in name or name.startswith("GIT_TRACE_CURL")}
    kept |= {"GIT_EXEC_PATH", "GIT_HTTP_USER_AGENT", "GIT_SSH_VARIANT"}
    kept |= {"GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"}  # `git var` is asked for them
    implied = {name for name in known if name.endswith("_")}  # the beginning of a name
    inner = {"GIT_IMPLICIT_WORK_TREE", "GIT_INTERNAL_SUPER_PREFIX"}  # only git sets these
    assert known - tried - kept - implied - inner == set()
    assert set(process.ENVIRONMENT) <= tried


def answers(team: Team, state: Path, cache: Path, env: Mapping[str, str]) -> list[object]:
    """What the commands say of the series, and the tree that they make of it."""
    env = {**env, "FIXTOOL_STATE_DIR": str(state), "FIXTOOL_CACHE_DIR": str(cache)}
    source = ("--source", team.upstream.path)
    commands = [
        ("apply", "--sglang-ref", "main", *source, "--no-build"),
        ("rebase", "--onto", "main", *source, "--dry-run"),
        ("history", "--to", "main", *source),
        ("list",),
        ("lint",),
    ]
    ran = [run_process(*words, "--json", cwd=team.root, env=env) for words in commands]
    (tree,) = state.glob("worktrees/*/*")
    files = {path: text for path, text in Git(tree).snapshot().items() if "/" in path}
    texts = [run.out.replace(str(state), "STATE").replace(str(tree), "TREE") for run in ran]
    # How many states of the files were new depends on the cache.
    return [*(re.sub(r'"replays": \d+', "", text) for text in texts), files]


@pytest.mark.slow(12)
def test_all_variables_of_the_caller_change_no_command(
    series: Team, decoy: Git, tmp_path: Path
) -> None:
    sets = harmful(decoy, tmp_path).values()
    everything = {name: value for names in sets for name, value in names.items()}
    del everything["GIT_CONFIG_GLOBAL"], everything["GIT_CONFIG_SYSTEM"]  # the user's own
    places = [(tmp_path / f"state-{run}", tmp_path / f"cache-{run}") for run in range(3)]
    wanted, before = answers(series, *places[0], {}), decoy.snapshot()
    assert answers(series, *places[1], everything) == wanted
    assert answers(series, places[2][0], places[1][1], {}) == wanted
    assert decoy.snapshot() == before


def test_a_cache_of_an_older_format_is_not_believed(
    series: Team, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs inside a hook have filled caches with wrong verdicts: their format is no longer read."""
    line, onto = series.repository.line("main"), Oid(series.upstream.head())
    repo, cache = Repo.open(series.upstream.path), tmp_path / "cache"
    with monkeypatch.context() as patched:
        patched.setattr("fixtool.replay._cache._FORMAT", 4)
        assert replay(repo, line, onto, cache=cache).reused == 0
        assert replay(repo, line, onto, cache=cache).reused == 3
    assert replay(repo, line, onto, cache=cache).reused == 0


# -- hooks -----------------------------------------------------------------------------------


@pytest.fixture
def logged(series: Team, tmp_path: Path) -> Path:
    """A log of what apply says of the series, one line for each run of the script beside it."""
    script = tmp_path / "ask"
    words = command_line("apply", "--sglang-ref", "main", "--source", series.upstream.path,
                         "--no-build", "--dry-run", "--json", "-C", series.root)  # fmt: skip
    script.write_text(
        f"#!{sys.executable}\n"
        "import json, os, subprocess, tempfile\n"
        "with tempfile.TemporaryDirectory() as cache:\n"
        f"    done = subprocess.run({words!r}, capture_output=True, stdin=subprocess.DEVNULL,\n"
        "                          env={**os.environ, 'FIXTOOL_CACHE_DIR': cache})\n"
        "answer = json.loads(done.stdout)\n"
        "verdicts = [patch['verdict'] for patch in answer.get('patches', [])]\n"
        f"with open({str(tmp_path / 'log')!r}, 'a') as log:\n"
        "    print(json.dumps([answer.get('tree'), verdicts]), file=log)\n"
    )
    script.chmod(0o755)
    return tmp_path / "log"


def check(log: Path, series: Team, *, at_least: int) -> None:
    wanted = replayed(series)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) >= at_least
    answer = [wanted["tree"], [patch["verdict"].value for patch in wanted["patches"]]]
    assert [line for line in lines if line != answer] == []


@pytest.mark.slow(15)
def test_inside_the_hooks_of_git(
    series: Team, logged: Path, make_git: Callable[[str], Git]
) -> None:
    git = Git(series.root)
    git("init", "--quiet", "--template=", "--initial-branch=main")
    git.commit("first", python__model_py="mine\n", a_txt="a\n")
    hooks = series.root / ".git" / "hooks"
    hooks.mkdir()
    for name in HOOKS:
        (hooks / name).symlink_to(logged.with_name("ask"))
    git.write("a.txt", "b\n")
    git.write("python/model.py", "changed\n")
    git("commit", "--quiet", "--message", "a part", "a.txt")
    git("commit", "--quiet", "--all", "--message", "all")
    git("commit", "--quiet", "--amend", "--message", "again")
    git("rebase", "--quiet", "--exec", str(logged.with_name("ask")), "HEAD~1")
    other = make_git("pushed")
    git("push", "--quiet", str(other.path), "HEAD:refs/heads/pushed")
    check(logged, series, at_least=15)  # git runs 17, and other versions of it others


@pytest.mark.slow(6)
def test_inside_pre_commit(series: Team, logged: Path, tmp_path: Path) -> None:
    git = Git(series.root)
    git("init", "--quiet", "--template=", "--initial-branch=main")
    hook = {"id": "ask", "name": "ask", "entry": str(logged.with_name("ask")), "language": "system",
            "always_run": True, "pass_filenames": False}  # fmt: skip
    config = {"repos": [{"repo": "local", "hooks": [hook]}]}
    git.write(".pre-commit-config.yaml", json.dumps(config))
    git.commit("first", a_txt="a\n")
    git.write("a.txt", "b\n")
    hooks = series.root / ".git" / "hooks"
    hooks.mkdir()
    (hooks / "pre-commit").write_text(f"#!/bin/sh\nexec {sys.executable} -m pre_commit run\n")
    (hooks / "pre-commit").chmod(0o755)
    os.environ["PRE_COMMIT_HOME"] = str(tmp_path / "pre-commit")
    git("commit", "--quiet", "--all", "--message", "all")
    check(logged, series, at_least=1)
