"""What git is in the middle of: a merge or a rebase that stopped, and what conflicts in it."""

from __future__ import annotations

from fixtool.git.repo import Repo
from fixtool.text import argument

_UNDER_WAY = {  # a cherry-pick of a rebase is one of the rebase's
    "rebase-apply/applying": "am", "rebase-apply": "rebase", "rebase-merge": "rebase",
    "MERGE_HEAD": "merge", "CHERRY_PICK_HEAD": "cherry-pick", "REVERT_HEAD": "revert",
}  # fmt: skip
"""The files in a git folder that say what git is in the middle of, and the command that it is."""


def under_way(repo: Repo) -> str | None:
    """The command of git that has stopped in ``repo`` and waits for a person; None if none has."""
    for name, verb in _UNDER_WAY.items():
        if (repo.git_dir / name).exists():
            return verb
    return None


def said(verb: str) -> str:
    """The sentence that git is in the middle of ``verb``."""
    return f"git is in the middle of {'an' if verb == 'am' else 'a'} {verb} here"


def ways_out(repo: Repo, verb: str) -> str:
    """The commands that end ``verb``."""
    at = f"git -C {argument(str(repo.work_tree))}"
    return f"finish it: {at} {verb} --continue; or give it up: {at} {verb} --abort"


def unmerged(repo: Repo, *paths: str) -> list[str]:
    """The paths at or below ``paths`` that conflict in the merge or rebase that has stopped."""
    out = repo.run("diff", "--name-only", "-z", "--diff-filter=U", "--relative", "--", *paths)
    return [path for path in out.stdout.decode("utf-8", "surrogateescape").split("\0") if path]


def end_of_conflict(repo: Repo, path: str) -> str:
    """What to do about ``path``, which conflicts in a merge of git's."""
    at, name = f"git -C {argument(str(repo.work_tree))}", argument(path)
    verb = under_way(repo)
    give_up = f"give the {verb} up: {at} {verb} --abort; or " if verb else ""
    then = f" && {at} {verb} --continue" if verb else ""
    return f"{give_up}edit the file until it holds no marker, then: {at} add {name}{then}"
