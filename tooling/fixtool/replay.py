"""Replay: a series onto a commit, in the object database, with one verdict a patch.

Strict first (`git apply --cached`), since it is exact and needs nothing but the target. Where the
target's file is not the one the patch was written against, a three-way merge of the patch, as a
commit on its own base, decides: `git apply` alone would put an absorbed block in a second time
wherever its context repeats. No work tree is touched and no ref moves.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from fixtool.objects import Merge
from fixtool.patch import FilePatch, Hunk, Patch, apply_on
from fixtool.repo import Repo
from fixtool.series import Line

_CACHE_FORMAT = 3
_CACHE_DAYS = 90


class Verdict(StrEnum):
    """What became of a patch, a file or a hunk."""

    CLEAN = "clean"
    OFFSET = "offset"  # applied, its lines had moved
    MERGED = "merged"  # three-way
    ABSORBED = "absorbed"  # the target has it already
    PARTLY_ABSORBED = "partly-absorbed"
    CONFLICT = "conflict"
    BLOCKED = "blocked"  # fails only because an earlier patch did


FAILED = frozenset({Verdict.CONFLICT, Verdict.BLOCKED})


@dataclass(frozen=True)
class HunkResult:
    """``written_for`` is the line (1-based) of the patch's own base where the hunk begins, ``line``
    that of the target, None where it has no place there; ``offset`` is how far they are apart."""

    number: int
    verdict: Verdict
    written_for: int
    line: int | None
    offset: int | None


@dataclass(frozen=True)
class FileResult:
    path: str
    verdict: Verdict
    hunks: tuple[HunkResult, ...]


@dataclass(frozen=True)
class PatchResult:
    """``commit`` is None where the patch made none: absorbed, conflict, blocked."""

    slug: str
    subject: str
    verdict: Verdict
    commit: str | None
    files: tuple[FileResult, ...]
    evidence: tuple[str, ...] = ()


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


def replay(
    repo: Repo,
    line: Line,
    onto: str,
    *,
    base: Callable[[], str] | None = None,
    cache: Path | None = None,
) -> Replay:
    """Apply ``line`` to commit ``onto``.

    ``base`` brings the line's base commit into ``repo`` and returns it; it is called only when a
    three-way merge needs it. ``cache`` is a folder of verdicts by prefix; None does without.
    """
    run = _Run(repo, line, onto, base or (lambda: line.upstream.base), cache)
    return run.whole_series()


class _Run:
    """The state of one replay: the commit so far, and the series on its own base if needed."""

    def __init__(
        self, repo: Repo, line: Line, onto: str, base: Callable[[], str], cache: Path | None
    ) -> None:
        self.repo = repo
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
        self.tree = self.repo.tree_id(self.commit)
        if reused < len(self.patches):
            with self.repo.scratch_index(self.tree) as index:
                for position in range(reused, len(self.patches)):
                    results.append(self._one(position, index, results))
            self._prefix.store(results)
        return Replay(
            self.line.name, self.line.upstream.base, self.onto, self.commit, self.tree,
            tuple(results), reused,
        )  # fmt: skip

    def _one(self, position: int, index: Path, before: Sequence[PatchResult]) -> PatchResult:
        patch = self.patches[position]
        targets = self._target_files(patch)
        strict = self._strictly(patch, index)
        merge = None
        if strict is not None and all(_same_blob(one, targets) for one in patch.files):
            files = tuple(_untouched(one) for one in patch.files)
        else:
            files = tuple(_place(one, targets, self.repo) for one in patch.files)
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
            files = tuple(_conflicted(one, merge.conflicts) for one in files)
            evidence = [f"conflict in {', '.join(merge.conflicts)}"]
            if strict is not None:  # a twin of its place would take it; its own has changed
                evidence.append("`git apply` alone would have put it in a wrong place")
            return result(Verdict.CONFLICT, *evidence), None
        if merge.tree == self.tree:
            files = tuple(_all(one, Verdict.ABSORBED) for one in files)
            return result(Verdict.ABSORBED, "the three-way merge changes nothing"), merge.tree
        if strict == merge.tree:
            return result(Verdict.OFFSET), merge.tree
        changed = {one.path for one in self.repo.changes(self.tree, merge.tree)}
        same = present - changed
        files = tuple(_merged(one, same) for one in files)
        part = any(hunk.verdict is Verdict.ABSORBED for one in files for hunk in one.hunks) or any(
            one.verdict is Verdict.ABSORBED for one in files
        )
        evidence = ["merged three-way"]
        if strict is not None:
            evidence.append("`git apply` alone would have put it elsewhere")
        return result(Verdict.PARTLY_ABSORBED if part else Verdict.MERGED, *evidence), merge.tree

    def _strictly(self, patch: Patch, index: Path) -> str | None:
        """The tree after `git apply --cached`; None, with the index as it was, where it fails."""
        if self.repo.apply_to_index(index, patch.diff).status != 0:
            return None
        return self.repo.write_tree(index)

    def _three_way(self, position: int) -> Merge | None:
        own = self._on_own_base(position)
        if own is None:
            return None
        parent = self._on_own_base(position - 1)
        assert parent is not None
        return self.repo.merge(parent, self.commit, own)

    def _on_own_base(self, position: int) -> str | None:
        """The series up to ``position`` as commits on its base; None where it does not apply."""
        if position < 0:
            return self.base
        if position not in self._own:
            parent = self._on_own_base(position - 1)
            self._own[position] = parent and self._commit_on(parent, self.patches[position])
        return self._own[position]

    def _commit_on(self, parent: str, patch: Patch) -> str | None:
        tree, _ = apply_on(self.repo, patch, parent)
        return tree and self.repo.write_commit(patch.commit(tree, parent))

    def _cause(self, position: int, before: Sequence[PatchResult]) -> str | None:
        """The failed patches without which this one cannot apply even to its own base: then it is
        blocked, not in conflict with upstream."""
        failed = [one.slug for one in before if one.verdict in FAILED]
        named = [one for one in failed if one in depends_on(self.patches[position])]
        if named or not failed:
            return ", ".join(named) or None
        tip: str | None = self.base
        for patch in self.patches[: position + 1]:
            if patch.slug not in failed:
                tip = self._commit_on(tip, patch) if tip else None
        return None if tip else ", ".join(failed)

    def _target_files(self, patch: Patch) -> dict[str, tuple[str, str]]:
        paths = [path for one in patch.files for path in (one.old_path, one.new_path) if path]
        return self.repo.entries(self.tree, *(f":(literal){path}" for path in sorted(set(paths))))


def depends_on(patch: Patch) -> tuple[str, ...]:
    """The slugs in a patch's ``Depends-On:`` trailers."""
    values = [value for key, value in patch.trailers if key.lower() == "depends-on"]
    return tuple(slug for value in values for slug in value.replace(",", " ").split())


# -- where hunks stand -----------------------------------------------------------------------


def _same_blob(one: FilePatch, targets: dict[str, tuple[str, str]]) -> bool:
    """Whether the target's file is the very one the patch was written against."""
    if one.old_path is None:
        return one.path not in targets
    here = targets.get(one.old_path)
    return here is not None and one.old_blob is not None and here[1].startswith(one.old_blob)


def _untouched(one: FilePatch) -> FileResult:
    hunks = tuple(
        HunkResult(h.number, Verdict.CLEAN, h.old_start, h.old_start, 0) for h in one.hunks
    )
    return FileResult(one.path, Verdict.CLEAN, hunks)


def _place(one: FilePatch, targets: dict[str, tuple[str, str]], repo: Repo) -> FileResult:
    """Look for each hunk in the target's file: its old side (it can go in), else its new side (it
    is there already), else nothing."""
    here = targets.get(one.old_path or one.path)
    if one.binary or not one.hunks or here is None:
        fits = _same_blob(one, targets)
        if here is None and one.old_path is not None:
            hunks = tuple(_unplaced(h) for h in one.hunks)
            return FileResult(one.path, Verdict.CONFLICT, hunks)
        return FileResult(one.path, Verdict.CLEAN if fits else Verdict.CONFLICT, ())
    text = next(iter(repo.read_blobs([here[1]]))).decode("utf-8", "surrogateescape")
    lines = _lines(text)
    shift = 0
    hunks_found = []
    for hunk in one.hunks:
        placed = _find_hunk(hunk, lines, shift)
        shift = placed.offset if placed.offset is not None else shift
        hunks_found.append(placed)
    return FileResult(one.path, _worst(hunks_found), tuple(hunks_found))


def _lines(text: str) -> list[str]:
    """Lines as git has them: only a newline ends one (str.splitlines cuts at form feeds too)."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _find_hunk(hunk: Hunk, lines: Sequence[str], shift: int) -> HunkResult:
    at = _find(lines, hunk.before, hunk.old_start - 1 + shift)
    if at is not None and hunk.before:
        offset = at - (hunk.old_start - 1)
        verdict = Verdict.OFFSET if offset else Verdict.CLEAN
        return HunkResult(hunk.number, verdict, hunk.old_start, at + 1, offset)
    at = _find(lines, hunk.after, hunk.new_start - 1 + shift)
    if at is not None and hunk.after:
        offset = at - (hunk.new_start - 1)
        return HunkResult(hunk.number, Verdict.ABSORBED, hunk.old_start, at + 1, offset)
    return _unplaced(hunk)


def _unplaced(hunk: Hunk) -> HunkResult:
    return HunkResult(hunk.number, Verdict.CONFLICT, hunk.old_start, None, None)


def _find(lines: Sequence[str], wanted: Sequence[str], near: int) -> int | None:
    """Where ``wanted`` stands in ``lines``, nearest to index ``near``."""
    size = len(wanted)
    places = (
        at
        for at in range(len(lines) - size + 1)
        if lines[at] == wanted[0] and tuple(lines[at : at + size]) == tuple(wanted)
    )
    return min(places, key=lambda at: abs(at - near), default=None) if size else None


def _worst(hunks: Sequence[HunkResult]) -> Verdict:
    found = {hunk.verdict for hunk in hunks}
    for verdict in (Verdict.CONFLICT, Verdict.MERGED):
        if verdict in found:
            return verdict
    if Verdict.ABSORBED in found:
        return Verdict.ABSORBED if found == {Verdict.ABSORBED} else Verdict.PARTLY_ABSORBED
    return Verdict.OFFSET if Verdict.OFFSET in found else Verdict.CLEAN


def _all(one: FileResult, verdict: Verdict) -> FileResult:
    hunks = tuple(replace(h, verdict=verdict) for h in one.hunks)
    return FileResult(one.path, verdict, hunks)


def _merged(one: FileResult, same: frozenset[str]) -> FileResult:
    """After a clean merge no hunk is in conflict: one with no place of its own was merged (near a
    change of upstream's, or in a file that moved). ``same`` are paths the merge left as they were.
    """
    if one.path in same:
        return _all(one, Verdict.ABSORBED)
    hunks = tuple(
        replace(h, verdict=Verdict.MERGED) if h.verdict is Verdict.CONFLICT else h
        for h in one.hunks
    )
    return FileResult(one.path, _worst(hunks) if hunks else Verdict.MERGED, hunks)


def _conflicted(one: FileResult, conflicts: Sequence[str]) -> FileResult:
    """Hunks without a place are what the conflict is about, in the files that git names; hunks in
    other files were merged."""
    if one.path in conflicts:
        return FileResult(one.path, Verdict.CONFLICT, one.hunks)
    return _merged(one, frozenset())


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
                results.append(_read_result((self.folder / f"{key}.json").read_text("utf-8")))
            except (OSError, ValueError, KeyError, TypeError):
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
                path = self.folder / f"{key}.json"
                partial = path.with_suffix(f".{os.getpid()}")
                partial.write_text(json.dumps(asdict(result)), "utf-8")
                partial.replace(path)
            self._prune()
        except OSError:
            return

    def _prune(self) -> None:
        assert self.folder is not None
        oldest = time.time() - _CACHE_DAYS * 86400
        for path in self.folder.iterdir():
            if path.stat().st_mtime < oldest:
                path.unlink(missing_ok=True)


def _read_result(text: str) -> PatchResult:
    data = json.loads(text)
    files = tuple(
        FileResult(
            one["path"],
            Verdict(one["verdict"]),
            tuple(HunkResult(**{**h, "verdict": Verdict(h["verdict"])}) for h in one["hunks"]),
        )
        for one in data["files"]
    )
    return PatchResult(
        data["slug"], data["subject"], Verdict(data["verdict"]), data["commit"], files,
        tuple(data["evidence"]),
    )  # fmt: skip
