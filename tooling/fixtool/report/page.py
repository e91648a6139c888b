"""The report as one HTML page that loads nothing, and as Markdown.

Nearly all of its words come from patches and from upstream, so none of them is trusted: whatever a
template prints has no markup, no control characters, and nothing that GitHub would link.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fixtool.errors import ExitCode
from fixtool.history.log import UpstreamCommit
from fixtool.history.result import HistoryDocument
from fixtool.judgement.covered import Coverage
from fixtool.markdown import Markdown, code, inline
from fixtool.rebase.result import Rebased
from fixtool.replay.verdict import FAILED
from fixtool.report._coverage import coverage_bands
from fixtool.report._inputs import KeptResult, Report
from fixtool.report._timeline import VERDICTS, letters, timeline
from fixtool.report.nights import LineNights, NightsReport, NightState
from fixtool.report.todo import FINE, find_todos, sources
from fixtool.text import count, escaped, printable, public_url, shortened
from fixtool.verify.proof import Matrix, answer_text, exit_code, prove
from fixtool.verify.result import StepResult

_GITHUB = re.compile(r"(https://(?:[\w-]+\.)*github\.[\w.-]+/[\w-]+/(?!\.)[\w.-]+?)(?:\.git)?/?")
_LONGEST_PATCH = 60_000  # characters of a patch on the page
_STATE_TAGS = {NightState.GREEN: "ok", NightState.ASKED: "look", NightState.FAILED: "act"}


def html(report: Report) -> str:
    """The page. Its own policy names the style by hash, so that nothing else can style it, run in
    it or be loaded by it."""
    view = _view(report)
    drawn = (view["timeline"], view["cover"])
    image = report.plot and base64.b64encode(report.plot.png).decode()
    filters = {
        "commit_url": lambda sha: _url(report.url, "commit", sha),
        "pr_url": lambda pr: _url(report.url, "pull", pr),
    }
    rules = [rule for bands in drawn if bands for rule in bands.css]
    return _html("report.html.j2", {**view, "image": image}, filters, rules)


def _html(
    template: str,
    view: Mapping[str, Any],
    filters: Mapping[str, Callable[..., Any]],
    rules: Sequence[str] = (),
) -> str:
    """A page whose style is the common one and ``rules``."""
    environment = _environment(autoescape=True)
    environment.filters |= {"breaks": _breaks, **filters}
    source, _, _ = environment.loader.get_source(environment, "report.css")  # type: ignore[union-attr]
    style = source + "".join(rules)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    page = environment.get_template(template)
    return page.render(view, style=Markup(style), digest=digest) + "\n"  # noqa: S704


def markdown(report: Report) -> str:
    """The same as Markdown, for a pull request, an issue or a job summary."""
    return _markdown("report.md.j2", _view(report), {
        "commit": lambda commit: _commit(report.url, commit),
        "image": lambda plot: Markdown(quote(plot.link, errors="surrogateescape")),
    })  # fmt: skip


def _markdown(
    template: str, view: Mapping[str, Any], filters: Mapping[str, Callable[..., Any]]
) -> str:
    environment = _environment(autoescape=False)
    environment.filters |= {"code": lambda text: code(text, 1000), **filters}
    page = environment.get_template(template).render(view)
    return re.sub(r"\n{3,}", "\n\n", page).strip() + "\n"


def nights_html(report: NightsReport) -> str:
    """The page about all lines over the nights."""
    return _html("nights.html.j2", _nights_view(report), {
        "commit_url": lambda url, sha: _url(url, "commit", sha),
        "pr_url": lambda url, pr: _url(url, "pull", pr),
        "patch_text": lambda text: printable(shortened(text, _LONGEST_PATCH)),
    })  # fmt: skip


def nights_markdown(report: NightsReport) -> str:
    """The same as Markdown, without the patches."""
    filters = {"commit": lambda commit, url: _commit(url, commit)}
    return _markdown("nights.md.j2", _nights_view(report), filters)


def _nights_view(report: NightsReport) -> dict[str, Any]:
    """The names that both templates use."""
    rows = [_nights_row(report, line, f"line-{n}") for n, line in enumerate(report.lines)]
    lines = {row.line.name: row for row in rows}
    return {
        "report": report,
        "nights": report.nights,
        "rows": rows,
        "todos": [
            {"anchor": lines[name].anchor, "line": lines[name].line, "todo": todo}
            for name, todo in report.todos
        ],
        "states": list(NightState),
        "tags": _STATE_TAGS,
        "urls": {line.name: line.url for line in report.lines},
        "most": max((file.conflicts + file.merges for file in report.files), default=1),
    }


@dataclass(frozen=True)
class NightsRow:
    """A line as it is shown. ``cells`` has a night's name and its state (``none`` if the line had
    no rebase) for each night of the report; ``letters`` are the same as text; ``tally`` says in
    words how many nights had which state."""

    line: LineNights
    anchor: str
    cells: tuple[Mapping[str, str], ...]
    letters: str
    counts: Mapping[NightState, int]
    tally: str


def _nights_row(report: NightsReport, line: LineNights, anchor: str) -> NightsRow:
    states = {night.night: night.state for night in line.nights}
    counts = Counter(states.values())
    shown = [f"{counts[state]} {state}" for state in NightState if counts[state]]
    newest = f"; the newest is {line.newest.state}" if line.newest else ""
    return NightsRow(
        line, anchor,
        tuple({"night": night, "state": states.get(night, "none")} for night in report.nights),
        "".join(states[night][0].upper() if night in states else "." for night in report.nights),
        {state: counts[state] for state in NightState},
        f"{count(len(states), 'night')}: {', '.join(shown) or 'none'}{newest}",
    )  # fmt: skip


def _environment(*, autoescape: bool) -> Environment:
    """Every expression of a template goes through ``finalize``, which makes it harmless."""
    finalize: Callable[[Any], Any] = _printable if autoescape else _inline
    environment = Environment(
        loader=PackageLoader("fixtool.report"), autoescape=autoescape, finalize=finalize,  # noqa: S701
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"cut": _cut, "count": count, "shown": answer_text}
    return environment


def _view(report: Report) -> dict[str, Any]:
    """The names that both templates use."""
    document = report.history if isinstance(report.history, HistoryDocument) else None
    history, releases = (document.history, document.releases) if document else (None, None)
    patches = history.patches if history else ()
    used = {run.verdict for patch in patches for run in patch.intervals}
    used |= {cell.verdict for row in releases.patches for cell in row.cells} if releases else set()
    coverage = report.coverage if isinstance(report.coverage, Coverage) else None
    covered = coverage.refs if coverage else ()
    covered_verdicts = {patch.verdict for ref in covered for patch in ref.patches}
    return {
        "report": report,
        "history": history,
        "releases": releases,
        "coverage": coverage,
        "cover": coverage_bands(coverage) if coverage else None,
        "cover_legend": [verdict for verdict in VERDICTS if verdict in covered_verdicts],
        "failed": FAILED,
        "rebase": report.rebase if isinstance(report.rebase, Rebased) else None,
        "repository": web(report.url),
        "todos": find_todos(report),
        "sources": sources(report),
        "now": Counter(patch.now.verdict for patch in patches).most_common(),
        "verdicts": VERDICTS,
        "legend": [verdict for verdict in VERDICTS if verdict in used],
        "timeline": timeline(patches),
        "letters": [letters(patch) for patch in patches],
        "runs": [_run(kept) for kept in report.results],
    }


@dataclass(frozen=True)
class VerifyRun:
    """A kept result as it is shown. Of steps that went well, ``steps`` has the checks alone.
    ``mutants`` are how many were killed, and how many there were."""

    kept: KeptResult
    matrix: Matrix | None
    ok: bool
    where: str
    tally: str
    steps: tuple[StepResult, ...]
    mutants: tuple[int, int] | None


def _run(kept: KeptResult) -> VerifyRun:
    result, matrix = kept.result, prove(kept.result)
    mutants = [step for step in result.steps if step.kind == "mutant"]
    killed = sum(step.outcome == "passed" for step in mutants)
    return VerifyRun(
        kept, matrix, exit_code(result, matrix, require_gpu=False) is ExitCode.OK,
        result.host, result.tally,
        tuple(step for step in result.steps if step.kind == "check" or step.outcome not in FINE),
        (killed, len(mutants)) if mutants else None,
    )  # fmt: skip


def web(url: str | None) -> str | None:
    """The web page of the repository at ``url``; None if it is not on GitHub."""
    match = _GITHUB.fullmatch(public_url(url)) if url else None
    return match[1] if match else None


def _url(upstream: str | None, kind: str, name: str | int) -> str | None:
    """The web page of a commit or pull request of the repository ``upstream``."""
    page = web(upstream)
    return f"{page}/{kind}/{name}" if page else None


def _commit(upstream: str | None, commit: UpstreamCommit) -> Markdown:
    """A commit in Markdown: its id, linked if it has a page, its subject and its author."""
    link = _url(upstream, "commit", commit.sha)
    short = f"`{commit.sha[:9]}`"
    short = f"[{short}]({link})" if link else short
    return Markdown(f"{short} {inline(_cut(commit.subject))} ({inline(_cut(commit.author))})")


def _cut(text: str, length: int = 200) -> str:
    return shortened(text, length)


def _breaks(text: str) -> Markup:
    """``text``, in which a line may break after each slash of a path."""
    return Markup("/<wbr>").join(_printable(text).split("/"))  # join escapes the parts


def _printable(value: Any) -> Any:
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return escaped(value)
    return value


def _inline(value: Any) -> Any:
    if isinstance(value, Markdown) or not isinstance(value, str):
        return "" if value is None else value
    return inline(value)
