"""The fixtures of all tests are in support/, which the checks' own tests use too."""

import pytest

pytest.register_assert_rewrite("support")
pytest_plugins = [
    "support.fixtures",
    "support.package_index",
    "support.selection",
    "support.verifying",
]
