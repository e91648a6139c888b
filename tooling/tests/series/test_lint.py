"""Each rule finds what it is for, says where, and says nothing of a good series."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import pytest

from fixtool.errors import Refused
from fixtool.series import strict
from fixtool.series.lint import Level, Trailers, drift, errors_in, lint
from support.repositories import NUMBERS, Team

FIX = NUMBERS.replace("line 20\n", "line 20 fixed\n")


def rules(team: Team) -> dict[str, str]:
    return {finding.rule: finding.where for finding in lint(team.repository.line("main"))}


def test_a_good_series_has_no_findings(team: Team) -> None:
    team.patch("fix", "area: fix twenty", python__model_py=FIX)
    assert rules(team) == {}
    line = team.repository.line("main")
    assert drift(team.upstream.repo, line, line.upstream.base) == ()


MESSAGES: list[tuple[str, Callable[[bytes], bytes], int]] = [
    ("subject-tag", lambda raw: raw.replace(b"[PATCH] ", b"[PATCH] [RFC] "), 4),
    ("subject-blanks", lambda raw: raw.replace(b"area: fix", b"area:  fix"), 4),
    ("subject-length", lambda raw: raw.replace(b"area: fix", b"area: " + b"x" * 100), 4),
    ("in-body-header", lambda raw: raw.replace(b"\n\nWhy.", b"\n\nFrom: M <m@x.y>"), 6),
    ("ends-message", lambda raw: raw.replace(b"Why.", b"Why.\n---\nmore"), 7),
    ("ends-message", lambda raw: raw.replace(b"Why.", b"Index: x"), 6),
    ("control-characters", lambda raw: raw.replace(b"Why.", b"\x1b[31mWhy."), 6),
    ("control-characters", lambda raw: raw.replace(b"Why.", "\u202eWhy.".encode()), 6),
    ("trailer", lambda raw: raw.replace(b"Origin: vendor\n", b""), 11),
    ("depends-on", lambda raw: raw.replace(b"Origin:", b"Depends-On: other\nOrigin:"), 13),
    ("crlf", lambda raw: raw.replace(b"\n", b"\r\n"), 1),
    ("form", lambda raw: raw.replace(b"@@ -17,7", b"@@ -17,9"), 25),
]


@pytest.mark.parametrize(
    ("rule", "damage", "line"), MESSAGES, ids=[f"{n}-{m[0]}" for n, m in enumerate(MESSAGES)]
)
def test_each_rule_finds_its_own(
    team: Team, rule: str, damage: Callable[[bytes], bytes], line: int
) -> None:
    raw = team.patch("fix", "area: fix twenty", python__model_py=FIX)
    path = team.root / "patches/main/fix.patch"
    path.write_bytes(damage(raw))
    where = rules(team)
    assert rule in where
    assert where[rule] == (f"{path}:{line}" if line else str(path))


def test_a_tag_in_the_subject_is_told(team: Team) -> None:
    raw = team.patch("fix", "area: fix twenty", python__model_py=FIX)
    (team.root / "patches/main/fix.patch").write_bytes(raw.replace(b"[PATCH] ", b"[PATCH] [RFC] "))
    messages = [finding.message for finding in lint(team.repository.line("main"))]
    assert messages == ["git am drops a [tag] at the start of a subject"]


def test_series_rules(team: Team) -> None:
    raw = team.patch("fix", "area: fix twenty", python__model_py=FIX)
    folder = team.root / "patches/main"
    team.add("twin", raw)
    (folder / "orphan.patch").write_bytes(raw)
    (folder / "series").write_text("fix.patch\nfix.patch\ntwin.patch\nmissing.patch\n")
    where = rules(team)
    assert where["duplicate-entry"] == f"{folder}/series:2"
    assert where["duplicate-subject"] == f"{folder}/twin.patch:4"
    assert where["form"] == f"{folder}/series:4"
    assert where["orphan"] == f"{folder}/orphan.patch:1"


@pytest.mark.parametrize(
    "entry",
    ["../x.patch", "/etc/x.patch", "a/b.patch", "x.diff", ".x.patch", "x.patch -p0", "-R.patch"],
)
def test_unsafe_series_entries_are_refused(team: Team, entry: str) -> None:
    (team.root / "patches/main/series").write_text(f"# c\n{entry}\n")
    with pytest.raises(Refused) as caught:
        team.repository.line("main")
    assert caught.value.where == f"{team.root / 'patches/main/series'}:2"


def test_each_line_that_is_too_long_is_found(team: Team) -> None:
    """At most 10,000 bytes, with the sign at the start."""
    texts = ["a" * 9_999, "b" * 10_000, "short", "c" * 10_000, "d" * 25_000, *["e" * 4_000] * 5]
    long = NUMBERS + "".join(f"{text}\n" for text in texts)
    raw = team.patch("fix", "area: fix twenty", python__model_py=long)
    path, lines = team.root / "patches/main/fix.patch", raw.split(b"\n")
    found = [finding for finding in lint(team.repository.line("main")) if "long" in finding.rule]
    assert [(finding.where, finding.message) for finding in found] == [
        (f"{path}:{lines.index(b'+' + letter * size) + 1}", f"a line of {size + 1} bytes")
        for letter, size in ((b"b", 10_000), (b"c", 10_000), (b"d", 25_000))
    ]


def test_rules_of_the_tree_are_flagged_not_refused(team: Team) -> None:
    raw = team.patch("fix", "area: rules", x_py="x\n")
    path = team.root / "patches/main/fix.patch"
    path.write_bytes(raw.replace(b"x.py", b".gitattributes"))
    levels = {finding.rule: finding.level for finding in lint(team.repository.line("main"))}
    assert levels == {"touches-rules": Level.WARNING}
    assert errors_in(team.repository.line("main")) == ()


def test_drift_names_the_first_line_that_differs(team: Team) -> None:
    raw = team.patch("fix", "area: fix twenty", python__model_py=FIX)
    path = team.root / "patches/main/fix.patch"
    path.write_bytes(raw.replace(b"@@ line 16", b"@@"))
    line = team.repository.line("main")
    number = raw[: raw.index(b"@@ -17")].count(b"\n") + 1
    findings = drift(team.upstream.repo, line, line.upstream.base)
    assert [(finding.rule, finding.where) for finding in findings] == [
        ("drift", f"{path}:{number}")
    ]


def test_drift_finds_a_patch_that_does_not_fit_its_base(team: Team) -> None:
    raw = team.patch("fix", "area: fix twenty", python__model_py=FIX)
    (team.root / "patches/main/fix.patch").write_bytes(raw.replace(b"-line 20", b"-line XX"))
    line = team.repository.line("main")
    assert [finding.rule for finding in drift(team.upstream.repo, line, line.upstream.base)] == [
        "applies"
    ]


def test_drift_goes_on_after_the_patches_that_git_proves(team: Team) -> None:
    team.patch("fix", "area: fix twenty", python__model_py=FIX)
    more = FIX.replace("fixed", "fixed more")
    raw = team.patch("more", "area: more", base="patch/fix", python__model_py=more)
    path = team.root / "patches/main/more.patch"
    path.write_bytes(raw.replace(b"@@ line 16", b"@@"))
    line = team.repository.line("main")
    findings = drift(team.upstream.repo, line, line.upstream.base)
    assert [(finding.rule, finding.where.rpartition(":")[0]) for finding in findings] == [
        ("drift", str(path))
    ]


def test_drift_believes_no_patch_that_is_not_exported_as_it_is(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the contents that a patch names are here, they are taken instead of its hunks. What is
    found is the same as without them, whatever the patch says."""
    git = team.upstream
    files = {"python__model_py": FIX, "new_txt": "new\n", "a_bin": "\0\1", "other__x_txt": None}
    git.commit("x", other__x_txt="gone\n")
    base = git.head()
    team.line(base=base)
    raws = {"fix": team.patch("fix", "area: fix", base, **files)}
    files |= {"python__model_py": FIX + "more\n", "a_bin": "\0\2", "other__x_txt": "back\n"}
    raws["more"] = team.patch("more", "area: more", "patch/fix", **files)
    old, new = (
        git("rev-parse", f"{commit}:python/model.py").encode() for commit in (base, "patch/fix")
    )
    other = git("rev-parse", "patch/fix:new.txt").encode()
    damages: dict[str, Callable[[bytes], bytes]] = {
        "none": lambda raw: raw,
        "another content": lambda raw: raw.replace(b".." + new, b".." + other),
        "the same content": lambda raw: raw.replace(b".." + new, b".." + old),
        "a commit": lambda raw: raw.replace(b".." + new, b".." + base.encode()),
        "another old content": lambda raw: raw.replace(old + b"..", other + b".."),
        "shortened": lambda raw: raw.replace(new, new[:10]),
        "another text": lambda raw: raw.replace(b"fixed", b"mixed"),
        "another line": lambda raw: raw.replace(b"-line 20", b"-line XX"),
        "no hunk": lambda raw: raw[: raw.index(b"--- a/python")],
    }  # fmt: skip
    found = {}
    for believed in (True, False):
        if not believed:
            monkeypatch.setattr("fixtool.git.repo.Repo.blobs_here", lambda *_: set())
        for name, damage in damages.items():
            for slug, raw in raws.items():
                (team.root / f"patches/main/{slug}.patch").write_bytes(damage(raw))
            line = team.repository.line("main")
            counted = mock.Mock(wraps=strict._with_hunks)
            with monkeypatch.context() as patched:
                patched.setattr(strict, "_with_hunks", counted)
                found[name, believed] = drift(git.repo, line, line.upstream.base)
            if name == "none":
                assert (counted.call_count == 1) is believed  # the file that is removed
    for name in damages:
        assert found[name, True] == found[name, False], name
    assert {name for name in damages if found[name, False]} == damages.keys() - {"none"}


def test_missing_trailers_are_told_once_a_line(team: Team) -> None:
    """A series that came from elsewhere has no trailers at all: that was four warnings a patch."""
    for slug, text in (("fix", FIX), ("more", FIX.replace("line 3\n", "three\n"))):
        raw = team.patch(slug, f"area: {slug}", python__model_py=text)
        path = team.root / f"patches/main/{slug}.patch"
        path.write_bytes(raw.replace(b"Origin: vendor\n", b"").replace(b"Drop-When: never\n", b""))
    line = team.repository.line("main")
    assert len(lint(line, Trailers.EACH)) == 4
    (once,) = lint(line, Trailers.ONCE)
    assert (
        once.message
        == "no Origin: trailer in 2 of 2 patches; no Drop-When: trailer in 2 of 2 patches"
    )
    assert (once.level, once.where) == (Level.WARNING, f"{line.folder}/series:1")
    assert lint(line, Trailers.NEVER) == ()
