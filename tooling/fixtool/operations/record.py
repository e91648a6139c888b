"""Records what a command changes: the state before it, and after it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from fixtool.errors import FixtoolError
from fixtool.operations.capture import Scope, capture
from fixtool.operations.log import Log, Operation, Standing, now, public_words
from fixtool.operations.state import State, differing
from fixtool.series.commit import open_git
from fixtool.series.line import PatchRepository
from fixtool.series.write import writing
from fixtool.settings import Settings


@dataclass
class Recording:
    """A command that runs. ``finish`` makes an entry of the log of it if it changed something."""

    log: Log
    scope: Scope
    note: Operation
    seen: frozenset[int]
    path: Path
    _held: ExitStack

    def finish(self, exit_code: int) -> bool:
        """Look at what the command left, and note it; return whether it changed anything.
        ``beyond`` counts only if it succeeded."""
        with self._held:
            log = self.log
            after = capture(
                log.repository, log.settings, log.contents, self.scope, self.note.before
            )
            beyond = self.note.beyond if exit_code == 0 else None
            operation = replace(self.note, exit_code=exit_code, beyond=beyond)
            changed = add(log, operation, after, self.seen)
            self.path.unlink(missing_ok=True)
        return changed


def begin(
    repository: PatchRepository,
    settings: Settings,
    words: Sequence[str],
    scope: Scope,
    beyond: str | None = None,
) -> Recording:
    """Note how everything is before a command. ``words`` are those of the command, and ``beyond``
    is what it changes that cannot be taken back. What killed runs have left becomes an entry first.

    Raises FixtoolError or OSError if that cannot be noted.
    """
    log = Log(repository, settings)
    settle(log)
    before = capture(repository, settings, log.contents, scope)
    root = str(repository.root.resolve())
    numbers = log.numbers()
    newest = max(numbers, default=0)
    note = Operation(newest, now(), public_words(words), root, before, beyond=beyond)
    seen = frozenset(numbers)
    with ExitStack() as stack:
        path = stack.enter_context(log.noting(note))
        return Recording(log, scope, note, seen, path, stack.pop_all())


def add(log: Log, operation: Operation, after: State, seen: frozenset[int]) -> bool:
    """Make an entry of ``operation``, whose state before is all there was, if it changed anything,
    and return whether it did. What other commands noted since then, which are not in ``seen``, is
    theirs."""
    with log.alone():
        before = operation.before
        numbers = log.numbers()
        for number in numbers:
            if number not in seen:
                other = log.read(number)
                if other.standing is Standing.DONE:
                    before = with_changes(before, other.before, other.after)
        old, new = differing(before, after)
        if old == new and operation.beyond is None:
            return False
        for number in reversed(numbers):
            entry = _readable(log, number)
            if entry and entry.standing is Standing.UNDONE:
                log.write(replace(entry, standing=Standing.REPLACED))
            elif entry and entry.standing is Standing.DONE:
                break
        number = max(numbers, default=0) + 1
        log.write(replace(operation, number=number, before=old, after=new))
        log.prune()
    return True


def _readable(log: Log, number: int) -> Operation | None:
    with suppress(FixtoolError):
        return log.read(number)
    return None


def with_changes(state: State, old: State, new: State) -> State:
    """``state`` with each part that is as in ``old`` as it is in ``new``. The two hold what
    differs between them."""
    parts, was, now_there = state.parts(), old.parts(), new.parts()
    for part in {*was, *now_there}:
        if parts.get(part) == was.get(part):
            parts.pop(part, None)
            if part in now_there:
                parts[part] = now_there[part]
    return State.of(parts)


def settle(log: Log) -> tuple[Operation, ...]:
    """Make entries of the notes that killed runs have left. What they had still to write into
    ``patches/`` and to commit is finished first, and so is an ``undo`` or a ``redo``: the notes of
    these are returned. Raises CannotRun if a note is damaged."""
    from fixtool.operations.undo import finish  # which imports this module

    finished = []
    for path in log.left_notes():
        note = log.read_note(path)
        with suppress(FixtoolError):
            open_git(log.repository.root)
            with writing(log.repository):
                pass  # what was half written is repaired
        if note.steps and finish(log, note):
            finished.append(note)
            path.unlink(missing_ok=True)
            continue
        places = tuple(map(Path, note.before.trees))
        whole = any(tree.files for tree in note.before.trees.values())
        scope = Scope(places, whole, note.words[:1] == ("init",))
        after = capture(log.repository, log.settings, log.contents, scope)
        seen = frozenset(number for number in log.numbers() if number <= note.number)
        add(log, replace(note, steps=(), standing=Standing.DONE), after, seen)
        path.unlink(missing_ok=True)
    return tuple(finished)


def mark(log: Log, numbers: Sequence[int], standing: Standing) -> None:
    """Say in the log what became of these operations."""
    with log.alone():
        for number in numbers:
            log.write(replace(log.read(number), standing=standing))
