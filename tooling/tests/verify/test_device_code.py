"""A library packs without the code of other GPUs, and otherwise stays as it is."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from fixtool.verify._device_code import keep_code_for

PTX, CODE = 1, 2
Entry = tuple[int, int]  # what it is, and for which capability


def _container(entries: list[Entry]) -> bytes:
    body = b"".join(
        struct.pack("<HHIQ", kind, 0x101, 64, 16).ljust(28, b"\0")
        + struct.pack("<I", target).ljust(36, b"\1")
        + _payload((kind, target))
        for kind, target in entries
    )
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def _payload(entry: Entry) -> bytes:
    return f"{entry[0]} for {entry[1]}".ljust(16, "*").encode()


def _library(*containers: bytes) -> bytes:
    """An ELF file with device code, a table of symbols, and text that the loader maps."""
    sections = [
        (b"", 0, 0, b""),
        (b".text", 1, 6, b"text" * 4),
        (b".nv_fatbin", 1, 2, containers[0]),
        (b"__nv_relfatbin", 1, 2, b"\0\0\0\0\0\0\0\0".join(containers[1:])),
        (b".dynstr", 3, 2, b"a name that the loader reads"),
        (b".symtab", 2, 0, b"symbols*"),
        (b".debug_info", 1, 0, b"lines and types*"),
        (b".strtab", 3, 0, b"names of symbols"),
        (b".shstrtab", 3, 0, b""),
    ]
    names = b"\0".join(name for name, *_ in sections) + b"\0"
    sections[-1] = (*sections[-1][:3], names)
    body, headers = b"", b""
    for name, kind, flags, content in sections:
        at = 64 + len(body)
        headers += struct.pack(
            "<IIQQQQIIQQ", names.find(name + b"\0"), kind, flags, 0, at, len(content), 0, 0, 1, 0
        )
        body += content.ljust(-(-len(content) // 8) * 8, b"\0")
    head = b"\x7fELF\x02\x01".ljust(0x28, b"\0") + struct.pack("<Q", 64 + len(body))
    head = head.ljust(0x3A, b"\0") + struct.pack("<HHH", 64, len(sections), len(sections) - 1)
    return head + body + headers


@pytest.mark.parametrize(
    ("entries", "kept"),
    [
        ([(CODE, 80), (CODE, 90), (CODE, 100), (PTX, 80)], [(CODE, 90)]),
        ([(CODE, 90), (CODE, 90)], [(CODE, 90), (CODE, 90)]),  # 9.0 and 9.0a
        ([(CODE, 80), (PTX, 80), (PTX, 120)], [(PTX, 80)]),  # the driver compiles it
        ([(CODE, 100), (CODE, 120)], []),
    ],
)
def test_a_gpu_keeps_what_it_would_load(
    tmp_path: Path, entries: list[Entry], kept: list[Entry]
) -> None:
    library, before = tmp_path / "x.so", _library(_container([(CODE, 90)]), _container(entries))
    library.write_bytes(before)
    keep_code_for(library, 90)
    after = library.read_bytes()
    wanted = before
    for text in (b"symbols*", b"names of symbols", b"lines and types*"):
        wanted = wanted.replace(text, b"\0" * len(text))
    for entry in set(entries) - set(kept):
        wanted = wanted.replace(_payload(entry), b"\0" * 16)
    assert after == wanted


def test_code_of_the_same_generation_runs_on_a_newer_gpu(tmp_path: Path) -> None:
    library = tmp_path / "x.so"
    library.write_bytes(_library(_container([(CODE, 75), (CODE, 80), (CODE, 86), (CODE, 90)])))
    keep_code_for(library, 89)
    left = [
        target for target in (75, 80, 86, 90) if _payload((CODE, target)) in library.read_bytes()
    ]
    assert left == [86]


WHOLE = _library(_container([(CODE, 80), (CODE, 90)]))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"#!/bin/sh\n" * 20,
        WHOLE[:100],
        WHOLE[:-64],  # a table of sections that ends behind the file
        WHOLE.replace(struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 160), struct.pack("<IHHQ", 0xBA55ED50, 1, 16, 1 << 40)),
        WHOLE.replace(struct.pack("<HHIQ", CODE, 0x101, 64, 16), struct.pack("<HHIQ", CODE, 0x101, 0, 0)),
    ],
    ids=["empty", "no library", "cut", "cut in its table", "long container", "endless entry"],
)  # fmt: skip
def test_a_damaged_file_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.so"
    file.write_bytes(content)
    keep_code_for(file, 90)
    assert file.read_bytes() == content
