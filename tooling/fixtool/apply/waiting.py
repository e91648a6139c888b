"""Where a command that waits for a person keeps its work tree and its session, by line.

``verb`` is the command: ``rebase`` or ``import``, and ``edit`` for all that edit a series. While
one waits, no other command changes the line: what the person makes is for the line as it was.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import TypeVar

from fixtool.apply.home import Note, write_note
from fixtool.documents import Field
from fixtool.errors import CannotRun, FixtoolError, Refused, UsageError
from fixtool.files import private_folder, read_at_most, require_private, write_atomically
from fixtool.git import worktrees
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.series.context import Context
from fixtool.series.patch import is_slug
from fixtool.text import argument

_T = TypeVar("_T")
_LARGEST = 256 << 20  # bytes of a session, which holds patches and resolutions
_VERBS = {"edit": "an edit of", "import": "an import into", "rebase": "a rebase of"}


def worktree_for(context: Context, verb: str, line: str) -> Path:
    """The folder of the work tree in which conflicts of ``line`` are resolved."""
    repository = context.repository
    name = f"{repository.root.name}-{repository.digest[:6]}"
    return context.settings.worktrees / name / f"{verb}-{line}"


def make_worktree(
    context: Context, store: Repo, verb: str, line: str, commit: str, base: Oid | None = None
) -> Repo:
    """Make the work tree in which conflicts of ``line`` are resolved, at ``commit`` of ``store``.
    One that is there goes. ``base`` is the line's base, if the commit follows it. Every command
    that is typed in the work tree then knows the patch repository and the line."""
    folder = worktree_for(context, verb, line)
    worktrees.remove(store, folder)
    private_folder(folder.parent)
    tree = worktrees.add(store, folder, commit, base=base)
    write_note(tree.git_dir, Note(str(context.repository.root.resolve()), line, verb))
    return tree


def is_abandoned(context: Context, verb: str, line: str) -> bool:
    """Whether the work tree of a session is gone: somebody removed it instead of typing `--abort`.
    Such a session keeps nobody from beginning anew."""
    return not worktree_for(context, verb, line).is_dir()


def require_nothing_waits(context: Context, line: str) -> None:
    """Raise Refused if a command waits for a person in ``line``. Called before another one changes
    the line: `--continue` would have to refuse then, and what the person has made would be of no
    use. A change that comes in by git cannot be refused; `--continue` finds it, and refuses."""
    if verb := waiting_verb(context, line):
        raise Refused(
            f"{_VERBS[verb]} line {line} waits for you, and must end before the line is changed",
            where=str(worktree_for(context, verb, line)),
            hint=f"go on: fixtool {verb} --continue --line {line}; or give it up: "
            f"fixtool {verb} --abort --line {line}",
        )


def waiting_verb(context: Context, line: str) -> str | None:
    """The command that waits for a person in ``line``; None if none does."""
    return next((verb for verb in _VERBS if is_waiting(context, verb, line)), None)


def is_waiting(context: Context, verb: str, line: str) -> bool:
    """Whether a session of ``verb`` waits in ``line``, with its work tree."""
    return session_file(context, verb, line).is_file() and not is_abandoned(context, verb, line)


def session_file(context: Context, verb: str, line: str) -> Path:
    """The file of the session. Raises CannotRun if others may write to its folder."""
    folder = context.settings.state / verb
    require_private(folder)
    return folder / f"{context.repository.digest[:10]}-{line}.json"


def write_session(context: Context, verb: str, line: str, session: Mapping[str, object]) -> None:
    """Keep the session of ``line``, which is a JSON document but for bytes: these become base64."""
    path = session_file(context, verb, line)
    private_folder(path.parent)
    write_atomically(path, json.dumps(session, indent=1, default=_base64), durable=True)


def _base64(value: object) -> str:
    assert isinstance(value, bytes)
    return b64encode(value).decode()


def read_session(
    context: Context, verb: str, line: str, read: Callable[[Field], _T], again: str
) -> _T | None:
    """What ``read`` makes of the session of ``line``; None if none waits. Raises CannotRun if its
    file is damaged; ``again`` says what to do then."""
    path = session_file(context, verb, line)
    try:
        return read(Field(json.loads(read_at_most(path, _LARGEST))))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError, FixtoolError) as error:
        raise CannotRun(
            f"the session of this {verb} is not readable: {error}",
            where=str(path),
            hint=f"{again}: rm {argument(path)}",
        ) from error


def path_in_tree(field: Field) -> str:
    """The path in a work tree that a session names. Raises FieldError if it leads out of it."""
    path = PurePosixPath(field.text())
    if path.is_absolute() or ".." in path.parts or "\0" in field.text():
        raise field.wrong("a path in the work tree")
    return field.text()


def name_of_patch(field: Field) -> str:
    """The patch that a session names, or the line, whose name has the same form. Raises FieldError
    if it is none."""
    if not is_slug(field.text()):
        raise field.wrong("the name of a patch or a line")
    return field.text()


def find_waiting(
    context: Context,
    line: str | None,
    load: Callable[[Context, str], _T | None],
    several: Callable[[str], str],
    none: UsageError,
) -> _T:
    """The session that waits: of ``line``, or of any line. Raises ``none`` if there is none, and
    UsageError with ``several``, which is told the lines, if there is more than one."""
    names = [line] if line else context.repository.line_names
    sessions = {name: session for name in names if (session := load(context, name))}
    if len(sessions) == 1:
        return next(iter(sessions.values()))
    if sessions:
        raise UsageError(
            several(", ".join(sessions)), hint=", or ".join(f"--line {name}" for name in sessions)
        )
    raise none
