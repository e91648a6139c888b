"""An edit of a series that waits for a person, in a work tree: at a conflict, or at the patch that
the person wants to change.

The session file holds the plan, with what the person has made so far, and not the new commits. To
go on, the series is made again. Nothing in ``patches/`` is touched until it is whole.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
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
from fixtool.edit.below import handed_over
from fixtool.edit.edits import Taken
from fixtool.edit.place import Place, keep_series, open_line, series_at
from fixtool.edit.sequence import (
    Conflict,
    EditedPatch,
    Made,
    OwnSeries,
    Plan,
    Wanted,
    digest_of,
    make,
)
from fixtool.errors import CannotRun, FixtoolError, Refused, UsageError
from fixtool.git import worktrees
from fixtool.git.database import ObjectDatabase, passing_objects
from fixtool.git.objects import Oid, read_oid, read_signature
from fixtool.git.repo import Repo
from fixtool.series.commit import open_for_commit, open_git
from fixtool.series.context import Context
from fixtool.series.line import Line
from fixtool.series.message import join_message, mailable, split_message
from fixtool.series.patch import is_slug
from fixtool.text import argument, split_lines

SESSION = "edit"
"""The name of the sessions and of the work trees, whatever the verb is."""


@dataclass(frozen=True)
class EditOptions:
    """``verb`` is the command, and ``subject`` what it commits, without the name of the line.
    ``taken`` are the edits of a work tree that go into a patch."""

    verb: str
    subject: str
    dry_run: bool = False
    commit: bool = True
    taken: Taken | None = None


@dataclass(frozen=True)
class WaitingFile:
    """A file in conflict, and the line of its first marker in the work tree."""

    path: str
    line: int


@dataclass(frozen=True)
class Waiting:
    """The patch at which an edit waits for a person, number ``position`` (from 1) of ``of``, in a
    ``worktree``; None on a dry run. Without ``conflicts``, the person wants to change it."""

    worktree: str | None
    slug: str
    position: int
    of: int
    conflicts: tuple[WaitingFile, ...]
    next: str


@dataclass(frozen=True)
class Edited:
    """What an edit did to a line. ``patches`` are those whose file changed, ``series`` is the new
    order, and ``tree`` what it makes, None while the edit is ``waiting`` for a person.
    ``changed`` says whether the line changes, and ``committed`` is the commit in the patch
    repository, None on a dry run and without git. ``before`` says that an earlier run had finished
    the edit."""

    line: str
    verb: str
    folder: Path
    patches: tuple[EditedPatch, ...] = ()
    series: tuple[str, ...] = ()
    tree: Oid | None = None
    notes: tuple[str, ...] = ()
    changed: bool = False
    committed: Oid | None = None
    dry_run: bool = False
    before: bool = False
    waiting: Waiting | None = None


@dataclass(frozen=True)
class Session:
    """An edit that waits. ``line`` has the files of digest ``before``, and those of ``after`` once
    the edit is written. It waits at the patch ``number`` of the plan, on the commit ``parent``. If
    its change number ``step`` conflicts, ``conflicts`` are the paths, and ``stop`` is None; else a
    person changes the patch, and ``stop`` is the commit that was checked out. ``made`` says that
    the plan holds what the person made, so the work tree counts no more. ``taken`` are the edits of
    another work tree that go into a patch."""

    verb: str
    line: str
    source: str
    store: str
    base: Oid
    before: str
    plan: Plan
    number: int
    parent: Oid
    step: int = 0
    conflicts: tuple[str, ...] = ()
    stop: Oid | None = None
    commit: bool = True
    made: bool = False
    after: str = ""
    taken: Taken | None = None


# -- beginning -------------------------------------------------------------------------------


def edit(
    context: Context,
    line: Line,
    place: Place,
    options: EditOptions,
    plan_of: Callable[[ObjectDatabase, OwnSeries], Plan],
) -> Edited:
    """Give ``line`` the series that ``plan_of`` wants, or wait for a person in a work tree.

    If a killed run had made the same edit, which its commit in the patch repository tells, that is
    the result. Raises Refused if an edit of the line waits already, or if the line has uncommitted
    changes; and whatever ``plan_of`` and ``make`` raise but Conflict.
    """
    git, line = _begin(context, line, options)
    plan = None
    # On a dry run, nothing is left in the store.
    database = passing_objects if options.dry_run else ObjectDatabase
    try:
        with database(place.repo) as objects:
            own = series_at(context, objects, line, place)
            plan = plan_of(objects, own)
            made = make(objects, own, plan)
            objects.flush()
    except Conflict as conflict:
        if options.dry_run or plan is None:
            return _waits_on_dry_run(line, options, conflict)
        return _park(context, line, place, _session_of(line, place, options, plan))
    except (Refused, UsageError):
        if done := _done_before(git, line, options):
            return done
        raise
    if options.dry_run:
        return _result(made, options.verb, dry_run=True)
    if not made.changed and (done := _done_before(git, line, options)):
        return done
    return _written(context, place, made, options.verb, git, options.taken)


def stop_at(
    context: Context,
    line: Line,
    place: Place,
    options: EditOptions,
    plan_of: Callable[[OwnSeries], tuple[Plan, int]],
) -> Edited:
    """Make a work tree in which a person changes one patch of a plan: ``plan_of`` gives the plan
    and the number of the patch. Raises Refused as ``edit`` does."""
    _, line = _begin(context, line, options)
    with ObjectDatabase(place.repo) as objects:
        own = series_at(context, objects, line, place)
        plan, number = plan_of(own)
        objects.flush()
    commits = [own.base, *own.commits.values()]
    wanted = plan.wanted[number]
    session = replace(
        _session_of(line, place, options, plan), number=number, parent=commits[number],
        stop=wanted.commit or commits[number],
    )  # fmt: skip
    waiting = _shown(context, session, ())
    if options.dry_run:
        waiting = replace(waiting, worktree=None)
        return Edited(line.name, options.verb, line.folder, dry_run=True, waiting=waiting)
    assert session.stop is not None
    place.bring(())
    make_worktree(context, place.repo, SESSION, session.line, session.stop, own.base)
    save_session(context, session)
    return Edited(line.name, options.verb, line.folder, waiting=waiting)


def _begin(context: Context, line: Line, options: EditOptions) -> tuple[Repo | None, Line]:
    """Make sure that the line can be edited; its git, and the line as it is now."""
    waits = None if options.dry_run else load_session(context, line.name)
    if waits and is_abandoned(context, SESSION, line.name):
        end_session(context, waits)
    elif waits:
        raise Refused(
            f"an edit of line {line.name} waits at {waits.plan.wanted[waits.number].slug}",
            where=str(worktree_for(context, SESSION, line.name)),
            hint=f"go on: fixtool {waits.verb} --continue; or give it up: "
            f"fixtool {waits.verb} --abort",
        )
    return open_line(context, line, commit=options.commit, dry_run=options.dry_run)


def _session_of(line: Line, place: Place, options: EditOptions, plan: Plan) -> Session:
    store = Path(place.repo.git_dir).name
    return Session(options.verb, line.name, place.source, store, place.base, digest_of(line), plan,
                   0, place.base, commit=options.commit, taken=options.taken)  # fmt: skip


def _waits_on_dry_run(line: Line, options: EditOptions, conflict: Conflict) -> Edited:
    files = tuple(WaitingFile(path, 0) for path in conflict.paths)
    waiting = Waiting(None, conflict.slug, conflict.number + 1, conflict.of, files, "")
    return Edited(line.name, options.verb, line.folder, dry_run=True, waiting=waiting)


def _done_before(git: Repo | None, line: Line, options: EditOptions) -> Edited | None:
    """The result if the newest commit of the patch repository is that of the same edit."""
    head = git.head() if git else None
    if git is None or head is None:
        return None
    message = git.read_commit(head).message
    if split_lines(message)[:1] != [f"{line.name}: {options.subject}"]:
        return None
    series = tuple(entry.slug for entry in line.entries)
    return Edited(line.name, options.verb, line.folder, series=series, committed=head, before=True)


def _written(
    context: Context, place: Place, made: Made, verb: str, git: Repo | None, taken: Taken | None
) -> Edited:
    """Write the line, and say what was done. The objects of ``made`` are in the store. The work
    tree of the edits ``taken`` gets the new series."""
    result = _result(made, verb)
    with handed_over(place.repo, taken, made) as notes:
        committed = made.write(context.repository, git)
        result = replace(result, notes=(*result.notes, *notes), committed=committed)
    keep_series(context, made)
    return result


def _result(made: Made, verb: str, *, dry_run: bool = False) -> Edited:
    return Edited(
        made.line.name, verb, made.line.folder, made.patches, tuple(made.commits), made.tree,
        made.notes, made.changed, dry_run=dry_run,
    )  # fmt: skip


# -- going on --------------------------------------------------------------------------------


def resume(context: Context, session: Session, place: Place) -> Edited:
    """Go on with an edit that waits, with what its work tree holds.

    Raises Refused if the conflict is not resolved, or the line has changed meanwhile.
    """
    repository = context.repository
    line = repository.line(session.line)
    if session.after:
        open_git(repository.root)  # finishes what a killed run began
    now = digest_of(line)
    if session.after and now == session.after:
        end_session(context, session)
        return Edited(line.name, session.verb, line.folder, before=True)
    at = f"git -C {argument(worktree_for(context, SESSION, line.name))}"
    if now != session.before:
        raise Refused(
            f"line {line.name} has changed since `fixtool {session.verb}` began",
            where=str(line.folder),
            hint=f"keep the edits: {at} diff HEAD > FILE; then end it: fixtool {session.verb} "
            f"--abort --line {line.name}; then begin again",
        )
    git = open_for_commit(repository.root, line.folder) if session.commit else None
    if not session.made:
        plan = _with_result(context, session, line)
        session = replace(session, plan=plan, step=0, made=True)
        save_session(context, session)
    try:
        with ObjectDatabase(place.repo) as objects:
            made = make(objects, series_at(context, objects, line, place), session.plan)
            objects.flush()
    except Conflict:
        return _park(context, line, place, session)
    except FixtoolError:
        save_session(context, replace(session, made=False))  # the person may mend the work tree
        raise
    save_session(context, replace(session, after=made.digest_after))
    edited = _written(context, place, made, session.verb, git, session.taken)
    end_session(context, session)
    return edited


def _with_result(context: Context, session: Session, line: Line) -> Plan:
    """The plan with what the person made in the work tree."""
    folder = worktree_for(context, SESSION, session.line)
    place = resolving.Resolving(folder, session.parent, session.conflicts, session.verb,
                                session.line)  # fmt: skip
    wanted = list(session.plan.wanted)
    at = wanted[session.number]
    if session.stop is None:
        _, tree = resolving.resolved_tree(place)
        wanted[session.number] = at.resolved(session.step, tree)
    else:
        wanted[session.number] = _changed_by_hand(at, session, place, line)
    return replace(session.plan, wanted=tuple(wanted))


def _changed_by_hand(
    wanted: Wanted, session: Session, place: resolving.Resolving, line: Line
) -> Wanted:
    """The patch with the tree that a person made, and with the message and the author of their
    commit, if they made one. Raises Refused if a new patch has no message."""
    tree, head, commit = resolving.edited_tree(place)
    if head not in (session.stop, session.parent):
        subject, body, _ = mailable(*split_message(commit.message))
        message = join_message(subject, body)
        return replace(wanted, tree=tree, message=message, author=commit.author)
    if wanted.commit is None and not wanted.message:
        raise _no_message(wanted, session, place, line, edited=tree != commit.tree)
    return replace(wanted, tree=tree)


def _no_message(
    wanted: Wanted, session: Session, place: resolving.Resolving, line: Line, *, edited: bool
) -> Refused:
    at = f"git -C {argument(place.folder)}"
    go_on = f"fixtool {session.verb} --continue --line {line.name}"
    commit = f"{at} add --all && {at} commit, then: {go_on}"
    if edited:
        return Refused(f"{wanted.slug} has no message", where=str(place.folder), hint=commit)
    return Refused(
        f"{wanted.slug} changes nothing yet, and has no message",
        where=str(place.folder),
        hint=f"make its change there, and commit it: {commit}; or give it up: "
        f"fixtool {session.verb} --abort --line {line.name}",
    )


def _park(context: Context, line: Line, place: Place, session: Session) -> Edited:
    """Make the work tree in which a conflict is resolved. The series is made once more, with
    objects that last."""
    with ObjectDatabase(place.repo) as objects:
        try:
            make(objects, series_at(context, objects, line, place), session.plan)
        except Conflict as found:
            conflict = found
            objects.flush()
        else:
            raise CannotRun("the edit stopped, and did not stop when it was made again",
                            where=str(line.folder), hint="run the same command again")  # fmt: skip
    tree = _worktree_at(context, line, place, session, conflict.parent)
    resolving.pick(tree, conflict.theirs)
    paths = resolving.unmerged(tree) or conflict.paths
    session = replace(
        session, number=conflict.number, step=conflict.step, parent=conflict.parent,
        conflicts=paths, stop=None, made=False,
    )  # fmt: skip
    save_session(context, session)
    waiting = _shown(context, session, paths)
    return Edited(line.name, session.verb, line.folder, waiting=waiting)


def _worktree_at(context: Context, line: Line, place: Place, session: Session, commit: Oid) -> Repo:
    """A work tree at ``commit``. The one in which the session waited is moved there, and not made
    anew: the person may stand in it. What they made there is in the session."""
    folder = worktree_for(context, SESSION, line.name)
    if session.made and folder.is_dir():
        with suppress(FixtoolError):
            tree = Repo.open(folder)
            if tree.work_tree == folder.resolve():
                tree.run("checkout", "--quiet", "--force", "--detach", commit)
                return tree
    place.bring(())
    return make_worktree(context, place.repo, SESSION, line.name, commit, line.upstream.base)


def _shown(context: Context, session: Session, paths: tuple[str, ...]) -> Waiting:
    folder = worktree_for(context, SESSION, session.line)
    files = tuple(
        WaitingFile(path, resolving.marker_line(folder / path) or 1) for path in sorted(paths)
    )
    plan = session.plan
    return Waiting(
        str(folder), plan.wanted[session.number].slug, session.number + 1, len(plan.wanted), files,
        f"fixtool {session.verb} --continue --line {session.line}",
    )  # fmt: skip


# -- the session's file ----------------------------------------------------------------------


def find_session(context: Context, line: str | None) -> Session:
    """The edit that waits for ``--continue`` or ``--abort``: of ``line``, or of any line. Raises
    UsageError if there is none, or more than one."""
    return find_waiting(
        context, line, load_session,
        lambda lines: f"more than one edit waits, and no line is named: of {lines}",
        UsageError(
            "no edit waits for a person here",
            hint="begin one: fixtool edit SLUG; or see what was done: fixtool log",
        ),
    )  # fmt: skip


def end_session(context: Context, session: Session) -> None:
    """Remove a session file, and its work tree with everything in it."""
    store = Repo(context.settings.stores / session.store)
    worktrees.remove(store, worktree_for(context, SESSION, session.line))
    session_file(context, SESSION, session.line).unlink(missing_ok=True)


def save_session(context: Context, session: Session) -> None:
    write_session(context, SESSION, session.line, asdict(session))


def load_session(context: Context, line: str) -> Session | None:
    """Read the session of the edit of ``line`` that waits; None if none waits. Raises CannotRun if
    the session file is damaged."""
    return read_session(
        context, SESSION, line, lambda session: _session(session, line), "begin again"
    )


def _session(session: Field, line: str) -> Session:
    """The session in a JSON document. Its ids and names must have the form of one. Raises
    FieldError or FixtoolError if a value is malformed."""
    if session.only(Session)["line"].text() != line:
        raise session["line"].wrong(f"the line {line}")
    plan = _plan(session["plan"])
    number = session["number"].count()
    if number >= len(plan.wanted):
        raise session["number"].wrong("the number of a patch")
    step = session["step"].count()
    if step > len(plan.wanted[number].then):
        raise session["step"].wrong("the number of a change of the patch")
    return Session(
        verb=_verb(session["verb"]),
        line=line,
        source=session["source"].text(),
        store=_store(session["store"]),
        base=read_oid(session["base"]),
        before=session["before"].text(),
        plan=plan,
        number=number,
        parent=read_oid(session["parent"]),
        step=step,
        conflicts=session["conflicts"].each(path_in_tree),
        stop=session["stop"].optional(read_oid),
        commit=session["commit"].flag(),
        made=session["made"].flag(),
        after=session["after"].text(),
        taken=session["taken"].optional(_taken),
    )


def _taken(taken: Field) -> Taken:
    worktree = taken.only(Taken)["worktree"].text()
    if not Path(worktree).is_absolute() or "\0" in worktree:
        raise taken["worktree"].wrong("the path of a work tree")
    commit, head, tree = (read_oid(taken[key]) for key in ("commit", "head", "tree"))
    return Taken(worktree, commit, head, tree)


def _plan(plan: Field) -> Plan:
    files, names = plan.only(Plan)["files"], plan["names"]
    return Plan(
        wanted=plan["wanted"].each(_wanted),
        subject=plan["subject"].text(),
        body=plan["body"].text(),
        names={name_of_patch(Field(slug, "names")): names[slug].each(name_of_patch)
               for slug in names.table()},
        same_tree=plan["same_tree"].flag(),
        emptied=plan["emptied"].optional(Field.text),
        files={_file(Field(name, "files")): b64decode(files[name].text(), validate=True)
               for name in files.table()},
        remove=plan["remove"].each(_file),
        notes=plan["notes"].texts(),
    )  # fmt: skip


def _wanted(wanted: Field) -> Wanted:
    return Wanted(
        slug=name_of_patch(wanted.only(Wanted)["slug"]),
        commit=wanted["commit"].optional(read_oid),
        old=wanted["old"].optional(name_of_patch),
        message=wanted["message"].optional(Field.text),
        author=wanted["author"].optional(read_signature),
        tree=wanted["tree"].optional(read_oid),
        ends_in=wanted["ends_in"].optional(read_oid),
        then=wanted["then"].each(read_oid),
    )


def _verb(field: Field) -> str:
    if not (field.text().isalpha() and field.text().isascii()):
        raise field.wrong("the name of a command")
    return field.text()


def _file(field: Field) -> str:
    """The name of a file in the folder of a line, or in a folder there."""
    if not all(map(is_slug, field.text().split("/"))):
        raise field.wrong("the name of a file of the line")
    return field.text()


def _store(field: Field) -> str:
    name = field.text()
    if Path(name).name != name or not name.endswith(".git") or "\0" in name:
        raise field.wrong("a store of fixtool's")
    return name
