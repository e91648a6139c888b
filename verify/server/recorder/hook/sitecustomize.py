"""Brings the recorder into every Python process of a server under test, spawned ones included.

boot.py puts this folder first on PYTHONPATH, and Python imports a module of this name at start. So
it must do nearly nothing, never fail a process, and hand on to the host's own sitecustomize, which
it hides.
"""

from __future__ import annotations

import os
import sys


def _bring_recorder(evidence: str, here: str) -> None:
    import importlib.util

    # By path: nothing of fixtool's becomes importable by a name that SGLang might look for.
    path = os.path.join(os.path.dirname(here), "watch.py")
    spec = importlib.util.spec_from_file_location("fixtool_live_watch", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.watch_imports(evidence)


def _hand_on(here: str) -> None:
    import importlib.machinery
    import importlib.util

    elsewhere = [one for one in sys.path if os.path.realpath(one or ".") != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", elsewhere)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


_here = os.path.dirname(os.path.realpath(__file__))
if _evidence := os.environ.get("FIXTOOL_LIVE"):
    try:
        _bring_recorder(_evidence, _here)
    except Exception as error:  # seen by boot.py as a server without evidence, and said here
        print(f"fixtool: no recorder in process {os.getpid()}: {error!r}", file=sys.stderr)
_hand_on(_here)
