"""The command line: the verbs, and how every failure becomes one message and an exit code.

Only the module of the verb at hand is imported, and its options are read from its function, so that
fixtool starts fast. The modules of commands import little at the top for the same reason.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from fixtool import __version__, signals, terminal
from fixtool.commands import recording
from fixtool.commands.command import Misused, refuse_empty_values
from fixtool.commands.retype import complete
from fixtool.commands.verbs import GROUPS, VERBS, parser_of, summary
from fixtool.errors import NAMED_HINTS, CannotRun, ExitCode, FixtoolError


class Commands(TyperGroup):
    """Turns every exception into one message and an exit code. (typer itself would exit 1 for every
    exception of ours and for Ctrl-C.)"""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = cast("Any", dict.fromkeys(VERBS))  # a verb is made when it is asked for

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        return parser_of(cmd_name) if cmd_name in VERBS else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write the verbs in their groups, each with its whole sentence: typer would cut it."""
        width = max(map(len, VERBS))
        for group, verbs in GROUPS.items():
            with formatter.section(group):
                formatter.write_dl([(verb.ljust(width), summary(verb)) for verb in verbs])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        typed = tuple(args)
        if typed and typed[-1] in ("--install-completion", "--show-completion"):
            from fixtool.commands.completion import this_shell

            args.append(this_shell(os.environ))
        try:
            refuse_empty_values(self, ctx, args)
            return super().parse_args(ctx, args)
        except Misused as error:
            if not typed:  # then the help is the answer
                raise
            code = _report(error, "fixtool", typed, as_json="--json" in typed)
            raise typer.Exit(int(code)) from error
        except (FixtoolError, OSError) as error:  # of --install-completion
            raise typer.Exit(int(_report(error, "fixtool", typed, as_json=False))) from error

    def invoke(self, ctx: Any) -> Any:
        exit_code = int(ExitCode.INTERNAL)
        try:
            answer = self._answer(ctx)
            signals.let_one_pass()
            exit_code = int(ExitCode.OK)
            return answer
        except typer.Exit as ended:
            signals.let_one_pass()
            exit_code = ended.exit_code
            raise
        finally:
            changed = recording.finish(ctx, exit_code)
            if changed and exit_code == ExitCode.INTERRUPTED:
                undo = complete("fixtool undo", ctx.meta["typed"])
                terminal.warn(f"some of it was done before the interrupt; to take it back: {undo}")

    def _answer(self, ctx: Any) -> Any:
        words = [*ctx._protected_args, *ctx.args]  # super().invoke() empties both
        folder = ctx.params.get("directory")
        ctx.meta["typed"] = (*(("-C", str(folder)) if folder else ()), *words)
        try:
            return super().invoke(ctx)
        except typer.Exit:
            raise
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, BrokenPipeError) and _nobody_reads():  # `fixtool show x | head`
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(int(ExitCode.OK)) from error
            verb = str(ctx.invoked_subcommand or "fixtool")
            as_json = ctx.meta.get("json", "--json" in words)  # before --json is parsed
            typed = ctx.meta["typed"]
            raise typer.Exit(int(_report(error, verb, typed, as_json=as_json))) from error


def _nobody_reads() -> bool:
    """Whether the reader of what fixtool prints has gone. A pipe to a process that fixtool started
    can break too, and then the command has failed."""
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a stream that is no file
            poll.register(stream.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


class _Interrupted(FixtoolError):
    exit_code = ExitCode.INTERRUPTED


def _report(error: BaseException, verb: str, typed: Sequence[str], *, as_json: bool) -> ExitCode:
    """Print the message of the exception that ended the verb. Return the exit code. A command that
    the message names is completed with the options of the words ``typed``."""
    match error:
        case FixtoolError():
            failure = error
        case OSError():
            failure = _system_failure(error, typed)
        case KeyboardInterrupt():
            from fixtool.git.process import end_all  # most runs of a verb have it loaded

            signals.ignore()
            end_all()
            hint = "run the same command again: nothing is left half done"
            failure = _Interrupted("interrupted", hint=hint)
        case typer.Abort():  # Ctrl-D or Ctrl-C at a question
            hint = "run the same command again: nothing was changed"
            failure = _Interrupted("interrupted", hint=hint)
        case Misused():
            from fixtool.commands.misused import describe

            failure = describe(error, typed)
            terminal.failure(failure, verb, as_json=as_json)
            return failure.exit_code
        case _:
            from fixtool.commands.fault import report_fault

            assert isinstance(error, Exception)
            return report_fault(error, verb, as_json=as_json)
    from fixtool.commands.misused import as_typed, completed, correction

    better = wrong = None
    if failure.mistyped:
        better, wrong = correction(failure.mistyped, typed), failure.mistyped.word
    if failure.hint and not better:
        failure.hint = completed(complete(failure.hint, typed, wrong), typed)
    failure.hint = better or failure.hint
    if failure.exit_code is ExitCode.USAGE:
        failure.where = failure.where or as_typed(typed)
        failure.hint = failure.hint or f"fixtool {verb} --help"
    terminal.failure(failure, verb, as_json=as_json)
    return failure.exit_code


def _system_failure(error: OSError, typed: Sequence[str]) -> CannotRun:
    """What a person has to know of an error of the operating system."""
    where = str(error.filename) if error.filename else None
    hint = NAMED_HINTS.get(error.errno or 0)
    if isinstance(error, FileNotFoundError) and not _folder_is_there():
        # Another command has removed it, such as the --abort of an edit in its own work tree.
        from fixtool.commands.misused import as_typed

        gone = os.environ.get("PWD")
        hint = f"go to another folder: cd DIR && {as_typed(typed)}"
        return CannotRun("the folder that you are in has been removed", where=gone, hint=hint)
    return CannotRun(error.strerror or str(error), where=where, hint=hint)


def _folder_is_there() -> bool:
    """Whether the current folder is there: it may have been removed."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


app = typer.Typer(
    name="fixtool",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        terminal.say(f"fixtool {__version__}")
        raise typer.Exit


def _script_of(shell: str) -> str:
    """The script that completes in ``shell``. Raises typer's BadParameter if there is none."""
    from fixtool.commands.completion import SCRIPTS

    if shell not in SCRIPTS:
        raise typer.BadParameter(f"{shell!r} is none of {', '.join(SCRIPTS)}")
    return SCRIPTS[shell]


def _show_completion(shell: str | None) -> None:
    if shell:
        terminal.say(_script_of(shell).rstrip("\n"))
        raise typer.Exit


def _install_completion(shell: str | None) -> None:
    if shell and _script_of(shell):
        from fixtool.commands.completion import install

        for path in install(shell, Path.home()):
            terminal.say(f"wrote {path}")
        terminal.say(f"Completion works in every {shell} that is started from now on.")
        raise typer.Exit


@app.callback()
def fixtool(
    ctx: typer.Context,
    directory: Annotated[
        Path | None, typer.Option("-C", metavar="DIR", help="Run as if started in DIR.")
    ] = None,
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    install_completion: Annotated[  # noqa: ARG001
        str | None,
        typer.Option(
            "--install-completion",
            metavar="SHELL",
            callback=_install_completion,
            help="Install completion for bash, zsh or fish (default: the shell you are in).",
        ),
    ] = None,
    show_completion: Annotated[  # noqa: ARG001
        str | None,
        typer.Option(
            "--show-completion",
            metavar="SHELL",
            callback=_show_completion,
            help="Print the script that completes in bash, zsh or fish.",
        ),
    ] = None,
) -> None:
    """Keep changes to an upstream project as a series of patches: apply, build, prove, rebase them.

    Exit codes: 0 ok, 1 a check said no, 2 usage, 3 conflict, 4 cannot run, 70 a fault in fixtool
    itself, 130 interrupted.
    """
    ctx.obj = directory
