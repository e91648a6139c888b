"""Rebase on real git repositories: what becomes of each patch, and what is written."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fixtool.errors import CannotRun
from fixtool.git.objects import Oid
from fixtool.history import trace
from fixtool.progress import Silence
from fixtool.rebase._facts import Restored, gather
from fixtool.rebase.run import RebaseRequest, rebase
from fixtool.rebase.session import HandDecisions, load_session
from fixtool.series import shelf
from fixtool.series.context import Context
from fixtool.series.line import PatchRepository
from fixtool.settings import Settings
from fixtool.sources.source import open_source
from support.json_documents import document
from support.package_index import ARM, X86, Server, make_wheel
from support.rebase import (
    FIVE,
    FIVE_AND_TWENTY,
    FIVE_MORE,
    OTHER,
    PULL_REQUEST,
    REWRITTEN,
    SHIFTED,
    Maintainer,
    change_other_things,
    outcomes,
    rewrite,
    shift,
    take_reworded,
)
from support.repositories import NUMBERS, Git, Ran, format_patch

TWENTY = NUMBERS.replace("line 20\n", "line 20 fixed\n")
BLOB = bytes(range(256)) * 8


# -- the absorption table --------------------------------------------------------------------


def shift_and_take(git: Git) -> None:
    shift(git)
    git.commit("take it (#9)", python__model_py="line 0\n" + FIVE)


def take_and_edit_near_it(git: Git) -> None:
    git.commit("take it (#9)", python__model_py=FIVE)
    git.commit("edit near it", python__model_py=FIVE.replace("line 7\n", "line 7 more\n"))


def take_and_edit_it(git: Git) -> None:
    git.commit("take it (#9)", python__model_py=FIVE)
    git.commit("go on from there", python__model_py=FIVE.replace("5 fixed", "5 fixed more"))


def take_with_more(git: Git) -> None:
    text = FIVE.replace("line 30\n", "line 30 more\n")
    git.commit("take it, and more (#9)", python__model_py=text, README_txt="new\n")


def take_and_rename(git: Git) -> None:
    git.commit("take it (#9)", python__model_py=FIVE)
    git.commit("move", python__model_py=None, python__far__model_py=FIVE)


def take_and_revert(git: Git) -> None:
    git.commit("take it (#9)", python__model_py=FIVE)
    git("revert", "--no-edit", "HEAD")


def rename(git: Git) -> None:
    git.commit("move", python__model_py=None, python__far__model_py=NUMBERS)


def split(git: Git) -> None:
    head, line, tail = NUMBERS.partition("line 11\n")
    git.commit("split", python__model_py=line + tail, python__head_py=head)


def split_in_two(git: Git) -> None:
    head, line, tail = NUMBERS.partition("line 18\n")
    git.commit("split", python__model_py=None, python__head_py=head, python__tail_py=line + tail)


def remove(git: Git) -> None:
    git.commit("remove", python__model_py=None)


def repeat(git: Git) -> None:
    """The block comes twice, and the patch's own place is rewritten: `git apply` takes the twin."""
    git.commit("twin", python__model_py=REWRITTEN + NUMBERS)


TABLE = [
    ("identical, lines shifted", shift_and_take, "absorbed", "dropped"),
    ("identical, context edited later", take_and_edit_near_it, "absorbed", "dropped"),
    ("identical, edited itself later", take_and_edit_it, "absorbed", "dropped"),
    ("squashed in with other changes", take_with_more, "absorbed", "dropped"),
    ("file renamed later", take_and_rename, "absorbed", "dropped"),
    ("merged, then reverted", take_and_revert, "reverted", "kept"),
    ("tweaked in review, no trailer", take_reworded, "conflict", "asked"),
    ("tweaked in review, with the PR's trailer", take_reworded, "absorbed", "dropped"),
    ("file moved", rename, "merged", "rewritten"),
    ("file split", split, "merged", "rewritten"),
    ("file split in two, the old one gone", split_in_two, "merged", "rewritten"),
    ("other things changed", change_other_things, "clean", "kept"),
    ("rewritten", rewrite, "conflict", "asked"),
    ("file removed", remove, "conflict", "asked"),
    ("a twin of its place", repeat, "conflict", "asked"),
]


@pytest.mark.parametrize(
    ("case", "change", "verdict", "action"), TABLE, ids=[row[0] for row in TABLE]
)
def test_the_absorption_table(
    without_git: Maintainer, case: str, change: Callable[[Git], object], verdict: str, action: str
) -> None:
    without_git.patch_five()
    if "with the PR's trailer" in case:
        without_git.edit("five", b"Forwarded: no", PULL_REQUEST)
    change(without_git.upstream)
    rebased = without_git.rebase("--dry-run")
    assert outcomes(rebased) == {"five": (verdict, action)}
    assert rebased["exit_code"] == (3 if action == "asked" else 0)
    (patch,) = rebased["patches"]
    if verdict == "clean":
        assert patch["culprit"] is None
    elif verdict == "absorbed":
        assert patch["culprit"]["pr"] == 9
    assert patch["evidence"] or verdict == "clean"


def expect(maintainer: Maintainer, slug: str, *outcome: str) -> None:
    """A dry run says that the one patch has this verdict and action."""
    assert outcomes(maintainer.rebase("--dry-run")) == {slug: outcome}


def test_deletion_only(without_git: Maintainer) -> None:
    """A reverse apply calls a deletion absorbed wherever its context stands; a merge does not."""
    text = NUMBERS.replace("line 5\n", "")
    without_git.team.patch("gone", "take line 5 out", python__model_py=text)
    change_other_things(without_git.upstream)
    expect(without_git, "gone", "clean", "kept")
    without_git.upstream.commit("they took it out too", python__model_py=text)
    expect(without_git, "gone", "absorbed", "dropped")


def add_from_commit(maintainer: Maintainer, slug: str, **files: bytes) -> None:
    """Add a patch that is more than an edit of lines; other things change upstream meanwhile."""
    git = maintainer.upstream
    git.commit(f"{slug}\n\nSigned-off-by: A Person <person@example.org>", **files)
    maintainer.team.add(slug, format_patch(git))
    git("checkout", "--quiet", "main")
    change_other_things(git)


def test_mode_only(without_git: Maintainer) -> None:
    git = without_git.upstream
    program = git.path / "python/model.py"
    git("checkout", "--quiet", "--detach", "v1.0")
    program.chmod(0o755)
    add_from_commit(without_git, "mode")
    expect(without_git, "mode", "clean", "kept")
    program.chmod(0o755)
    git.commit("they made it one")
    expect(without_git, "mode", "absorbed", "dropped")


def test_binary(without_git: Maintainer) -> None:
    git = without_git.upstream
    git("checkout", "--quiet", "--detach", "v1.0")
    add_from_commit(without_git, "data", data_bin=BLOB)
    expect(without_git, "data", "clean", "kept")
    git.commit("their data", data_bin=BLOB[::-1])
    expect(without_git, "data", "conflict", "asked")
    git.commit("ours, taken", data_bin=BLOB)
    expect(without_git, "data", "absorbed", "dropped")


def test_partly_absorbed_keeps_the_rest(maintainer: Maintainer) -> None:
    maintainer.team.patch("both", "fix two", python__model_py=FIVE_AND_TWENTY)
    maintainer.save()
    maintainer.upstream.commit("half of it", python__model_py="line 0\n" + FIVE)
    rebased = maintainer.rebase()
    assert outcomes(rebased) == {"both": ("partly-absorbed", "rewritten")}
    text = maintainer.files()["both.patch"].decode()
    assert "+line 20 fixed" in text
    assert "+line 5 fixed" not in text
    assert rebased["warnings"] == []


# -- what a person is told -------------------------------------------------------------------


def warnings(maintainer: Maintainer) -> list[str]:
    found = maintainer.rebase("--dry-run")["warnings"]
    assert isinstance(found, list)
    return found


def test_a_patch_that_upstream_took_back_is_told(without_git: Maintainer) -> None:
    without_git.patch_five()
    take_and_revert(without_git.upstream)
    assert warnings(without_git) == ["five: upstream had it, and has it no more; it is kept"]


def test_a_cure_in_another_form_beside_which_the_text_fits_is_told(
    without_git: Maintainer,
) -> None:
    without_git.patch_five()
    without_git.edit("five", b"Forwarded: no", PULL_REQUEST)
    without_git.upstream.commit("cure it elsewhere (#9)", python__other_py=OTHER)
    assert warnings(without_git) == [
        "five: upstream took it in another form, and its text still fits"
    ]


# -- writing ---------------------------------------------------------------------------------


def test_a_line_moves_as_one_commit(maintainer: Maintainer) -> None:
    maintainer.patch_five()
    maintainer.patch_other()
    maintainer.team.patch("taken", "take beta", README_txt="read me now\n")
    toml = maintainer.folder / "upstream.toml"
    toml.write_text("# why we carry it\n" + toml.read_text())
    before = maintainer.files()
    head = maintainer.save()
    upstream, git = maintainer.upstream, maintainer.git
    took = upstream.commit("take the readme (#3)", README_txt="read me now\n")
    tip = shift(upstream)
    git.write("notes.txt", "mine, not yet committed\n")
    rebased = maintainer.rebase()
    assert outcomes(rebased) == {
        "five": ("offset", "rewritten"), "other": ("clean", "kept"), "taken": ("absorbed", "dropped"),
    }  # fmt: skip
    after = maintainer.files()
    assert after["other.patch"] == before["other.patch"]
    trailer = f"Applied-Upstream: {took}, #3\n".encode()
    assert after["shelf/taken.patch"].replace(trailer, b"") == before["taken.patch"]
    assert "taken.patch" not in after
    (shelved,) = tomllib.loads(after["shelf.toml"].decode())["patch"]
    assert (shelved["slug"], shelved["upstream"]) == ("taken", took)
    assert shelved["base"] == upstream("rev-parse", "v1.0")  # what the patch is written for
    assert after["series"] == b"# in order\nfive.patch\nother.patch\n"
    assert after["upstream.toml"].startswith(b"# why we carry it\nwhy = ")
    assert f'base = "{tip}"' in after["upstream.toml"].decode()
    assert upstream("rev-parse", f"{tip}^{{tree}}") in after["upstream.toml"].decode()
    assert git("rev-parse", "HEAD") == rebased["committed"]
    assert git("rev-parse", "HEAD^") == head
    assert git("show", "-s", "--format=%an %s") == f"A Maintainer main: rebase onto {tip[:12]}"
    of_taken = f"taken  absorbed, dropped, upstream's {took[:12]} (pull request 3)"
    assert of_taken in git("show", "-s", "--format=%b")
    evidence = {patch["slug"]: patch["evidence"] for patch in rebased["patches"]}
    assert f"its patch-id is that of {took[:12]}" in evidence["taken"]
    assert evidence["other"] == []
    assert "#3" not in git("show", "-s", "--format=%B")  # a link to something else, here
    assert git("status", "--porcelain") == "?? notes.txt"
    heads = [line.split() for line in rebased["range_diff"].split("\n") if line]
    assert [(words[0], words[2], words[3], words[5:]) for words in heads] == [
        ("1:", "=", "1:", ["fix", "five"]), ("2:", "=", "2:", ["fix", "other"]),
        ("3:", "<", "-:", ["take", "beta"]),
    ]  # fmt: skip
    assert document(maintainer.on_source("lint", "--json", "--drift"))["ok"]
    again = maintainer.rebase()
    assert (again["moved"], again["committed"], again["exit_code"]) == (False, None, 0)
    assert maintainer.files() == after
    words = ["apply", "--sglang-ref", tip, "--dry-run", "--json"]
    applied = document(maintainer.on_source(*words))
    assert [patch["verdict"] for patch in applied["patches"]] == ["clean", "clean"]
    assert applied["tree"] == rebased["tree"]


def test_a_patch_that_was_made_on_the_new_commit_is_kept(maintainer: Maintainer) -> None:
    """On the old base of the line it changes other contents, and its file stays as it is."""
    shift(maintainer.upstream)
    maintainer.team.patch("five", "fix five", base="main", python__model_py="line 0\n" + FIVE)
    maintainer.save()
    before = maintainer.files()["five.patch"]
    assert outcomes(maintainer.rebase()) == {"five": ("clean", "kept")}
    assert maintainer.files()["five.patch"] == before


def test_the_range_diff_tells_what_git_tells(maintainer: Maintainer) -> None:
    """In the form of `git range-diff`, of the commits that plain git makes of both series."""
    maintainer.patch_five()
    maintainer.patch_other()
    maintainer.save()
    upstream = maintainer.upstream
    lines = NUMBERS.split("\n")
    lines[2] += " of theirs"  # in the context of the patch
    upstream.commit("edit beside it", python__model_py="\n".join(lines))
    rebased = maintainer.rebase()
    told = rebased["range_diff"].rstrip("\n").split("\n")
    assert [line.split()[2] for line in told if line[:1].isdigit()] == ["!", "="]
    upstream("am", "--quiet", str(maintainer.folder / "five.patch"))
    words = ("range-diff", "--no-color", "--creation-factor=999")
    by_git = upstream(*words, "patch/five^..patch/five", "HEAD^..HEAD").split("\n")
    assert [line for line in told[1:] if not line[:1].isdigit()] == by_git[1:] != []


def test_what_upstream_takes_back_comes_off_the_shelf(maintainer: Maintainer) -> None:
    raw = maintainer.patch_five()
    maintainer.save()
    maintainer.upstream.commit("take it", python__model_py=FIVE)
    assert outcomes(maintainer.rebase()) == {"five": ("absorbed", "dropped")}
    maintainer.upstream("revert", "--no-edit", "HEAD")
    rebased = maintainer.rebase()
    assert rebased["patches"][0]["action"] == "restored"
    assert "took it back" in rebased["warnings"][0]
    after = maintainer.files()
    assert after["five.patch"] == raw
    assert "shelf/five.patch" not in after
    assert b"five" not in after["shelf.toml"]
    assert after["series"].endswith(b"five.patch\n")


def test_what_upstream_took_in_another_form_stays_on_the_shelf(maintainer: Maintainer) -> None:
    """Although its text would fit again: the bug is fixed elsewhere in the file."""
    maintainer.patch_five()
    maintainer.edit("five", b"Forwarded: no", PULL_REQUEST)
    maintainer.save()
    took = maintainer.upstream.commit("another form (#9)", python__model_py=TWENTY)
    assert outcomes(maintainer.rebase()) == {"five": ("absorbed", "dropped")}
    change_other_things(maintainer.upstream)
    assert maintainer.rebase()["patches"] == []
    maintainer.upstream("revert", "--no-edit", took)
    assert maintainer.rebase()["patches"][0]["action"] == "restored"


def test_a_patch_comes_off_the_shelf_where_its_bug_is(maintainer: Maintainer) -> None:
    """A line that moves to an older commit may not need a patch there; later it does again."""
    bug = shift(maintainer.upstream)
    maintainer.team.line(base=bug)
    fixed = SHIFTED.replace("line 5\n", "line 5 fixed\n")
    raw = maintainer.team.patch("five", "fix five", base=bug, python__model_py=fixed)
    maintainer.edit("five", b"Signed-off-by:", f"Fixes: {bug}\nSigned-off-by:".encode())
    raw = maintainer.files()["five.patch"]
    maintainer.save()
    git = maintainer.upstream
    git("branch", "older", "v1.0")
    for name in ("one", "two"):
        git("checkout", "--quiet", "older")
        git.commit(name, README_txt=name)
        words = ["rebase", "--json", "--onto", git.head()]
        rebased = document(maintainer.on_source(*words))
        # The second time it stays where it is.
        assert outcomes(rebased) == ({"five": ("not-needed", "dropped")} if name == "one" else {})
        assert maintainer.files()["shelf/five.patch"] == raw
    git("checkout", "--quiet", "main")
    rebased = maintainer.rebase()
    assert outcomes(rebased) == {"five": ("clean", "restored")}
    assert rebased["warnings"] == ["five: its bug is there again; it is in the series again"]
    assert maintainer.files()["five.patch"] == raw


@pytest.mark.parametrize("reason", ["absorbed", "superseded"])
def test_a_line_that_moves_back_gets_its_patch_back(maintainer: Maintainer, reason: str) -> None:
    """The patch once stayed on the shelf, although upstream did not have it yet, and nothing said so."""
    maintainer.patch_five()
    maintainer.patch_other()
    git = maintainer.upstream
    older = change_other_things(git)
    cured = take_reworded(git)
    key = "Applied-Upstream" if reason == "absorbed" else "Superseded-By"
    maintainer.edit("five", b"Signed-off-by:", f"{key}: {cured}, #9\nSigned-off-by:".encode())
    raw = maintainer.files()["five.patch"]
    maintainer.save()
    assert outcomes(maintainer.rebase())["five"] == (reason, "dropped")

    def move_to(ref: str) -> dict[str, Any]:
        words = ["rebase", "--json", "--onto", ref]
        return document(maintainer.on_source(*words))

    # A release branch may have taken it under another id, as its recorded facts tell.
    git("checkout", "--quiet", "-b", "release", older)
    git.commit("prepare the release", notes_txt="notes\n")
    git("cherry-pick", cured)
    assert outcomes(move_to(git.head())) == {"other": ("clean", "kept")}
    rebased = move_to(older)
    assert outcomes(rebased) == {"other": ("clean", "kept"), "five": ("clean", "restored")}
    why = "five: upstream has neither it nor another cure yet on this commit; it is in the series again"
    assert rebased["warnings"] == [why]
    assert maintainer.files()["five.patch"] == raw  # it still says where upstream has it
    git("checkout", "--quiet", "main")
    assert outcomes(maintainer.rebase())["five"] == (reason, "dropped")


def test_a_line_that_moves_from_a_release_to_a_commit(
    maintainer: Maintainer, settings: Settings
) -> None:
    """A patch of its shelf was written for a commit, and upstream took it and took it back since:
    the history between commits says so, whatever the line is for now."""
    raw, git = maintainer.patch_five(), maintainer.upstream
    base = git("rev-parse", "v1.0")
    took = git.commit("take it (#9)", python__model_py=FIVE)
    git("revert", "--no-edit", "HEAD")
    folder = maintainer.folder
    toml = folder / "upstream.toml"
    toml.write_text(toml.read_text() + 'release = "1.0"\n')
    (folder / "series").write_text("# none\n")
    (folder / "five.patch").rename(folder / "here")
    (folder / "shelf").mkdir()
    (folder / "here").rename(folder / "shelf/five.patch")
    shelved = shelf.Shelved("five", "upstream has it", Oid(base), shelf.Reason.ABSORBED, took)
    (folder / shelf.FILE).write_bytes(shelf.text([shelved]))
    context = Context(maintainer.team.repository, settings)
    source = open_source(str(git.path), settings, "", Silence())
    line, target = context.repository.line("main"), source.resolve("main")
    facts = gather(context, line, source, target, HandDecisions(), None)
    assert facts.restored == {"five": Restored.TAKEN_BACK}
    assert facts.patch("five").raw == raw


def test_what_a_rebase_asks_for_by_default(maintainer: Maintainer, settings: Settings) -> None:
    """The line is the one of the settings, and no probe is run, now or when the rebase goes on."""
    maintainer.patch_five()
    maintainer.team.line("other")
    maintainer.save()
    rewrite(maintainer.upstream)
    source = str(maintainer.upstream.path)
    context = Context(maintainer.team.repository, replace(settings, source=source, line="main"))
    rebased = rebase(context, RebaseRequest("main"))
    assert (rebased.line, rebased.parked and rebased.parked.slug) == ("main", "five")
    session = load_session(context, "main")
    assert session is not None
    assert not session.probe


@pytest.mark.parametrize("fact", ["#9, 1.2", "#9"])
def test_a_line_that_moves_back_to_an_older_release(
    maintainer: Maintainer, server: Server, fact: str
) -> None:
    """A release has no commits, but a version. Where no release is recorded, the patch stays on the
    shelf: nobody knows which releases have it."""
    cured = FIVE.replace("5 fixed", "5 mended") if "1.2" in fact else FIVE
    releases = {
        "1.0": NUMBERS,
        "1.1": NUMBERS + "more\n",
        "1.2": cured,
        "1.3": cured + "more\n",
    }
    for version, text in releases.items():
        make_wheel(server.folder, version, files={"model.py": text.encode()})
    raw = maintainer.patch_five()
    raw = raw.replace(b"Signed-off-by:", f"Applied-Upstream: {fact}\nSigned-off-by:".encode())
    root, line = maintainer.team.root, ["--line", "released"]
    maintainer.fixtool("init", root, "--upstream", "pypi", "--base", "1.0", *line)
    maintainer.team.add("five", raw, "released")
    maintainer.save()
    outcome = {
        "1.2": {"five": ("absorbed", "dropped")},
        "1.3": {},
        "1.1": {"five": ("clean", "restored")} if "1.2" in fact else {},
    }
    for version, expected in outcome.items():
        words = ["rebase", "--json", "--onto", version, "--source", "pypi"]
        rebased = document(maintainer.run(*words, *line))
        assert outcomes(rebased) == expected
    name = "five.patch" if "1.2" in fact else "shelf/five.patch"
    assert f"\nApplied-Upstream: {fact}\n".encode() in maintainer.files("released")[name]


def test_what_a_branch_has_under_another_name_stays_on_the_shelf(maintainer: Maintainer) -> None:
    """Only the text tells that the branch has it."""
    maintainer.patch_five()
    maintainer.save()
    git = maintainer.upstream
    older = change_other_things(git)
    git.commit("take it", python__model_py=FIVE)
    maintainer.rebase()
    before = maintainer.files()
    git("checkout", "--quiet", "-b", "release", older)
    git.commit("theirs", python__model_py="line 0\n" + FIVE)
    rebased = document(maintainer.on_source("rebase", "--json", "--onto", git.head()))
    assert outcomes(rebased) == {"five": ("absorbed", "dropped")}
    after = maintainer.files()
    assert {**after, "upstream.toml": b""} == {**before, "upstream.toml": b""}


def test_what_a_person_put_on_the_shelf_stays_there(maintainer: Maintainer) -> None:
    """Although upstream takes it, and takes it back."""
    maintainer.patch_five()
    maintainer.save()
    git = maintainer.upstream
    rewrite(git)
    assert outcomes(maintainer.rebase()) == {"five": ("conflict", "asked")}
    maintainer.resume("--skip")
    git.commit("take it", python__model_py=FIVE)
    git.commit("take it back", python__model_py=NUMBERS)
    assert maintainer.rebase()["patches"] == []
    words = ["rebase", "--json", "--onto", git("rev-parse", "v1.0")]  # from before the conflict
    assert document(maintainer.on_source(*words))["patches"] == []


def test_a_patch_comes_off_the_shelf_when_another_cure_is_taken_back(
    maintainer: Maintainer,
) -> None:
    maintainer.patch_five()
    cured = take_reworded(maintainer.upstream)
    trailer = f"Superseded-By: {cured}, #9\nSigned-off-by:".encode()
    maintainer.edit("five", b"Signed-off-by:", trailer)
    maintainer.save()
    assert outcomes(maintainer.rebase()) == {"five": ("superseded", "dropped")}
    change_other_things(maintainer.upstream)
    assert maintainer.rebase()["patches"] == []
    maintainer.upstream("revert", "--no-edit", cured)
    rebased = maintainer.rebase()
    assert outcomes(rebased) == {"five": ("clean", "restored")}
    why = "five: upstream had it, or another cure, and took it back; it is in the series again"
    assert rebased["warnings"] == [why]


def test_comments_of_a_series_stay_with_their_patches(maintainer: Maintainer) -> None:
    maintainer.patch_five()
    maintainer.patch_other()
    series = maintainer.folder / "series"
    series.write_text("# first\nfive.patch\n# second\nother.patch # why\n# end\n")
    maintainer.save()
    maintainer.upstream.commit("take it", python__model_py=FIVE)
    maintainer.rebase()
    assert series.read_text() == "# first\n# second\nother.patch # why\n# end\n"


def test_dry_run_and_new_line_leave_the_line_alone(shifted: Maintainer) -> None:
    before = shifted.files()
    assert shifted.rebase("--dry-run")["moved"]
    assert shifted.files() == before
    rebased = shifted.rebase("--new-line", "next")
    assert shifted.files() == before
    assert rebased["committed"]
    assert b"@@ -3,7 +3,7 @@" in shifted.files("next")["five.patch"]
    words = ["rebase", "--onto", "main", "--line", "main", "--new-line", "next"]
    ran = shifted.on_source(*words)
    assert (ran.status, "there is a line 'next' already" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("style", "days"),
    [
        ("json", ["2026-05-23", "2026-06-11"]),
        ("html", ["2026-01-02", "2026-01-02"]),  # gives no upload: the day of the wheel's files
    ],
)
def test_a_line_on_a_release_bears_the_day_of_its_publication(
    style: str, days: list[str], server: Server, fixtool: Callable[..., Ran], tmp_path: Path
) -> None:
    """The commit that a release becomes is dated 2000-01-01, so that it is the same everywhere."""
    server.style = style
    server.uploads = {
        make_wheel(server.folder, "1.0", ARM).name: "2026-05-24T00:10:00Z",
        make_wheel(server.folder, "1.0", X86).name: "2026-05-24T01:10:00.5+02:00",
        make_wheel(server.folder, "1.1", files={"sglang/a.py": b""}).name: "2026-06-11T10:16:42Z",
    }
    own = tmp_path / "own"
    assert fixtool("init", own, "--upstream", "pypi", "--base", "1.0").status == 0
    words = ["--source", "pypi", "--line", "v1.0", "--onto", "1.1", "--new-line", "v1.1"]
    assert fixtool("rebase", *words, "-C", own).status == 0
    lines = PatchRepository.find(own).lines
    assert [line.upstream.date for line in lines] == days


@pytest.fixture
def shifted(maintainer: Maintainer) -> Maintainer:
    """A line of one patch whose lines upstream has shifted."""
    maintainer.patch_five()
    maintainer.save()
    shift(maintainer.upstream)
    return maintainer


def test_what_is_not_committed_is_not_risked(shifted: Maintainer) -> None:
    series = shifted.folder / "series"
    series.write_text(series.read_text() + "# mine\n")
    ran = shifted.on_source("rebase", "--onto", "main")
    assert ran.status == 1
    assert "is not committed" in ran.err
    assert "# mine" in series.read_text()


def test_a_line_that_changed_meanwhile_is_not_overwritten(without_git: Maintainer) -> None:
    """The probe edits the patch, as a colleague may while a rebase runs."""
    without_git.patch_five()
    without_git.add_probe("five", "no such line")
    path = without_git.folder / "five.patch"
    probe = without_git.team.root / "verify/probes/five.py"
    edit = f"path = pathlib.Path({str(path)!r})\npath.write_text(path.read_text().replace('Why.', 'Because.'))\n"
    probe.write_text(probe.read_text().replace("text = ", f"{edit}text = "))
    shift(without_git.upstream)
    before = without_git.files()
    words = ["rebase", "--onto", "main", "--probe", "--python", sys.executable]
    ran = without_git.on_source(*words)
    assert (ran.status, "line main was changed meanwhile" in ran.err) == (1, True)
    expected = before["five.patch"].replace(b"Why.", b"Because.")
    assert without_git.files() == before | {"five.patch": expected}


def test_a_tag_is_a_commit_and_no_release(maintainer: Maintainer) -> None:
    """The package index, which has the release, has another tree under that name."""
    maintainer.patch_five()
    maintainer.save()
    tip = shift(maintainer.upstream)
    maintainer.upstream("tag", "v1.1")
    document(maintainer.on_source("rebase", "--json", "--onto", "v1.1"))
    about = maintainer.team.repository.line("main").upstream
    assert (about.base, about.release, about.version) == (tip, None, "1.1")


def test_git_must_know_who_commits(shifted: Maintainer) -> None:
    shifted.git("config", "user.useConfigOnly", "true")
    shifted.git("config", "--unset", "user.email")
    before = shifted.files()
    ran = shifted.on_source("rebase", "--onto", "main")
    assert (ran.status, "git does not know who you are" in ran.err) == (4, True)
    assert shifted.files() == before


def test_without_git_the_line_is_written_and_that_is_said(without_git: Maintainer) -> None:
    without_git.patch_five()
    shift(without_git.upstream)
    ran = without_git.on_source("rebase", "--onto", "main")
    assert ran.status == 0
    assert "no git repository tracks" in ran.out


def test_a_history_that_cannot_be_read_is_told(
    without_git: Maintainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise CannotRun("the disk is full")

    monkeypatch.setattr(trace, "history", fail)
    without_git.patch_five()
    shift(without_git.upstream)
    warnings = without_git.rebase("--dry-run")["warnings"]
    assert "text alone decided: the disk is full" in warnings[0]


# -- probes ----------------------------------------------------------------------------------


def test_a_probe_turns_a_conflict_into_superseded(maintainer: Maintainer) -> None:
    maintainer.patch_five()
    maintainer.add_probe("five", "line V")
    maintainer.save()
    rewrite(maintainer.upstream)
    expect(maintainer, "five", "conflict", "asked")
    rebased = maintainer.rebase_with_probes()
    assert outcomes(rebased) == {"five": ("superseded", "dropped")}
    assert rebased["patches"][0]["probe"] == {"before": 0, "after": None}
    assert b'verdict = "superseded"' in maintainer.files()["shelf.toml"]
    cured = maintainer.upstream.head()
    trailer = f"\nSuperseded-By: {cured}, #12\n".encode()
    assert trailer in maintainer.files()["shelf/five.patch"]


def test_a_probe_says_that_a_patch_is_not_needed(maintainer: Maintainer) -> None:
    maintainer.patch_five()
    maintainer.add_probe("five", "line 30")
    maintainer.save()
    change_other_things(maintainer.upstream)
    rebased = maintainer.rebase_with_probes()
    assert outcomes(rebased) == {"five": ("not-needed", "kept")}
    assert "fixtool drop five" in rebased["warnings"][0]
    assert "five.patch" in maintainer.files()


def test_a_probe_that_finds_the_bug_outweighs_what_upstream_says(maintainer: Maintainer) -> None:
    maintainer.patch_five()
    maintainer.edit("five", b"Forwarded: no", PULL_REQUEST)
    maintainer.add_probe("five", "no such line")
    maintainer.save()
    take_reworded(maintainer.upstream)
    expect(maintainer, "five", "absorbed", "dropped")
    rebased = maintainer.rebase_with_probes("--dry-run")
    assert outcomes(rebased) == {"five": ("conflict", "asked")}


# -- drop, deps, refresh, history ------------------------------------------------------------


def test_deps_are_found_by_applying(without_git: Maintainer) -> None:
    """C needs A, not B."""
    without_git.team.patch("a", "change five", python__model_py=FIVE)
    without_git.team.patch("b", "change other", python__other_py=OTHER)
    without_git.team.patch("c", "five more", base="patch/a", python__model_py=FIVE_MORE)
    listed = document(without_git.on_source("deps", "--json"))
    needs = {
        patch["slug"]: (patch["derived"], patch["closure"], patch["breaks"])
        for patch in listed["patches"]
    }
    assert needs == {"a": ([], [], ["c"]), "b": ([], [], []), "c": (["a"], ["a"], [])}


def test_drop(maintainer: Maintainer) -> None:
    raw = maintainer.team.patch("a", "add a line", python__model_py=SHIFTED)
    text = SHIFTED.replace("line 20\n", "line 20 fixed\n")
    maintainer.team.patch("b", "fix twenty", base="patch/a", python__model_py=text)
    maintainer.save()
    words = ["drop", "a", "--reason", "of no use", "--json"]
    dropped = document(maintainer.on_source(*words))["dropped"]
    assert (dropped["slug"], dropped["rewritten"]) == ("a", ["b"])
    after = maintainer.files()
    assert after["shelf/a.patch"] == raw
    assert b'why = "of no use"' in after["shelf.toml"]
    assert after["series"] == b"# in order\nb.patch\n"
    assert maintainer.git("show", "-s", "--format=%s") == "main: drop a"
    assert document(maintainer.on_source("lint", "--json", "--drift"))["ok"]


def test_drop_refuses_what_others_need(without_git: Maintainer) -> None:
    without_git.team.patch("a", "change five", python__model_py=FIVE)
    without_git.team.patch("c", "five more", base="patch/a", python__model_py=FIVE_MORE)
    before = without_git.files()
    ran = without_git.on_source("drop", "a", "--reason", "x")
    assert (ran.status, "c would not apply without a" in ran.err) == (1, True)
    assert without_git.files() == before


def test_refresh_writes_one_patch(without_git: Maintainer, tmp_path: Path) -> None:
    without_git.patch_five()
    without_git.team.patch("other", "fix other", base="patch/five", python__other_py=OTHER)
    tree = Git(tmp_path / "place")
    words = ["apply", "--sglang-ref", "v1.0", "--worktree", tree.path, "--no-build"]
    without_git.on_source(*words)
    tree.write("python/other.py", (tree.path / "python/other.py").read_text() + "delta\n")
    tree("commit", "--all", "--amend", "--no-edit")
    before = without_git.files()
    refresh = without_git.fixtool
    assert refresh("refresh", "five", "--worktree", tree.path).status == 0
    assert without_git.files() == before
    refreshed = document(refresh("refresh", "other", "--worktree", tree.path, "--json"))
    assert [patch["change"] for patch in refreshed["patches"]] == ["rewritten"]
    assert b"+delta" in without_git.files()["other.patch"]


def test_history_for_people_and_programs(without_git: Maintainer) -> None:
    without_git.patch_five()
    rewrite(without_git.upstream)
    words = ["history", "--to", "main"]
    (patch,) = document(without_git.on_source(*words, "--json"))["patches"]
    assert [interval["verdict"] for interval in patch["intervals"]] == ["clean", "conflict"]
    assert patch["intervals"][1]["culprit"]["pr"] == 12
    text = without_git.on_source(*words, "five", "-v").out
    assert "rewrite five (#12) (A Person)" in text
    assert "conflict in python/model.py" in text
    ran = without_git.on_source(*words, "nope")
    assert (ran.status, "no patch 'nope'" in ran.err) == (2, True)


def test_history_of_a_source_without_one(without_git: Maintainer) -> None:
    ran = without_git.run("history", "--source", "pypi")
    assert (ran.status, "releases have no commits" in ran.err) == (2, True)


# -- words that do not fit -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give one of --onto REF"),
        (["--onto", "main", "--abort"], "--onto begins a rebase"),
        (["--skip"], "no rebase waits"),
        (["--onto", "--upload-pack=x"], ""),
        (["--onto", "nowhere"], "nowhere"),
        (["--onto", "main", "--new-line", "../x"], "cannot be the name of a line"),
        (["--onto", "main", "--line", "no"], "no line 'no'"),
    ],
)
def test_words_that_do_not_fit(without_git: Maintainer, words: list[str], message: str) -> None:
    without_git.patch_five()
    before = without_git.files()
    run = without_git.on_source if "--onto" in words else without_git.run
    ran = run("rebase", *words)
    assert ran.status in (2, 4)
    assert message in ran.err
    assert without_git.files() == before
