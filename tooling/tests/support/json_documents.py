"""The JSON document of a command, held against its schema."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any

from jsonschema.validators import validator_for

from support.repositories import Ran

SCHEMA = json.loads(
    (importlib.resources.files("fixtool") / "schemas/output.json").read_text("utf-8")
)
VALIDATOR = validator_for(SCHEMA)(SCHEMA)


def document(ran: Ran) -> dict[str, Any]:
    """The one document on stdout, checked against the schema and the exit code."""
    found: dict[str, Any] = json.loads(ran.out)
    VALIDATOR.validate(found)
    assert found["exit_code"] == ran.status
    assert found["ok"] == (ran.status == 0)
    return found
