"""Texts of others in the Markdown that fixtool writes."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from fixtool.markdown import prose


def test_prose_is_shown_as_it_is_written() -> None:
    text = prose("a & b, <c> and a backslash \\ and one ` mark, say <script>")
    assert text == ("a &amp; b, &lt;c> and a backslash &#92; and one &#96; mark, say &lt;script>")


def test_an_image_of_a_message_is_not_shown() -> None:
    assert prose("a ![b](http://c) d!") == "a &#33;[b](http://c) d!"


@pytest.mark.parametrize(
    "text", ["> a", "1. > a", "***", "* * *", "--- ---", "- _ _ _", "# a", "- # a"]
)
def test_prose_holds_no_block_that_its_author_did_not_mean_for_a_page(text: str) -> None:
    kinds = {token.type for token in MarkdownIt().parse(prose(text))}
    assert not kinds & {"blockquote_open", "hr", "heading_open"}


def test_a_link_does_not_take_the_beginning_of_a_code_span_into_its_address() -> None:
    tokens = MarkdownIt().parse(prose("a [b](c```d) @octocat[e](f```g)"))
    plain = [part.content for part in tokens[1].children or () if part.type == "text"]
    assert not any("@octocat" in part for part in plain)
