"""The trailers that say where a patch stands upstream: reading them, and writing new ones."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fixtool.errors import Refused
from fixtool.series.commit import open_for_commit, open_git, require_committed, rewrite_and_commit
from fixtool.series.line import Line, PatchRepository
from fixtool.series.patch import Patch, parse
from fixtool.series.write import writing

_PULL = re.compile(r"https?://[^/\s]+/([^/\s]+/[^/\s]+)/pull/(\d+)/?")


def pull_request(patch: Patch) -> tuple[str, int] | None:
    """The repository and number of the pull request that the patch's ``Forwarded:`` trailer names;
    None if it names none."""
    match = _PULL.fullmatch(patch.trailer("Forwarded") or "")
    return (match[1], int(match[2])) if match else None


def forwarded(patch: Patch) -> tuple[list[str], list[int]]:
    """The upstream commits (ids of 7 to 40 digits) and pull request numbers in the ``Forwarded:``
    and ``Applied-Upstream:`` trailers of a patch."""
    ids: list[str] = []
    numbers: list[int] = []
    for key, value in patch.trailers:
        if key.lower() in ("forwarded", "applied-upstream"):
            for word in value.replace(",", " ").split():
                number = word.rpartition("/pull/")[2].lstrip("#").strip("/")
                if ("/pull/" in word or word.startswith("#")) and number.isdigit():
                    numbers.append(int(number))
                elif re.fullmatch(r"[0-9a-f]{7,40}", word):
                    ids.append(word)
    return ids, numbers


def require_recordable(repository: PatchRepository, line: Line) -> None:
    """Raise what ``record`` would raise. Called before anything is sent that is to be recorded."""
    open_for_commit(repository.root, line.folder)


def record(
    repository: PatchRepository, line: Line, slug: str, values: Mapping[str, str], why: str
) -> str | None:
    """Write the trailers ``values`` into a patch, and commit that alone. Returns the path of the
    patch file; None if it has these trailers already. Raises Refused if the line has uncommitted
    changes, or the message cannot take a trailer."""
    git = open_git(repository.root)
    with writing(repository):
        line = repository.line(line.name)
        patch = line.find(slug)
        if all(patch.trailer(key) == value for key, value in values.items()):
            return None
        raw = patch.raw
        for key, value in values.items():
            raw = with_trailer(raw, key, value)
        after = parse(raw, slug)
        unread = [key for key, value in values.items() if after.trailer(key) != value]
        if after.diff != patch.diff or unread:
            raise Refused(
                f"the trailers of {slug} cannot be written into its message",
                where=str(patch.path),
                hint="end the message with a paragraph of trailers alone: fixtool lint",
            )
        if git:
            require_committed(git, line.folder)
        name = f"{slug}.patch"
        message = f"{line.name}: say where {slug} stands upstream\n\n{why}\n"
        rewrite_and_commit(git, line.folder, {name: raw}, (), message)
    return str(line.folder / name)


def with_trailer(raw: bytes, key: str, value: str) -> bytes:
    """A patch file whose message has the trailer ``key: value``. It replaces the last one of that
    key, or goes before the sign-off, or after the last trailer."""
    head, mark, rest = raw.partition(b"\ndiff --git ")
    line = f"{key}: {value}".encode()
    same_key = re.compile(rb"^" + re.escape(key.encode()) + rb": .*(\n[ \t].*)*$", re.MULTILINE)
    if matches := list(same_key.finditer(head)):
        head = head[: matches[-1].start()] + line + head[matches[-1].end() :]
    elif (signed := head.rfind(b"\nSigned-off-by: ")) > 0:
        head = head[: signed + 1] + line + b"\n" + head[signed + 1 :]
    else:
        text = head.rstrip(b"\n")
        last = text.partition(b"\n\n")[2].rpartition(b"\n")[2]  # of the body, if there is one
        gap = b"\n" if re.fullmatch(rb"[A-Za-z][A-Za-z0-9-]*: .*", last) else b"\n\n"
        head = text + gap + line + head[len(text) :]
    return head + mark + rest
