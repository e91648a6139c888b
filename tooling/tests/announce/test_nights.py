"""A whole night: every line in one summary, told in each of the ways; and the nights on one page."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import policy
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from fixtool.announce.mail import check_addresses
from fixtool.announce.night import Night, find_documents, read_line, texts_of
from fixtool.announce.webhook import find_webhook
from fixtool.errors import CannotRun, UsageError
from fixtool.github import client, push
from support.json_documents import document as checked
from support.nightly import World, conflict, failure, template, world, write
from support.nightly import document as rebased
from support.nights import LINES, TIMES, spend_nights, tonight
from support.repositories import Ran, Team

Run = Callable[..., Ran]


def night_of(folder: Path, **lines: dict[str, Any] | str) -> Path:
    """The folder of a night with these documents; a text is written as it is."""
    for line, made in lines.items():
        (folder / line).mkdir(parents=True)
        if isinstance(made, str):
            (folder / line / "rebase.json").write_text(made)
        else:
            write(folder / line / "rebase.json", made)
    return folder


def read(folder: Path, owners: tuple[str, ...] = ("octocat",), *, pulls: bool = True) -> Night:
    lines = [read_line(documents) for documents in find_documents(folder)]
    return Night(texts_of(lines, owners, [""] * len(lines)), owners, pulls)


@pytest.fixture
def team_root(team: Team) -> Path:
    team.line()
    return team.root


@contextmanager
def served(status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> Iterator[Any]:
    """A server on this machine that takes messages; ``posts`` are what it got."""
    posts: list[tuple[str, str | None, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posts.append((self.path, self.headers["Content-Type"], body))
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.posts = posts  # type: ignore[attr-defined]
    server.url = f"http://127.0.0.1:{server.server_port}/hook/s3cr3t"  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


# -- the summary -------------------------------------------------------------------------------


def test_the_table_says_of_each_line_who_acts_and_what_to_type(tmp_path: Path) -> None:
    folder = night_of(
        tmp_path / "night", calm=rebased(line="calm", onto="a" * 40),
        moved=rebased(line="moved", moved=True, committed="9" * 40),
        asked=conflict(line="asked"), broken=failure(),
    )  # fmt: skip
    night = read(folder)
    assert night.subject == "Nightly rebase: 2 of 4 lines need a person: asked, broken"
    assert [(row.line, row.result.value, row.who, row.next) for row in night.rows] == [
        ("asked", "asked", ("octocat",), f"fixtool rebase --line asked --onto {'b' * 40}"),
        ("broken", "failed", ("octocat",), "fixtool rebase --line broken --onto main"),
        ("calm", "green", (), ""),
        ("moved", "green", ("octocat",), "merge its pull request"),
    ]
    summary = night.summary()
    assert "| `asked` | `aaaaaaaaaaaa` stays; `bbbbbbbbbbbb` was tried | **asked** |" in summary
    assert "| `moved` | `aaaaaaaaaaaa` → `bbbbbbbbbbbb` | green | `octocat` |" in summary
    assert "| `calm` | `aaaaaaaaaaaa`, as before | green | nobody |" in summary
    assert "| `broken` | not known | **failed** |" in summary
    assert summary.index("### The nightly rebase of line `asked`") < summary.index(
        "### Line `calm`"
    )
    assert (
        "\n\nasked: a person has to decide about a patch, or should look at a warning. " in summary
    )
    assert "failed: the rebase could not run, or was refused. " in summary
    assert "Type the commands in a clone of the patch repository.\n" in summary
    elsewhere = read(folder, (), pulls=False)
    assert elsewhere.rows[3].next == f"fixtool rebase --line moved --onto {'b' * 40}"
    assert elsewhere.rows[3].who == ("a person",)
    assert "For a line that moved, the command commits the rebase there.\n" in elsewhere.summary()


def test_a_green_night_says_so(tmp_path: Path) -> None:
    night = read(night_of(tmp_path / "night", one=rebased(line="one"), two=rebased(line="two")))
    assert night.subject == "Nightly rebase: 2 lines, and nobody is needed"
    assert not night.needs_person


def test_a_folder_without_a_night_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no night"):
        find_documents(tmp_path)


# -- the ways of telling -----------------------------------------------------------------------


@pytest.fixture
def github(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for module in (client, push):
        monkeypatch.setattr(module, "_PAUSES", (0.0, 0.0))
    with world(template(tmp_path / "made"), tmp_path / "world") as night:
        for name, value in night.env.items():
            monkeypatch.setenv(name, value)
        yield night


def test_github_hears_of_each_line_and_the_job_of_all(
    github: World, fixtool: Run, tmp_path: Path
) -> None:
    """One line's document is no document: the others are told, and the job is red."""
    moved = rebased(moved=True, committed=github.moved())
    folder = night_of(
        tmp_path / "night", main=moved, asked=conflict(line="asked"), bad='{"schema": 1}'
    )
    summary = tmp_path / "summary.md"
    words = ["announce", folder, "--push", "origin", "--owner", "octocat"]
    ran = fixtool(*words, cwd=github.root, GITHUB_STEP_SUMMARY=str(summary))
    assert ran.status == 1
    assert "not what `fixtool rebase --json` prints" in ran.err
    assert [pull["title"] for pull in github.api.pulls] == ["Rebase line main onto bbbbbbbbbbbb"]
    titles = {issue["title"] for issue in github.api.issues}
    assert titles == {f"Nightly rebase: line {line} needs a person" for line in ("asked", "bad")}
    assert summary.read_text().count("| line | base → new base |") == 1
    (folder / "bad" / "rebase.json").unlink()
    github.api.log.clear()
    answer = checked(fixtool(*words, "--json", cwd=github.root))
    assert [line["line"] for line in answer["lines"]] == ["asked", "main"]
    assert [line["issue"] and line["issue"]["action"] for line in answer["lines"]] == [
        "unchanged", None,
    ]  # fmt: skip
    assert github.api.writes == []


def test_a_line_that_cannot_be_told_does_not_stop_the_next(
    github: World, fixtool: Run, tmp_path: Path
) -> None:
    folder = night_of(
        tmp_path / "night",
        a=rebased(line="a", moved=True, committed="9" * 40),
        b=conflict(line="b"),
    )
    ran = fixtool("announce", folder, "--push", "origin", cwd=github.root)
    assert ran.status not in (0, 3)
    assert "note      telling failed: " in ran.out
    assert [issue["title"] for issue in github.api.issues] == [
        "Nightly rebase: line b needs a person"
    ]


def test_a_webhook_gets_one_post(team_root: Path, fixtool: Run, tmp_path: Path) -> None:
    folder = night_of(tmp_path / "night", a=conflict(line="a"), b=rebased(line="b"))
    words = ["announce", folder, "--by", "webhook", "--owner", "Ada Byron"]
    with served() as server:
        ran = fixtool(*words, cwd=team_root, FIXTOOL_WEBHOOK=server.url)
        assert ran.status == 3, ran.err
        ((path, kind, body),) = server.posts
        dry = fixtool(*words, "--dry-run", cwd=team_root, FIXTOOL_WEBHOOK=server.url)
        assert len(server.posts) == 1
    assert (path, kind) == ("/hook/s3cr3t", "application/json")
    posted = json.loads(body)
    assert posted["needs_person"] is True
    assert posted["subject"] == "Nightly rebase: 1 of 2 lines needs a person: a"
    assert "| `b` |" in posted["text"]
    assert posted["lines"][0] == {
        "line": "a", "result": "asked", "base": "a" * 40, "onto": "b" * 40, "moved": False,
        "who": ["Ada Byron"], "next": f"fixtool rebase --line a --onto {'b' * 40}",
    }  # fmt: skip
    assert "sent      to 127.0.0.1" in ran.out
    assert json.loads(dry.out) == posted
    assert "s3cr3t" not in ran.out + ran.err + dry.out + dry.err


@pytest.mark.parametrize(
    ("status", "headers"), [(500, ()), (302, (("Location", "http://127.0.0.1:1/x"),))]
)
def test_a_webhook_that_does_not_take_it_is_an_error(
    team_root: Path, fixtool: Run, tmp_path: Path, status: int, headers: Any
) -> None:
    """A redirect is no answer: the message would go to an address that nobody chose."""
    folder = night_of(tmp_path / "night", a=rebased(line="a"))
    with served(status, headers) as server:
        ran = fixtool("announce", folder, "--by", "webhook", cwd=team_root,
                      FIXTOOL_WEBHOOK=server.url)  # fmt: skip
        assert len(server.posts) == 1
    assert (ran.status, f"the webhook on 127.0.0.1 answered {status}" in ran.err) == (4, True)
    assert "s3cr3t" not in ran.out + ran.err


def test_a_webhook_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    night = read(night_of(tmp_path / "night", a=rebased(line="a")))
    with served() as server:
        url = server.url
    with pytest.raises(CannotRun, match=r"cannot reach the webhook on 127\.0\.0\.1: ") as caught:
        find_webhook({"FIXTOOL_WEBHOOK": url}).tell(night)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["", "http://example.org/s3cr3t", "ftp://x/s3cr3t", "https:///s3cr3t", "https://me:s3cr3t@x/y",
     "https://[s3cr3t", "https://x/s3cr3t\nX: y", "https://x:s3cr3t/"],
)  # fmt: skip
def test_an_address_that_is_not_safe_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(UsageError, match="FIXTOOL_WEBHOOK") as caught:
        find_webhook({"FIXTOOL_WEBHOOK": url})
    assert "s3cr3t" not in f"{caught.value} {caught.value.hint} {caught.value.where}"


def test_a_mail_is_in_the_form_of_rfc_5322(team_root: Path, fixtool: Run, tmp_path: Path) -> None:
    folder = night_of(tmp_path / "night", a=conflict(line="a"), b=failure("no network — really"))
    words = ["announce", folder, "--by", "mail", "--owner", "a@example.org", "--owner", "b@c.org"]
    ran = fixtool(*words, cwd=team_root)
    assert ran.status == 3, ran.err
    assert ran.out.isascii()
    assert max(map(len, ran.out.split("\n"))) <= 998
    message = BytesParser(policy=policy.default).parsebytes(ran.out.encode())
    assert message.defects == []
    assert message["To"] == "a@example.org, b@c.org"
    assert message["Subject"] == "Nightly rebase: 2 of 2 lines need a person: a, b"
    assert message["From"].addresses[0].username == "fixtool"
    assert message["Date"].datetime.tzinfo is not None
    text = message.get_content()
    assert "| `a` | `aaaaaaaaaaaa` stays" in text
    assert "no network — really" in text


@pytest.mark.parametrize("address", ["a", "a@b\nBcc: c@d", "a b@c", "<a@b>", "a@b, c@d"])
def test_what_is_no_address_gets_no_mail(address: str) -> None:
    with pytest.raises(UsageError, match="is not the address of a mail"):
        check_addresses([address])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--by", "fax"], "--by takes github, webhook, mail or print"),
        (["--by", "mail"], "a mail needs an address"),
        (["--by", "webhook"], "FIXTOOL_WEBHOOK holds no address"),
        (["--by", "print", "--push", "origin"], "only GitHub gets a pull request"),
        (["--by", "print", "--line", "a"], "the folder of a night names its lines itself"),
    ],
)
def test_options_that_do_not_fit(
    team_root: Path, fixtool: Run, tmp_path: Path, words: list[str], message: str
) -> None:
    folder = night_of(tmp_path / "night", a=rebased(line="a"))
    ran = fixtool("announce", folder, *words, cwd=team_root)
    assert (ran.status, message in ran.err) == (2, True), ran.err


# -- three nights of four lines ----------------------------------------------------------------


@pytest.fixture
def nights(team: Team, fixtool: Run, tmp_path: Path) -> Path:
    spend_nights(team, tmp_path / "nights", fixtool)
    return tmp_path / "nights"


@pytest.mark.slow(6)
def test_three_nights_of_four_lines(
    team: Team, fixtool: Run, nights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real rebases. What would be told needs no token and no network, and the page shows it all."""
    monkeypatch.setattr("socket.socket.connect", None)
    results = []
    for number, night in enumerate(TIMES):
        folder = tonight(tmp_path / f"night-{number}", nights, night)
        answer = checked(fixtool("announce", folder, "--by", "print", "--json", cwd=team.root))
        print(answer["message"])
        results.append([line["result"] for line in answer["lines"]])
        assert "# Issue: Nightly rebase: line broken needs a person" in answer["message"]
        moved = {line["line"] for line in answer["lines"] if line["moved"]}
        assert moved == {"steady", "taken", *(["router"] if number == 2 else [])}
    assert results == [
        ["failed", "asked", "green", "green"], ["failed", "asked", "green", "green"],
        ["failed", "green", "green", "green"],
    ]  # fmt: skip
    absorbed = json.loads((nights / TIMES[1] / "taken.json").read_text())
    assert [patch["action"] for patch in absorbed["patches"]] == ["dropped"]

    ran = fixtool(
        "report", "--nights", nights, "--output", tmp_path / "out", "--json", cwd=team.root
    )
    answer = checked(ran)
    assert answer["line"] is None
    (todo,) = answer["report"]["needs_person"]
    assert todo["what"] == "fixtool rebase failed"
    text = (tmp_path / "out" / "report.md").read_text()
    print(text)
    for line, letters in zip(LINES, ("FFF", "AAG", "GGG", "GGG"), strict=True):
        assert f"| `{line}` | " in text
        assert f"| `{letters}` |" in text
    assert "| `router` | `router-fix` | 2 | 2026-11-25 | solved on 2026-11-27 |" in text
    assert "| `python/other.py` | 2 | 0 | router-fix | router |" in text
    page = (tmp_path / "out" / "report.html").read_text()
    assert "+line 20 fixed" in page
    assert "broken, 3 nights: 3 failed; the newest is failed" in page


def test_only_github_needs_pygithub(team_root: Path, fixtool: Run, tmp_path: Path) -> None:
    """The others work where the extra `github` is not installed."""
    (tmp_path / "without" / "github").mkdir(parents=True)
    (tmp_path / "without" / "github" / "__init__.py").write_text("raise ImportError")
    folder = night_of(tmp_path / "night", a=rebased(line="a"))
    words = ["announce", folder, "--by", "webhook", "--dry-run"]
    env = {"PYTHONPATH": str(tmp_path / "without"), "FIXTOOL_WEBHOOK": "https://example.org/x"}
    ran = fixtool(*words, cwd=team_root, **env)
    assert (ran.status, ran.err) == (0, "")
    assert "1 line, and nobody is needed" in ran.out
    assert "PyGithub" in fixtool("announce", folder, cwd=team_root, **env).err
