"""The JSON document of a command, held against its schema."""

from __future__ import annotations

import importlib.resources
import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from support.repositories import Ran

SCHEMA = json.loads(
    (importlib.resources.files("fixtool") / "schemas/output.json").read_text("utf-8")
)


def document(ran: Ran) -> dict[str, Any]:
    """The one document on stdout, checked against the schema and the exit code."""
    answer: dict[str, Any] = json.loads(ran.out)
    validate(answer)
    assert answer["exit_code"] == ran.status
    assert answer["ok"] == (ran.status == 0)
    return answer


def validate(answer: dict[str, Any]) -> None:
    """Raise jsonschema's ValidationError unless the schema allows the document."""
    _validator(answer["command"]).validate(answer)


@cache
def _validator(command: str) -> Draft202012Validator:
    """The schema with the forms of ``command`` alone: each form names its command, and to find that
    no other one fits takes many times as long."""
    forms = SCHEMA["else"]["oneOf"]
    own = [form for form in forms if form["properties"]["command"]["const"] == command]
    return Draft202012Validator({**SCHEMA, "else": {"oneOf": own or forms}})
