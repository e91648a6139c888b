"""Values of any type, every text of which is one given text."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

from fixtool.series.patch import Patch

ODD = 1_000_003  # a number that stands for every number


@dataclasses.dataclass(frozen=True)
class Filler:
    """Makes values of a type. ``known`` are values of types that it cannot make. Of an enumeration,
    and of what may be True or None, ``turn`` chooses another member each time."""

    text: str
    turn: int = 0
    known: Mapping[type, Any] = dataclasses.field(default_factory=dict)

    def arguments(self, function: Callable[..., Any]) -> dict[str, Any]:
        """A value for each parameter of ``function``."""
        hints = typing.get_type_hints(function, localns=_names(function.__module__))
        hints.pop("return", None)
        return {name: self.value(hint) for name, hint in hints.items()}

    def value(self, hint: Any) -> Any:
        origin, inner = typing.get_origin(hint), typing.get_args(hint)
        if origin is typing.Annotated:
            return self.value(inner[0])
        if origin in (typing.Union, types.UnionType):
            return self.value(inner[self.turn % len(inner)])
        if origin is typing.Literal:
            return inner[self.turn % len(inner)]
        if origin is tuple:
            inner = inner[:1] if inner[1:] == (...,) else inner
            return tuple(self.value(part) for part in inner)
        if origin in (list, set, frozenset, Sequence, Iterable):
            return (list if origin in (Sequence, Iterable) else origin)([self.value(inner[0])])
        if origin in (dict, Mapping):
            return {self.value(inner[0]): self.value(inner[1])}
        if isinstance(hint, typing.NewType):
            return self.value(hint.__supertype__)
        if hint is Any:
            return self.text
        assert isinstance(hint, type), f"{hint} has no value here"
        return self._of_class(hint)

    def _of_class(self, hint: type) -> Any:
        simple: dict[type, Any] = {
            str: self.text, int: ODD, float: 1.5, bool: bool(self.turn % 2), bytes: self.text.encode("utf-8", "replace"),
            Path: Path(self.text.replace("\0", "").replace("\ud800", "\udcff")), type(None): None, datetime: datetime(2026, 1, 2, tzinfo=UTC),
            object: self.text,
        }  # fmt: skip
        if hint in self.known:
            return self.known[hint]
        if hint in simple:
            return simple[hint]
        if issubclass(hint, Enum):
            return list(hint)[self.turn % len(hint)]
        assert dataclasses.is_dataclass(hint), f"{hint} has no value here"
        hints = typing.get_type_hints(hint, localns=_names(hint.__module__))
        value = object.__new__(
            hint
        )  # a check of the fields' form must not stop what is shown of them
        for field in dataclasses.fields(hint):
            object.__setattr__(value, field.name, self.value(hints[field.name]))
        if isinstance(value, Patch):
            value.__post_init__()  # it checks nothing, and puts the diff where it is read from
        return value


@cache
def _names(module: str) -> dict[str, Any]:
    """The names that a module imports for the type checker alone."""
    names: dict[str, Any] = {}
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            exec(compile(ast.Module(node.body, []), module, "exec"), names)
    return names
