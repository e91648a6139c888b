"""The probe kit: the part of fixtool that probes and checks import, laid beside a tree under test.

A script says ``from fixtool.verify.answer import …``. The target's Python has no fixtool, or has
another version; so each run gets a package ``fixtool`` of its own, of these files alone, in a
folder that stands first on PYTHONPATH.
"""

from __future__ import annotations

import shutil
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_FILES = (
    "__init__.py",
    "isolation.py",
    "verify/__init__.py",
    "verify/answer.py",
    "verify/sglang_on_cpu.py",
    "verify/test_file.py",
    *(f"verify/runner/{path.name}" for path in sorted((_PACKAGE / "verify/runner").glob("*.py"))),
)


def lay_kit(folder: Path) -> Path:
    """Copy the kit to ``folder``/fixtool. Returns that path."""
    kit = folder / "fixtool"
    for name in _FILES:
        (kit / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_PACKAGE / name, kit / name)
    return kit
