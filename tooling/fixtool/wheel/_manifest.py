"""Writes a manifest into a wheel: as a JSON file in dist-info, and in words into METADATA.

METADATA has no field for patches, and package indexes refuse a field that its specification does
not name. So the words stand in two fields that people read: ``Summary``, which ``pip show`` prints,
and the description.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict

from fixtool.git.objects import Oid
from fixtool.judgement.manifest import Manifest
from fixtool.text import split_lines, visible
from fixtool.wheel._archive import WheelPlan

FILE = "fixtool-patches.json"
SCHEMA = 1  # of that file
_LONGEST_SUMMARY = 512  # characters: package indexes refuse a longer one
_HEAD_END = re.compile(r"\r?\n\r?\n")
_MARKDOWN_OR_PLAIN = re.compile(
    r"^Description-Content-Type:\s*text/(markdown|plain)", re.MULTILINE | re.IGNORECASE
)


def add_manifest(plan: WheelPlan, manifest: Manifest, tree: Oid) -> None:
    """Put ``manifest`` into the dist-info of the wheel of ``tree``."""
    document = {"schema": SCHEMA, "tree": tree, **asdict(manifest)}
    plan.info[FILE] = (json.dumps(document, indent=1) + "\n").encode()
    plan.info["METADATA"] = describe(plan.info["METADATA"], manifest)


def describe(metadata: bytes, manifest: Manifest) -> bytes:
    """The text of a METADATA file, with the words of ``manifest`` in its summary and at the end of
    its description."""
    text = metadata.decode("utf-8", "surrogateescape")
    head, body = text.rstrip("\r\n"), ""
    if end := _HEAD_END.search(text):
        head, body = text[: end.start()], text[end.end() :].rstrip()
    # In reStructuredText, which is the default, `::` begins a block that is shown as it is; in
    # Markdown the indentation alone does.
    words = _description(manifest, ":" if _MARKDOWN_OR_PLAIN.search(head) else "::")
    start, old, rest = _field(head, "Summary")
    head = f"{start}Summary: {_summary(old, manifest)}{rest}"
    start, old, rest = _field(head, "Description")
    if old:  # the form of older metadata: a field instead of a text after the header
        folded = "".join(f"\n        {line}" for line in ("", *split_lines(words)))
        head = f"{start}Description: {old}{folded}{rest}"
    else:
        body = f"{body}\n\n{words}" if body else words
    return f"{head}\n\n{body}".encode("utf-8", "surrogateescape")


def _field(head: str, name: str) -> tuple[str, str, str]:
    """The value of a field of METADATA, and what stands before and after the field in ``head``. A
    field that is missing belongs at the end."""
    field = re.compile(rf"^{name}:([^\n]*(?:\n[ \t][^\n]*)*)", re.MULTILINE | re.IGNORECASE)
    if match := field.search(head):
        return head[: match.start()], match[1].strip(), head[match.end() :]
    return f"{head}\n", "", ""


def _summary(old: str, manifest: Manifest) -> str:
    """The summary ``old`` on one line, followed by what the wheel carries. The names of the patches
    that are left out are in it if there is room."""
    carried, out = len(manifest.carried), manifest.left_out
    words = f"Patched by fixtool: {carried} of {len(manifest.patches)} patches of line "
    words += manifest.line
    names = ", ".join(f"{patch.slug} ({patch.verdict})" for patch in out)
    old = " ".join(old.split())
    start = f"{old.rstrip('.')}. " if old else ""
    for text in (f"{start}{words}{f'; left out: {names}' if out else ''}.", f"{start}{words}."):
        if len(text) <= _LONGEST_SUMMARY:
            return text
    return f"{words}."


def _description(manifest: Manifest, colon: str) -> str:
    """A paragraph and an indented block with one line for each patch; ``colon`` ends the
    paragraph."""
    lines = [f"Carries: {patch.slug} ({patch.why}): {patch.subject}" for patch in manifest.carried]
    lines += [
        f"Left out: {patch.slug} ({patch.why}): {patch.subject}" for patch in manifest.left_out
    ]
    if manifest.own_commits:
        lines.append(f"Commits that are no patch of the line: {manifest.own_commits}")
    block = "".join(f"    {visible(line)}\n" for line in lines)
    intro = f"fixtool built this distribution from line {manifest.line}, applied to commit"
    return f"{intro} {manifest.onto[:12]}. {FILE} beside this text says more{colon}\n\n{block}"
