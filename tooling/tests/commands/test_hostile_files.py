"""A patch repository that a stranger wrote: what it holds is read only as far as it was checked, and
no file outside of it is read, written or removed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtool.settings import load
from support.bad_inputs import mail, makes
from support.command import run_process
from support.repositories import NUMBERS, Git, Ran, Team

Run = Callable[..., Ran]
FIX = NUMBERS.replace("line 20\n", "line 20 fixed\n")
OTHER = NUMBERS.replace("line 3\n", "line 3 fixed\n")
RENAME = (
    "diff --git a/README.txt b/README.txt\nsimilarity index 100%\nrename from README.txt\n"
    "rename to .github/workflows/x.yml\n"
)
SECRET = "a private key\n"


@pytest.fixture
def line(team: Team) -> Path:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    return team.root / "patches/main"


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A folder of the user's with a file that no command may read."""
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "key").write_text(SECRET)
    return folder


def commit_all(team: Team) -> Git:
    git = Git(team.root)
    git("init", "--quiet", "--template=", "--initial-branch=main")
    git.write(".gitignore", "patches/.lock\n")
    git("config", "user.name", "A Person")
    git("config", "user.email", "person@example.org")
    git("add", "--all")
    git("commit", "--quiet", "--message", "state")
    return git


def refused(ran: Ran, *words: str, exit_code: int = 1) -> None:
    assert ran.status == exit_code, ran.out + ran.err
    assert "Traceback" not in ran.out + ran.err
    for word in words:
        assert word in ran.err + ran.out, ran.err


# -- one parser ------------------------------------------------------------------------------------


def test_a_patch_cannot_rename_a_file_to_where_its_text_does_not_say(
    team: Team, line: Path, fixtool: Run
) -> None:
    team.add("bad", mail(RENAME))
    ran = fixtool("apply", "--no-build", "--source", team.upstream.path, "--sglang-ref", "v1.0",
                  cwd=team.root)  # fmt: skip
    refused(ran, "rename from 'README.txt' to '.github/workflows/x.yml'", "bad.patch:")
    found = fixtool("lint", cwd=team.root)
    refused(found, "bad.patch:8: error: the diff is not well formed")


def test_a_tree_in_a_patch_is_no_file(team: Team, line: Path, fixtool: Run) -> None:
    team.add("bad", mail(makes("sub", "040000")))
    ran = fixtool("apply", "--no-build", "--source", team.upstream.path, "--sglang-ref", "v1.0",
                  cwd=team.root)  # fmt: skip
    refused(ran, "'040000' is no mode")


def test_import_tells_what_rules_git_and_ci(
    team: Team, line: Path, tmp_path: Path, fixtool: Run
) -> None:
    git = team.upstream
    git.commit("rules", **{".gitmodules": "x\n", ".github/workflows/x.yml": "on: push\n"})
    (tmp_path / "x.diff").write_text(git("diff", "v1.0", "HEAD") + "\n")
    ran = fixtool("import", tmp_path / "x.diff", "--source", git.path, "--json", cwd=team.root)
    assert ran.status == 0, ran.err
    notes = json.loads(ran.out)["patches"][0]["notes"]
    touched = [note.split(" ")[0] for note in notes if not note.startswith("it ")]  # made up
    assert touched == [".github/workflows/x.yml", ".gitmodules"]


# -- regular files only ----------------------------------------------------------------------------

LINKS: dict[str, Callable[[Path, Path], None]] = {
    "series": lambda line, target: _link(line / "series", target / "key"),
    "upstream.toml": lambda line, target: _link(line / "upstream.toml", target / "key"),
    "patch": lambda line, target: _link(line / "fix.patch", target / "key"),
    "line": lambda line, target: _link_folder(line, target),
    "patches": lambda line, target: _link_folder(line.parent, target),
    "series is a device": lambda line, _: _link(line / "series", Path("/dev/zero")),
    "patch is a device": lambda line, _: _link(line / "fix.patch", Path("/dev/zero")),
    "upstream.toml is a pipe": lambda line, _: _pipe(line / "upstream.toml"),
    "patch is a pipe": lambda line, _: _pipe(line / "fix.patch"),
    "series is a folder": lambda line, _: _folder(line / "series"),
}


def _link(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


def _link_folder(path: Path, target: Path) -> None:
    path.rename(target / "moved")
    path.symlink_to(target / "moved")


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("verb", ["lint", "list", "show"])
def test_only_regular_files_are_read(
    name: str, verb: str, team: Team, line: Path, private: Path, fixtool: Run
) -> None:
    LINKS[name](line, private)
    words = ["show", "fix"] if verb == "show" else [verb]
    ran = fixtool(*words, cwd=team.root)
    refused(ran, "link")
    assert SECRET.strip() not in ran.out + ran.err


SHELF: dict[str, Callable[[Path, Path], None]] = {
    "a folder": lambda line, target: (line / "shelf").symlink_to(target),
    "its list": lambda line, target: (line / "shelf.toml").symlink_to(target / "key"),
    "a file": lambda line, target: (line / "note.txt").symlink_to(target / "key"),
    "a broken link": lambda line, target: (line / "note.txt").symlink_to(target / "gone"),
    "a pipe": lambda line, _: os.mkfifo(line / "note"),
}


@pytest.mark.parametrize("name", SHELF)
def test_a_link_in_a_line_is_not_copied_into_a_commit(
    name: str, team: Team, line: Path, private: Path, fixtool: Run
) -> None:
    """A shelf that is a link to a private folder was copied into the line, and committed."""
    team.patch("other", "fix three", python__model_py=OTHER)
    SHELF[name](line, private)
    git = commit_all(team)
    before = git.head()
    ran = fixtool("drop", "fix", "--reason", "x", "--source", team.upstream.path, cwd=team.root)
    refused(ran, "is a link")
    assert git.head() == before
    assert sorted(private.iterdir()) == [private / "key"]
    assert SECRET not in git("log", "-p", "--all")


def test_sizes_are_asked_before_files_are_read(team: Team, line: Path, fixtool: Run) -> None:
    with (line / "fix.patch").open("r+b") as file:
        file.truncate(100 << 20)
    ran = fixtool("lint", cwd=team.root)
    refused(ran, "fix.patch has 104857600 bytes", "[size]")
    with (line / "series").open("r+b") as file:
        file.truncate(100 << 20)
    refused(fixtool("lint", cwd=team.root), "series has 104857600 bytes")


def test_an_import_reads_no_more_than_a_patch_can_have(
    team: Team, line: Path, tmp_path: Path, fixtool: Run
) -> None:
    big = tmp_path / "big.diff"
    big.write_text(makes("x") + "")
    with big.open("r+b") as file:
        file.truncate(100 << 20)
    refused(
        fixtool("import", big, "--source", team.upstream.path, cwd=team.root), "104857600 bytes"
    )
    endless = fixtool("import", "/dev/zero", "--source", team.upstream.path, cwd=team.root)
    refused(endless, "zero has more")
    big.write_bytes(makes("x").replace("@@\n+x", "@@\n+" + "x" * (9 << 20)).encode())
    refused(
        fixtool("import", big, "--source", team.upstream.path, cwd=team.root), "at most 8388608"
    )


# -- values that become paths or arguments ---------------------------------------------------------


@pytest.mark.parametrize("name", ["../../outside", "a/b", "-x", "x\n", "." * 3])
def test_a_project_cannot_leave_the_state_folder(
    team: Team, line: Path, fixtool: Run, name: str
) -> None:
    (team.root / "pyproject.toml").write_text(f"[tool.fixtool]\nproject = {json.dumps(name)}\n")
    ran = fixtool("apply", "--source", "pypi", "--sglang-ref", "1.0", cwd=team.root)
    refused(ran, "is not a name on a package index")


def test_abort_removes_only_its_own_folder(
    team: Team, line: Path, private: Path, settings: object, fixtool: Run
) -> None:
    git = commit_all(team)
    near = NUMBERS.replace("line 20\n", "line twenty\n")
    team.upstream.commit("same place", python__model_py=near)
    parked = fixtool("rebase", "--onto", "main", "--source", team.upstream.path, cwd=team.root)
    assert parked.status == 3, parked.err
    (file,) = (load(None).state / "rebase").glob("*.json")
    session = json.loads(file.read_text())
    own = Path(session["worktree"])
    file.write_text(json.dumps({**session, "worktree": str(private), "store": str(private)}))
    refused(fixtool("rebase", "--abort", cwd=team.root), "not readable", exit_code=4)
    file.write_text(json.dumps({**session, "worktree": str(private)}))
    ran = fixtool("rebase", "--abort", cwd=team.root)
    assert ran.status == 0, ran.err
    assert (private / "key").read_text() == SECRET
    assert not own.exists()
    assert git("status", "--porcelain") == ""


SESSIONS: dict[str, object] = {
    "onto": "--output=/tmp/x", "parent": "HEAD", "slug": "../x", "line": "other", "conflicts": ["../x"],
    "memory": ["../../x"], "resolved": {"fix": "--x"}, "skipped": {"../x": "why"}, "learned": {"../x": ""},
    "new_line": "../x", "position": "1", "probe": "yes", "store": "/", "of": None,
}  # fmt: skip


@pytest.mark.parametrize("key", SESSIONS)
def test_a_session_holds_ids_and_names_alone(
    team: Team, line: Path, fixtool: Run, key: str
) -> None:
    commit_all(team)
    near = NUMBERS.replace("line 20\n", "line twenty\n")
    team.upstream.commit("same place", python__model_py=near)
    assert (
        fixtool("rebase", "--onto", "main", "--source", team.upstream.path, cwd=team.root).status
        == 3
    )
    (file,) = (load(None).state / "rebase").glob("*.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), key: SESSIONS[key]}))
    for verb in ("--continue", "--abort"):
        refused(fixtool("rebase", verb, cwd=team.root), "not readable", key, exit_code=4)


RECORDS: dict[str, object] = {
    "onto": "--output=x", "base": "HEAD", "commit": 5, "moving_to": "--hard", "commits": ["fix"],
    "branch": "x\nupdate refs/heads/main " + "a" * 40, "line": None, "release": 1, "proposal": "../x",
}  # fmt: skip


@pytest.mark.parametrize("key", RECORDS)
def test_a_record_holds_ids_and_names_alone(
    team: Team, line: Path, tmp_path: Path, fixtool: Run, key: str
) -> None:
    tree = tmp_path / "tree"
    made = fixtool("apply", "--no-build", "--source", team.upstream.path, "--sglang-ref", "v1.0",
                   "--worktree", tree, cwd=team.root)  # fmt: skip
    assert made.status == 0, made.err
    file = Path(Git(tree)("rev-parse", "--absolute-git-dir")) / "fixtool.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: RECORDS[key]}))
    for words in (["export"], ["refresh", "fix"], ["build"]):
        ran = fixtool(*words, "--worktree", tree, cwd=team.root)
        refused(ran, "record of this work tree is not readable", exit_code=4)


@pytest.mark.parametrize(
    ("folder", "name"), [("private", "../../evil"), ("line", "../../evil"), ("private", "a")]
)
def test_a_note_of_a_killed_run_writes_into_its_line_alone(
    team: Team, line: Path, private: Path, fixtool: Run, folder: str, name: str
) -> None:
    commit_all(team)
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    place = {"private": private, "line": line}[folder]
    rewrite = {"folder": str(place), "before": empty, "after": empty, "files": {name: "eA=="}}
    note = {"message": "x\n", "folders": [{**rewrite, "remove": ["key"]}]}
    (team.root / ".git" / "fixtool.pending.json").write_text(json.dumps(note))
    ran = fixtool("drop", "fix", "--reason", "x", "--source", team.upstream.path, cwd=team.root)
    assert ran.status == 0, ran.err
    assert (private / "key").read_text() == SECRET
    assert not list(team.root.parent.glob("**/evil"))


# -- lines -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", ["\x0c", "\x0b", "\x1c", "\x85", "\u2028", "\r"])
def test_a_comment_with_an_odd_line_end_shifts_no_line(
    team: Team, line: Path, fixtool: Run, odd: str
) -> None:
    """drop put one patch on the shelf and took another one's line out of the series."""
    team.patch("other", "fix three", python__model_py=OTHER)
    (line / "series").write_bytes(f"# a{odd}#\nfix.patch\nother.patch\n".encode())
    commit_all(team)
    ran = fixtool(
        "drop", "fix", "--reason", f"a{odd}b", "--source", team.upstream.path, cwd=team.root
    )
    assert ran.status == 0, ran.err
    assert (line / "series").read_bytes() == f"# a{odd}#\nother.patch\n".encode()
    assert (line / "shelf/fix.patch").is_file()
    assert fixtool("lint", cwd=team.root).status == 0


@pytest.mark.parametrize("odd", ["\x0c", "\u2028", "\u0085"])
def test_a_subject_with_an_odd_line_end_is_one_subject(
    team: Team, line: Path, fixtool: Run, tmp_path: Path, odd: str
) -> None:
    git = team.upstream
    git("checkout", "--quiet", "--detach", "v1.0")
    git.commit(f"area: a{odd}b\n\nWhy.", python__model_py=OTHER)
    ran = fixtool("import", "v1.0..HEAD", "--from", git.path, cwd=team.root)
    assert ran.status == 0, ran.err
    shown = fixtool("list", "--json", cwd=team.root)
    subjects = [patch["subject"] for patch in json.loads(shown.out)["lines"][0]["patches"]]
    kept = "" if odd == "\x0c" else odd  # a control character: lint refuses it, import takes it out
    assert subjects == ["fix twenty", f"area: a{kept}b"]


# -- what is edited as text ------------------------------------------------------------------------

TOMLS = {
    "prose": 'why = """\nbase = "of the line"\ntree = "x"\n"""\n{}',
    "prose first": "why = '''\nrelease = \"x\"\n'''\n{}",
    "quoted keys": '"base" = "BASE"\n\'tree\' = "TREE"\n{}',
    "blanks": '  base   =   "BASE"   # here\n{}',
    "line separator": 'why = "a\u2028b"\n{}',
    "carriage returns": 'why = "x"\r\n{}',
}


@pytest.mark.parametrize("name", TOMLS)
def test_a_rebase_writes_an_upstream_toml_that_says_what_it_should(
    team: Team, line: Path, fixtool: Run, name: str
) -> None:
    path = line / "upstream.toml"
    rest = path.read_text().partition("\n")[2]  # without its `why`
    values = dict(re.findall(r'^(\w+) = "(.*)"$', rest, re.MULTILINE))
    start = TOMLS[name].replace("BASE", values["base"]).replace("TREE", values["tree"])
    for key in re.findall(
        r"""^\s*["']?(base|tree|date)["']?\s*=\s*"[0-9A-Fa-f-]{10}""", start, re.M
    ):
        rest = re.sub(rf"^{key} = .*\n", "", rest, flags=re.MULTILINE)
    path.write_bytes(start.format(rest).encode())
    git = commit_all(team)
    target = team.upstream.commit("more", more_txt="x\n")
    ran = fixtool("rebase", "--onto", "main", "--source", team.upstream.path, cwd=team.root)
    assert ran.status == 0, ran.err
    after = json.loads(fixtool("list", "--json", cwd=team.root).out)["lines"][0]["upstream"]
    assert after["base"] == target
    assert after["tree"] == team.upstream("rev-parse", "main^{tree}")
    assert git("status", "--porcelain") == ""
    if "why" in start:
        kept = start.partition("{}")[0].encode()
        assert path.read_bytes().startswith(kept)


# -- folders that others may write to --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["STATE", "CACHE"])
def test_a_folder_that_others_may_write_to_is_refused(
    team: Team, line: Path, tmp_path: Path, fixtool: Run, kind: str
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    words = ["apply", "--no-build", "--source", team.upstream.path, "--sglang-ref", "v1.0"]
    ran = fixtool(*words, cwd=team.root, **{f"FIXTOOL_{kind}_DIR": str(folder)})
    refused(ran, "can be written to by every user", str(folder), exit_code=4)
    folder.chmod(0o700)
    assert fixtool(*words, cwd=team.root, **{f"FIXTOOL_{kind}_DIR": str(folder)}).status == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("kind", ["STATE", "CACHE"])
def test_a_folder_of_another_user_is_refused(
    team: Team, line: Path, tmp_path: Path, fixtool: Run, kind: str
) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o755)
    os.chown(folder, 12345, 12345)
    words = ["apply", "--no-build", "--source", team.upstream.path, "--sglang-ref", "v1.0"]
    ran = fixtool(*words, cwd=team.root, **{f"FIXTOOL_{kind}_DIR": str(folder)})
    refused(ran, "belongs to another user", "FIXTOOL_STATE_DIR", exit_code=4)


# -- what is printed -------------------------------------------------------------------------------


def test_no_name_reaches_the_terminal_as_a_command(team: Team, line: Path, fixtool: Run) -> None:
    name = "\x1b[31mred\x07\u202e::error::x"
    shutil.copytree(line, team.root / "patches" / name)
    for words in (
        ["list"],
        ["lint"],
        ["show", "fix", "--line", "x"],
        ["apply", "--sglang-ref", "x"],
    ):
        ran = (
            fixtool(*words, "--source", team.upstream.path, cwd=team.root)
            if words[0] == "apply"
            else fixtool(*words, cwd=team.root)
        )
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", ran.out + ran.err)
        assert not re.search("^ *::", ran.out + ran.err, re.MULTILINE)


def test_a_name_that_the_locale_cannot_show_is_escaped(team: Team, line: Path) -> None:
    shutil.copytree(line, team.root / "patches" / "ünïcode")
    ran = run_process("list", cwd=team.root, env={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
    assert (ran.status, ran.err) == (0, "")
    assert "\\xfcn\\xefcode" in ran.out


def test_memory_stays_small_with_a_series_that_never_ends(team: Team, line: Path) -> None:
    """The process may use 300 MB: a reader that does not stop would be killed, not refused."""
    _link(line / "series", Path("/dev/zero"))
    code = "import resource; resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))\n"
    code += "import sys; sys.argv = ['fixtool', 'lint']\nfrom fixtool.__main__ import main\nmain()"
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=team.root, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1, ran.stderr
    assert "no regular file" in ran.stderr
