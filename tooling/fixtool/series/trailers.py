"""The trailers that say where a patch stands upstream: reading them, and writing new ones."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from fixtool.errors import Refused
from fixtool.series.commit import open_for_commit, open_git, require_committed, rewrite_and_commit
from fixtool.series.facts import FactKind, RecordedFact, fact_trailers, facts_of
from fixtool.series.line import Line, PatchRepository
from fixtool.series.patch import Patch, parse, read_trailers
from fixtool.series.write import writing

_PULL = re.compile(r"https?://[^/\s]+/([^/\s]+/[^/\s]+)/pull/(\d+)/?")
_NOTHING = {"", "no", "none", "yes"}  # the values of a trailer that states nothing


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
                named = "/pull/" in word or word.startswith("#")
                if named and re.fullmatch(r"[0-9]{1,9}", number):
                    numbers.append(int(number))
                elif re.fullmatch(r"[0-9a-f]{7,40}", word):
                    ids.append(word)
    applied = (fact.commit for fact in facts_of(patch) if fact.kind is FactKind.APPLIED)
    ids += [commit for commit in applied if commit and commit not in ids]
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

    def with_values(patch: Patch) -> bytes | None:
        raw = patch.raw
        for key, value in values.items():
            if patch.trailer(key) != value:
                raw = with_trailer(raw, key, value)
        after = parse(raw, slug)
        written = all(after.trailer(key) == value for key, value in values.items())
        return raw if written and after.diff == patch.diff else None

    subject = f"say where {slug} stands upstream"
    return _rewrite(repository, line, {slug: with_values}, f"{subject}\n\n{why}").get(slug)


def record_facts(
    repository: PatchRepository, line: Line, facts: Mapping[str, RecordedFact], why: str
) -> dict[str, str]:
    """Write a recorded fact into each of the patches ``facts``, by slug, and commit that alone.
    Returns the path of each file that changed, by slug: a patch that states its fact already does
    not change. Also without facts, what a killed run had still to commit is committed. Raises
    Refused if the line has uncommitted changes, or a message cannot take a trailer."""
    edits = {slug: partial(with_fact, fact=fact) for slug, fact in facts.items()}
    slugs = list(facts)
    which = slugs[0] if len(slugs) == 1 else f"{len(slugs)} patches"
    subject = f"say where {which} {'stands' if len(slugs) == 1 else 'stand'} upstream"
    return _rewrite(repository, line, edits, f"{subject}\n\n{why}")


def _rewrite(
    repository: PatchRepository,
    line: Line,
    edits: Mapping[str, Callable[[Patch], bytes | None]],
    message: str,
) -> dict[str, str]:
    """Edit the messages of patches of one line, and commit that alone. ``edits`` gives the function
    for each slug, which returns the new patch file, or None if the message cannot take a trailer.
    Returns the path of each file that changed, by slug."""
    git = open_git(repository.root)
    with writing(repository):
        line = repository.line(line.name)
        files: dict[str, bytes] = {}
        for slug, edit in edits.items():
            patch = line.find(slug)
            raw = edit(patch)
            if raw is None:
                raise Refused(
                    f"the trailers of {slug} cannot be written into its message",
                    where=str(patch.path),
                    hint="end the message with a paragraph of trailers alone: fixtool lint",
                )
            if raw != patch.raw:
                files[slug] = raw
        if not files:
            return {}
        if git:
            require_committed(git, line.folder)
        named = {f"{slug}.patch": raw for slug, raw in files.items()}
        rewrite_and_commit(git, line.folder, named, (), f"{line.name}: {message}\n")
    return {slug: str(line.folder / f"{slug}.patch") for slug in files}


def names_another(patch: Patch, fact: RecordedFact) -> bool:
    """Whether a trailer of the patch gives another commit for the same kind of fact. Somebody may
    know better than what fixtool found."""
    recorded = (other for other in facts_of(patch) if other.kind is fact.kind and other.commit)
    return any(not other.names(fact.commit or "") for other in recorded)


def with_fact(patch: Patch, fact: RecordedFact) -> bytes | None:
    """The patch file with ``fact`` recorded in its message; None if the message cannot take a
    trailer.

    A trailer that speaks of the same commit keeps every word, and what it lacks is added at its
    end. Any other trailer of the same kind stays, and the fact gets a trailer of its own.
    """
    message = _split(patch)
    if message is None:
        return None
    place = None
    for trailer in fact_trailers(patch):
        if trailer.fact.kind is not fact.kind:
            continue
        position = patch.trailer_lines.index(trailer.line_number)
        place = position + 1
        if trailer.value.strip().lower() in _NOTHING:
            message.trailers[position] = f"{fact.kind}: {fact.value}".encode()
            break
        if not trailer.problems and _same_statement(trailer.fact, fact):
            if missing := _missing(trailer.fact, fact):
                start = message.trailers[position].rstrip(b" ,")
                message.trailers[position] = start + f", {missing}".encode()
            break
    else:
        message.add(f"{fact.kind}: {fact.value}".encode(), place)
    return message.raw


def without_facts(patch: Patch, kind: FactKind) -> bytes | None:
    """The patch file without its recorded facts of this kind; None if its message cannot be
    edited."""
    message = _split(patch)
    if message is None:
        return None
    gone = {trailer.line_number for trailer in fact_trailers(patch) if trailer.fact.kind is kind}
    lines = zip(patch.trailer_lines, message.trailers, strict=True)
    message.trailers = [text for number, text in lines if number not in gone]
    return message.raw


def _same_statement(stated: RecordedFact, fact: RecordedFact) -> bool:
    """Whether a trailer speaks of the commit of ``fact``, as far as the trailer says which one."""
    if stated.commit is not None:
        return stated.names(fact.commit or "")
    same_release = fact.release is None or stated.release in (None, fact.release)
    return stated.pull == fact.pull if stated.pull else bool(stated.release) and same_release


def _missing(stated: RecordedFact, fact: RecordedFact) -> str:
    """The parts of ``fact`` that a trailer lacks, as they are added to it."""
    return ", ".join([
        *([fact.commit] if fact.commit and not stated.commit else []),
        *([f"#{fact.pull}"] if fact.pull and not stated.pull else []),
        *([fact.release] if fact.release and not (stated.release or stated.in_no_release) else []),
    ])  # fmt: skip


@dataclass
class _Message:
    """A patch file, split at its trailers. Each of these is a line of the file, or several if it
    continues on further lines. ``before`` ends with the blank line above them, and ``after`` begins
    with the line break that ends the last one."""

    before: bytes
    trailers: list[bytes]
    after: bytes

    @property
    def raw(self) -> bytes:
        if not self.trailers:
            text = self.before.rstrip(b"\n")
            # A message that is a subject alone ends with one blank line more, as git writes it.
            return text + (b"" if b"\n\n" in text else b"\n") + self.after
        return b"\n".join([self.before, *self.trailers]) + self.after

    def add(self, text: bytes, place: int | None) -> None:
        """Add a trailer: at ``place``, else before the last sign-off, else as the last one."""
        signed = (
            number
            for number, trailer in enumerate(self.trailers)
            if trailer.lower().startswith(b"signed-off-by:")
        )
        if place is None:
            place = max(signed, default=len(self.trailers))
        self.trailers.insert(place, text)


def _split(patch: Patch) -> _Message | None:
    """The parts of a patch file; None if its trailers do not stand in it as they read, as in an
    encoded mail, or if the message ends with a paragraph that is not only trailers."""
    text = patch.head.rstrip(b"\n")
    lines = text.split(b"\n")
    after = patch.raw[len(text) :]
    if not patch.trailers:
        last = patch.body.rsplit("\n\n", 1)[-1].split("\n")
        mixed = any(read_trailers(line) for line in last)
        after = after[1:] if not patch.body and after.startswith(b"\n\n\n") else after
        return None if mixed else _Message(text + b"\n", [], after)
    starts = [number - 1 for number in patch.trailer_lines]
    ends = [*starts[1:], len(lines)]
    trailers = [b"\n".join(lines[start:end]) for start, end in zip(starts, ends, strict=True)]
    paragraph = b"\n".join(trailers).decode("utf-8", "surrogateescape")
    if read_trailers(paragraph) != patch.trailers:
        return None
    return _Message(b"\n".join(lines[: starts[0]]), trailers, after)


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
