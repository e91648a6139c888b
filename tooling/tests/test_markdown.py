"""Texts of others in the Markdown that fixtool writes."""

from __future__ import annotations

from fixtool.markdown import prose


def test_prose_is_shown_as_it_is_written() -> None:
    text = prose("a & b, <c> and a backslash \\ and one ` mark, say <script>")
    assert text == ("a &amp; b, &lt;c> and a backslash &#92; and one &#96; mark, say &lt;script>")


def test_an_image_of_a_message_is_not_shown() -> None:
    assert prose("a ![b](http://c) d!") == "a &#33;[b](http://c) d!"
