"""Puts a replayed series where a person or a build can use it: in a new work tree, or on a branch
in the user's own checkout.

All objects exist before the first file is written. A new work tree is filled beside its place and
renamed there; a branch moves last. A killed run leaves the folder as it was, or whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from fixtool.apply.home import RECORD, home_at, is_checkout
from fixtool.documents import LARGEST_TEXT, Field
from fixtool.errors import CannotRun, FixtoolError, Mistyped, Refused
from fixtool.files import beside, lock, read_at_most, write_atomically
from fixtool.git import worktrees
from fixtool.git.names import check_ref
from fixtool.git.objects import MACHINE, ZERO, FileChange, Oid, read_oid
from fixtool.git.pack import FEW
from fixtool.git.process import remove_stale_locks
from fixtool.git.repo import NoRepository, Repo
from fixtool.git.store import restore_settings_behind
from fixtool.git.trees import changed_files
from fixtool.git.under_way import said, under_way, ways_out
from fixtool.judgement.manifest import Manifest, read_manifest
from fixtool.progress import Progress
from fixtool.series.line import Upstream
from fixtool.series.patch import is_slug
from fixtool.settings import state_folder
from fixtool.text import argument, split_lines

_PATIENCE = 60.0  # seconds
_NAMED = 2  # work trees that a message names
_SUBMODULE = "160000"
_OBJECTS = ("rev-list", "--objects", "--no-object-names")
_NEXT = "fixtool.next.json"  # the record to come, while a work tree moves to another commit


@dataclass(frozen=True)
class Record:
    """What fixtool put into a work tree, kept in its git folder.

    A wheel is named after ``version``; ``release`` is set if ``onto`` is a release; ``commits``
    maps the slugs of the applied patches to their commits; ``moving_to`` is set only while files
    change. ``manifest`` is None if an older fixtool wrote the record, and for a proposal.
    ``source`` is where upstream's tree came from, if the user named that.
    """

    line: str
    patches: str  # the patch repository's root
    base: Oid
    onto: Oid
    commit: Oid
    branch: str
    version: str
    release: str | None
    commits: Mapping[str, Oid]
    moving_to: Oid | None = None
    proposal: str | None = None  # the patch, where this is what upstream would get
    manifest: Manifest | None = None
    source: str | None = None

    def to_apply(self, upstream: Upstream | None = None) -> str:
        """The `fixtool apply` that was typed for this work tree, without ref and place. With
        ``upstream``, its line goes to its own base instead: a release of the package index has no
        commit, and a clone no release."""
        lacks_base = upstream and (upstream.release or self.source == "pypi")
        return self._apply("" if lacks_base else self.source)

    def _apply(self, source: str | None) -> str:
        # A patch repository that was moved is named by the -C of the user's.
        words = ["-C", self.patches] if Path(self.patches).is_dir() else []
        words += ["--line", self.line, *(["--source", source] if source else [])]
        return shlex.join(["fixtool", "apply", *words])

    def again(self, tree: Repo) -> str:
        """The command that makes this work tree again, where it is."""
        own_place = argument(tree.work_tree)
        if is_checkout(tree.git_dir):
            return f"{self._apply(None)} --ref {self.onto} --into {own_place}"
        if self.base == self.onto:
            return f"{self.to_apply()} --worktree {own_place}"
        if self.release:
            return f"{self._apply('pypi')} --ref v{self.release} --worktree {own_place}"
        return f"{self.to_apply()} --ref {self.onto} --worktree {own_place}"


class OwnCommits(Refused):
    """A work tree has commits that were not exported."""


@dataclass(frozen=True)
class Placed:
    """``changed`` is False if the work tree was at this very commit before. ``kept`` is the branch
    of the store that now holds commits of the user's that were on the branch of the work tree: it
    was deleted, or had gone to another base since."""

    path: Path
    branch: str
    changed: bool
    kept: str | None = None


def place(
    store: Repo, folder: Path, record: Record, progress: Progress, patience: float = _PATIENCE
) -> Placed:
    """Make ``folder`` a work tree of ``store`` at ``record.commit``, on ``record.branch``. Another
    run that is at work there has ``patience`` seconds to end.

    A work tree that fixtool made there before moves to the commit if it is clean and has no commits
    of the user's. Raises Refused for any other existing folder that is not empty.
    """
    folder = folder.absolute()
    with lock(_lock_file(store, folder), f"the work tree {folder}", patience):
        _clear_staging(store, folder)
        if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
            tree = _own_worktree(store, folder)
            _, kept = _free_branch(tree, record)
            return replace(_move_on(tree, record), kept=kept)
        tip, kept = _free_branch(store, record)
        worktrees.forget(store, folder)
        with _staging(store, folder) as staging:
            with progress.task(f"writing {folder}"):
                tree = worktrees.add(
                    store, staging, record.commit, branch=record.branch, base=record.onto
                )
            write_record(tree, record)
            _move_branch(tree, record, tip)
            if folder.exists():
                folder.rmdir()
            worktrees.move(store, staging, folder)
        return Placed(folder, record.branch, True, kept)


def place_into(store: Repo, checkout: Repo, record: Record, patience: float = _PATIENCE) -> Placed:
    """Put the series into the user's own checkout, on a new branch. Another run that is at work
    there has ``patience`` seconds to end. Raises Refused if the checkout is not clean or the branch
    exists and is not fixtool's."""
    assert checkout.work_tree is not None
    place = f"the checkout {checkout.work_tree}"
    with lock(checkout.git_dir / "fixtool.lock", place, patience):
        recover(checkout)
        require_clean(checkout)
        _require_own_branch(checkout, record)
        send_objects(store, checkout, [record.commit], record.onto)
        return _move_on(checkout, record)


def alone_in(store: Repo, folder: Path) -> AbstractContextManager[None]:
    """Be the only run that makes, moves or removes the work tree at ``folder``. Raises CannotRun if
    another is at work there."""
    return lock(_lock_file(store, folder.absolute()), f"the work tree {folder}")


def open_worktree(path: Path) -> tuple[Repo, Record]:
    """The work tree at ``path`` and its record. Raises CannotRun if fixtool did not make it, and
    Refused if a command waits there for a person."""
    if not path.is_dir():
        make = "make it again: fixtool apply --line LINE --worktree"
        where = str(path)
        raise CannotRun(
            f"there is no folder {path}",
            where=where,
            hint=f"{make} {argument(path)}",
            mistyped=Mistyped(str(path), beside(path)),
        )
    try:
        tree = Repo.open(path)
    except NoRepository:
        raise _no_worktree(path) from None
    restore_settings_behind(tree, state_folder(os.environ) / "repos")
    record = read_record(tree)
    if tree.work_tree and record is None and (home := home_at(tree.work_tree)) and home.waiting:
        raise Refused(
            f"the {home.waiting} of line {home.line} waits in this work tree",
            where=str(tree.work_tree),
            hint=f"go on: fixtool {home.waiting} --continue --line {home.line}; or give it up: "
            f"fixtool {home.waiting} --abort --line {home.line}",
        )
    if tree.work_tree is None or record is None:
        raise _no_worktree(path)
    return tree, record


def _no_worktree(path: Path) -> CannotRun:
    """The error for a folder that is none of fixtool's work trees. If it is a patch repository, the
    work trees that there are of it are named."""
    make = "fixtool apply --ref REF --worktree DIR"
    ways = [f"the same command with --worktree {argument(top)}" for top in _worktrees_of(path)]
    return CannotRun(
        f"{path} is not a work tree that fixtool made",
        where=str(path),
        hint=f"name one: {', or '.join(ways)}; or make one: {make}"
        if ways
        else f"make one: {make}",
    )


def _worktrees_of(patches: Path) -> list[Path]:
    """The last work trees that were made of the patch repository that holds ``patches``, and in
    which nothing waits."""
    roots = (patches.resolve(), *patches.resolve().parents)
    found = {}
    with suppress(OSError):
        for entry in (state_folder(os.environ) / "repos").glob("*/worktrees/*/gitdir"):
            top = Path(entry.read_text("utf-8").strip()).parent
            home = home_at(top)
            if home and home.waiting is None and home.patches in roots:
                found[top] = entry.parent.stat().st_mtime
    return sorted(found, key=lambda top: found[top], reverse=True)[:_NAMED]


def read_record(tree: Repo, name: str = RECORD) -> Record | None:
    """What fixtool put into this work tree last; None if it never did. Raises CannotRun if the
    record is damaged."""
    try:
        return _parsed(read_at_most(tree.git_dir / name, LARGEST_TEXT))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, FixtoolError) as error:
        raise CannotRun(
            f"fixtool's record of this work tree is not readable: {error}",
            where=str(tree.git_dir / name),
            hint="delete that file and the work tree, then apply again",
        ) from error


@lru_cache(maxsize=2)
def _parsed(raw: bytes) -> Record:
    """The record in the bytes of its file. An apply looks at it several times, and a long series
    has a thousand entries in it."""
    return _record(Field(json.loads(raw)))


def _record(record: Field) -> Record:
    """The record in a JSON document. Ids, names and refs become arguments of git, so each must have
    the form of one. Raises FieldError or UsageError if one has not."""
    commits = record.only(Record)["commits"]
    if wrong := [slug for slug in commits.table() if not is_slug(slug)]:
        raise Field(wrong[0], "commits").wrong("the names of patches")
    proposal = record["proposal"].optional(Field.text)
    if proposal is not None and not is_slug(proposal):
        raise record["proposal"].wrong("the name of a patch")
    return Record(
        line=record["line"].text(),
        patches=record["patches"].text(),
        base=read_oid(record["base"]),
        onto=read_oid(record["onto"]),
        commit=read_oid(record["commit"]),
        branch=check_ref(record["branch"].text()),
        version=record["version"].text(),
        release=record["release"].optional(Field.text),
        commits={slug: read_oid(commits[slug]) for slug in commits.table()},
        moving_to=record["moving_to"].optional(read_oid),
        proposal=proposal,
        manifest=record["manifest"].optional(read_manifest),
        source=record["source"].optional(Field.text),
    )


def require_clean(tree: Repo) -> None:
    """Raise Refused if a file differs from HEAD, or if a merge or rebase is under way."""
    where = str(tree.work_tree)
    require_idle(tree)
    if dirty := tree.status():
        more = f" and {len(dirty) - 3} more" if len(dirty) > 3 else ""
        raise Refused(
            f"the work tree is not clean: {', '.join(dirty[:3])}{more}",
            where=where,
            hint=_ways_to_clean(tree, where),
        )


def _ways_to_clean(tree: Repo, where: str) -> str:
    """What to do with edits that are not committed. The first way is for work trees of fixtool's:
    most edits there are meant for the patches."""
    at = f"git -C {argument(where)}"
    ways = (
        f"commit them: {at} add --all && {at} commit; or stash them: {at} stash --include-untracked"
    )
    if read_record(tree) is None:
        return ways
    return f"put them into their patches: fixtool absorb --worktree {argument(where)}; or {ways}"


def require_idle(tree: Repo) -> None:
    """Raise Refused if a merge or rebase is under way."""
    if verb := under_way(tree):
        raise Refused(said(verb), where=str(tree.work_tree), hint=ways_out(tree, verb))


def recover(tree: Repo) -> None:
    """Undo what a killed run left half written, or, if the branch had moved, finish that run.

    Only files that the run was writing are touched, and only if they hold what it read or wrote.
    Anything else is the user's: nothing is touched then, and ``require_clean`` refuses the tree.
    """
    record = read_record(tree)
    if record is None or record.moving_to is None:
        return
    head = tree.head()
    assert tree.work_tree is not None
    if head is not None and head == record.moving_to:
        write_record(tree, read_record(tree, _NEXT) or replace(record, moving_to=None))
        (tree.git_dir / _NEXT).unlink(missing_ok=True)
        return
    if head is not None:
        changes = {change.path: change for change in changed_files(tree, head, record.moving_to)}
        dirty = _files(tree.work_tree, tree.status())
        if any(path not in changes or not _ours(tree, changes[path]) for path in dirty):
            return
        for path, change in changes.items():
            absent = path in dirty or not os.path.lexists(tree.work_tree / path)
            if change.old_blob == ZERO and absent:
                _remove_file(tree.work_tree, path)
        remove_stale_locks(tree.git_dir, tree.work_tree, "index")
        tree.run("read-tree", "--reset", "-u", head)
    write_record(tree, replace(record, moving_to=None))


def _files(top: Path, paths: Iterable[str]) -> list[str]:
    """``paths`` as ``git status`` gives them, each new folder replaced by the files in it."""
    files: list[Path] = []
    for path in paths:
        inside = (top / path).rglob("*") if path.endswith("/") else [top / path]
        files += [file for file in inside if file.is_symlink() or not file.is_dir()]
    return [str(file.relative_to(top)) for file in files]


def _ours(tree: Repo, change: FileChange) -> bool:
    """Whether a file may be what a killed git left of ``change``: the old file, no file, or a
    beginning of the new one."""
    assert tree.work_tree is not None
    path = tree.work_tree / change.path
    if not os.path.lexists(path):
        return True
    data = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
    blobs = [blob for blob in (change.old_blob, change.new_blob) if blob != ZERO]
    texts = list(tree.read_blobs(blobs))
    return data in texts or (blobs[-1] == change.new_blob and texts[-1].startswith(data))


def _remove_file(top: Path, path: str) -> None:
    """Remove a file, and the folders that are empty then."""
    file = top / path
    file.unlink(missing_ok=True)
    for folder in file.parents[: len(Path(path).parts) - 1]:
        with suppress(OSError):
            folder.rmdir()


def _move_on(tree: Repo, record: Record) -> Placed:
    """Move the work tree from HEAD to ``record.commit``: the files that differ, then the branch."""
    assert tree.work_tree is not None
    before = read_record(tree)
    tip = tree.ref(f"refs/heads/{record.branch}")
    head = tree.head()
    changed = head != record.commit
    on_branch = tree.current_branch() == f"refs/heads/{record.branch}"
    if before == record and tip == head == record.commit and on_branch:
        return Placed(tree.work_tree, record.branch, changed)
    if changed:
        _require_free(tree, head or "", record.commit)
        write_record(tree, record, _NEXT)
        write_record(tree, replace(before or record, moving_to=record.commit))
    try:
        if changed:
            _change_files(tree, head or "", record.commit)
        _set_branch(tree, record, tip)
    except BaseException:
        recover(tree)
        raise
    if changed:
        (tree.git_dir / _NEXT).replace(tree.git_dir / RECORD)
    else:
        write_record(tree, record)
        (tree.git_dir / _NEXT).unlink(missing_ok=True)
    return Placed(tree.work_tree, record.branch, changed)


def _change_files(tree: Repo, head: str, commit: str) -> None:
    """Bring the files of a clean work tree from ``head`` to ``commit``."""
    words = ("read-tree", "-m", "-u", head, commit)
    try:
        tree.run(*words)
    except CannotRun as error:
        if "not uptodate" not in error.message:
            raise
        # The files of a copied checkout have other times than its index has recorded.
        tree.run("update-index", "-q", "--refresh", accept=None)
        tree.run(*words)


def _require_free(tree: Repo, head: str, commit: str) -> None:
    """Raise Refused if a file that the series adds would replace one that git does not track, or
    one that it changes was edited behind git's back: ``read-tree -u`` overwrites ignored files, and
    does not say so."""
    assert tree.work_tree is not None
    hidden = hidden_edits(tree)
    for change in changed_files(tree, head, commit):
        if change.path in hidden:
            raise Refused(
                f"{change.path} was edited, and git was told not to look at it",
                where=str(tree.work_tree / change.path),
                hint="show the edit to git, then commit or stash it: "
                f"{to_show(tree, change.path, hidden[change.path])}",
            )
        if change.old_blob != ZERO:
            continue
        if os.path.lexists(tree.work_tree / change.path):
            raise Refused(
                f"{change.path} is in the way: the series adds it, and git does not track yours",
                where=str(tree.work_tree / change.path),
                hint="move it away, then run the same command again",
            )


def hidden_edits(tree: Repo) -> dict[str, str]:
    """The files of a work tree that were edited, and at which git was told not to look, each with
    the option that told it so."""
    assert tree.work_tree is not None
    out = tree.run("ls-files", "-v", "-z").stdout.decode("utf-8", "surrogateescape")
    hidden = {
        entry[2:]: "skip-worktree" if entry[0] in "Ss" else "assume-unchanged"
        for entry in out.split("\0")
        if entry and (entry[0] == "S" or entry[0].islower())
        if os.path.lexists(tree.work_tree / entry[2:])
    }
    if not hidden:
        return {}
    names = [f":(top,literal){path}" for path in hidden]
    staged = tree.run("ls-files", "--stage", "-z", "--", *names).stdout
    for entry in staged.decode("utf-8", "surrogateescape").split("\0")[:-1]:
        about, _, path = entry.partition("\t")
        file = tree.work_tree / path
        mode, blob, _ = about.split(" ")
        if mode == _SUBMODULE or _text_of(file) == tree.read_blob(Oid(blob)):
            del hidden[path]
    return hidden


def _text_of(file: Path) -> bytes | None:
    """What git would store of a file; None if a folder is there."""
    if file.is_symlink():
        return os.fsencode(file.readlink())
    return None if file.is_dir() else file.read_bytes()


def to_show(tree: Repo, path: str, option: str) -> str:
    """The command after which git looks at a file of ``hidden_edits`` again."""
    return f"git -C {argument(tree.work_tree)} update-index --no-{option} {argument(path)}"


def _set_branch(tree: Repo, record: Record, tip: Oid | None) -> None:
    _move_branch(tree, record, tip)
    tree.run("symbolic-ref", "-m", "fixtool apply", "HEAD", f"refs/heads/{record.branch}")


def _move_branch(tree: Repo, record: Record, tip: Oid | None) -> None:
    if tip != record.commit:
        reason = f"fixtool apply: line {record.line} on {record.onto[:12]}"
        tree.update_refs([(f"refs/heads/{record.branch}", record.commit, tip)], reason)


def _own_worktree(store: Repo, folder: Path) -> Repo:
    """The work tree that fixtool made at ``folder``. Raises Refused if it is none, or if it has
    changes or commits of the user's."""
    other = "choose another place: --worktree DIR"
    tree = record = None
    with suppress(FixtoolError):
        tree = Repo.open(folder)
    stores = tree.git_dir.resolve().parents if tree and tree.work_tree == folder.resolve() else ()
    if tree and store.git_dir.resolve() in stores:
        record = read_record(tree)
    if tree is None or record is None:
        raise Refused(
            f"{folder} exists, and is not a work tree that fixtool made of this upstream",
            where=str(folder),
            hint=other,
        )
    recover(tree)
    require_clean(tree)
    record = read_record(tree) or record
    if tree.head() != record.commit:
        raise OwnCommits(
            f"{folder} has commits of its own on top of the series",
            where=str(folder),
            hint=f"save them: fixtool export --worktree {argument(folder)}; or {other}",
        )
    return tree


def send_objects(store: Repo, checkout: Repo, commits: Sequence[Oid], onto: Oid) -> None:
    """Copy the objects that lead from ``onto`` to ``commits`` into another object database, as from
    a store into a checkout, as one pack.

    Each is looked for there, also if the commit is there already: a git that was interrupted may
    have written the commit and not its tree, and each later run failed at that. git seeks no
    differences of its own, since the store keeps objects as differences where that is worth it.
    """
    if _is_whole(checkout, commits, onto):
        return
    # If the last patch alone was edited, what leads to the one before it is there.
    chain = [Oid(name) for name in store.run("rev-list", *commits, f"^{onto}").text.split()]
    absent = checkout.lacks(chain)
    known = next((commit for commit in chain if commit not in absent), None)
    below = known if known and _is_whole(checkout, [known], onto) else onto
    words = (*_OBJECTS, *commits, f"^{onto}", f"^{below}")
    missing = checkout.lacks(map(Oid, store.run(*words).text.split()))
    if not missing:
        return
    pack = store.run(
        "pack-objects", "--stdout", "--quiet", "--window=0", "--delta-base-offset",
        stdin="".join(f"{oid}\n" for oid in sorted(missing)).encode(),
    ).stdout  # fmt: skip
    command = ("unpack-objects", "-q") if len(missing) < FEW else ("index-pack", "--stdin")
    checkout.durably().run(*command, stdin=pack)


def _is_whole(repo: Repo, commits: Sequence[Oid], onto: Oid) -> bool:
    """Whether all objects that lead from ``onto`` to ``commits`` are here: git looks for each."""
    words = (*_OBJECTS, *commits, f"^{onto}", "--quiet")
    return repo.run_on_objects(*words, accept=None).status == 0


def write_record(tree: Repo, record: Record, name: str = RECORD) -> None:
    """Keep ``record`` with the work tree."""
    write_atomically(tree.git_dir / name, json.dumps(record, default=vars), durable=True)


@contextmanager
def _staging(store: Repo, folder: Path) -> Iterator[Path]:
    """A path beside ``folder`` for a new work tree, which is removed if the block fails."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotRun(
            f"cannot make the folder {folder.parent}: {error.strerror}",
            where=str(folder.parent),
            hint="choose another place: --worktree DIR",
        ) from error
    staging = folder.with_name(f".{folder.name}.fixtool-{os.getpid()}")
    try:
        yield staging
    except BaseException:
        worktrees.remove(store, staging)
        raise


def _clear_staging(store: Repo, folder: Path) -> None:
    """Remove the staging of killed runs. The caller holds the lock, so no run is filling one."""
    if folder.parent.exists():
        for staging in folder.parent.glob(f".{folder.name}.fixtool-*"):
            worktrees.remove(store, staging)


def _free_branch(repo: Repo, record: Record) -> tuple[Oid | None, str | None]:
    """Where the branch of ``record`` is; None if there is none. If commits of the user's are on it,
    they go to a branch of their own first, whose name is the second value."""
    tip = repo.ref(f"refs/heads/{record.branch}")
    if tip is None or not _has_own_commits(repo, record, tip):
        return tip, None
    kept = f"kept/{record.branch.removeprefix('fixtool/')}-{tip[:12]}"
    if repo.ref(f"refs/heads/{kept}") is None:
        reason = "fixtool apply: commits that were on the branch of a work tree"
        repo.update_refs([(f"refs/heads/{kept}", tip, None)], reason)
    return tip, kept


def _require_own_branch(checkout: Repo, record: Record) -> None:
    """Raise Refused if the branch of ``record`` is in the user's checkout, with commits of the
    user's."""
    tip = checkout.ref(f"refs/heads/{record.branch}")
    if tip is not None and _has_own_commits(checkout, record, tip):
        at = f"git -C {argument(checkout.work_tree)}"
        raise Refused(
            f"the branch {record.branch} exists and holds commits that fixtool did not make",
            where=str(checkout.work_tree),
            hint=f"keep them: {at} branch -m {record.branch} NEW-NAME",
        )


def _has_own_commits(repo: Repo, record: Record, tip: Oid) -> bool:
    """Whether ``tip``, where the branch of ``record`` is, has commits of the user's that fixtool
    has not recorded. The branch may be from an earlier time, before its work tree went to another
    base."""
    records = [known for known in (read_record(repo), read_record(repo, _NEXT)) if known]
    recorded = {commit for known in records for commit in (known.commit, known.onto)}
    if tip in (record.onto, record.commit) or tip in recorded:
        return False
    committers = repo.run("log", "--format=%ce", tip, f"^{record.onto}").text
    return any(mail != MACHINE.email for mail in split_lines(committers))


def _lock_file(store: Repo, folder: Path) -> Path:
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    return store.git_dir / "locks" / name
