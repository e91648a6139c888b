"""Takes back what commands changed, and does it again.

Everything that is to change is compared first with what the command left. If anything else is there
now, it is newer: then it is said, and nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fixtool.apply.home import home_at
from fixtool.apply.worktree import hidden_edits, read_record, to_show
from fixtool.errors import CannotRun, FixtoolError, Refused, UsageError
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.git.trees import changed_files
from fixtool.operations import _put_back
from fixtool.operations.capture import Scope, capture
from fixtool.operations.log import Log, Operation, Standing, now
from fixtool.operations.record import mark, settle, with_changes
from fixtool.operations.state import BRANCH, Branch, State, TreeState, describe
from fixtool.series.commit import open_git
from fixtool.series.write import writing
from fixtool.text import argument, count, split_lines

_MOST_SHOWN = 3  # things that a message names


@dataclass(frozen=True)
class TakenBack:
    """What ``undo`` or ``redo`` did: the numbers and commands of the ``operations``, what
    ``changed``, and ``notes`` on what it could not take back, one sentence each."""

    operations: tuple[Operation, ...]
    changed: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass
class _Change:
    """Where the parts of a state are expected to be, and where they go. A part that is not there
    is missing in its table."""

    expected: dict[tuple[str, str], Any] = field(default_factory=dict)
    wanted: dict[tuple[str, str], Any] = field(default_factory=dict)

    @property
    def parts(self) -> list[tuple[str, str]]:
        return sorted({*self.expected, *self.wanted})

    def of(self, kind: str) -> Iterator[tuple[str, Any, Any]]:
        """The name of each part of a kind, what is expected there, and what it is to be."""
        for part in self.parts:
            if part[0] == kind:
                yield part[1], self.expected.get(part), self.wanted.get(part)


def undo(log: Log, steps: int = 1, *, dry_run: bool = False) -> TakenBack:
    """Take the last ``steps`` operations back that are done.

    Raises Refused, and changes nothing, if something newer would be lost; UsageError if there are
    fewer operations; CannotRun if the log is damaged or too little is left of what was there.
    """
    for note in settle(log):
        if _is_same(note, "undo", steps) and not dry_run:
            return _finished(log, note)
    return _take(log, _last(log, steps), Standing.UNDONE, dry_run=dry_run)


def redo(log: Log, steps: int = 1, *, dry_run: bool = False) -> TakenBack:
    """Do the last ``steps`` operations again that were undone. Raises as ``undo`` does."""
    for note in settle(log):
        if _is_same(note, "redo", steps) and not dry_run:
            return _finished(log, note)
    undone: list[Operation] = []
    for number in reversed(log.numbers()):
        operation = log.read(number)
        if operation.standing is Standing.DONE:
            break
        if operation.standing is Standing.UNDONE:
            undone.insert(0, operation)
    if len(undone) < steps:
        raise _too_few(len(undone), steps, "redo", "do again")
    return _take(log, undone[:steps], Standing.DONE, dry_run=dry_run)


def _is_same(note: Operation, verb: str, steps: int) -> bool:
    """Whether a killed run was the same command."""
    return note.words[:1] == (verb,) and len(note.steps) == steps


def _finished(log: Log, note: Operation) -> TakenBack:
    """What the killed run of ``note`` did, which is finished now."""
    operations = tuple(log.read(number) for number in note.steps)
    change = _merged(operations, undoing=note.standing is Standing.UNDONE)
    changed = describe(State.of(change.expected), State.of(change.wanted))
    return TakenBack(operations, changed,
                     ("an earlier run had begun this; it is finished now",))  # fmt: skip


def finish(log: Log, note: Operation) -> bool:
    """Finish an ``undo`` or a ``redo`` that was killed, of which ``note`` is left. Returns False,
    and changes nothing, if what it was about to change has been changed otherwise since."""
    repository = log.repository
    try:
        operations = [log.read(number) for number in note.steps]
        change = _merged(operations, undoing=note.standing is Standing.UNDONE)
    except FixtoolError:
        return False
    git = open_git(repository.root)
    with writing(repository):
        present = capture(repository, log.settings, log.contents, _scope(change))
        there = present.parts()
        moves = change.expected.get(BRANCH) != change.wanted.get(BRANCH)
        for part in change.parts:
            states = change.expected.get(part), change.wanted.get(part)
            if part[0] != "trees" and there.get(part) not in states:
                return False
        for path, expected, wanted in change.of("trees"):
            if not _put_back.finish_tree(log, path, expected, wanted, present.trees.get(path)):
                return False
        for part in change.parts:
            if part[0] not in ("trees", "branch"):
                continue
            if part in there:
                change.expected[part] = there[part]
            else:
                change.expected.pop(part, None)
        _carry_out(log, git, change, present, f"fixtool {' '.join(note.words)}")
        if git and moves:  # the branch may have moved, and the index not yet
            _put_back.index(git, _paths(log, git, change))
        mark(log, note.steps, note.standing)
    return True


def _last(log: Log, steps: int) -> list[Operation]:
    """The last operations that are done, the newest first."""
    found: list[Operation] = []
    for number in reversed(log.numbers()):
        operation = log.read(number)
        if operation.standing is Standing.DONE:
            found.append(operation)
        # What only changed something else is passed over, and said to be.
        if sum(map(_changes_something, found)) == steps:
            return found
    raise _too_few(sum(map(_changes_something, found)), steps, "undo", "take back")


def _changes_something(operation: Operation) -> bool:
    return operation.before != operation.after


def _too_few(there: int, wanted: int, verb: str, words: str) -> UsageError:
    if not there:
        return UsageError(f"there is nothing to {words}", hint="see what was done: fixtool log")
    return UsageError(
        f"there are {count(there, 'operation')} to {words}, not {wanted}",
        hint=f"see them: fixtool log; or {words} all of them: fixtool {verb} {there}",
    )


def _take(
    log: Log, operations: Sequence[Operation], standing: Standing, *, dry_run: bool
) -> TakenBack:
    repository = log.repository
    git = open_git(repository.root)
    with writing(repository):
        change = _merged(operations, undoing=standing is Standing.UNDONE)
        present = capture(repository, log.settings, log.contents, _scope(change))
        _require_nothing_newer(log, git, change, present, operations, standing)
        before, after = State.of(change.expected), State.of(change.wanted)
        changed = describe(before, after)
        notes = tuple(_notes(git, change, operations, standing))
        if not dry_run:
            numbers = tuple(operation.number for operation in operations)
            verb = "undo" if standing is Standing.UNDONE else "redo"
            words = (verb,) if len(numbers) == 1 else (verb, str(len(numbers)))
            note = Operation(
                max(log.numbers()), now(), words, str(repository.root.resolve()), present,
                with_changes(present, before, after), standing=standing, steps=numbers,
            )  # fmt: skip
            with log.noting(note) as path:
                _carry_out(log, git, change, present, f"fixtool {' '.join(words)}")
                mark(log, numbers, standing)
                path.unlink(missing_ok=True)
    return TakenBack(tuple(operations), changed, notes)


def _merged(operations: Sequence[Operation], *, undoing: bool) -> _Change:
    """What all the operations change together. Raises Refused if something else was changed
    between two of them."""
    change = _Change()
    for steps, operation in enumerate(operations):
        source, target = operation.after, operation.before
        if not undoing:
            source, target = target, source
        here, there = source.parts(), target.parts()
        parts = {*here, *there}
        if here.get(BRANCH) == there.get(BRANCH) and (change.parts or not source.files):
            parts.discard(BRANCH)  # it tells only on which commit the command ran
        for part in parts:
            if part in change.expected or part in change.wanted:
                if change.wanted.get(part) != here.get(part):
                    raise Refused(
                        f"{_name(part)} was changed by something else after `{operation.command}`",
                        where=_name(part),
                        hint=f"fixtool {'undo' if undoing else 'redo'} {steps}",
                    )
            elif part in here:
                change.expected[part] = here[part]
            change.wanted.pop(part, None)
            if part in there:
                change.wanted[part] = there[part]
            if part not in change.expected and part not in change.wanted:
                change.expected.pop(part, None)
    return change


def _scope(change: _Change) -> Scope:
    """What to look at before a change."""
    trees = [name for name, _, _ in change.of("trees")]
    whole = any(state and state.files for _, *states in change.of("trees") for state in states)
    around = any(name.startswith("/") for name, _, _ in change.of("files"))
    return Scope(tuple(map(Path, trees)), whole, around)


def _name(part: tuple[str, str]) -> str:
    kind, name = part
    if kind == "files":
        return name[1:] if name.startswith("/") else f"patches/{name}"
    if kind == "waiting":
        verb, _, line = name.partition("/")
        return f"the {verb} of line {line} that waits"
    return "the branch" if kind == "branch" else name


# -- is anything newer? -----------------------------------------------------------------------


def _require_nothing_newer(
    log: Log,
    git: Repo | None,
    change: _Change,
    present: State,
    operations: Sequence[Operation],
    standing: Standing,
) -> None:
    verb = "undo" if standing is Standing.UNDONE else "redo"
    newer = list(_newer_commits(log, git, change, present, operations, verb))
    newer += _newer_parts(git, change, present, "files", verb)
    newer += _newer_parts(git, change, present, "waiting", verb)
    for path, expected, wanted in change.of("trees"):
        newer += _newer_in_tree(log, path, expected, wanted, present.trees.get(path), verb)
    if newer and newer[0][0].startswith((_AWAY, _TAKEN_OFF)):
        newer = newer[:1]  # the rest only follows from it
    if newer:
        shown = "; ".join(what for what, _, _ in newer[:_MOST_SHOWN])
        more = len(newer) - _MOST_SHOWN
        raise Refused(
            f"{verb} would lose what is newer: {shown}"
            + (f"; and {more} more" if more > 0 else ""),
            where=newer[0][1],
            hint=newer[0][2],
        )


# Two causes of which all else that is newer is only an effect, as messages begin with them.
_AWAY = "another branch is checked out"
_TAKEN_OFF = "git has taken commit"
_Newer = tuple[str, str, str]
"""What is newer, where it is, and what to do."""


def _newer_parts(
    git: Repo | None, change: _Change, present: State, kind: str, verb: str
) -> Iterator[_Newer]:
    for name, expected, _ in change.of(kind):
        if getattr(present, kind).get(name) != expected:
            what = _name((kind, name))
            can_stash = git and git.work_tree and git.head()  # not before the first commit
            away = f": git -C {argument(git.work_tree)} stash" if git and can_stash else ""
            hint = f"keep what is there; or put it away{away}; then fixtool {verb}"
            if kind == "waiting":
                waits, _, line = name.partition("/")
                hint = f"end what waits: fixtool {waits} --abort --line {line}; then fixtool {verb}"
            yield f"{what} was changed since", what, hint


def _newer_commits(
    log: Log,
    git: Repo | None,
    change: _Change,
    present: State,
    operations: Sequence[Operation],
    verb: str,
) -> Iterator[_Newer]:
    expected = change.expected.get(BRANCH)
    wanted = change.wanted.get(BRANCH)
    here = present.branch
    if git is None or expected is None or here is None or here == expected:
        return
    where = str(git.work_tree)
    if here.name != expected.name:
        if expected != wanted:
            name = expected.name.removeprefix("refs/heads/")
            yield (
                f"{_AWAY} than {name}", where,
                f"git -C {argument(where)} switch {argument(name)}, then fixtool {verb}",
            )  # fmt: skip
        return
    commits = _commits(git, expected.commit, here.commit)
    touched = expected != wanted
    if not touched:
        names = _paths(log, git, change)
        touched = bool(names) and _differs(git, expected.commit, here.commit, names)
    if touched:
        reverts = " ".join(commit for operation in operations if (commit := _commit_of(operation)))
        hint = (
            f"git -C {argument(where)} revert {reverts}"
            if reverts and verb == "undo"
            else (f"git -C {argument(where)} log")
        )
        if expected.commit and here.commit and git.descends(expected.commit, here.commit):
            again = f"git -C {argument(where)} merge --ff-only {expected.commit}"
            hint = f"bring it back first: {again}; then fixtool {verb}"
            commits = [f"{_TAKEN_OFF} {expected.commit[:12]} off the branch"]
        for newer in commits or ["the branch has gone elsewhere"]:
            yield newer, where, hint


def _commit_of(operation: Operation) -> Oid | None:
    """The commit that an operation made in the patch repository."""
    before, after = operation.before.branch, operation.after.branch
    return after.commit if after and before != after else None


def _commits(git: Repo, since: Oid | None, until: Oid | None) -> list[str]:
    """The commits after ``since`` up to ``until``, in words, the newest first."""
    if until is None:
        return []
    with suppress(FixtoolError):
        span = [until, *([f"^{since}"] if since else [])]
        out = git.run("log", "--no-decorate", "--format=commit %h %s", "--max-count=4", *span)
        return split_lines(out.text)
    return []


def _differs(git: Repo, old: Oid | None, new: Oid | None, paths: Sequence[str]) -> bool:
    if not old or not new:
        return old != new
    words = ("diff-tree", "--quiet", "-r", old, new, "--", *paths)
    return git.run(*words, accept=(0, 1)).status == 1


def _hidden(
    tree: Repo, path: str, wanted: TreeState | None, present: TreeState, verb: str
) -> Iterator[_Newer]:
    """The edits of a work tree at which git was told not to look, in files that go or change."""
    hidden = hidden_edits(tree)
    if hidden and wanted is not None:
        here = not tree.lacks([wanted.head])
        changes = changed_files(tree, present.head, wanted.head) if here else ()
        hidden = {file: hidden[file] for file in (change.path for change in changes)
                  if file in hidden}  # fmt: skip
    for file, option in hidden.items():
        show = to_show(tree, file, option)
        yield (
            f"edits of {Path(path) / file}",
            path,
            f"show them to git: {show}; then fixtool {verb}",
        )


def _newer_in_tree(
    log: Log,
    path: str,
    expected: TreeState | None,
    wanted: TreeState | None,
    present: TreeState | None,
    verb: str,
) -> Iterator[_Newer]:
    """What is in a work tree that the operation did not leave there."""
    if expected is None:
        if present is not None or (Path(path).is_dir() and any(Path(path).iterdir())):
            yield f"something is at {path}", path, f"move it away, then fixtool {verb}"
        return
    if present is None:
        if Path(path).is_dir() and any(Path(path).iterdir()):
            yield f"{path} is something else now", path, f"move it away, then fixtool {verb}"
        return  # it was removed by hand: nothing can be lost
    tree = _put_back.open_tree(log.settings, path, present)
    if present.head != expected.head or present.branch != expected.branch:
        commits = _commits(tree, expected.head, present.head)
        what = (
            f"commits in the work tree {path} ({', '.join(commits)})"
            if commits
            else (f"the work tree {path} is at another commit")
        )
        yield what, path, f"save them: fixtool export --worktree {argument(path)}"
    elif expected.files:
        if present.files != expected.files:
            hint = _end(path, verb) if expected.note else _save(path)
            yield f"edits in the work tree {path}", path, hint
    elif tree.status():
        yield f"edits in the work tree {path} that are not committed", path, _save(path)
    yield from _hidden(tree, path, wanted, present, verb)
    if wanted is not None and wanted.branch not in (None, present.branch):
        yield from _newer_on_branch(tree, path, str(wanted.branch), wanted.head, verb)
    missing = [oid for oid in (wanted and wanted.head, wanted and wanted.files) if oid]
    if missing and tree.lacks(missing):
        raise CannotRun(
            f"git has removed what was in the work tree {path}",
            where=path,
            hint=f"make it again: {record.again(tree)}" if (record := read_record(tree)) else None,
        )


def _newer_on_branch(tree: Repo, path: str, name: str, head: Oid, verb: str) -> Iterator[_Newer]:
    """Commits on a branch that is not checked out now, and that would go back to ``head``."""
    tip = tree.ref(name)
    if tip is not None and tip != head and (commits := _commits(tree, head, tip)):
        short = name.removeprefix("refs/heads/")
        yield (
            f"commits on the branch {short} of {path} ({', '.join(commits)})", path,
            f"keep them: git -C {argument(path)} branch NEW-NAME {argument(short)}; then git -C "
            f"{argument(path)} branch --force {argument(short)} {head[:12]}, and fixtool {verb}",
        )  # fmt: skip


def _end(path: str, verb: str) -> str:
    """How to end what waits in a work tree, and keep what a person did there."""
    home = home_at(Path(path))
    if home is None or home.waiting is None:
        return _save(path)
    keep = f"git -C {argument(path)} diff HEAD > FILE"
    end = f"fixtool {home.waiting} --abort --line {home.line}"
    return f"keep them: {keep}; then end what waits: {end}; then fixtool {verb}"


def _save(path: str) -> str:
    return f"keep them: git -C {argument(path)} stash --include-untracked"


# -- what is said, and what is done ------------------------------------------------------------


def _notes(
    git: Repo | None, change: _Change, operations: Sequence[Operation], standing: Standing
) -> Iterator[str]:
    verb = "undone" if standing is Standing.UNDONE else "done again"
    for operation in operations:
        if operation.beyond:
            yield f"not {verb}, of `{operation.command}`: {operation.beyond}"
    for operation in operations if git and standing is Standing.UNDONE else ():
        commit = _commit_of(operation)
        if git and commit and (remotes := _remotes_with(git, commit)):
            yield (
                f"commit {commit[:12]} was pushed ({', '.join(remotes[:2])}) and stays there: git "
                f"push would be refused now; fixtool redo, then git -C {argument(git.work_tree)} "
                f"revert {commit[:12]}"
            )
    for path, expected, _ in change.of("trees"):
        if expected is not None and not Path(path).exists():
            yield f"the work tree {path} is gone, so it was left alone"


def _remotes_with(git: Repo, commit: Oid) -> list[str]:
    """The remote-tracking branches that hold a commit."""
    form = "--format=%(refname:short)"
    return split_lines(
        git.run("for-each-ref", form, f"--contains={commit}", "refs/remotes/", accept=None).text
    )


def _carry_out(log: Log, git: Repo | None, change: _Change, present: State, reason: str) -> None:
    """Put everything where it is wanted: what is largest first, the branch last."""
    for path, expected, wanted in change.of("trees"):
        _put_back.tree(log, path, expected, wanted, present.trees.get(path), reason)
    for name, _, wanted in change.of("waiting"):
        _put_back.session(log, name, wanted)
    _put_back.files(log, {name: wanted for name, _, wanted in change.of("files")})
    expected, wanted = (table.get(BRANCH) for table in (change.expected, change.wanted))
    if git is not None and isinstance(expected, Branch) and isinstance(wanted, Branch):
        _put_back.branch(git, expected, wanted, _paths(log, git, change), reason)


def _paths(log: Log, git: Repo, change: _Change) -> list[str]:
    """The files that change, as paths in the work tree of the patch repository."""
    assert git.work_tree is not None
    root = log.repository.root.resolve().relative_to(git.work_tree)
    names = (name for name, _, _ in change.of("files"))
    return [str(root / (name[1:] if name[0] == "/" else f"patches/{name}")) for name in names]
