"""A small world for what goes wrong: repositories, patches and a home, how to spoil each of them,
and how to see that nothing of it changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.command import command_line, run_here
from support.package_index import Server, make_wheel, serve
from support.processes import GENEROUS, wait_until, wait_until_blocked
from support.repositories import NUMBERS, Git, Ran, Team

Do = Callable[["World"], None]
GIT = str(shutil.which("git"))
FIX = NUMBERS.replace("line 20\n", "line 20 fixed\n")
NEAR = NUMBERS.replace("line 22\n", "line 22 new\n")  # the patch then needs a three-way merge
MINE = NUMBERS.replace("line 20\n", "line 20 mine\n")
_COUNTS = re.compile(
    r"(?!home/cache|home/state/operations(/|$)|.*/filler$|.*/\.lock$|.*/index$|.*/fixtool\.lock$|\w+/\.git/objects/)"
    r"(?!home/state/repos/[^/]+($|/(?!refs/.|packed-refs|worktrees/.))|.*/refs/(heads|tags)$)"
    r"(?!home/state/worktrees(/[^/]+)?$)"
)

# Stands in for git, and for a filter in the middle of a checkout: says that it was reached, and
# waits there while $HOLD exists. The filter is set at each call, since fixtool takes the filters of
# others out of its stores.
GATE = f"""#!/bin/sh
hold() {{ [ -e "$HOLD.reached" ] && return; : > "$HOLD.reached"; while [ -e "$HOLD" ]; do sleep 0.05; done; }}
case " $* " in *" $POINT "*) hold;; esac
if [ "$1" = smudge ]; then exec cat; fi
case "$POINT" in
  smudge) exec {GIT} -c "filter.hold.smudge=$(dirname "$0")/gate smudge" "$@";;
  after*) ;;
  *) exec {GIT} "$@";;
esac
{GIT} "$@"; status=$?
case " $* " in *" ${{POINT#after }} "*) hold;; esac
exit $status
"""
SLOW_FSYNC = """
import os, time
real = os.fsync
def fsync(file):
    last = os.readlink(f"/proc/self/fd/{file}").endswith("/series")
    if os.environ.get("POINT") == "fsync" and last:
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

    def environment(self, **env: str) -> dict[str, str]:
        base = {"HOME": self.root / "home", "FIXTOOL_STATE_DIR": self.state,
                "FIXTOOL_CACHE_DIR": self.cache, "HOLD": self.hold, "PIP_CONFIG_FILE": os.devnull,
                "PIP_EXTRA_INDEX_URL": "", "PIP_FIND_LINKS": "", "NO_PROXY": "127.0.0.1",
                "PIP_INDEX_URL": "http://127.0.0.1:1/simple"}  # fmt: skip
        return {**{name: str(value) for name, value in base.items()}, **self.env, **env}

    def start(self, command: str, **env: str) -> subprocess.Popen[str]:
        """The command as a process of its own, with a session of its own."""
        return subprocess.Popen(
            [*self.prefix, *command_line(*self.words(command))], cwd=self.team.root, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            env={**os.environ, **self.environment(**env)},
        )  # fmt: skip

    def run(self, command: str, **env: str) -> Ran:
        """The command, inside this process unless it needs a PATH or mounts of its own."""
        if self.prefix or "PATH" in self.env:
            return self.end(self.start(command, **env))
        return run_here(*self.words(command), cwd=self.team.root, env=self.environment(**env))

    def both(self, command: str, **env: str) -> tuple[Ran, Ran]:
        """What the command tells a person, and what it tells a program."""
        return self.run(command, **env), self.run(f"{command} --json", **env)

    def end(self, process: subprocess.Popen[str]) -> Ran:
        out, err = process.communicate(timeout=GENEROUS)
        assert "Traceback" not in out + err, err
        return Ran(process.returncode, out, err)

    def held(self, command: str, point: str) -> subprocess.Popen[str]:
        """The command, stopped where git is about to do ``point`` (or, `after …`, has done it)."""
        self.hold.touch()
        path = f"{self.root / 'bin'}:{os.environ['PATH']}"
        process = self.start(command, PATH=path, PYTHONPATH=str(self.root / "bin"), POINT=point)

        def reached() -> bool:
            assert process.poll() is None, f"never came to {point}: {process.communicate()}"
            return self.hold.with_name("hold.reached").exists()

        wait_until(reached, point)
        if point != "fsync":  # the gate may be faster than fixtool's way back from starting it
            wait_until_blocked(process.pid)
        return process

    def snapshot(self) -> dict[str, object]:
        """Bytes, time and inode of every file of the patches, the work trees, the home and whatever
        is in the way; what git's folders hold, without the index and objects; every status.
        fixtool's stores count by their refs and work trees; cache, locks and logs do not count."""
        shot: dict[str, object] = {}
        for folder in ("team", "trees", "home", "foreign", "checkout", "upstream"):
            base = self.seen / (self.root / folder).relative_to("/")
            for path in sorted(base.rglob("*")):
                name = f"{folder}/{path.relative_to(base)}"
                if not _COUNTS.match(name):
                    continue
                about = path.lstat()
                if path.is_symlink() or not path.is_file():
                    shot[name] = path.is_symlink() and str(path.readlink())
                else:
                    data = hashlib.sha256(path.read_bytes()).hexdigest()
                    shot[name] = (data, about.st_mtime_ns, about.st_ino)
        for git in (self.upstream, self.checkout, self.tree):
            shot[f"{git.path.name}: status"] = git("status", "--porcelain", "--branch")
        return shot

    def stale(self) -> list[str]:
        """What a run may not leave behind."""
        places = [*self.root.glob("trees/.*"), *self.patches.parent.glob(".*")]
        places += self.state.glob("worktrees/*/.*.fixtool-*")
        for known in self.state.glob("repos/*/worktrees/*"):  # the entry keeps its first name
            link = known / "gitdir"
            places += [known] if not link.exists() or "/." in link.read_text()[:-5] else []
        places += [*self.cache.glob("wheels/.new-*"), *self.root.rglob("index.lock")]
        return [str(one) for one in places if one.name != ".lock"]


def build(root: Path) -> World:
    """A whole world at ``root``."""
    world = World(root)
    for git in (world.upstream, world.checkout):
        git.path.mkdir(parents=True)
        git("init", "--quiet", "--template=", "--initial-branch=main")
    world.upstream.write(".gitattributes", "slow.txt filter=hold\n")
    project = '[project]\nname = "sglang"\ndynamic = ["version"]\n[tool.setuptools.packages.find]\n'
    world.upstream.write("python/pyproject.toml", project)
    world.upstream.write("python/sglang/__init__.py", "x = 1\n")
    first = world.upstream.commit("base", python__model_py=NUMBERS, slow_txt="slow\n")
    world.upstream("tag", "v1.0")
    world.upstream.commit("near", python__model_py=NEAR)
    world.upstream("tag", "v1.1")
    world.checkout("fetch", "--quiet", "--tags", str(world.upstream.path))
    world.checkout("reset", "--quiet", "--hard", "v1.1")
    (world.root / "bin").mkdir()
    (world.root / "trees").mkdir()
    for name in ("git", "gate"):
        (world.root / "bin" / name).write_text(GATE)
        (world.root / "bin" / name).chmod(0o755)
    (world.root / "bin" / "sitecustomize.py").write_text(SLOW_FSYNC)
    world.team.line(base=first)
    world.team.patch("fix", "fix twenty", python__model_py=FIX)
    world.team.patch(
        "more", "more", base="patch/fix", slow_txt="fast\n", python__extra__new_py="y = 1\n"
    )
    done = world.run("apply --no-build --source {up} --sglang-ref v1.0 --worktree {trees}/warm")
    assert done.status == 0, done.err
    done = world.run(
        "apply --no-build --source {up} --sglang-ref v1.1 --dry-run --json",
        FIXTOOL_CACHE_DIR=str(world.root / "other"),
    )
    assert done.status == 0, done.err
    assert [one["verdict"] for one in json.loads(done.out)["patches"]] == ["merged", "clean"]
    world.expected = json.loads(done.out)["commit"]
    shutil.rmtree(world.root / "other")
    return world


# -- arranging trouble -------------------------------------------------------------------------


def nothing(world: World) -> None:
    pass


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
    enter = ["nsenter", "-t", str(holder.pid), *(["-U"] if "-r" in how else []), "-m", "--"]
    world.prefix = [*enter, "sh", "-c", 'cd "$0" && exec "$@"', str(world.team.root)]
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
