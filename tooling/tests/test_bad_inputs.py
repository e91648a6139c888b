"""What fixtool does with bad inputs and bad days: each through the real command, each with its exit
code, its message and the proof that nothing changed.

`python tooling/tests/test_bad_inputs.py` runs every row and prints the table as Markdown.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import NUMBERS, Git, Ran, Team
from test_index import Server, make_wheel, serve

Do = Callable[["World"], None]
Props = Callable[[str, object], None]
GIT = str(shutil.which("git"))
KILLED = {"SIGINT": 130, "SIGTERM": 130, "SIGKILL": -signal.SIGKILL}
FIX = NUMBERS.replace("line 20\n", "line 20 fixed\n")
NEAR = NUMBERS.replace("line 22\n", "line 22 new\n")  # the patch then needs a three-way merge
MINE = NUMBERS.replace("line 20\n", "line 20 mine\n")

# Stands in for git, and for a filter in the middle of a checkout: says that it was reached, and
# waits there while $HOLD exists.
GATE = f"""#!/bin/sh
hold() {{ : > "$HOLD.reached"; while [ -e "$HOLD" ]; do sleep 0.05; done; }}
case " $* " in *" $POINT "*) hold;; esac
if [ "$1" = smudge ]; then exec cat; fi
{GIT} "$@"; status=$?
case " after $* " in " $POINT_AFTER"*" $POINT_AFTER "*) hold;; esac
exit $status
"""
SLOW_FSYNC = """
import os, time
real = os.fsync
def fsync(file):
    if os.environ.get("POINT") == "fsync":
        open(os.environ["HOLD"] + ".reached", "w").close()
        while os.path.exists(os.environ["HOLD"]):
            time.sleep(0.02)
    real(file)
os.fsync = fsync
"""


@dataclass
class World:
    """A small upstream, a person's checkout of it, a patch repository, and a work tree that an
    earlier `apply` made, all below ``root``; ``expected`` is what the series makes of main."""

    root: Path
    expected: str = ""
    env: dict[str, str] = field(default_factory=dict)
    prefix: list[str] = field(default_factory=list)
    closing: list[Callable[[], object]] = field(default_factory=list)
    seen: Path = Path("/")  # where the command's own view of the file system can be read
    server: Server | None = None

    def __post_init__(self) -> None:
        self.upstream, self.checkout = Git(self.root / "upstream"), Git(self.root / "checkout")
        self.team = Team(self.root / "team", self.upstream)
        self.patches = self.team.root / "patches" / "main"
        self.tree, self.hold = Git(self.root / "trees" / "warm"), self.root / "hold"
        self.state, self.cache = (self.root / "home" / name for name in ("state", "cache"))

    def words(self, command: str) -> list[str]:
        names = {"up": self.upstream.path, "checkout": self.checkout.path, "root": self.root,
                 "trees": self.root / "trees", "team": self.team.root}  # fmt: skip
        return [word.format_map(names) for word in shlex.split(command)]

    def start(self, command: str, **env: str) -> subprocess.Popen[str]:
        base = {"HOME": self.root / "home", "FIXTOOL_STATE_DIR": self.state,
                "FIXTOOL_CACHE_DIR": self.cache, "HOLD": self.hold, "PIP_CONFIG_FILE": os.devnull,
                "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": "", "NO_PROXY": "127.0.0.1",
                "PIP_INDEX_URL": "http://127.0.0.1:1/simple"}  # fmt: skip
        return subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "fixtool", *self.words(command)],
            cwd=self.team.root, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, **{k: str(v) for k, v in base.items()}, **self.env, **env},
            start_new_session=True,
        )  # fmt: skip

    def run(self, command: str, **env: str) -> Ran:
        return self.end(self.start(command, **env))

    def end(self, process: subprocess.Popen[str]) -> Ran:
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in out + err, err
        return Ran(process.returncode, out, err)

    def held(self, command: str, point: str) -> subprocess.Popen[str]:
        """The command, stopped where git is about to do ``point`` (or, `after …`, has done it)."""
        self.hold.touch()
        name = "POINT_AFTER" if point.startswith("after ") else "POINT"
        path = f"{self.root / 'bin'}:{os.environ['PATH']}"
        process = self.start(
            command, PATH=path, PYTHONPATH=str(self.root / "bin"),
            **{"POINT": "none", "POINT_AFTER": "none", name: point},
        )  # fmt: skip
        until = time.monotonic() + 30
        while not self.hold.with_name("hold.reached").exists():
            assert process.poll() is None, f"never came to {point}: {process.communicate()}"
            assert time.monotonic() < until, point
            time.sleep(0.01)
        return process

    def snapshot(self) -> dict[str, Any]:
        """Bytes, time and inode of every file of the patches, the work tree and the home; refs,
        HEAD, status and files of the repositories. fixtool's own object stores count by their refs
        and work trees; its cache, locks and the objects that nobody points to do not count."""
        shot: dict[str, Any] = {}
        for folder in ("team", "trees", "home", "foreign"):
            base = self.seen / (self.root / folder).relative_to("/")
            for path in sorted(base.rglob("*")):
                name = f"{folder}/{path.relative_to(base)}"
                if re.match(r"home/(state/repos|cache)(/|$)|.*/\.lock$|.*/filler$", name):
                    continue
                about = path.lstat()
                if path.is_symlink() or not path.is_file():
                    shot[name] = path.is_symlink() and str(path.readlink())
                else:
                    digest = hashlib.sha256(path.read_bytes()).hexdigest()
                    shot[name] = (digest, about.st_mtime_ns, about.st_ino)
        for git in (self.upstream, self.checkout, self.tree):
            if git.path.exists():
                shot |= {f"{git.path.name}: {key}": v for key, v in git.snapshot().items()}
        for store in sorted(self.state.glob("repos/*.git")):
            for ref in Git(store)("for-each-ref").splitlines():
                shot[f"{store.name}: {ref}"] = True
        return shot

    def stale(self) -> list[str]:
        """What a run may not leave behind."""
        places = [*self.root.glob("trees/.*"), *self.patches.parent.glob(".*")]
        places += [*self.state.glob("repos/*/worktrees/*fixtool-*"), *self.state.glob("**/.*.fix*")]
        places += [*self.cache.glob("wheels/.new-*"), *self.root.rglob("index.lock")]
        return [str(one) for one in places if one.name != ".lock"]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world, made once; every row gets a copy of it in the same place."""
    world = World(tmp_path_factory.mktemp("bad") / "world")
    for git in (world.upstream, world.checkout):
        git.path.mkdir(parents=True)
        git("init", "--quiet", "--template=", "--initial-branch=main")
    world.upstream.write(".gitattributes", "slow.txt filter=hold\n")
    project = '[project]\nname = "sglang"\ndynamic = ["version"]\n[tool.setuptools.packages.find]\n'
    world.upstream.write("python/pyproject.toml", project)
    first = world.upstream.commit(
        "base", python__model_py=NUMBERS, slow_txt="slow\n", python__sglang____init___py="x = 1\n"
    )
    world.upstream("tag", "v1.0")
    world.upstream.commit("near", python__model_py=NEAR)
    world.upstream("tag", "v1.1")
    world.checkout("fetch", "--quiet", "--tags", str(world.upstream.path), "main:main")
    world.checkout("reset", "--quiet", "--hard", "v1.1")
    (world.root / "bin").mkdir()
    (world.root / "trees").mkdir()
    for name in ("git", "gate"):
        (world.root / "bin" / name).write_text(GATE)
        (world.root / "bin" / name).chmod(0o755)
    (world.root / "bin" / "sitecustomize.py").write_text(SLOW_FSYNC)
    world.team.line(base=first)
    world.team.patch("fix", "fix twenty", python__model_py=FIX)
    world.team.patch("more", "more", base="patch/fix", slow_txt="fast\n", python__new_py="y = 1\n")
    done = world.run("apply --no-build --source {up} --sglang-ref v1.0 --worktree {trees}/warm")
    assert done.status == 0, done.err
    smudge = f"{world.root / 'bin' / 'gate'} smudge"
    for place in (*world.state.glob("repos/*.git"), world.checkout.path):
        Git(place)("config", "filter.hold.smudge", smudge)
    done = world.run(
        f"{APPLY} --sglang-ref v1.1 --dry-run --json", FIXTOOL_CACHE_DIR=str(world.root / "other")
    )
    assert done.status == 0, done.err
    assert [one["verdict"] for one in json.loads(done.out)["patches"]] == ["merged", "clean"]
    world.expected = json.loads(done.out)["commit"]
    shutil.rmtree(world.root / "other")
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


def told(world: World, record: Props, exit_code: int, message: str, proof: str) -> None:
    """One row of the printed table."""
    text = message.replace(str(world.root), "…").replace("\n", " ")
    record("row", (exit_code, re.sub(r"\b[0-9a-f]{40,64}\b", lambda m: m[0][:12], text), proof))


# -- arranging trouble -------------------------------------------------------------------------


def mail(diff: str, subject: str = "bad") -> bytes:
    return (
        f"From {'0' * 40} Mon Sep 17 00:00:00 2001\nFrom: A Person <person@example.org>\n"
        f"Date: Fri, 2 Jan 2026 03:04:05 +0100\nSubject: [PATCH] {subject}\n\nWhy.\n\n{diff}"
    ).encode()


def makes(path: str, mode: str = "100644") -> str:
    return (
        f"diff --git a/{path} b/{path}\nnew file mode {mode}\nindex {'0' * 40}..{'1' * 40}\n"
        f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n"
    )


def adds(raw: bytes | str, slug: str = "bad") -> Do:
    return lambda w: w.team.add(slug, mail(raw) if isinstance(raw, str) else raw) and None


def edits(name: str, change: Callable[[bytes], bytes | None]) -> Do:
    """Rewrite a file of the line, or (None) delete it."""

    def do(world: World) -> None:
        data = change((world.patches / name).read_bytes())
        (world.patches / name).unlink() if data is None else (world.patches / name).write_bytes(
            data
        )

    return do


def lists(text: str) -> Do:
    return edits("series", lambda data: data + text.encode() + b"\n")


def writes(path: str, text: str = "mine\n") -> Do:
    def do(world: World) -> None:
        (world.root / path).parent.mkdir(parents=True, exist_ok=True)
        (world.root / path).write_text(text)

    return do


def all_of(*steps: Do) -> Do:
    return lambda world: [step(world) for step in steps] and None


def sets(**env: str) -> Do:
    return lambda w: w.env.update({k: v.format(root=w.root) for k, v in env.items()})


def twins(world: World) -> None:
    """Two commits whose ids begin with the same 7 digits: a birthday search takes about 20,000."""
    tree, seen = world.upstream("rev-parse", "HEAD^{tree}"), dict[str, bytes]()
    for number in range(10_000_000):
        who = "A Person <person@example.org> 1767323045 +0100"
        body = f"tree {tree}\nauthor {who}\ncommitter {who}\n\n{number}\n".encode()
        sha = hashlib.sha1(b"commit %d\0" % len(body) + body).hexdigest()
        if sha[:7] in seen:
            break
        seen[sha[:7]] = body
    for one in (seen[sha[:7]], body):
        world.upstream("hash-object", "-t", "commit", "-w", "--stdin", stdin=one)
    world.env["TWIN"] = sha[:7]


def evil(world: World) -> None:
    (world.root / "bin" / "evil").write_text(f"#!/bin/sh\ntouch {world.root}/foreign-ran\n")
    (world.root / "bin" / "evil").chmod(0o755)


def merging(world: World) -> None:
    git = world.checkout
    git("checkout", "--quiet", "-b", "side", "v1.0")
    git.commit("side", python__model_py=MINE)
    git("checkout", "--quiet", "main")
    git.commit("here", python__model_py=FIX)
    git("merge", "--quiet", "side", check=False)
    assert (git.path / ".git" / "MERGE_HEAD").exists()


def foreign_branch(world: World) -> None:
    base = world.checkout("rev-parse", "v1.1")
    other = world.checkout("commit-tree", "-m", "mine", "HEAD^{tree}")
    world.checkout("branch", f"fixtool/main-{base[:12]}", other)


def conflict(world: World) -> None:
    world.upstream("checkout", "--quiet", "--detach", "v1.0")
    world.upstream.commit("same place", python__model_py=MINE)
    world.upstream("tag", "clash")


def shim(text: str) -> Do:
    def do(world: World) -> None:
        folder = world.root / "shim"
        folder.mkdir()
        if text:
            (folder / "git").write_text(text)
            (folder / "git").chmod(0o755)
        world.env["PATH"] = str(folder)

    return do


def wrong_hash(world: World) -> None:
    folder = world.root / "served"
    wheel = make_wheel(folder, "1.0")
    serving = serve(Server(folder, hashes={wheel.name: "0" * 64}))
    world.server = serving.__enter__()
    world.closing.append(lambda: serving.__exit__(None, None, None))
    world.env |= {"PIP_INDEX_URL": world.server.url}


def own_namespace(world: World) -> Callable[[str], None]:
    """Mounts that only the commands of this row see, and that end with it."""
    for how in (["-m"], ["-r", "-m"]):
        holder = subprocess.Popen(
            ["unshare", *how, "sh", "-c", "mount -t tmpfs none /mnt && echo ready && exec cat"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert holder.stdin is not None
        assert holder.stdout is not None
        world.closing += [holder.wait, holder.stdin.close]
        if holder.stdout.readline() == "ready\n":
            break
    else:
        pytest.skip("this environment lets nobody mount a tmpfs (unshare -m, unshare -r -m)")
    world.prefix = ["nsenter", "-t", str(holder.pid), *(["-U"] if "-r" in how else []), "-m", "--"]
    world.seen = Path(f"/proc/{holder.pid}/root")

    def run(script: str) -> None:
        subprocess.run([*world.prefix, "sh", "-ec", script], check=True, capture_output=True)

    return run


def read_only(path: str) -> Do:
    def do(world: World) -> None:
        place = world.root / path
        place.mkdir(exist_ok=True)
        own_namespace(world)(f"mount --bind {place} {place}; mount -o remount,bind,ro {place}")

    return do


def full(path: str, left: int) -> Do:
    """``path`` on a disk of its own with ``left`` KiB to spare."""

    def do(world: World) -> None:
        place = world.root / path
        place.mkdir(exist_ok=True)
        own_namespace(world)(
            f"cp -a {place} {place}.copy; mount -t tmpfs -o size=4m none {place};"
            f"cp -a {place}.copy/. {place}; rm -r {place}.copy;"
            f"head -c {left}k /dev/zero > {place}/spare; cat /dev/zero > {place}/filler || :;"
            f"rm {place}/spare"
        )

    return do


def large_commit(world: World) -> None:
    noise = b"".join(hashlib.sha256(bytes([n, m])).digest() for n in range(40) for m in range(250))
    world.tree.commit("large\n\nWhy.", noise_txt=noise)


# -- afterwards --------------------------------------------------------------------------------


def again(command: str, remove: str = "") -> Do:
    """With the trouble gone, the same command does its work."""

    def do(world: World) -> None:
        if remove:
            subprocess.run([*world.prefix, "rm", str(world.root / remove)], check=True)
        done = world.run(command)
        assert done.status == 0, done.err

    return do


def not_run(world: World) -> None:
    assert not (world.root / "foreign-ran").exists()


def nothing_cached(world: World) -> None:
    assert world.server is not None
    assert len(world.server.asked(".whl")) == 2
    assert not [one for one in world.cache.rglob("*") if one.suffix in (".whl", ".part")]


@dataclass(frozen=True)
class Row:
    command: str
    exit_code: int
    message: str
    hint: str | None
    arrange: Do = lambda world: None
    then: Do = lambda world: None


APPLY = "apply --no-build --source {up}"
ON = f"{APPLY} --sglang-ref v1.0"
INTO = "apply --no-build --into {checkout} --sglang-ref v1.1"
WARM = f"{ON} --worktree {{trees}}/warm"
FRESH = f"{APPLY} --sglang-ref v1.1"
EXPORT = "export --worktree {trees}/warm"
SHA = "a sha of 7 to 40 digits"
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
        f"{APPLY} --sglang-ref $TWIN", 2, "is short for 2 commits: ", "more digits", twins
    ),
    "ref is an option": Row(f"{APPLY} --sglang-ref=--upload-pack=x", 2, "'--upload-pack=x' is", SHA),
    "ref with a newline": Row(f"{APPLY} --sglang-ref 'v1\n.0'", 2, r"'v1\\n.0' is not", SHA),
    "ref is a range": Row(f"{APPLY} --sglang-ref a..b", 2, "'a..b' is not", SHA),
    "ref is a reflog entry": Row(f"{APPLY} --sglang-ref main@{{{{1}}}}", 2, "@{1}' is not", SHA),
    # addresses
    "ext:: address": Row(f"{OFF} 'ext::{{root}}/bin/evil'", 2, "'ext::.*not a repo", URLS, evil, not_run),
    "ext:: address with words": Row(
        f"{OFF} 'ext::sh -c {{root}}/bin/evil'", 2, "'ext::sh -c .*not a repo", URLS, evil, not_run
    ),
    "ext:: address in upstream.toml": Row(
        "apply --no-build --sglang-ref v1.0", 2, "'ext::.*not a repo", URLS,
        all_of(evil, lambda w: edits("upstream.toml", lambda data: re.sub(
            rb'url = ".*"', f'url = "ext::{w.root}/bin/evil"'.encode(), data))(w)), not_run,
    ),
    "fd:: address": Row(f"{OFF} fd::17", 2, "'fd::17' is not", URLS),
    "address is -u…": Row(f"{OFF}=-u{{root}}/bin/evil", 2, "'-u.* is not", URLS, evil, not_run),
    "address is --upload-pack": Row(
        f"{OFF}=--upload-pack={{root}}/bin/evil", 2, "'--upload-pack.* is not", URLS, evil, not_run
    ),
    "unknown source path": Row(f"{OFF} {{root}}/nowhere", 2, "not git, pypi, a URL, or a path", "--source"),
    # patch files
    "corrupt hunk counts": Row(
        ON, 1, "the diff is not well formed", "restore", adds(makes("x").replace("+1 @@", "+1,7 @@"))
    ),
    "CRLF-damaged patch": Row(
        ON, 1, "line ends are CRLF", "restore it", edits("fix.patch", lambda d: d.replace(b"\n", b"\r\n"))
    ),
    "truncated patch": Row(
        ON, 1, "the diff is not well formed", "restore", edits("fix.patch", lambda data: data[:-20])
    ),
    "binary junk as a patch": Row(ON, 1, "binary data", "restore", adds(bytes(range(256)) * 40)),
    "no diff at all": Row(ON, 1, "no `diff --git` line", "fixtool import", adds("just words\n")),
    "path ../x": Row(ON, 1, r"'\.\./x': a path that leaves", NEVER, adds(makes("../x"))),
    "path .git/hooks/x": Row(ON, 1, "'.git/hooks/x': a path inside git's", NEVER, adds(makes(".git/hooks/x"))),
    "path .GIT/x": Row(ON, 1, "'.GIT/x': a path inside git's", NEVER, adds(makes("a/.GIT/x"))),
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
    "duplicate subject": Row(
        ON, 1, "fix.patch has the same subject", "another subject", adds(mail(makes("x"), "fix twenty"))
    ),
    "series names a missing file": Row(ON, 1, "no such file", "restore the file", lists("gone.patch")),
    "orphan patch file": Row(
        ON, 1, "orphan.patch is not in the series", "add it to", writes("team/patches/main/orphan.patch")
    ),
    "duplicate series entry": Row(ON, 1, "fix.patch is listed twice", "take one", lists("fix.patch")),
    "series entry that escapes": Row(ON, 1, "not a safe patch file name", "use letters", lists("../../x.patch")),
    "series option -p0": Row(ON, 1, "'-p0': only -p1", None, lists("x.patch -p0")),
    "broken upstream.toml": Row(ON, 1, "not valid TOML", None, edits("upstream.toml", lambda d: d[:-9])),
    "no upstream.toml": Row(ON, 1, "no upstream.toml", None, edits("upstream.toml", lambda _: None)),
    "unknown line": Row(f"{ON} --line nope", 2, "no line 'nope'; there are: main", None),
    "no patch repository": Row(f"{ON} -C {{up}}", 2, "no patch repository", "fixtool init"),
    # places
    "--into a dirty checkout": Row(
        INTO, 1, "not clean: python/model.py", "stash", writes("checkout/python/model.py")
    ),
    "--into amid a merge": Row(INTO, 1, r"in the middle of something here \(MERGE_HEAD\)", "abort", merging),
    "--into, branch name taken": Row(INTO, 1, "exists and holds commits that", "branch -m", foreign_branch),
    "--worktree on a foreign folder": Row(
        f"{ON} --worktree {{root}}/foreign", 1, "not a work tree that fixtool", "--worktree", writes("foreign/x")
    ),
    "--worktree on a file": Row(
        f"{ON} --worktree {{root}}/foreign/x", 1, "not a work tree that fixtool", "--worktree",
        writes("foreign/x"),
    ),
    "--worktree below a file": Row(
        f"{ON} --worktree {{root}}/foreign/x/y", 4, "Not a directory", None, writes("foreign/x")
    ),
    "our work tree is dirty": Row(WARM, 1, "not clean: slow.txt", "stash", writes("trees/warm/slow.txt")),
    "our work tree has new commits": Row(
        WARM, 1, "commits of its own", "fixtool export", lambda w: w.tree.commit("mine", mine_txt="x\n") and None
    ),
    "export of a dirty work tree": Row(EXPORT, 1, "not clean: slow.txt", "stash", writes("trees/warm/slow.txt")),
    # disks
    "state below a file": Row(ON, 4, "Not a directory", PLACES, all_of(
        writes("file"), sets(FIXTOOL_STATE_DIR="{root}/file/state"))),
    "read-only state": Row(FRESH, 4, "Read-only file system", PLACES, read_only("home/state")),
    "read-only cache": Row(WARM.replace("--no-build", ""), 4, "Read-only", PLACES, read_only("home/cache")),
    "read-only patches": Row(EXPORT, 4, "Read-only", None, all_of(large_commit, read_only("team/patches"))),
    **{
        f"full disk, state, {left} KiB left": Row(
            FRESH, 4, "No space left|cannot write|unable to", SPACE, full("home/state", left),
            again(FRESH, "home/state/filler"),
        )
        for left in (0, 16, 44)
    },
    "full disk, cache": Row(
        WARM.replace("--no-build", ""), 4, "No space left", SPACE, full("home/cache", 0),
        again(WARM.replace("--no-build", ""), "home/cache/filler"),
    ),
    "full disk, patches": Row(
        EXPORT, 4, "No space left", SPACE, all_of(large_commit, full("team/patches", 64)),
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
        wrong_hash, nothing_cached,
    ),
    # git itself
    "git 2.30": Row(ON, 4, "git version 2.30.2 is too old", "install git 2.38", shim(
        "#!/bin/sh\necho git version 2.30.2\n")),
    "no git": Row(ON, 4, "git is not on PATH", "install git", shim("")),
    # the command line
    "unknown option": Row(f"{ON} --nope", 2, "No such option: --nope", "fixtool apply --help"),
    "--editable without --python": Row(
        "apply --source {up} --sglang-ref v1.1 --editable", 2, "needs an interpreter", "--python"
    ),
    "--into with --source": Row(f"{INTO} --source git", 2, "--into is its own source", None),
    # the series does not fit
    "conflict": Row(
        f"{APPLY} --sglang-ref clash", 3,
        r"(?s)fix +conflict .*fix: conflict in python/model.py\n  python/model.py: conflict\n    hunk 1: conflict",
        None, conflict,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_refused(name: str, world: World, record_property: Props) -> None:
    row = ROWS[name]
    row.arrange(world)
    command = row.command.replace("$TWIN", world.env.get("TWIN", ""))
    before = world.snapshot()
    done = world.run(command)
    assert done.status == row.exit_code, done.out + done.err
    message = done.out if row.exit_code == 3 else done.err
    assert re.search(row.message, message), message
    document = world.run(f"{command} --json")
    assert (document.status, document.err) == (row.exit_code, "")
    data = json.loads(document.out)
    assert (data["ok"], data["exit_code"], data["schema"]) == (False, row.exit_code, 1)
    shown = "fix: conflict in python/model.py, hunk 1"
    if row.exit_code == 3:
        assert data["patches"][0]["files"][0]["hunks"][0]["verdict"] == "conflict"
        assert (data["commit"], data["worktree"]) == (None, None)
    else:
        form = r"error: .+\n(   at: .+\n)?" + ("" if row.hint is None else r"  try: .+\n")
        assert re.fullmatch(form, done.err), done.err
        shown = done.err.splitlines()[0].removeprefix("error: ")
        assert data["error"]["message"] == json.loads(json.dumps(data))["error"]["message"]
        assert set(data["error"]) == {"message", "where", "hint"}
        assert re.search(row.hint or "^None$", str(data["error"]["hint"])), data["error"]
    after = world.snapshot()
    assert after == before
    assert not world.stale()
    files = sum(isinstance(one, tuple) for one in before.values())
    proof = f"{files} files and all refs as before"
    if row.then is not Row.then:
        row.then(world)
        proof += f"; {row.then.__name__.replace('_', ' ').replace('do', 'then works')}"
    told(world, record_property, done.status, shown, proof)


# -- two at once, and one cut short ------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "point"),
    [
        (f"{FRESH} --worktree {{trees}}/new", "worktree add"),
        (INTO, "read-tree -m"),
        (EXPORT, "fsync"),
    ],
    ids=["worktree", "into", "export"],
)
def test_two_at_once(command: str, point: str, world: World, record_property: Props) -> None:
    if point == "fsync":
        world.tree.commit("mine\n\nWhy.", mine_txt="x\n")
    first = world.held(command, point)
    before = world.snapshot()
    second = world.run(command)
    document = world.run(f"{command} --json")
    assert world.snapshot() == before
    assert (second.status, document.status) == (4, 4), second.err
    assert f"is in use by process {first.pid} on " in second.err
    assert "  try: wait for it" in second.err
    assert f"process {first.pid}" in json.loads(document.out)["error"]["message"]
    world.hold.unlink()
    done = world.end(first)
    assert done.status == 0, done.err
    assert not world.stale()
    assert world.run(command).status == 0
    proof = "the second changed nothing, the first ended well"
    told(world, record_property, 4, second.err.splitlines()[0][7:], proof)


NEW = f"{FRESH} --worktree {{trees}}/new --json"
CUT = {
    NEW: ["apply --cached", "merge-tree", "worktree add", "smudge", "worktree move",
          "after worktree move", "update-ref", "symbolic-ref"],
    f"{INTO} --json": ["apply --cached", "unpack-objects", "read-tree -m", "smudge", "update-ref",
                       "symbolic-ref"],
    f"{EXPORT} --json": ["format-patch", "fsync"],
}  # fmt: skip
CASES = [
    pytest.param(command, point, how, id=f"{how} at {point}, {place}")
    for (command, points), place in zip(CUT.items(), ("worktree", "into", "export"), strict=True)
    for number, point in enumerate(points)
    for how in (KILLED if point in ("smudge", "fsync", "symbolic-ref") else [list(KILLED)[number % 3]])
]  # fmt: skip


@pytest.mark.parametrize(("command", "point", "how"), CASES)
def test_cut_short(
    command: str, point: str, how: str, world: World, record_property: Props
) -> None:
    exporting, into = command.startswith("export"), "--into" in command
    if exporting:
        world.tree.commit("mine\n\nWhy.", mine_txt="x\n")
    before = world.snapshot()
    process = world.held(command, point)
    if how == "SIGTERM":  # as `kill` and a CI system do; Ctrl-C and the end of a machine reach all
        process.terminate()
    else:
        os.killpg(process.pid, getattr(signal, how))
    done = world.end(process)
    assert done.status == KILLED[how], done.err
    world.hold.unlink()
    mine = {key: value for key, value in world.snapshot().items() if "fixtool/main-" not in key}
    new = Git(world.root / "trees" / "new")
    state = "as before"
    if new.path.exists():
        assert (new("rev-parse", "HEAD"), new("status", "--porcelain")) == (world.expected, "")
        state = "whole"
    elif how == "SIGKILL" and into and point in ("smudge", "update-ref", "symbolic-ref"):
        # The one place where a kill shows: files of a checkout cannot all change at once.
        differ = {key for key in before | mine if before.get(key) != mine.get(key)}
        allowed = {"python/model.py", "slow.txt", "python/new.py", "status", "refs"}
        assert {key.removeprefix("checkout: ") for key in differ} <= allowed
        state = "three files half way, mended by the next run"
    elif how == "SIGKILL":
        assert {k: v for k, v in mine.items() if "/." not in k} == before
    else:
        assert mine | {"checkout: refs": before["checkout: refs"]} == before
        assert not world.stale()
    if how != "SIGKILL":
        error = json.loads(done.out)["error"]
        assert error["message"] == "interrupted"
    answer = world.run(command)
    assert answer.status == 0, answer.out + answer.err
    assert not world.stale()
    if exporting:
        names = (world.patches / "series").read_text().split()
        assert names[-3:] == ["fix.patch", "more.patch", "mine.patch"]
        assert world.run(f"{EXPORT} --check").status == 0
    else:
        assert json.loads(answer.out)["commit"] == world.expected
        git = world.checkout if into else new
        assert (git("rev-parse", "HEAD"), git("status", "--porcelain")) == (world.expected, "")
        assert git("symbolic-ref", "HEAD").startswith("refs/heads/fixtool/main-")
    told(world, record_property, done.status, "interrupted", f"{state}; the same command then works")


class Table:
    """Prints a row for each test, as it ends."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        name = report.nodeid.split("[", 1)[-1].removesuffix("]")
        if report.when == "call" and report.passed:
            cells = [name, *map(str, dict(report.user_properties)["row"])]
            print("|", " | ".join(cell.replace("|", "\\|") for cell in cells), "|", flush=True)
        elif not report.passed:
            print(f"| {name} | | {report.outcome} | {str(report.longrepr)[-200:]!r} |", flush=True)


if __name__ == "__main__":
    print("| case | exit | message | proof |\n| --- | --- | --- | --- |", flush=True)
    sys.exit(pytest.main(["-p", "no:terminal", __file__], plugins=[Table()]))
