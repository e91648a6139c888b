"""Suite `start`: what a command costs before it does any work."""

from __future__ import annotations

from argparse import Namespace

from place import temporary_place
from suite_four import line_base
from timing import Contestant, Group, take_turns

PASS = "python -c pass"
TYPER = "python -c 'import typer'"


def run(given: Namespace) -> list[Group]:
    """Start fixtool in several ways, with two starts of Python beside it."""
    with temporary_place(given.memory, given.fixtool) as place:
        clone = place.shared_clone(given.repo)
        python = given.fixtool.with_name("python")
        at = place.folder
        apply = [given.fixtool, "-C", given.patches, "apply", "--line", given.line,
                 "--sglang-ref", line_base(given), "--source", clone, "--dry-run"]  # fmt: skip
        complete = {"_FIXTOOL_COMPLETE": "bash", "_FIXTOOL_LINE": "fixtool a"}
        place.run(*apply)
        contestants = [
            Contestant(PASS, [[python, "-c", "pass"]], at),
            Contestant(TYPER, [[python, "-c", "import typer"]], at, PASS),
            Contestant("fixtool --version", [[given.fixtool, "--version"]], at, TYPER),
            Contestant("fixtool --help", [[given.fixtool, "--help"]], at, TYPER),
            Contestant("completion", [[given.fixtool]], at, TYPER, environment=complete),
            Contestant("fixtool apply --dry-run, warm", [apply], at, TYPER),
        ]
        title = "Start: how long a command takes before it does any work"
        return [take_turns("start", title, contestants, place.environment, given.runs,
                           warm_up=not given.quick, limit=given.limit)]  # fmt: skip
