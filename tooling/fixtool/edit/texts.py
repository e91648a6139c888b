"""Edits the messages of patches: their trailers, and several messages joined into one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fixtool.errors import Refused
from fixtool.git.objects import Signature
from fixtool.series.message import clean, join_message, mailable, split_message
from fixtool.series.patch import Patch, parse, read_trailers

_DEPENDS_ON = "depends-on"
_SIGNED_OFF = "signed-off-by"
_CO_AUTHOR = "Co-authored-by"


def with_dependencies(body: str, names: Mapping[str, Sequence[str]], own: str) -> str:
    """The body of a message whose `Depends-On:` trailers name, for a slug in ``names``, the ones
    that it stands for there. A patch does not depend on itself, whose slug is ``own``. All other
    lines stay as they are."""
    text, trailers = split_trailers(body)
    changed = []
    for key, value in trailers:
        slugs = value.replace(",", " ").split()
        if key.lower() != _DEPENDS_ON or not names.keys() & set(slugs):
            changed.append((key, value))
            continue
        now = [name for slug in slugs for name in names.get(slug, (slug,)) if name != own]
        if now:
            changed.append((key, ", ".join(dict.fromkeys(now))))
    return body if changed == trailers else with_trailers(text, changed)


def renamed_dependency(patch: Patch, slug: str, slugs: Sequence[str]) -> bytes:
    """The patch file of ``patch``, which depends on ``slugs`` where it named ``slug``. Raises
    Refused if its message cannot be edited."""
    whole = re.compile(rb"(?<![\w.+-])" + re.escape(slug.encode()) + rb"(?![\w.+-])")
    names = ", ".join(slugs).encode()
    trailer = re.compile(rb"^depends-on: .*(?:\n[ \t].*)*", re.MULTILINE | re.IGNORECASE)
    head = trailer.sub(lambda match: whole.sub(lambda _: names, match[0]), patch.head)
    after = parse(head + patch.diff, patch.slug)
    expected = [name for old in patch.depends_on for name in (slugs if old == slug else [old])]
    if list(after.depends_on) != expected or after.diff != patch.diff:
        raise Refused(
            f"the Depends-On: trailer of {patch.slug} cannot be rewritten",
            where=str(patch.path),
            hint=f"write it as a line of its own: Depends-On: {slug}",
        )
    return after.raw


def split_trailers(body: str) -> tuple[str, list[tuple[str, str]]]:
    """The text of a message's body without its trailers, and these."""
    trailers = list(read_trailers(body))
    return (body.rpartition("\n\n")[0] if trailers else body), trailers


def with_trailers(text: str, trailers: Sequence[tuple[str, str]]) -> str:
    """A body of ``text`` that ends with ``trailers``."""
    paragraph = "\n".join(f"{key}: {value}" for key, value in trailers)
    return "\n\n".join(part for part in (text, paragraph) if part)


def joined_message(patches: Sequence[Patch]) -> str:
    """One message for what several patches do: the subject of the first, all texts, each other one
    under its own subject, and all trailers, each of them once. Other authors than that of the first
    are named by `Co-authored-by:`, and sign-offs come last."""
    first = patches[0]
    texts, trailers = [], []
    for patch in patches:
        text, own = split_trailers(patch.body)
        texts += [text] if patch is first else [patch.subject, text]
        trailers += own
    authors = {_person(first.author): None}
    authors.update((_person(patch.author), None) for patch in patches)
    others = [(_CO_AUTHOR, person) for person in list(authors)[1:]]
    signed = [trailer for trailer in trailers if trailer[0].lower() == _SIGNED_OFF]
    rest = [trailer for trailer in trailers if trailer not in signed]
    once = {
        (key.lower(), value): (key, value) for key, value in reversed([*rest, *others, *signed])
    }
    body = with_trailers(clean("\n\n".join(texts)).strip("\n"), list(reversed(once.values())))
    return join_message(first.subject, body)


def dependencies_in(body: str) -> list[str]:
    """The slugs that the `Depends-On:` trailers of a message's body name."""
    values = [value for key, value in read_trailers(body) if key.lower() == _DEPENDS_ON]
    return [slug for value in values for slug in value.replace(",", " ").split()]


def mailable_message(text: str) -> str:
    """A message that a person wrote, in a form that git gives back unchanged. Raises Refused if it
    is empty."""
    subject, body, _ = mailable(*split_message(text))
    if not subject:
        raise Refused(
            "the message is empty; nothing was changed",
            where="the message",
            hint="write a subject, then run the same command again",
        )
    return join_message(subject, body)


def named_outside(root: Path, slug: str, instead: str) -> Iterator[str]:
    """What names the patch ``slug`` outside of its line, and so has to be mended by a person, who
    is told what to name ``instead``."""
    for file in sorted((root / "verify").rglob("*.toml")):
        if f'"{slug}"' in file.read_text("utf-8", "replace"):
            yield f"{file.relative_to(root)} names {slug}: name {instead}"


def _person(author: Signature) -> str:
    return re.sub(r"\s+", " ", f"{author.name} <{author.email}>")
