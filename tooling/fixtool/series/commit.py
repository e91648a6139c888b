"""Commits in the patch repository: one for each change of a line.

The commit is the user's: their name, their branch. Only the line's folder goes into it, whatever
else is staged or changed, and no hook runs. A note of what is to be committed is written before the
folder changes, so that the next run finishes what a killed run began.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fixtool.documents import Field
from fixtool.errors import CannotRun, FixtoolError, Refused
from fixtool.files import (
    TooLarge,
    lock,
    read_at_most,
    regular_files,
    temporary_folder,
    write_atomically,
)
from fixtool.git.objects import Commit, Oid, Signature, parse_signature
from fixtool.git.process import remove_stale_locks, wait_for_lock
from fixtool.git.repo import Repo
from fixtool.git.trees import list_tree, stage, write_tree
from fixtool.git.under_way import end_of_conflict, unmerged
from fixtool.series.patch import is_slug
from fixtool.series.write import rewrite
from fixtool.text import argument

_FEW = 300  # files that are staged one by one
_NOTE = "fixtool.pending.json"
_LARGEST_NOTE = 256 << 20  # bytes; it holds every patch file that changes


def open_git(root: Path) -> Repo | None:
    """The git repository that tracks the patch repository at ``root``; None if there is none. What
    a killed run had still to commit is committed first. Raises CannotRun if there is one and git
    cannot open it: a change would be written that nobody commits."""
    try:
        git = Repo.open(root)
    except FixtoolError:
        if any((folder / ".git").exists() for folder in (root.resolve(), *root.resolve().parents)):
            raise
        return None
    if git.work_tree is None:
        return None
    ignored = git.run("check-ignore", "--quiet", str(root.resolve() / "patches"), accept=None)
    if ignored.status == 0:
        return None
    _finish(git, root)
    return git


def advice_to_track(root: Path) -> str | None:
    """What to say of a patch repository that no git repository tracks, and what to type; None if
    one does."""
    if open_git(root):
        return None
    at = f"git -C {argument(root)}"
    return (
        f"no git repository tracks {root}, so nothing is committed: {at} init && {at} add --all && "
        f"{at} commit --message 'Our patches'"
    )


def open_for_commit(root: Path, folder: Path) -> Repo | None:
    """Like ``open_git``, and make sure that a change of the line at ``folder`` can be committed.
    Raises Refused if the folder has uncommitted changes, CannotRun if git does not know the user's
    name, or if another git is at work there."""
    if git := open_git(root):
        wait_for_lock(git.git_dir, git.work_tree, "index")
        require_committed(git, folder)
        committer(git)
    return git


def open_to_write(root: Path, folder: Path, *, commit: bool) -> Repo | None:
    """The git repository in which a change of the line at ``folder`` is committed; None if it is
    not to be: then only what a killed run had still to commit is. Raises what ``open_for_commit``
    does."""
    if commit:
        return open_for_commit(root, folder)
    open_git(root)
    return None


def require_committed(git: Repo, folder: Path) -> None:
    """Raise Refused if ``folder`` has uncommitted changes: rewriting it could lose them. A line
    that `init` has just made holds nothing to lose: it is committed with its first patch."""
    changed = git.status(str(folder))
    for path in unmerged(git, str(folder)) if changed else ():
        raise Refused(
            f"{path} conflicts: git has stopped, since both sides have changed it",
            where=str(folder),
            hint=end_of_conflict(git, path),
        )
    if changed and not _is_new_line(git, folder):
        at, name = f"git -C {argument(git.work_tree)}", argument(folder)
        hint = f"commit it: {at} add {name} && {at} commit {name}"
        if git.head():  # git cannot stash before the first commit
            hint = f"{hint}; or put it away: {at} stash --include-untracked"
        raise Refused(f"{changed[0]} is not committed", where=str(folder), hint=hint)


def _is_new_line(git: Repo, folder: Path) -> bool:
    """Whether the line at ``folder`` has no patch yet, and was never committed."""
    assert git.work_tree is not None
    head, place = git.head(), str(folder.resolve().relative_to(git.work_tree))
    committed = head and list_tree(git, git.tree_id(head), place)
    return not committed and not any(folder.rglob("*.patch"))


def committer(git: Repo) -> Signature:
    """Who commits, as git says it, from the environment or the user's configuration. Raises
    CannotRun if git does not know."""
    unknown = "git does not know who you are, so the change cannot be committed"
    return _identity(git, "GIT_COMMITTER_IDENT", git.work_tree, unknown)


def author_of(root: Path) -> Signature:
    """Who makes a new patch now, as git says it in the patch repository at ``root``. Raises
    CannotRun if git does not know."""
    git = open_git(root)
    unknown = "git does not know who you are, so the patch would have no author"
    return _identity(git or Repo(root), "GIT_AUTHOR_IDENT", root, unknown, here=git is not None)


def _identity(
    git: Repo, variable: str, where: Path | None, unknown: str, *, here: bool = True
) -> Signature:
    """Who the user is for git, ``here`` in the repository or anywhere. ``unknown`` is the message
    if git does not know."""
    text = git.run_as_user("var", variable, here=here).strip()
    if not re.search(r"<\S+@?\S*> \d+ [+-]\d{4}$", text):
        raise CannotRun(
            unknown,
            where=str(where),
            hint="tell git: git config --global user.name NAME && "
            "git config --global user.email MAIL",
        )
    return parse_signature(text)


@dataclass(frozen=True)
class Rewrite:
    """A change of the line at ``folder``: ``files`` to write, by name, and names to take away."""

    folder: Path
    files: Mapping[str, bytes]
    remove: Collection[str] = ()

    def carry_out(self) -> None:
        rewrite(self.folder, self.files, frozenset(self.remove))


def rewrite_and_commit(
    git: Repo | None,
    folder: Path,
    files: Mapping[str, bytes],
    remove: Collection[str],
    message: str,
    also: Sequence[Rewrite] = (),
) -> Oid | None:
    """Write ``files`` into the line at ``folder``, take ``remove`` away, carry out the rewrites
    ``also`` of other lines, and commit all that. Returns the commit; None without a git repository,
    or if nothing changed."""
    changes = [*also, Rewrite(folder, files, remove)]
    if git is None:
        for change in changes:
            change.carry_out()
        return None
    note, head = git.git_dir / _NOTE, git.head()
    before = [look_at(change) for change in changes]
    write_atomically(note, note_pieces(message, changes, before), durable=True)
    try:
        for change in changes:
            change.carry_out()
        commit = _commit(git, changes, message)
    except BaseException:
        # Interrupted, or git failed: the same command must find what it found before. If not even
        # this succeeds, or the commit is made already, the next run finishes it by the note.
        with suppress(FixtoolError, OSError):
            if git.head() == head:
                for change, found in zip(changes, before, strict=True):
                    _put_back(change, found)
                _unstage(git, [change.folder for change in changes])
                note.unlink()
        raise
    note.unlink()
    return commit


@dataclass(frozen=True)
class Found:
    """What a rewrite finds in its folder: the digest of all files, and the one that they have when
    it is done; the bytes of those that it replaces or takes away; and whether there are none."""

    before: str
    after: str
    replaced: Mapping[str, bytes]
    empty: bool


def look_at(change: Rewrite) -> Found:
    """Look at the folder of ``change``, of whose files one is in memory at a time. Raises Refused
    if it holds anything but folders and regular files."""
    paths, remove = regular_files(change.folder), frozenset(change.remove)
    before, after = hashlib.sha256(), hashlib.sha256()
    replaced: dict[str, bytes] = {}
    for name in sorted({*paths, *change.files}):
        old = _read(paths[name]) if name in paths else None
        new = None if name in remove else change.files.get(name, old)
        if old is not None:
            _add_to(before, name, old)
            if name in remove or name in change.files:
                replaced[name] = old
        if new is not None:
            _add_to(after, name, new)
    return Found(before.hexdigest(), after.hexdigest(), replaced, not paths)


def _put_back(change: Rewrite, found: Found) -> None:
    """Give the folder of ``change`` the files that it had."""
    if found.empty:
        shutil.rmtree(change.folder, ignore_errors=True)
    else:
        added = change.files.keys() - found.replaced.keys()
        rewrite(change.folder, found.replaced, frozenset(added))


def _unstage(git: Repo, folders: Collection[Path]) -> None:
    """Give the user's index what is committed of ``folders``. A git that once said that nothing is
    to be committed had then staged the change."""
    git.run("reset", "--quiet", "--", *map(str, folders))


def note_pieces(
    message: str, changes: Sequence[Rewrite], found: Sequence[Found]
) -> Iterator[bytes]:
    """The pieces of the note, a JSON document: enough to carry the rewrites out, and the digests of
    each folder by which the next run sees whether they were. A note of a thousand patches holds
    30 MB, so it is never in memory as a whole."""
    yield b'{"message": ' + json.dumps(message).encode() + b', "folders": ['
    for number, (change, there) in enumerate(zip(changes, found, strict=True)):
        facts = {
            "folder": str(change.folder),
            "before": there.before,
            "after": there.after,
            "remove": sorted(change.remove),
        }
        yield (b", " if number else b"") + json.dumps(facts).encode()[:-1] + b', "files": {'
        for place, (name, data) in enumerate(change.files.items()):
            yield (b", " if place else b"") + json.dumps(name).encode() + b': "'
            yield b64encode(data) + b'"'
        yield b"}}"
    yield b"]}"


def _finish(git: Repo, root: Path) -> None:
    """Finish what a killed run began to write: carry out its other rewrites, if it got through the
    first one, and commit them. If somebody has changed a folder since, only the note goes."""
    note = git.git_dir / _NOTE
    try:
        pending = Field(json.loads(read_at_most(note, _LARGEST_NOTE)))
        message = pending["message"].text()
        noted = pending["folders"].each(lambda entry: _read_rewrite(entry, root))
    except (OSError, ValueError, RecursionError, TooLarge):
        return
    changes = [change for change, _, _ in noted]
    now = [digest_of_folder(change.folder) for change in changes]
    known = all(digest in (old, new) for digest, (_, old, new) in zip(now, noted, strict=True))
    if known and any(digest == new for digest, (_, _, new) in zip(now, noted, strict=True)):
        for digest, (change, _, new) in zip(now, noted, strict=True):
            if digest != new:
                with lock(change.folder.parent / ".lock", f"the line {change.folder.name}"):
                    change.carry_out()
        remove_stale_locks(git.git_dir, git.work_tree, "index", "HEAD", git.current_branch())
        if there := [change for change in changes if change.folder.is_dir()]:
            _commit(git, there, message)
    note.unlink()


def _read_rewrite(noted: Field, root: Path) -> tuple[Rewrite, str, str]:
    """One rewrite of a note, and the digests of its folder before and after it. Whatever the note
    says, its folder is a line of the patch repository at ``root``, and the files are in it."""
    folder = root.resolve() / "patches" / _plain_name(noted["folder"], Path)
    files = {
        _plain_name(Field(name, "files")): b64decode(noted["files"][name].text(), validate=True)
        for name in noted["files"].table()
    }
    remove = noted["remove"].each(_plain_name)
    return Rewrite(folder, files, remove), noted["before"].text(), noted["after"].text()


def _plain_name(field: Field, kind: type[Path] | None = None) -> str:
    """The name of a line, the last part of a path (``kind``), or a name of a file in its folder."""
    text = field.text()
    parts = [Path(text).name] if kind else text.split("/")
    if not all(map(is_slug, parts)):
        raise field.wrong("the name of a line or of a file in it")
    return "/".join(parts)


def files_of(folder: Path) -> dict[str, bytes]:
    """The files of a line by name, also those in its folders; none if there is no such folder.
    Raises Refused if it holds anything but folders and regular files."""
    return {name: _read(path) for name, path in regular_files(folder).items()}


def _read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123 - a Path for each takes as long as to read
        return file.read()


def digest_of_files(files: Mapping[str, bytes]) -> str:
    """A digest of files and their names."""
    digest = hashlib.sha256()
    for name in sorted(files):
        _add_to(digest, name, files[name])
    return digest.hexdigest()


def digest_of_folder(folder: Path) -> str:
    """The digest of the files of a line, of which one is in memory at a time. Raises what
    ``files_of`` does."""
    digest, paths = hashlib.sha256(), regular_files(folder)
    for name in sorted(paths):
        _add_to(digest, name, _read(paths[name]))
    return digest.hexdigest()


def _add_to(digest: hashlib._Hash, name: str, data: bytes) -> None:
    digest.update(f"{name}\0{len(data)}\0".encode("utf-8", "surrogateescape"))
    digest.update(data)


def _commit(git: Repo, changes: Sequence[Rewrite], message: str) -> Oid | None:
    """Commit the folders of ``changes``, and nothing else, as they lie on disk; None if nothing
    changed."""
    git, paths = git.durably(), [str(change.folder) for change in changes]
    head = git.head()
    author = committer(git)
    with temporary_folder("fixtool-index-") as scratch:
        index = scratch / "index"
        if head:
            git.run("read-tree", head, index=index)
        for staged in (_written(changes), paths):
            stage(git, staged, index)
            tree = write_tree(git, index)
            listed = [_listed(git, tree, change) for change in changes]
            if all(map(_has_all, changes, listed)):
                break  # else something in a folder was never committed: a new line, for example
    for change, names in zip(changes, listed, strict=True):
        _require_recorded(git, change, names)
    commit = None
    if not head or tree != git.tree_id(head):
        commit = git.write_commit(Commit(tree, (head,) if head else (), author, author, message))
        try:
            git.update_refs([(git.current_branch(), commit, head)], message.split("\n")[0])
        except CannotRun as error:
            if git.head() == head:
                raise
            raise CannotRun(
                "somebody else has committed here meanwhile",
                where=str(git.work_tree),
                hint="run the same command again",
            ) from error
    wait_for_lock(git.git_dir, git.work_tree, "index")
    stage(git, staged)  # the user's index then agrees with the commit
    if now := commit or head:
        question = ("diff-index", "--cached", "--quiet", now, "--", *paths)
        if git.run(*question, accept=(0, 1)).status:
            raise _not_recorded(git, paths[-1])
    return commit


def _written(changes: Sequence[Rewrite]) -> list[str]:
    """The paths of the files that ``changes`` write or take away; the folders, if they are many."""
    paths = [
        str(change.folder / name) for change in changes for name in (*change.files, *change.remove)
    ]
    return paths if len(paths) <= _FEW else [str(change.folder) for change in changes]


def _listed(git: Repo, tree: Oid, change: Rewrite) -> set[str]:
    """The names of the files that ``tree`` has of a line."""
    assert git.work_tree is not None
    place = str(change.folder.resolve().relative_to(git.work_tree))
    return {path[len(place) + 1 :] for path in list_tree(git, tree, place)}


def _has_all(change: Rewrite, listed: Collection[str]) -> bool:
    """Whether the names ``listed`` are all files of a line that are on the disk."""
    return regular_files(change.folder).keys() <= {*listed}


def _require_recorded(git: Repo, change: Rewrite, listed: Collection[str]) -> None:
    """Raise CannotRun if the tree, which has the files ``listed`` of the line, lacks one that
    ``change`` wrote, or has one that it took away: git has then said that all is well, and was
    wrong. A file that is ignored may be missing."""
    assert git.work_tree is not None
    place = change.folder.resolve().relative_to(git.work_tree)
    lost = [f"{place}/{name}" for name in change.files if name not in listed]
    kept = [f"{place}/{name}" for name in change.remove if name in listed]
    if lost:
        names = "".join(f"{path}\0" for path in lost).encode()
        out = git.run("check-ignore", "-z", "--stdin", stdin=names, accept=(0, 1)).stdout
        lost = sorted(set(lost) - set(out.decode("utf-8", "surrogateescape").split("\0")))
    if lost or kept:
        raise _not_recorded(git, (lost or kept)[0])


def _not_recorded(git: Repo, path: str) -> CannotRun:
    return CannotRun(
        f"git did not record the change of {path}",
        where=str(git.work_tree),
        hint="see whether the git on PATH works: git fsck, then run the same command again",
    )
