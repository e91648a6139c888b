"""Tests of whether upstream has a patch already.

No test is right alone, so each says what it found. A patch-id misses a patch that was squashed or
moved. A reverse apply misses one that was edited later. Both say yes to one that was taken back,
and both miss one that a review changed; the share of added lines shows that, and so does the number
of the pull request (`history.run`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo, reading_answer
from fixtool.git.trees import scratch_index
from fixtool.series.patch import Patch, patch_ids
from fixtool.series.strict import LeftToGit, applies_reversed

_SHORTEST = 4  # characters: shorter lines, such as `)`, are in any commit
_TOGETHER = 50  # patches whose diffs are compared at a time
_PLAIN = re.compile(r"[ !#-\[\]-~]+")  # a path that git does not quote
_ID = re.compile(rb"^([0-9a-f]{40})\n", re.MULTILINE)
_DIFF_WORDS = (
    "diff-tree", "-p", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv",
    "--diff-merges=first-parent", "--root",
)  # fmt: skip


def compare_with_upstream(
    objects: ObjectDatabase, onto: Oid, patches: Sequence[tuple[Patch, str | None]]
) -> list[tuple[str, ...]]:
    """What each test found for each of ``patches`` on commit ``onto``, one sentence each. With a
    patch stands the upstream commit that changed the patch's verdict, if there is one; its diff is
    compared with the patch."""
    pairs = [(patch, sha) for patch, sha in patches if sha]
    compared: dict[str, tuple[str, ...]] = {}
    for at in range(0, len(pairs), _TOGETHER):
        compared |= _compare(objects.repo, pairs[at : at + _TOGETHER])
    undone = _undone(objects, [patch for patch, _ in patches], onto)
    return [
        (*compared.get(patch.slug, ()), f"its reverse {'applies' if fits else 'does not apply'}")
        for (patch, _), fits in zip(patches, undone, strict=True)
    ]


def _undone(objects: ObjectDatabase, patches: Sequence[Patch], onto: Oid) -> list[bool]:
    """Whether `git apply --reverse` takes each of ``patches`` out of commit ``onto``."""
    undone: list[bool] = []
    tree = objects.tree_of(onto)
    with ExitStack() as stack:
        index: Path | None = None
        for patch in patches:
            try:
                undone.append(applies_reversed(objects, patch, tree))
            except LeftToGit:
                # One index serves all patches: to read a tree takes git longer than the rest.
                index = index or stack.enter_context(scratch_index(objects.repo, onto))
                undone.append(_is_undone_by_git(objects.repo, patch, index))
    return undone


def _compare(repo: Repo, pairs: Sequence[tuple[Patch, str]]) -> dict[str, tuple[str, ...]]:
    """What the diffs of patches have in common with those of upstream's commits, by slug."""
    diffs = _diffs(repo, sorted({sha for _, sha in pairs}))
    theirs = {sha: Counter(_added_lines(diff)) for sha, diff in diffs.items()}
    ours = [patch.diff for patch, _ in pairs]
    ids = patch_ids(repo, [*ours, *(_part(repo, sha, diffs[sha], patch) for patch, sha in pairs)])
    evidence = {}
    for number, (patch, sha) in enumerate(pairs):
        found = []
        added = _added_lines(patch.diff)
        shared = sum((Counter(added) & theirs[sha]).values())
        if added:
            found.append(f"{shared} of its {len(added)} added lines are in {sha[:12]}")
        same = ids[number] == ids[number + len(pairs)]
        found.append(f"its patch-id is {'' if same else 'not '}that of {sha[:12]}")
        evidence[patch.slug] = tuple(found)
    return evidence


@reading_answer("diff-tree")
def _diffs(repo: Repo, commits: Sequence[str]) -> dict[str, bytes]:
    """The diffs of commits to their first parents, from one process."""
    if not commits:
        return {}
    ids = "".join(f"{commit}\n" for commit in commits).encode()
    text = repo.run(*_DIFF_WORDS, "--stdin", "--always", stdin=ids).stdout
    found = list(_ID.finditer(text))  # no line of a diff is an id alone
    if [match[1].decode() for match in found] != list(commits):
        raise ValueError(text[:100])
    ends = [*(match.start() for match in found[1:]), len(text)]
    return {match[1].decode(): text[match.end() : end]
            for match, end in zip(found, ends, strict=True)}  # fmt: skip


def _part(repo: Repo, commit: str, diff: bytes, patch: Patch) -> bytes:
    """The part of a commit's ``diff`` that is about the files of ``patch``."""
    paths = sorted(patch.paths)
    starts = [b"diff --git a/%s/" % path.encode("utf-8", "surrogateescape") for path in paths]
    if not all(map(_PLAIN.fullmatch, paths)) or any(start in diff for start in starts):
        return repo.run(
            *_DIFF_WORDS, "--no-commit-id", commit, "--", *(f":(literal){path}" for path in paths)
        ).stdout
    heads = {f"diff --git a/{path} b/{path}".encode() for path in paths}
    sections = re.split(rb"^(?=diff --git )", diff, flags=re.MULTILINE)
    return b"".join(part for part in sections if part.partition(b"\n")[0] in heads)


def _is_undone_by_git(repo: Repo, patch: Patch, index: Path) -> bool:
    """The same of one patch, by git, and of the tree that an index holds."""
    words = ("apply", "--cached", "--check", "-R", "--binary", "-")
    return repo.run(*words, stdin=patch.diff, index=index, accept=None).status == 0


def missing_lines(patch: Patch, texts: Iterable[str]) -> list[str]:
    """The lines that ``patch`` adds and that none of ``texts`` holds; very short ones aside."""
    added = _added_lines(patch.diff)
    missing = set(added)
    for text in texts:
        missing.difference_update(map(str.strip, text.split("\n")))
        if not missing:
            break  # the other texts need not be read
    return [line for line in added if line in missing]


def _added_lines(diff: bytes) -> list[str]:
    text = diff.decode("utf-8", "surrogateescape")
    lines = [line[1:].strip() for line in text.split("\n") if line[:1] == "+" and line[:3] != "+++"]
    return [line for line in lines if len(line) >= _SHORTEST]
