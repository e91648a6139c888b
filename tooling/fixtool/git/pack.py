"""Writes new objects: each into a file of its own, or all into a pack, the file in which git keeps
many objects (gitformat-pack(5)).

In a pack, a new object that resembles another one, as the file before a patch does, is kept as the
difference from it. Half of the bytes then need no compression, which takes most of the time.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from fixtool.files import write_atomically
from fixtool.git.objects import Oid

FEW = 100
"""From this number of objects on, git makes a pack of what it receives, and so does fixtool."""

_KINDS = {"commit": 1, "tree": 2, "blob": 3}  # their numbers in a pack
_OFS_DELTA = 6
_DEEPEST = 50  # as git's pack.depth: to read an object, all those below it are read too
_LONGEST_INSERT = 127
_SPLITS = 5
_SHORT = 400  # bytes that are not worth a split
_MARK = 48  # bytes by which a part is found again
_LONGEST_STORED = 0xFFFF
_FARTHEST = 0x7FFFFFFF  # a place after this one is in a table of its own
_LONGEST_COPY = 1 << 16  # as git writes it


@dataclass(frozen=True)
class PackedObject:
    """A new object: ``data`` is compressed, and if there is a ``base``, it is the difference from
    that object. ``size`` is that of ``data`` before it was compressed. ``depth`` is the number of
    objects below it."""

    kind: str
    data: bytes
    size: int
    base: Oid | None = None
    depth: int = 0


def packed(
    kind: str,
    data: bytes,
    base: Oid | None = None,
    before: bytes = b"",
    depth: int = 0,
    level: int = 1,
) -> PackedObject:
    """The object ``data``, as the difference from the object ``base`` if that is small. ``before``
    is the content of ``base``, and ``depth`` the number of objects below that. ``level`` is that of
    the compression: 1 is the fastest, 0 is none."""
    if base is not None and depth < _DEEPEST:
        difference = _difference(before, data)
        if len(difference) * 2 < len(data):
            small = zlib.compress(difference, level)
            return PackedObject(kind, small, len(difference), base, depth + 1)
    plain = level == 0 and len(data) <= _LONGEST_STORED
    return PackedObject(kind, _stored(data) if plain else zlib.compress(data, level), len(data))


def _stored(data: bytes) -> bytes:
    """What `zlib.compress` makes without compression (RFC 1950 and 1951). It would first take
    memory that only a compression uses."""
    size = len(data)
    return b"\x78\1\1%b%b%b" % (
        struct.pack("<HH", size, size ^ 0xFFFF), data, struct.pack(">I", zlib.adler32(data)),
    )  # fmt: skip


def unpacked(packed: PackedObject, before: bytes = b"") -> bytes:
    """The content of an object. ``before`` is that of its base, if it has one."""
    data = zlib.decompress(packed.data)
    return _patched(before, data) if packed.base else data


def write_loose(folder: Path, objects: Iterable[tuple[str, bytes]]) -> None:
    """Write each object into a file of its own."""
    from gitdb import IStream  # a run that writes nothing does without it
    from gitdb.db.loose import LooseObjectDB

    database = LooseObjectDB(str(folder))
    for kind, data in objects:
        database.store(IStream(kind.encode(), len(data), io.BytesIO(data)))


def write_pack(folder: Path, objects: Mapping[Oid, PackedObject], *, durable: bool = True) -> None:
    """Write a pack of ``objects``, each after its base, and its index into the ``folder`` of an
    object database. git sees the pack as soon as the index is there. ``durable`` waits until both
    are on the disk."""
    rows: list[tuple[bytes, int, int]] = []
    parts = [b"PACK" + struct.pack(">II", 2, len(objects))]
    at, places = len(parts[0]), dict[Oid, int]()
    for oid, packed in objects.items():
        head = _head(_OFS_DELTA if packed.base else _KINDS[packed.kind], packed.size)
        if packed.base:
            head += _distance(at - places[packed.base])
        places[oid] = at
        rows.append((bytes.fromhex(oid), zlib.crc32(packed.data, zlib.crc32(head)), at))
        parts += [head, packed.data]
        at += len(head) + len(packed.data)
    checksum = hashlib.sha1(usedforsecurity=False)
    for part in parts:
        checksum.update(part)
    parts.append(checksum.digest())
    place = folder / "pack"
    place.mkdir(exist_ok=True)
    for suffix, content in ((".pack", parts), (".idx", _index(rows, checksum.digest()))):
        path = place / f"pack-{checksum.hexdigest()}{suffix}"
        _write(path, content, durable=durable)


def _index(rows: list[tuple[bytes, int, int]], checksum: bytes) -> list[bytes]:
    """The index of a pack with this ``checksum``: the id, the CRC and the place of each object.
    (A row can be found by the first byte of its id: the index begins with how many ids are not
    after each byte.)"""
    rows = sorted(rows)
    first_bytes = Counter(oid[0] for oid, _, _ in rows)
    far = [at for _, _, at in rows if at > _FARTHEST]
    numbers = {at: _FARTHEST + 1 + number for number, at in enumerate(far)}
    places = [numbers.get(at, at) for _, _, at in rows]
    content = [
        b"\377tOc" + struct.pack(">I", 2),
        struct.pack(">256I", *accumulate(first_bytes[byte] for byte in range(256))),
        *(oid for oid, _, _ in rows),
        struct.pack(f">{len(rows)}I", *(crc for _, crc, _ in rows)),
        struct.pack(f">{len(rows)}I", *places),
        struct.pack(f">{len(far)}Q", *far),
        checksum,
    ]
    return [*content, hashlib.sha1(b"".join(content), usedforsecurity=False).digest()]


def _write(path: Path, data: Iterable[bytes], *, durable: bool) -> None:
    # The name is one that git's own housekeeping takes away if this run is killed.
    partial = path.with_name(f"tmp_{path.suffix[1:]}_{os.getpid()}_{os.urandom(4).hex()}")
    write_atomically(path, data, durable=durable, partial=partial, mode=0o444)


def _head(kind: int, size: int) -> bytes:
    """The head of an object: its kind and size, the lowest bits first."""
    head = [kind << 4 | size & 15]
    size >>= 4
    while size:
        head[-1] |= 0x80
        head.append(size & 0x7F)
        size >>= 7
    return bytes(head)


def _distance(distance: int) -> bytes:
    """How far before an object its base begins, the highest bits first."""
    parts = [distance & 0x7F]
    while distance := distance >> 7:
        distance -= 1
        parts.append(0x80 | distance & 0x7F)
    return bytes(reversed(parts))


def _size(size: int) -> bytes:
    parts = [size & 0x7F]
    while size := size >> 7:
        parts[-1] |= 0x80
        parts.append(size & 0x7F)
    return bytes(parts)


def _difference(old: bytes, new: bytes) -> bytes:
    """How ``new`` is made of ``old``: by copies of parts of it, and new bytes between them."""
    return b"".join([_size(len(old)), _size(len(new)), *_instructions(old, new, 0, _SPLITS)])


def _instructions(old: bytes, new: bytes, at: int, splits: int) -> list[bytes]:
    """The instructions that make ``new`` of ``old``, which begins at byte ``at`` of its object.
    What the two have in common at the start and at the end is copied. What is between is split
    where a part of it is the same, ``splits`` times at most: patches change a file in few places.
    """
    most = min(len(old), len(new))
    first = _common_start(old, new, most)
    last = _common_end(old, new, most - first)
    end, new_end = len(old) - last, len(new) - last
    between: list[bytes] | None = None
    if splits and min(end, new_end) - first > _SHORT:
        for part in (4, 2, 6):  # eighths
            split = first + (end - first) * part // 8
            there = new.find(old[split : split + _MARK], first, new_end)
            if there >= 0:
                between = [
                    *_instructions(old[first:split], new[first:there], at + first, splits - 1),
                    *_instructions(old[split:end], new[there:new_end], at + split, splits - 1),
                ]
                break
    if between is None:
        between = _inserts(new[first:new_end])
    return [*_copies(at, first), *between, *_copies(at + end, last)]


def _inserts(text: bytes) -> list[bytes]:
    pieces = (text[at : at + _LONGEST_INSERT] for at in range(0, len(text), _LONGEST_INSERT))
    return [bytes([len(piece)]) + piece for piece in pieces]


def _common_start(old: bytes, new: bytes, most: int) -> int:
    at, step = 0, 1 << 16
    while step:
        if at + step <= most and old[at : at + step] == new[at : at + step]:
            at += step
            continue
        step >>= 1
    return at


def _common_end(old: bytes, new: bytes, most: int) -> int:
    at, step = 0, 1 << 16
    while step:
        if at + step <= most:
            end, new_end = len(old) - at, len(new) - at
            if old[end - step : end] == new[new_end - step : new_end]:
                at += step
                continue
        step >>= 1
    return at


def _copies(begin: int, size: int) -> list[bytes]:
    """The instructions that copy ``size`` bytes from ``begin`` on."""
    copies = []
    for at in range(begin, begin + size, _LONGEST_COPY):
        length = min(_LONGEST_COPY, begin + size - at)
        numbers = at.to_bytes(4, "little") + (length & 0xFFFF).to_bytes(2, "little")  # 0 is 64 KiB
        given = [bit for bit in range(6) if numbers[bit]]
        copies.append(bytes([0x80 | sum(1 << bit for bit in given)] + [numbers[n] for n in given]))
    return copies


def _patched(old: bytes, difference: bytes) -> bytes:
    """What ``_difference`` was made of."""
    at = 0
    for _ in range(2):  # the two sizes
        while difference[at] & 0x80:
            at += 1
        at += 1
    parts = []
    while at < len(difference):
        code = difference[at]
        at += 1
        if code & 0x80:
            numbers = bytearray(6)
            for bit in range(6):
                if code & 1 << bit:
                    numbers[bit] = difference[at]
                    at += 1
            begin = int.from_bytes(numbers[:4], "little")
            size = int.from_bytes(numbers[4:], "little") or _LONGEST_COPY
            parts.append(old[begin : begin + size])
        else:
            parts.append(difference[at : at + code])
            at += code
    return b"".join(parts)
