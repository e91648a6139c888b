"""Completion offers what is there, in the shells themselves, and runs nothing."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fixtool.commands.completion import SCRIPTS, answer, is_path
from fixtool.commands.verbs import VERBS, parser_of
from fixtool.series.line import PatchRepository
from support.processes import GENEROUS
from support.repositories import NUMBERS, Ran, Team

FIX = NUMBERS.replace("line 20\n", "line 20 fixed\n")


@pytest.fixture
def series(team: Team, monkeypatch: pytest.MonkeyPatch) -> Team:
    team.patch("fix-twenty", "fix twenty", python__model_py=FIX)
    team.line("v2.0")
    team.add("other", b"x", "v2.0")
    shelf = team.root / "patches/main/shelf"
    shelf.mkdir()
    (shelf / "old-one.patch").write_text("x")
    monkeypatch.chdir(team.root)
    return team


def offered(line: str) -> list[str]:
    kind, *names = answer("zsh", line).split("\n")
    names = [name.partition("\t")[0] for name in names]
    return names if kind == "names" else [kind, *names]


LINES = [
    ("fixtool sh", ["show"]),
    ("fixtool -", ["-C", "--version", "--help", "--install-completion", "--show-completion"]),
    ("fixtool --show-completion ", ["bash", "zsh", "fish"]),
    ("fixtool -C ", ["folders"]),
    ("fixtool show ", ["fix-twenty", "other"]),
    ("fixtool show fi", ["fix-twenty"]),
    ("fixtool show 'fi", ["fix-twenty"]),
    ("fixtool show --line v2.0 ", ["other"]),
    ("fixtool show --line=main ", ["fix-twenty"]),
    ("FOO=1 /usr/bin/fixtool show fi", ["fix-twenty"]),
    ("fixtool deps fix-twenty ", ["other"]),
    ("fixtool list --line ", ["main", "v2.0"]),
    ("fixtool list --line=v", ["--line=v2.0"]),
    ("fixtool split other --by ", ["file", "folder"]),
    ("fixtool announce --by ma", ["mail"]),
    ("fixtool apply --source ", ["folders", "git", "pypi"]),
    ("fixtool apply --worktree ", ["folders"]),
    ("fixtool import ", ["files"]),
    ("fixtool lint --dr", ["--drift"]),
    ("fixtool lint --drift --dr", []),
    ("fixtool apply --without fix-twenty --wi", ["--without"]),
    ("fixtool nope ", []),
    ("", list(VERBS)),
]


@pytest.mark.parametrize(("line", "names"), LINES, ids=[line[0] for line in LINES])
def test_what_may_stand_at_the_cursor(series: Team, line: str, names: list[str]) -> None:
    assert offered(line) == names


def test_the_refs_that_are_known_without_a_network(
    series: Team, fixtool: Callable[..., Ran]
) -> None:
    """Those of a clone; those of a remote, as they were last seen; and imported releases."""
    clone = series.upstream.path
    assert "v1.0" in offered(f"fixtool apply --source {clone} --ref v")
    url = f"file://{clone}"
    assert offered(f"fixtool apply --source {url} --ref v") == []
    words = ("--source", url, "--line", "main", "--ref", "v1.0", "--dry-run")
    assert fixtool("apply", *words, cwd=series.root).status == 0
    shutil.move(clone, clone.with_name("away"))
    assert offered(f"fixtool apply --source {url} --ref v") == ["v1.0"]
    assert offered(f"fixtool history --source {url} --releases v1.0..") == ["v1.0..v1.0"]


def test_what_a_verb_takes_is_known_to_completion() -> None:
    """A new metavar has to be something that completion knows, or a text that only a person has."""
    known = {"SLUG", "REF", "LINE", "A..B"}
    free = {"NAME", "TEXT", "WHY", "N", "M", "AGE", "JOBS", "PORT", "LABEL", "BRANCH", "REMOTE", "URL", "DATE",
            "RELEASE", "SUBJECT", "OWNER[/NAME", "'NAME <MAIL>'", "NAME=PATH[,PATH", "SLUG=COMMIT", "PATH[:N"}  # fmt: skip
    unknown = {
        (verb, parameter.opts[0], parameter.metavar)
        for verb in VERBS
        for parameter in parser_of(verb).params
        if not getattr(parameter, "is_flag", False)
        and parameter.metavar
        and (kind := (parameter.metavar or "").strip("[].")) not in known | free
        and not is_path(parameter)
        and not re.fullmatch(r"[a-z]+(\|[a-z]+)+", kind)
    }
    assert unknown == set()


def test_completion_reads_names_as_the_rest_of_fixtool_does(series: Team) -> None:
    (series.root / "patches/main/series").write_text(
        "# a comment\n\nfix-twenty.patch # why\n  two.patch -p1\n#three.patch\n"
    )
    repository = PatchRepository.find(series.root)
    assert offered("fixtool list --line ") == list(repository.line_names)
    slugs = [entry.slug for entry in repository.line("main").entries]
    assert offered("fixtool show --line main ") == slugs


@pytest.fixture
def hostile(series: Team, tmp_path: Path) -> Path:
    """A patch repository of a stranger's, which would run something where it can."""
    mark = f"touch {tmp_path / 'ran'}"
    git = series.track()
    for key in ("core.fsmonitor", "core.pager", "core.hooksPath", "alias.for-each-ref"):
        git("config", key, f"!{mark}")
    for name in (f"$({mark.replace('/', '%')})", f"`{mark[:5]}`", "a;b", "a b", "-x", "a&b", "é"):
        folder = series.root / "patches" / name
        folder.mkdir()
        (folder / "series").write_text("x$(id).patch\n;id.patch\n")
    (series.root / "pyproject.toml").write_text(f'[tool.fixtool]\nsource = "{series.root}"\n')
    git("tag", "v9.$(id)")
    git("tag", "v9.plain")
    for name in ("fixtool", "git", "sitecustomize.py", "fixtool.py"):
        (series.root / name).write_text(f"#!/bin/sh\n{mark}\n")
        (series.root / name).chmod(0o755)
    return series.root


def test_a_strangers_repository_runs_nothing_and_offers_no_command(
    hostile: Path, home: Path, tmp_path: Path
) -> None:
    for line in ("fixtool list --line ", "fixtool show ", "fixtool apply --ref ", "fixtool sh"):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "fixtool"], cwd=hostile, capture_output=True, text=True,
            env={**os.environ, "_FIXTOOL_COMPLETE": "bash", "_FIXTOOL_LINE": line}, check=True,
        )  # fmt: skip
        assert done.stderr == ""
        assert re.fullmatch(r"[\w.+/@%,:=^~\n-]+", done.stdout, re.ASCII)
    assert not (tmp_path / "ran").exists()
    assert "v9.plain" in offered("fixtool apply --ref v9")


@pytest.mark.parametrize(
    "damage",
    [
        lambda root: (root / "patches/main/series").write_bytes(b"\xff\xfe\x00"),
        lambda root: (root / "patches/main/upstream.toml").write_text("["),
        lambda root: (root / "pyproject.toml").write_text("[tool.fixtool]\nx = 1\n"),
        lambda root: (
            (root / "patches/main/series").unlink(),
            os.mkfifo(root / "patches/main/series"),
        ),
        lambda root: shutil.rmtree(root / "patches"),
    ],
)
def test_completion_prints_no_error(
    series: Team, fixtool: Callable[..., Ran], damage: Callable[[Path], object]
) -> None:
    damage(series.root)
    for line in ("fixtool show ", "fixtool apply --ref ", "fixtool apply --source /nope --ref x"):
        ran = fixtool(cwd=series.root, _FIXTOOL_COMPLETE="fish", _FIXTOOL_LINE=line)
        assert (ran.status, ran.err) == (0, "")
        assert "error" not in ran.out


# -- in the shells themselves ---------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH with fixtool."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "fixtool"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m fixtool "$@"\n')
    script.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


STARTS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "PS1='>'; bind 'set bell-style none'"),
    "zsh": (["zsh", "-f", "-i"], "PS1='>'; autoload -Uz compinit; compinit -u -D"),
}


class Terminal:
    """An interactive shell, in which a person types."""

    def __init__(self, shell: str, script: Path, path: str) -> None:
        command, setup = STARTS[shell]
        self._read, write = pty.openpty()
        self._process = subprocess.Popen(
            command, stdin=write, stdout=write, stderr=write, start_new_session=True,
            env={**os.environ, "PATH": path, "TERM": "dumb"},
        )  # fmt: skip
        os.close(write)
        self.type(f"{setup}; source {script}; echo READY\n", "\nREADY")

    def type(self, text: str, until: str) -> str:
        """What the terminal shows after ``text`` was typed, until it shows ``until``."""
        os.write(self._read, text.encode())
        shown, end = "", time.monotonic() + GENEROUS
        while until not in shown.replace("\r", ""):
            assert time.monotonic() < end, shown
            if select.select([self._read], [], [], 1)[0]:
                shown += os.read(self._read, 65536).decode("utf-8", "replace")
        return shown.replace("\r", "")

    def complete(self, line: str, whole: str) -> str:
        """The command line that becomes of ``line`` by the tab key, which should be ``whole``."""
        self.type(f"{line}\t", whole)
        shown = self.type("\x01echo '<\x05>'\n", ">\n")
        return re.findall(r"^<(.*)>$", shown, re.M)[-1]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._read)


@pytest.fixture(params=sorted(STARTS))
def terminal(
    request: pytest.FixtureRequest, series: Team, path: str, tmp_path: Path
) -> Iterator[Terminal]:
    if shutil.which(request.param) is None:
        pytest.skip(f"there is no {request.param} here")
    script = tmp_path / "script"
    script.write_text(SCRIPTS[request.param])
    terminal = Terminal(request.param, script, path)
    yield terminal
    terminal.close()


def test_the_tab_key(terminal: Terminal, series: Team) -> None:
    (series.root / "notes.txt").write_text("x")
    for line, whole in (
        ("fixtool sho", "fixtool show "),
        ("fixtool show fi", "fixtool show fix-twenty "),
        ("fixtool list --line=v", "fixtool list --line=v2.0 "),
        ("fixtool import no", "fixtool import notes.txt "),
    ):
        assert terminal.complete(line, whole).rstrip() == whole.rstrip()


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish here")
def test_the_tab_key_in_fish(series: Team, path: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(SCRIPTS["fish"])
    (series.root / "notes.txt").write_text("x")
    asked = ("fixtool sho", "fixtool show fi", "fixtool list --line=v", "fixtool import no")
    commands = "; ".join(f"complete -C '{line}'" for line in asked)
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source {script}; {commands}"], capture_output=True,
        text=True, check=True, env={**os.environ, "PATH": path}, timeout=GENEROUS,
    )  # fmt: skip
    assert done.stderr == ""
    names = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert names == ["show", "fix-twenty", "--line=v2.0", "notes.txt"]


@pytest.mark.parametrize("shell", sorted(SCRIPTS))
def test_the_script_is_shown_and_installed(
    fixtool: Callable[..., Ran], home: Path, shell: str
) -> None:
    assert fixtool("--show-completion", shell).out == SCRIPTS[shell]
    for _ in range(2):
        ran = fixtool("--install-completion", shell)
        assert (ran.status, ran.err) == (0, "")
    written = re.findall(r"^wrote (.*)$", ran.out, re.M)
    assert Path(written[0]).read_text() == SCRIPTS[shell]
    for start in written[1:]:
        assert len(Path(start).read_text().splitlines()) == 1


def test_a_shell_without_completion(fixtool: Callable[..., Ran]) -> None:
    ran = fixtool("--show-completion", "tcsh")
    assert ran.status == 2
    assert ran.err.endswith("  try: fixtool --show-completion bash\n")
