"""The recorded facts of a patch: what each form of a trailer states, what lint says of one that
states nothing or too much, and how a fact is written without losing a word of a person."""

from __future__ import annotations

import pytest

from fixtool.series.facts import FactKind, RecordedFact, fact_trailers, facts_of, read_fact
from fixtool.series.lint import lint
from fixtool.series.patch import Patch, parse
from fixtool.series.trailers import names_another, with_fact, without_facts
from support.repositories import NUMBERS, Team, format_patch

APPLIED, FIXES, SUPERSEDED = FactKind.APPLIED, FactKind.FIXES, FactKind.SUPERSEDED
FULL = "89ff2bc1115c5dd33bbb5dba4ccf4f615329b411"
OTHER = "5ae8d286d2b851a188aa753b46efc45e5322949e"
URL = "https://github.com/sgl-project/sglang"
HEAD = "From 0000\nFrom: A <a@b.example>\nDate: Mon, 23 Nov 2026 12:00:00 +0000\nSubject: [PATCH] x\n\n"
DIFF = "\ndiff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+new\n"


def patch_with(*trailers: str, body: str = "Why.\n\n") -> Patch:
    lines = "".join(f"{trailer}\n" for trailer in trailers)
    return parse(f"{HEAD}{body}{lines}{DIFF}".encode("utf-8", "surrogateescape"), "x")


def fact(
    commit: str | None = None, pull: int | None = None, release: str | None = None,
    kind: FactKind = APPLIED, *, none: bool = False,
) -> RecordedFact:  # fmt: skip
    return RecordedFact(kind, commit, pull, release, none)


# -- reading ---------------------------------------------------------------------------------

FORMS = [
    # our own form
    (f"{FULL}, #26026, 0.5.13", (FULL, 26026, "0.5.13")),
    (f"{FULL} (#25284), 0.5.13", (FULL, 25284, "0.5.13")),
    (f"{FULL}, #26026", (FULL, 26026, None)),
    (FULL, (FULL, None, None)),
    ("0.5.13", (None, None, "0.5.13")),
    ("v0.5.13.post1", (None, None, "0.5.13.post1")),
    ("#26026", (None, 26026, None)),
    # the Linux kernel's
    ('54a4f0239f2e ("KVM: MMU: make kvm_mmu_zap_page() return the number of pages")', ("54a4f0239f2e", None, None)),
    ('54a4f0239f2e ("Fix 0.5.12 and abc1234 (again)")', ("54a4f0239f2e", None, None)),
    ('54a4f0239f2e ("[Gemma4] Fix (#26026)"), 0.5.13', ("54a4f0239f2e", 26026, "0.5.13")),
    ('54a4f0239f2e ("Revert "Fix (#12)" (#15)")', ("54a4f0239f2e", 15, None)),
    ('54a4f0239f2e ("a subject that goes on', ("54a4f0239f2e", None, None)),
    ("commit 54a4f0239f2e", ("54a4f0239f2e", None, None)),
    # DEP-3's
    (f"1.2.3, {URL}/commit/{FULL}", (FULL, None, "1.2.3")),
    (f"1.2.3, commit:{FULL[:12]}", (FULL[:12], None, "1.2.3")),
    (f"commit:{FULL[:7]}", (FULL[:7], None, None)),
    # addresses
    (f"{URL}/commit/{FULL}.patch", (FULL, None, None)),
    (f"<{URL}/commit/{FULL}#diff-0>", (FULL, None, None)),
    (f"https://gitlab.example/a/b/-/commit/{FULL}", (FULL, None, None)),
    (f"https://git.example/linux.git/commit/?h=main&id={FULL}", (FULL, None, None)),
    (f"{FULL}, {URL}/pull/26026", (FULL, 26026, None)),
    (f"{FULL}, {URL}/pull/26026/files#r1", (FULL, 26026, None)),
    (f"{FULL}, https://gitlab.example/a/b/-/merge_requests/7", (FULL, 7, None)),
    (f"{URL}/pull/26026/commits/{OTHER}", (None, 26026, None)),  # a commit of the branch
    # case, and punctuation
    (f"{FULL.upper()}, #26026", (FULL, 26026, None)),
    (f"`{FULL}`; #26026.", (FULL, 26026, None)),
    (f"{FULL[:12]}..., since 0.5.13.", (FULL[:12], None, "0.5.13")),
    (f"{FULL[:9]}, {FULL}, {FULL[:12]}", (FULL, None, None)),  # one commit, said in three ways
    ("0.5.13, 0.5.13", (None, None, "0.5.13")),
    # what only looks like a part
    ("defaced", (None, None, None)),
    ("#", (None, None, None)),
    ("89ff2b", (None, None, None)),
    (f"{URL}/issues/12", (None, None, None)),
    (f"{URL}/commits/main", (None, None, None)),
    ("not-needed, only an a100 shows it", (None, None, None)),
    ("2.3x faster", (None, None, None)),
    ("", (None, None, None)),
    # two different parts: which one counts is not guessed
    (f"{FULL}, {OTHER}, #26026", (None, 26026, None)),
    (f"{FULL}, #1, #2", (FULL, None, None)),
    (f"{FULL}, 0.5.13, 0.5.14", (FULL, None, None)),
    (f"{FULL}, 0.5.13, none", (FULL, None, None)),
    # hostile ones
    ("#" + "9" * 5000, (None, None, None)),
    ("#٣٤", (None, None, None)),
    ("1." + "9" * 5000, (None, None, None)),
    ("a1" * 40, (None, None, None)),
    ("1" + ".1" * 5000, (None, None, None)),
    ('("' * 2000, (None, None, None)),
    (f"\x1b[31m{FULL}\x1b[0m", (None, None, None)),
    (f"--exec=x {FULL}", (FULL, None, None)),
]  # fmt: skip


@pytest.mark.parametrize(("value", "parts"), FORMS, ids=[f"{n}" for n in range(len(FORMS))])
def test_what_a_trailer_states(
    value: str, parts: tuple[str | None, int | None, str | None]
) -> None:
    stated = read_fact(APPLIED, value)
    assert (stated.commit, stated.pull, stated.release) == parts
    assert not stated.in_no_release


def test_none_says_that_there_is_no_release() -> None:
    stated = read_fact(FIXES, f"{FULL} (#25284), none")
    assert stated == fact(FULL, 25284, kind=FIXES, none=True)
    assert read_fact(FIXES, f"{FULL}, None") == fact(FULL, kind=FIXES, none=True)
    assert stated.in_release("99.0") is False


def test_which_releases_hold_it() -> None:
    stated = fact(FULL, release="0.5.9")
    assert [stated.in_release(version) for version in ("0.5.8", "0.5.9", "0.5.12.post1")] == [
        False, True, True,
    ]  # fmt: skip
    assert fact(FULL).in_release("0.5.9") is None


@pytest.mark.parametrize(
    "stated",
    [
        fact(FULL, 26026, "0.5.13"),
        fact(FULL, 26026, "0.5.13", FIXES),
        fact(FULL, 25284, kind=FIXES, none=True),
        fact(FULL, kind=FIXES),
        fact(None, None, "0.5.13", SUPERSEDED),
        fact(FULL, None, "0.5.13"),
    ],
)
def test_the_value_that_is_written_reads_back(stated: RecordedFact) -> None:
    assert read_fact(stated.kind, stated.value) == stated


def test_the_facts_of_a_patch() -> None:
    patch = patch_with(
        f"fixes: {FULL}",
        "Fixes: #12",
        f"APPLIED-UPSTREAM: {OTHER},",
        "  #26502,",
        "\t0.5.16",
        "Fixes: none",
        f"X-Fixes: {FULL}",
        f"Superseded-By: {FULL[:9]}",
        "Signed-off-by: A <a@b.example>",
    )
    assert facts_of(patch) == (
        fact(FULL, kind=FIXES), fact(OTHER, 26502, "0.5.16"), fact(FULL[:9], kind=SUPERSEDED),
    )  # fmt: skip
    lines = patch.raw.decode().split("\n")
    numbers = [trailer.line_number for trailer in fact_trailers(patch)]
    assert [lines[number - 1] for number in numbers] == [
        f"fixes: {FULL}", "Fixes: #12", f"APPLIED-UPSTREAM: {OTHER},", "Fixes: none",
        f"Superseded-By: {FULL[:9]}",
    ]  # fmt: skip


def test_a_paragraph_that_is_not_only_trailers_states_nothing() -> None:
    assert facts_of(patch_with(f"Fixes: {FULL}", "and more words")) == ()
    assert facts_of(patch_with(f"Fixes: {FULL}", "", "Origin: x")) == ()


def test_what_a_short_id_names() -> None:
    assert fact(FULL[:9]).names(FULL)
    assert fact(FULL).names(FULL[:9])
    assert not fact(FULL).names(OTHER)
    assert not fact(None, 12).names(FULL)


# -- lint ------------------------------------------------------------------------------------

LINTED = [
    ([f"Fixes: {FULL} (#25284), none", f"Applied-Upstream: {OTHER}, #26026, 0.5.13"], []),
    ([f"Fixes: {FULL}", f"Fixes: {OTHER}"], []),
    ([f"Fixes: {FULL}", "Applied-Upstream: 0.5.13"], []),
    (["Fixes: #12"], ["fact-unused warning 0"]),
    (["Fixes: #12, #13"], ["fact-unused warning 0"]),
    (["Fixes: none"], ["fact-unused warning 0"]),
    (["Applied-Upstream: yes"], ["fact-unused warning 0"]),
    (["applied-upstream: 89ff2b, #26026"], ["fact-unused warning 0"]),
    ([f"Fixes: {URL}/issues/12"], ["fact-unused warning 0"]),
    (["Applied-Upstream: commit:main"], ["fact-form error 0"]),
    ([f"Applied-Upstream: {URL}/commit/main"], ["fact-form error 0"]),
    ([f"Applied-Upstream: {FULL}0"], ["fact-form error 0"]),
    ([f"Applied-Upstream: {FULL[:-1]}g, #26026"], ["fact-form error 0"]),
    ([f"Applied-Upstream: {FULL}, 0.5.x"], ["fact-form error 0"]),
    ([f"Applied-Upstream: {FULL}, v0.5-final"], ["fact-form error 0"]),
    ([f"Applied-Upstream: {FULL}, {OTHER}"], ["fact-form error 0"]),
    ([f"Applied-Upstream: {FULL}, #1, #2"], ["fact-form error 0"]),
    ([f"Applied-Upstream: {FULL}, 0.5.13, none"], ["fact-form error 0"]),
    ([f"Fixes: {FULL}, 0.5.12", f"Fixes: {FULL[:12]}, 0.5.13"], ["fact-form error 1"]),
    ([f"Fixes: {FULL}, 0.5.12", f"Fixes: {FULL[:12]}, none"], ["fact-form error 1"]),
    ([f"Fixes: {FULL}, #1", f"Fixes: {FULL[:12]}, #2"], ["fact-form error 1"]),
    ([f"Fixes: {FULL}, 0.5.12", f"Fixes: {OTHER}, 0.5.13"], ["fact-doubtful warning 1"]),
    ([f"Fixes: {FULL}", f"Superseded-By: {FULL[:7]}"], ["fact-form error 1"]),
    ([f"Fixes: {FULL}, 0.5.13", f"Applied-Upstream: {OTHER}, 0.5.13"], ["fact-doubtful warning 1"]),
    ([f"Fixes: {FULL}, 0.5.12", f"Applied-Upstream: {OTHER}, 0.5.13"], []),
]  # fmt: skip


@pytest.mark.parametrize(("trailers", "expected"), LINTED, ids=[f"{n}" for n in range(len(LINTED))])
def test_lint_of_facts(team: Team, trailers: list[str], expected: list[str]) -> None:
    """Each finding names the line of its trailer."""
    text = NUMBERS.replace("line 20\n", "line 20 fixed\n")
    raw = team.patch("fix", "area: fix twenty", python__model_py=text).decode()
    path = team.root / "patches/main/fix.patch"
    path.write_text(raw.replace("Forwarded: no\n", "".join(f"{t}\n" for t in (*trailers, "Forwarded: no"))))  # fmt: skip
    first = raw[: raw.index("Forwarded: no")].count("\n") + 1
    found = [
        f"{finding.rule} {finding.level} {int(finding.where.removeprefix(f'{path}:')) - first}"
        for finding in lint(team.repository.line("main"))
    ]
    assert found == expected


def test_another_teams_use_of_fixes_does_not_block_its_series(team: Team) -> None:
    text = NUMBERS.replace("line 20\n", "line 20 fixed\n")
    raw = team.patch("fix", "area: fix twenty", python__model_py=text)
    path = team.root / "patches/main/fix.patch"
    path.write_bytes(raw.replace(b"Forwarded: no\n", b"Forwarded: no\nFixes: #12\nFixes: #13\n"))
    findings = lint(team.repository.line("main"))
    assert {finding.level.value for finding in findings} == {"warning"}


# -- writing ---------------------------------------------------------------------------------

WRITTEN = [
    # nothing yet: before the last sign-off, else at the end
    (["Origin: x", "Signed-off-by: A"], ["Origin: x", "{new}", "Signed-off-by: A"]),
    (["Origin: x"], ["Origin: x", "{new}"]),
    ([], ["{new}"]),
    # a trailer that speaks of the same commit keeps its words, and gets what it lacks
    ([f"Applied-Upstream: {FULL}"], [f"Applied-Upstream: {FULL}, #9, 0.5.13"]),
    ([f"Applied-Upstream: {FULL[:9]}, #9"], [f"Applied-Upstream: {FULL[:9]}, #9, 0.5.13"]),
    ([f"Applied-Upstream: {FULL}, #9, 0.5.12"], [f"Applied-Upstream: {FULL}, #9, 0.5.12"]),
    ([f"Applied-Upstream: {FULL}, #9, none"], [f"Applied-Upstream: {FULL}, #9, none"]),
    ([f"Applied-Upstream: {FULL}, #8, 0.5.13"], [f"Applied-Upstream: {FULL}, #8, 0.5.13"]),
    (["Applied-Upstream: 0.5.13"], [f"Applied-Upstream: 0.5.13, {FULL}, #9"]),
    (["Applied-Upstream: 0.5.13 (in part),"], [f"Applied-Upstream: 0.5.13 (in part), {FULL}, #9"]),
    (["Applied-Upstream: #9"], [f"Applied-Upstream: #9, {FULL}, 0.5.13"]),
    ([f'applied-upstream: {FULL} ("Fix"),', "  with more"], [f'applied-upstream: {FULL} ("Fix"),', "  with more, #9, 0.5.13"]),
    # one that states nothing makes place
    (["Applied-Upstream: no", "Origin: x"], ["{new}", "Origin: x"]),
    (["Applied-Upstream: none"], ["{new}"]),
    # another statement stays, and the new one follows it
    (["Applied-Upstream: #8", "Origin: x"], ["Applied-Upstream: #8", "{new}", "Origin: x"]),
    ([f"Applied-Upstream: {OTHER}", "Origin: x"], [f"Applied-Upstream: {OTHER}", "{new}", "Origin: x"]),
    (["Applied-Upstream: 0.5.12"], ["Applied-Upstream: 0.5.12", "{new}"]),
    (["Applied-Upstream: pending, see the mail"], ["Applied-Upstream: pending, see the mail", "{new}"]),
    ([f"Applied-Upstream: {FULL}, 0.5.x"], [f"Applied-Upstream: {FULL}, 0.5.x", "{new}"]),
    ([f"Superseded-By: {FULL}"], [f"Superseded-By: {FULL}", "{new}"]),
    # more than one of a kind: the one that speaks of the commit
    ([f"Applied-Upstream: {OTHER}", f"Applied-Upstream: {FULL}"], [f"Applied-Upstream: {OTHER}", f"Applied-Upstream: {FULL}, #9, 0.5.13"]),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after"), WRITTEN, ids=[f"{n}" for n in range(len(WRITTEN))])
def test_a_fact_is_written_and_no_word_is_lost(before: list[str], after: list[str]) -> None:
    new = fact(FULL, 9, "0.5.13")
    old = patch_with(*before)
    if not before:
        old = patch_with(body="Why.\n")
    raw = with_fact(old, new)
    assert raw is not None
    expected = "".join(f"{line}\n" for line in after).replace("{new}", f"{APPLIED}: {new.value}")
    assert raw.decode() == f"{HEAD}Why.\n\n{expected}{DIFF}"
    assert with_fact(parse(raw, "x"), new) == raw


def test_a_fact_without_a_pull_request_adds_none() -> None:
    raw = with_fact(patch_with(f"Applied-Upstream: {FULL[:9]}"), fact(FULL, None, "0.5.13"))
    assert raw == patch_with(f"Applied-Upstream: {FULL[:9]}, 0.5.13").raw


def test_a_message_that_can_take_no_trailer() -> None:
    assert with_fact(patch_with("Origin: x", "and more words"), fact(FULL)) is None
    latin = patch_with("Origin: é", "Signed-off-by: A").raw.replace("é".encode(), b"\xe9")
    head = HEAD.replace("Subject:", "Content-Type: text/plain; charset=iso-8859-1\nSubject:")
    encoded = parse(latin.replace(HEAD.encode(), head.encode()), "x")
    assert encoded.trailer("Origin") == "é"
    assert with_fact(encoded, fact(FULL)) is None


@pytest.mark.parametrize(
    "body", ["", "Why.\n", "Why.\n\nOrigin: x\n", "Why.\n\nSigned-off-by: A\n"]
)
def test_what_is_written_is_in_normal_form(team: Team, body: str) -> None:
    """So that it drifts neither when a fact is written nor when it is taken out."""
    git = team.upstream
    git.commit(f"fix it\n\n{body}", README_txt="fixed\n")
    raw = format_patch(git)
    written = with_fact(parse(raw, "x"), fact(FULL, 9, "0.5.13"))
    assert written is not None
    assert facts_of(parse(written, "x")) == (fact(FULL, 9, "0.5.13"),)
    git("reset", "--quiet", "--hard", "HEAD^")
    git("am", "--keep-non-patch", "--quiet", stdin=written)
    assert format_patch(git) == written
    assert without_facts(parse(written, "x"), APPLIED) == raw


def test_what_is_taken_out_leaves_the_rest_as_it_was() -> None:
    patch = patch_with(
        "Origin: x", f"applied-upstream: {FULL},", "  #9", f"Fixes: {OTHER}", "Signed-off-by: A"
    )
    rest = patch_with("Origin: x", f"Fixes: {OTHER}", "Signed-off-by: A")
    assert without_facts(patch, APPLIED) == rest.raw
    assert without_facts(rest, APPLIED) == rest.raw
    alone = with_fact(rest, fact(FULL, 9, "0.5.13"))
    assert alone is not None
    assert without_facts(parse(alone, "x"), APPLIED) == rest.raw
    assert without_facts(patch_with(f"Applied-Upstream: {FULL}"), APPLIED) == f"{HEAD}Why.\n{DIFF}".encode()  # fmt: skip


def test_a_patch_that_names_another_commit() -> None:
    patch = patch_with(f"Applied-Upstream: {OTHER}", f"Superseded-By: {FULL}")
    assert names_another(patch, fact(FULL))
    assert not names_another(patch, fact(OTHER[:9]))
    assert not names_another(patch, fact(FULL, kind=SUPERSEDED))
    assert not names_another(patch, fact(FULL, kind=FIXES))
