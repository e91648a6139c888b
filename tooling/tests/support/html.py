"""A reader of HTML that accepts no page with a mistake."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

PHRASING = {"a", "b", "bdi", "br", "code", "i", "img", "span", "strong", "svg", "time", "wbr"}
VOID = {"meta", "link", "img", "br", "wbr", "path", "circle"}  # those of SVG are closed at once


CHILDREN = {
    "ul": {"li"}, "ol": {"li"}, "table": {"caption", "thead", "tbody"}, "thead": {"tr"},
    "tbody": {"tr"}, "tr": {"th", "td"}, "dl": {"div"}, "figure": {"img", "figcaption"},
    "svg": {"path", "circle", "g"}, "g": {"title", "path"}, "html": {"head", "body"},
    **dict.fromkeys(("p", "h1", "h2", "h3", "span", "a", "b", "bdi", "dt", "summary", "caption",
                     "pre", "code", "strong", "figcaption", "title"), PHRASING),
}  # fmt: skip


@dataclass
class Node:
    tag: str
    attributes: dict[str, str]
    parent: Node | None
    children: list[Node] = field(default_factory=list)
    parts: list[Node | str] = field(default_factory=list)

    def all(self, tag: str = "") -> Iterator[Node]:
        for child in self.children:
            if tag in ("", child.tag):
                yield child
            yield from child.all(tag)

    @property
    def words(self) -> str:
        return "".join(part if isinstance(part, str) else part.words for part in self.parts)


class Strict(HTMLParser):
    """Reads a page that has to close what it opens, in order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self._at = Node("", {}, None)
        self.feed(text)
        self.close()
        assert self._at is self.root, f"<{self._at.tag}> is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> says a thing twice"
        node = Node(tag, {name: value or "" for name, value in attrs}, self._at)
        assert tag in CHILDREN.get(self._at.tag, {tag}), f"<{tag}> in <{self._at.tag}>"
        self._at.children.append(node)
        self._at.parts.append(node)
        if tag not in VOID:
            self._at = node

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert tag == self._at.tag, f"</{tag}> in <{self._at.tag}>"
        assert self._at.parent is not None
        self._at = self._at.parent

    def handle_data(self, data: str) -> None:
        self._at.parts.append(data)
        assert self._at.tag not in ("ul", "ol", "table", "tr", "tbody", "dl") or not data.strip()
