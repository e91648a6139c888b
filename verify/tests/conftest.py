"""The fixtures of the package's tests serve the checks' tests too."""

import pytest

pytest.register_assert_rewrite("support")
pytest_plugins = [
    "support.fixtures",
    "support.package_index",
    "support.selection",
    "support.sglang_server",
]
