"""Whatever fixtool prints or writes for others is free of what files and hosts put into it: on a
terminal, in the log of a job, in JSON, Markdown, JUnit XML and HTML."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from email import policy
from email.parser import BytesParser
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from markdown_it import MarkdownIt

import fixtool.commands
from fixtool import terminal
from fixtool.announce.mail import Mail
from fixtool.announce.night import Night
from fixtool.announce.tell import AsText
from fixtool.announce.text import NightlyTexts, annotate
from fixtool.announce.webhook import payload
from fixtool.errors import CannotRun, ExitCode, FixtoolError, Refused
from fixtool.git.objects import TreeEntry
from fixtool.git.repo import Repo
from fixtool.history.log import UpstreamCommit
from fixtool.replay._merge import Contents
from fixtool.replay.run import Earlier
from fixtool.report import page
from fixtool.report._inputs import Plot, Report
from fixtool.report.nights import NightsReport
from fixtool.sources.source import Source
from fixtool.text import escaped
from fixtool.upstream import _body, _figures
from fixtool.upstream._commits import ProposedBranch
from fixtool.verify import _render
from fixtool.verify.proof import prove
from fixtool.verify.result import Result
from support import report_example as make
from support.filled import Filler

TOKEN = "s3cr3t-t0ken"
TEXT = (
    "\x1b[2J\x1b]8;;http://evil.example\x07x\x1b]8;;\x07 \x9b2J \r \b\t \u202egnp.exe \u2066 \u2028 \x00 \ud800 \x7f"
    " </td><script>alert(1)</script><img src=http://evil.example> \"'> @someone #123 Closes #1 GH-7"
    " ![x](http://evil.example) [x](http://evil.example) http://evil.example ]]> --> | `y` ```"
    f" https://me:{TOKEN}@host.example/x ssh://me:{TOKEN}@host.example me:{TOKEN}@host.example:x"
    " [bold]x[/bold] {{ 7*7 }} ##[error]x\n::error::x\n  ::warning::x\n\n# head\n- item\n"
)  # fmt: skip
RAW = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
    r"|##\[|^\s*::(?!(?:error|warning|notice) title=nightly rebase)",
    re.MULTILINE,
)
_EFFECT = re.compile(r"<script|<img|href=\"http://evil|@\w|(?<!&)#\w|GH-\d|www\.|http:/")
COLOURS = re.compile(r"\x1b\[[\d;]*m")


def check_text(text: str) -> None:
    """Nothing that a terminal or the log of a job obeys is in it, and no login."""
    found = RAW.search(text)
    assert found is None, text[max(0, found.start() - 80) : found.end() + 20]
    assert TOKEN not in text


def check_markdown(text: str) -> None:
    """GitHub would find no markup, mention, reference or address of others in it."""
    check_text(text)
    shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    shown = re.sub(r"<code.*?</code>|<img src=\"\.\./[^>]*>", "", shown, flags=re.DOTALL)
    found = _EFFECT.search(shown)
    assert found is None, shown[max(0, found.start() - 80) : found.end() + 20]


class Page(HTMLParser):
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "iframe", "object", "base", "form")
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href") and tag != "a":
                assert (value or "").startswith(("data:", "#"))
            elif name == "href":
                assert re.match(r"#|data:,$|https://github\.com/", value or "")


# -- the doors ------------------------------------------------------------------------------------

DOORS: dict[str, Callable[[], object]] = {
    "say": lambda: terminal.say(TEXT),
    "command": lambda: terminal.command("::notice title=nightly rebase::" + TEXT),

    "table": lambda: terminal.table((TEXT, "b"), [(TEXT, TEXT), ("clean", TEXT)]),
    "paged": lambda: _paged(),
    "patch_text": lambda: terminal.patch_text(re.sub(f"{TOKEN}|::|##", "", TEXT)),
    "failure": lambda: [
        terminal.failure(Refused(TEXT, where=TEXT, hint=TEXT), "apply", as_json=as_json)
        for as_json in (False, True)
    ],
    "warn": lambda: terminal.warn(TEXT),
    "progress": lambda: _advance(),
    "document": lambda: print(terminal.document("apply", ExitCode.OK, {"x": TEXT})),
    "print_document": lambda: terminal.print_document(
        "apply", ExitCode.OK, {TEXT: ""}
    ),
    "fields": lambda: terminal.fields(Refused(TEXT), "message"),
}  # fmt: skip


def _paged() -> None:
    with terminal.paged(lambda _: False):
        terminal.say(TEXT)


def _advance() -> None:
    with terminal.progress(quiet=False).task(TEXT, 3) as task:
        task.advance(1)


@pytest.mark.parametrize("on_a_terminal", [False, True])
def test_every_door_of_the_terminal_escapes(
    on_a_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    functions = inspect.getmembers(terminal, inspect.isfunction)
    assert DOORS.keys() == {
        name
        for name, function in functions
        if function.__module__ == "fixtool.terminal" and not name.startswith("_")
    }
    for stream in (sys.stdout, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: on_a_terminal, raising=False)
    for name, door in DOORS.items():
        door()
        out, err = capsys.readouterr()
        assert out or err or name in ("progress", "fields"), name
        for text in (out, err):
            plain = COLOURS.sub("", text)
            if name == "progress":  # what rich itself sends to move the bar
                plain = re.sub(r"\x1b\[(?:\?25[lh]|2?K|1A|\d*;?\d*m)|\r", "", plain)
            check_text(plain)


def test_nothing_else_prints() -> None:
    """Ruff's T20 finds each `print`; this finds what else could write to a stream."""
    root = Path(fixtool.commands.__file__).parents[1]
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if re.search(
            r"sys\.(?:__)?std(?:out|err)(?:__)?(?:\.buffer)?\.write", path.read_text("utf-8")
        )
    }
    assert found == {"commands/show.py"}  # a patch as it is, to a pipe


# -- what the commands print ----------------------------------------------------------------------

HOSTILE_COMMIT = UpstreamCommit("a" * 40, TEXT, "2026-05-23T10:00:00+00:00", TEXT, 7)


def filler(turn: int) -> Filler:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make, "HOSTILE", TEXT)
        report = make.report(results=[make.result(TEXT, outcome="failed", line=TEXT)])
    result = report.results[0].result
    return Filler(TEXT, turn, {
        Result: result, Plot: Plot(TEXT, make.png(), "../" + TEXT.replace("\ud800", "\udcff").replace(TOKEN, "")), UpstreamCommit: HOSTILE_COMMIT, Repo: None, Contents: None, TreeEntry: None, Earlier: None,
        Source: SimpleNamespace(name=TEXT, url=TEXT),
        **{error: error(TEXT, where=TEXT, hint=TEXT) for error in (FixtoolError, CannotRun, Refused)},
    })  # fmt: skip


def shows() -> Iterator[Callable[..., object]]:
    """The functions of the commands that print a result. Those left out ask or run something."""
    for module in pkgutil.iter_modules(fixtool.commands.__path__):
        imported = importlib.import_module(f"fixtool.commands.{module.name}")
        for name, function in inspect.getmembers(imported, inspect.isfunction):
            if function.__module__ == imported.__name__ and re.match(
                r"_?(?:show|explain|say|echo|print|body)(?:_|$)", name
            ):
                yield function


LEFT_OUT = {
    "fixtool.commands.status.show_status",
    "fixtool.commands.show.show",
    "fixtool.commands.listing._body",
    "fixtool.commands.upstream._say_next",
}


def test_whatever_a_command_shows_is_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    printed = set()
    for turn in range(4):
        known = filler(turn)
        for function in shows():
            name = f"{function.__module__}.{function.__name__}"
            if name in LEFT_OUT:
                continue
            with suppress(typer.Exit):
                answer = function(**known.arguments(function))
                if answer is not None:
                    assert isinstance(answer, dict)
                    terminal.print_document("x", ExitCode.OK, answer)
            out, err = capsys.readouterr()
            printed |= {name} if out + err else set()
            check_text(out)
            check_text(err)
    assert len(printed) > 25


# -- what is written for others -------------------------------------------------------------------


def test_whatever_is_written_for_others_is_escaped() -> None:
    for turn in range(4):
        known = filler(turn)
        result = known.known[Result]
        matrix = prove(result)
        text = _render.junit(result, matrix)
        check_text(text)
        for element in ET.fromstring(text).iter():
            for value in (*element.attrib.values(), element.text or ""):
                check_text(value)
        check_markdown(_render.markdown(result, matrix))
        report = known.value(Report)
        text = page.html(report)
        check_text(text)
        Page().feed(text)
        check_markdown(page.markdown(report))
        nights = known.value(NightsReport)
        text = page.nights_html(nights)
        check_text(text)
        Page().feed(text)
        check_markdown(page.nights_markdown(nights))


def messages(texts: NightlyTexts) -> Iterator[str]:
    """The summary of a night, and what a webhook and a mail say."""
    night = Night((texts, texts), (TEXT,), job=None)
    yield night.summary()
    posted = payload(night)
    for value in (posted["subject"], *(line["next"] or "" for line in posted["lines"])):
        check_text(value)
    yield posted["text"]
    mail = Mail(["a@example.org"]).tell(night).message or ""
    check_text(escaped(mail))  # it is printed
    yield BytesParser(policy=policy.default).parsebytes(mail.encode()).get_content()
    yield AsText().tell(night).message or ""


def test_whatever_is_sent_to_github_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    for turn in range(4):
        known = filler(turn)
        texts = known.value(NightlyTexts)
        texts = replace(texts, owners=(), job=None)
        for text in (
            texts.pull_request(None),
            texts.issue(None),
            texts.comment(),
            texts.done(),
            texts.summary(),
            *messages(texts),
        ):
            check_markdown(text)
        for mark in annotate(texts.outcome):
            terminal.command(mark)
            printed = capsys.readouterr().out
            check_text(printed)
            assert printed.count("\n") == 1
        branch = known.value(ProposedBranch)
        check_markdown(_body._modifications(branch))
        step = known.known[Result].steps[0]
        check_markdown(" ".join(_figures._row(step)))
