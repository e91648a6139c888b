"""The verbs that edit a series: new, edit, reword, move, rename, squash, copy and restore. Each is
one commit, leaves a series that is well formed, and waits in a work tree where a person is needed.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from fixtool.series.patch import parse
from fixtool.series.strict import apply_in_memory, commits_on
from support.editing import AGAIN, FIVE, SERIES, Editing, copied, make_team
from support.json_documents import document
from support.repositories import NUMBERS, TRAILERS, Git, Ran, Team, format_patch


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, made_upstream: Path) -> Team:
    return make_team(tmp_path_factory.mktemp("editing"), made_upstream)


@pytest.fixture
def editing(made: Team, tmp_path: Path, fixtool: Callable[..., Ran]) -> Editing:
    return copied(made, tmp_path, fixtool)


@pytest.fixture
def worktree(home: Path) -> Callable[[], Git]:
    """The work tree in which an edit waits."""

    def find() -> Git:
        (folder,) = (home / "state" / "worktrees").glob("*/edit-main")
        return Git(folder)

    return find


@pytest.fixture
def waits(home: Path) -> Callable[[], bool]:
    """Whether an edit waits, or has left anything behind."""

    def ask() -> bool:
        trees = list((home / "state" / "worktrees").glob("*/edit-*"))
        return bool(trees) or bool(list((home / "state" / "edit").glob("*.json")))

    return ask


def changes(edited: dict[str, Any]) -> list[tuple[str, str]]:
    return [(patch["slug"], patch["change"]) for patch in edited["patches"]]


# -- verbs that need nobody ------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "within"])
@pytest.mark.parametrize("other", ["again.patch", "series"])
def test_what_another_run_writes_meanwhile_stays(editing: Editing, when: str, other: str) -> None:
    """Until the new files were made, it was not seen: it was written over, or ended in a fault."""
    files = editing.files()
    newer = files[other].replace(b"again", b"once more")
    if other == "series":
        newer = files[other].replace(b"again.patch\n", b"")
    module = "fixtool.edit.sequence"
    maker_of = importlib.import_module(module)._Maker
    real = maker_of._files

    def meanwhile(maker: Any, *given: Any) -> Any:
        (maker.line.folder / other).write_bytes(newer)
        return real(maker, *given)

    def before(objects: Any, own: Any, plan: Any) -> Any:
        (own.line.folder / other).write_bytes(newer)
        return maker_of(objects, own, plan).make()

    place = f"{module}._Maker._files" if when == "within" else "fixtool.edit.waiting.make"
    with mock.patch(place, meanwhile if when == "within" else before):
        ran = editing.run("move", "other", "--before", "five")
    assert (ran.status, "line main was changed meanwhile" in ran.err) == (1, True)
    assert editing.files() == {**files, other: newer}


def test_move(editing: Editing) -> None:
    tree, old = editing.tree(), editing.files()
    done = editing.edit("move", "other", "--before", "twenty")
    assert done["series"] == editing.slugs == ["five", "other", "twenty", "again"]
    assert (changes(done), done["tree"], editing.tree()) == ([], tree, tree)
    text = "# the series\nfive.patch # see 7\nother.patch\ntwenty.patch\n# last\nagain.patch\n"
    assert editing.files() == {**old, "series": text.encode()}
    subject = editing.git("log", "-1", "--format=%s", done["committed"])
    assert subject == "main: move other before twenty"
    editing.require_well_formed()
    assert editing.edit("move", "twenty", "--after", "again")["tree"] == tree
    editing.require_well_formed()
    same = editing.run("move", "twenty", "--after", "again")
    assert "an earlier run had done this already" in same.out
    assert "nothing was changed" in editing.run("move", "other", "--before", "again").out


def test_rename(editing: Editing) -> None:
    (editing.folder / "shelf").mkdir()
    shelved = (editing.folder / "again.patch").read_bytes()
    (editing.folder / "shelf" / "old.patch").write_bytes(shelved)
    base = editing.line.upstream.base
    toml = f'[[patch]]\nslug = "old"\nwhy = "x"\nbase = "{base}"\n'
    (editing.folder / "shelf.toml").write_text(toml)
    (editing.folder / "resolutions").mkdir()
    resolution = editing.folder / "resolutions" / f"{'a' * 40}.diff"
    resolution.write_text(f"# five onto {base}\nrest\n")
    editing.git.write("verify/mutants/m.toml", 'patch = "five"\n')
    editing.git.commit("more")
    done = editing.edit("rename", "five", "line-five")
    assert done["patches"][0] == {
        "slug": "line-five", "subject": "change five", "change": "renamed", "was": "five"
    }  # fmt: skip
    assert changes(done)[1:] == [("again", "rewritten")]
    assert done["notes"] == ["verify/mutants/m.toml names five: name line-five"]
    assert editing.line.find("again").depends_on == ("line-five",)
    moved = parse((editing.folder / "shelf" / "old.patch").read_bytes(), "old")
    assert (moved.depends_on, moved.diff) == (("line-five",), parse(shelved, "old").diff)
    assert resolution.read_text() == f"# line-five onto {base}\nrest\n"
    text = SERIES.replace("five.patch", "line-five.patch")
    assert (editing.folder / "series").read_text() == text
    assert not (editing.folder / "five.patch").exists()
    editing.require_well_formed()
    again = editing.run("rename", "five", "line-five")
    assert (again.status, "an earlier run had done this already" in again.out) == (0, True)


def test_rename_on_the_shelf(editing: Editing) -> None:
    """It had to be restored first, which may conflict."""
    assert editing.run("drop", "twenty", "--reason", "no use").status == 0
    path = editing.folder / "again.patch"
    path.write_bytes(path.read_bytes().replace(b"Depends-On: five", b"Depends-On: twenty"))
    (editing.folder / "resolutions").mkdir()
    resolution = editing.folder / "resolutions" / f"{'a' * 40}.diff"
    resolution.write_text(f"# twenty onto {'b' * 40}\nrest\n")
    editing.git.commit("more")
    old, raw = editing.files(), (editing.folder / "shelf/twenty.patch").read_bytes()
    planned = editing.edit("rename", "twenty", "score", "--dry-run")
    assert (planned["changed"], editing.files()) == (True, old)
    done = editing.edit("rename", "twenty.patch", "score")
    assert done["notes"] == ["twenty is on the shelf, and is score there now"]
    assert changes(done) == [("again", "rewritten")]
    assert editing.line.find("again").depends_on == ("score",)
    assert (editing.folder / "shelf/score.patch").read_bytes() == raw
    assert not (editing.folder / "shelf/twenty.patch").exists()
    assert resolution.read_text() == f"# score onto {'b' * 40}\nrest\n"
    assert editing.git("log", "-1", "--format=%s") == "main: rename twenty to score"
    assert editing.git("status", "--porcelain") == ""
    for words, why in ((("score", "five"), "has a patch 'five' already"),
                       (("five", "score"), "the shelf of line main has a patch 'score'"),
                       (("nope", "x"), "no patch 'nope'")):  # fmt: skip
        ran = editing.run("rename", *words)
        assert (ran.status, why in ran.err) == (2, True), ran.err
    restored = editing.edit("restore", "score", "--after", "five")
    assert restored["series"] == ["five", "score", "other", "again"]
    editing.require_well_formed()


@pytest.mark.parametrize("how", ["-m", "--file", "GIT_EDITOR", "core.editor"])
def test_reword(editing: Editing, how: str, tmp_path: Path) -> None:
    old, diff = editing.files(), editing.line.find("five").diff
    message = f"a new subject\n\n# A new text.\n\n{TRAILERS}\n"
    (tmp_path / "message").write_text(message)
    words: list[str | Path] = ["-m", "a new subject", "-m", "# A new text.", "-m", TRAILERS]
    environment = {}
    if how == "--file":
        words = ["--file", tmp_path / "message"]
    elif how != "-m":
        words = []
        script = tmp_path / "editor"
        keep = f"sed -n '/>8/,$p' \"$1\" >'{tmp_path}/rest'"
        script.write_text(
            f"#!/bin/sh\n{keep}; cat '{tmp_path}/message' '{tmp_path}/rest' >\"$1\"\n"
        )
        script.chmod(0o755)
        if how == "GIT_EDITOR":
            environment["GIT_EDITOR"] = str(script)
        else:
            config = f"[core]\neditor = {script}\n"
            Path(tmp_path / "config").write_text(config)
            environment["GIT_CONFIG_GLOBAL"] = str(tmp_path / "config")
    done = editing.edit("reword", "five", *words, **environment)
    assert changes(done) == [("five", "rewritten")]
    five = editing.line.find("five")
    assert (five.message, five.diff) == (message, diff)
    assert editing.files() == {**old, "five.patch": five.raw}
    editing.require_well_formed()


def test_what_an_editor_wrote_is_kept_if_lint_refuses_it(
    editing: Editing, home: Path, tmp_path: Path
) -> None:
    old = editing.files()
    wrong = "short\n\nApplied-Upstream: 0123456789ab, 0123456789cd"
    editor = tmp_path / "editor"  # which leaves the help below the message
    editor.write_text(f"""#!/bin/sh
text=$(sed -n '/ >8 /,$p' "$1"); printf '%s\\n%s\\n' '{wrong}' "$text" > "$1"
""")
    editor.chmod(0o755)
    ran = editing.run("reword", "five", GIT_EDITOR="printf '' >")
    assert (ran.status, "the message is empty" in ran.err) == (1, True)
    ran = editing.run("reword", "five", GIT_EDITOR=str(editor))
    kept = home / "state" / "edit" / "main-five.txt"
    assert (ran.status, f"five --file {kept}" in ran.err) == (1, True)
    assert kept.read_text() == f"{wrong}\n"
    assert editing.files() == old
    ran = editing.run("reword", "five", GIT_EDITOR="false")
    assert (ran.status, "exit code 1" in ran.err) == (4, True)
    ran = editing.run("reword", "five", GIT_EDITOR="", EDITOR="", VISUAL="", TERM="dumb")
    assert (ran.status, "no editor is set" in ran.err) == (2, True)


def test_squash(editing: Editing) -> None:
    tree = editing.tree()
    done = editing.edit("squash", "other", "five", "--name", "both")
    assert done["series"] == editing.slugs == ["both", "twenty", "again"]
    assert changes(done) == [("both", "renamed"), ("again", "rewritten"), ("other", "removed")]
    both = editing.line.find("both")
    assert both.message == (
        f"change five\n\nWhy five.\n\nchange other\n\nWhy other.\n\n{TRAILERS}\n"
    )
    assert both.paths == {"python/model.py", "python/other.py"}
    assert editing.line.find("again").depends_on == ("both",)
    assert editing.tree() == done["tree"] == tree
    editing.require_well_formed()
    text = f"all of it\n\nText.\n\n{TRAILERS}"
    editing.edit("squash", "both", "twenty", "again", "-m", text)
    assert (editing.slugs, editing.tree()) == (["both"], tree)
    assert editing.line.find("both").message == f"{text}\n"
    editing.require_well_formed()


def test_copy(editing: Editing) -> None:
    git = editing.team.upstream
    git("checkout", "--quiet", "--detach", "v1.0")
    later = git.commit("later", python__model_py=f"new\n{NUMBERS}")
    editing.team.line("next", later)
    editing.git.commit("a line")
    done = editing.edit("copy", "five", "--line", "main", "--to", "next")
    assert (done["line"], changes(done)) == ("next", [("five", "added")])
    (five,) = editing.team.repository.line("next").patches
    assert five.message == editing.line.find("five").message
    editing.edit("copy", "twenty", "--line", "main", "--to", "next", "--before", "five")
    assert [patch.slug for patch in editing.team.repository.line("next").patches] == [
        "twenty", "five"
    ]  # fmt: skip
    for line in ("main", "next"):
        ran = editing.run("lint", "--drift", "--line", line)
        assert ran.status == 0, ran.out
    needs = editing.run("copy", "again", "--line", "main", "--to", "next", "--before", "twenty")
    assert (needs.status, "again depends on five" in needs.err) == (1, True)
    assert "fixtool copy" in needs.err
    assert "again --line main --to next --after five\n" in needs.err


@pytest.mark.parametrize("place", [[], ["--after", "again"]])
def test_restore(editing: Editing, place: list[str]) -> None:
    tree = editing.tree()
    assert editing.run("drop", "twenty", "--reason", "no use").status == 0
    done = editing.edit("restore", "twenty", *place)
    order = ["five", "twenty", "other", "again"]
    assert done["series"] == (order if not place else ["five", "other", "again", "twenty"])
    assert (changes(done)[0], editing.tree()) == (("twenty", "added"), tree) or place
    assert editing.tree() == tree
    assert not (editing.folder / "shelf").exists()
    assert not (editing.folder / "shelf.toml").exists()
    editing.require_well_formed()


@pytest.mark.parametrize("commit", [(), ("--no-commit",)])
def test_what_was_renamed_on_the_shelf_comes_back_to_its_place(
    editing: Editing, commit: tuple[str, ...]
) -> None:
    """Also if it got two names, and if another patch went to the shelf in between."""
    assert editing.run("drop", "twenty", "--reason", "no use").status == 0
    editing.edit("rename", "twenty", "score")
    assert editing.run("drop", "other", "--reason", "no use").status == 0
    editing.edit("rename", "score", "a-score", *commit)
    done = editing.edit("restore", "a-score", *commit)
    assert done["series"] == ["five", "a-score", "again"]


def test_no_commit_and_dry_run(editing: Editing) -> None:
    old, head = editing.files(), editing.git.head()
    words = ("move", "other", "--before", "twenty")
    planned = editing.edit(*words, "--dry-run")
    assert (planned["series"], editing.files()) == (["five", "other", "twenty", "again"], old)
    done = editing.edit(*words, "--no-commit")
    assert (done["committed"], editing.git.head()) == (None, head)
    assert editing.slugs == ["five", "other", "twenty", "again"]
    assert editing.edit("move", "twenty", "--before", "other", "--no-commit")["committed"] is None
    assert (editing.slugs, editing.git.head()) == (["five", "twenty", "other", "again"], head)
    ran = editing.run(*words)
    assert (ran.status, "is not committed" in ran.err) == (1, True)
    ran = editing.run("drop", "twenty", "--reason", "no use", "--no-commit")
    assert (ran.status, "; nothing was committed" in ran.out) == (0, True), ran.err
    assert (editing.slugs, editing.git.head()) == (["five", "other", "again"], head)
    assert editing.edit("restore", "twenty", "--no-commit")["committed"] is None
    assert editing.slugs == ["five", "twenty", "other", "again"], "its place is the committed one"
    assert {name for name, raw in editing.files().items() if raw != old.get(name)} == {"series"}


# -- a person changes a patch ----------------------------------------------------------------


def test_edit(editing: Editing, worktree: Callable[[], Git], waits: Callable[[], bool]) -> None:
    old = editing.files()
    stopped = editing.edit("edit", "five")
    assert (stopped["waiting"]["slug"], stopped["waiting"]["conflicts"]) == ("five", [])
    assert stopped["waiting"]["next"] == "fixtool edit --continue --line main"
    tree = worktree()
    assert tree("log", "-1", "--format=%s") == "change five"
    tree.write("python/model.py", FIVE.replace("line 35\n", "line XXXV\n"))
    tree.write("docs/new.txt", "new\n")
    assert editing.files() == old
    early = editing.run("edit", "--continue")
    assert (early.status, "docs/new.txt is new, and not added" in early.err) == (1, True)
    other = editing.run("move", "other", "--before", "twenty")
    assert (other.status, "an edit of line main waits at five" in other.err) == (1, True)
    tree("add", "docs/new.txt")
    done = editing.edit("edit", "--continue")
    assert changes(done) == [
        ("five", "rewritten"), ("twenty", "rewritten"), ("again", "rewritten")
    ]  # fmt: skip
    assert editing.line.find("five").paths == {"python/model.py", "docs/new.txt"}
    assert editing.content("python/model.py") == AGAIN.replace("line 35\n", "line XXXV\n")
    assert editing.git("log", "-1", "--format=%s") == "main: edit five"
    assert not waits()
    editing.require_well_formed()


def test_edit_takes_an_amended_message(editing: Editing, worktree: Callable[[], Git]) -> None:
    editing.edit("edit", "twenty")
    text = f"another subject\n\nText.\n\n{TRAILERS}"
    worktree()("commit", "--quiet", "--amend", "-m", text)
    done = editing.edit("edit", "--continue")
    assert changes(done) == [("twenty", "rewritten")]
    twenty = editing.line.find("twenty")
    assert (twenty.message, twenty.author.name) == (f"{text}\n", "A Person")
    editing.edit("edit", "twenty")
    worktree()("commit", "--quiet", "--allow-empty", "-m", "one more")
    ran = editing.run("edit", "--continue")
    assert (ran.status, "nor one commit after it" in ran.err) == (1, True)
    worktree()("reset", "--quiet", "--soft", "HEAD^")
    done = editing.edit("edit", "--continue")
    assert (changes(done), done["committed"]) == ([], None)


def test_an_edit_that_takes_all_of_a_later_patch_shelves_it(
    editing: Editing, worktree: Callable[[], Git]
) -> None:
    editing.edit("edit", "five")
    worktree().write("python/other.py", "alpha\nBETA\ngamma\n")
    done = editing.edit("edit", "--continue")
    assert changes(done) == [("five", "rewritten"), ("other", "shelved")]
    assert editing.slugs == ["five", "twenty", "again"]
    assert (editing.folder / "shelf" / "other.patch").is_file()
    editing.require_well_formed()


@pytest.mark.parametrize("how", ["-m", "commit"])
def test_new(editing: Editing, worktree: Callable[[], Git], how: str) -> None:
    words = ["-m", f"a new one\n\nText.\n\n{TRAILERS}"] if how == "-m" else []
    stopped = editing.edit("new", "fresh", *words, "--after", "five")
    assert (stopped["waiting"]["position"], stopped["waiting"]["of"]) == (2, 5)
    tree = worktree()
    assert tree("log", "-1", "--format=%s") == "change five"
    nothing = editing.run("new", "--continue")
    why = "fresh would change nothing" if how == "-m" else "fresh changes nothing yet, and has"
    assert (nothing.status, why in nothing.err) == (1, True)
    tree.write("python/other.py", "alpha\nbeta\ngamma\ndelta\n")
    if how == "commit":
        assert "fresh has no message" in editing.run("new", "--continue").err
        tree("commit", "--quiet", "--all", "-m", f"a new one\n\nText.\n\n{TRAILERS}")
    done = editing.edit("new", "--continue")
    assert changes(done) == [("fresh", "added"), ("other", "rewritten")]
    assert editing.slugs == ["five", "fresh", "twenty", "other", "again"]
    fresh = editing.line.find("fresh")
    assert (fresh.subject, fresh.trailer("Origin")) == ("a new one", "vendor")
    assert editing.git("log", "-1", "--format=%s") == "main: new patch fresh"
    editing.require_well_formed()


# -- conflicts -------------------------------------------------------------------------------


def begin_conflict(editing: Editing) -> Ran:
    """Move ``again`` before ``five``, whose line it changes."""
    editing.edit("move", "again", "--after", "five")
    message = editing.line.find("again").message.replace("Depends-On: five\n", "")
    editing.edit("reword", "again", "-m", message)
    return editing.run("move", "again", "--before", "five")


def test_a_conflict_waits_and_goes_on(
    editing: Editing, worktree: Callable[[], Git], waits: Callable[[], bool]
) -> None:
    ran = begin_conflict(editing)
    old, tree = editing.files(), editing.tree()
    assert ran.status == 3
    assert "again (patch 1 of 4) conflicts in 1 file\n  python/model.py:5\n" in ran.out
    assert "nothing in patches/ was changed" in ran.out
    assert "fixtool move --continue --line main   (or --abort)" in ran.out
    again = editing.run("lint", "--json")
    assert (again.status, editing.files()) == (0, old)
    early = editing.run("move", "--continue")
    assert (early.status, "a conflict marker is left" in early.err) == (1, True)
    worktree().write("python/model.py", NUMBERS.replace("line 5\n", "line 5, half\n"))
    done = editing.edit("edit", "--continue")  # any of the verbs goes on
    assert (done["verb"], editing.slugs) == ("move", ["again", "five", "twenty", "other"])
    assert "five conflicted, and became what leads to the tree" in done["notes"][0]
    assert changes(done) == [("again", "rewritten"), ("five", "rewritten")]
    assert editing.tree() == done["tree"] == tree
    assert not waits()
    editing.require_well_formed()


def test_a_dry_run_says_that_it_would_conflict(editing: Editing, waits: Callable[[], bool]) -> None:
    begin_conflict(editing)
    assert document(editing.run("move", "--abort", "--json"))["aborted"] is True
    assert not waits()
    ran = editing.run("move", "again", "--before", "five", "--dry-run", "--json")
    found = document(ran)["edited"]["waiting"]
    assert (ran.status, found["slug"], found["worktree"]) == (3, "again", None)
    assert not waits()


def test_edits_that_conflict_later_wait_again(
    editing: Editing, worktree: Callable[[], Git], waits: Callable[[], bool]
) -> None:
    """The second stop keeps what was made at the first."""
    editing.edit("edit", "five")
    worktree().write("python/model.py", NUMBERS.replace("line 5\n", "line V\n"))
    ran = editing.run("edit", "--continue", "--json")
    stopped = document(ran)["edited"]["waiting"]
    assert (ran.status, stopped["slug"], stopped["position"]) == (3, "again", 4)
    tree = worktree()
    tree.write("python/model.py", AGAIN)
    tree("commit", "--quiet", "--all", "-m", "resolved")
    done = editing.edit("edit", "--continue")
    assert changes(done) == [
        ("five", "rewritten"), ("twenty", "rewritten"), ("again", "rewritten")
    ]  # fmt: skip
    assert (editing.content("python/model.py"), waits()) == (AGAIN, False)
    editing.require_well_formed()


def test_squash_can_stop_at_a_change_inside_of_a_patch(
    editing: Editing, worktree: Callable[[], Git]
) -> None:
    # `again` on `five` alone does not conflict; on `other` alone it does.
    editing.edit("move", "other", "--before", "five")
    message = editing.line.find("again").message.replace("Depends-On: five\n", "")
    editing.edit("reword", "again", "-m", message)
    tree = editing.tree()
    ran = editing.run("squash", "other", "again", "--json")
    stopped = document(ran)["edited"]["waiting"]
    assert (ran.status, stopped["slug"], stopped["position"], stopped["of"]) == (3, "other", 1, 3)
    assert worktree()("show", "HEAD:python/other.py") == "alpha\nBETA\ngamma"
    worktree().write("python/model.py", NUMBERS.replace("line 5\n", "line 5, half\n"))
    stopped = document(editing.run("squash", "--continue", "--json"))["edited"]["waiting"]
    assert (stopped["slug"], stopped["position"]) == ("five", 2)
    worktree().write("python/model.py", NUMBERS.replace("line 5\n", "line 5, other\n"))
    wrong = editing.run("squash", "--continue")
    assert (wrong.status, "the series would make tree" in wrong.err) == (1, True)
    worktree().write("python/model.py", NUMBERS.replace("line 5\n", "line FIVE\n"))
    done = editing.edit("squash", "--continue")
    assert (editing.slugs, editing.tree()) == (["other", "five", "twenty"], tree)
    assert changes(done) == [
        ("other", "rewritten"), ("five", "rewritten"), ("twenty", "rewritten"), ("again", "removed")
    ]  # fmt: skip
    editing.require_well_formed()


def test_what_is_restored_can_conflict(editing: Editing, worktree: Callable[[], Git]) -> None:
    assert editing.run("drop", "twenty", "--reason", "no use").status == 0
    editing.edit("edit", "five")
    worktree().write("python/model.py", FIVE.replace("line 20\n", "line XX\n"))
    editing.edit("edit", "--continue")
    ran = editing.run("restore", "twenty", "--json")
    assert (ran.status, document(ran)["edited"]["waiting"]["slug"]) == (3, "twenty")
    assert (editing.folder / "shelf" / "twenty.patch").is_file()
    worktree().write("python/model.py", FIVE.replace("line 20\n", "line twenty, XX\n"))
    done = editing.edit("restore", "--continue")
    assert changes(done) == [("twenty", "added"), ("again", "rewritten")]
    assert editing.slugs == ["five", "twenty", "other", "again"]
    assert not (editing.folder / "shelf.toml").exists()
    assert "line twenty, XX\n" in editing.content("python/model.py")
    editing.require_well_formed()


def test_what_is_copied_can_conflict_and_is_in_its_line_then(
    editing: Editing, home: Path, waits: Callable[[], bool]
) -> None:
    git = editing.team.upstream
    git("checkout", "--quiet", "--detach", "v1.0")
    later = git.commit("later", python__model_py=NUMBERS.replace("line 5\n", "line V\n"))
    editing.team.line("next", later)
    editing.git.commit("a line")
    old = editing.files()
    words = ("copy", "five", "--line", "main", "--to", "next")
    assert editing.run(*words).status == 3
    with_both = editing.run("edit", "--continue", "--line", "main")
    assert (with_both.status, "no edit waits for a person here" in with_both.err) == (2, True)
    (folder,) = (home / "state" / "worktrees").glob("*/edit-next")
    Git(folder).write("python/model.py", NUMBERS.replace("line 5\n", "line five V\n"))
    done = editing.edit("copy", "--continue")
    assert (done["line"], changes(done), waits()) == ("next", [("five", "added")], False)
    assert (editing.files(), editing.git("status", "--porcelain")) == (old, "")
    ran = editing.run("lint", "--drift", "--line", "next")
    assert ran.status == 0, ran.out


def test_a_line_that_changed_meanwhile_is_refused(
    editing: Editing, worktree: Callable[[], Git], waits: Callable[[], bool]
) -> None:
    editing.edit("edit", "five")
    worktree().write("python/model.py", NUMBERS.replace("line 5\n", "line V\n"))
    (editing.folder / "series").write_text(SERIES + "# a comment\n")
    editing.git.commit("somebody else")
    old = editing.files()
    ran = editing.run("edit", "--continue")
    assert (ran.status, "has changed since `fixtool edit` began" in ran.err) == (1, True)
    keep = f"git -C {worktree().path} diff HEAD > FILE; then end it"
    assert f"{keep}: fixtool edit --abort --line main" in ran.err
    assert (editing.files(), waits()) == (old, True)
    assert "the work tree is gone" in editing.run("edit", "--abort").out
    assert (editing.files(), waits()) == (old, False)
    ran = editing.run("edit", "--continue")
    assert (ran.status, "no edit waits for a person here" in ran.err) == (2, True)


BROKEN = {
    "verb": "--x", "store": "../x.git", "base": "HEAD", "number": 9, "conflicts": ["/etc/passwd"],
    "stop": "v1.0", "plan": {"wanted": [{"slug": "../x"}]}, "more": 1, "step": 3,
}  # fmt: skip


@pytest.mark.parametrize("key", BROKEN)
def test_a_session_with_a_value_of_another_form_is_refused(
    editing: Editing, home: Path, key: str
) -> None:
    editing.edit("edit", "five")
    (path,) = (home / "state" / "edit").glob("*-main.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), key: BROKEN[key]}))
    ran = editing.run("edit", "--continue")
    assert (ran.status, f"rm {path}" in ran.err) == (4, True)


# -- kills -----------------------------------------------------------------------------------


class Killed(BaseException):
    """What stands for SIGKILL: nothing catches it."""


KILLS = {
    "before the work tree is read": ("fixtool.edit.waiting.resolving.edited_tree", False),
    "before the plan is made": ("fixtool.edit.waiting.make", False),
    "before the line is written": ("fixtool.series.commit.rewrite", False),
    "after the line is written": ("fixtool.series.commit._commit", True),
    "before the work tree goes": ("fixtool.edit.waiting.worktrees.remove", True),
}  # fmt: skip


@pytest.mark.parametrize("when", KILLS)
def test_a_run_that_is_killed_goes_on_with_the_same_command(
    editing: Editing, worktree: Callable[[], Git], waits: Callable[[], bool], when: str
) -> None:
    place, _ = KILLS[when]
    old = editing.files()
    editing.edit("edit", "five")
    changed = NUMBERS.replace("line 5\n", "line five\n").replace("line 35\n", "line XXXV\n")
    worktree().write("python/model.py", changed)
    # What a run that is killed cannot do any more: put back what it has written.
    with (
        mock.patch(place, side_effect=Killed),
        mock.patch("fixtool.series.commit._put_back", side_effect=OSError),
        pytest.raises(Killed),
    ):
        editing.run("edit", "--continue")
    assert editing.run("edit", "--continue").status == 0
    assert editing.content("python/model.py") == AGAIN.replace("line 35\n", "line XXXV\n")
    assert editing.files() != old
    assert editing.git("log", "-2", "--format=%s") == "main: edit five\nfirst"
    assert not waits()
    editing.require_well_formed()


@pytest.mark.parametrize(
    "words",
    ["move other --before twenty", "rename five V", "squash five other", "reword five -m subject"],
)
def test_a_verb_that_was_killed_when_it_had_written_is_the_same_again(
    editing: Editing, words: str
) -> None:
    with (
        mock.patch("fixtool.series.commit._commit", side_effect=Killed),
        mock.patch("fixtool.series.commit._put_back", side_effect=OSError),
        pytest.raises(Killed),
    ):
        editing.run(*words.split())
    written = editing.files()
    ran = editing.run(*words.split())
    assert (ran.status, "an earlier run had done this already" in ran.out) == (0, True), ran.err
    assert (editing.files(), editing.git("status", "--porcelain")) == (written, "")
    assert editing.git("rev-list", "--count", "HEAD") == "2"


def test_an_error_that_lint_finds_already_stops_no_edit(editing: Editing) -> None:
    path = editing.folder / "twenty.patch"
    path.write_bytes(path.read_bytes().replace(b"change twenty", b"change  twenty"))
    editing.git.commit("two blanks")
    assert changes(editing.edit("move", "twenty", "--before", "five"))[0][0] == "twenty"
    ran = editing.run("reword", "five", "-m", "x\n\nFrom: a\n\ndiff -u")
    assert ran.status == 0  # such lines are indented, so that git gives them back
    assert editing.line.find("five").body == " From: a\n\n diff -u"


# -- wrong command lines ---------------------------------------------------------------------

MISTAKES = {
    "no patch of this name": ("move nope --before five", 2, "no patch 'nope'"),
    "before itself": ("move five --before five", 2, "cannot stand before or after itself"),
    "two places": ("move five --before twenty --after other", 2, "exclude each other"),
    "no place": ("move five", 2, "--before or --after is missing"),
    "two ways": ("edit five --abort", 2, "give one of SLUG, --continue, --abort"),
    "a name that is taken": ("rename five twenty", 2, "has a patch 'twenty' already"),
    "an unsafe name": ("rename five ../x", 2, "cannot be the name of a patch"),
    "one patch alone": ("squash five five.patch", 2, "two patches or more"),
    "two messages": ("reword five -m x --file y", 2, "exclude each other"),
    "no such file": ("reword five --file nope", 2, "cannot read nope"),
    "an empty message": ("reword five -m #", 0, ""),
    "not on the shelf": ("restore nope", 2, "the shelf of line main has no patch 'nope'"),
    "in the series": ("restore five", 2, "five is in the series"),
    "no line": ("copy five --to nope", 2, "no line 'nope'"),
    "to itself": ("copy five --to main", 2, "has a patch 'five' already"),
    "a dependency": ("move five --after again", 1, "again depends on five"),
    "nothing waits": ("squash --continue", 2, "no edit waits for a person here"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_command_line_changes_nothing(editing: Editing, name: str) -> None:
    words, status, why = MISTAKES[name]
    old = editing.files()
    ran = editing.run(*words.split())
    assert (ran.status, why in ran.err) == (status, True), ran.err
    assert editing.files() == old or status == 0


def test_without_git_the_line_is_written_alone(editing: Editing) -> None:
    import shutil

    shutil.rmtree(editing.team.root / ".git")
    ran = editing.run("move", "other", "--before", "twenty")
    assert (ran.status, "nothing was committed" in ran.out) == (0, True), ran.out
    assert editing.slugs == ["five", "other", "twenty", "again"]


# -- the cache of series ---------------------------------------------------------------------


def test_a_series_that_a_verb_made_is_not_applied_again(editing: Editing) -> None:
    editing.edit("move", "other", "--before", "twenty")
    with mock.patch("fixtool.edit.place.own_series", side_effect=AssertionError):
        done = editing.edit("reword", "five", "-m", f"new subject\n\nText.\n\n{TRAILERS}")
        assert changes(done) == [("five", "rewritten")]
        assert editing.run("drop", "twenty", "--reason", "why").status == 0
        editing.edit("restore", "twenty")
    editing.require_well_formed()


def test_only_the_patches_from_a_changed_one_on_are_applied_again(editing: Editing) -> None:
    """Somebody has changed a patch file, for example by a pull. The patches before it are not
    applied again; and what is applied then, also on the way to a work tree, is known from then
    on."""
    editing.edit("move", "other", "--before", "twenty")
    again = editing.folder / "again.patch"
    again.write_bytes(again.read_bytes().replace(b"Subject: [PATCH] ", b"Subject: [PATCH] re-"))
    editing.git.commit("a change by hand")
    with mock.patch("fixtool.edit.sequence.commits_on", wraps=commits_on) as applied:
        assert editing.run("edit", "five", "--json").status == 0
        editing.run("edit", "--abort")
        editing.edit("rename", "five", "line-five")
    assert [[patch.slug for patch in call.args[1]] for call in applied.call_args_list] == [
        ["again"]
    ]
    editing.require_well_formed()


def test_an_import_applies_no_patch_that_was_applied_before(
    editing: Editing, tmp_path: Path
) -> None:
    """It only applies those after a patch that it replaces."""
    editing.edit("move", "other", "--before", "twenty")
    up, incoming = editing.team.upstream, tmp_path / "incoming.patch"
    up("checkout", "--quiet", "--detach", "v1.0")
    up.commit("a new file\n\nWhy.", new_txt="new\n")
    incoming.write_bytes(format_patch(up))
    with (
        mock.patch("fixtool.edit.importing.apply_in_memory", side_effect=AssertionError),
        mock.patch("fixtool.edit.importing.commits_on", wraps=commits_on) as applied,
    ):
        assert editing.run("import", incoming).status == 0
    assert [list(call.args[1]) for call in applied.call_args_list] == [[]]
    editing.require_well_formed()
    incoming.write_bytes((editing.folder / "twenty.patch").read_bytes().replace(b"+line t", b"+T"))
    with mock.patch("fixtool.edit.importing.apply_in_memory", wraps=apply_in_memory) as in_memory:
        assert editing.run("import", incoming, "--replace").status == 0
    assert [next(iter(call.args[1])).path for call in in_memory.call_args_list] == [
        "python/model.py", "new.txt",
    ]  # fmt: skip
    assert b"+Twenty" in (editing.folder / "twenty.patch").read_bytes()


def test_a_changed_diff_is_not_taken_from_the_cache(editing: Editing) -> None:
    """The commit that the cache has for the patch has its message still, and another tree."""
    editing.edit("move", "other", "--before", "twenty")
    again = editing.folder / "again.patch"
    again.write_bytes(again.read_bytes().replace(b"+line FIVE", b"+line V"))
    editing.git.commit("a change by hand")
    done = editing.edit("move", "again", "--before", "twenty")
    assert b"+line V\n" in again.read_bytes()
    assert done["tree"] == editing.tree()
    assert "line V\n" in editing.content("python/model.py")


def test_a_cache_of_series_that_others_may_write_to_is_refused(
    editing: Editing, home: Path
) -> None:
    editing.edit("move", "other", "--before", "twenty")
    (home / "cache" / "series").chmod(0o777)
    ran = editing.run("move", "twenty", "--before", "other")
    assert (ran.status, "can be written to by every user" in ran.err) == (4, True), ran.err


@pytest.mark.parametrize("damage", ["[]", '{"commits": ["x"]}', "other commits", "other digests"])
def test_a_damaged_cache_costs_time_alone(editing: Editing, home: Path, damage: str) -> None:
    tree = editing.tree()
    editing.edit("move", "other", "--before", "twenty")
    for path in (home / "cache" / "series").iterdir():
        kept = json.loads(path.read_text())
        listed = kept["commits"]
        text = damage
        if damage == "other commits":
            text = json.dumps({**kept, "commits": [*listed[1:], listed[0]]})
        elif damage == "other digests":
            text = json.dumps({"commits": [], "digests": ["0" * 64]})
        path.write_text(text)
    done = editing.edit("move", "twenty", "--before", "other")
    assert (done["tree"], editing.slugs) == (tree, ["five", "twenty", "other", "again"])
    editing.require_well_formed()
