"""Writes Markdown for GitHub that contains texts of any author.

Subjects, paths and messages come from upstream and from patches. GitHub acts on some words in a
text: it notifies `@name`, links `#123`, closes an issue for `Closes #1`, and interprets HTML. It
does none of that inside code spans and code blocks. So ``code`` and ``code_block`` make such spans
and blocks, ``prose`` puts only those words into spans, and ``inline`` escapes them instead. What
they make is ``Markdown``; any other text is escaped where a table or a page takes it. ``prose``
alone leaves an address with a login as its author wrote it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from fixtool.text import escaped, redact, shortened, visible, without_controls

LIMIT = 65_536
"""The most characters that GitHub accepts as the body of an issue, pull request or comment."""

_START = r"(?<![^\W_])"  # no letter or digit before it; `_` can be emphasis
_CLOSING = rf"{_START}(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?)"
_THREAD = r"(?:(?:[\w.-]+/[\w.-]+)?#|GH-|https?://\S+/)\d+"
ACTIVE_TEXT = re.compile(rf"{_START}@[A-Za-z0-9]|{_CLOSING}:?\s+{_THREAD}", re.IGNORECASE)
"""Words on which GitHub acts, in commit messages too: `@name` at once, `Closes #1` at a merge."""

_ACTIVE_IN_MARKDOWN = re.compile(
    rf"{_START}(?P<name>@[A-Za-z0-9][\w/@-]*)"
    rf"|(?P<word>{_CLOSING}[*_~:]*\s+[\[(*_~]*)(?P<thread>{_THREAD}[\w/@-]*)",
    re.IGNORECASE,
)
_CLOSING_AT_END = re.compile(rf"{_CLOSING}[*_~:]*$", re.IGNORECASE)
_ITEM = re.compile(r"\s*([-*+]|\d+[.)]) ")
_OWN_LINE = re.compile(rf"\s{{4}}|{_ITEM.pattern}")
_FENCED = re.compile(
    r"^ {0,3}(`{3,}|~{3,})[^`\n]*\n(.*?)\n {0,3}\1[`~]*[ \t]*$", re.MULTILINE | re.DOTALL
)
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_BLOCK_MARKUP = re.compile(  # of quotations, headings, rules and fenced blocks
    r"^((?:\s|[-*+]\s|\d+[.)]\s)*)(>|#+(\s|$)|=+$|-+$|~~~|([-*_])(\s*\4){2,}\s*$)"
)
_NO_TEXT = re.compile(  # also what could hide in a link that goes on into a code span
    r"""[&<`\\]|!(?=\[)|\](?=\()(?!\([^\s()"'`<>]*\))"""
)
_ENTITIES = {"&": "&amp;", "<": "&lt;", "`": "&#96;", "\\": "&#92;", "!": "&#33;", "]": "&#93;"}

_RESERVE = 2_000  # characters kept free for the note about left-out sections


class Markdown(str):
    """Markdown that is safe to show. Any other text still has to be escaped."""

    __slots__ = ()


def code(text: str, limit: int = 200) -> Markdown:
    """``text`` as a code span, at most ``limit`` characters long. Nothing in it can end the span,
    or the table cell around it."""
    long = len(text) > 8 * limit
    text = visible(shortened(text, 8 * limit))
    text = text[: limit - 1] + "…" if long or len(text) > limit else text
    text = text.replace("|", "¦")  # a bar ends a table's cell, even escaped and inside code
    fence = _fence(text, 1)
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return Markdown(f"{fence}{space}{text}{space}{fence}" if text else "` `")


def code_block(text: str, language: str = "", limit: int = 20_000) -> Markdown:
    """``text`` as a code block of at most ``limit`` characters. If lines do not fit, the last line
    of the block says how many."""
    given = redact(text).rstrip("\n").split("\n")
    lines: list[str] = []
    room = limit
    for line in given:
        room -= len(line) + 1
        if room < 0:
            lines.append(f"… {len(given) - len(lines)} more lines")
            break
        lines.append(without_controls(line.expandtabs(4)))
    fence = _fence("\n".join(lines), 3)
    return Markdown("\n".join([f"{fence}{language}", *lines, fence]))


def _fence(text: str, shortest: int) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    return "`" * max(shortest, longest + 1)


def inline(text: str) -> Markdown:
    """``text`` on one line, escaped so that it has no effect: no markup, no mention, and none of
    the links that GitHub makes by itself (#1, GH-1, closes #1, an address)."""
    plain = escaped(re.sub(r"\s+", " ", text))
    plain = re.sub(r"([\\`*_\[\]|<>~$&])", r"\\\1", plain)
    # A heading, a list or a line under a heading, where the text begins a line.
    plain = re.sub(r"^(\s*)([-+=#])|^(\s*\d+)([.)])", r"\1\3\\\2\4", plain)
    return Markdown(
        re.sub(r"(@|#(?=\w)|GH-(?=\d)|:(?=//)|www(?=\.))", "\\1\u200b", plain, flags=re.I)
    )


def prose(text: str) -> Markdown:
    """A hard-wrapped text as Markdown without mentions, HTML, headings and words that close issues.

    The lines of a paragraph are joined, because GitHub shows each line break. List items keep
    their lines. Fenced blocks and indented paragraphs become code blocks.
    """
    parts: list[str] = []
    at = 0
    for fenced in _FENCED.finditer(text):
        parts += _paragraphs(text[at : fenced.start()])
        parts.append(code_block(fenced[2]))
        at = fenced.end()
    return Markdown("\n\n".join([*parts, *_paragraphs(text[at:])]))


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n[ \t]*\n", text.expandtabs(4).strip("\n")):
        if not paragraph.strip():
            continue
        given = paragraph.split("\n")
        if all(line.startswith("  ") and not _ITEM.match(line) for line in given):
            yield code_block(textwrap.dedent(paragraph))
            continue
        lines: list[str] = []
        for line in (without_controls(line).rstrip() for line in given):
            if not lines or (_OWN_LINE.match(line) and not _CLOSING_AT_END.search(lines[-1])):
                lines.append(line)
            else:
                lines[-1] += f" {line.strip()}"
        yield "\n".join(_harmless(line) for line in lines)


def _harmless(line: str) -> str:
    """One line of prose. Only the backticks of whole code spans stay: an unpaired one could turn a
    later code span into plain text."""
    pieces: list[str] = []
    at = 0
    for span in _SPAN.finditer(line):
        pieces += [*_inert(line[at : span.start()]), span[0]]
        at = span.end()
    pieces += _inert(line[at:])
    text = ""
    for piece in pieces:  # adjacent code spans would be read as one span, or as none
        text += f" {piece}" if text.endswith("`") and piece.startswith("`") else piece
    return _BLOCK_MARKUP.sub(r"\1\\\2", text)


def _inert(text: str) -> Iterator[str]:
    """Split a text that has no code spans. Each part on which GitHub would act becomes a span."""
    at = 0
    for match in _ACTIVE_IN_MARKDOWN.finditer(text):
        yield _escaped(text[at : match.start()] + (match["word"] or ""))
        yield f"`{match['name'] or match['thread']}`"
        at = match.end()
    yield _escaped(text[at:])


def _escaped(text: str) -> str:
    return _NO_TEXT.sub(lambda match: _ENTITIES[match[0]], text)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Markdown:
    """A table. A cell that is not ``Markdown`` is shown as plain text."""
    rule = [Markdown("---")] * len(columns)
    lines = [map(_cell, cells) for cells in (columns, rule, *rows)]
    return Markdown("\n".join(f"| {' | '.join(cells)} |" for cells in lines))


def _cell(text: str) -> Markdown:
    return text if isinstance(text, Markdown) else inline(text)


@dataclass(frozen=True)
class Marker:
    """The hidden first line of an issue, pull request or comment that fixtool wrote.

    ``kind`` says what the text is for. ``values`` tell the next run what this run did.
    """

    kind: str
    values: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        pairs = "".join(f" {key}={value}" for key, value in self.values.items())
        return f"<!-- fixtool {self.kind} 1{pairs} -->"

    def __getitem__(self, key: str) -> str:
        return self.values.get(key, "")


def read_marker(body: str, kind: str) -> Marker | None:
    """The marker of ``kind`` in the first line of ``body``; None if there is none.

    Other lines are not read, because a person may have quoted a marker there.
    """
    first = body.partition("\n")[0].strip()
    match = re.fullmatch(rf"<!-- fixtool {kind} 1((?: [a-z]+=[A-Za-z0-9._,/-]*)*) -->", first)
    if match is None:
        return None
    return Marker(kind, dict(pair.split("=", 1) for pair in match[1].split()))


def join_sections(marker: Marker | None, sections: Sequence[str], limit: int = LIMIT) -> str:
    """Join ``sections``, the most important first, into one text of at most ``limit`` characters.
    If sections do not fit, a note says how many were left out."""
    sections = [section for section in sections if section]
    text = f"{marker}\n" if marker else ""
    for number, section in enumerate(sections):
        if len(text) + len(section) + 2 > limit - _RESERVE:
            left = len(sections) - number
            return (
                f"{text}\n*Cut here: {left} more of {len(sections)} sections do not fit; the "
                "job's artifact holds them whole.*\n"
            )
        text += ("\n" if text else "") + section + "\n"
    return text


def same_text(body: str, other: str) -> bool:
    """Whether two texts are equal apart from line ends and from blanks at the start and the end,
    which GitHub may change."""
    return body.replace("\r\n", "\n").strip() == other.replace("\r\n", "\n").strip()
