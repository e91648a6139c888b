"""Values of JSON and TOML documents that are not what they should be."""

from __future__ import annotations

from typing import Any

import pytest

from fixtool.documents import Field, FieldError, parse_toml
from fixtool.errors import Refused


@pytest.mark.parametrize("value", [0, -1, 2.5, 2**53 - 1, 1 - 2**53])
def test_a_number(value: float) -> None:
    assert Field(value).number() == value


@pytest.mark.parametrize(
    "value", [True, False, "1", None, [1], 2**53, -(2**53), 2.0**53, float("nan"), float("inf")]
)
def test_what_is_no_number(value: Any) -> None:
    """Python counts truth values as numbers, and a whole number of more bits would be rounded."""
    with pytest.raises(FieldError, match=", not a number$"):
        Field(value).number()


def test_dots_count_in_the_keys_of_toml_alone() -> None:
    text = "A sentence. " * 200
    assert parse_toml(f'why = "{text}"\n'.encode(), "x.toml") == {"why": text}
    with pytest.raises(Refused, match="a key has too many parts"):
        parse_toml(f"{'a.' * 200}b = 1\n".encode(), "x.toml")
