"""Reads JSON and TOML of others, above all the documents that fixtool's own commands print.

A document may come from another machine, so nothing in it is trusted: every field is checked, and
an error names the file and the key.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NewType, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from fixtool.errors import CannotRun, Mistyped, Refused, UsageError
from fixtool.files import (
    TooLarge,
    beside,
    private_folder,
    read_at_most,
    read_plain,
    remove_old,
    write_atomically,
)
from fixtool.text import argument

SCHEMA = 1
"""The version of the form that all documents have; `schemas/output.json` describes it."""

_LARGEST = 64 << 20  # bytes; the history of 20 patches over 10,000 commits is under one MiB

LARGEST_TEXT = 1 << 20
"""The most bytes of a file that a person writes by hand: a series, an upstream.toml."""

_KEPT = 90  # days that a file of a cache is kept

_MOST_PARTS = 100  # of a dotted key: tomllib takes quadratic time for them
_STRING = re.compile(r'"(?:\\.|[^"\\])*+("?)|\'[^\']*+(\'?)')  # its end may be missing

_T = TypeVar("_T")
_E = TypeVar("_E", bound=StrEnum)


class FieldError(ValueError):
    """A field of a document is missing, or its value is not what it should be."""


class Field:
    """A value of a JSON document and the ``key`` that leads to it. Its methods return the value
    with the type that the reader expects, and raise FieldError if it has another.

    The results of a long series are a hundred thousand of these, so the key is put together when an
    error names it.
    """

    __slots__ = ("_above", "_name", "value")

    def __init__(self, value: Any, name: str | int = "", above: Field | None = None) -> None:
        self.value, self._name, self._above = value, name, above

    @property
    def key(self) -> str:
        """The names that lead to the value, such as ``patches[2].slug``."""
        above = self._above.key if self._above else ""
        if isinstance(self._name, int):
            return f"{above}[{self._name}]"
        return f"{above}.{self._name}".lstrip(".")

    def __getitem__(self, name: str) -> Field:
        """The value at ``name`` of an object; None if it has no such key."""
        return Field(self.table().get(name), name, self)

    def table(self) -> dict[str, Any]:
        """The keys and values of an object."""
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return self.value

    def only(self, kind: type[Any]) -> Field:
        """This object, whose keys are fields of the dataclass ``kind``."""
        if unknown := sorted(self.table().keys() - {field.name for field in fields(kind)}):
            raise Field(unknown[0], self.key).wrong("a known key")
        return self

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
        return tuple([read(Field(element, n, self)) for n, element in enumerate(self.value)])

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

    def large(self) -> int:
        """A whole number of at most 53 bits, such as the size of a file."""
        value = self.value
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 1 << 53:
            raise self.wrong("a whole number")
        return value

    def number(self) -> float:
        """A finite number."""
        value = self.value
        if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) >= 1 << 53:
            raise self.wrong("a number")
        if value != value:  # JSON of Python holds NaN
            raise self.wrong("a number")
        return float(value)

    def count(self) -> int:
        """A whole number of at least 0."""
        number = self.integer()
        if number < 0:
            raise self.wrong("a count")
        return number

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


def read_own(
    path: Path, read: Callable[[Field], _T], limit: int = _LARGEST, *, checksummed: bool = False
) -> _T | None:
    """What ``read`` makes of a JSON file that fixtool wrote into its own folders; None if there is
    no such file, or if it is damaged, or no regular file: it would lead elsewhere, or have no
    end. A ``checksummed`` file is damaged if its first line is not the checksum of the
    rest."""
    try:
        data = read_plain(path.parent, path.name, limit)
        if checksummed:
            line, _, data = data.partition(b"\n")
            if line != _checksum(data):
                return None
        return read(Field(json.loads(data)))
    except (OSError, ValueError, RecursionError, Refused):
        return None


def keep_own(folder: Path, documents: Mapping[str, object], *, checksummed: bool = False) -> None:
    """Write ``documents``, by name, as JSON files into a folder of the cache, for ``read_own``, and
    remove what is old there. If they cannot be written (a disk that is full or read-only), the next
    run takes longer; its result is the same. A ``checksummed`` file begins with a line that is
    the checksum of the rest, so its reader need not check each value."""
    try:
        private_folder(folder)
        for name, document in documents.items():
            data = json.dumps(document, default=vars).encode()
            write_atomically(folder / name, _checksum(data) + b"\n" + data if checksummed else data)
        remove_old(folder, _KEPT)
    except (OSError, CannotRun):
        return


def _checksum(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def written(kind: type[_T]) -> Callable[[Field], _T]:
    """A reader of the object that ``dataclasses.asdict`` makes of the dataclass ``kind``. It raises
    FieldError if a key is unknown, missing or of another type."""

    def read(value: Field) -> _T:
        hints = get_type_hints(kind)
        given = value.only(kind).table()
        needed = [field for field in fields(cast(Any, kind))
                  if field.name in given or field.default is MISSING]  # fmt: skip
        return kind(**{field.name: _as(value[field.name], hints[field.name]) for field in needed})

    return read


def _as(value: Field, kind: Any) -> Any:
    """The value with the type ``kind``, as a dataclass's field is annotated with it."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (kind,) = (part for part in inner if part is not NoneType)
        return value.optional(lambda present: _as(present, kind))
    if origin is tuple:
        return value.each(lambda element: _as(element, inner[0]))
    if origin is not None:  # a mapping of texts
        return {key: _as(value[key], inner[1]) for key in value.table()}
    if isinstance(kind, NewType):  # Oid
        if not re.fullmatch("[0-9a-f]{40}", value.text()):
            raise value.wrong("an object id of 40 digits")
        return value.text()
    if is_dataclass(kind):
        return written(cast(type[Any], kind))(value)
    if issubclass(kind, StrEnum):
        return value.member(kind)
    if issubclass(kind, Path):
        return Path(value.text())
    readers: dict[Any, Callable[[Field], Any]] = {
        str: Field.text, bool: Field.flag, int: Field.large, float: Field.number
    }  # fmt: skip
    return readers[kind](value)


@dataclass(frozen=True)
class Failure:
    """The error document of a command that could not do its work."""

    command: str
    message: str
    where: str | None
    hint: str | None


def load(path: Path, maker: str | None = None) -> Any:
    """The JSON value in the file ``path``, which the command ``maker`` writes.

    Raises UsageError if there is no such file or it cannot be read, and Refused if it is not JSON
    or is larger than 64 MiB.
    """
    try:
        if not path.is_file():
            raise UsageError(
                f"no such file: {path}",
                where=str(path),
                hint=f"make it: {maker} > {argument(path)}"
                if maker
                else f"ls {argument(path.parent)}",
                mistyped=Mistyped(str(path), beside(path)),
            )
        return json.loads(read_at_most(path, _LARGEST))
    except TooLarge as error:
        raise Refused(f"{path.name} is over {_LARGEST >> 20} MiB", where=str(path)) from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise Refused(
            f"{path.name} is not JSON",
            where=str(path),
            hint=f"make it again: {maker} > {argument(path)}"
            if maker
            else f"see what it holds: head {argument(path)}",
        ) from error


def parse_toml(raw: bytes, where: str) -> dict[str, Any]:
    """The table that a TOML document holds; ``where`` is its file. Raises Refused if it is not
    valid, or nested so deeply that only a machine can have written it."""
    try:
        text = raw.decode("utf-8")
        for number, line in enumerate(text.split("\n"), 1):
            if line.count(".") > _MOST_PARTS and _dots_outside_strings(line) > _MOST_PARTS:
                raise Refused("not valid TOML: a key has too many parts", where=f"{where}:{number}")
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # invalid, not UTF-8, or a number too long
        if isinstance(error, UnicodeDecodeError):
            number = raw.count(b"\n", 0, error.start) + 1
            raise Refused(
                "not valid TOML: this line is not text in UTF-8",
                where=f"{where}:{number}",
                hint=f"write it in UTF-8: iconv -t UTF-8 -f ENCODING {argument(where)}",
            ) from error
        at = re.search(r"\(at line (\d+), column \d+\)", str(error))
        raise Refused(
            f"not valid TOML: {error}",
            where=f"{where}:{at[1]}" if at and where else where,
            hint=f"mend {'that line' if at else 'the file'}, then run the same command again",
        ) from error


def place_of_key(raw: bytes, key: str, where: str) -> str:
    """The place of ``key`` in the TOML file ``raw`` called ``where``, with its line."""
    lines = raw.decode("utf-8", "replace").split("\n")
    form = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=")
    number = next((number for number, line in enumerate(lines, 1) if form.match(line)), None)
    return f"{where}:{number}" if number else where


def _dots_outside_strings(line: str) -> int:
    """How many dots of a line of TOML are in no string that ends in this line."""
    return _STRING.sub(lambda found: "" if found[1] or found[2] else found[0], line).count(".")


def parse(document: Any, where: str, command: str, read: Callable[[Field], _T]) -> _T | Failure:
    """What ``read`` makes of the document of ``command``; a Failure if it is an error document.

    ``where`` is the file that the document comes from. Raises Refused, naming the file and the key,
    if the document is not what ``fixtool COMMAND --json`` prints.
    """
    what = f"this is not what `fixtool {command} --json` prints"
    options = " --line LINE --onto REF" if command == "rebase" else ""
    hint = f"make it: fixtool {command}{options} --json > FILE"
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
