"""Ctrl-C, the TERM of a service manager, and the HUP of a terminal that closes.

Each of them ends fixtool with exit code 130. It raises an exception in the main thread, and the
program notes that one came: what swallows the exception cannot make a success of it.

Once a verb has given its whole answer, its exit code stands: the first signal that comes then is
let pass, since what is left is short. A second one ends fixtool all the same.
"""

from __future__ import annotations

import signal
import sys
import threading

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LATER = 0.05  # seconds

_interrupted = threading.Event()
_ending = threading.Event()
_answered = threading.Event()


class Interrupt(KeyboardInterrupt):
    """A signal came.

    Python notes each KeyboardInterrupt that leaves a text which ``exec`` runs, as a dataclass does
    when it is defined, and in the end kills itself by SIGINT although the exception was handled. It
    does not do so for a subclass.
    """


def listen() -> None:
    """Take the signals from now on. One that the caller ignores, as a shell does for a job in the
    background and nohup does, stays ignored."""
    _interrupted.clear()
    _ending.clear()
    _answered.clear()
    sys.unraisablehook = _try_again
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def let_one_pass() -> None:
    """Let the next signal pass: the verb has given its whole answer."""
    _answered.set()


def ignore() -> None:
    """Ignore the signals: fixtool is ending, and a second Ctrl-C must not tear its message."""
    _ending.set()
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def interrupted() -> bool:
    """Whether a signal came since ``listen``."""
    return _interrupted.is_set()


def _interrupt(*_: object) -> None:
    if _answered.is_set():
        _answered.clear()
    elif not _ending.is_set():
        _interrupted.set()
        raise Interrupt


def _try_again(lost: sys.UnraisableHookArgs) -> None:
    """An exception that is raised in a finalizer, or in another callback that Python calls by
    itself, is printed and forgotten. An interrupt is raised again, outside of it."""
    if not issubclass(lost.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    main = threading.main_thread().ident
    timer = threading.Timer(_LATER, signal.pthread_kill, (main, signal.SIGINT))
    timer.daemon = True
    timer.start()
