"""The patch repository's own git history: one commit for one change of a line.

The commit is the user's: their name, their branch. Only the line's folder goes into it, whatever
else is staged or changed, and no hook runs. What is to be committed is noted before the folder
changes, so that a run that is killed between the two is finished by the next.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from fixtool.errors import CannotRun, FixtoolError, Refused
from fixtool.git.objects import Commit, Signature, parse_signature
from fixtool.git.process import remove_stale_locks
from fixtool.git.repo import Repo
from fixtool.git.trees import write_tree
from fixtool.series.line import rewrite

_NOTE = "fixtool.pending.json"


def open_journal(root: Path) -> Repo | None:
    """The git repository that holds the patch repository at ``root``; None where there is none.
    What a killed run had still to commit is committed."""
    try:
        repo = Repo.open(root)
    except FixtoolError:
        return None
    if repo.work_tree is None:
        return None
    ignored = repo.run("check-ignore", "--quiet", str(root.resolve() / "patches"), accept=None)
    if ignored.status == 0:
        return None
    _finish(repo)
    return repo


def require_saved(journal: Repo, folder: Path) -> None:
    """Raise Refused where ``folder`` holds what no commit has: rewriting it could lose that."""
    out = journal.run("status", "--porcelain", "-z", "--", str(folder)).stdout
    if changed := [one[3:] for one in out.decode("utf-8", "surrogateescape").split("\0") if one]:
        raise Refused(
            f"{changed[0]} is not committed",
            where=str(folder),
            hint=f"git -C {journal.work_tree} commit {folder}, or git stash",
        )


def change(
    journal: Repo | None,
    folder: Path,
    files: Mapping[str, bytes],
    gone: Collection[str],
    message: str,
) -> str | None:
    """Rewrite the line at ``folder`` and commit it; return the commit, None without a journal."""
    if journal is None:
        rewrite(folder, files, frozenset(gone))
        return None
    after = {**_contents(folder), **files}
    after = {name: data for name, data in after.items() if name not in gone}
    note = journal.git_dir / _NOTE
    text = {"folder": str(folder), "digest": _digest(after), "message": message}
    note.write_text(json.dumps(text), "utf-8")
    rewrite(folder, files, frozenset(gone))
    committed = _record(journal, folder, message)
    note.unlink()
    return committed


def _finish(journal: Repo) -> None:
    """Commit what a killed run wrote, where it is what that run was to write."""
    note = journal.git_dir / _NOTE
    try:
        said = json.loads(note.read_text("utf-8"))
        folder, digest, message = Path(said["folder"]), said["digest"], said["message"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if _digest(_contents(folder)) == digest:
        branch = journal.run("symbolic-ref", "--quiet", "HEAD", accept=None).text or "HEAD"
        remove_stale_locks(journal.git_dir, "index", "HEAD", branch)
        _record(journal, folder, message)
    note.unlink()


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(one.relative_to(folder)): one.read_bytes()
        for one in folder.rglob("*")
        if one.is_file() and not one.is_symlink()
    }


def _digest(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{len(files[name])}\0".encode("utf-8", "surrogateescape"))
        digest.update(files[name])
    return digest.hexdigest()


def _record(journal: Repo, folder: Path, message: str) -> str | None:
    """Commit ``folder`` as it lies on disk, alone; None where nothing changed."""
    head = journal.head()
    who = identity(journal)
    with tempfile.TemporaryDirectory(prefix="fixtool-index-") as scratch:
        index = Path(scratch) / "index"
        if head:
            journal.run("read-tree", head, index=index)
        journal.run("add", "--all", "--", str(folder), index=index)
        tree = write_tree(journal, index)
    if head and tree == journal.tree_id(head):
        journal.run("add", "--all", "--", str(folder))
        return None
    commit = journal.write_commit(Commit(tree, (head,) if head else (), who, who, message))
    branch = journal.run("symbolic-ref", "--quiet", "HEAD", accept=None).text or "HEAD"
    journal.update_refs([(branch, commit, head)], message.split("\n")[0])
    journal.run("add", "--all", "--", str(folder))  # what is staged of it is what was committed
    return commit


def identity(journal: Repo) -> Signature:
    """Who commits: as git would say it, from the environment or the user's configuration."""
    said = journal.run_as_user("-C", str(journal.work_tree), "var", "GIT_COMMITTER_IDENT").strip()
    if not re.search(r"<\S+@?\S*> \d+ [+-]\d{4}$", said):
        raise CannotRun(
            "git does not know who you are, so the change cannot be committed",
            where=str(journal.work_tree),
            hint="git config --global user.name NAME; git config --global user.email MAIL",
        )
    return parse_signature(said)
