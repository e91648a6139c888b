"""What has changed in a line since a work tree of it was made."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from fixtool.apply.identity import change_of, sides_of
from fixtool.apply.worktree import Record
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.series.line import Line
from fixtool.series.patch import export_all
from fixtool.text import count


@dataclass(frozen=True)
class Newer:
    """The patches of a line that somebody has changed, added and removed since a work tree was
    made, and whether their order is another one."""

    changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    reordered: bool = False

    def __bool__(self) -> bool:
        return bool(self.changed or self.added or self.removed or self.reordered)

    def __str__(self) -> str:
        """A list such as ``a and b were changed, c was added``."""
        groups = (("changed", self.changed), ("added", self.added), ("removed", self.removed))
        parts = [f"{_names(slugs)} {'was' if len(slugs) == 1 else 'were'} {what}"
                 for what, slugs in groups if slugs]  # fmt: skip
        return ", ".join([*parts, *(["the order was changed"] if self.reordered else [])])


def _names(slugs: tuple[str, ...]) -> str:
    return ", ".join(slugs) if len(slugs) <= 3 else count(len(slugs), "patch")


def newer_in(line: Line, tree: Repo, record: Record) -> Newer:
    """What is newer in ``line`` than in the work tree ``tree``, of which ``record`` is the record,
    with the slugs that the patches have now."""
    digests = made_of(tree, record)
    now = {patch.slug: patch.digest for patch in line.patches}
    both = [slug for slug in now if slug in digests]
    before = [slug for slug in digests if slug in now]
    others = [slug for slug in both if now[slug] != digests[slug]]
    return Newer(
        tuple(_with_another_change(line, tree, record, others)),
        tuple(slug for slug in now if slug not in digests),
        tuple(slug for slug in digests if slug not in now),
        before != both,
    )


def _with_another_change(line: Line, tree: Repo, record: Record, slugs: Sequence[str]) -> list[str]:
    """Those of ``slugs`` whose change or message is another one: the file may have moved on because
    an earlier patch has changed."""
    old = sides_of(tree, [record.commits[slug] for slug in slugs if slug in record.commits])
    before = {slug: old.get(record.commits.get(slug, Oid(""))) for slug in slugs}
    now = {slug: change_of(line.find(slug)).essence for slug in slugs}
    return [slug for slug, change in before.items() if not change or change.essence != now[slug]]


def made_of(tree: Repo, record: Record) -> dict[str, str | None]:
    """The sha256 of each patch file that a work tree was made of, by slug and in order. An older
    fixtool did not record it: it is then that of the commit's own patch file, None if the commit is
    not here."""
    if record.manifest:
        return {patch.slug: patch.sha256 for patch in record.manifest.patches}
    lost = tree.lacks(record.commits.values())
    here = {slug: oid for slug, oid in record.commits.items() if oid not in lost}
    mails = export_all(tree, list(here.values()))
    digests = dict.fromkeys(record.commits, "")
    digests |= {slug: hashlib.sha256(mail).hexdigest()
                for slug, mail in zip(here, mails, strict=True)}  # fmt: skip
    return {slug: digest or None for slug, digest in digests.items()}
