"""Reads and changes RECORD, the list of an installed distribution's files with hashes and sizes.

A line that does not change keeps its bytes: pip ends lines with CR LF, other installers do not.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass

from fixtool.errors import Refused

_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


@dataclass(frozen=True)
class Row:
    """A line of RECORD. ``digest`` is the sha256 in hexadecimal digits, and ``size`` the number of
    bytes; each is None if RECORD does not say it. ``raw`` is the line as it stands."""

    path: str
    digest: str | None
    size: int | None
    raw: bytes


def parse(raw: bytes, where: str) -> list[Row]:
    """The lines of RECORD. Raises Refused if it is none."""
    rows = []
    for number, line in enumerate(_LINE.findall(raw), 1):
        try:
            fields = next(csv.reader([line.decode()]), [])
            if not fields:
                continue
            path, digest, size = fields
            rows.append(Row(path, _hexadecimal(digest), int(size) if size else None, line))
        except (ValueError, csv.Error) as error:
            raise Refused("this is not a line of RECORD", where=f"{where}:{number}") from error
    return rows


def changed(raw: bytes, where: str, files: Mapping[str, bytes | None], own: str) -> bytes:
    """RECORD with the lines of ``files`` as their contents are now: None takes a line away, and a
    new file gets a line before the one of RECORD itself, whose path is ``own``."""
    rows = parse(raw, where)
    end = b"\r\n" if any(row.raw.endswith(b"\r\n") for row in rows) else b"\n"
    known = {row.path for row in rows}
    added = [
        line_of(path, data, end)
        for path, data in sorted(files.items())
        if data is not None and path not in known
    ]
    lines: list[bytes] = []
    for row in rows:
        if row.path == own:
            lines += added
            added = []
        if row.path not in files:
            lines.append(row.raw)
        elif (data := files[row.path]) is not None:
            ending = row.raw[len(row.raw.rstrip(b"\r\n")) :] or end
            bare = row.digest is None and row.size is None  # bytecode, as pip lists it
            lines.append(row.raw if bare else line_of(row.path, data, ending))
    return b"".join([*lines, *added])


def line_of(path: str, data: bytes, end: bytes) -> bytes:
    """The line for a file with the content ``data``."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow((path, f"sha256={digest}", len(data)))
    return text.getvalue().encode() + end


def _hexadecimal(digest: str) -> str | None:
    """The digest of a field such as ``sha256=47DEQpj8…``; None if it names no sha256."""
    kind, _, text = digest.partition("=")
    if kind != "sha256":
        return None
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).hex()
