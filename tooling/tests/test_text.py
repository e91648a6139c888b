"""Texts for people, free of what a terminal or GitHub Actions would act on."""

from __future__ import annotations

import importlib
import re
import shlex
import time
from pathlib import Path

import pytest

import fixtool
from fixtool.text import (
    _LatePattern,
    argument,
    count,
    late_pattern,
    printable,
    public_url,
    redact,
    visible,
)

PLACE = re.compile(
    r"(?:git -C|git ls-remote|git clone --bare|\brm|\brm -r|--worktree|safe\.directory|chmod o-w"
    r"|--remove-destination FILE) \{(?!argument\()([^}]*)\}"
)


@pytest.mark.parametrize(
    "text", ["a b", "$(id)", "`id`", "a;b", "a'b", "https://x/$(id)", "-x\ny", ""]
)
def test_a_value_is_one_word_of_a_command(text: str) -> None:
    assert shlex.split(f"git {argument(text)}") == ["git", text]


def test_every_place_in_a_command_to_type_is_one_word() -> None:
    """A file, a folder or an address of a stranger's would run what its name holds."""
    found = {}
    for path in sorted(Path(fixtool.__file__).parent.rglob("*.py")):
        text = path.read_text("utf-8")
        if places := [match[0] for match in PLACE.finditer(text) if not is_quoted(match[1], text)]:
            found[path.name] = places
    assert found == {}


def is_quoted(name: str, text: str) -> bool:
    """Whether every value that a module gives the variable ``name`` is quoted."""
    values = re.findall(rf"^ *(?:\w+, )*{re.escape(name)}(?:, \w+)* = (.*)$", text, re.M)
    return bool(values) and all(re.search(r"\b(?:argument|quote)\(", value) for value in values)


@pytest.mark.parametrize(
    ("number", "what", "text"),
    [(1, "patch", "1 patch"), (2, "patch", "2 patches"), (0, "file", "0 files")],
)
def test_counts(number: int, what: str, text: str) -> None:
    assert count(number, what) == text


def test_controls_are_shown_as_escapes() -> None:
    assert printable("a\x1b[31m\nb\tc") == "a\\x1b[31m\nb\\x09c"


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("two\n lines\t here", "two lines here"),
        ("left\u202eright\u200b", "leftright"),
        ("##[error]x", "## [error]x"),
    ],
)
def test_what_cannot_be_seen_goes(text: str, plain: str) -> None:
    assert visible(text) == plain


TOKEN = "s3cr3t-t0ken"
SCHEMES = (
    "http",
    "https",
    "HTTPS",
    "ftp",
    "git",
    "ssh",
    "git+ssh",
    "ssh+git",
    "svn+https",
    "x",
    "rsync",
)
ADDRESSES = [
    *(f"{scheme}://{login}@host.example{rest}"
      for scheme in SCHEMES
      for login in (f"me:{TOKEN}", f"me%3A{TOKEN}", f":{TOKEN}", f"me:p@{TOKEN}", f"me:{TOKEN}:x")
      for rest in ("", ":8080/x.git", "/x@2", "/x?y=z")),
    *(f"{scheme}://{TOKEN}@host.example/x" for scheme in SCHEMES if "ssh" not in scheme),
    *(f"{scheme}://me:a/{TOKEN}@host.example/x" for scheme in SCHEMES),
    f"me:{TOKEN}@host.example:team/x.git", f"me:p:{TOKEN}@host.example:x", f"ext::https://me:{TOKEN}@host.example/x",
    f"https%3A%2F%2Fme%3A{TOKEN}%40host.example%2Fx", f"https://host.example/?next=ftp%3a%2f%2f{TOKEN}%40host.example",
    *(f"https://host.example/x?a=b{sign}{name}={TOKEN}&c=d"
      for sign in "&;"
      for name in ("token", "private_token", "access_token", "api_key", "apikey", "key", "X-Amz-Signature", "sig",
                   "password", "client_secret", "auth", "X-Amz-Security-Token", "oauth")),
]  # fmt: skip


def test_no_address_is_shown_with_its_login() -> None:
    forms = ("{}", "cannot reach '{}': no", "({})", '"{}",', "<{}>", "a\n{}\nb", "see {}/simple/")
    for address in ADDRESSES:
        shown = [public_url(address), *(redact(form.format(address)) for form in forms)]
        assert [text for text in shown if TOKEN in text] == []
        assert [text for text in shown if "host.example" not in text] == []
        assert [redact(text) for text in shown] == shown
        assert public_url(shown[0]) == shown[0]


@pytest.mark.parametrize(
    "text",
    ["https://host:8080/x@2", "https://host/@scope/x", "ssh://git@host/x", "git@host:team/x.git", "me@example.org",
     "https://host/x?author=me&page=2&keyword=a", "http://[::1]:80/x@y", "a: b@c: d", "From: A <a@example.org>",
     "python/x.py:3: error: y", "see https://host/x, and write to me@example.org", "f(key=1, token=2)"],
)  # fmt: skip
def test_what_is_no_login_stays(text: str) -> None:
    assert redact(text) == text


def test_logins_are_looked_for_in_linear_time() -> None:
    """One long text takes about as long as many short ones with as many signs: 32 times as long if
    the time grew with the square. Of some tries, the best one counts: a busy machine makes others
    slow, and cannot make all of them so."""

    def seconds(text: str, times: int) -> float:
        started = time.process_time()
        for _ in range(times):
            redact(text)
        return time.process_time() - started

    for piece in ("a://", "a:", "a:b@", "://a:b", "%3A%2F%2F", "&a=", "a@", "x", ":%40"):
        tries = (seconds(piece * 32_000, 1) / seconds(piece * 1_000, 32) for _ in range(20))
        assert any(ratio < 8 for ratio in tries), piece


def test_each_pattern_that_is_compiled_late_can_be() -> None:
    """A mistake in one would show at its first use only."""
    folder = Path(fixtool.__file__).parent
    found: dict[str, int] = {}
    for path in folder.rglob("*.py"):
        if "= late_pattern(" in path.read_text("utf-8"):
            name = ".".join(path.relative_to(folder.parent).with_suffix("").parts)
            values = vars(importlib.import_module(name)).values()
            found[name] = len([re.compile(value.pattern, value.flags) for value in values
                               if type(value) is _LatePattern])  # fmt: skip
    assert found["fixtool.series.diff"] == 9
    assert all(found.values())


def test_a_pattern_is_compiled_at_its_first_use() -> None:
    broken = late_pattern("(")
    with pytest.raises(re.error):
        broken.match("(")
    text, data = late_pattern("a(B)", re.IGNORECASE), late_pattern(b"x+")
    assert text.fullmatch("AB")[1] == "B"  # type: ignore[index]
    assert (data.sub(b"", b"axxb"), data.pattern) == (b"ab", b"x+")
