"""Reads back the JSON documents that fixtool's own commands print.

A document may come from another machine, so nothing in it is trusted: every field is checked, and
an error names the file and the key.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from fixtool.errors import Refused, UsageError

SCHEMA = 1
"""The version of the form that all documents have; `schemas/output.json` describes it."""

_LARGEST = 64 << 20  # bytes; the history of 20 patches over 10,000 commits is under one MiB

_T = TypeVar("_T")
_E = TypeVar("_E", bound=StrEnum)


class FieldError(ValueError):
    """A field of a document is missing, or its value is not what it should be."""


@dataclass(frozen=True)
class Field:
    """A value of a JSON document and the ``key`` that leads to it. Its methods return the value
    with the type that the reader expects, and raise FieldError if it has another."""

    value: Any
    key: str = ""

    def __getitem__(self, name: str) -> Field:
        """The value at ``name`` of an object; None if it has no such key."""
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return Field(self.value.get(name), f"{self.key}.{name}".lstrip("."))

    def wrong(self, expected: str) -> FieldError:
        """The error that says that this value is not ``expected``."""
        shown = "missing" if self.value is None else f"{self.value!r:.60}"
        return FieldError(f"{self.key or 'the document'} is {shown}, not {expected}")

    def optional(self, read: Callable[[Field], _T]) -> _T | None:
        """What ``read`` makes of the value; None for null or a missing key."""
        return None if self.value is None else read(self)

    def each(self, read: Callable[[Field], _T]) -> tuple[_T, ...]:
        """What ``read`` makes of each element of a list."""
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        elements = enumerate(self.value)
        return tuple(read(Field(element, f"{self.key}[{n}]")) for n, element in elements)

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.wrong("a text")
        return self.value

    def texts(self) -> tuple[str, ...]:
        return self.each(Field.text)

    def integer(self) -> int:
        """A whole number of at most 31 bits."""
        value = self.value
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 1 << 31:
            raise self.wrong("a whole number")
        return value

    def count(self) -> int:
        """A whole number of at least 0."""
        if self.integer() < 0:
            raise self.wrong("a count")
        return self.integer()

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def member(self, kind: type[_E]) -> _E:
        """A member of the enum ``kind``, by its value."""
        try:
            return kind(self.value)
        except ValueError as error:
            raise self.wrong(f"one of {', '.join(kind)}") from error


@dataclass(frozen=True)
class Failure:
    """The error document of a command that could not do its work."""

    command: str
    message: str
    where: str | None
    hint: str | None


def load(path: Path) -> Any:
    """The JSON value in the file ``path``.

    Raises UsageError if there is no such file or it cannot be read, and Refused if it is not JSON
    or is larger than 64 MiB.
    """
    try:
        if not path.is_file():
            raise UsageError(f"no such file: {path}", where=str(path))
        if path.stat().st_size > _LARGEST:
            raise Refused(f"{path.name} is over {_LARGEST >> 20} MiB", where=str(path))
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path.name} is not JSON", where=str(path)) from error


def parse(document: Any, where: str, command: str, read: Callable[[Field], _T]) -> _T | Failure:
    """What ``read`` makes of the document of ``command``; a Failure if it is an error document.

    ``where`` is the file that the document comes from. Raises Refused, naming the file and the key,
    if the document is not what ``fixtool COMMAND --json`` prints.
    """
    what = f"this is not what `fixtool {command} --json` prints"
    hint = f"fixtool {command} --json >FILE"
    root = Field(document)
    try:
        if root["schema"].value != SCHEMA or root["command"].value != command:
            raise Refused(what, where=where, hint=hint)
        failure = root["error"].optional(lambda error: _failure(command, error))
        return failure or read(root)
    except FieldError as error:
        raise Refused(f"{what}: {error}", where=where, hint=hint) from error


def _failure(command: str, error: Field) -> Failure:
    where, hint = (error[name].optional(Field.text) for name in ("where", "hint"))
    return Failure(command, error["message"].text(), where, hint)
