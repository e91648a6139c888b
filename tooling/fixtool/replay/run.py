"""Replay: a series onto a commit, in the object database, with one verdict a patch.

Strict first (`git apply --cached`), since it is exact and needs nothing but the target. Where the
target's file is not the one the patch was written against, a three-way merge of the patch, as a
commit on its own base, decides: `git apply` alone would put an absorbed block in a second time
wherever its context repeats. No work tree is touched and no ref moves.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

from fixtool.documents import Field
from fixtool.errors import Refused
from fixtool.files import write_atomically
from fixtool.git.objects import Merge, TreeEntry
from fixtool.git.repo import Repo
from fixtool.git.trees import (
    apply_to_index,
    changed_files,
    list_tree,
    merge_three_way,
    scratch_index,
    write_tree,
)
from fixtool.replay._hunks import all_of, conflicted, merged, place, same_blob, untouched
from fixtool.replay.verdict import (
    FAILED,
    FileResult,
    PatchResult,
    PatchState,
    Verdict,
    read_patch_result,
)
from fixtool.series.line import Line
from fixtool.series.patch import Patch, apply_on

_CACHE_FORMAT = 3
_CACHE_DAYS = 90


@dataclass(frozen=True)
class Replay:
    """A series on a commit. ``commit`` and ``tree`` are the last good state: the whole series when
    ``ok``. ``reused`` counts the patches answered by the prefix cache."""

    line: str
    base: str
    onto: str
    commit: str
    tree: str
    patches: tuple[PatchResult, ...]
    reused: int

    @property
    def ok(self) -> bool:
        return not any(one.verdict in FAILED for one in self.patches)


@dataclass(frozen=True)
class Decisions:
    """What a replay takes as given, by slug: ``left_out`` are the patches that it does not apply,
    with what it says of them; ``resolved`` are the trees that resolutions of conflicts made."""

    left_out: Mapping[str, PatchState] = field(default_factory=dict)
    resolved: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.left_out or self.resolved)


def replay(
    repo: Repo,
    line: Line,
    onto: str,
    *,
    base: Callable[[], str] | None = None,
    cache: Path | None = None,
    decisions: Decisions | None = None,
) -> Replay:
    """Apply ``line`` to commit ``onto``.

    ``base`` brings the line's base commit into ``repo`` and returns it; it is called only when a
    three-way merge needs it. ``cache`` is a folder of verdicts by prefix; None does without.
    """
    decisions = decisions or Decisions()
    if decisions:
        cache = None  # its answers are upstream's and the series' alone
    run = _Run(repo, line, onto, base or (lambda: line.upstream.base), cache, decisions)
    return run.whole_series()


def on_own_base(repo: Repo, line: Line, slug: str, base: str) -> tuple[str, str]:
    """A patch as a commit of its series on the line's own base, and that commit's parent; Refused
    where the series does not apply to its own base."""
    run = _Run(repo, line, base, lambda: base, None, Decisions())
    position = [entry.slug for entry in line.entries].index(slug)
    parent, own = run.own(position - 1), run.own(position)
    if parent is None or own is None:
        raise Refused(
            f"{slug} does not apply to the base of its own line",
            where=str(line.folder / f"{slug}.patch"),
            hint="fixtool lint --drift",
        )
    return own, parent


class _Run:
    """The state of one replay: the commit so far, and the series on its own base if needed."""

    def __init__(
        self,
        repo: Repo,
        line: Line,
        onto: str,
        base: Callable[[], str],
        cache: Path | None,
        decisions: Decisions,
    ) -> None:
        self.repo = repo
        self.decisions = decisions
        self.line = line
        self.patches = line.patches
        self.onto = onto
        self.commit = onto
        self._bring_base = base
        self._own: dict[int, str | None] = {}
        self._prefix = _Prefix(cache, onto, line.upstream.base, self.patches)

    @cached_property
    def base(self) -> str:
        return self._bring_base()

    def whole_series(self) -> Replay:
        results = self._prefix.load(self.repo)
        reused = len(results)
        if results:
            made = [one.commit for one in results if one.commit]
            self.commit = made[-1] if made else self.onto
        self.tree: str = self.repo.tree_id(self.commit)
        if reused < len(self.patches):
            with scratch_index(self.repo, self.tree) as index:
                for position in range(reused, len(self.patches)):
                    results.append(self._one(position, index, results))
            self._prefix.store(results)
        return Replay(
            self.line.name, self.line.upstream.base, self.onto, self.commit, self.tree,
            tuple(results), reused,
        )  # fmt: skip

    def _one(self, position: int, index: Path, before: Sequence[PatchResult]) -> PatchResult:
        patch = self.patches[position]
        if state := self.decisions.left_out.get(patch.slug):
            return PatchResult(patch.slug, patch.subject, state.verdict, None, (), state.evidence)
        if tree := self.decisions.resolved.get(patch.slug):
            return self._resolved(patch, tree, index)
        targets = self._target_files(patch)
        strict = self._strictly(patch, index)
        merge = None
        if strict is not None and all(same_blob(one, targets) for one in patch.files):
            files = tuple(untouched(one) for one in patch.files)
        else:
            files = tuple(place(one, targets, self.repo) for one in patch.files)
            if strict is None or any(one.verdict is not Verdict.CLEAN for one in files):
                merge = self._three_way(position)
        result, tree = self._judge(patch, files, strict, merge, frozenset(targets))
        if (tree or self.tree) != (strict or self.tree):  # what the index holds is not the outcome
            self.repo.run("read-tree", tree or self.tree, index=index)
        if result.verdict is Verdict.CONFLICT and (cause := self._cause(position, before)):
            why = f"does not apply to its own base without {cause}"
            return replace(result, verdict=Verdict.BLOCKED, evidence=(*result.evidence, why))
        if tree is None or tree == self.tree:
            return result
        commit = self.repo.write_commit(patch.commit(tree, self.commit))
        self.commit, self.tree = commit, tree
        return replace(result, commit=commit)

    def _resolved(self, patch: Patch, tree: str, index: Path) -> PatchResult:
        """Somebody's resolution; one that changes nothing says that upstream has it all."""
        self.repo.run("read-tree", tree, index=index)
        if tree == self.tree:
            why = "resolved by hand to what upstream has"
            return PatchResult(patch.slug, patch.subject, Verdict.ABSORBED, None, (), (why,))
        changed = changed_files(self.repo, self.tree, tree)
        files = tuple(FileResult(one.path, Verdict.MERGED, ()) for one in changed)
        self.tree = tree
        self.commit = self.repo.write_commit(patch.commit(tree, self.commit))
        return PatchResult(
            patch.slug, patch.subject, Verdict.MERGED, self.commit, files, ("resolved by hand",)
        )

    def _judge(
        self,
        patch: Patch,
        files: tuple[FileResult, ...],
        strict: str | None,
        merge: Merge | None,
        present: frozenset[str],
    ) -> tuple[PatchResult, str | None]:
        """The verdict, and the tree it makes (None: none)."""

        def result(verdict: Verdict, *evidence: str) -> PatchResult:
            return PatchResult(patch.slug, patch.subject, verdict, None, files, evidence)

        if strict is not None and strict == self.tree:
            return result(Verdict.ABSORBED, "applying it changes nothing"), strict
        if merge is None and strict is not None:
            moved = any(one.verdict is not Verdict.CLEAN for one in files)
            return result(Verdict.OFFSET if moved else Verdict.CLEAN), strict
        if merge is None:
            return result(Verdict.CONFLICT, "does not apply to its own base either"), None
        if merge.conflicts:
            files = tuple(conflicted(one, merge.conflicts) for one in files)
            evidence = [f"conflict in {', '.join(merge.conflicts)}"]
            if strict is not None:  # a twin of its place would take it; its own has changed
                evidence.append("`git apply` alone would have put it in a wrong place")
            return result(Verdict.CONFLICT, *evidence), None
        if merge.tree == self.tree:
            files = tuple(all_of(one, Verdict.ABSORBED) for one in files)
            return result(Verdict.ABSORBED, "the three-way merge changes nothing"), merge.tree
        if strict == merge.tree:
            return result(Verdict.OFFSET), merge.tree
        changed = {one.path for one in changed_files(self.repo, self.tree, merge.tree)}
        same = present - changed
        files = tuple(merged(one, same) for one in files)
        part = any(hunk.verdict is Verdict.ABSORBED for one in files for hunk in one.hunks) or any(
            one.verdict is Verdict.ABSORBED for one in files
        )
        evidence = ["merged three-way"]
        if strict is not None:
            evidence.append("`git apply` alone would have put it elsewhere")
        return result(Verdict.PARTLY_ABSORBED if part else Verdict.MERGED, *evidence), merge.tree

    def _strictly(self, patch: Patch, index: Path) -> str | None:
        """The tree after `git apply --cached`; None, with the index as it was, where it fails."""
        if apply_to_index(self.repo, index, patch.diff).status != 0:
            return None
        return write_tree(self.repo, index)

    def _three_way(self, position: int) -> Merge | None:
        own = self.own(position)
        if own is None:
            return None
        parent = self.own(position - 1)
        assert parent is not None
        return merge_three_way(self.repo, parent, self.commit, own)

    def own(self, position: int) -> str | None:
        """The series up to ``position`` as commits on its base; None where it does not apply."""
        if position < 0:
            return self.base
        if position not in self._own:
            parent = self.own(position - 1)
            self._own[position] = parent and self._commit_on(parent, self.patches[position])
        return self._own[position]

    def _commit_on(self, parent: str, patch: Patch) -> str | None:
        tree, _ = apply_on(self.repo, patch, parent)
        return tree and self.repo.write_commit(patch.commit(tree, parent))

    def _cause(self, position: int, before: Sequence[PatchResult]) -> str | None:
        """The failed patches without which this one cannot apply even to its own base: then it is
        blocked, not in conflict with upstream."""
        failed = [one.slug for one in before if one.verdict in FAILED]
        named = [one for one in failed if one in self.patches[position].depends_on]
        if named or not failed:
            return ", ".join(named) or None
        tip: str | None = self.base
        for patch in self.patches[: position + 1]:
            if patch.slug not in failed:
                tip = self._commit_on(tip, patch) if tip else None
        return None if tip else ", ".join(failed)

    def _target_files(self, patch: Patch) -> dict[str, TreeEntry]:
        return list_tree(self.repo, self.tree, *sorted(patch.paths))


# -- the prefix cache ------------------------------------------------------------------------


class _Prefix:
    """Verdicts by content: target, base, and the bytes of every patch so far.

    Only a run of successes is kept; plain JSON, safe to delete, dropped when long unused.
    """

    def __init__(self, folder: Path | None, onto: str, base: str, patches: Sequence[Patch]) -> None:
        self.folder = folder
        self.keys: list[str] = []
        key = f"{_CACHE_FORMAT} {onto} {base}"
        for patch in patches:
            key = hashlib.sha256(f"{key} {patch.slug} {patch.digest}".encode()).hexdigest()
            self.keys.append(key)

    def load(self, repo: Repo) -> list[PatchResult]:
        """The longest known prefix whose commits are all in ``repo``."""
        results: list[PatchResult] = []
        if self.folder is None:
            return results
        for key in self.keys:
            try:
                text = (self.folder / f"{key}.json").read_text("utf-8")
                results.append(read_patch_result(Field(json.loads(text))))
            except (OSError, ValueError):
                break
        while results and not repo.has(*(one.commit for one in results if one.commit)):
            results.pop()
        return results

    def store(self, results: Sequence[PatchResult]) -> None:
        """Keep what succeeded. A cache that cannot be written (a read-only or full disk) costs
        time, never the result."""
        if self.folder is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for key, result in zip(self.keys, results, strict=True):
                if result.verdict in FAILED:
                    break
                write_atomically(self.folder / f"{key}.json", json.dumps(asdict(result)))
            self._prune()
        except OSError:
            return

    def _prune(self) -> None:
        assert self.folder is not None
        oldest = time.time() - _CACHE_DAYS * 86400
        for path in self.folder.iterdir():
            if path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)
