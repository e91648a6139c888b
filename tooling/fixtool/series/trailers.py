"""Where a patch stands upstream: what its own trailers say, and writing into them what is known."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fixtool.errors import Refused
from fixtool.series import commit as journal
from fixtool.series.line import Line, PatchRepository, writing
from fixtool.series.patch import Patch, parse

_PULL = re.compile(r"https?://[^/\s]+/([^/\s]+/[^/\s]+)/pull/(\d+)/?")


def pull_request(patch: Patch) -> tuple[str, int] | None:
    """The pull request that this patch was sent as, by its ``Forwarded:`` trailer: the repository
    and the number there."""
    found = _PULL.fullmatch(patch.trailer("Forwarded") or "")
    return (found[1], int(found[2])) if found else None


def require_recordable(repository: PatchRepository, line: Line) -> None:
    """Raise what ``record`` would: before anything is sent that it is to record."""
    if into := journal.open_journal(repository.root):
        journal.require_saved(into, line.folder)
        journal.identity(into)


def record(
    repository: PatchRepository, line: Line, slug: str, values: Mapping[str, str], why: str
) -> str | None:
    """Write trailers into a patch, and commit that alone; the file's name, None where they are
    there already. Raises Refused where the line holds what is not committed."""
    into = journal.open_journal(repository.root)
    with writing(repository):
        line = repository.line(line.name)
        patch = line.find(slug)
        raw = patch.raw
        if all(patch.trailer(key) == value for key, value in values.items()):
            return None
        for key, value in values.items():
            raw = with_trailer(raw, key, value)
        again = parse(raw, slug)
        if again.diff != patch.diff or any(again.trailer(k) != v for k, v in values.items()):
            raise Refused(
                f"the trailers of {slug} cannot be written into its message",
                where=str(patch.path),
                hint="end the message with a paragraph of trailers alone: fixtool lint",
            )
        if into:
            journal.require_saved(into, line.folder)
        name = f"{slug}.patch"
        said = f"{line.name}: say where {slug} stands upstream\n\n{why}\n"
        journal.change(into, line.folder, {name: raw}, (), said)
    return str(line.folder / name)


def with_trailer(raw: bytes, key: str, value: str) -> bytes:
    """A patch file whose message has ``key: value``: in the place of the one it has, else before
    its sign-off, else after its last trailer."""
    head, mark, rest = raw.partition(b"\ndiff --git ")
    line = f"{key}: {value}".encode()
    at = re.compile(rb"^" + re.escape(key.encode()) + rb": .*(\n[ \t].*)*$", re.MULTILINE)
    if found := list(at.finditer(head)):
        head = head[: found[-1].start()] + line + head[found[-1].end() :]
    elif (signed := head.rfind(b"\nSigned-off-by: ")) > 0:
        head = head[: signed + 1] + line + b"\n" + head[signed + 1 :]
    else:
        text = head.rstrip(b"\n")
        last = text.partition(b"\n\n")[2].rpartition(b"\n")[2]  # of the body, if there is one
        gap = b"\n" if re.fullmatch(rb"[A-Za-z][A-Za-z0-9-]*: .*", last) else b"\n\n"
        head = text + gap + line + head[len(text) :]
    return head + mark + rest
