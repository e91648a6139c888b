"""What a file of another tool says of its patches, as git or that tool reads it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fixtool.errors import Refused
from fixtool.git.objects import MACHINE, Signature
from fixtool.git.repo import Repo
from fixtool.incoming.change import Incoming
from fixtool.incoming.file import read_input
from fixtool.incoming.read import Given, read_paths

DIFF = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-one\n+two\n"
GIT_DIFF = f"diff --git a/x b/x\n{DIFF}"
DATE = "Tue, 3 Feb 2026 04:05:06 +0900"
ZOE = Signature("Zoë Müller", "zoe@example.com", "1770059106 +0900")
UNSAID = Signature(MACHINE.name, MACHINE.email, "1700000000 +0000")


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    folder = tmp_path_factory.mktemp("repo")
    subprocess.run(["git", "init", "-q", "--bare", str(folder)], check=True)
    return Repo.open(folder, bare=True)


def read(repo: Repo, text: str | bytes, name: str = "0003-spell.patch") -> list[Incoming]:
    raw = text.encode() if isinstance(text, str) else text
    return read_input(repo, name, raw, UNSAID, None)


def mail(
    sender: str = "Zoë Müller <zoe@example.com>",
    subject: str = "[PATCH] area: one",
    body: str = "Why.",
    more: str = "",
    date: str = f"Date: {DATE}\n",
) -> str:
    return f"From: {sender}\n{date}Subject: {subject}\n{more}\n{body}\n---\n x | 2 +-\n\n{GIT_DIFF}"


NAMES = {
    "utf-8": ("=?UTF-8?q?Zo=C3=AB_M=C3=BCller?= <zoe@example.com>", "Zoë Müller"),
    "latin-1": ("=?iso-8859-1?q?Zo=EB_M=FCller?= <zoe@example.com>", "Zoë Müller"),
    "gb18030": ("=?gb18030?B?1cXI/Q==?= <zoe@example.com>", "张三"),
    "shift-jis": ("=?shift_jis?B?jlKTYw==?= <zoe@example.com>", "山田"),
    "comma": ('"Fixer, Zoe" <zoe@example.com>', "Fixer, Zoe"),
    "quotes": (r'"Zoe \"Z\" Fixer" <zoe@example.com>', 'Zoe "Z" Fixer'),
    "colon": ('"Zoe: Fixer" <zoe@example.com>', "Zoe: Fixer"),
    "brackets": ('"dependabot[bot]" <zoe@example.com>', "dependabot[bot]"),
    "comment": ("zoe@example.com (Zoe Fixer)", "Zoe Fixer"),
    "address": ("zoe@example.com", "zoe@example.com"),
    "dot": ("Zoe F. <zoe@example.com>", "Zoe F."),
    "separator": ("Zoe\u2028Fixer <zoe@example.com>", "Zoe\u2028Fixer"),
}


@pytest.mark.parametrize("name", NAMES)
def test_an_author_is_the_one_that_git_writes(repo: Repo, name: str) -> None:
    sender, expected = NAMES[name]
    (change,) = read(repo, mail(sender))
    assert change.author == Signature(expected, ZOE.email, ZOE.date)
    assert (change.subject, change.body, change.notes) == ("area: one", "Why.", ())
    assert change.diff == GIT_DIFF.encode()


SUBJECTS = {
    "[PATCH v3 2/7] area: one": "area: one",
    "Re: [PATCH]  area:  one": "area: one",
    "[PATCH]: area: one": "area: one",
    "[RFC/PATCH 1/2] [foo] area: one": "[foo] area: one",
    "[PATCH] [pd]: one": "[pd]: one",
    "[PATCH] [pd]one": "[pd]one",
    "[list] [PATCH v2] one": "[list] one",
    "Re: [list] Re: one": "[list] Re: one",
    "[PATCH] :memo: one": ":memo: one",
    "=?utf-8?q?=5BPATCH=5D_na=C3=AFve?=": "naïve",
}


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_subject_loses_its_tag_and_nothing_else(repo: Repo, subject: str) -> None:
    """`git mailinfo -b` took the colon of 9 subjects in 1,000."""
    assert read(repo, mail(subject=subject))[0].subject == SUBJECTS[subject]


def test_a_charset_is_recoded_or_refused_with_its_line(repo: Repo) -> None:
    kind = "Content-Type: text/plain; charset={}\nContent-Transfer-Encoding: 8bit\n"
    latin = mail(body="naïve", more=kind.format("iso-8859-1"), sender=NAMES["latin-1"][0])
    (change,) = read(repo, latin.encode("latin-1"))
    assert (change.author, change.body) == (ZOE, "naïve")
    (change,) = read(repo, mail(body="naïve").encode("latin-1"))  # no header names a charset
    assert (change.author, change.body) == (ZOE, "naïve")
    assert change.notes == (
        "the From: header is not UTF-8 and was read as ISO 8859-1",
        "the message is not UTF-8 and was read as ISO 8859-1",
    )
    chinese = mail("张三 <zoe@example.com>", more=kind.format("gb18030"), body="你好")
    (change,) = read(repo, chinese.encode("gb18030"))
    assert (change.author.name, change.body) == ("张三", "你好")
    with pytest.raises(Refused, match="From: header is not in UTF-8, and the mail names no") as no:
        read(repo, mail("张三 <zoe@example.com>").encode("gb18030"))
    assert no.value.where == "0003-spell.patch:1"
    for charset, what in (("utf-8", "not in the charset"), ("klingon", "cannot decode")):
        wrong = mail(body="naïve", more=kind.format(charset), sender="Zoe <zoe@example.com>")
        with pytest.raises(Refused, match=what) as refused:
            read(repo, wrong.encode("latin-1"))
        assert refused.value.where == "0003-spell.patch:4"


def test_what_a_mail_does_not_say_is_made_up_and_told(repo: Repo) -> None:
    (change,) = read(repo, f"Subject: one\n\nWhy.\n---\n{GIT_DIFF}")
    assert (change.subject, change.body, change.author) == ("one", "Why.", UNSAID)
    assert [note[:20] for note in change.notes] == ["it names no author: ", "it has no date: 2023"]
    (change,) = read(repo, mail(date="Date: Wed, 11 Feb 2015\n"))
    assert change.author.date == "1423612800 +0000"
    assert change.notes == ("its date has no time of day: midnight in UTC was written",)
    with pytest.raises(Refused, match="invalid date") as refused:
        read(repo, mail(date="Date: some day\n"))
    assert refused.value.where == "0003-spell.patch:2"


FORMS = {
    "mercurial": (
        "# HG changeset patch\n# User Zoë Müller <zoe@example.com>\n# Date 1770059106 -32400\n"
        f"#      Tue Feb 03 04:05:06 2026 +0900\n# Node ID {'0' * 40}\narea: one\n\nWhy.\n\n"
    ),
    "stgit": f"area: one\n\nFrom: Zoë Müller <zoe@example.com>\nDate: {DATE}\n\nWhy.\n---\n x | 2\n\n",
    "git show": (
        f"commit {'1' * 40}\nAuthor: Zoë Müller <zoe@example.com>\n"
        "Date:   Tue Feb 3 04:05:06 2026 +0900\n\n    area: one\n    \n    Why.\n\n"
    ),
    "dep-3": (
        "Description: area: one\n Why.\nAuthor: Zoë Müller <zoe@example.com>\n"
        f"Date: {DATE}\n---\nThis is about the form.\n\n"
    ),
    "commented dep-3": (
        f"# Description: area: one\n#  Why.\n# Author: Zoë Müller <zoe@example.com>\n# Date: {DATE}\n"
    ),
    "dpatch": (
        "#! /bin/sh /usr/share/dpatch/dpatch-run\n"
        "## 01_one.dpatch by Zoë Müller <zoe@example.com>\n##\n"
        "## All lines beginning with `## DP:' are a description of the patch.\n"
        "## DP: area: one\n## DP:\n## DP: Why.\n\n@DPATCH@\n"
    ),
    "prose": "area: one\n\nWhy.\n\n",
    "prose like a header": "area: one\n\nWhy.\n---\n\n",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "diff", [DIFF, GIT_DIFF, f"Index: x\n{'=' * 67}\n{DIFF}", f"diff -ru a/x b/x\n{DIFF}"]
)
def test_a_head_gives_message_author_and_date(repo: Repo, form: str, diff: str) -> None:
    (change,) = read(repo, FORMS[form] + diff)
    assert (change.subject, change.body, change.diff) == ("area: one", "Why.", diff.encode())
    without = {"dpatch": replace_date(ZOE), "prose": UNSAID, "prose like a header": UNSAID}
    assert change.author == without.get(form, ZOE)


def replace_date(author: Signature) -> Signature:
    return Signature(author.name, author.email, UNSAID.date)


def test_a_plain_diff_is_named_after_its_file(repo: Repo) -> None:
    (change,) = read(repo, DIFF)
    assert (change.subject, change.body, change.author) == ("spell", "", UNSAID)
    assert change.notes[0] == "it has no subject: 'spell' is from the file's name"


def test_fields_of_dep3_become_trailers(repo: Repo) -> None:
    text = (
        "From: Zoë Müller <zoe@example.com>\nSubject: area: one\nOrigin: upstream,\n commit:abc1234\n"
        "Bug-Debian: https://bugs.example.org/1\nX-Debian-version: 1.0-3\nForwarded: no\n"
        f"Last-Update: 2026-02-03\n\nWhy.\n\nSigned-off-by: Zoe <zoe@example.com>\n---\n{DIFF}"
    )
    (change,) = read(repo, text)
    assert change.body == (
        "Why.\n\nSigned-off-by: Zoe <zoe@example.com>\nOrigin: upstream, commit:abc1234\n"
        "Bug-Debian: https://bugs.example.org/1\nX-Debian-version: 1.0-3\nForwarded: no\n"
        "Last-Update: 2026-02-03"
    )
    assert change.author.day.isoformat() == "2026-02-03"


def test_both_parts_of_a_mixed_diff_are_in(repo: Repo) -> None:
    other = GIT_DIFF.replace("x", "y")
    for text in (DIFF + other, other + DIFF):
        (change,) = read(repo, f"area: one\n\n{text}")
        assert change.diff == text.encode()


def test_every_mbox_that_git_splits(repo: Repo, tmp_path: Path) -> None:
    one, two = mail(body="Why.\nFrom the start."), mail(subject="[PATCH] area: two")
    for line in ("git@z Thu Jan  1 00:00:00 1970", f"{'0' * 40} Mon Sep 17 00:00:00 2001",
                 "- Tue Feb  3 04:05:06 2026", "zoe@example.com Tue Feb  3 04:05:06 2026 +0900"):  # fmt: skip
        changes = read(repo, f"From {line}\n{one}\nFrom {line}\n{two}")
        assert [change.subject for change in changes] == ["area: one", "area: two"]
        assert changes[0].body == "Why.\nFrom the start."
        assert changes[1].where == "0003-spell.patch:18"
    archive = "From mboxrd@z Thu Jan  1 00:00:00 1970\n" + one.replace("\nFrom the", "\n>From the")
    assert read(repo, archive)[0].body == "Why.\nFrom the start."
    (tmp_path / "new").mkdir()
    (tmp_path / "cur").mkdir()
    (tmp_path / "cur" / "1.a:2,S").write_text(one)
    (tmp_path / "new" / "2.a").write_text(two)
    changes = read_paths(repo, [tmp_path], Given())
    assert [change.subject for change in changes] == ["area: one", "area: two"]
    assert changes[0].body == "Why.\nFrom the start."


REFUSED = {
    "invalid date": (f"# HG changeset patch\n# User a <a@b.c>\n# Date 1 999999\nx\n\n{DIFF}", "utf-8", "Date: "),
    "utf-16": ("\ufeffx" + DIFF, "utf-16", "iconv"),
    "binary data": ("a\0b", "utf-8", None),
    "No diff in this file": ("one line", "utf-8", None),
    "no diff": (mail().partition("---")[0], "utf-8", None),
    "content of a binary file": (
        "diff --git a/x b/x\nindex 123..456 100644\nBinary files a/x and b/x differ\n", "utf-8",
        "git diff --binary",
    ),
    "context diff": ("*** a/x\n--- b/x\n***************\n*** 1 ****\n", "utf-8", "diff -u"),
    "log of several": ((FORMS["git show"] + GIT_DIFF + "\n") * 2, "utf-8", "git format-patch"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_read_is_refused_with_the_way_out(repo: Repo, what: str) -> None:
    text, charset, way_out = REFUSED[what]
    with pytest.raises(Refused, match="(?i)" + what) as refused:
        read(repo, text.encode(charset))
    assert way_out is None or way_out in (refused.value.hint or "")
