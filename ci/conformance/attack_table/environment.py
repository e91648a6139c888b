"""Variables of whoever calls fixtool, one and two at once, and git's hooks."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from attack_table.place import NUMBERS, Attack, Place, Wrong
from support.command import command_line, run_process
from support.repositories import Git, Ran

_TESTS = Path(__file__).resolve().parents[3] / "tooling" / "tests" / "git" / "test_environment.py"
_spec = importlib.util.spec_from_file_location("test_environment", _TESTS)
assert _spec
assert _spec.loader
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
harmful = _module.harmful  # the sets of variables that the tests of git's environment use
# Variables of other programs than git.
OTHERS = {
    "PYTHONPATH": "{root}/none", "PYTHONSTARTUP": "{root}/program", "PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2",
    "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "7", "PYTHONIOENCODING": "ascii",
    "PYTHONUTF8": "0", "PYTHONNOUSERSITE": "1", "PYTHONSAFEPATH": "1", "PYTHONINSPECT": "", "PYTHONDEVMODE": "1",
    "PYTHONBREAKPOINT": "os.abort", "PYTHONTRACEMALLOC": "1", "PYTHONUSERBASE": "{root}/none",
    "LC_ALL": "C", "LANG": "tr_TR.UTF-8", "LANGUAGE": "de:fr", "LC_MESSAGES": "de_DE.UTF-8", "TZ": "Pacific/Kiritimati",
    "PAGER": "false", "EDITOR": "false", "VISUAL": "false", "LESS": "-R", "TERM": "dumb", "COLUMNS": "3", "LINES": "1",
    "NO_COLOR": "1", "FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "SSH_ASKPASS": "{root}/program", "BROWSER": "{root}/program",
    "XDG_CONFIG_HOME": "{root}/evil-config", "XDG_RUNTIME_DIR": "/none", "http_proxy": "http://127.0.0.1:1",
    "ALL_PROXY": "socks5://127.0.0.1:1", "CURL_HOME": "{root}/none", "BASH_ENV": "{root}/program", "ENV": "{root}/program",
    "CDPATH": "/", "IFS": "x", "POSIXLY_CORRECT": "1", "GREP_OPTIONS": "-v", "MAKEFLAGS": "-k", "LESSOPEN": "|{root}/program %s",
    "PIP_REQUIRE_VIRTUALENV": "1", "VIRTUAL_ENV": "/none", "CONDA_PREFIX": "/none", "GITHUB_ACTIONS": "true", "CI": "true",
    "TMPDIR": "{root}/none", "TEMP": "/none", "_TYPER_STANDARD_TRACEBACK": "1", "_FIXTOOL_COMPLETE": "",
    "TYPER_USE_RICH": "1", "TTY_COMPATIBLE": "1", "LD_BIND_NOW": "1",
}  # fmt: skip


def sets(place: Place) -> dict[str, dict[str, str]]:
    decoy = place.root / "out" / "decoy"
    if not decoy.exists():
        decoy.mkdir()
        git = Git(decoy)
        git("init", "--quiet", "--template=", "--initial-branch=main")
        git.commit("decoy", python__model_py="decoy\n", README_txt="decoy\n")
        git.write("python/model.py", "staged\n")
        git("add", "--all")
        (place.root / "out" / "folder").mkdir()
    found: dict[str, dict[str, str]] = harmful(Git(decoy), place.root / "out" / "folder")
    return found


def names() -> list[str]:
    """The names of the sets, which need no place."""
    with tempfile.TemporaryDirectory() as folder:
        git = Git(Path(folder))
        git("init", "--quiet", "--template=")
        git.commit("x", a_txt="x\n")
        return sorted(harmful(git, Path(folder)))


def answer(place: Place, env: Mapping[str, str], cache: str) -> object:
    """What apply says, in a process of this one, with a three-way merge in the middle."""
    ran = place.run("apply", "--no-build", "--dry-run", "--source", place.up.path, "--sglang-ref", "v1.1", "--json",
                    **{"FIXTOOL_CACHE_DIR": str(place.root / "out" / cache), **env})  # fmt: skip
    said = json.loads(ran.out)
    return said.get("commit"), [patch["verdict"] for patch in said.get("patches", [])]


def same(chosen: Callable[[Place], Mapping[str, str]]) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        wanted = answer(place, {}, "cache-0")
        if wanted[1] != ["merged", "clean"]:  # type: ignore[index]
            raise Wrong(f"without any variable: {wanted}")
        got = answer(place, chosen(place), "cache-1")
        if got != wanted:
            raise Wrong(f"the answer is {got}, not {wanted}")
        after = answer(place, {}, "cache-1")
        if after != wanted:
            raise Wrong(f"the cache was poisoned: {after}")
        return Ran(0, "the same tree", "")

    return attempt


def one(name: str) -> Callable[[Place], Ran]:
    return same(lambda place: sets(place)[name])


def several(chosen: tuple[str, ...]) -> Callable[[Place], Ran]:
    def values(place: Place) -> Mapping[str, str]:
        known = sets(place)
        return {key: value for name in chosen for key, value in known[name].items()}

    return same(values)


def other(name: str) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        place.program()
        config = place.root / "out" / "evil-config" / "git"
        config.mkdir(parents=True)
        (config / "config").write_text(
            f"[core]\n\tfsmonitor = {place.root}/program\n\thooksPath = {place.root}\n"
        )
        value = (
            OTHERS[name]
            .replace("{root}/evil-config", str(config.parent))
            .replace("{root}", str(place.root))
        )
        words = (
            "apply",
            "--no-build",
            "--dry-run",
            "--source",
            place.up.path,
            "--sglang-ref",
            "v1.1",
            "--json",
        )
        ran = place.process(*words, **{name: value})
        if ran.status:
            return ran
        said = json.loads(ran.out)
        if [patch["verdict"] for patch in said["patches"]] != ["merged", "clean"]:
            raise Wrong(f"the answer is {said['patches']}")
        return ran

    return attempt


def without(name: str) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        before = os.environ.pop(name, None)
        try:
            environment = {key: value for key, value in place.environment().items() if key != name}
            return run_process("list", cwd=place.team.root, env=environment)
        finally:
            if before is not None:
                os.environ[name] = before

    return attempt


def hook(name: str, *words: str, typed: str = "") -> Callable[[Place], Ran]:
    """fixtool in a hook of the patch repository, which git runs with variables of its own. git
    reads ``typed`` as what a person answers."""

    def attempt(place: Place) -> Ran:
        ask = command_line("apply", "--no-build", "--dry-run", "--source", place.up.path, "--sglang-ref", "v1.1",
                           "--json", "-C", place.team.root)  # fmt: skip
        log = place.root / "out" / "log"
        script = place.root / "out" / "ask"
        script.write_text(
            f"#!{sys.executable}\nimport json, os, subprocess\n"
            f"env = {{**os.environ, **{place.environment()!r}}}\n"
            f"done = subprocess.run({ask!r}, capture_output=True, env=env)\n"
            "said = json.loads(done.stdout)\n"
            f"open({str(log)!r}, 'a').write(json.dumps([said.get('commit'), [p['verdict'] for p in said.get('patches', [])]]) + '\\n')\n"
        )
        script.chmod(0o755)
        hooks = place.git.path / ".git" / "hooks"
        hooks.mkdir(exist_ok=True)
        if name != "--exec":
            (hooks / name).symlink_to(script)
        place.git.write("a.txt", "a\nb\n")
        place.git("add", "a.txt")
        place.git.write("a.txt", "c\na\nb\n")
        place.git.write("python/model.py", NUMBERS)
        place.git("add", "--intent-to-add", "python/model.py")
        wanted = answer(place, {}, "cache-0")
        given = [str(script) if word == "SCRIPT" else word for word in words]
        subprocess.run(["git", *given], cwd=place.git.path, input=typed, text=True, check=True,
                       capture_output=True, timeout=60)  # fmt: skip
        said = [json.loads(line) for line in log.read_text().split("\n") if line]
        if not said or any(tuple(line) != wanted for line in said):
            raise Wrong(f"in the hook: {said}, not {wanted}")
        return Ran(0, "the same tree", "")

    return attempt


def attacks() -> Iterator[Attack]:
    who = "caller's environment"
    known = names()
    for name in known:
        yield Attack(who, "apply", f"{name} is set", one(name), "right")
    draw = random.Random("pairs")
    pairs = draw.sample(list(itertools.combinations(known, 2)), 30)
    for pair in pairs:
        yield Attack(who, "apply", " and ".join(pair), several(pair), "right")
    yield Attack(who, "apply", "every variable at once", several(tuple(known)), "right")
    for name in OTHERS:
        yield Attack(who, "apply", f"{name} is {OTHERS[name]!r}", other(name), "held")
    for name in ("HOME", "PATH", "USER", "LANG"):
        yield Attack(who, "list", f"{name} is not set", without(name), "held")
    for name, words in {
        "pre-commit": ("commit", "--quiet", "--message", "x"),
        "prepare-commit-msg": ("commit", "--quiet", "--all", "--message", "x"),
        "commit-msg": ("commit", "--quiet", "--message", "x", "a.txt"),
        "post-commit": ("commit", "--quiet", "--only", "--message", "x", "a.txt"),
        "post-checkout": ("checkout", "--quiet", "-b", "other"),
        "reference-transaction": ("update-ref", "refs/heads/more", "HEAD"),
    }.items():  # fmt: skip
        yield Attack(
            who,
            "apply",
            f"in the hook {name} of git {words[0]} {words[2] if len(words) > 2 else ''}",
            hook(name, *words),
            "right",
        )
    for name in ("pre-commit", "commit-msg"):
        words = ("commit", "--patch", "--quiet", "--message", "x", "a.txt")
        ask = hook(name, *words, typed="y\ny\nn\n")
        yield Attack(who, "apply", f"in the hook {name} of git commit --patch", ask, "right")
