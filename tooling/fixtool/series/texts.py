"""The texts of diffs, of which those that were used last are held in memory.

Those of a long series are tens of megabytes, and each is used a few times in a run. The others lie
in a temporary file without a name: nothing of it is left when the run ends, however it ends. They
are not read from the patch files again, which fixtool itself may have rewritten meanwhile.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from typing import IO

from fixtool.errors import CannotRun

_MOST = 4 << 20  # bytes of texts that are held
_SMALL = 1 << 20  # bytes of a text that comes back as a whole when a part of it is asked for


class Text:
    """The bytes of a diff. It stays in memory if it is ``owned`` by somebody who has the bytes
    anyway."""

    __slots__ = ("__weakref__", "_data", "_place", "size")

    def __init__(self, data: bytes, *, owned: bool = False) -> None:
        self.size = len(data)
        self._data: bytes | None = data
        self._place: int | None = None  # where it begins in the file; None if it is not there
        if not owned:
            _held.add(self)

    def read(self) -> bytes:
        """All of it."""
        data = self._data
        return _held.bring(self) if data is None else data

    def part(self, begin: int, end: int) -> bytes:
        """Its bytes from ``begin`` to ``end``."""
        data = self._data
        if data is None and self.size > _SMALL:
            return _held.look(self, begin, end)
        return (_held.bring(self) if data is None else data)[begin:end]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Text):
            return NotImplemented
        return self is other or (self.size == other.size and self.read() == other.read())

    def __hash__(self) -> int:
        return hash(self.read())


class _Held:
    """The texts that are held in memory, those that came first in front, and the file of the
    others. If that cannot be written, all stay in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._texts: deque[tuple[weakref.ref[Text], int]] = deque()
        self._size = 0  # of these, and of those that nobody has any more
        self._file: IO[bytes] | None = None
        self._end = 0
        self._writable = True

    def add(self, text: Text) -> None:
        """Hold a text that is in memory, and no more than there is room for."""
        with self._lock:
            self._texts.append((weakref.ref(text), text.size))
            self._size += text.size
            self._make_room()

    def bring(self, text: Text) -> bytes:
        """The bytes of a text, which is held again from now on."""
        data = self.look(text, 0, text.size)
        text._data = data
        self.add(text)
        return data

    def look(self, text: Text, begin: int, end: int) -> bytes:
        """A part of a text that lies in the file."""
        assert self._file is not None
        assert text._place is not None
        end = min(end, text.size)
        data = b"".join(self._pieces(text._place + begin, end - begin))
        if len(data) < end - begin:
            raise CannotRun("a temporary file of fixtool's has lost what was written to it",
                            hint="run the same command again")  # fmt: skip
        return data

    def _pieces(self, at: int, size: int) -> Iterator[bytes]:
        assert self._file is not None
        while size > 0 and (data := os.pread(self._file.fileno(), size, at)):
            yield data
            at, size = at + len(data), size - len(data)

    def _make_room(self) -> None:
        while self._size > _MOST and len(self._texts) > 1 and self._writable:
            reference, size = self._texts[0]
            text = reference()
            if text is not None and text._data is not None and not self._put_away(text):
                return
            self._texts.popleft()
            self._size -= size

    def _put_away(self, text: Text) -> bool:
        """Let a text lie in the file only. Returns False if it cannot be written."""
        if text._place is None:
            try:
                self._write(text.read())
            except OSError:
                self._writable = False
                return False
            text._place = self._end
            self._end += text.size
        text._data = None
        return True

    def _write(self, data: bytes) -> None:
        """Write ``data`` to the end of the file."""
        if self._file is None:
            import tempfile  # few runs need it

            self._file = tempfile.TemporaryFile(prefix="fixtool-texts-", buffering=0)  # noqa: SIM115
        at, rest = self._end, memoryview(data)
        while rest:
            written = os.pwrite(self._file.fileno(), rest, at)
            at, rest = at + written, rest[written:]


_held = _Held()
