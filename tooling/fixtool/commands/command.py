"""A verb as typer sees it, and what a valid command line is."""

from __future__ import annotations

from typing import Any, cast

import typer
from typer.core import TyperCommand

# What typer raises for a wrong command line is click's UsageError; typer exports only subclasses.
Misused = cast("type[typer.BadParameter]", typer.BadParameter.__mro__[1])


class Command(TyperCommand):
    """A verb. A value that is empty is a wrong command line: it comes from a variable that is not
    set, and to take it for the default would answer another question."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        refuse_empty_values(self, ctx, args)
        return super().parse_args(ctx, args)


def refuse_empty_values(command: Any, ctx: Any, args: list[str]) -> None:
    """Raise typer's BadParameter if ``args`` give an option or an argument of ``command`` an empty
    value."""
    values, _, order = command.make_parser(ctx).parse_args(list(args))
    for parameter in order:
        value = values.get(parameter.name)
        if "" in (value if isinstance(value, list | tuple) else [value]):
            raise typer.BadParameter("it is empty", ctx=ctx, param=parameter)
