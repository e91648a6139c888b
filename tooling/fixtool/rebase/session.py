"""A rebase that waits for a person: a work tree with conflict markers, and a session file.

The session file holds what the person decided so far, not the commits. To continue, fixtool replays
the series with these decisions, so nothing is lost in a crash or a reboot. git's rerere records how
a person resolved a conflict. fixtool keeps that as a diff in the line's ``resolutions/``, and uses
it when the same conflict comes up again.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

from fixtool.apply import resolving
from fixtool.apply.waiting import (
    find_waiting,
    is_abandoned,
    make_worktree,
    read_session,
    session_file,
    worktree_for,
    write_session,
)
from fixtool.documents import Field
from fixtool.errors import UsageError
from fixtool.files import read_plain
from fixtool.git import worktrees
from fixtool.git.objects import Oid, TreeEntry, parse_oid, read_oid
from fixtool.git.repo import Repo
from fixtool.git.store import Store
from fixtool.git.trees import apply_to_index, list_tree, scratch_index, write_tree, write_trees
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.series.patch import LARGEST, is_slug

RESOLUTIONS = "resolutions"
_VERB = "rebase"
_LARGEST = 256 << 20  # bytes of a session, which holds resolutions
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
    new_line: str | None = None
    probe: bool = False
    python: str | None = None
    remembered: bool = False  # an earlier resolution was put in, for a person to look at
    resolved: Mapping[str, Oid] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    learned: Mapping[str, str] = field(default_factory=dict)  # resolutions: file name -> base64


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
        context, _VERB, line, lambda session: _session(session, context, line), _LARGEST,
        "start again",
    )  # fmt: skip


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
        slug=_slug(session["slug"]),
        position=session["position"].count(),
        of=session["of"].count(),
        conflicts=session["conflicts"].each(_path_in_tree),
        memory=session["memory"].each(_conflict_name),
        new_line=session["new_line"].optional(_slug),
        probe=session["probe"].flag(),
        python=session["python"].optional(Field.text),
        remembered=session["remembered"].flag(),
        resolved={slug: read_oid(tree) for slug, tree in _by_slug(session["resolved"])},
        skipped={slug: reason.text() for slug, reason in _by_slug(session["skipped"])},
        learned={_resolution_name(Field(name, "learned")): _base64(session["learned"][name])
                 for name in session["learned"].table()},
    )  # fmt: skip


def _slug(field: Field) -> str:
    if not is_slug(field.text()):
        raise field.wrong("the name of a patch or a line")
    return field.text()


def _by_slug(table: Field) -> list[tuple[str, Field]]:
    return [(_slug(Field(name, table.key)), table[name]) for name in table.table()]


def _store_name(field: Field) -> str:
    name = Path(field.text()).name
    if not name.endswith(".git") or "\0" in name:
        raise field.wrong("a store of fixtool's")
    return name


def _path_in_tree(field: Field) -> str:
    path = PurePosixPath(field.text())
    if path.is_absolute() or ".." in path.parts or "\0" in field.text():
        raise field.wrong("a path in the work tree")
    return field.text()


def _conflict_name(field: Field) -> str:
    """git's name of a conflict, which is a folder of its rr-cache."""
    if not re.fullmatch(r"[0-9a-f]{40,64}(\.\d{1,9})?", field.text()):
        raise field.wrong("git's name of a conflict")
    return field.text()


def _resolution_name(field: Field) -> str:
    if not re.fullmatch(rf"{RESOLUTIONS}/[0-9a-f]{{40,64}}\.diff", field.text()):
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
        lambda lines: f"rebases of {lines} are parked: which one?",
        UsageError("no rebase is parked here", hint="start one: fixtool rebase --onto REF"),
    )  # fmt: skip


def save_session(context: Context, session: Session) -> None:
    write_session(context, _VERB, session.line, json.dumps(asdict(session), indent=1))


def end_session(context: Context, session: Session) -> None:
    """Remove a session file, and its work tree with everything in it."""
    worktrees.remove(Repo(Path(session.store)), Path(session.worktree))
    session_file(context, _VERB, session.line).unlink(missing_ok=True)


def parked_worktree(context: Context, line: str) -> Path:
    """The folder of the work tree in which conflicts of a rebase of ``line`` are resolved."""
    return worktree_for(context, _VERB, line)


# -- the work tree ---------------------------------------------------------------------------


def park(
    context: Context, store: Store, line: Line, parent: Oid, commit: Oid
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Make the work tree at ``parent``, in the middle of a cherry-pick of ``commit``.

    Returns the paths in conflict (none if earlier resolutions settled them all), and git's names of
    the conflicts.
    """
    tree, folder = (
        make_worktree(context, store, _VERB, line.name, parent),
        parked_worktree(context, line.name),
    )
    for image in (tree.objects_folder.parent / "rr-cache").glob("*/postimage*"):
        image.unlink()  # only the line's resolutions count, which the team shares
    resolving.pick(tree, commit, _RERERE)
    conflicts = _conflicts(tree)
    for conflict, path in conflicts.items():
        text = _remembered(tree, line, conflict)
        if text is not None and not resolving.MARKER.search(text):
            (folder / path).write_bytes(text)
            tree.run("add", "--", f":(literal){path}")
    return resolving.unmerged(tree), tuple(sorted(conflicts))


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
    return result, _learned(tree, session)


def _remember(tree: Repo) -> None:
    """Let git's rerere record the resolutions."""
    tree.run(*_RERERE, "rerere")


# -- resolutions -----------------------------------------------------------------------------


def _learned(tree: Repo, session: Session) -> dict[str, bytes]:
    """The resolutions of the session's conflicts: file name in the line's folder -> diff."""
    resolutions = {}
    for conflict in session.memory:
        images = [_image(tree, conflict, name) for name in ("preimage", "postimage")]
        if not all(image.is_file() for image in images):
            continue
        trees = write_trees(tree, [{_IMAGE: _stored(tree, image)} for image in images])
        diff = tree.run("diff-tree", "-p", "--no-renames", "--no-color", *trees).stdout
        heading = f"# {session.slug} onto {session.onto}\n".encode()
        resolutions[_file_name(conflict)] = heading + diff
    return resolutions


def _stored(tree: Repo, image: Path) -> TreeEntry:
    """Store a file of git's rerere as a blob, and return its tree entry."""
    blob = tree.run("hash-object", "-w", str(image)).text
    return TreeEntry("100644", parse_oid(blob, "git hash-object"))


def _remembered(tree: Repo, line: Line, conflict: str) -> bytes | None:
    """The resolved file, if the line has a resolution for ``conflict`` that applies; else None.

    git keeps the whole file before and after; the line keeps only the difference.
    """
    image = _image(tree, conflict, "preimage")
    try:
        resolution = read_plain(line.folder, _file_name(conflict), LARGEST)
    except FileNotFoundError:
        return None
    if not image.is_file():
        return None
    (before,) = write_trees(tree, [{_IMAGE: _stored(tree, image)}])
    with scratch_index(tree, before) as index:
        if apply_to_index(tree, index, resolution).status != 0:
            return None
        after = write_tree(tree, index)
    entry = list_tree(tree, after).get(_IMAGE)
    return tree.read_blob(entry.blob) if entry else None


def _file_name(conflict: str) -> str:
    return f"{RESOLUTIONS}/{conflict.partition('.')[0]}.diff"


def _image(tree: Repo, conflict: str, name: str) -> Path:
    """The path of a file in git's rr-cache. git adds a number to the name of a conflict that it has
    met before without a resolution: ``<id>.1`` means ``<id>/preimage.1``."""
    folder, dot, number = conflict.partition(".")
    return tree.objects_folder.parent / "rr-cache" / folder / f"{name}{dot}{number}"
