"""Commits in the patch repository: one for each change of a line.

The commit is the user's: their name, their branch. Only the line's folder goes into it, whatever
else is staged or changed, and no hook runs. A note of what is to be committed is written before the
folder changes, so that the next run finishes what a killed run began.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from fixtool.errors import CannotRun, FixtoolError, Refused
from fixtool.git.objects import Commit, Oid, Signature, parse_signature
from fixtool.git.process import remove_stale_locks
from fixtool.git.repo import Repo
from fixtool.git.trees import write_tree
from fixtool.series.write import rewrite

_NOTE = "fixtool.pending.json"


def open_git(root: Path) -> Repo | None:
    """The git repository that tracks the patch repository at ``root``; None if there is none. What
    a killed run had still to commit is committed first."""
    try:
        git = Repo.open(root)
    except FixtoolError:
        return None
    if git.work_tree is None:
        return None
    ignored = git.run("check-ignore", "--quiet", str(root.resolve() / "patches"), accept=None)
    if ignored.status == 0:
        return None
    _finish(git)
    return git


def open_for_commit(root: Path, folder: Path) -> Repo | None:
    """Like ``open_git``, and make sure that a change of the line at ``folder`` can be committed.
    Raises Refused if the folder has uncommitted changes, CannotRun if git does not know the user's
    name."""
    if git := open_git(root):
        require_committed(git, folder)
        committer(git)
    return git


def require_committed(git: Repo, folder: Path) -> None:
    """Raise Refused if ``folder`` has uncommitted changes: rewriting it could lose them."""
    if changed := git.status(str(folder)):
        raise Refused(
            f"{changed[0]} is not committed",
            where=str(folder),
            hint=f"git -C {git.work_tree} commit {folder}, or git stash",
        )


def committer(git: Repo) -> Signature:
    """Who commits, as git says it, from the environment or the user's configuration. Raises
    CannotRun if git does not know."""
    text = git.run_as_user("-C", str(git.work_tree), "var", "GIT_COMMITTER_IDENT").strip()
    if not re.search(r"<\S+@?\S*> \d+ [+-]\d{4}$", text):
        raise CannotRun(
            "git does not know who you are, so the change cannot be committed",
            where=str(git.work_tree),
            hint="git config --global user.name NAME; git config --global user.email MAIL",
        )
    return parse_signature(text)


def rewrite_and_commit(
    git: Repo | None,
    folder: Path,
    files: Mapping[str, bytes],
    remove: Collection[str],
    message: str,
) -> Oid | None:
    """Write ``files`` into the line at ``folder``, take ``remove`` away, and commit that. Returns
    the commit; None without a git repository, or if nothing changed."""
    if git is None:
        rewrite(folder, files, frozenset(remove))
        return None
    after = {**_contents(folder), **files}
    after = {name: data for name, data in after.items() if name not in remove}
    note = git.git_dir / _NOTE
    text = {"folder": str(folder), "digest": _digest(after), "message": message}
    note.write_text(json.dumps(text), "utf-8")
    rewrite(folder, files, frozenset(remove))
    commit = _commit(git, folder, message)
    note.unlink()
    return commit


def _finish(git: Repo) -> None:
    """Commit what a killed run wrote, if the folder holds what that run was to write."""
    note = git.git_dir / _NOTE
    try:
        pending = json.loads(note.read_text("utf-8"))
        folder, digest, message = Path(pending["folder"]), pending["digest"], pending["message"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if _digest(_contents(folder)) == digest:
        remove_stale_locks(git.git_dir, "index", "HEAD", git.current_branch())
        _commit(git, folder, message)
    note.unlink()


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode("utf-8", "surrogateescape"))
        digest.update(files[name])
    return digest.hexdigest()


def _commit(git: Repo, folder: Path, message: str) -> Oid | None:
    """Commit ``folder``, and nothing else, as it lies on disk; None if nothing changed."""
    head = git.head()
    author = committer(git)
    with tempfile.TemporaryDirectory(prefix="fixtool-index-") as scratch:
        index = Path(scratch) / "index"
        if head:
            git.run("read-tree", head, index=index)
        git.run("add", "--all", "--", str(folder), index=index)
        tree = write_tree(git, index)
    commit = None
    if not head or tree != git.tree_id(head):
        commit = git.write_commit(Commit(tree, (head,) if head else (), author, author, message))
        git.update_refs([(git.current_branch(), commit, head)], message.split("\n")[0])
    git.run("add", "--all", "--", str(folder))  # the user's index then agrees with the commit
    return commit
