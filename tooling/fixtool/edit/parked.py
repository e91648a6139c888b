"""An import that waits for a person: a work tree with conflict markers, and a session file.

The session file holds the changes themselves, so the import goes on without the files that they
came in. Nothing in ``patches/`` is touched until all of them fit.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from fixtool.apply import resolving
from fixtool.apply.waiting import (
    find_waiting,
    is_abandoned,
    make_worktree,
    path_in_tree,
    read_session,
    require_nothing_waits,
    session_file,
    worktree_for,
    write_session,
)
from fixtool.documents import Field
from fixtool.edit.importing import Imported, ImportOptions, Prepared, open_to_import, prepare
from fixtool.edit.parts import By
from fixtool.errors import CannotRun, Refused, UsageError
from fixtool.git import worktrees
from fixtool.git.database import ObjectDatabase
from fixtool.git.objects import Oid, read_oid, read_signature
from fixtool.git.repo import Repo
from fixtool.incoming.change import Incoming
from fixtool.incoming.fit import Conflict, FitOptions, Fitted
from fixtool.series.commit import digest_of_files
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.series.write import writing
from fixtool.text import argument

_VERB = "import"


@dataclass(frozen=True)
class ParkedFile:
    """A file in conflict: the line of its first marker in the work tree, and the file and line of
    the change."""

    path: str
    line: int
    where: str


@dataclass(frozen=True)
class Parked:
    """The change that waits for a person, number ``position`` (from 1) of ``of``, in a work tree.
    ``files`` is how many files it changes, and ``conflicts`` are those to be resolved. ``better``
    is a sentence on the release that it fits better, and ``instead`` are the commands that import
    it there; None without one."""

    worktree: str
    subject: str
    position: int
    of: int
    files: int
    conflicts: tuple[ParkedFile, ...]
    better: str | None
    instead: str | None
    next: str = "fixtool import --continue"


@dataclass(frozen=True)
class Session:
    """An import that waits. ``line`` has the files of digest ``before``, and those of ``after``
    once the import is written. ``number`` is that of the change in conflict, ``parent`` the commit
    that it does not fit, and ``fitted`` what is known of its result. ``resolved`` are the results
    that a person made of earlier changes, by number."""

    line: str
    source: str
    base: Oid
    before: str
    number: int
    parent: Oid
    conflicts: tuple[str, ...]
    fitted: Fitted
    changes: tuple[Incoming, ...]
    replacing: bool
    skip_empty: bool
    split: str | None
    fit: FitOptions
    resolved: Mapping[str, Fitted] = field(default_factory=dict)
    after: str = ""
    commit: bool = True

    def options(self, given: ImportOptions, resolved: Mapping[int, Fitted]) -> ImportOptions:
        """The options of the import that waits; what finds files is that of ``given``."""
        return replace(
            given, replacing=self.replacing, skip_empty=self.skip_empty, fit=self.fit,
            split=By(self.split) if self.split else None, resolved=resolved, dry_run=False,
            commit=self.commit and given.commit,
        )  # fmt: skip


# -- importing -------------------------------------------------------------------------------


def import_or_park(
    context: Context,
    line: Line,
    repo: Repo,
    source: str,
    bring_base: Callable[[], Oid],
    changes: Sequence[Incoming],
    options: ImportOptions,
) -> tuple[Imported | None, Parked | None]:
    """Like ``import_changes``, but a change that a person has to merge is parked in a work tree.
    ``source`` is the name of the source whose store is ``repo``. Raises Refused if a command
    waits for a person in the line already."""
    waiting = load_session(context, line.name)
    if waiting and is_abandoned(context, _VERB, line.name):
        end_session(context, waiting, repo)
    elif waiting:
        raise Refused(
            f"an import into line {line.name} waits at {waiting.changes[waiting.number].subject!r}",
            where=str(worktree_for(context, _VERB, line.name)),
            hint="go on: fixtool import --continue; or give it up: fixtool import --abort",
        )
    require_nothing_waits(context, line.name)
    git = open_to_import(context.repository, line, options)
    base = bring_base()
    with writing(context.repository):
        line = context.repository.line(line.name)
        session = Session(
            line.name, source, base, _digest(line), -1, Oid(""), (), Fitted(Oid("")),
            tuple(changes), options.replacing, options.skip_empty,
            str(options.split) if options.split else None, options.fit, commit=options.commit,
        )  # fmt: skip
        return _go_on(context, line, repo, session, options, git)


def resume(
    context: Context, session: Session, repo: Repo, options: ImportOptions
) -> tuple[Imported | None, Parked | None]:
    """Go on with an import that waits, with what its work tree holds. Nothing is returned if a run
    was killed after it had written the line: then only the work tree goes.

    Raises Refused if the conflict is not resolved, or the line has changed meanwhile.
    """
    git = open_to_import(
        context.repository, context.repository.line(session.line), session.options(options, {})
    )
    with writing(context.repository):
        line = context.repository.line(session.line)
        now = _digest(line)
        if session.after and now == session.after:
            end_session(context, session, repo)
            return None, None
        folder = worktree_for(context, _VERB, session.line)
        at = f"git -C {argument(folder)}"
        if now != session.before:
            raise Refused(
                f"line {line.name} has changed since the import began",
                where=str(line.folder),
                hint=f"keep the edits: {at} diff HEAD > FILE; then end it, and import again: "
                f"fixtool import --abort --line {line.name}",
            )
        conflict = resolving.Resolving(
            folder, session.parent, session.conflicts, "import", session.line
        )
        _, tree = resolving.resolved_tree(conflict)
        resolved = {int(number): fitted for number, fitted in session.resolved.items()}
        notes = (*session.fitted.notes, "resolved by hand")
        resolved[session.number] = replace(session.fitted, tree=tree, notes=notes)
        given = session.options(options, resolved)
        return _go_on(context, line, repo, session, given, git)


def _go_on(
    context: Context,
    line: Line,
    repo: Repo,
    session: Session,
    options: ImportOptions,
    git: Repo | None,
) -> tuple[Imported | None, Parked | None]:
    try:
        made = prepare(line, repo, session.base, session.changes, options)
    except Conflict:
        return None, _park(context, line, repo, session, options)
    if session.number >= 0:  # a killed run leaves what tells the next one that it was done
        save_session(context, replace(session, after=_digest(line, made)))
    committed = made.write(git)
    if session.number >= 0:
        end_session(context, session, repo)
    return replace(made.imported, committed=committed), None


def _park(
    context: Context,
    line: Line,
    repo: Repo,
    session: Session,
    options: ImportOptions,
) -> Parked:
    """Make the work tree. The series is made once more, with objects that last."""
    folder = worktree_for(context, _VERB, line.name)
    with ObjectDatabase(repo) as objects:
        try:
            prepare(line, repo, session.base, session.changes, options, objects)
        except Conflict as found:
            conflict = found
            objects.flush()
        else:
            raise CannotRun("the import stopped, and did not stop when it was made again",
                            where=str(line.folder), hint="run the same command again")  # fmt: skip
    tree = make_worktree(context, repo, _VERB, line.name, conflict.parent, session.base)
    resolving.pick(tree, conflict.theirs)
    paths = resolving.unmerged(tree) or conflict.paths
    save_session(context, replace(
        session, number=conflict.number, parent=conflict.parent, conflicts=paths,
        fitted=conflict.fitted,
        resolved={str(number): fitted for number, fitted in options.resolved.items()},
    ))  # fmt: skip
    return _shown(folder, session.changes, conflict, paths)


def _shown(
    folder: Path, changes: Sequence[Incoming], conflict: Conflict, paths: Sequence[str]
) -> Parked:
    change = changes[conflict.number]
    where = {file.path: file.where for file in conflict.files}
    files = tuple(
        ParkedFile(path, resolving.marker_line(folder / path) or 1, where.get(path, change.where))
        for path in paths
    )
    better = conflict.better
    return Parked(
        str(folder), change.subject, conflict.number + 1, len(changes), conflict.of, files,
        better.sentence if better else None, better.commands if better else None,
    )  # fmt: skip


def _digest(line: Line, made: Prepared | None = None) -> str:
    """A digest of all files of the line, as they are or as the import leaves them."""
    files = {path.name: path.read_bytes() for path in line.folder.iterdir() if path.is_file()}
    return digest_of_files({**files, **(made.files if made else {})})


# -- the session's file ----------------------------------------------------------------------


def find_session(context: Context, line: str | None) -> Session:
    """The import that waits for ``--continue`` or ``--abort``: into ``line``, or into any line.
    Raises UsageError if there is none, or more than one."""
    return find_waiting(
        context, line, load_session,
        lambda lines: f"more than one import waits, and no line is named: into {lines}",
        UsageError("no import waits for a person here", hint="start one: fixtool import FILE"),
    )  # fmt: skip


def end_session(context: Context, session: Session, repo: Repo) -> None:
    """Remove a session file, and its work tree with everything in it."""
    worktrees.remove(repo, worktree_for(context, _VERB, session.line))
    session_file(context, _VERB, session.line).unlink(missing_ok=True)


def save_session(context: Context, session: Session) -> None:
    write_session(context, _VERB, session.line, asdict(session))


def load_session(context: Context, line: str) -> Session | None:
    """Read the session of the import into ``line`` that waits; None if none waits. Raises CannotRun
    if the session file is damaged."""
    return read_session(
        context, _VERB, line, lambda session: _session(session, line), "import again"
    )


def _session(session: Field, line: str) -> Session:
    """The session in a JSON document. Raises FieldError or FixtoolError if a value is malformed."""
    if session.only(Session)["line"].text() != line:
        raise session["line"].wrong(f"the line {line}")
    changes = session["changes"].each(_change)
    number = session["number"].count()
    if number >= len(changes):
        raise session["number"].wrong("the number of a change")
    split = session["split"].optional(lambda kind: kind.member(By))
    return Session(
        line=line,
        source=session["source"].text(),
        base=read_oid(session["base"]),
        before=session["before"].text(),
        number=number,
        parent=read_oid(session["parent"]),
        conflicts=session["conflicts"].each(path_in_tree),
        fitted=_fitted(session["fitted"]),
        changes=changes,
        replacing=session["replacing"].flag(),
        skip_empty=session["skip_empty"].flag(),
        split=str(split) if split else None,
        fit=_fit_options(session["fit"]),
        resolved={
            str(int(number)): _fitted(session["resolved"][number])
            for number in session["resolved"].table()
        },
        after=session["after"].text(),
        commit=session["commit"].optional(Field.flag) is not False,
    )


def _change(change: Field) -> Incoming:
    return Incoming(
        change.only(Incoming)["subject"].text(), change["body"].text(),
        read_signature(change["author"]),
        b64decode(change["diff"].text(), validate=True), change["where"].text(),
        change["commit"].optional(read_oid), change["notes"].texts(),
        change["strip"].optional(Field.count), change["reverse"].flag(),
        change["first_line"].count(),
        change["trees"].optional(lambda trees: trees.each(read_oid)) or (),
    )  # fmt: skip


def _fitted(fitted: Field) -> Fitted:
    lists = (fitted.only(Fitted)[key].texts() for key in ("notes", "excluded", "recorded"))
    return Fitted(read_oid(fitted["tree"]), *lists)


def _fit_options(options: Field) -> FitOptions:
    return FitOptions(
        options.only(FitOptions)["strip"].optional(Field.count),
        options["folder"].optional(Field.text), options["exclude"].texts(),
        options["three_way"].flag(), options["leave_out_missing"].flag(),
    )  # fmt: skip
