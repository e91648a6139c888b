"""Asks for a message in the user's own editor, which is found as git finds it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from fixtool.errors import CannotRun, FixtoolError, Refused, UsageError

_OTHER_WAYS = "-m TEXT, or take it from a file: --file FILE"
_SCISSORS = "# ------------------------ >8 ------------------------"
_HELP = """
{scissors}
# Do not change the line above: it and everything below it are left out.
# The first line is the subject of {slug}. Leave an empty message to change nothing.
"""


def ask(folder: Path, name: str, message: str, slug: str) -> str:
    """The message that the user makes of ``message``. The file that is edited is ``name`` in
    ``folder``, and stays there without the help, so that the text is not lost if anything fails.

    Raises Refused if the message is empty, CannotRun if the editor fails, and UsageError if there
    is none and nobody to use it.
    """
    editor = _editor(folder)
    path = folder / name
    path.write_text(message + _HELP.format(scissors=_SCISSORS, slug=slug), "utf-8",
                    "surrogateescape")  # fmt: skip
    done = subprocess.run(["sh", "-c", f'{editor} "$@"', editor, str(path)], check=False)
    if done.returncode:
        raise CannotRun(f"the editor {editor!r} failed with exit code {done.returncode}",
                        where=str(path), hint=_OTHER_WAYS)  # fmt: skip
    text = path.read_text("utf-8", "surrogateescape").partition(f"{_SCISSORS}\n")[0]
    path.write_text(text, "utf-8", "surrogateescape")  # as a later --file takes it
    if not text.strip():
        raise Refused("the message is empty; nothing was changed")
    return text


def _editor(folder: Path) -> str:
    """The command of the editor: of GIT_EDITOR, core.editor, VISUAL or EDITOR, else vi."""
    dumb = os.environ.get("TERM", "dumb") == "dumb"
    chosen = (
        os.environ.get("GIT_EDITOR")
        or _configured(folder)
        or (not dumb and os.environ.get("VISUAL"))
        or os.environ.get("EDITOR")
    )
    if not chosen and (dumb or not sys.stdin.isatty()):
        raise UsageError("no editor is set, and this is no terminal",
                         hint=_OTHER_WAYS)  # fmt: skip
    return chosen or "vi"


def _configured(folder: Path) -> str:
    from fixtool.git.repo import Repo

    with suppress(FixtoolError):
        return Repo(folder).run_as_user("config", "--get", "core.editor").strip()
    return ""
