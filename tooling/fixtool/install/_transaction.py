"""Changes several files so that a killed run leaves all of it or nothing.

Everything that comes is written beside first, in the folder that becomes the new state folder. Then
the journal is written, in one step: from there on, the change is decided. What follows are renames,
each of which can be done twice: new files first, RECORD last. A run that was killed before the
journal leaves the files as they were, and the next run removes what it had staged. A run that was
killed after it is finished by the next run.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from fixtool import documents
from fixtool.documents import Field
from fixtool.errors import CannotRun, Refused
from fixtool.files import lock_folder, sync_folder, write_atomically
from fixtool.install.state import FILE, JOURNAL, NEW, Place, check_path, digest_of
from fixtool.text import argument

_PATIENCE = 60.0


@dataclass(frozen=True)
class Step:
    """A file at ``path`` that goes from the sha256 ``old`` to ``new``; None stands for no file.
    ``staged`` is the name of the file that comes, in the folder of those. Bytecode takes the place
    of whatever is there."""

    path: str
    old: str | None
    new: str | None
    staged: str | None
    bytecode: bool


@dataclass(frozen=True)
class _Journal:
    """The steps of a change, and whether a state folder comes with it."""

    what: str
    steps: tuple[Step, ...]
    keeps_state: bool


class Recovered(StrEnum):
    """What became of a run that was killed."""

    FINISHED = "finished"
    TAKEN_BACK = "taken back"


@contextmanager
def alone(place: Place) -> Iterator[None]:
    """Be the only run of fixtool that changes files here during the block."""
    with lock_folder(place.state.parent, str(place.root), _PATIENCE):
        yield


def unfinished(place: Place) -> bool:
    """Whether a run was killed here after it had decided to change files."""
    return (place.coming / JOURNAL).exists()


def recover(place: Place) -> Recovered | None:
    """End what a killed run has left: finish it if its journal is there, or else remove what it had
    staged. None if there is nothing. Raises Refused if a file was changed since."""
    if (place.coming / JOURNAL).exists():
        journal = documents.read_own(place.coming / JOURNAL, _read_journal)
        if journal is None:
            raise CannotRun(
                "the journal of a killed run is not readable",
                where=str(place.coming / JOURNAL),
                hint="install the package anew, for example with pip install --force-reinstall "
                "--no-deps",
            )
        _finish(place, journal)
        return Recovered.FINISHED
    if os.path.lexists(place.coming):
        shutil.rmtree(place.coming)
        return Recovered.TAKEN_BACK
    if (place.state / JOURNAL).exists() or _retired(place).exists():
        _tidy(place.state)
        _remove(_retired(place))
        return Recovered.FINISHED
    return None


@contextmanager
def staging(place: Place) -> Iterator[Path]:
    """The folder for what comes. It is removed if the block fails before the journal is there."""
    place.coming.mkdir()
    place.coming.chmod(0o755)  # others may ask for the status
    (place.coming / NEW).mkdir()
    try:
        yield place.coming
    except BaseException:
        if not (place.coming / JOURNAL).exists():
            shutil.rmtree(place.coming, ignore_errors=True)
        raise


def commit(place: Place, what: str, steps: Sequence[Step]) -> None:
    """Do ``steps`` with what was staged. The state folder that comes, if it holds a state, takes
    the place of the old one; otherwise the old one is removed. Raises Refused, before anything is
    changed, if a file is not what a step expects."""
    for step in steps:
        if not step.bytecode and digest_of(place.root / step.path) != step.old:
            raise _changed_meanwhile(place, step)
    _sync(place.coming)
    journal = _Journal(what, tuple(steps), (place.coming / FILE).exists())
    write_atomically(place.coming / JOURNAL, json.dumps(asdict(journal)), durable=True)
    _finish(place, journal)


def _finish(place: Place, journal: _Journal) -> None:
    touched = set()
    for step in journal.steps:
        target = place.root / step.path
        touched.add(target.parent)
        _do(place, step, target)
    for folder in sorted(touched, key=lambda folder: -len(folder.parts)):
        _remove_empty(folder, place.root)
    for folder in touched:
        if folder.is_dir():
            sync_folder(folder)
    if journal.keeps_state:
        # The old state folder goes first: a kill between the two leaves the one that comes, with
        # its journal.
        _remove(place.state)
        place.coming.rename(place.state)
        sync_folder(place.state.parent)
        _tidy(place.state)
    else:
        _remove(place.state)
        place.coming.rename(_retired(place))
        sync_folder(place.state.parent)
        shutil.rmtree(_retired(place))


def _do(place: Place, step: Step, target: Path) -> None:
    current = digest_of(target)
    if current == step.new and (current is None or step.staged is None):
        return
    staged = place.coming / NEW / step.staged if step.staged else None
    if current == step.new and staged is not None and not staged.exists():
        return  # an earlier run came as far as this
    if current not in (step.old, step.new) and not step.bytecode:
        raise _changed_meanwhile(place, step)
    if staged is None:
        target.unlink(missing_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if not staged.exists():
        if step.bytecode:
            return  # it was put there, and Python has compiled it anew since
        raise _changed_meanwhile(place, step)
    staged.replace(target)


def _changed_meanwhile(place: Place, step: Step) -> Refused:
    path = place.root / step.path
    return Refused(
        f"{step.path} was changed by somebody else meanwhile",
        where=str(path),
        hint=f"put the file back, or install the package anew: ls -l {argument(path)}",
    )


def _retired(place: Place) -> Path:
    """The state folder of a change that is over and leaves no state."""
    return place.state.with_name(f"{place.state.name}.old")


def _tidy(state: Path) -> None:
    """Remove what a change leaves in its state folder."""
    shutil.rmtree(state / NEW, ignore_errors=True)
    (state / JOURNAL).unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    if os.path.lexists(folder):
        shutil.rmtree(folder)


def _remove_empty(folder: Path, root: Path) -> None:
    """Remove ``folder`` and those around it that are empty, and a folder of bytecode in it."""
    while folder != root and folder.is_relative_to(root):
        with suppress(OSError):
            (folder / "__pycache__").rmdir()
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _sync(folder: Path) -> None:
    """Wait until everything in ``folder`` is on the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        elif path.is_dir():
            sync_folder(path)
    sync_folder(folder)


def _read_journal(field: Field) -> _Journal:
    return _Journal(
        field["what"].text(), field["steps"].each(_read_step), field["keeps_state"].flag()
    )


def _read_step(field: Field) -> Step:
    return Step(
        check_path(field["path"]), field["old"].optional(Field.text),
        field["new"].optional(Field.text), field["staged"].optional(check_path),
        field["bytecode"].flag(),
    )  # fmt: skip
