"""Commands that a person is told to type next, with the options that the user gave.

A message names a command in short, such as ``fixtool rebase --onto v2``. Typed like that, it would
work in another repository, on another line or with another source than the command before it.
"""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Sequence

from fixtool.commands.verbs import VERBS, function_of
from fixtool.text import public_url

_KEPT = {"-C": "directory", "--source": "source", "--line": "line", "--python": "python"}
"""The options that are kept, and the parameter of a verb's function that says that it takes one."""
_SPELLINGS = {"--repository": "-C"}
_COMMAND = re.compile(r"(?<![\w`/.-])fixtool ([a-z]+)(?= |$|[,;.)])")
_WITHOUT = {  # an option, and the words of a command that say the same or contradict it
    "--source": ("--source", "--continue", "--skip", "--abort", "--releases", "--into", "--import"),
    "--python": ("--python", "--continue", "--skip", "--abort"),
    "--line": ("--line",),
    "-C": ("-C", "--repository"),
}


def given(typed: Sequence[str]) -> dict[str, str]:
    """The values of the options that are kept, as they stand in the words ``typed``."""
    found: dict[str, str] = {}
    words = iter(typed)
    for word in words:
        name, equals, value = word.partition("=")
        name = _SPELLINGS.get(name, name)
        if word == "--":
            break
        if name in _KEPT:
            found[name] = value if equals else next(words, "")
        elif re.match(r"-C.", word):
            found["-C"] = word[2:]
    return {name: value for name, value in found.items() if value}


def _taken_by(verb: str) -> set[str]:
    """Those of the options that ``verb`` takes. None for `init`, which makes what they name."""
    if verb not in VERBS or verb == "init":
        return set()
    parameters = inspect.signature(function_of(verb)).parameters
    return {option for option, name in _KEPT.items() if name in parameters}


def complete(text: str, typed: Sequence[str], wrong: str | None = None) -> str:
    """``text`` with each command in it as it has to be typed: with the options of ``typed``, the
    words that the user typed, which its verb takes and the command does not have yet. An option
    whose value is ``wrong`` is left out."""
    options = {name: value for name, value in given(typed).items() if value != wrong}
    parts: list[str] = []
    end = 0
    for match in _COMMAND.finditer(text):
        taken = _taken_by(match[1])
        rest = [
            word[:2] if word.startswith("-C") else word.partition("=")[0]
            for word in re.split(r"fixtool |; ", text[match.end() :], maxsplit=1)[0].split()
        ]
        words = [
            word
            for name, value in options.items()
            if name in taken and not {*_WITHOUT[name], "--help"}.intersection(rest)
            for word in (name, public_url(value) if name == "--source" else value)
        ]
        parts += [text[end : match.end()], *(f" {shlex.quote(word)}" for word in words)]
        end = match.end()
    return "".join([*parts, text[end:]])
