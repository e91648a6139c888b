"""The picture as text: every verdict, every size, and texts that mean harm."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import itertools
import json
import os
import re
import shlex
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from fixtool import documents
from fixtool.errors import FixtoolError, Refused, UsageError
from fixtool.history.result import HistoryDocument, PatchHistory
from fixtool.replay.verdict import Verdict
from fixtool.report import page
from fixtool.report._files import write_together
from fixtool.report._inputs import Report
from fixtool.report._timeline import VERDICTS, letters, timeline
from fixtool.report.todo import find_todos
from support import report_example as make
from support.html import Node, Strict
from support.json_documents import validate
from support.repositories import Ran, Team

Run = Callable[..., Ran]
CSS = (importlib.resources.files("fixtool.report") / "templates/report.css").read_text("utf-8")


def checked(about: Report) -> Node:
    """The page, after all that holds of any page was looked at."""
    return checked_text(page.html(about))


def checked_text(text: str) -> Node:
    text.encode()
    assert text.startswith("<!doctype html>")
    root = Strict(text).root
    nodes = list(root.all())
    ids = [node.attributes["id"] for node in nodes if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    for node in nodes:
        names = set(node.attributes)
        assert not {name for name in names if name.startswith("on") or name in ("style", "srcset")}
        assert node.tag not in ("script", "iframe", "object", "base", "form")
        for name in ("aria-labelledby", "aria-describedby"):
            assert set(node.attributes.get(name, "").split()) <= set(ids)
        if href := node.attributes.get("href"):
            inside = href.startswith("#") and href[1:] in ids
            assert (
                inside
                or href == "data:,"
                or re.fullmatch(re.escape(make.WEB) + r"(/commit/[0-9a-f]{40}|/pull/\d+)?", href)
            ), href
        if node.tag == "a":
            assert node.words.strip()
            assert not list(node.all("a"))
        if node.tag == "img":
            assert node.attributes["alt"]
            assert node.attributes["src"].startswith("data:image/png;base64,")
        if node.tag == "table":
            assert len(list(node.all("caption"))) == 1
            heads = list(next(node.all("thead")).all("th"))
            for row in next(node.all("tbody")).children:
                cells = [int(cell.attributes.get("colspan", "1")) for cell in row.children]
                assert sum(cells) == len(heads)
        if node.tag == "th":
            assert node.attributes["scope"] in ("col", "row", "rowgroup")
        if node.tag == "section":
            assert node.attributes["aria-labelledby"]
    assert [len(list(root.all(tag))) for tag in ("main", "header", "footer", "nav", "h1")] == [
        1
    ] * 5
    levels = [int(node.tag[1]) for node in nodes if re.fullmatch(r"h\d", node.tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    body = next(root.all("body"))
    assert body.children[0].attributes == {"class": "skip", "href": "#now"}
    sections = [section.attributes["id"] for section in root.all("section")]
    assert sections[0] == "now"
    policy = next(node for node in nodes if node.attributes.get("http-equiv"))
    style = next(root.all("style")).words
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.attributes["content"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    assert not re.search(r"url\(|@import|expression", style)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    return root


def written(about: Report) -> str:
    """The Markdown, after all that holds of any was looked at, as a forge reads it."""
    return written_text(page.markdown(about))


def written_text(text: str) -> str:
    text.encode()
    reader = MarkdownIt("commonmark").enable("table")
    outside = []
    for token in reader.parse(text):
        assert token.type not in ("html_block", "fence", "code_block"), token.content
        for child in token.children or ():
            assert child.type != "html_inline", child.content
            if child.type == "link_open":
                assert str(child.attrs["href"]).startswith(make.WEB + "/commit/"), child.attrs
            if child.type == "text":
                outside.append(child.content)
    words = "\n".join(outside)
    for linked in (r"@\w", r"#\w", r"GH-\d", r"://", r"www\.\w"):
        assert not re.search(linked, words, re.IGNORECASE), linked
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    tables = re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(widths) == 1, table
    assert all(row.endswith("|") for row in text.splitlines() if row.startswith("|"))
    return text


def both(about: Report) -> tuple[Node, str]:
    return checked(about), written(about)


def patches(about: Report) -> tuple[PatchHistory, ...]:
    assert isinstance(about.history, HistoryDocument)
    assert about.history.history is not None
    return about.history.history.patches


def test_every_verdict_is_drawn_named_and_explained() -> None:
    assert set(VERDICTS) == set(Verdict)
    assert len({letter for letter, _ in VERDICTS.values()}) == len(Verdict)
    about = make.report(make.every_verdict(), plot="kernel.png", results=[make.result()])
    root, text = both(about)
    classes = {name for node in root.all() for name in node.attributes.get("class", "").split()}
    for verdict, (letter, meaning) in VERDICTS.items():
        assert f"v-{verdict}" in classes
        assert f".v-{verdict} {{" in CSS
        assert f"`{letter}` {verdict}: {meaning}" in text
    segments = [link for link in root.all("a") if "seg" in link.attributes.get("class", "").split()]
    assert len(segments) == 60
    for segment in segments:
        assert re.search(r"\d+ commits?, 2026-\d\d-\d\d to 2026-\d\d-\d\d", segment.words)


@pytest.mark.parametrize("patches", [0, 1, 20])
@pytest.mark.parametrize("commits", [1, 2, 849])
def test_any_size(patches: int, commits: int) -> None:
    runs = (("clean", commits),) if commits < 3 else (("clean", 400), ("merged", commits - 400))
    document = make.history(*(make.patch(f"p{n}", *runs) for n in range(patches)))
    root, text = both(make.report(document))
    assert "Nothing needs a person" in root.words
    assert "**Nothing needs a person.**" in text


def test_a_verdict_that_changes_at_every_commit_scrolls_within_itself() -> None:
    flips = [("clean", 1), ("conflict", 1)] * 424 + [("clean", 1)]
    about = make.report(
        make.history(make.patch("flips", *flips), make.patch("calm", ("clean", 849)))
    )
    root, _ = both(about)
    assert len([link for link in root.all("a") if "seg" in link.attributes.get("class", "")]) == 850
    drawn = timeline(patches(about))
    assert drawn is not None
    assert drawn.wide


def test_nothing_at_hand_is_a_page_as_well() -> None:
    for document in (None, make.history()):
        root, _ = both(make.report(document, url=None))
        assert "Nothing needs a person" in root.words


def test_releases_alone() -> None:
    whole = make.every_verdict()
    document = make.history(start=None, end=None, releases=whole["releases"])
    root, text = both(make.report(document))
    assert "No history is at hand" in root.words
    assert "| `patch-0-clean` | clean | conflict |" in text


def test_one_commit_is_one_place_in_every_band() -> None:
    runs = make.history(
        make.patch("a", ("clean", 1), ("offset", 848)),
        make.patch("b", ("clean", 1), ("conflict", 400), ("merged", 448)),
    )
    about = make.report(runs)
    drawn = timeline(patches(about))
    assert drawn is not None
    places = [[segment.place for segment in segments] for _, segments in drawn.bands]
    assert places == [["c1-2", "c2-4"], ["c1-2", "c2-3", "c3-4"]]
    widths = [float(width) for width in re.findall(r"([\d.]+)fr", drawn.css[0])]
    assert sum(widths) == pytest.approx(100, abs=0.01)
    assert widths[0] > 1.4  # one commit of 849, and still to be seen
    assert [letters(patch) for patch in patches(about)] == [
        "O" * 32, "X" * 15 + "M" * 17,
    ]  # fmt: skip


def test_the_coverage_is_a_band_for_each_patch() -> None:
    document = make.coverage()
    about = make.report(None, coverage_json=document)
    root, text = both(about)
    bands = [node for node in root.all("ol") if node.attributes.get("class") == "band"]
    assert [band.attributes["aria-label"] for band in bands] == [
        "The chosen lines", "one on each commit", "two on each commit",
    ]  # fmt: skip
    tips = [
        [node for node in band.all("span") if node.attributes.get("class") == "tip"]
        for band in bands
    ]
    spoken = [[[part.words for part in tip.children] for tip in band] for band in tips]
    days = "2026-05-23 to 2026-05-23"
    assert spoken == [
        [[f"main, 3 commits, {days}"], [f"late, 1 commit, {days}"]],
        [[f"clean, 3 commits, {days}", "line main"],
         [f"not in the line, 1 commit, {days}", "line late"]],
        [[f"offset, 3 commits, {days}", "line main"],
         [f"absorbed (000000000000), 1 commit, {days}", "line late",
          f"{make.commit(3)['sha'][:9]} Change number 3 (#20003), Author 3"]],
    ]  # fmt: skip
    rows = [row for row in root.all("tr") if row.attributes.get("id", "").startswith("cover-")]
    assert [row.attributes["id"] for row in rows] == ["cover-0", "cover-1"]
    assert "| clean | offset |" in text
    assert "| not in the line | absorbed (000000000000) |" in text
    assert find_todos(about) == ()


def test_the_coverage_of_releases_says_what_is_missing() -> None:
    patches = [make.covered_patch("one", "conflict")]
    lost = {"ref": "0.5.14", "reason": "no network", "hint": None}
    document = make.coverage_of_releases(
        ("0.5.12", "main", [make.covered_patch("one", "clean")]), ("0.5.13", "main", patches),
        missing=[lost],
    )  # fmt: skip
    about = make.report(None, coverage_json=document)
    root, text = both(about)
    assert "0.5.14: no network" in root.words
    assert "0\\.5.14 could not be judged: no network" in text  # a line that begins so is no list
    assert "Looked at: the coverage of 2 releases." in text
    act, look = find_todos(about)
    assert (act.act, act.what) == (True, "No line covers 1 release of 2")
    assert act.why == "On 0.5.13, line main was chosen. one: conflict."
    assert act.next == "fixtool apply --ref 0.5.13 --source pypi --dry-run --verbose"
    assert (look.act, look.next) == (False, "fixtool coverage --releases 0.5.14..0.5.14")


def test_a_patch_of_another_line_is_drawn_by_its_verdict() -> None:
    patches = [make.covered_patch("one", "absorbed", "0.5.13", in_line=False)]
    root, text = both(make.report(None, coverage_json=make.coverage(("late", 2, patches))))
    (segment,) = (
        node for node in root.all("a") if "v-absorbed" in node.attributes.get("class", "")
    )
    assert segment.words.endswith("line late, which does not have the patch")
    assert "| late | absorbed (0\\.5.13) |" in text  # a text that begins so may be a list


def test_a_needed_patch_that_the_line_lacks_is_for_a_person() -> None:
    document = make.coverage()
    document["refs"][1]["lacks"] = ["one"]
    about = make.report(None, coverage_json=document)
    root, text = both(about)
    (segment,) = (node for node in root.all("a") if "lacking" in node.attributes.get("class", ""))
    assert "lacking, 1 commit" in segment.words
    assert "| lacking | absorbed (000000000000) |" in text
    (todo,) = find_todos(about)
    assert todo.what == "No line covers 1 commit of 4"
    assert todo.why.endswith("line late was chosen. one is needed, and the line lacks it.")


def test_a_coverage_of_many_runs_and_of_nothing() -> None:
    root, _ = both(make.report(make.every_verdict(), coverage_json=make.every_standing()))
    assert any("wide-bands" in node.attributes.get("class", "") for node in root.all("div"))
    rows = [row for row in root.all("tr") if row.attributes.get("id", "").startswith("cover-")]
    assert len(rows) == 600
    nothing = {**make.coverage(), "refs": [], "total": 0}
    both(make.report(None, coverage_json=nothing))
    failed = {"schema": 1, "command": "coverage", "ok": False, "exit_code": 4, "error": {
        "message": "no network", "where": None, "hint": "try again"}}  # fmt: skip
    (todo,) = find_todos(make.report(None, coverage_json=failed))
    assert todo.what == "fixtool coverage failed"


@pytest.mark.parametrize(("lines", "days"), [(0, 1), (1, 1), (4, 3), (7, 60)])
@pytest.mark.parametrize("text", ["", make.HOSTILE])
def test_all_lines_over_the_nights(lines: int, days: int, text: str) -> None:
    nights = make.nights(lines, days, text)
    root = checked_text(page.nights_html(nights))
    strips = [svg for svg in root.all("svg") if svg.attributes.get("class") == "strip"]
    assert [len(list(strip.all("g"))) for strip in strips] == [days] * lines
    for strip in strips:
        assert strip.attributes["role"] == "img"
        assert re.search(
            r", \d+ nights?: \d+ \w+.*; the newest is \w+$", strip.attributes["aria-label"]
        )
    assert len(list(root.all("details"))) == lines
    written_text(page.nights_markdown(nights))


def test_hostile_text_is_text() -> None:
    root, _ = both(make.hostile())
    assert root.words.count("<script>alert(1)</script>") > 20
    assert "7*7" in root.words
    for todo in find_todos(make.hostile()):
        assert "curl" not in (todo.next or "")
        words = shlex.split(todo.next or "fixtool")
        assert words[0] == "fixtool"


@pytest.mark.parametrize(
    ("url", "web"),
    [
        (make.URL, make.WEB),
        ("https://user:secret@github.com/a/b", "https://github.com/a/b"),
        ("https://github.example.org/a/b.git", "https://github.example.org/a/b"),
        ("https://code.github.example.org/a/b/", "https://code.github.example.org/a/b"),
        ("http://github.com/a/b", None),
        ("git@github.com:a/b.git", None),
        ("https://evilgithub.com/a/b", None),
        ("https://gitlab.com/a/b", None),
        ("https://github.com/a/b/c", None),
        ('https://github.com/a/b"onload', None),
        ("https://github.com/a/..", None),
        ("javascript:alert(1)", None),
        (None, None),
    ],
)
def test_only_a_forge_that_is_known_is_linked(url: str | None, web: str | None) -> None:
    assert page.web(url) == web


# -- what needs a person -------------------------------------------------------------------


def test_a_conflict_is_for_a_person_once() -> None:
    document = make.history(
        make.patch("good", ("clean", 100)),
        make.patch("bad", ("clean", 90), ("conflict", 10)),
        make.patch("behind", ("clean", 90), ("blocked", 10)),
        make.patch("gone", ("clean", 50), ("superseded", 50)),
    )
    (todo,) = find_todos(make.report(document))
    assert (todo.act, todo.patch) == (True, "bad")
    assert todo.why == "It has not applied for the last 10 commits. Waiting behind it: behind."
    assert todo.next == f"fixtool rebase --line main --onto {document['end']}"
    assert todo.culprit is not None
    assert todo.culprit.subject == "Change number 90 (#20090)"
    stopped = make.rebase(("good", "clean", "kept"), ("bad", "conflict", "asked"),
                          ("behind", "blocked", "asked"), session=make.session("bad"))  # fmt: skip
    assert [
        todo.next for todo in find_todos(make.report(document, stopped)) if todo.patch == "bad"
    ] == ["fixtool rebase --continue"]


def test_a_rebase_that_went_as_far_speaks_for_its_patches() -> None:
    document = make.history(make.patch("bad", ("clean", 90), ("conflict", 10)))
    resolved = make.rebase(("bad", "merged", "rewritten"))
    assert find_todos(make.report(document, resolved)) == ()
    elsewhere = {**resolved, "onto": make.commit(7)["sha"]}
    assert [todo.patch for todo in find_todos(make.report(document, elsewhere))] == ["bad"]


def test_what_is_to_be_looked_at_comes_after_what_is_to_be_done() -> None:
    document = make.history(
        make.patch("back", ("absorbed", 9), ("reverted", 1)),
        make.patch("idle", ("clean", 9), ("not-needed", 1)),
        make.patch("bad", ("clean", 9), ("conflict", 1)),
    )
    todos = find_todos(make.report(document, make.rebase(warnings=["a symbol is lost"])))
    assert [(todo.act, todo.patch) for todo in todos] == [
        (True, "bad"), (False, None), (False, "back"), (False, "idle"),
    ]  # fmt: skip
    assert all(todo.next for todo in todos)


def test_what_could_not_answer_is_for_a_person() -> None:
    failed = {"schema": 1, "command": "history", "ok": False, "exit_code": 4, "error": {
        "message": "no network", "where": "github.com", "hint": "try again"}}  # fmt: skip
    about = make.report(failed)
    (todo,) = find_todos(about)
    assert todo.why == "no network (github.com); try: try again"
    both(about)
    # The nightly job runs in a work tree that is gone when somebody reads this.
    failed["error"]["hint"] = "fixtool -C '/tmp/my tree' history --line a --json --source PATH"  # type: ignore[index]
    (todo,) = find_todos(make.report(failed))
    assert todo.why.endswith("; try: fixtool history --line a --source PATH")


def test_a_step_that_failed_is_for_a_person() -> None:
    about = make.report(make.history(), None, [make.result(outcome="failed"), make.result()])
    root, text = both(about)
    assert [todo.act for todo in find_todos(about)] == [True]
    assert "2 steps of 5 went wrong in 0.json" in root.words
    assert "The patches have changed since." in text
    assert "1 of 1 mutants killed" in text


# -- colours -------------------------------------------------------------------------------


def themes() -> dict[str, dict[str, str]]:
    light, dark = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)[:2]
    colours = {}
    for name, text in (("light", light), ("dark", dark)):
        colours[name] = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6,8});", text))
    assert colours["light"].keys() == colours["dark"].keys()
    return colours


def contrast(first: str, second: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_contrast_is_enough(theme: str) -> None:
    colours = themes()[theme]
    pairs = [(text, on) for text in ("text", "muted", "link") for on in ("bg", "card", "code")]
    pairs += [(name, f"{name}-bg") for name in ("act", "look", "ok")] + [("tip-text", "tip")]
    pairs += [("text", "look-bg"), ("muted", "look-bg"), ("link", "look-bg")]
    pairs += [("v-ink", f"v-{verdict}") for verdict in Verdict]
    poor = {pair: round(contrast(colours[pair[0]], colours[pair[1]]), 2) for pair in pairs}
    assert {pair: ratio for pair, ratio in poor.items() if ratio < 4.5} == {}  # WCAG 1.4.3
    shapes = [*(f"v-{verdict}" for verdict in Verdict), "ring", "act", "look", "ok"]
    poor = {
        (shape, "card"): round(contrast(colours[shape], colours["card"]), 2) for shape in shapes
    }
    assert {pair: ratio for pair, ratio in poor.items() if ratio < 3} == {}  # WCAG 1.4.11


def test_each_verdict_but_the_best_has_a_pattern_of_its_own() -> None:
    patterns = dict(re.findall(r"\.v-([\w-]+) \{ --fill: [^;]+;(?: --weft: (.*?);)? \}", CSS))
    assert set(patterns) == set(Verdict)
    assert len(set(patterns.values())) == len(patterns)


# -- documents from elsewhere --------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"1" * 5000])
def test_what_is_not_json_is_refused(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "h.json"
    path.write_bytes(raw)
    with pytest.raises(Refused, match="is not JSON"):
        documents.load(path)
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(UsageError, match="no such file"):
            documents.load(missing)


# -- the command ---------------------------------------------------------------------------


@pytest.fixture
def team_folder(team: Team) -> Path:
    """A patch repository with a document beside it, a result and a plot."""
    results = team.root / "verify" / "results"
    results.mkdir(parents=True)
    (results / "2026-11-23-cpu-main.json").write_text(json.dumps(make.result()))
    newer = {**make.result(outcome="failed"), "started": "2026-11-24T10:00:00Z"}
    (results / "2026-11-24-cpu-main.json").write_text(json.dumps(newer))
    (results / "2026-11-24-cpu-other.json").write_text(json.dumps(make.result(line="other")))
    (results / "bench.json").write_text('{"device": "H100", "points": []}')
    (results / "kernel plot.png").write_bytes(make.png())
    (team.root / "h.json").write_text(
        json.dumps(make.history(make.patch("one", ("clean", 2), ("conflict", 1))))
    )
    return team.root


def test_report_writes_both_and_says_where(fixtool: Run, team_folder: Path) -> None:
    ran = fixtool("report", "--history", "h.json", cwd=team_folder)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith(
        "html      fixtool-report/report.html\nmarkdown  fixtool-report/report.md\n"
        "to do     one does not apply any more\nnext      fixtool rebase --line main --onto "
    )
    folder = team_folder / "fixtool-report"
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.md"]
    root = Strict((folder / "report.html").read_text("utf-8")).root
    assert "2026-11-24-cpu-main.json" in root.words
    assert "2026-11-23-cpu-main.json" not in root.words  # an older one of the same kinds
    assert [image.attributes["width"] for image in root.all("img")] == ["40"]
    text = (folder / "report.md").read_text("utf-8")
    (link,) = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert (folder / link.replace("%20", " ")).is_file()


def test_a_run_of_one_check_hides_no_other(fixtool: Run, team_folder: Path) -> None:
    """A step that failed once and passed since is shown as passed."""
    results = team_folder / "verify" / "results"
    older = json.loads((results / "2026-11-24-cpu-main.json").read_text())
    wrong = next(step for step in older["steps"] if step["outcome"] == "failed")
    right = {**wrong, "outcome": "passed", "said": "better now"}
    later = {**older, "started": "2026-11-25T10:00:00Z", "steps": [right]}
    (results / "2026-11-25-cpu-main.json").write_text(json.dumps(later))
    assert fixtool("report", "--history", "h.json", cwd=team_folder).status == 0
    text = (team_folder / "fixtool-report/report.md").read_text("utf-8")
    assert "2026-11-25: checks, ok" in text
    assert "better now" in text
    assert "2026-11-24: prove and mutants, not ok" in text
    assert "1 step of 4 went wrong" in text
    assert "What is known: mutant 1: said" in text


def test_report_with_a_coverage(fixtool: Run, team_folder: Path) -> None:
    (team_folder / "c.json").write_text(json.dumps(make.coverage()))
    ran = fixtool("report", "--history", "h.json", "--coverage", "c.json", cwd=team_folder)
    assert (ran.status, ran.err) == (0, "")
    root = Strict((team_folder / "fixtool-report" / "report.html").read_text("utf-8")).root
    assert "coverage" in [node.attributes.get("id") for node in root.all("section")]
    (team_folder / "c.json").write_text(json.dumps({**make.coverage(), "total": "four"}))
    ran = fixtool("report", "--history", "h.json", "--coverage", "c.json", cwd=team_folder)
    assert ran.status == 1
    assert "total is 'four', not a whole number" in ran.err
    assert "c.json" in ran.err


def test_report_as_json(fixtool: Run, team_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "deep"
    ran = fixtool(
        "report", "--history", team_folder / "h.json", "--line", "main", "--output", out, "--json",
        "-C", team_folder,
    )  # fmt: skip
    answer = json.loads(ran.out)
    validate(answer)
    assert answer["report"]["html"] == str(out / "report.html")
    assert [todo["patch"] for todo in answer["report"]["needs_person"]] == ["one", None]


def test_report_without_a_document_looks_at_upstream(
    fixtool: Run, team_folder: Path, team: Team
) -> None:
    ran = fixtool("report", "--source", team.upstream.path, cwd=team_folder)
    assert ran.status == 0, ran.err
    text = (team_folder / "fixtool-report/report.md").read_text("utf-8")
    assert "Looked at: 1 upstream commit, 1 kept verify result." in text


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--history", "none.json"], 2),
        (["--history", "verify/results/bench.json"], 1),
        (["--history", "verify/results/kernel plot.png"], 1),
        (["--history", "h.json", "--rebase", "h.json"], 1),
        (["--history", "h.json", "--coverage", "h.json"], 1),
        (["--history", "h.json", "--coverage", "none.json"], 2),
        (["--history", "h.json", "--line", "other"], 2),
        (["--history", "h.json", "--results", "none"], 2),
        (["--history", "h.json", "--plot", "none.png"], 2),
        (["--history", "h.json", "--plot", "h.json"], 1),
    ],
)
def test_report_refuses(fixtool: Run, team_folder: Path, words: list[str], status: int) -> None:
    ran = fixtool("report", *words, cwd=team_folder)
    assert (ran.status, ran.out) == (status, "")
    assert ran.err.startswith("error: ")
    assert not (team_folder / "fixtool-report").exists()


def test_a_broken_result_is_refused(fixtool: Run, team_folder: Path) -> None:
    bad = {**make.result(), "steps": [{}]}
    (team_folder / "verify/results/bad.json").write_text(json.dumps(bad))
    ran = fixtool("report", "--history", "h.json", cwd=team_folder)
    assert ran.status == 1
    assert "bad.json is not a result" in ran.err


def test_no_link_leads_a_page_elsewhere(fixtool: Run, team_folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "report.html").write_text("mine")
    (team_folder / "linked").symlink_to(elsewhere)
    (team_folder / "held").mkdir()
    (team_folder / "held" / "report.md").symlink_to(elsewhere / "report.html")
    for folder in ("linked", "held"):
        ran = fixtool("report", "--history", "h.json", "--output", folder, cwd=team_folder)
        assert ran.status == 1, ran.out
    assert [path.name for path in elsewhere.iterdir()] == ["report.html"]
    assert (elsewhere / "report.html").read_text() == "mine"
    assert [path.name for path in (team_folder / "held").iterdir()] == ["report.md"]


@pytest.mark.parametrize("before", [{}, {"report.html": "old", "report.md": "old too"}])
def test_both_files_or_neither(
    before: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in before.items():
        (tmp_path / name).write_text(text)
    real, calls = os.replace, itertools.count()

    def replace(*args: Any, **more: Any) -> None:
        if next(calls) == 1:
            raise OSError(28, "No space left on device")
        real(*args, **more)

    monkeypatch.setattr(os, "replace", replace)
    texts = {"report.html": "new", "report.md": "new too"}
    with pytest.raises((OSError, FixtoolError)):
        write_together(tmp_path, texts)
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {path.name: path.read_text() for path in files} == before
    write_together(tmp_path, texts)
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert {path.name: path.read_text() for path in files} == texts
