"""fixtool history"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode, UsageError
from fixtool.text import count

if TYPE_CHECKING:
    from fixtool.history.record import FoundFact
    from fixtool.history.releases import ReleaseMatrix
    from fixtool.history.result import History
    from fixtool.series.context import Context
    from fixtool.series.line import Line


From = Annotated[
    str | None, Option("--from", metavar="REF", help="The first commit (default: the line's base).")
]
To = Annotated[
    str | None,
    Option("--to", metavar="REF", help="The last commit (default: main, or else master)."),
]
ReleaseSpan = Annotated[
    str | None,
    Option("--releases", metavar="A..B", help="Judge these releases of the package index too."),
]
Record = Annotated[
    bool,
    Option("--record", help="Write into the patches which commits took them, and commit that."),
]


def history(
    ctx: typer.Context,
    slugs: options.Slugs = None,
    from_: From = None,
    to: To = None,
    releases: ReleaseSpan = None,
    record: Record = False,
    source: options.Source = None,
    line: options.LineName = None,
    directory: options.Directory = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Say for each patch to which upstream commits it applies, and which commit changed that.

    Every first-parent commit is judged. With --releases alone, only releases are.

    Example: fixtool history gemma4-fused-routing --to main --source ~/upstream
    """
    from fixtool.apply.waiting import require_nothing_waits

    if span := next((slug for slug in slugs or () if ".." in slug), None):
        first, _, last = span.partition("..")
        words = [word for word in options.typed(ctx) if word != span]
        raise UsageError(
            f"{span!r} is no patch, but a span of commits: --from and --to name its ends",
            hint=shlex.join(["fixtool", *words, "--from", first, "--to", last.strip(".")]),
        )
    context = options.start(ctx, directory)
    chosen = options.pick_line(context, line)
    wanted = {chosen.find(slug).slug for slug in slugs or ()}
    if record:
        require_nothing_waits(context, chosen.name)
    traced = matrix = None
    facts: list[FoundFact] = []
    if releases is None or from_ or to:
        traced = trace_line(context, chosen, source, from_, to)
        facts = _facts(context, chosen, traced, wanted, source, record=record)
    elif record:
        raise UsageError(
            "--record writes what the history of commits tells, and --releases alone reads none",
            hint="the same command without --releases",
        )
    if releases:
        from fixtool.history.releases import judge_releases

        matrix = judge_releases(context, chosen, releases, source)
    if json:
        document = body(chosen.name, traced, matrix, wanted) | {"facts": facts}
        terminal.print_document("history", ExitCode.OK, document)
        return
    if traced:
        _show(traced, wanted, verbose=verbose)
    if matrix:
        rows = [
            (row.slug, *(cell.verdict.value for cell in row.cells))
            for row in matrix.patches
            if not wanted or row.slug in wanted
        ]
        terminal.table(("patch", *matrix.versions), rows)
    _show_facts(facts, context.typed)


def _facts(
    context: Context,
    line: Line,
    history: History,
    wanted: set[str],
    source: str | None,
    *,
    record: bool,
) -> list[FoundFact]:
    """What the history tells that the patches do not record yet; recorded now if ``record``."""
    from fixtool.history.record import FoundFact, record_history, unrecorded
    from fixtool.history.tags import tags_at

    facts = unrecorded(line, history, tags_at(context, line, source))
    facts = {slug: fact for slug, fact in facts.items() if not wanted or slug in wanted}
    paths = record_history(context, line, facts) if record else {}
    return [
        FoundFact(slug, f"{fact.kind}: {fact.value}", paths.get(slug))
        for slug, fact in facts.items()
    ]


def _show_facts(facts: Sequence[FoundFact], typed: Sequence[str]) -> None:
    """Say which facts were recorded, or the command that records them: the one that was ``typed``,
    with --record."""
    for fact in facts:
        if fact.recorded:
            terminal.say(f"recorded  {fact.trailer} in {fact.recorded}")
        else:
            terminal.say(f"found     {fact.trailer}, which {fact.slug} does not record")
    if facts and not any(fact.recorded for fact in facts):
        options.say_next(shlex.join(["fixtool", *typed, "--record"]), typed)


def trace_line(
    context: Context, line: Line, source: str | None, start: str | None, end: str | None
) -> History:
    """The history of ``line`` from the ref ``start`` (default: its base) to ``end`` (default:
    upstream's newest commit). Raises UsageError if the source is the package index, which has no
    commits."""
    from fixtool.history.trace import trace
    from fixtool.sources.target import TargetRequest, find_target, line_source

    source = source or line_source(context.settings, line.upstream)
    if source == "pypi":
        raise UsageError(
            "releases have no commits between them",
            hint=f"fixtool history --line {line.name} --releases {line.upstream.release or ''}..",
        )
    opened, last = find_target(context, TargetRequest(end, source, line.name, newest=True))
    first = opened.resolve(start).commit if start else line.upstream.base
    return trace(context, opened, line, first, last.commit)


def body(
    line: str, history: History | None, matrix: ReleaseMatrix | None, wanted: set[str]
) -> dict[str, Any]:
    """The JSON document without its head; ``wanted`` are the slugs to keep, none for all of them.
    `history.result.read_history` reads it back."""

    def kept(patches: Iterable[Any]) -> list[Any]:
        return [patch for patch in patches if not wanted or patch.slug in wanted]

    return {
        "line": line,
        "start": history and history.start,
        "end": history and history.end,
        "commits": history.commits if history else 0,
        "judged": history.judged if history else 0,
        "reused": history.reused if history else 0,
        "patches": kept(history.patches if history else ()),
        "releases": matrix and {"versions": matrix.versions, "patches": kept(matrix.patches)},
    }


def _show(history: History, wanted: set[str], *, verbose: bool) -> None:
    terminal.say(f"line      {history.line}")
    terminal.say(
        f"commits   {history.commits}, {history.start[:12]} to {history.end[:12]}; "
        f"{count(history.judged, 'state')} judged, {history.reused} known from before"
    )
    rows = []
    for patch in history.patches:
        if wanted and patch.slug not in wanted:
            continue
        for number, interval in enumerate(patch.intervals):
            culprit = interval.culprit
            rows.append((
                patch.slug if number == 0 else "", interval.verdict.value, str(interval.count),
                interval.first.sha[:12], interval.first.date[:10],
                f"{culprit.subject} ({culprit.author})" if culprit else "",
            ))  # fmt: skip
            if verbose:
                rows += [("", "", "", "", "", f"  {reason}") for reason in interval.evidence]
    terminal.say()
    terminal.table(("patch", "verdict", "commits", "from", "date", "by"), rows)
