"""Markdown for GitHub around texts that anybody may have written.

Subjects, paths and messages come from upstream and from patches. They go into code spans and code
blocks only: there GitHub makes no mention of `@name`, no link of `#123`, closes nothing for
`Closes #1`, and reads no HTML, so no such text can pass for a marker of ours.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fixtool.text import visible, without_controls

LIMIT = 65_536
"""Characters of a body, title and comment; GitHub refuses more."""

_FREE = r"(?<![^\W_])"  # no letter before it: `_` may be emphasis, and is gone where GitHub looks
_CLOSING = rf"{_FREE}(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?)"
_THREAD = r"(?:(?:[\w.-]+/[\w.-]+)?#|GH-|https?://\S+/)\d+"
CALLS = re.compile(rf"{_FREE}@[A-Za-z0-9]|{_CLOSING}:?\s+{_THREAD}", re.IGNORECASE)
"""What GitHub acts on in a text, a commit's message too: `@name`, and `Closes #1` once merged."""

_ACTS = re.compile(
    rf"{_FREE}(?P<name>@[A-Za-z0-9][\w/@-]*)"
    rf"|(?P<word>{_CLOSING}[*_~:]*\s+[\[(*_~]*)(?P<thread>{_THREAD}[\w/@-]*)",
    re.IGNORECASE,
)
_CUT_OFF = re.compile(rf"{_CLOSING}[*_~:]*$", re.IGNORECASE)
_OWN_LINE = re.compile(r"\s{4}|\s*([-*+]|\d+[.)]) ")  # a list's item, or what is set off
_FENCED = re.compile(
    r"^ {0,3}(`{3,}|~{3,})[^`\n]*\n(.*?)\n {0,3}\1[`~]*[ \t]*$", re.MULTILINE | re.DOTALL
)
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_ENTITIES = {"&": "&amp;", "<": "&lt;", "`": "&#96;", "\\": "&#92;"}

_ROOM = 2_000  # kept free for what is said about a cut, and for how GitHub counts


def code(text: str, limit: int = 200) -> str:
    """``text`` as a code span that nothing in it can end, in a table's cell too."""
    long = len(text) > 8 * limit
    text = visible(text[: 8 * limit])
    text = text[: limit - 1] + "…" if long or len(text) > limit else text
    text = text.replace("|", "¦")  # in a cell a bar ends the cell, even in code, even escaped
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}" if text else "` `"


def block(text: str, language: str = "", limit: int = 20_000) -> str:
    """``text`` as a code block, spaces and lines kept; whole lines are left out, and counted."""
    given = text.rstrip("\n").split("\n")
    lines: list[str] = []
    left = limit
    for line in given:
        left -= len(line) + 1
        if left < 0:
            lines.append(f"… {len(given) - len(lines)} more lines")
            break
        lines.append(without_controls(line.expandtabs(4)))
    longest = max((len(run) for run in re.findall("`+", "\n".join(lines))), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([f"{fence}{language}", *lines, fence])


def prose(text: str) -> str:
    """Somebody's hard-wrapped text as Markdown that says the same and does nothing: no mention, no
    closing word, no HTML, no heading. Lines of one paragraph are joined, since GitHub would break
    where they do; lists keep their lines; what is fenced, and an indented paragraph, becomes a code
    block."""
    found: list[str] = []
    at = 0
    for fenced in _FENCED.finditer(text):
        found += _paragraphs(text[at : fenced.start()])
        found.append(block(fenced[2]))
        at = fenced.end()
    return "\n\n".join([*found, *_paragraphs(text[at:])])


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n[ \t]*\n", text.expandtabs(4).strip("\n")):
        given = paragraph.split("\n")
        if not paragraph.strip():
            continue
        if all(
            line.startswith("  ") and not re.match(r"\s*([-*+]|\d+[.)]) ", line) for line in given
        ):
            yield block(textwrap.dedent(paragraph))
            continue
        lines: list[str] = []
        for line in (without_controls(one).rstrip() for one in given):
            if not lines or (_OWN_LINE.match(line) and not _CUT_OFF.search(lines[-1])):
                lines.append(line)
            else:
                lines[-1] += f" {line.strip()}"
        yield "\n".join(_harmless(line) for line in lines)


def _harmless(line: str) -> str:
    """One line. Every backtick that is left is one of a whole code span: an odd one of theirs would
    open what GitHub acts on behind it."""
    pieces: list[str] = []
    at = 0
    for span in _SPAN.finditer(line):
        pieces += [*_inert(line[at : span.start()]), span[0]]
        at = span.end()
    pieces += _inert(line[at:])
    text = ""
    for piece in pieces:  # two code spans side by side would be read as one, or as none
        text += f" {piece}" if text.endswith("`") and piece.startswith("`") else piece
    return re.sub(r"^((?:\s|[-*+>]\s|>|\d+[.)]\s)*)(#+(\s|$)|=+$|-+$|~~~)", r"\1\\\2", text)


def _inert(text: str) -> Iterator[str]:
    """Text that holds no code span, in pieces, with what GitHub acts on as code."""
    at = 0
    for found in _ACTS.finditer(text):
        yield _escaped(text[at : found.start()] + (found["word"] or ""))
        yield f"`{found['name'] or found['thread']}`"
        at = found.end()
    yield _escaped(text[at:])


def _escaped(text: str) -> str:
    return re.sub(r"[&<`\\]", lambda one: _ENTITIES[one[0]], text)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are Markdown already: words of ours, or made by ``code``."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


@dataclass(frozen=True)
class Marker:
    """What fixtool writes about a body into its first line, where nobody sees it: whose it is, and
    what it said last. Only the first line is read, and only fixtool writes that one."""

    kind: str
    values: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        pairs = "".join(f" {key}={value}" for key, value in self.values.items())
        return f"<!-- fixtool {self.kind} 1{pairs} -->"

    def __getitem__(self, key: str) -> str:
        return self.values.get(key, "")


def read_marker(body: str, kind: str) -> Marker | None:
    first = body.partition("\n")[0].strip()
    found = re.fullmatch(rf"<!-- fixtool {kind} 1((?: [a-z]+=[A-Za-z0-9._,/-]*)*) -->", first)
    if found is None:
        return None
    return Marker(kind, dict(pair.split("=", 1) for pair in found[1].split()))


def body(marker: Marker | None, parts: Sequence[str], limit: int = LIMIT) -> str:
    """One body from its parts, most important first. What does not fit is left out, and said."""
    room = limit - _ROOM
    parts = [one for one in parts if one]
    text = f"{marker}\n" if marker else ""
    for number, part in enumerate(parts):
        if len(text) + len(part) + 2 > room:
            left = len(parts) - number
            return (
                f"{text}\n*Cut here: {left} more of {len(parts)} sections do not fit; the "
                "job's artifact holds them whole.*\n"
            )
        text += ("\n" if text else "") + part + "\n"
    return text


def same(one: str, other: str) -> bool:
    """Whether two bodies say the same: GitHub may have trimmed one."""
    return one.replace("\r\n", "\n").strip() == other.replace("\r\n", "\n").strip()
