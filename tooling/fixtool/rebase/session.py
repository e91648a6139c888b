"""A rebase that waits for a person: a work tree with conflict markers, and a session file.

The session file holds what the person decided so far, not the commits. To continue, fixtool replays
the series with these decisions, so nothing is lost in a crash or a reboot. git's rerere records how
a person resolved a conflict. fixtool keeps that as a diff in the line's ``resolutions/``, and uses
it when the same conflict comes up again.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fixtool.apply import resolving
from fixtool.apply.waiting import (
    find_waiting,
    is_abandoned,
    make_worktree,
    name_of_patch,
    path_in_tree,
    read_session,
    session_file,
    worktree_for,
    write_session,
)
from fixtool.documents import Field
from fixtool.errors import FixtoolError, UsageError
from fixtool.files import private_folder, read_plain, temporary_folder, write_atomically
from fixtool.git import worktrees
from fixtool.git.objects import Oid, TreeEntry, parse_oid, read_oid
from fixtool.git.repo import Repo
from fixtool.git.store import Store
from fixtool.git.trees import apply_to_index, list_tree, scratch_index, write_tree, write_trees
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.series.patch import LARGEST

RESOLUTIONS = "resolutions"
_VERB = "rebase"
_IMAGE = "image"  # the name of the file in a resolution's diff
_RERERE = ("-c", "rerere.enabled=true", "-c", "rerere.autoupdate=true")


@dataclass(frozen=True)
class Session:
    """A rebase that waits for a person.

    ``patches``, ``store`` and ``worktree`` are paths; of these, only the name of ``store`` is ever
    read from the session file. The person has to resolve the conflict of
    patch ``slug`` with commit ``parent``. It is patch number ``position`` (from 1) of ``of``
    patches. ``resolved`` (slug -> tree) and ``skipped`` (slug -> reason) say what the person
    decided about earlier patches.
    """

    line: str
    patches: str
    ref: str
    onto: Oid
    source: str
    store: str
    worktree: str
    parent: Oid
    slug: str
    position: int
    of: int
    conflicts: tuple[str, ...]
    memory: tuple[str, ...] = ()  # git's names of these conflicts in its rr-cache
    merged: Oid | None = None  # the tree of the files that merged without a conflict
    unmerged: tuple[str, ...] = ()  # all others, also those that an earlier resolution settled
    new_line: str | None = None
    probe: bool = False
    python: str | None = None
    remembered: bool = False  # an earlier resolution was put in, for a person to look at
    resolved: Mapping[str, Oid] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    learned: Mapping[str, str] = field(default_factory=dict)  # resolutions: file name -> base64
    before: str | None = None  # the digest of the line; an older fixtool did not note it
    skipped_before: str | None = None  # why this patch was skipped at the same conflict


@dataclass
class HandDecisions:
    """What a person decided so far.

    ``resolved`` maps a slug to the tree of its resolution, and ``skipped`` a slug to the reason.
    ``resolutions`` maps a file name in the line's folder to the diff that records how a conflict
    was resolved.
    """

    resolved: dict[str, Oid] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    resolutions: dict[str, bytes] = field(default_factory=dict)


def decisions_so_far(session: Session) -> HandDecisions:
    """What the person decided about earlier patches than the one in conflict."""
    resolutions = {name: base64.b64decode(data) for name, data in session.learned.items()}
    return HandDecisions(dict(session.resolved), dict(session.skipped), resolutions)


def packed(resolutions: Mapping[str, bytes]) -> dict[str, str]:
    """The resolutions in base64, as the session file keeps them."""
    return {name: base64.b64encode(data).decode() for name, data in resolutions.items()}


# -- the session's file ----------------------------------------------------------------------


def load_session(context: Context, line: str) -> Session | None:
    """Read the session of the rebase of ``line`` that waits for a person; None if no rebase waits.
    Raises CannotRun if the session file is damaged."""
    return read_session(
        context, _VERB, line, lambda session: _session(session, context, line), "start again"
    )


def waiting_session(context: Context, line: str) -> Session | None:
    """The session that keeps another rebase of ``line`` from beginning; None if there is none. One
    whose work tree was removed by hand ends here."""
    session = load_session(context, line)
    if session and is_abandoned(context, _VERB, line):
        end_session(context, session)
        return None
    return session


def _session(session: Field, context: Context, line: str) -> Session:
    """The session in a JSON document. Its ids and names must have the form of one. The places that
    are removed at its end are computed, whatever the document says. Raises FieldError or
    FixtoolError if a value is malformed."""
    if session.only(Session)["line"].text() != line:
        raise session["line"].wrong(f"the line {line}")
    store = context.settings.stores / _store_name(session["store"])
    return Session(
        line=line,
        patches=str(context.repository.root.resolve()),
        ref=session["ref"].text(),
        onto=read_oid(session["onto"]),
        source=session["source"].text(),
        store=str(store),
        worktree=str(parked_worktree(context, line)),
        parent=read_oid(session["parent"]),
        slug=name_of_patch(session["slug"]),
        position=session["position"].count(),
        of=session["of"].count(),
        conflicts=session["conflicts"].each(path_in_tree),
        memory=session["memory"].each(_conflict_name),
        merged=session["merged"].optional(read_oid),
        unmerged=session["unmerged"].optional(lambda paths: paths.each(path_in_tree)) or (),
        new_line=session["new_line"].optional(name_of_patch),
        probe=session["probe"].flag(),
        python=session["python"].optional(Field.text),
        remembered=session["remembered"].flag(),
        resolved={slug: read_oid(tree) for slug, tree in _by_slug(session["resolved"])},
        skipped={slug: reason.text() for slug, reason in _by_slug(session["skipped"])},
        learned={_resolution_name(Field(name, "learned")): _base64(session["learned"][name])
                 for name in session["learned"].table()},
        before=session["before"].optional(Field.text),
        skipped_before=session["skipped_before"].optional(Field.text),
    )  # fmt: skip


def _by_slug(table: Field) -> list[tuple[str, Field]]:
    return [(name_of_patch(Field(name, table.key)), table[name]) for name in table.table()]


def _store_name(field: Field) -> str:
    name = Path(field.text()).name
    if not name.endswith(".git") or "\0" in name:
        raise field.wrong("a store of fixtool's")
    return name


def _conflict_name(field: Field) -> str:
    """git's name of a conflict, which is a folder of its rr-cache."""
    if not re.fullmatch(r"[0-9a-f]{40,64}(\.\d{1,9})?", field.text()):
        raise field.wrong("git's name of a conflict")
    return field.text()


def _resolution_name(field: Field) -> str:
    if not re.fullmatch(rf"{RESOLUTIONS}/[0-9a-f]{{40,64}}\.(diff|skip)", field.text()):
        raise field.wrong("the name of a resolution")
    return field.text()


def _base64(field: Field) -> str:
    base64.b64decode(field.text(), validate=True)  # raises ValueError
    return field.text()


def find_session(context: Context, line: str | None) -> Session:
    """The rebase that waits for ``--continue``, ``--skip`` or ``--abort``: of ``line``, or of any
    line. Raises UsageError if there is none, or more than one."""
    return find_waiting(
        context, line, load_session,
        lambda lines: f"more than one rebase waits, and no line is named: of {lines}",
        UsageError("no rebase waits for a person here",
                   hint="start one: fixtool rebase --onto REF"),
    )  # fmt: skip


def give_up(context: Context, session: Session) -> None:
    """End a rebase that a person gives up. What they resolved so far is kept on this machine, and
    is offered when the same conflict comes up again. So is the conflict that waits, if it is
    resolved: the line may have changed meanwhile, so that the rebase could not go on with it."""
    folder = _given_up(context)
    resolutions = decisions_so_far(session).resolutions
    with suppress(FixtoolError):
        resolutions |= read_resolution(session)[1]
    for name, data in resolutions.items():
        private_folder((folder / name).parent)
        write_atomically(folder / name, data)
    end_session(context, session)


def _given_up(context: Context) -> Path:
    """The folder of the resolutions that were made in rebases which a person gave up."""
    return context.settings.state / _VERB / context.repository.digest[:10]


def forget_given_up(context: Context, names: Iterable[str]) -> None:
    """Forget resolutions that are now with the line."""
    for name in names:
        (_given_up(context) / name).unlink(missing_ok=True)


def save_session(context: Context, session: Session) -> None:
    write_session(context, _VERB, session.line, asdict(session))


def end_session(context: Context, session: Session) -> None:
    """Remove a session file, and its work tree with everything in it."""
    worktrees.remove(Repo(Path(session.store)), Path(session.worktree))
    session_file(context, _VERB, session.line).unlink(missing_ok=True)


def parked_worktree(context: Context, line: str) -> Path:
    """The folder of the work tree in which conflicts of a rebase of ``line`` are resolved."""
    return worktree_for(context, _VERB, line)


# -- the work tree ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Parked:
    """What is in conflict in a new work tree: the paths (none if earlier resolutions settled them
    all), git's names of the conflicts, the paths that were ``unmerged`` before these resolutions,
    and the tree of all other files, as the merge left them."""

    conflicts: tuple[str, ...]
    memory: tuple[str, ...]
    merged: Oid
    unmerged: tuple[str, ...]


def park(context: Context, store: Store, line: Line, parent: Oid, commit: Oid) -> Parked:
    """Make the work tree at ``parent``, in the middle of a cherry-pick of ``commit``. Earlier
    resolutions are put in."""
    tree, folder = (
        make_worktree(context, store, _VERB, line.name, parent),
        parked_worktree(context, line.name),
    )
    for image in (tree.objects_folder.parent / "rr-cache").glob("*/postimage*"):
        image.unlink()  # only the line's resolutions count, which the team shares
    resolving.pick(tree, commit, _RERERE)
    conflicts = _conflicts(tree)
    merged, unmerged = _merged_tree(tree), resolving.unmerged(tree)
    memory = _Memory(context, line)
    texts = {path: _remembered(tree, memory, conflict) for conflict, path in conflicts.items()}
    whole = all(text is not None for text in texts.values())
    beside = memory.find(_name_beside(conflicts)) if whole and conflicts else None
    if beside is None or _apply(tree, beside):
        for path, text in texts.items():
            if text is not None:
                (folder / path).write_bytes(text)
                tree.run("add", "--", f":(literal){path}")
    return Parked(resolving.unmerged(tree), tuple(sorted(conflicts)), merged, unmerged)


def _merged_tree(tree: Repo) -> Oid:
    """The tree of the files in the index that are in no conflict."""
    staged = tree.run("ls-files", "--stage", "-z").stdout.split(b"\0")[:-1]
    settled = b"".join(entry + b"\0" for entry in staged
                       if entry.partition(b"\t")[0].endswith(b" 0"))  # fmt: skip
    with temporary_folder("fixtool-index-") as folder:
        index = folder / "index"
        tree.run("update-index", "-z", "--index-info", stdin=settled, index=index)
        return write_tree(tree, index)


def _apply(tree: Repo, diff: bytes) -> bool:
    """Apply a diff to the work tree and its index, whole or not at all."""
    return tree.run("apply", "--index", "--binary", "-", stdin=diff, accept=None).status == 0


def _conflicts(tree: Repo) -> dict[str, str]:
    """git's name for a conflict in its rr-cache -> the file that has the conflict."""
    file = tree.git_dir / "MERGE_RR"
    text = file.read_text("utf-8", "surrogateescape") if file.is_file() else ""
    pairs = (record.partition("\t") for record in text.split("\0"))
    return {conflict: path for conflict, tab, path in pairs if tab}


def read_resolution(session: Session) -> tuple[Oid, dict[str, bytes]]:
    """The tree that a person made in the work tree, and the resolutions to keep with the line, by
    file name.

    Raises Refused, with file and line, if a conflict marker is left or a new file is not added;
    CannotRun if the work tree is gone.
    """
    conflict = resolving.Resolving(
        Path(session.worktree), session.parent, session.conflicts, "rebase", session.line
    )
    tree, result = resolving.resolved_tree(conflict, _remember)
    return result, _learned(tree, session, result)


def _remember(tree: Repo) -> None:
    """Let git's rerere record the resolutions."""
    tree.run(*_RERERE, "rerere")


# -- resolutions -----------------------------------------------------------------------------


def _learned(tree: Repo, session: Session, result: Oid) -> dict[str, bytes]:
    """The resolutions of the session's conflicts: file name in the line's folder -> diff. One more
    holds what the person changed in other files than those in conflict: without it, the resolution
    is not whole, as when upstream has moved the lines elsewhere."""
    resolutions = {}
    heading = _heading(session.slug, session.onto).encode()
    for conflict in session.memory:
        images = [_image(tree, conflict, name) for name in ("preimage", "postimage")]
        if not all(image.is_file() for image in images):
            continue
        trees = write_trees(tree, [{_IMAGE: _stored(tree, image)} for image in images])
        resolutions[_file_name(conflict)] = heading + _diff(tree, *trees)
    if session.merged and session.memory:
        others = [f":(exclude,literal){path}" for path in session.unmerged]
        if beside := _diff(tree, session.merged, result, "--", ".", *others):
            resolutions[_name_beside(session.memory)] = heading + beside
    return resolutions


def skip_of(session: Session, reason: str) -> tuple[str, bytes]:
    """What remembers that a person skipped the patch in conflict: the name of a file in the line's
    folder, and its content."""
    text = f"{_heading(session.slug, session.onto)}{reason}\n"
    return _name_of_skip(session.slug, session.onto, session.memory), text.encode()


def remembered_skip(
    context: Context, line: Line, slug: str, onto: Oid, conflicts: Sequence[str]
) -> str | None:
    """Why ``slug`` was skipped when it was in the same ``conflicts``, which are git's names of
    them, or on the same commit ``onto`` if git has none; None if it was not."""
    raw = _Memory(context, line).find(_name_of_skip(slug, onto, conflicts))
    if raw is None:
        return None
    return raw.decode("utf-8", "replace").partition("\n")[2].strip() or None


def _name_of_skip(slug: str, onto: Oid, conflicts: Sequence[str]) -> str:
    names = sorted(conflict.partition(".")[0] for conflict in conflicts) or [onto]
    about = " ".join(["skip", slug, *names])
    return f"{RESOLUTIONS}/{hashlib.sha256(about.encode()).hexdigest()}.skip"


def _heading(slug: str, onto: Oid) -> str:
    """The first line of a resolution."""
    return f"# {slug} onto {onto}\n"


def _diff(tree: Repo, before: Oid, after: Oid, *paths: str) -> bytes:
    words = ("-r", "-p", "--binary", "--full-index", "--no-renames", "--no-color")
    return tree.run("diff-tree", *words, before, after, *paths).stdout


def _stored(tree: Repo, image: Path) -> TreeEntry:
    """Store a file of git's rerere as a blob, and return its tree entry."""
    blob = tree.run("hash-object", "-w", str(image)).text
    return TreeEntry("100644", parse_oid(blob, "git hash-object"))


@dataclass(frozen=True)
class _Memory:
    """The resolutions that are at hand for a rebase of ``line``: its own, those of the other lines
    of the patch repository, and those of rebases that were given up on this machine. A rebase to a
    new line leaves its resolutions there, and the old line may be rebased again."""

    context: Context
    line: Line

    def find(self, name: str) -> bytes | None:
        """The diff of this name, which belongs to one conflict, whatever line it is in."""
        repository = self.context.repository
        others = (repository.folder / other for other in sorted(repository.line_names))
        for folder in (self.line.folder, *others, _given_up(self.context)):
            with suppress(FileNotFoundError):
                return read_plain(folder, name, LARGEST)
        return None


def _remembered(tree: Repo, memory: _Memory, conflict: str) -> bytes | None:
    """The resolved file, if there is a resolution for ``conflict`` that applies and leaves no
    marker; else None.

    git keeps the whole file before and after; the line keeps only the difference.
    """
    image = _image(tree, conflict, "preimage")
    resolution = memory.find(_file_name(conflict))
    if resolution is None or not image.is_file():
        return None
    (before,) = write_trees(tree, [{_IMAGE: _stored(tree, image)}])
    with scratch_index(tree, before) as index:
        if apply_to_index(tree, index, resolution).status != 0:
            return None
        after = write_tree(tree, index)
    entry = list_tree(tree, after).get(_IMAGE)
    text = tree.read_blob(entry.blob) if entry else None
    return None if text is None or resolving.MARKER.search(text) else text


def _name_beside(conflicts: Iterable[str]) -> str:
    """The name of the diff of the other files that were changed to resolve ``conflicts``."""
    names = sorted(conflict.partition(".")[0] for conflict in conflicts)
    return f"{RESOLUTIONS}/{hashlib.sha256(' '.join(names).encode()).hexdigest()}.diff"


def _file_name(conflict: str) -> str:
    return f"{RESOLUTIONS}/{conflict.partition('.')[0]}.diff"


def _image(tree: Repo, conflict: str, name: str) -> Path:
    """The path of a file in git's rr-cache. git adds a number to the name of a conflict that it has
    met before without a resolution: ``<id>.1`` means ``<id>/preimage.1``."""
    folder, dot, number = conflict.partition(".")
    return tree.objects_folder.parent / "rr-cache" / folder / f"{name}{dot}{number}"
