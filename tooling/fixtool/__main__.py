"""The console script.

``--version`` is answered before typer is imported, because shell prompts and CI call it often and
the import takes most of the time.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # the part of `signal` that is loaded at once
import atexit
import gc
import io
import os
import sys

_INTERRUPTED = 130
_code: object = _INTERRUPTED  # with which the program ends


def program() -> None:
    """Run ``main`` as a whole process, which ends as soon as everything is cleared away."""
    global _code
    atexit.register(_end_at_once)  # what is registered later is called before
    try:
        main()
        _code = 0
    except SystemExit as ended:
        _code = ended.code or 0
        raise


def _end_at_once() -> None:
    """End the process. Python would first take each module apart, which took 25 of 190 ms.

    It still does so after an interrupt, a fault of ours or a failed write: these ends have rules of
    their own. What ``coverage`` measured is written by a function that is called after this one.
    """
    if not isinstance(_code, int) or _code == _INTERRUPTED or "coverage" in sys.modules:
        return
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError):
        return
    os._exit(_code)


def _open_closed_streams() -> None:
    """Python has None for a stream that its caller closed, and the next file that is opened would
    get the number of the stream."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            file = open(os.devnull, mode)  # noqa: PTH123, SIM115 # it stays open
            if file.fileno() != number:
                os.dup2(file.fileno(), number)
            setattr(sys, name, file)


def main() -> None:
    _open_closed_streams()
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        # Until ``signals`` is loaded, Ctrl-C just ends fixtool: Python would print a traceback.
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    if sys.argv[1:] == ["--version"]:
        from fixtool import __version__

        print(f"fixtool {__version__}")
        return
    if os.environ.get("_FIXTOOL_COMPLETE"):
        _complete()
        return
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name may hold what the locale cannot show
            stream.reconfigure(errors="backslashreplace")
    from fixtool import signals

    signals.listen()
    gc.set_threshold(100_000)  # imports make no garbage: collecting took 6 of 140 ms
    try:
        _run()
    except SystemExit as ended:
        if not signals.interrupted() or ended.code == _INTERRUPTED:
            raise
        raise _leave() from None  # the interrupted code took it for something else
    except KeyboardInterrupt:  # outside of a verb, such as while modules are imported
        raise _leave() from None
    finally:
        signals.ignore()


def _run() -> None:
    try:
        from fixtool.cli import app

        app()
    except Exception as error:  # raised outside a verb: by an import, or before the verb is known
        from fixtool.commands.fault import report_fault

        sys.exit(report_fault(error, "fixtool", as_json="--json" in sys.argv))


def _complete() -> None:
    """Answer a shell that completes a command line. Whatever goes wrong, nothing is printed into
    the prompt of a person who types."""
    try:
        from fixtool.commands.completion import LINE, SHELL, answer

        print(answer(os.environ[SHELL], os.environ.get(LINE, "")))
    except BaseException:  # noqa: S110
        pass


def _leave() -> SystemExit:
    print("error: interrupted\n  try: run the same command again", file=sys.stderr)
    return SystemExit(_INTERRUPTED)


if __name__ == "__main__":
    program()
