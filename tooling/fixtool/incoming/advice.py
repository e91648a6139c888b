"""What a person can do about a change that does not fit: the release that it fits, and the commands
to type."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field

from fixtool.errors import FixtoolError
from fixtool.git.objects import Oid
from fixtool.incoming.bases import BestBase, at_hand, find_best
from fixtool.incoming.change import Incoming
from fixtool.progress import Progress
from fixtool.series.line import PatchRepository
from fixtool.settings import Settings
from fixtool.sources.source import Releases, Source
from fixtool.text import argument, count

_VALUES = ("--line", "--source")  # options that another command line has with another value
_FLAGS = ("--dry-run", "--json", "--find-base")


@dataclass(frozen=True)
class Advice:
    """``typed`` are the words of the command at hand, without the program's name. ``repository`` is
    the one that they are typed in. ``url`` is what `init --upstream` takes for the source."""

    source: Source
    settings: Settings
    progress: Progress
    typed: tuple[str, ...]
    repository: PatchRepository
    url: str
    _found: dict[bytes, BestBase | None] = field(default_factory=dict, repr=False, compare=False)

    def best(self, change: Incoming) -> BestBase | None:
        """The release that ``change`` fits best, of those that are on this machine; None if there
        is none that has any of its files as it expects them."""
        if change.diff not in self._found:
            self._found[change.diff] = self._find(change)
        return self._found[change.diff]

    def _find(self, change: Incoming) -> BestBase | None:
        known = at_hand(self.source, self.settings)
        if known is None:
            return None
        try:
            found = find_best(self.source, known, [change], self.progress)
        except FixtoolError:  # it is only for a better message
            return None
        return found if found.best.fits else None

    def again(self, *more: str) -> str:
        """The command that was typed, with ``more`` options."""
        return shlex.join(["fixtool", *self.typed, *more])

    def everywhere(self) -> str:
        """The command that tries all releases."""
        return shlex.join(["fixtool", *self._plain(_FLAGS), "--find-base"])

    def on(self, base: BestBase) -> str:
        """The commands that import the same onto a line for the release that fits best."""
        found = base.best
        line = self._line_on(found.commit)
        name = line or f"v{found.release.removeprefix('v')}"
        commands = []
        if line is None:
            commands.append(
                f"fixtool init {argument(self.repository.root)} --upstream {argument(self.url)} "
                f"--base {argument(found.release)} --line {argument(name)}"
            )
        words = [*self._plain(_FLAGS, _VALUES), "--line", name, *self._source()]
        if not any(word.startswith(("-C", "--repository")) for word in words):
            words += ["-C", str(self.repository.root)]
        words += [word for pattern in base.exclude for word in ("--exclude", pattern)]
        return "; ".join([*commands, shlex.join(["fixtool", *words])])

    def _line_on(self, commit: Oid) -> str | None:
        """The line whose base is ``commit``; None if there is none, or a line cannot be read."""
        with suppress(FixtoolError):
            for line in self.repository.lines:
                if line.upstream.base == commit:
                    return line.name
        return None

    def _source(self) -> list[str]:
        return ["--source", "pypi" if isinstance(self.source, Releases) else self.source.name]

    def _plain(self, flags: Collection[str], values: Collection[str] = ()) -> list[str]:
        """The typed words without some options."""
        words: list[str] = []
        skip = False
        for word in self.typed:
            if skip:
                skip = False
            elif word in values:
                skip = True
            elif word not in flags and not word.startswith(tuple(f"{name}=" for name in values)):
                words.append(word)
        return words


def as_sentence(found: BestBase, *, here: bool = False) -> str:
    """What was found; ``here`` if only releases on this machine were tried."""
    best, tried = found.best, len(found.tried)
    return (
        f"the release it fits best is {best.release}: {best.fits} of {count(best.of, 'file')} fit "
        f"({tried} of {count(found.known, 'release')}{' on this machine' if here else ''} tried)"
    )
