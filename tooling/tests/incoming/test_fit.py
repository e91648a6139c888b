"""Changes of others are fitted to the tree of a line, and what had to be done is said."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.json_documents import document
from support.repositories import NUMBERS, Git, Ran, Team, format_patch

FIX = NUMBERS.replace("line 20\n", "line 20 fixed\n")
DEEP = NUMBERS.replace("line 3\n", "line three\n")


@pytest.fixture
def world(team: Team, tmp_path: Path) -> Team:
    """A line on a tree with deeper folders and a file with the line ends of Windows."""
    up = team.upstream
    up.commit(
        "more", python__pkg__deep_py=NUMBERS, win_txt="".join(f"{n}\r\n" for n in range(9)),
        tests__one_py="t\n",
    )  # fmt: skip
    up("tag", "v2.0")
    (team.root / "patches/main/upstream.toml").unlink()
    (team.root / "patches/main/series").unlink()
    team.line(base=up("rev-parse", "v2.0"))
    return team


@pytest.fixture
def bring(fixtool: Callable[..., Ran], world: Team) -> Callable[..., Ran]:
    def run(*words: str | Path) -> Ran:
        own = () if "--from" in words else ("--source", world.upstream.path)
        return fixtool("import", *words, *own, cwd=world.root)

    return run


def side(
    up: Git, subject: str = "a change", base: str = "v2.0", **files: str | bytes | None
) -> str:
    """The id of a commit with ``files`` on ``base``."""
    here = up("symbolic-ref", "--short", "HEAD")
    up("checkout", "--quiet", "--detach", base)
    oid = up.commit(subject, **files)
    up("checkout", "--quiet", here)
    return oid


def diff(up: Git, oid: str, *words: str) -> str:
    return up("diff", *words, f"{oid}^", oid) + "\n"


def tree_of(fixtool: Callable[..., Ran], world: Team) -> str:
    words = ("--sglang-ref", "v2.0", "--no-build", "--dry-run", "--json")
    ran = fixtool("apply", *words, "--source", world.upstream.path, cwd=world.root)
    return str(document(ran)["tree"])


def plain(text: str) -> str:
    """A git diff as ``diff -u`` writes it."""
    return re.sub(r"^(diff --git|index|new file|deleted file) .*\n", "", text, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("make", "note"),
    [
        (lambda text: text, None),
        (plain, None),
        (lambda text: re.sub(r"(?<= )[ab]/", "", text), "applied with -p 0"),
        (lambda text: re.sub(r"(?<= )[ab]/", "", plain(text)), "applied with -p 0"),
        (lambda text: re.sub(r"(?<= )([ab])/", r"\1/x/", text), "applied with -p 2"),
        (lambda text: text.replace("/python/", "/"), "applied with --directory python"),
        (
            lambda text: re.sub(r"(?<= )[ab]/python/", "/usr/lib/site-packages/", plain(text)),
            "applied with -p 4 --directory python",
        ),
        (lambda text: text.replace("\n", "\r\n"), None),
    ],
    ids=["git", "plain", "git -p0", "plain -p0", "-p2", "folder", "site-packages", "CRLF"],
)
def test_where_the_files_are_is_found_out(
    bring: Any, fixtool: Any, world: Team, tmp_path: Path, make: Callable[[str], str], note: str
) -> None:
    oid = side(world.upstream, python__pkg__deep_py=DEEP)
    (tmp_path / "a.patch").write_bytes(make(diff(world.upstream, oid)).encode())
    ran = bring(tmp_path / "a.patch", "--json")
    assert ran.status == 0, ran.err
    notes = document(ran)["patches"][0]["notes"]
    assert [text for text in notes if text.startswith("applied")] == ([note] if note else [])
    assert tree_of(fixtool, world) == world.upstream("rev-parse", f"{oid}^{{tree}}")


def test_new_files_go_where_their_names_say(
    bring: Any, fixtool: Any, world: Team, tmp_path: Path
) -> None:
    oid = side(world.upstream, python__pkg__new_py="n\n")
    want = world.upstream("rev-parse", f"{oid}^{{tree}}")
    text = diff(world.upstream, oid)
    for number, form in enumerate((text, re.sub(r"(?<= )[ab]/", "", plain(text)))):
        (tmp_path / "a.patch").write_text(form)
        assert bring(tmp_path / "a.patch", "--subject", f"new {number}", "--dry-run").status == 0
    bring(tmp_path / "a.patch")
    assert tree_of(fixtool, world) == want


def test_a_file_of_another_folder_is_another_file(
    bring: Any, fixtool: Any, world: Team, tmp_path: Path
) -> None:
    """Found by git's own tests and by commits of SGLang: with a new file beside it, a change went
    to five places, and a change of a missing file went to one with the same end of its name."""
    up = world.upstream
    oid = side(up, python__pkg__deep_py=DEEP, new__added_py="n\n")
    (tmp_path / "a.patch").write_text(diff(up, oid))
    ran = bring(tmp_path / "a.patch", "--json")
    assert ran.status == 0, ran.err
    assert not [note for note in document(ran)["patches"][0]["notes"] if "applied" in note]
    assert tree_of(fixtool, world) == up("rev-parse", f"{oid}^{{tree}}")
    text = diff(up, side(up, python__pkg__deep_py=DEEP))
    (tmp_path / "b.patch").write_text(text.replace("/python/pkg/", "/python/other/pkg/"))
    assert bring(tmp_path / "b.patch", "--subject", "elsewhere").status == 1
    up("mv", "python/model.py", "python/moved.py")
    (tmp_path / "c.patch").write_text(diff(up, up.commit("move", new__added_py="n\n")))
    assert bring(tmp_path / "c.patch", "--subject", "added").status == 1  # not to b/new/added.py


def test_a_place_that_is_not_the_only_one(bring: Any, world: Team, tmp_path: Path) -> None:
    up = world.upstream
    up.commit("twins", one__x__same_py=NUMBERS, two__x__same_py=NUMBERS)
    (world.root / "patches/main/upstream.toml").unlink()
    world.line(base=up("rev-parse", "HEAD"))
    oid = side(up, base="HEAD", one__x__same_py=FIX)
    (tmp_path / "a.patch").write_text(diff(up, oid).replace("/one/x/", "/x/"))
    ran = bring(tmp_path / "a.patch")
    assert ran.status == 1
    assert "applies in 2 places" in ran.err
    one, two = (f"--directory {folder}" for folder in ("one", "two"))
    assert re.search(
        rf"say which one: fixtool import .* {one} or fixtool import .* {two}\n", ran.err
    )
    assert bring(tmp_path / "a.patch", "--directory", "two").status == 0
    assert "+++ b/two/x/same.py" in (world.root / "patches/main/a.patch").read_text()


def test_options_say_where_the_files_are(bring: Any, world: Team, tmp_path: Path) -> None:
    text = diff(world.upstream, side(world.upstream, python__pkg__deep_py=DEEP))
    (tmp_path / "a.patch").write_text(text.replace("/python/pkg/", "/some/where/"))
    ran = bring(tmp_path / "a.patch")
    assert (ran.status, "has none of its files: some/where/deep.py" in ran.err) == (1, True)
    assert "--directory DIR; or strip one more folder of their names: " in ran.err
    told = document(bring(tmp_path / "a.patch", "-p", "3", "--directory", "python/pkg", "--json"))
    assert not [note for note in told["patches"][0]["notes"] if note.startswith("applied")]


def test_a_part_is_left_out_and_the_patch_says_so(bring: Any, world: Team, tmp_path: Path) -> None:
    up = world.upstream
    oid = side(up, "a change\n\nWhy.\n\nOrigin: us\n", python__pkg__deep_py=DEEP, tests__one_py="T\n",
               docs__a_txt="d\n", README_txt="r\n")  # fmt: skip
    (tmp_path / "a.patch").write_bytes(format_patch(up, oid))
    words = ("--exclude", "tests", "--exclude", "*.txt", "--json")
    (patch,) = document(bring(tmp_path / "a.patch", *words))["patches"]
    assert patch["notes"] == [
        "left out 2 files (--exclude *.txt): README.txt, docs/a.txt",
        "left out 1 file (--exclude tests): tests/one.py",
    ]
    (stored,) = world.repository.line("main").patches
    assert stored.trailers == (("Origin", "us"), ("Excluded", "*.txt"), ("Excluded", "tests"))
    assert stored.paths == {"python/pkg/deep.py"}
    assert bring(tmp_path / "a.patch", "--exclude", "*", "--replace").status == 1


def test_line_ends_of_another_system(bring: Any, fixtool: Any, world: Team, tmp_path: Path) -> None:
    up = world.upstream
    oid = side(up, win_txt="".join(f"{n}{'!' * (n == 4)}\r\n" for n in range(9)),
               python__pkg__deep_py=DEEP)  # fmt: skip
    want = up("rev-parse", f"{oid}^{{tree}}")
    raw = up("diff", f"{oid}^", oid)
    for text in (raw.replace("\r\n", "\n"), raw.replace("\r\n", "\n").replace("\n", "\r\n")):
        (tmp_path / "a.patch").write_bytes(f"{text}\n".encode())
        (patch,) = document(bring(tmp_path / "a.patch", "--replace", "--json"))["patches"]
        assert "the line ends of the patch were changed to those of win.txt" in patch["notes"]
        assert tree_of(fixtool, world) == want
    # Only the content of a file with LF has got carriage returns, as on a checkout with autocrlf.
    deep = diff(up, side(up, python__pkg__deep_py=FIX))
    head, hunk = deep.split("@@ ", 1)
    first, body = hunk.split("\n", 1)
    (tmp_path / "b.patch").write_bytes(f"{head}@@ {first}\n{body}".encode().replace(b"\n", b"\r\n")
                                       .replace(b"\r\n", b"\n", head.count("\n") + 1))  # fmt: skip
    (patch,) = document(bring(tmp_path / "b.patch", "--json"))["patches"]
    assert patch["notes"][-1] == (
        "the line ends of the patch were changed to those of python/pkg/deep.py"
    )


def test_a_patch_for_older_files_is_merged(
    bring: Any, fixtool: Any, world: Team, tmp_path: Path
) -> None:
    up = world.upstream
    oid = side(up, python__model_py=FIX)
    up.commit("near", python__model_py=NUMBERS.replace("line 18\n", "line eighteen\n"))
    (world.root / "patches/main/upstream.toml").unlink()
    world.line(base=up("rev-parse", "HEAD"))
    (tmp_path / "a.patch").write_text(diff(up, oid, "--abbrev=8"))
    assert bring(tmp_path / "a.patch", "--no-3way").status == 1
    (patch,) = document(bring(tmp_path / "a.patch", "--json"))["patches"]
    assert patch["notes"][-1] == "merged three-way onto the line's base"
    text = (world.root / "patches/main/a.patch").read_text()
    assert " line eighteen\n" in text

    clash = side(up, python__model_py=NUMBERS.replace("line 18\n", "line XVIII\n"))
    (tmp_path / "b.patch").write_text(diff(up, clash))
    ran = bring(tmp_path / "b.patch", "--dry-run")
    assert (ran.status, "a three-way merge stops in 1 of 1 file\n" in ran.err) == (3, True)
    assert (
        f"  python/model.py:15: is not as the change expects it ({tmp_path}/b.patch:5)" in ran.err
    )


def test_a_patch_is_merged_as_made_on_the_release_that_it_fits(
    bring: Any, world: Team, tmp_path: Path
) -> None:
    """Its index lines name contents that nobody has: a downstream made it of a tree of its own."""
    up = world.upstream
    change = diff(up, side(up, python__model_py=FIX))
    up.commit("near", python__model_py=NUMBERS.replace("line 18\n", "line eighteen\n"))
    (world.root / "patches/main/upstream.toml").unlink()
    world.line(base=up("rev-parse", "HEAD"))
    unknown = re.sub(r"^index .*", f"index {'ab' * 20}..{'cd' * 20} 100644", change,
                     flags=re.MULTILINE)  # fmt: skip
    (tmp_path / "a.patch").write_text(unknown)
    (patch,) = document(bring(tmp_path / "a.patch", "--json"))["patches"]
    assert patch["notes"][-1] == "merged three-way onto the line's base, as made on v2.0"
    assert " line eighteen\n" in (world.root / "patches/main/a.patch").read_text()


def test_every_file_that_does_not_fit_is_named_with_its_lines(
    bring: Any, world: Team, tmp_path: Path
) -> None:
    up = world.upstream
    files = {"python__model_py": FIX, "python__pkg__deep_py": DEEP, "python__other_py": "o\n"}
    text = "Some prose.\n\n" + diff(up, side(up, **files))
    (tmp_path / "a.patch").write_text(text)
    changed = {"python__model_py": NUMBERS.replace("line 20\n", "line XX\n"),
               "python__other_py": "O\n"}  # fmt: skip
    up.commit("other", **changed)
    (world.root / "patches/main/upstream.toml").unlink()
    world.line(base=up("rev-parse", "HEAD"))
    ran = bring(tmp_path / "a.patch", "--no-3way")
    assert (ran.status, "2 of 3 files do not fit" in ran.err) == (1, True)
    lines = text.split("\n")
    for path, line in (("python/model.py", 17), ("python/other.py", 1)):
        at = next(n for n, text in enumerate(lines) if text == f"+++ b/{path}") + 2
        where = f"({tmp_path}/a.patch:{at})"
        assert f"  {path}:{line}: is not as the change expects it {where}" in ran.err
    assert "the release it fits best is v2.0: 3 of 3 files fit" in ran.err
    assert f"fixtool init {world.root} --upstream {up.path} --base v2.0 --line v2.0; " in ran.err


def test_what_the_tree_lacks_is_left_out_and_recorded(
    bring: Any, world: Team, tmp_path: Path
) -> None:
    up = world.upstream
    text = diff(up, side(up, python__model_py=FIX, tests__one_py="T\n"))
    text += "diff --git a/docs/gone.md b/docs/gone.md\n--- a/docs/gone.md\n+++ b/docs/gone.md\n"
    text += "@@ -1 +1 @@\n-a\n+b\n"
    (tmp_path / "a.patch").write_text(text)
    ran = bring(tmp_path / "a.patch")
    assert ran.status == 1
    assert "try: leave that part out: fixtool import " in ran.err
    assert "a.patch --source" in ran.err
    assert "--exclude 'docs/*'" in ran.err
    alone = "diff --git a/new.txt b/new.txt\nnew file mode 100644\n--- /dev/null\n+++ b/new.txt\n"
    (tmp_path / "b.patch").write_text(
        f"{alone}@@ -0,0 +1 @@\n+n\n" + text[text.rindex("diff --") :]
    )
    ran = bring(tmp_path / "b.patch", "--dry-run")
    assert (ran.status, "--exclude 'docs/*'" in ran.err) == (1, True)
    assert bring(tmp_path / "b.patch", "--dry-run", "--leave-out-missing").status == 0
    (patch,) = document(bring(tmp_path / "a.patch", "--leave-out-missing", "--json"))["patches"]
    base = up("rev-parse", "v2.0")[:12]
    assert "left out 1 file (--exclude docs/*): docs/gone.md" in patch["notes"]
    trailers = world.repository.line("main").find(patch["slug"]).trailers
    assert trailers == (("Excluded", f"docs/* (the line's base {base} lacks it)"),)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda up: diff(up, side(up, python__pkg__deep_py=DEEP)).replace(" line 4", " line  4"),
         "only white space differs"),
        (lambda up: diff(up, side(up, new_txt="n\n")).replace("new.txt", "README.txt"),
         "README.txt is there already"),
        (lambda up: diff(up, side(up, python__pkg__deep_py=DEEP)).replace("@@ -1,6", "@@ -1,9"),
         "not well formed|cannot read the diff"),
    ],
    ids=["blanks", "new file", "damaged"],
)  # fmt: skip
def test_the_reason_is_the_real_one(
    bring: Any, world: Team, tmp_path: Path, make: Callable[[Git], str], what: str
) -> None:
    (tmp_path / "a.patch").write_text(make(world.upstream))
    ran = bring(tmp_path / "a.patch")
    assert ran.status == 1
    assert re.search(what, ran.err), ran.err
    assert str(tmp_path / "a.patch") in ran.err
    assert "rebase" not in ran.err


def test_a_series_with_options_comes_in_at_once(
    bring: Any, fixtool: Any, world: Team, tmp_path: Path
) -> None:
    up = world.upstream
    oid = side(up, python__pkg__deep_py=DEEP)
    back = up("diff", oid, f"{oid}^") + "\n"
    bare = re.sub(r"(?<= )[ab]/", "", plain(diff(up, side(up, python__other_py="o\n"))))
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "back.patch").write_text(back)
    (folder / "bare.patch").write_text(bare)
    (folder / "series").write_text("back.patch -R\nbare.patch -p0\n")
    told = document(bring(folder, "--json"))
    assert [patch["slug"] for patch in told["patches"]] == ["back", "bare"]
    assert "+line three" in (world.root / "patches/main/back.patch").read_text()
    (folder / "bare.patch").write_text(bare.replace("-alpha", "-ALPHA"))
    before = sorted((world.root / "patches/main").iterdir())
    ran = bring(folder, "--replace")
    assert (ran.status, f"{folder}/bare.patch" in ran.err) == (1, True)
    assert sorted((world.root / "patches/main").iterdir()) == before


def test_a_patch_does_not_go_to_a_copy_of_its_files(
    bring: Any, world: Team, tmp_path: Path
) -> None:
    """A patch that does not fit its own file fitted a copy of it in another folder."""
    up = world.upstream
    up.commit("a copy", vendored__pkg__deep_py=DEEP)
    (world.root / "patches/main/upstream.toml").unlink()
    world.line(base=up("rev-parse", "HEAD"))
    oid = side(up, base="HEAD", vendored__pkg__deep_py=DEEP.replace("line 5\n", "line five\n"))
    (tmp_path / "a.patch").write_text(diff(up, oid).replace("/vendored/", "/python/"))
    ran = bring(tmp_path / "a.patch", "--no-3way")
    assert (ran.status, "python/pkg/deep.py is not as the patch expects" in ran.err) == (1, True)


def test_an_exclude_that_fits_nothing_is_told(bring: Any, world: Team, tmp_path: Path) -> None:
    oid = side(world.upstream, python__pkg__deep_py=DEEP)
    (tmp_path / "a.patch").write_text(diff(world.upstream, oid))
    ran = bring(tmp_path / "a.patch", "--exclude", "test/*")
    assert (ran.status, "leaves nothing out" in ran.err) == (2, True)
    assert world.repository.line("main").entries == ()


# -- ranges --------------------------------------------------------------------------------------


@pytest.fixture
def fork(world: Team, tmp_path: Path) -> Git:
    world.upstream("clone", "--quiet", ".", str(tmp_path / "fork"))
    fork = Git(tmp_path / "fork")
    fork("checkout", "--quiet", "-b", "work")
    return fork


def test_commits_with_one_subject_come_in_and_go_out(
    bring: Any, fixtool: Any, world: Team, fork: Git, tmp_path: Path
) -> None:
    for text in (DEEP, DEEP.replace("line 30\n", "line thirty\n")):
        fork.commit("fix lint", python__pkg__deep_py=text)
    told = document(bring("v2.0..work", "--from", fork.path, "--json"))
    assert [patch["slug"] for patch in told["patches"]] == ["fix-lint", "fix-lint-2"]
    assert tree_of(fixtool, world) == fork("rev-parse", "work^{tree}")
    source = ("--source", world.upstream.path)
    tree = Git(tmp_path / "tree")
    words = ("apply", "--sglang-ref", "v2.0", "--no-build", "--worktree", tree.path, *source)
    assert fixtool(*words, cwd=world.root).status == 0
    tree("reset", "--quiet", "--hard", "HEAD~2")
    for path in ("fix-lint", "fix-lint-2"):  # other ids, the same commits
        tree("am", "--quiet", str(world.root / f"patches/main/{path}.patch"))
    exported = document(fixtool("export", "--worktree", tree.path, "--json", cwd=world.root))
    assert [patch["change"] for patch in exported["patches"]] == ["unchanged", "unchanged"]


def test_a_range_on_another_tree_is_applied(
    bring: Any, fixtool: Any, world: Team, fork: Git
) -> None:
    """The line has a patch already, so the trees of the commits are not those of the line."""
    deep = NUMBERS.replace("line 30\n", "line thirty\n")
    fork.commit("work: own", python__pkg__deep_py=deep, README_txt="own\n")
    bring("v2.0..work", "--from", fork.path)
    fork("checkout", "--quiet", "-B", "side", "v2.0")
    fork.commit("work: one", python__pkg__deep_py=DEEP)
    fork.commit("work: two", python__model_py=FIX)
    assert bring("v2.0..side", "--from", fork.path).status == 0
    words = ("lint", "--drift", "--json", "--source", world.upstream.path)
    assert document(fixtool(*words, cwd=world.root))["ok"]
    fork("cherry-pick", "work")
    assert tree_of(fixtool, world) == fork("rev-parse", "HEAD^{tree}")


def test_a_part_is_left_out_of_a_range_on_the_base(bring: Any, world: Team, fork: Git) -> None:
    fork.commit("work: one", python__pkg__deep_py=DEEP, **{".gitattributes": "# none\n"})
    words = ("--exclude", ".gitattributes", "--from", fork.path, "--json")
    (patch,) = document(bring("v2.0..work", *words))["patches"]
    left_out = "left out 1 file (--exclude .gitattributes): .gitattributes"
    assert patch["notes"] == [left_out]
    assert world.repository.line("main").paths == ["python/pkg/deep.py"]


def test_a_merge_is_one_patch_or_refused(bring: Any, fixtool: Any, world: Team, fork: Git) -> None:
    fork.commit("work: first", python__pkg__deep_py=DEEP)
    fork("checkout", "--quiet", "-b", "side", "v2.0")
    fork.commit("side: one", python__model_py=FIX)
    fork.commit("side: two", python__other_py="o\n")
    fork("checkout", "--quiet", "work")
    fork("merge", "--quiet", "--no-ff", "--message", "Merge side", "side")
    fork.commit("work: last", README_txt="r\n")
    ran = bring("v2.0..work", "--from", fork.path)
    assert (ran.status, "is a merge" in ran.err) == (1, True)
    assert f"fixtool import v2.0..work --from {fork.path} --first-parent" in ran.err
    told = document(bring("v2.0..work", "--from", fork.path, "--first-parent", "--json"))
    slugs = [patch["slug"] for patch in told["patches"]]
    assert slugs == ["work-first", "merge-side", "work-last"]
    merge = world.repository.line("main").find("merge-side")
    assert merge.paths == {"python/model.py", "python/other.py"}
    assert tree_of(fixtool, world) == fork("rev-parse", "work^{tree}")


def test_what_the_line_has_is_skipped_or_refused(
    bring: Any, fixtool: Any, world: Team, fork: Git
) -> None:
    fork.commit("work: first", python__pkg__deep_py=DEEP)
    fork.commit("work: nothing")
    bring("v2.0..work~1", "--from", fork.path)
    fork.commit("work: last", README_txt="r\n")
    ran = bring("work~1..work", "v2.0..work~2", "--from", fork.path, "--replace", "--dry-run")
    assert ran.status == 0
    ran = bring("work~2..work", "--from", fork.path)
    assert (ran.status, "changes no file" in ran.err, "--skip-empty" in ran.err) == (1, True, True)
    told = document(bring("work~2..work", "--from", fork.path, "--skip-empty", "--json"))
    assert [skipped["subject"] for skipped in told["skipped"]] == ["work: nothing"]
    assert [patch["slug"] for patch in told["patches"]] == ["work-last"]


def test_git_writes_a_commit_that_changes_nothing_as_an_empty_file(
    bring: Any, world: Team, fork: Git, tmp_path: Path
) -> None:
    """One of a thousand real commits was such one, and its file was no diff."""
    fork.commit("work: nothing")
    fork.commit("work: last", README_txt="r\n")
    fork("format-patch", "--quiet", f"--output-directory={tmp_path / 'mails'}", "work~2..work")
    ran = bring(str(tmp_path / "mails"))
    assert (ran.status, "the file is empty" in ran.err, "--skip-empty" in ran.err) == (
        1,
        True,
        True,
    )
    told = document(bring(str(tmp_path / "mails"), "--skip-empty", "--json"))
    assert [skipped["subject"] for skipped in told["skipped"]] == ["work-nothing"]
    assert [patch["slug"] for patch in told["patches"]] == ["work-last"]


def test_a_folder_of_mails_is_one_series(world: Team, fixtool: Any, tmp_path: Path) -> None:
    """Each of a thousand files was taken for a mailbox that lacks the other 999."""
    git = world.upstream
    git("checkout", "--quiet", "--detach", "v1.0")
    for number in range(3):
        git.commit(f"area: number  {number}", **{f"new{number}_txt": "x\n"})
    words = ["--cover-letter", "--quiet", f"--output-directory={tmp_path / 'mails'}"]
    git("format-patch", *words, "v1.0..HEAD")
    files = sorted((tmp_path / "mails").iterdir())

    def bring(*paths: Path) -> list[tuple[str, list[str]]]:
        ran = fixtool(
            "import", *paths, "--source", git.path, "--dry-run", "--json", "-C", world.root
        )
        assert ran.status == 0, ran.err
        return [(patch["subject"], patch["notes"]) for patch in document(ran)["patches"]]

    blanks = "blanks were taken out of the subject, as git am does it"
    whole = bring(tmp_path / "mails")
    assert [subject for subject, _ in whole] == [f"area: number {number}" for number in range(3)]
    cover = f"{files[0]}:1 ([PATCH 0/3] *** SUBJECT HERE ***) has no diff and is no patch"
    assert [notes for _, notes in whole] == [[blanks, cover], [blanks], [blanks]]
    order = "the mails were put into the order of their numbers"
    missing = "patch 2/3 of the series is not in the mailbox"
    assert bring(files[3], files[1]) == [
        ("area: number 0", [blanks, order]),
        ("area: number 2", [blanks, missing]),
    ]
    (tmp_path / "series").write_text(f"mails/{files[3].name}\nmails/{files[1].name}\n")
    assert bring(tmp_path / "series") == [
        ("area: number 2", [blanks]),
        ("area: number 0", [blanks]),
    ]


def test_a_file_that_has_moved_is_followed_from_the_release_that_fits(
    bring: Any, world: Team, tmp_path: Path
) -> None:
    up = world.upstream
    files = {"python__pkg__deep_py": DEEP, "python__model_py": FIX}
    change = diff(up, side(up, **files))
    lacking = "diff --git a/docs/gone.md b/docs/gone.md\n--- a/docs/gone.md\n+++ b/docs/gone.md\n"
    (tmp_path / "a.patch").write_text(f"{change}{lacking}@@ -1 +1 @@\n-a\n+b\n")
    up("mv", "python/pkg/deep.py", "python/deeper.py")
    up.commit("move it")
    (world.root / "patches/main/upstream.toml").unlink()
    world.line(base=up("rev-parse", "HEAD"))
    ran = bring(tmp_path / "a.patch")
    assert (ran.status, "python/pkg/deep.py may have moved" in ran.err) == (1, True)
    assert "merge the rest three-way: fixtool import " in ran.err
    (patch,) = document(bring(tmp_path / "a.patch", "--leave-out-missing", "--json"))["patches"]
    assert any(note.endswith("as made on v2.0") for note in patch["notes"])
    stored = world.repository.line("main").find("a")
    assert stored.paths == {"python/deeper.py", "python/model.py"}
    assert stored.trailer(
        "Excluded",
    ).startswith("docs/* (")  # type: ignore[union-attr]
