"""The head of a patch: what is read is what git would put into the commit, and the rest is refused
with its line."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from fixtool.errors import FixtoolError, Refused
from fixtool.series.mail import read_date, read_mail, split_address
from fixtool.series.patch import read_trailers

HEADERS = {
    "From": "A Person <a@example.org>",
    "Date": "Mon, 23 Nov 2026 12:00:00 +0100",
    "Subject": "[PATCH] fix it",
}


def head(body: str = "Why.\n", **changed: str | None) -> bytes:
    headers = {**HEADERS, **{name.replace("_", "-"): text for name, text in changed.items()}}
    lines = [f"{name}: {text}\n" for name, text in headers.items() if text is not None]
    return ("".join(lines) + f"\n{body}").encode("utf-8", "surrogateescape")


REFUSED: dict[str, tuple[dict[str, str | None], int, str]] = {
    "no author": ({"From": None}, 1, "no From: header"),
    "no date": ({"Date": None}, 1, "no Date: header"),
    "a day that is none": ({"Date": "Mon, 31 Feb 2026 12:00:00 +0100"}, 2, "not a date"),
    "a year that is none": ({"Date": "Mon, 1 Jan 99999 12:00:00 +0100"}, 2, "not a date"),
    "before 1970": ({"Date": "Wed, 31 Dec 1969 12:00:00 +0000"}, 2, "not a date"),
    "a long date": ({"Date": "1 " * 5000}, 2, "not a date"),
    "hours of a zone": ({"Date": "Mon, 23 Nov 2026 12:00:00 +99999999"}, 2, "not a date"),
    "a large number": ({"Date": "Mon, 23 Nov 2026 12:00:" + "9" * 60}, 2, "not a date"),
    "no address": ({"From": "A Person"}, 1, "no mail address"),
    "two addresses": ({"From": "A <a@b.c> <>"}, 1, "no mail address"),
    "brackets": ({"From": "(" * 900 + "@x"}, 1, "no mail address"),
    "a line break in the name": ({"From": "=?utf-8?q?A=0Acommitter_x?= <a@b.c>"}, 1, "line break"),
    "an address in the name": ({"From": "=?utf-8?q?A_=3Cb=40c=3E?= <a@b.c>"}, 1, "holds <"),
    "a NUL in the name": ({"From": "=?utf-8?q?A=00?= <a@b.c>"}, 1, "no commit can"),
    "a line break in the subject": ({"Subject": "[PATCH] =?utf-8?q?a=0Ab?="}, 3, "line break"),
    "a NUL in the subject": ({"Subject": "[PATCH] =?utf-8?q?a=00b?="}, 3, "a NUL"),
    "damaged base64": ({"Subject": "[PATCH] =?utf-8?b?a?="}, 3, "damaged base64"),
    "a damaged word": ({"Subject": "[PATCH] =?utf-8?q?a=Z?="}, 3, "damaged encoded word"),
    "a word that is no UTF-16": ({"Subject": "[PATCH] =?utf-16?b?YQ==?="}, 3, "charset 'utf-16'"),
    "a word of bytes": ({"Subject": "[PATCH] =?rot13?q?a?="}, 3, "charset 'rot13'"),
    "a word of no charset": ({"Subject": "[PATCH] =?x?q?a?="}, 3, "charset 'x' is not known"),
    "a word not in its charset": ({"Subject": "[PATCH] =?gb2312?q?=FF?="}, 3, "not in gb2312"),
    "a long subject": ({"Subject": "[PATCH] " + "x" * 20_000}, 3, "header has 20008 bytes"),
    "an unknown charset": ({"Content_Type": "text/plain; charset=nope"}, 4, "'nope' is not known"),
    "a slow charset": ({"Content_Type": "text/plain; charset=punycode"}, 4, "'punycode' is not"),
    "several parts": ({"Content_Type": "multipart/mixed; boundary=x"}, 4, "no plain text"),
    "an encoded diff": ({"Content_Transfer_Encoding": "base64"}, 4, "encoded as base64"),
    "a quoted diff": ({"Content_Transfer_Encoding": "quoted-printable"}, 4, "encoded as quoted"),
    "two subjects": ({"SUBJECT": "[PATCH] other"}, 4, "two SUBJECT: headers"),
    "no header": ({"a b": "x"}, 4, "is no mail header"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_git_would_read_in_another_way_is_refused(name: str) -> None:
    changed, line, message = REFUSED[name]
    with pytest.raises(Refused, match=message) as caught:
        read_mail(head(**changed), "x.patch")
    assert caught.value.where == f"x.patch:{line}"


def test_a_message_must_be_in_its_charset() -> None:
    raw = head(Content_Type="text/plain; charset=shift_jis") + b"\xff\xff\n"
    with pytest.raises(Refused, match="the message is not in shift_jis") as caught:
        read_mail(raw, "x.patch")
    assert caught.value.where == "x.patch:6"


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("A Person <a@example.org>", "A Person", "a@example.org"),
        ('"O\\"Neil, A" <a@b.c>', 'O"Neil, A', "a@b.c"),
        ("=?UTF-8?q?Zo=C3=AB?= <a@b.c>", "Zoë", "a@b.c"),
        ("=?UTF-8?q?Zo=C3?= =?utf-8?B?qw==?= <a@b.c>", "Zoë", "a@b.c"),
        ("=?iso-8859-1?q?Zo=EB?= Smith <a@b.c>", "Zoë Smith", "a@b.c"),
        ("Zoë <a@b.c>", "Zoë", "a@b.c"),
        ("a@b.c (Zoë)", "Zoë", "a@b.c"),
        ("a@b.c", "", "a@b.c"),
        ("a\u2028b <a@b.c>", "a\u2028b", "a@b.c"),
    ],
)
def test_an_author(text: str, name: str, address: str) -> None:
    author = read_mail(head(From=text), "x").author
    assert (author.name, author.email, author.date) == (name, address, "1795431600 +0100")


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("[PATCH] a\n folded line", "[PATCH] a folded line"),
        ("[PATCH] a\x0cb\u2028c", "[PATCH] a\x0cb\u2028c"),
        ("[PATCH] =?utf-8?q?a_b?= c =?utf-8?q?d?=", "[PATCH] a b c d"),
        ("[PATCH] =?utf-8?q?a?=\n =?utf-8?q?b?=", "[PATCH] ab"),
        ("[PATCH] =?utf-8?q?a?= =?latin1?q?=E4?=", "[PATCH] aä"),
        ("[PATCH] what =?x means", "[PATCH] what =?x means"),
    ],
)
def test_a_subject(text: str, subject: str) -> None:
    assert read_mail(head(Subject=text), "x").subject == subject


def test_carriage_returns_and_the_line_of_an_mbox_are_passed_over() -> None:
    raw = b"From 0123 Mon Sep 17 00:00:00 2001\n" + head(body="Why.\n")
    assert read_mail(raw, "x") == read_mail(head(), "x")
    assert read_mail(raw.replace(b"\n", b"\r\n"), "x").subject == "[PATCH] fix it"


def test_dates_and_addresses_of_a_command_line() -> None:
    assert read_date("Thu, 1 Jan 1970 00:00:00 +0000") == "0 +0000"
    assert read_date("Fri, 31 Dec 9999 23:59:59 -0000") == "253402300799 +0000"
    assert read_date("Sat, 5 May 2026 10:09:08 -0730") == "1778002748 -0730"
    assert read_date("Sat, 5 May 2026 10:09:08 -0730 (comment)") == "1778002748 -0730"
    assert read_date("Sun, 31 Feb 2026 10:09:08 +0000") is None
    assert read_date("") is None
    assert split_address("A <a@b>") == ("A", "a@b")
    assert split_address("(" * 10_000) == ("", "")


BIG: dict[str, Callable[[int], bytes]] = {
    "continued header": lambda n: head(X_Long="x\n" + " y\n" * n + " z"),
    "headers": lambda n: head(X_Many="x\n" + "Y: z\n" * n + "Z: z"),
    "encoded words": lambda n: head(Subject="[PATCH] " + "=?utf-8?q?a?= " * min(n, 700)),
    "starts of encoded words": lambda n: head(Subject="[PATCH] " + "=?a?q?" * min(n, 1600)),
    "trailers": lambda n: head(body="Why.\n\n" + "Key: value\n" * n),
    "continued trailer": lambda n: head(body="Why.\n\nKey: value\n" + " more\n" * n),
    "blank lines": lambda n: head(body="\n" * n),
}


@pytest.mark.parametrize("name", BIG)
def test_reading_takes_linear_time(name: str) -> None:
    """Eight times as much takes less than thirty times as long: a quadratic reader takes 64 times,
    however often it is asked. A busy machine may spoil one try, and not all of them."""

    def seconds(size: int) -> float:
        raw = BIG[name](size)
        start = time.process_time()
        with suppress(FixtoolError):
            read_trailers(read_mail(raw, "x").body)
        return time.process_time() - start

    long, short = 1e9, 1e9
    for _ in range(20):
        long, short = min(long, seconds(160_000)), min(short, seconds(20_000))
        if long < 30 * max(short, 0.001):
            return
    pytest.fail(f"{long:.3f} s against {short:.3f} s for an eighth")
