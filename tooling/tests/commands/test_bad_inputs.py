"""What fixtool does with bad inputs and bad days: each through the real command, each with its exit
code, its message and the proof that nothing changed.

`python tooling/tests/commands/test_bad_inputs.py` runs every row and prints the table as Markdown.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from support import bad_inputs as bad
from support.bad_inputs import Do, World, adds, edits, full, lists, makes, read_only, writes
from support.repositories import Git

Props = Callable[[str, object], None]
KILLED = {"SIGINT": 130, "SIGTERM": 130, "SIGKILL": -signal.SIGKILL}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world, made once; every row gets a copy of it in the same place."""
    world = bad.build(tmp_path_factory.mktemp("bad") / "world")
    world.root.rename(world.root.with_name("template"))
    return world


@pytest.fixture
def world(template: World) -> Iterator[World]:
    shutil.rmtree(template.root, ignore_errors=True)
    subprocess.run(["cp", "-a", template.root.with_name("template"), template.root], check=True)
    world = World(template.root, template.expected)
    try:
        yield world
    finally:
        world.hold.unlink(missing_ok=True)
        for close in reversed(world.closing):
            close()


def record_row(world: World, record: Props, exit_code: int, message: str, proof: str) -> None:
    """One row of the printed table."""
    text = message.replace(str(world.root), "…").replace("\n", " ")
    record("row", (exit_code, re.sub(r"\b[0-9a-f]{40,64}\b", lambda m: m[0][:12], text), proof))


# -- afterwards --------------------------------------------------------------------------------


def again(command: str, remove: str = "") -> Do:
    def do(world: World) -> None:
        """with the trouble gone, or by the way it names, it works"""
        if remove:
            subprocess.run([*world.prefix, "rm", str(world.root / remove)], check=True)
        ran = world.run(command)
        assert ran.status == 0, ran.err

    return do


def not_run(world: World) -> None:
    """the program in it did not run"""
    assert not (world.root / "foreign-ran").exists()


def nothing_cached(world: World) -> None:
    """nothing stays in the cache"""
    assert world.server is not None
    assert len(world.server.asked(".whl")) == 2
    assert not [path for path in world.cache.rglob("*") if path.suffix in (".whl", ".part")]


@dataclass(frozen=True)
class Row:
    command: str
    exit_code: int
    message: str
    hint: str | None
    arrange: Do = lambda world: None
    then: Do | None = None


APPLY = "apply --no-build --source {up}"
ON = f"{APPLY} --sglang-ref v1.0"
INTO = "apply --no-build --into {checkout} --sglang-ref v1.1"
WARM = f"{ON} --worktree {{trees}}/warm"
FRESH = f"{APPLY} --sglang-ref v1.1"
EXPORT = "export --worktree {trees}/warm"
SHA = "a commit id of 7 to 40 digits"
URLS = "use https://, ssh://"
NEVER = "do not use this patch"
SPACE = "space|room"
PLACES = "FIXTOOL_STATE_DIR|FIXTOOL_CACHE_DIR"
OFF = "apply --no-build --sglang-ref v1.0 --source"

ROWS: dict[str, Row] = {
    # refs
    "unknown ref": Row(f"{APPLY} --sglang-ref nope", 4, "no commit, tag, branch .*'nope'", "git -C"),
    "unknown full sha": Row(f"{APPLY} --sglang-ref {'a' * 40}", 4, "does not hold the commit", None),
    "ambiguous short sha": Row(
        f"{APPLY} --sglang-ref $TWIN", 2, "is short for 2 commits: ", "more digits", bad.twins
    ),
    "ref is an option": Row(f"{APPLY} --sglang-ref=--upload-pack=x", 2, "'--upload-pack=x' is", SHA),
    "ref with a newline": Row(f"{APPLY} --sglang-ref 'v1\n.0'", 2, r"'v1\\n.0' is not", SHA),
    "ref is a range": Row(f"{APPLY} --sglang-ref a..b", 2, "'a..b' is not", "--sglang-ref b "),
    "ref is a reflog entry": Row(f"{APPLY} --sglang-ref main@{{{{1}}}}", 2, r"@\{1\}' is not", SHA),
    # addresses
    "ext:: address": Row(f"{OFF} 'ext::{{root}}/bin/evil'", 2, "'ext::.*not a repo", URLS, bad.evil, not_run),
    "ext:: address with words": Row(
        f"{OFF} 'ext::sh -c {{root}}/bin/evil'", 2, "'ext::sh -c .*not a repo", URLS, bad.evil, not_run
    ),
    "ext:: address in upstream.toml": Row(
        "apply --no-build --sglang-ref v1.0", 2, "'ext::.*not a repo", URLS,
        bad.all_of(bad.evil, lambda w: edits("upstream.toml", lambda data: re.sub(
            rb'url = ".*"', f'url = "ext::{w.root}/bin/evil"'.encode(), data))(w)), not_run,
    ),
    "fd:: address": Row(f"{OFF} fd::17", 2, "'fd::17' is not", URLS),
    "address is -u…": Row(f"{OFF}=-u{{root}}/bin/evil", 2, "'-u.* is not", URLS, bad.evil, not_run),
    "address is --upload-pack": Row(
        f"{OFF}=--upload-pack={{root}}/bin/evil", 2, "'--upload-pack.* is not", URLS, bad.evil, not_run
    ),
    "unknown source path": Row(f"{OFF} {{root}}/nowhere", 2, "not git, pypi, a URL, or a path", "--source"),
    # patch files
    "corrupt hunk counts": Row(
        ON, 1, "the diff is not well formed", "restore", adds(makes("x").replace("+1 @@", "+1,7 @@"))
    ),
    "CRLF-damaged patch": Row(
        ON, 1, "line ends are CRLF", "restore", edits("fix.patch", lambda d: d.replace(b"\n", b"\r\n"))
    ),
    "truncated patch": Row(
        ON, 1, "the diff is not well formed", "restore", edits("fix.patch", lambda data: data[:-20])
    ),
    "binary junk as a patch": Row(ON, 1, "binary data", "restore", adds(bytes(range(256)) * 40)),
    "no diff at all": Row(ON, 1, "no `diff --git` line", "fixtool import", adds("just words\n")),
    "path ../x": Row(ON, 1, r"'\.\./x': a path that leaves", NEVER, adds(makes("../x"))),
    "path .git/hooks/x": Row(ON, 1, "'.git/hooks/x': a path inside git's", NEVER, adds(makes(".git/hooks/x"))),
    "path .GIT/x": Row(ON, 1, "'.GIT/x': a path inside git's", NEVER, adds(makes(".GIT/x"))),
    "path git~1/x": Row(ON, 1, "'git~1/x': a path inside git's", NEVER, adds(makes("git~1/x"))),
    "path /etc/x": Row(ON, 1, "'/etc/x': an absolute path", NEVER, adds(makes("/etc/x"))),
    "a file behind a symlink": Row(
        ON, 1, "'link/x': behind a symlink", NEVER, adds(makes("link", "120000") + makes("link/x"))
    ),
    "import of path ../x": Row(
        "import {root}/x.diff --source {up}", 1, r"'\.\./x': a path that leaves", None,
        writes("x.diff", makes("../x")),
    ),
    # lines
    "series names a missing file": Row(ON, 1, "no such file", "restore the file", lists("gone.patch")),
    "orphan patch file": Row(
        ON, 1, "orphan.patch is not in the series", "add it to", writes("team/patches/main/orphan.patch")
    ),
    "duplicate series entry": Row(ON, 1, "fix.patch is listed twice", "take this line out: sed -i 4d ", lists("fix.patch")),
    "series entry that escapes": Row(ON, 1, "not a safe patch file name", "use letters", lists("../../x.patch")),
    "series option -p0": Row(ON, 1, "'-p0': only -p1", "fixtool import .*FILE", lists("x.patch -p0")),
    "broken upstream.toml": Row(ON, 1, "not valid TOML", "mend the file", edits("upstream.toml", lambda d: d[:-9])),
    "no upstream.toml": Row(ON, 1, "no upstream.toml", "make the line anew: mv ", edits("upstream.toml", lambda _: None)),
    "unknown line": Row(f"{ON} --line nope", 2, "no line 'nope'; there are: main", "fixtool list$"),
    "no patch repository": Row(f"{ON} -C {{up}}", 2, "no patch repository", "fixtool init"),
    # places
    "--into a dirty checkout": Row(
        INTO, 1, "not clean: python/model.py", "stash", writes("checkout/python/model.py")
    ),
    "--into amid a merge": Row(INTO, 1, r"in the middle of a merge here", "merge --abort", bad.merging),
    "--into, branch name taken": Row(INTO, 1, "exists and holds commits that", "branch -m", bad.foreign_branch),
    "--worktree on a foreign folder": Row(
        f"{ON} --worktree {{root}}/foreign", 1, "not a work tree that fixtool", "--worktree", writes("foreign/x")
    ),
    "--worktree on a file": Row(
        f"{ON} --worktree {{root}}/foreign/x", 1, "not a work tree that fixtool", "--worktree",
        writes("foreign/x"),
    ),
    "--worktree below a file": Row(
        f"{ON} --worktree {{root}}/foreign/x/y", 4, "cannot write", "--worktree",
        writes("foreign/x"),
    ),
    "our work tree is dirty": Row(WARM, 1, "not clean: slow.txt", "stash", writes("trees/warm/slow.txt")),
    "our work tree has new commits": Row(
        WARM, 1, "commits of its own", "fixtool export", lambda w: w.tree.commit("mine", mine_txt="x\n") and None
    ),
    "export of a dirty work tree": Row(EXPORT, 1, "not clean: slow.txt", "stash", writes("trees/warm/slow.txt")),
    # disks
    "state below a file": Row(ON, 4, "Not a directory", PLACES, bad.all_of(
        writes("file"), bad.sets(FIXTOOL_STATE_DIR="{root}/file/state"))),
    "read-only state": Row(FRESH, 4, "Read-only", PLACES, read_only("home/state")),
    "read-only cache": Row(WARM.replace("--no-build", ""), 4, "Read-only", PLACES, read_only("home/cache")),
    "read-only patches": Row(
        EXPORT, 4, "Read-only", "make it writable",
        bad.all_of(bad.large_commit, read_only("team/patches")),
    ),
    **{
        f"full disk, state, {left} KiB left": Row(
            FRESH, 4, "No space left|git (worktree|read-tree) failed", SPACE, full("home/state", left),
            again(FRESH, "home/state/filler"),
        )
        for left in (0, 16, 44)
    },
    "full disk, cache": Row(
        WARM.replace("--no-build", ""), 4, "No space left", SPACE, full("home/cache", 0),
        again(WARM.replace("--no-build", ""), "home/cache/filler"),
    ),
    "full disk, patches": Row(
        EXPORT, 4, "No space left", SPACE, bad.all_of(bad.large_commit, full("team/patches", 64)),
        again(EXPORT, "team/patches/filler"),
    ),
    # network
    "no network, git": Row(
        f"{OFF} http://127.0.0.1:1/x.git", 4, "cannot reach http://127.0.0.1:1", "--source pypi"
    ),
    "no network, git, full sha": Row(
        f"apply --sglang-ref {'a' * 40} --source git://127.0.0.1:1/x.git", 4, "cannot fetch aaaa", "--source PATH",
        then=again(f"{FRESH} --dry-run"),
    ),
    "no network, pypi": Row(
        f"{OFF} pypi", 4, r"index cannot be reached: .*127.0.0.1:1.*\(Connection refused\)", "--source PATH",
        then=again(f"{FRESH} --dry-run"),
    ),
    "wheel with a wrong hash": Row(
        f"{OFF} pypi", 4, f"its sha256 is [0-9a-f]{{64}}, promised was {'0' * 64}", "mirror",
        bad.wrong_hash, nothing_cached,
    ),
    # git itself
    "git 2.30": Row(ON, 4, "git version 2.30.2 is too old", "install git 2.38", bad.shim(
        "#!/bin/sh\necho git version 2.30.2\n")),
    "no git": Row(ON, 4, "git is not on PATH", "install git", bad.shim("")),
    # the command line
    "unknown option": Row(f"{ON} --nope", 2, "No such option: --nope", "fixtool apply --help"),
    "--editable without --python": Row(
        "apply --source {up} --sglang-ref v1.1 --editable", 2, "needs an interpreter", "--python"
    ),
    "--into with --source": Row(f"{INTO} --source git", 2, "--into is its own source", "fixtool apply --help"),
    # the series does not fit
    "conflict": Row(
        f"{APPLY} --sglang-ref clash", 3,
        r"(?s)fix +conflict .*fix: conflict in python/model.py\n.*model.py: conflict\n +hunk 1: conflict",
        None, bad.conflict,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_refused(name: str, world: World, record_property: Props) -> None:
    row = ROWS[name]
    row.arrange(world)
    command = row.command.replace("$TWIN", world.env.get("TWIN", ""))
    before = world.snapshot()
    ran, document = world.both(command)
    assert ran.status == row.exit_code, ran.out + ran.err
    message = ran.out if row.exit_code == 3 else ran.err
    assert re.search(row.message, message), message
    assert (document.status, document.err) == (row.exit_code, "")
    data = json.loads(document.out)
    assert (data["ok"], data["exit_code"], data["schema"]) == (False, row.exit_code, 1)
    shown = "fix: conflict in python/model.py, hunk 1"
    if row.exit_code == 3:
        assert data["patches"][0]["files"][0]["hunks"][0]["verdict"] == "conflict"
        assert (data["commit"], data["worktree"]) == (None, None)
    else:
        form = r"error: .+\n(   at: .+\n)?" + {None: "", "": r"(  try: .+\n)?"}.get(
            row.hint, r"  try: .+\n"
        )
        assert re.fullmatch(form, ran.err), ran.err
        shown = ran.err.splitlines()[0].removeprefix("error: ")
        assert re.search(row.message, data["error"]["message"])
        assert set(data["error"]) == {"message", "where", "hint"}
        assert re.search("^None$" if row.hint is None else row.hint, str(data["error"]["hint"])), (
            data["error"]
        )
    assert world.snapshot() == before
    assert not world.stale()
    proof = f"{len(before)} files, folders, refs and states as before"
    if row.then is not None:
        row.then(world)
        proof += f"; {row.then.__doc__}"
    record_row(world, record_property, ran.status, shown, proof)


# -- two at once, and one cut short ------------------------------------------------------------


def mine(world: World) -> None:
    world.tree.commit("mine\n\nWhy.", mine_txt="x\n")


HOLDING = {
    "new work tree": (f"{FRESH} --worktree {{trees}}/new", "read-tree --reset"),
    "work tree moves on": (WARM, "read-tree -m"),
    "into": (INTO, "read-tree -m"),
    "export": (EXPORT, "fsync"),
}


@pytest.mark.parametrize("name", HOLDING)
def test_two_at_once(name: str, world: World, record_property: Props) -> None:
    command, point = HOLDING[name]
    {"export": mine, "work tree moves on": adds(makes("third"), "third")}.get(name, bad.nothing)(
        world
    )
    first = world.held(command, point)
    before = world.snapshot()
    second, document = world.both(command, FIXTOOL_TIMEOUT="0.2")
    assert world.snapshot() == before
    assert (second.status, document.status) == (4, 4), second.err
    assert f"is in use by process {first.pid} on " in second.err
    assert "  try: wait for it" in second.err
    assert f"process {first.pid}" in json.loads(document.out)["error"]["message"]
    world.hold.unlink()
    ran = world.end(first)
    assert ran.status == 0, ran.err
    assert not world.stale()
    assert world.run(command).status == 0
    proof = f"{len(before)} as before the second; the first ended well"
    record_row(world, record_property, 4, second.err.splitlines()[0][7:], proof)


ALL = tuple(KILLED)
CUT = {  # command, what makes it have work, and where it is cut by which signals
    "new work tree": (f"{FRESH} --worktree {{trees}}/new --json", bad.nothing, {
        "cat-file --batch": ["SIGINT"], "merge-tree": ["SIGTERM"], "read-tree --reset": ["SIGKILL"],
        "smudge": ALL, "after read-tree --reset": ["SIGTERM"], "update-ref": ["SIGKILL"],
        "after update-ref": ["SIGINT", "SIGKILL"]}),
    "work tree moves on": (f"{WARM} --json", adds(makes("third"), "third"), {
        "read-tree -m": ["SIGTERM"], "after read-tree -m": ["SIGINT", "SIGKILL"],
        "after update-ref": ["SIGTERM", "SIGKILL"]}),
    "into": (f"{INTO} --json", bad.nothing, {
        "cat-file --batch": ["SIGTERM"], "unpack-objects": ["SIGKILL"], "read-tree -m": ["SIGINT"],
        "smudge": ALL, "after read-tree -m": ["SIGKILL"], "after update-ref": ["SIGINT", "SIGKILL"],
        "after symbolic-ref": ["SIGKILL"]}),
    "export": (f"{EXPORT} --json", mine, {"format-patch": ["SIGINT"], "fsync": ALL}),
}  # fmt: skip
CASES = [
    pytest.param(name, point, how, id=f"{how}, {name}, {point}")
    for name, (_, _, points) in CUT.items()
    for point, signals in points.items()
    for how in signals
]
# What a run may leave for the next one to put right: its own branch, record, log and staging.
OWN = re.compile(
    r".*(/fixtool(/|$)|/fixtool\.|/[.-]new\.fixtool-|/\.main\.new-|/index\.lock|/logs/)|.*/\.git$"
)
# Files cannot all change at once: where these moved, the run after a SIGKILL puts them right.
FILES = re.compile(r"(checkout|trees/warm)/(python|slow\.txt|third)|.*: status$|.*/(ORIG_)?HEAD$")


def content(key: str, shot: dict[str, object]) -> object:
    """What counts of a file: of one that a run put back, the bytes, not the time."""
    value = shot.get(key)
    return value[0] if isinstance(value, tuple) and FILES.match(key) else value


@pytest.mark.slow(1)
@pytest.mark.parametrize(("name", "point", "how"), CASES)
def test_cut_short(name: str, point: str, how: str, world: World, record_property: Props) -> None:
    command, arrange, _ = CUT[name]
    arrange(world)
    expected = world.expected
    if name == "work tree moves on":
        expected = json.loads(world.run(f"{WARM} --json --dry-run").out)["commit"]
    before = world.snapshot()
    process = world.held(command, point)
    if how == "SIGTERM":  # as `kill` and CI do; Ctrl-C and the end of a machine reach every process
        process.terminate()
    else:
        os.killpg(process.pid, getattr(signal, how))
    ran = world.end(process)
    assert ran.status == KILLED[how], ran.err
    if how != "SIGKILL":
        assert json.loads(ran.out)["error"]["message"] == "interrupted"
        assert not world.stale()
    world.hold.unlink()
    after = world.snapshot()
    lines = json.loads(world.run("list --json").out)["lines"] if name == "export" else []
    assert [line["line"] for line in lines] in ([], ["main"])  # no half line beside it
    differ = {
        key
        for key in before | after
        if not OWN.match(key) and content(key, before) != content(key, after)
    }
    tree = {"into": world.checkout, "new work tree": Git(world.root / "trees" / "new")}.get(
        name, world.tree
    )
    state = "as before"
    if name == "new work tree" and tree.path.exists():
        assert all(key.startswith("trees/new") for key in differ)
        assert (tree("rev-parse", "HEAD"), tree("status", "--porcelain")) == (expected, "")
        state = "whole"
    elif differ:
        assert how == "SIGKILL" or "after update-ref" in point, differ
        assert all(FILES.match(key) for key in differ), differ
        clean = (tree("rev-parse", "HEAD"), tree("status", "--porcelain")) == (expected, "")
        assert clean or how == "SIGKILL"
        state = "whole" if clean else "the series' own files half way"
    answer = world.run(command)
    assert answer.status == 0, answer.out + answer.err
    assert not world.stale()
    if name == "export":
        names = (world.patches / "series").read_text().split()
        assert names[-3:] == ["fix.patch", "more.patch", "mine.patch"]
        assert world.run("lint").status == 0
    else:
        assert not list(world.root.rglob("fixtool.next.json"))
        assert json.loads(answer.out)["commit"] == expected
        assert (tree("rev-parse", "HEAD"), tree("status", "--porcelain")) == (expected, "")
        assert tree("symbolic-ref", "HEAD").startswith("refs/heads/fixtool/main-")
        assert (tree.path / "python/extra/new.py").read_text() == "y = 1\n"
    record_row(
        world, record_property, ran.status, "interrupted", f"{state}; then the command works"
    )


def test_an_interrupt_that_was_ignored_at_the_start_stays_ignored(world: World) -> None:
    """A shell starts what runs in its background so, and nohup; git leaves that as it is, too."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        git = subprocess.Popen(
            ["git", "hash-object", "--stdin"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        process = world.held(FRESH, "smudge")
    finally:
        signal.signal(signal.SIGINT, before)
    git.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    world.hold.unlink()
    assert world.end(process).status == 0
    git.communicate(b"")
    assert git.returncode == 0


class Table:
    """Prints a row for each test, as it ends."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.split("[", 1)[-1].removesuffix("]")
        if report.when == "call" and report.passed:
            cells = [name, *map(str, dict(report.user_properties)["row"])]
            print("|", " | ".join(cell.replace("|", "\\|") for cell in cells), "|", flush=True)
        elif not report.passed:
            why = getattr(report, "wasxfail", None) or str(report.longrepr)[-200:]
            print(f"| {name} | | {report.outcome} | {why!r} |", flush=True)


if __name__ == "__main__":
    print("| case | exit | message | proof |\n| --- | --- | --- | --- |", flush=True)
    quiet = ["-s", "-p", "no:terminal", "-o", "addopts=-p no:cacheprovider"]
    sys.exit(pytest.main([*quiet, __file__], plugins=[Table()]))
