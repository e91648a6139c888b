"""Loads the recorder in every Python process of a server under test, spawned ones included.

boot.py puts this folder first on PYTHONPATH, and Python imports a module of this name when it starts.
So it must do little, must never make a process fail, and must run the host's own sitecustomize, which
it hides.
"""

from __future__ import annotations

import os
import sys


def _load_recorder(evidence_folder: str) -> None:
    import importlib.util

    # By its path, under a name that SGLang never looks for.
    path = os.path.join(os.path.dirname(_FOLDER), "watch.py")
    spec = importlib.util.spec_from_file_location("fixtool_live_watch", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    module.watch_imports(evidence_folder)


def _run_hidden_sitecustomize() -> None:
    import importlib.machinery
    import importlib.util

    elsewhere = [path for path in sys.path if os.path.realpath(path or ".") != _FOLDER]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", elsewhere)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


_FOLDER = os.path.dirname(os.path.realpath(__file__))
if _evidence_folder := os.environ.get("FIXTOOL_LIVE"):
    try:
        _load_recorder(_evidence_folder)
    except Exception as error:  # boot.py then sees a server without evidence
        print(f"fixtool: no recorder in process {os.getpid()}: {error!r}", file=sys.stderr)
_run_hidden_sitecustomize()
