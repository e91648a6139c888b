"""The commands that fixtool tells a person to type next, as they stand in what it prints."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile

from fixtool.commands.verbs import VERBS, is_valid

_LABELLED = re.compile(r"^(?:  try: |(?:next|or|then|undo) {5,8}(?=\S))(.*)$", re.M)
_WORD = re.compile(r"(?:'[^']*'|\"[^\"]*\"|[^\s'\"])+")
_START = re.compile(r"(?<![\w`/.-])(?:fixtool|git) (?=[a-z-])")
_ENDS = {"or", "and", "then", "which", "until", "again"}
_PLACEHOLDER = re.compile(r"…|<\w+>|\.\.\.|\b(?:[A-Z]{2,}(?:-[A-Z]+)*|SHA|X)\b(?:\.\.\.)?")


def hints_in(out: str, err: str) -> list[str]:
    """What a run advised: the texts after ``try`` and ``next``, and those of a JSON document."""
    found = [_whole(match) for text in (out, err) for match in _LABELLED.finditer(text)]
    if out.startswith("{"):
        with suppress(ValueError):
            found += _of_document(json.loads(out))
    return found


def _whole(match: re.Match[str]) -> str:
    """The advice of a line, with the lines after it if a quoted word ends in one of them."""
    lines = match.string[match.start(1) :].split("\n")
    for number in range(1, len(lines) + 1):
        text = "\n".join(lines[:number])
        with suppress(ValueError):
            shlex.split(text)
            return text
    return lines[0]


def _of_document(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("hint", "next") and isinstance(inner, str):
                yield inner
            else:
                yield from _of_document(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _of_document(inner)


def commands_in(hint: str) -> list[str]:
    """The commands of fixtool and git in a hint, each as it is to be typed."""
    found = []
    end = 0
    for start in _START.finditer(hint):
        if start.start() < end:
            continue
        end = start.start()
        for word in _WORD.finditer(hint, start.start()):
            if hint[end : word.start()].strip(" ") or hint[end : word.start()].count(" ") > 1:
                break
            if word[0] in _ENDS or word[0].startswith("("):
                break
            end = word.end()
            if word[0][-1] in ";,:)":
                end -= len(word[0]) - len(word[0].rstrip(";,:)"))
                break
        found.append(hint[start.start() : end])
    return found


def placeholders(command: str) -> list[str]:
    """The words of a command that stand for something which only a person knows."""
    words = shlex.split(command)
    return [word for word in words if _PLACEHOLDER.fullmatch(word.rpartition("=")[2].lstrip(">"))
            or re.search(r"\b(?:NAME|PATH|OWNER)\b", word)]  # fmt: skip


def check_hints(out: str, err: str) -> None:
    """Each command of fixtool's that a run advised is one: its verb has these options."""
    for hint in hints_in(out, err):
        for command in commands_in(hint):
            words = list(takewhile(lambda word: word[0] not in "<>", shlex.split(command)))
            if words[0] != "fixtool":
                continue
            while words[1:2] == ["-C"]:
                del words[1:3]
            if words[1].startswith("--"):
                continue
            assert words[1] in VERBS, f"no such verb: {command!r} in {hint!r}"
            assert is_valid(words[1:]), f"not a valid command: {command!r} in {hint!r}"
