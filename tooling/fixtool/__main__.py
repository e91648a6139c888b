"""The console script.

``--version`` answers before typer is imported: shell prompts and CI call it often, and building the
command tree costs five times what the answer does.
"""

from __future__ import annotations

import gc
import sys


def main() -> None:
    if sys.argv[1:] == ["--version"]:
        from fixtool import __version__

        print(f"fixtool {__version__}")
        return
    gc.set_threshold(100_000)  # what imports make is not garbage: 6 ms of 140 went into looking
    try:
        from fixtool.cli import app

        app()
    except Exception as error:  # outside of every verb: an import, the words before the verb
        from fixtool.commands.fault import report_fault

        sys.exit(report_fault(error, "fixtool", as_json="--json" in sys.argv))


if __name__ == "__main__":
    main()
