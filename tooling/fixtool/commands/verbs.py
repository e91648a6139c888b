"""The verbs, in the groups in which ``fixtool --help`` shows them, and the parser of each.

A verb's module is imported when the verb is asked for, and typer only to make a parser, so that
fixtool starts fast.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Sequence
from typing import Any

GROUPS = {
    "Start a series": {
        "init": "init.init",
        "import": "importing.import_patches",
    },
    "Apply and install": {
        "apply": "apply.apply",
        "build": "build.build",
        "install": "install.install",
        "status": "install.status",
        "uninstall": "install.uninstall",
    },
    "Edit a series": {
        "new": "new.new",
        "edit": "edit.edit",
        "reword": "reword.reword",
        "move": "move.move",
        "rename": "rename.rename",
        "squash": "squash.squash",
        "split": "split.split",
        "copy": "copy.copy",
        "drop": "drop.drop",
        "restore": "restore.restore",
        "refresh": "refresh.refresh",
        "absorb": "absorb.absorb",
        "export": "export.export",
    },
    "Follow upstream": {
        "rebase": "rebase.rebase",
        "history": "history.history",
        "coverage": "coverage.coverage",
        "announce": "announce.announce",
    },
    "Prove": {
        "verify": "verify.verify",
        "lint": "lint.lint",
    },
    "Send upstream": {
        "upstream": "upstream.upstream",
    },
    "Take back and tidy up": {
        "undo": "undo.undo",
        "redo": "undo.redo",
        "log": "undo.log",
        "clean": "clean.clean",
    },
    "Look": {
        "list": "listing.list_lines",
        "show": "show.show",
        "diff": "diff.diff",
        "deps": "deps.deps",
        "report": "report.report",
    },
}
"""For each group, its verbs: the module of ``fixtool.commands`` and the function of each."""
VERBS = {verb: place for group in GROUPS.values() for verb, place in group.items()}
PROGRAM_OPTIONS = {
    "-C": "Run as if started in DIR.",
    "--version": "Print the version.",
    "--help": "Show the commands.",
    "--install-completion": "Install completion for a shell.",
    "--show-completion": "Print the script that completes in a shell.",
}
"""The options of the program itself, and what each does."""


def function_of(verb: str) -> Callable[..., object]:
    """The function that carries ``verb`` out, which declares its options."""
    module, _, name = VERBS[verb].partition(".")
    found: Callable[..., object] = getattr(
        importlib.import_module(f"fixtool.commands.{module}"), name
    )
    return found


def summary(verb: str) -> str:
    """What ``verb`` does: the first sentence of its help."""
    import inspect

    paragraph = (inspect.getdoc(function_of(verb)) or "").partition("\n\n")[0]
    return re.split(r"(?<=\.)\s", paragraph, maxsplit=1)[0].replace("\n", " ")


@functools.cache
def parser_of(verb: str) -> Any:
    """The command of ``verb`` as typer makes it, which parses its options."""
    import typer.main

    from fixtool.commands.command import Command

    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(verb, cls=Command)(function_of(verb))
    return typer.main.get_command(single)


def options_of(verb: str) -> dict[str, Any]:
    """The options of ``verb``, by each of their names."""
    return {
        name: parameter
        for parameter in parser_of(verb).params
        if parameter.param_type_name == "option"
        for name in (*parameter.opts, *parameter.secondary_opts)
    }


def is_valid(words: Sequence[str]) -> bool:
    """Whether fixtool takes ``words``, a verb and what follows it, for a valid command."""
    from fixtool.commands.command import Misused

    verb, *rest = words or [""]
    if {"--help", "-h"}.intersection(rest):  # to parse it would print the help
        return verb in VERBS
    try:
        if verb in VERBS:
            parser_of(verb).make_context(verb, rest)
    except Misused:
        return False
    return verb in VERBS
