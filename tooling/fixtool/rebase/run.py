"""Rebase: a line onto another commit of upstream's, without ever losing a patch.

Find out, decide, and only then write: the new line is made whole in the object database, put beside
the old one and swapped in, and committed alone. A conflict that is left stops it, with ``patches/``
untouched, in a work tree where a person decides; going on is replaying with that decision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from fixtool.errors import CannotRun, Refused, UsageError
from fixtool.git.objects import Oid
from fixtool.git.trees import list_tree
from fixtool.history.result import History, Interval
from fixtool.history.trace import trace
from fixtool.progress import Progress
from fixtool.rebase import session as parked
from fixtool.rebase.result import Action, Outcome, Rebased, exported, settle
from fixtool.rebase.session import Session
from fixtool.replay import absorption
from fixtool.replay.moved_hunks import Followed, follow
from fixtool.replay.run import Decisions, Replay, on_own_base, replay
from fixtool.replay.verdict import FAILED, PatchResult, Verdict
from fixtool.series import commit as journal
from fixtool.series import patch, shelf
from fixtool.series.context import Context
from fixtool.series.line import Entry, Line, PatchRepository
from fixtool.series.lint import require_well_formed
from fixtool.series.shelf import Shelved
from fixtool.settings import Settings
from fixtool.sources.resolve import Target
from fixtool.sources.source import Local, Source
from fixtool.sources.target import TargetRequest, bring_base, find_target


@dataclass(frozen=True)
class Request:
    """What the user asked for. ``probe``: ask each patch's own probe too, in ``python``;
    ``accept``: go on with a remembered resolution instead of waiting for a look at it."""

    onto: str
    source: str | None = None
    line: str | None = None
    new_line: str | None = None
    dry_run: bool = False
    probe: bool = False
    python: str | None = None
    accept: bool = False


_GONE = frozenset({Verdict.ABSORBED, Verdict.SUPERSEDED})
_INTENT = 8  # lines of a message

Ask = Callable[[Line, Target], Mapping[str, int | None]]
"""Asks the probes of a line on a commit: slug -> 0, 1, 77, or None where one broke."""


def rebase(
    repository: PatchRepository,
    settings: Settings,
    request: Request,
    progress: Progress,
    ask: Ask | None = None,
) -> Rebased:
    """Move a line onto ``request.onto``. Raises Refused where its folder holds what is not
    committed, and where a rebase of it is parked."""
    line = repository.pick(request.line or settings.line)
    name = line.name
    waiting = parked.load(repository, settings, name)
    if waiting and not request.dry_run:
        raise Refused(
            f"a rebase of line {name} waits at {waiting.slug}",
            where=waiting.worktree,
            hint="fixtool rebase --continue, --skip or --abort",
        )
    if request.new_line and request.new_line in repository.line_names:
        raise UsageError(f"there is a line {request.new_line!r} already")
    if request.new_line and not patch.is_slug(request.new_line):
        raise UsageError(f"{request.new_line!r} is not a safe folder name")
    require_well_formed(line)
    wanted = TargetRequest(request.onto, request.source, name)
    source, target = find_target(Context(repository, settings, progress), wanted)
    work = _Rebase(repository, settings, request, progress, line, source, target, ask)
    return work.run({}, {})


def go_on(
    repository: PatchRepository,
    settings: Settings,
    session: Session,
    progress: Progress,
    ask: Ask | None = None,
    *,
    skip: str | None = None,
    accept: bool = False,
) -> Rebased:
    """Go on with a parked rebase: with what its work tree holds now, or, given a reason to
    ``skip``, without the patch, which is kept on the shelf."""
    # A release is asked for by its name: the package index knows no commits.
    ref = session.ref if session.source == "pypi" else session.onto
    wanted = TargetRequest(ref, session.source, session.line)
    source, target = find_target(Context(repository, settings, progress), wanted)
    target = replace(target, ref=session.ref)
    journal.open_journal(repository.root)
    written = session.new_line or session.line
    if written in repository.line_names and (
        repository.line(written).upstream.base == session.onto
    ):  # a killed run had come to its end, and perhaps taken away half of the work tree
        parked.forget(repository, settings, session)
        return Rebased(session.line, session.new_line, session.onto, target, None, ())
    line = repository.line(session.line)
    resolved, skipped = dict(session.resolved), dict(session.skipped)
    if skip is None:
        resolved[session.slug], learned = parked.collect(session)
    else:
        skipped[session.slug] = skip
        learned = parked.learned(session)
    request = Request(
        session.onto, session.source, session.line, session.new_line,
        probe=session.probe, python=session.python, accept=accept,
    )  # fmt: skip
    work = _Rebase(repository, settings, request, progress, line, source, target, ask)
    work.learned = learned
    done = work.run(resolved, skipped)
    if done.session is None:
        parked.forget(repository, settings, session)
    return done


def abort(repository: PatchRepository, settings: Settings, session: Session) -> None:
    """End a parked rebase; ``patches/`` is as it was all the time."""
    parked.forget(repository, settings, session)


class _Rebase:
    """One rebase: its world, and what was found out about it."""

    def __init__(
        self,
        repository: PatchRepository,
        settings: Settings,
        request: Request,
        progress: Progress,
        line: Line,
        source: Source,
        target: Target,
        ask: Ask | None,
    ) -> None:
        self.repository, self.settings, self.request = repository, settings, request
        self.progress, self.line, self.source, self.target = progress, line, source, target
        self.repo = source.repo
        self.ask = ask
        self.learned: dict[str, bytes] = {}
        self.unread: str | None = None  # why upstream's history could not be read
        self.warnings: list[str] = []

    def run(self, resolved: Mapping[str, str], skipped: Mapping[str, str]) -> Rebased:
        """``resolved`` is slug -> tree, ``skipped`` slug -> why: what a person decided."""
        line, target, dry_run = self.line, self.target, self.request.dry_run
        repo = None if dry_run else journal.open_journal(self.repository.root)
        if line.upstream.base == target.commit and not self.request.new_line:
            return Rebased(line.name, None, target.commit, target, None, ())
        if repo:
            journal.require_saved(repo, line.folder)
            journal.identity(repo)  # asked for before the work, not after it
        self._find_out()
        done = self._decide(resolved, skipped)
        outcomes = tuple(self._outcome(one, skipped) for one in done.patches)
        rebased = Rebased(
            line.name, self.request.new_line, line.upstream.base, target, done, outcomes
        )
        asked = next((one for one in outcomes if one.action is Action.ASKED), None)
        if asked is None:
            rebased = replace(
                rebased, moved=True, range_diff=self._range_diff(done),
                warnings=self._warnings(rebased),
            )  # fmt: skip
            if dry_run:
                return rebased
            raw = {one.slug: one.raw for one in self.whole.patches}
            committed = settle(self.repository, line, self.repo, rebased, raw, self.learned, repo)
            return replace(rebased, committed=committed)
        if dry_run:
            return replace(rebased, warnings=self._warnings(rebased))
        session = self._park(asked, done, resolved, skipped)
        if session.remembered and self.request.accept:
            return go_on(
                self.repository, self.settings, session, self.progress, self.ask, accept=True
            )
        intent = self._intent(asked)
        return replace(rebased, session=session, warnings=self._warnings(rebased), intent=intent)

    # -- finding out -----------------------------------------------------------------------

    def _find_out(self) -> None:
        self.base = bring_base(self.source, self.line.upstream, self.settings, self.progress)
        self.source.bring(self.target.commit, ())
        self.found = self._history()
        self.back = self._taken_back()
        entries = [Entry(one.slug, 0, f"{shelf.FOLDER}/") for one in self.back]
        self.whole = replace(self.line, entries=(*self.line.entries, *entries))
        self.probes = dict(self.ask(self.line, self.target)) if self.ask else {}

    def _history(self) -> History | None:
        """What upstream did to each patch on the way; None where it leads another way, as from one
        release to the next."""
        return self._trace(self.line, self.base)

    def _trace(self, line: Line, start: Oid) -> History | None:
        try:
            context = Context(self.repository, self.settings, self.progress)
            return trace(context, self.source, line, start, self.target.commit)
        except UsageError:  # no way leads there
            return None
        except CannotRun as error:
            self.unread = error.message
            return None

    def _now(self, slug: str) -> Interval | None:
        known = self.found.patches if self.found else ()
        return next((one.now for one in known if one.slug == slug), None)

    def _taken_back(self) -> tuple[Shelved, ...]:
        """What is on the shelf because upstream had it, and has it no more: that its text fits is
        not enough, for upstream may have taken it in another form."""
        found = []
        for one in shelf.read(self.line.folder):
            if one.verdict is shelf.Reason.ABSORBED:
                entry = Entry(one.slug, 0, f"{shelf.FOLDER}/")
                upstream = replace(self.line.upstream, base=one.base, release=None)
                told = self._trace(
                    replace(self.line, upstream=upstream, entries=(entry,)), one.base
                )
                if told and told.patches[0].now.verdict is Verdict.REVERTED:
                    found.append(one)
        return tuple(found)

    # -- deciding --------------------------------------------------------------------------

    def _decide(self, resolved: Mapping[str, str], skipped: Mapping[str, str]) -> Replay:
        """Replay, and again with what that taught, until nothing new comes of it."""
        aside: dict[str, tuple[Verdict, tuple[str, ...]]] = {
            slug: (Verdict.BLOCKED, (why,)) for slug, why in skipped.items()
        }
        for one in self.line.entries:
            now = self._now(one.slug)
            present = self.probes.get(one.slug) == 1  # then nobody has fixed it, whatever they say
            if now and now.verdict is Verdict.ABSORBED and one.slug not in resolved and not present:
                aside.setdefault(one.slug, (Verdict.ABSORBED, now.evidence))
        followed: dict[str, Followed] = {}
        while True:
            trees = {**resolved, **{slug: one.tree for slug, one in followed.items()}}
            decisions = Decisions(aside, trees)
            done = self._replay(decisions)
            conflict = next((o for o in done.patches if o.verdict is Verdict.CONFLICT), None)
            if conflict is None:
                break
            if self.probes.get(conflict.slug) == 0:
                why = "its probe says that the bug is gone"
                aside[conflict.slug] = (Verdict.SUPERSEDED, (why, *conflict.evidence))
                continue
            there = follow(self.repo, self._patch(conflict.slug), self._parent(done, conflict.slug))
            if there is None:
                break
            followed[conflict.slug] = there
        patches = tuple(
            replace(one, evidence=followed[one.slug].moves) if one.slug in followed else one
            for one in done.patches
        )
        return replace(done, patches=patches)

    def _replay(self, decisions: Decisions) -> Replay:
        return replay(
            self.repo, self.whole, self.target.commit,
            base=lambda: self.base, cache=self.settings.cache / "replay", decisions=decisions,
        )  # fmt: skip

    def _patch(self, slug: str) -> patch.Patch:
        return next(one for one in self.whole.patches if one.slug == slug)

    def _parent(self, done: Replay, slug: str) -> str:
        """The last good commit before a patch."""
        position = [one.slug for one in done.patches].index(slug)
        made = [one.commit for one in done.patches[:position] if one.commit]
        return made[-1] if made else self.target.commit

    def _outcome(self, one: PatchResult, skipped: Mapping[str, str]) -> Outcome:
        now = self._now(one.slug)
        probe = self.probes.get(one.slug)
        culprit = now.culprit if now else None
        if one.verdict is Verdict.CLEAN and not (now and now.verdict is Verdict.REVERTED):
            culprit = None  # nobody's doing
        elif one.slug not in skipped:
            by = culprit.sha if culprit else None
            text = self._patch(one.slug)
            more = absorption.evidence(self.repo, text, self.target.commit, by)
            one = replace(one, evidence=(*one.evidence, *more))
        if one.commit and now and now.verdict is Verdict.REVERTED:
            one = replace(one, verdict=Verdict.REVERTED, evidence=(*now.evidence, *one.evidence))
        elif one.commit and probe in (0, 77):
            why = {0: "its probe says that the bug is not there",
                   77: "its probe says that what it is about is not there"}[probe]  # fmt: skip
            one = replace(one, verdict=Verdict.NOT_NEEDED, evidence=(why, *one.evidence))
        return Outcome(one, self._action(one, skipped), culprit, probe)

    def _action(self, one: PatchResult, skipped: Mapping[str, str]) -> Action:
        if one.verdict in _GONE:
            return Action.DROPPED
        if one.verdict is Verdict.BLOCKED and skipped:
            return Action.SHELVED
        if one.verdict in FAILED:
            return Action.ASKED
        if one.slug in {two.slug for two in self.back}:
            return Action.RESTORED
        same = exported(self.repo, one) == self._patch(one.slug).raw
        return Action.KEPT if same else Action.REWRITTEN

    def _warnings(self, rebased: Rebased) -> tuple[str, ...]:
        """What a person should hear although nothing stopped."""
        said = []
        if self.unread:
            said.append(f"upstream's history was not read, so text alone decided: {self.unread}")
        for one in rebased.outcomes:
            slug, result = one.result.slug, one.result
            if result.verdict is Verdict.REVERTED:
                said.append(f"{slug}: {result.evidence[0]}; it is kept")
            elif one.action is Action.RESTORED:
                said.append(f"{slug}: upstream had it and took it back; it is in the series again")
            elif result.verdict is Verdict.NOT_NEEDED:
                said.append(f"{slug}: {result.evidence[0]}; drop it: fixtool drop {slug}")
            elif result.verdict is Verdict.ABSORBED and f"by its text: {Verdict.CLEAN}" in (
                result.evidence
            ):
                said.append(f"{slug}: upstream took it in another form, and its text still fits")
            if result.commit and result.verdict is not Verdict.CLEAN:
                lost = self._lost(result)
                said += [f"{slug}: added, and not there any more: {line}" for line in lost[:3]]
        return tuple(said)

    def _intent(self, asked: Outcome) -> str:
        """What upstream's side wanted: how the culprit's message begins."""
        if asked.culprit is None:
            return ""
        message = self.repo.read_commit(asked.culprit.sha).message
        lines = [line.strip() for line in message.split("\n")[1:] if line.strip()]
        return "\n".join(lines[:_INTENT])

    def _lost(self, one: PatchResult) -> list[str]:
        """What the patch adds and its new form neither adds nor finds."""
        paths = [file.path for file in one.files]
        assert one.commit is not None
        blobs = [blob for _, blob in list_tree(self.repo, one.commit, *paths).values()]
        texts = [text.decode("utf-8", "surrogateescape") for text in self.repo.read_blobs(blobs)]
        return absorption.lost_lines(self._patch(one.slug), texts)

    def _range_diff(self, done: Replay) -> str:
        """The series before and after, as `git range-diff` shows it."""
        before = replay(self.repo, self.line, self.base)
        out = self.repo.run(
            "range-diff", "--no-color", f"{self.base}..{before.commit}",
            f"{self.target.commit}..{done.commit}", accept=None,
        )  # fmt: skip
        return out.stdout.decode("utf-8", "replace") if out.status == 0 else ""

    # -- writing ---------------------------------------------------------------------------

    def _source_again(self) -> str:
        """What names the same source from any folder."""
        if isinstance(self.source, Local):
            return self.source.name
        return self.request.source or self.settings.source

    def _park(
        self,
        asked: Outcome,
        done: Replay,
        resolved: Mapping[str, str],
        skipped: Mapping[str, str],
    ) -> Session:
        slug = asked.result.slug
        parent = self._parent(done, slug)
        own, _ = on_own_base(self.repo, self.line, slug, self.base)
        folder = parked.worktree_for(self.repository, self.settings, self.line.name)
        conflicts, memory = parked.park(self.repo, self.line, folder, parent, own)
        session = Session(
            line=self.line.name,
            patches=str(self.repository.root.resolve()),
            ref=self.target.ref,
            onto=self.target.commit,
            source=self._source_again(),
            store=str(self.repo.git_dir),
            worktree=str(folder),
            parent=parent,
            slug=slug,
            position=1 + [one.slug for one in done.patches].index(slug),
            of=len(done.patches),
            conflicts=conflicts,
            memory=memory,
            new_line=self.request.new_line,
            probe=self.request.probe,
            python=self.request.python,
            remembered=not conflicts,
            resolved=dict(resolved),
            skipped=dict(skipped),
            learned=parked.packed(self.learned),
        )
        parked.save(self.repository, self.settings, session)
        return session
