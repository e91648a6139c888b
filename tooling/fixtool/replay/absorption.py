"""Has upstream this patch? No single test is right alone, so each says what it saw.

A patch-id misses what was squashed or moved, a reverse apply what was edited later, both say yes
to what was taken back, and none sees what a review changed: then the share of added lines does, and
the pull request's number (`history.told`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fixtool.git.repo import Repo
from fixtool.git.trees import scratch_index
from fixtool.series.patch import Patch, patch_id

_TELLING = 4  # characters: shorter lines, such as `)`, are in any commit


def evidence(repo: Repo, patch: Patch, onto: str, culprit: str | None) -> tuple[str, ...]:
    """What each test says of ``patch`` on commit ``onto``; ``culprit`` is the upstream commit that
    changed its verdict, whose diff is compared."""
    said = []
    if culprit:
        added = _added(patch.diff)
        theirs = _diff(repo, culprit)
        shared = sum((Counter(added) & Counter(_added(theirs))).values())
        if added:
            said.append(f"{shared} of its {len(added)} added lines are in {culprit[:12]}")
        same = patch_id(repo, patch.diff) == patch_id(repo, _diff(repo, culprit, *patch.paths))
        said.append(f"its patch-id is {'' if same else 'not '}that of {culprit[:12]}")
    with scratch_index(repo, onto) as index:
        back = repo.run("apply", "--cached", "--check", "-R", "--binary", "-",
                        stdin=patch.diff, index=index, accept=None)  # fmt: skip
    said.append(f"its reverse {'applies' if back.status == 0 else 'does not apply'}")
    return tuple(said)


def lost_lines(patch: Patch, texts: Iterable[str]) -> list[str]:
    """The telling lines that ``patch`` adds and that none of ``texts`` holds."""
    there = {line.strip() for text in texts for line in text.split("\n")}
    return [line for line in _added(patch.diff) if line not in there]


def _diff(repo: Repo, commit: str, *paths: str) -> bytes:
    return repo.run(
        "diff-tree", "-p", "--no-renames", "--no-color", "--no-ext-diff", "--no-textconv",
        "--no-commit-id", "--diff-merges=first-parent", "--root", commit,
        "--", *(f":(literal){path}" for path in sorted(paths)),
    ).stdout  # fmt: skip


def _added(diff: bytes) -> list[str]:
    text = diff.decode("utf-8", "surrogateescape")
    lines = [line[1:].strip() for line in text.split("\n") if line[:1] == "+" and line[:3] != "+++"]
    return [line for line in lines if len(line) >= _TELLING]
