"""What a diff is read to touch is what git touches when it applies the diff."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fixtool.errors import Refused
from fixtool.git.repo import Repo
from fixtool.git.trees import apply_to_index, changed_files, scratch_index, write_tree
from fixtool.series.diff import FilePatch, read_diff
from fixtool.series.patch import apply_on, parse
from fixtool.series.paths import rules_touched, unsafe_paths
from support.repositories import Git

NEW = """\
diff --git a/{path} b/{path}
new file mode {mode}
index 0000000..1234567
--- /dev/null
+++ b/{path}
@@ -0,0 +1 @@
+x
"""
CHANGE = """\
diff --git a/c.py b/c.py
index 1234567..89abcde 100644
--- a/c.py
+++ b/c.py
@@ -1 +1 @@
-x
+y
"""
RENAME = """\
diff --git a/c.py b/d.py
similarity index 100%
rename from c.py
rename to d.py
"""
HEAD = b"From: A <a@b.c>\nDate: Mon, 1 Jan 2026 00:00:00 +0000\nSubject: [PATCH] x\n\n"


def read(diff: str) -> tuple[FilePatch, ...]:
    return read_diff(diff.encode("utf-8", "surrogateescape"), where="x.patch")


def new(path: str, mode: str = "100644") -> str:
    return NEW.format(path=path, mode=mode)


HIDDEN = {
    "rename to": (RENAME.replace("to d.py", "to .github/workflows/x.yml"), 1, "rename from 'c.py'"),
    "rename from": (RENAME.replace("from c.py", "from e.py"), 1, "rename from 'e.py'"),
    "rename of one file": (
        CHANGE.replace("index ", "rename from c.py\nrename to .github/x\nindex "), 1, "which git would do",
    ),
    "copy to": (RENAME.replace("rename", "copy").replace("to d.py", "to x"), 1, "copy from 'c.py'"),
    "rename without from": (RENAME.replace("rename from c.py\n", ""), 1, "one `from` and one `to`"),
    "rename and copy": (RENAME + "copy from c.py\ncopy to d.py\n", 1, "one `from` and one `to`"),
    "old spelling": (RENAME.replace("rename from", "rename old"), 3, "is written `rename from`"),
    "two names": ("diff --git a/c.py b/d.py\nold mode 100644\nnew mode 100755\n", 1, "names two files"),
    "another old name": (CHANGE.replace("--- a/c.py", "--- a/d.py"), 3, "does not name the file"),
    "another new name": (CHANGE.replace("+++ b/c.py", "+++ b/d.py"), 4, "does not name the file"),
    "a deleted file": (CHANGE.replace("+++ b/c.py", "+++ /dev/null"), 4, "does not name the file"),
    "a plain diff after it": (CHANGE + "--- a/x\n+++ b/x\n@@ -0,0 +1 @@\n+x\n", 8, "more lines than"),
    "both sides of a merge": (
        CHANGE + "<<<<<<< HEAD\n" + CHANGE + "=======\n>>>>>>> x\n", 8, "a conflict marker"
    ),
    "a plain diff, apart": (CHANGE + "\n--- a/x\n+++ b/x\n@@ -0,0 +1 @@\n+x\n", 9, "belongs to no"),
    "a hunk, apart": (CHANGE + "\n@@ -3 +3 @@\n-x\n+y\n", 9, "belongs to no"),
    "a tree": (new("sub", "040000"), 2, "'040000' is no mode"),
    "a socket": (new("sub", "140000"), 2, "'140000' is no mode"),
    "a group's file": (new("sub", "100664"), 2, "'100664' is no mode"),
    "another kind": (
        "diff --git a/c.py b/c.py\nold mode 100644\nnew mode 120000\n", 1, "do not fit together"
    ),
    "twice new": (new("x").replace("index", "new file mode 100755\nindex"), 3, "two lines 'new file"),
    "new and renamed": (RENAME + "new file mode 100644\n", 1, "neither a copy nor renamed"),
    "new, and a new mode": (
        "diff --git a/x b/x\nnew file mode 100644\nnew mode 100755\n", 1, "only one of these"
    ),
    "no binary data": (
        "diff --git a/x b/x\nindex 1234567..89abcde\nBinary files a/x and b/x differ\n", 3, "--binary"
    ),
    "bad escape": ('diff --git "a/\\q" "b/\\q"\nold mode 100644\nnew mode 100755\n', 1, "escape"),
    "octal above 255": ('diff --git "a/\\777" "b/\\777"\nold mode 100644\nnew mode 100755\n', 1, "escape"),
    "empty hunk": (CHANGE.replace("-x\n+y", " x").replace("-1 +1", "-1,1 +1,1"), 5, "changes nothing"),
    "huge hunk": (CHANGE.replace("-1 +1", "-1,99999999999 +1"), 5, "not the head of a hunk"),
    "cut off": (CHANGE[:-1], 7, "ends within a hunk"),
    "cut rename": (RENAME[:-1], 4, "cut off"),
}  # fmt: skip


@pytest.mark.parametrize("name", HIDDEN)
def test_what_git_would_read_in_another_way_is_refused(name: str) -> None:
    diff, line, message = HIDDEN[name]
    with pytest.raises(Refused, match=message) as caught:
        read(diff)
    assert caught.value.where == f"x.patch:{line}"


def test_names_are_read_as_git_writes_them() -> None:
    def paths(header: str, rest: str = "old mode 100644\nnew mode 100755\n") -> tuple[str, ...]:
        (file,) = read(f"diff --git {header}\n{rest}")
        return file.paths

    assert paths("a/x y b/x y") == ("x y", "x y")
    assert paths("a/x b/x b/x b/x") == ("x b/x", "x b/x")
    assert paths('"a/\\303\\274\\"" "b/\\303\\274\\""') == ('ü"', 'ü"')
    assert paths("i/x w/x") == ("x", "x")  # git takes the first folder off, whatever its name
    moved = "rename from x y\nrename to x b/z\n"
    assert paths("a/x y b/x b/z", moved) == ("x y", "x b/z")
    assert paths('"a/\\t" b/x', 'rename from "\\t"\nrename to x\n') == ("\t", "x")
    assert paths('a/x "b/\\t"', 'rename from x\nrename to "\\t"\n') == ("x", "\t")


def test_a_file_is_called_by_its_new_name_or_else_by_its_old_one() -> None:
    gone = CHANGE.replace("+++ b/c.py", "+++ /dev/null").replace("-1 +1", "-1 +0,0")
    gone = gone.replace("+y\n", "").replace("index ", "deleted file mode 100644\nindex ")
    gone = gone.replace("89abcde 100644", "0000000")
    files = read(new("new.py") + gone + RENAME)
    assert [file.path for file in files] == ["new.py", "c.py", "d.py"]


def test_lines_end_at_newlines_alone() -> None:
    text = CHANGE.replace("-1 +1", "-1,2 +1,2").replace("-x\n+y", "-x\x0c\x1d\u2028\r\n+y\n \x85")
    (file,) = read(text)
    assert file.hunks[0].before == ("x\x0c\x1d\u2028\r\n", "\x85\n")
    assert file.line_number == 1


@pytest.mark.parametrize(
    "path",
    [".git", ".GIT/x", ".git.", ".git ", ".git::$INDEX_ALLOCATION/x", "git~1/x", "a/.g\u200cit/x",
     ".gi\ufefft/x", "../x", "a\\b", "a\x01b", "C:/x", "x" * 256, "a/" * 2100 + "x", "a/" * 100 + "x"],
)  # fmt: skip
def test_a_path_that_some_file_system_reads_as_another_is_unsafe(path: str) -> None:
    quoted = path.replace("\\", "\\\\").replace("\x01", "\\001")
    header = f'"a/{quoted}" "b/{quoted}"'
    files = read(f"diff --git {header}\nnew file mode 100644\n")
    assert [unsafe for _, unsafe, _ in unsafe_paths(files)] == [path]


@pytest.mark.parametrize(
    ("path", "mode", "told"),
    [
        (".gitmodules", "100644", True),
        ("a/.GitAttributes", "100644", True),
        (".gitm\u200codules", "100644", True),
        (".gitmodules. ", "100644", True),
        ("GITMOD~1", "100644", True),
        (".github/workflows/x.yml", "100644", True),
        (".GitHub/workflows/x.yml", "100644", True),
        (".gitlab-ci.yml", "100644", True),
        (".github/workflows", "120000", True),
        (".github", "120000", True),
        (".buildkite", "120000", True),
        ("azure-pipelines.yml", "100644", True),
        (".lfsconfig", "100644", True),
        (".pre-commit-config.yaml", "100644", True),
        ("vendor/x", "160000", True),
        (".gitignore", "100644", False),
        ("docs/.github/workflows.md", "100644", False),
        (".github/workflows.md", "100644", False),
    ],
)
def test_files_that_rule_git_or_ci_are_told(path: str, mode: str, told: bool) -> None:
    (file,) = read(f"diff --git a/{path} b/{path}\nnew file mode {mode}\n")
    assert bool(rules_touched(file)) == told


def test_a_file_that_rules_git_or_ci_is_told_when_it_gets_another_name() -> None:
    (file,) = read(
        "diff --git a/.gitattributes b/x\nsimilarity index 100%\nrename from .gitattributes\nrename to x\n"
    )
    assert "gitattributes changes" in str(rules_touched(file))


def test_a_file_behind_a_link_that_differs_in_case_is_unsafe() -> None:
    """macOS and Windows take the two names for one."""
    link = "diff --git a/Data b/Data\nnew file mode 120000\n"
    files = read(f"{link}diff --git a/data/key b/data/key\nnew file mode 100644\n")
    assert [unsafe for _, unsafe, _ in unsafe_paths(files)] == ["data/key"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, made_upstream: Path) -> Repo:
    git = Git(shutil.copytree(made_upstream, tmp_path_factory.mktemp("diffs") / "upstream"))
    git.commit("c", c_py="x\n", d_py="y\n")
    return git.repo


LINES = [line for diff in (new("e.py"), CHANGE, RENAME, CHANGE.replace("c.py", "d.py"))
         for line in diff.splitlines()]  # fmt: skip
LINES += [
    "rename from d.py", "rename to .github/x", "copy from c.py", "copy to f.py", "rename new g.py",
    "new file mode 120000", "deleted file mode 100644", "old mode 100644", "new mode 100755",
    "--- a/d.py", "+++ b/.github/x", "--- /dev/null", "+++ /dev/null", "", " x", "-y", "\\ No newline",
    "diff --git a/d.py b/f.py", 'diff --git "a/c.py" b/c.py', "@@ -0,0 +1 @@", "-- ", "Index: h.py",
]  # fmt: skip
EDIT = st.tuples(
    st.integers(0, 40), st.sampled_from(["put", "drop", "replace"]), st.sampled_from(LINES)
)


@pytest.mark.slow(20)
@given(
    parts=st.lists(st.sampled_from([new("e.py"), CHANGE, RENAME]), min_size=1, max_size=3),
    edits=st.lists(EDIT, max_size=4),
)
@example(parts=[CHANGE], edits=[(2, "put", "rename to .github/x"), (2, "put", "rename from c.py")])
@hypothesis_settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_git_touches_nothing_else(
    tree: Repo, parts: list[str], edits: list[tuple[int, str, str]]
) -> None:
    """Whatever a diff is made of: if it is read, then git changes no path but those that it names."""
    lines = "".join(parts).split("\n")
    for at, how, line in edits:
        lines[at : at + (how != "put")] = [line] * (how != "drop")
    diff = "\n".join(lines).encode()
    try:
        named = {path for file in read_diff(diff, where="x") for path in file.paths}
    except Refused:
        return
    head = tree.head()
    assert head is not None
    with scratch_index(tree, head) as index:
        if apply_to_index(tree, index, diff).status == 0:
            changed = {change.path for change in changed_files(tree, head, write_tree(tree, index))}
            assert changed <= named


def test_the_tree_is_checked_too(tree: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the reader wrong about a diff, the tree that git makes of it would show that."""
    patch = parse(HEAD + new("e.py").encode(), "x")
    other = read(new("f.py"))
    monkeypatch.setattr("fixtool.series.patch.read_diff", lambda *_, **__: other)
    head = tree.head()
    assert head is not None
    with pytest.raises(Refused, match="changes e.py, which its diff does not name"):
        apply_on(tree, patch, head)


SLASH = "\\\\"
BIG: dict[str, Callable[[int], str]] = {
    "lines of a hunk": lambda n: CHANGE.replace("-1 +1", f"-1,{n} +1,{n}").replace(
        "-x\n+y\n", "-x\n+y\n" + " x\n" * (n - 1)
    ),
    "hunks": lambda n: CHANGE + "@@ -9 +9 @@\n-x\n+y\n" * n,
    "files": lambda n: "".join(new(f"{number}.py") for number in range(n)),
    "headers": lambda n: "diff --git a/x b/x\n" + "index 1234567..1234567\n" * n,
    "levels of a path": lambda n: new("a/" * n + "x"),
    "blanks in a name": lambda n: f"diff --git a/{' ' * n} b/{' ' * n}\nnew file mode 100644\n",
    "escapes of a name": lambda n: f'diff --git "a/{SLASH * n}" "b/x"\nnew file mode 100644\n',
    "an open quote": lambda n: f'diff --git "a/{SLASH * n}\n',
    "blanks of a renamed name": lambda n: (
        f"diff --git a/{'x ' * n} b/y\nrename from x\nrename to y\n"
    ),
    "binary lines": lambda n: "diff --git a/x b/x\nGIT binary patch\nliteral 9\n" + "zabcde\n" * n,
    "words after it": lambda n: CHANGE + "\n" + "word\n" * n,
}


@pytest.mark.parametrize("name", BIG)
def test_reading_takes_linear_time(name: str) -> None:
    """Eight times as much takes less than thirty times as long: a quadratic reader takes 64 times."""

    def seconds(size: int) -> float:
        diff = BIG[name](size).encode()
        best = 1e9
        for _ in range(3):
            start = time.process_time()
            with suppress(Refused):
                unsafe_paths(read_diff(diff, where="x"))
            best = min(best, time.process_time() - start)
        return best

    assert seconds(16_000) < 30 * max(seconds(2_000), 0.001)


PIECES = ("\n", " ", "-", "+", "\\ No newline at end of file\n", "@@ -1 +1 @@\n", "\n@@ -1", "-- \n2\n",
          "diff --git a/x b/x\n", "\r\n", '"', "\t", "100755", "new file mode 100644\n", "\udcff",
          "\u0661", "rename from x\n", "@@ -0,0 +0,0 @@\n", "/dev/null", "9", "old mode 100644\n")  # fmt: skip


def changed_at_random(diff: str, random: Random) -> str:
    """A diff with some of its lines or characters taken out, doubled or replaced."""
    for _ in range(random.randint(0, 3)):
        at, line = random.randrange(len(diff) + 1), diff.split("\n")
        number = random.randrange(len(line))
        diff = random.choice((
            diff[:at] + random.choice(PIECES) + diff[at:],
            diff[:at] + random.choice(PIECES) + diff[at + 1 :],
            diff[: at or 1],
            "\n".join(line[:number] + line[number + 1 :]),
            "\n".join(line[:number] + line[number : number + 1] + line[number:]),
        ))  # fmt: skip
    return diff


def test_the_usual_form_of_a_diff_means_the_same_if_it_is_read_line_by_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = Random(18)
    long = CHANGE.replace(
        "-x\n+y\n", "-x\n+y\n@@ -9,3 +9,4 @@ f\n a\n+b\n c\n d\n@@ -20 +21 @@\n-x\n+y\n"
    )
    gone = (
        NEW.replace("new file", "deleted file")
        .replace("/dev/null", "X")
        .format(path="d", mode="100644")
    )
    gone = gone.replace("+++ b/d", "+++ /dev/null").replace("--- X", "--- a/d").replace("+x", "-x")
    gone = gone.replace("-0,0 +1", "-1 +0,0")
    usual = (
        CHANGE,
        long,
        new("a/b c"),
        new("a/ü", "120000"),
        gone,
        new("x") + long + gone + CHANGE,
    )
    diffs = [*usual, *(changed_at_random(random.choice(usual), random) for _ in range(1500))]

    def answers() -> list[object]:
        found: list[object] = []
        for diff in diffs:
            try:
                found.append(list(read(diff)))
            except Refused as refused:
                found.append((refused.message, refused.where))
        return found

    fast = answers()
    for method in ("_usual_file", "_usual_hunk"):
        monkeypatch.setattr(f"fixtool.series.diff._Reader.{method}", lambda *_: None)
    assert fast == answers()
    assert 150 < sum(isinstance(answer, list) for answer in fast) < len(fast) - 150
