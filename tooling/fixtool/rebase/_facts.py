"""What is known about a line and its target before the patches are replayed there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fixtool.errors import CannotRun, UsageError
from fixtool.git.store import Store
from fixtool.history.result import History, Interval
from fixtool.history.trace import trace
from fixtool.rebase.result import AskProbes
from fixtool.replay.verdict import Verdict
from fixtool.series import shelf
from fixtool.series.context import Context
from fixtool.series.line import Entry, Line
from fixtool.series.patch import Patch
from fixtool.sources.resolve import Target
from fixtool.sources.source import Source
from fixtool.sources.target import bring_base


@dataclass(frozen=True)
class Facts:
    """``line`` and ``target`` with what is known about them.

    ``extended`` is the line followed by the patches that come back from the shelf, ``restored``.
    ``history`` leads from the line's base to the target, None if there is no such way; ``unread``
    says why upstream's history could not be read. ``probes`` are the answers by slug.
    """

    line: Line
    extended: Line
    source: Source
    target: Target
    history: History | None
    unread: str | None
    restored: frozenset[str]
    probes: Mapping[str, int | None]

    @property
    def repo(self) -> Store:
        return self.source.repo

    def now(self, slug: str) -> Interval | None:
        """What upstream's history says of a patch on the target."""
        patches = self.history.patches if self.history else ()
        return next((patch.now for patch in patches if patch.slug == slug), None)

    def patch(self, slug: str) -> Patch:
        return next(patch for patch in self.extended.patches if patch.slug == slug)


def gather(
    context: Context, line: Line, source: Source, target: Target, ask: AskProbes | None
) -> Facts:
    """Bring the base and the target, read upstream's history, and ask the probes."""
    bring_base(source, line.upstream, context.settings, context.progress)
    source.bring(target.commit, ())
    history, unread = _try_trace(context, source, line, target)
    entries = []
    for shelved in shelf.read(line.folder):
        # That the text of a shelved patch fits again is not enough to restore it: upstream may
        # have fixed the bug in another form. Upstream must have taken its own fix back.
        if shelved.verdict is not shelf.Reason.ABSORBED:
            continue
        entry = Entry(shelved.slug, 0, f"{shelf.FOLDER}/")
        upstream = replace(line.upstream, base=shelved.base, release=None)
        alone = replace(line, upstream=upstream, entries=(entry,))
        past, why = _try_trace(context, source, alone, target)
        unread = why or unread
        if past and past.patches[0].now.verdict is Verdict.REVERTED:
            entries.append(entry)
    return Facts(
        line, replace(line, entries=(*line.entries, *entries)), source, target, history, unread,
        frozenset(entry.slug for entry in entries), ask(line, target) if ask else {},
    )  # fmt: skip


def _try_trace(
    context: Context, source: Source, line: Line, target: Target
) -> tuple[History | None, str | None]:
    """The history from the line's base to the target, or the reason why it could not be read. Both
    are None if the target does not descend from the base, as from one release to the next."""
    try:
        return trace(context, source, line, line.upstream.base, target.commit), None
    except UsageError:
        return None, None
    except CannotRun as error:
        return None, error.message
