"""fixtool coverage"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from fixtool import terminal
from fixtool.commands import options
from fixtool.errors import ExitCode, UsageError
from fixtool.text import count

if TYPE_CHECKING:
    from fixtool.judgement.covered import Coverage, CoveredPatch, CoveredRef


From = Annotated[
    str | None,
    Option("--from", metavar="REF", help="The first commit (default: the oldest base of a line)."),
]
To = Annotated[
    str | None,
    Option("--to", metavar="REF", help="The last commit (default: main, or else master)."),
]
ReleaseSpan = Annotated[
    str | None,
    Option("--releases", metavar="A..B", help="Releases of the package index instead of commits."),
]


def coverage(
    ctx: typer.Context,
    releases: ReleaseSpan = None,
    from_: From = None,
    to: To = None,
    line: options.LineName = None,
    source: options.Source = None,
    directory: options.Directory = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Show for each upstream commit or release which line covers it, and what becomes of each patch
    there.

    Commits in a row with the same answer are one row. The exit code is 3 if a patch needs a person
    anywhere, and 4 if a release could not be judged.

    Example: fixtool coverage --releases 0.5.12..0.5.23
    """
    from fixtool.judgement.coverage import cover_commits, cover_releases

    context = options.start(ctx, directory)
    if releases is None:
        covered = cover_commits(context, from_, to, source, line)
    else:
        _refuse_with_releases(releases, source, from_, to)
        covered = cover_releases(context, releases, line)
    if json:
        terminal.print_document("coverage", covered.exit_code, body(covered))
    else:
        _show(covered, "pypi" if releases else source, context.typed, verbose=verbose)
    if covered.exit_code is not ExitCode.OK:
        raise typer.Exit(int(covered.exit_code))


def _refuse_with_releases(
    releases: str, source: str | None, start: str | None, end: str | None
) -> None:
    if start or end:
        raise UsageError(
            "--releases takes releases, and --from and --to take commits: give one or the other",
            hint=f"the same command without --releases; or without the others: fixtool coverage "
            f"--releases {releases}",
        )
    if source not in (None, "pypi"):
        raise UsageError(
            f"releases come from the package index, not from --source {source}",
            hint="leave it out: the same command without --source",
        )


def body(coverage: Coverage) -> dict[str, Any]:
    """The JSON document without its head. `judgement.covered.read_coverage` reads it back."""
    return terminal.fields(coverage, "total", "judged", "refs", "missing")


def _show(coverage: Coverage, source: str | None, typed: Sequence[str], *, verbose: bool) -> None:
    runs = any(ref.commits for ref in coverage.refs)
    if runs:
        terminal.say(
            f"commits   {coverage.total}; {coverage.judged} judged, since the answer can change on "
            "no other"
        )
        terminal.say()
    heads = ("from", "to", "commits") if runs else ("release",)
    rows = []
    for ref in coverage.refs:
        patches = {patch.slug: patch for patch in ref.patches}
        cells = (
            "lacking" if slug in ref.lacks else _cell(patches.get(slug)) for slug in coverage.slugs
        )
        rows.append((*_place(ref), ref.line, *cells))
    terminal.table((*heads, "line", *coverage.slugs), rows)
    asking = [ref for ref in coverage.refs if ref.needs_person]
    for ref in coverage.refs if verbose else asking:
        _explain(ref)
    for lost in coverage.missing:
        terminal.say()
        terminal.say(f"{lost.ref} could not be judged: {lost.reason}")
        if lost.hint:
            options.say_next(lost.hint, typed)
    if asking:
        words = ["fixtool", "apply", "--ref", asking[0].commit if runs else asking[0].ref]
        words += ["--source", source] if source else []
        terminal.say()
        terminal.say(f"a person is needed on {_number(coverage, asking)}")
        options.say_next(shlex.join([*words, "--dry-run", "--verbose"]), typed)


def _place(ref: CoveredRef) -> tuple[str, ...]:
    if run := ref.commits:
        return run.first.sha[:12], run.last.sha[:12], str(run.count)
    return (ref.ref,)


def _cell(patch: CoveredPatch | None) -> str:
    if patch is None:
        return "-"
    return f"{patch.verdict} ({patch.by})" if patch.by else patch.verdict.value


def _explain(ref: CoveredRef) -> None:
    terminal.say()
    terminal.say(f"{' to '.join(_place(ref)[:2])}: line {ref.line} ({ref.why})")
    for patch in ref.patches:
        for reason in patch.evidence:
            terminal.say(f"  {patch.slug}: {reason}")
    for note in ref.notes:
        terminal.say(f"  {note}")


def _number(coverage: Coverage, asking: list[CoveredRef]) -> str:
    commits = sum(ref.commits.count for ref in asking if ref.commits)
    if commits:
        return f"{commits} of {count(coverage.total, 'commit')}"
    return f"{len(asking)} of {count(coverage.total, 'release')}"
