"""Tests whether a proposed patch is needed: runs its probe on a commit without it and with it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fixtool.errors import CannotRun
from fixtool.replay.run import Decisions
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.sources.resolve import Target
from fixtool.sources.source import Source
from fixtool.verify._execute import execute
from fixtool.verify._plan import plan_line
from fixtool.verify.request import RunKind, RunOptions
from fixtool.verify.suite import BASE, SERIES, probes, read_suite

_WORDS = {
    None: "not asked",
    1: "the bug is there",
    0: "it is not",
    77: "what it is about is not there",
}


@dataclass(frozen=True)
class ProbeFlip:
    """The answers of a probe ``without`` a patch and ``with_it``.

    An answer is 1 if the bug is there, 0 if it is not, 77 if the tree lacks what the probe tests,
    and None if the probe gave no answer. ``said`` puts both answers into words. ``script`` is None
    if the patch has no probe. ``device`` is where the probe ran.
    """

    script: str | None
    without: int | None
    with_it: int | None
    said: str
    device: str | None = None

    @property
    def shown(self) -> bool:
        """Whether the probe shows that the patch is needed and works."""
        return (self.without, self.with_it) == (1, 0)


def flip_probe(
    context: Context,
    line: Line,
    slug: str,
    source: Source,
    target: Target,
    python: str,
    decisions: Decisions | None = None,
) -> ProbeFlip:
    """Run the probe of ``slug`` with ``python``, on ``target`` and on ``target`` with ``line``,
    which is the patch and what it depends on. ``decisions`` are those of the line's judgement on
    ``target``. Raises CannotRun if the probe gives no answer."""
    if line.find(slug).trailer("Probe") is None:
        why = "it has no Probe: trailer, so nothing shows that it is needed"
        return ProbeFlip(None, None, None, why)
    suite = read_suite(context.repository)
    entries = tuple(entry for entry in line.entries if entry.slug == slug)
    (probe, *_) = probes(context.repository, replace(line, entries=entries))
    planned = plan_line(context, line, source, target, suite, [probe], [RunKind.FLIP], decisions)
    folder = context.settings.state / "upstream" / f"{line.name}-{slug}-{target.commit[:12]}"
    result = execute(planned, folder, python, RunOptions(), context.progress)
    if broken := result.broke(slug):
        raise CannotRun(f"the probe of {slug} broke {broken[0]}", where=str(folder))
    without, with_it = result.answer(slug, BASE), result.answer(slug, SERIES)
    first, second = (_WORDS.get(answer, f"exit {answer}") for answer in (without, with_it))
    words = f"without it: {first}; with it: {second}"
    return ProbeFlip(probe.script, without, with_it, words, (result.gpus or ["CPU"])[0])
