"""Shows a long text in the pager that the person has chosen for git, or else in ``less``.

The choice comes from the environment and from the person's own configuration of git. The
configuration of a repository never chooses: it may be a stranger's.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

_NO_COMMAND = 127  # what a shell answers if there is no such program
_DEFAULTS = {"LESS": "FRX", "LV": "-c"}  # as git: less ends by itself where the text fits


def page(text: str) -> bool:
    """Show ``text`` in the pager, until the person leaves it. Returns False if there is no pager,
    so that the text is still to be printed."""
    pager = _chosen(os.environ)
    if not pager or pager == "cat":
        return False
    process = subprocess.Popen(
        ["sh", "-c", pager],
        stdin=subprocess.PIPE,
        env={**_DEFAULTS, **os.environ},
    )
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the pager
    try:
        with suppress(BrokenPipeError):  # the person has left it before the end
            process.communicate(text.encode("utf-8", "backslashreplace"))
    finally:
        process.wait()
        signal.signal(signal.SIGINT, before)
    return process.returncode != _NO_COMMAND


def _chosen(environment: Mapping[str, str]) -> str:
    """The command of the pager, as git finds it; empty if there is none."""
    if (chosen := environment.get("GIT_PAGER")) is not None:
        return chosen
    from fixtool.git.repo import Repo

    configured = Repo(Path(os.devnull)).run_as_user("config", "--get", "core.pager")
    default = "less" if shutil.which("less") else ""
    return configured.strip() or environment.get("PAGER", default)
