"""Tests of whether upstream has a patch already.

No test is right alone, so each says what it found. A patch-id misses a patch that was squashed or
moved. A reverse apply misses one that was edited later. Both say yes to one that was taken back,
and both miss one that a review changed; the share of added lines shows that, and so does the number
of the pull request (`history.run`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fixtool.git.repo import Repo
from fixtool.git.trees import scratch_index
from fixtool.series.patch import Patch, patch_id

_SHORTEST = 4  # characters: shorter lines, such as `)`, are in any commit


def compare_with_upstream(
    repo: Repo, patch: Patch, onto: str, culprit: str | None
) -> tuple[str, ...]:
    """What each test found for ``patch`` on commit ``onto``, one sentence each. ``culprit`` is the
    upstream commit that changed the patch's verdict; its diff is compared with the patch."""
    evidence = []
    if culprit:
        added = _added_lines(patch.diff)
        theirs = _added_lines(_diff(repo, culprit))
        shared = sum((Counter(added) & Counter(theirs)).values())
        if added:
            evidence.append(f"{shared} of its {len(added)} added lines are in {culprit[:12]}")
        same = patch_id(repo, patch.diff) == patch_id(repo, _diff(repo, culprit, *patch.paths))
        evidence.append(f"its patch-id is {'' if same else 'not '}that of {culprit[:12]}")
    with scratch_index(repo, onto) as index:
        reverse = repo.run("apply", "--cached", "--check", "-R", "--binary", "-",
                           stdin=patch.diff, index=index, accept=None)  # fmt: skip
    evidence.append(f"its reverse {'applies' if reverse.status == 0 else 'does not apply'}")
    return tuple(evidence)


def missing_lines(patch: Patch, texts: Iterable[str]) -> list[str]:
    """The lines that ``patch`` adds and that none of ``texts`` holds; very short ones aside."""
    present = {line.strip() for text in texts for line in text.split("\n")}
    return [line for line in _added_lines(patch.diff) if line not in present]


def _diff(repo: Repo, commit: str, *paths: str) -> bytes:
    return repo.run(
        "diff-tree", "-p", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv",
        "--no-commit-id", "--diff-merges=first-parent", "--root", commit,
        "--", *(f":(literal){path}" for path in sorted(paths)),
    ).stdout  # fmt: skip


def _added_lines(diff: bytes) -> list[str]:
    text = diff.decode("utf-8", "surrogateescape")
    lines = [line[1:].strip() for line in text.split("\n") if line[:1] == "+" and line[:3] != "+++"]
    return [line for line in lines if len(line) >= _SHORTEST]
