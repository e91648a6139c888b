"""Projects that are not SGLang: what `init` recognises, what a line remembers, what is printed."""

from __future__ import annotations

import re
import shlex
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtool.commands import retype
from fixtool.errors import Refused
from fixtool.profile import PLAIN, SGLANG, profile_of_url, repository_key, repository_name
from fixtool.series.line import PatchRepository
from fixtool.settings import load
from support.json_documents import document
from support.package_index import Server, make_wheel
from support.repositories import NUMBERS, Git, Ran

Run = Callable[..., Ran]
Clone = Callable[[str], Git]
FIVE = NUMBERS.replace("line 5\n", "line five\n")
ORIGIN = "https://git.example/team/widget.git"


@pytest.fixture
def widget(make_git: Clone) -> Git:
    """A project in C, with two tags. Lines have moved from the first to the second."""
    git = make_git("widget")
    git.commit("base", **{"src/widget.c": NUMBERS, "docs/guide_txt": "read\n"})
    git("tag", "v1.0")
    git.commit("widget: begin with a line", **{"src/widget.c": f"first\n{NUMBERS}"})
    git("tag", "v1.1")
    git("remote", "add", "origin", ORIGIN)
    return git


@pytest.fixture
def fork(widget: Git, make_git: Clone) -> Git:
    """A fork of it with one commit."""
    git = make_git("fork")
    git("fetch", "--quiet", str(widget.path), "refs/tags/v1.0:refs/heads/fix")
    git("checkout", "--quiet", "fix")
    trailers = "Probe: probes/example.py src/widget.c 'line five'"
    git.commit(f"widget: spell out five\n\nWhy.\n\n{trailers}", **{"src/widget.c": FIVE})
    return git


def in_git(folder: Path) -> None:
    git = Git(folder)
    git("init", "--quiet", "--template=", "--initial-branch=main")
    git("config", "user.name", "A Maintainer")
    git("config", "user.email", "m@example.org")
    git.commit("start")


def test_a_day_with_another_project(fixtool: Run, widget: Git, fork: Git, tmp_path: Path) -> None:
    """No text and no file says SGLang, and nothing asks for torch."""
    own, source = tmp_path / "own", ("--source", widget.path)
    texts: list[str] = []

    def run(*words: str | Path) -> Ran:
        ran = fixtool(*words)
        texts.append(f"{words[0]} {ran.out} {ran.err}")
        assert ran.status == 0, texts[-1]
        return ran

    run("init", own, "--upstream", widget.path, "--base", "v1.0", "--line", "ours")
    run("import", "v1.0..fix", "--from", fork.path, "-C", own)
    in_git(own)
    applied = run("apply", "-C", own, *source)
    assert "build     nothing to build here: the tree has no pyproject.toml" in applied.out
    linted = run("lint", "-C", own)
    assert f"see where: fixtool lint -C {own} --line ours --trailers each" in linted.out
    run("list", "-C", own)
    run("rebase", "--onto", "v1.1", "-C", own, *source)
    run("export", "--line", "ours", "--combined", tmp_path / "all.patch", "-C", own, *source)
    proposed = run("upstream", "widget-spell-out-five", "--onto", "v1.1", "-C", own, *source)
    assert "title     widget: spell out five\n" in proposed.out
    run("report", "--output", tmp_path / "page", "-C", own, *source)
    written = [*own.rglob("*"), *(tmp_path / "page").rglob("*"), tmp_path / "all.patch"]
    texts += [path.read_text("utf-8", "replace") for path in written if path.is_file()
              and ".git" not in path.parts]  # fmt: skip
    assert len(texts) > 15
    for text in texts:
        assert not re.search("sglang|torch|Accuracy", text, re.IGNORECASE), text


def test_the_line_knows_the_clones_own_upstream(fixtool: Run, widget: Git, tmp_path: Path) -> None:
    ran = fixtool("init", "own", "--upstream", widget.path, "--base", "v1.0")
    assert f"upstream  {ORIGIN}\nprofile   plain: " in ran.out
    (line,) = PatchRepository.find(tmp_path / "own").lines
    assert (line.upstream.url, line.upstream.profile) == (ORIGIN, None)
    toml = (line.folder / "upstream.toml").read_text()
    assert toml.startswith('why = "patches on widget, first written for 1.0"\n')
    assert load(tmp_path / "own").profile is PLAIN


def test_a_login_in_the_remote_is_not_written(fixtool: Run, widget: Git, tmp_path: Path) -> None:
    widget("remote", "set-url", "origin", "https://me:secret@git.example/team/widget.git")
    ran = fixtool("init", "own", "--upstream", widget.path, "--base", "v1.0")
    (line,) = PatchRepository.find(tmp_path / "own").lines
    assert line.upstream.url == ORIGIN
    assert "secret" not in ran.out + ran.err


def test_a_clone_without_a_remote_is_its_own_upstream(
    fixtool: Run, widget: Git, fork: Git, tmp_path: Path
) -> None:
    widget("remote", "remove", "origin")
    ran = fixtool("init", "own", "--upstream", widget.path, "--base", "v1.0", "--line", "ours")
    again = f"fixtool init own --upstream {widget.path} --base v1.0 --line ours --url URL"
    assert f"to name another: {again}\n" in ran.out
    assert fixtool("import", "v1.0..fix", "--from", fork.path, "-C", "own").status == 0
    ran = fixtool("apply", "-C", "own", "--ref", "v1.1", "--dry-run")  # without --source
    assert (ran.status, "(v1.1 from git)" in ran.out) == (0, True)


def test_of_two_remotes_a_person_chooses(fixtool: Run, widget: Git, tmp_path: Path) -> None:
    widget("remote", "add", "upstream", "git@git.example:widget/widget.git")
    words = ["init", "own", "--upstream", str(widget.path), "--base", "v1.0"]
    ran = fixtool(*words)
    assert (ran.status, list(tmp_path.glob("own"))) == (2, [])
    commands = re.findall(r"fixtool (init [^;\n]*)", ran.err)
    assert [shlex.split(command)[-1] for command in commands] == [
        "git@git.example:widget/widget.git", ORIGIN,
    ]  # fmt: skip
    assert fixtool(*shlex.split(commands[0])).status == 0
    (line,) = PatchRepository.find(tmp_path / "own").lines
    assert line.upstream.url == "git@git.example:widget/widget.git"


PROJECT = """\
[project]
name = "gizmo"
dynamic = ["version"]

[tool.setuptools.packages.find]
include = ["gizmo*"]
"""


def test_a_wheel_of_a_project_at_the_top(fixtool: Run, make_git: Clone, tmp_path: Path) -> None:
    git = make_git("gizmo")
    files = {"gizmo/a_py": "x = 1\n", "tests/b_py": "y = 1\n"}
    git.write("pyproject.toml", PROJECT)
    git.commit("base", **files)
    git("tag", "v2.0")
    fixtool("init", "own", "--upstream", git.path, "--base", "v2.0")
    words = ["apply", "-C", "own", "--source", git.path]
    built = document(fixtool(*words, "--json"))["build"]
    assert built["version"].startswith("2.0+fixtool.")
    with zipfile.ZipFile(built["path"]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == {"gizmo/a.py"}


def test_an_upstream_whose_branch_is_master(
    fixtool: Run, widget: Git, fork: Git, tmp_path: Path
) -> None:
    """Every default was main, which many projects do not have."""
    own = tmp_path / "own"
    fixtool("init", own, "--upstream", widget.path, "--base", "v1.0", "--line", "ours")
    fixtool("import", "v1.0..fix", "--from", fork.path, "-C", own)
    in_git(own)
    widget("branch", "--quiet", "--move", "main", "master")
    where = ("-C", own, "--source", widget.path)
    for words in (
        ["history"],
        ["coverage", "--from", "v1.0"],
        ["upstream", "widget-spell-out-five"],
    ):
        ran = fixtool(*words, *where)
        assert ran.status in (0, 3), ran.err
    widget("branch", "--quiet", "--move", "master", "trunk")
    ran = fixtool("history", *where)
    assert (ran.status, "'main'" in ran.err) == (4, True)


def test_a_wheel_that_cannot_be_built_is_told(
    fixtool: Run, make_git: Clone, tmp_path: Path
) -> None:
    """The work tree is a good answer of its own, unless a wheel was asked for."""
    git = make_git("gizmo")
    git.write("pyproject.toml", '[project]\nversion = "2.0"\n')
    git.commit("base")
    git("tag", "v2.0")
    fixtool("init", "own", "--upstream", git.path, "--base", "v2.0")
    words = ["apply", "-C", "own", "--source", git.path]
    ran = fixtool(*words)
    assert (ran.status, ran.err) == (0, "")
    assert "\nbuild     no wheel: not valid project metadata: " in ran.out
    answer = document(fixtool(*words, "--json"))
    assert (answer["build"], answer["notes"][-1][:10]) == (None, "no wheel: ")
    assert Path(answer["worktree"], "pyproject.toml").is_file()
    assert fixtool(*words, "--build").status == 1


def test_another_build_system_is_no_fault(fixtool: Run, make_git: Clone) -> None:
    """llama.cpp has a pyproject.toml for poetry alone. The answer was "no wheel: not valid project
    metadata: project is missing, not an object"."""
    git = make_git("gizmo")
    git.write("pyproject.toml", '[tool.poetry]\nname = "gizmo"\n')
    git.commit("base")
    git("tag", "v2.0")
    fixtool("init", "own", "--upstream", git.path, "--base", "v2.0")
    ran = fixtool("apply", "-C", "own", "--source", git.path)
    assert (ran.status, ran.err) == (0, "")
    assert "\nbuild     nothing to build here: pyproject.toml has no [project] table" in ran.out


def test_sglang_is_recognised_by_its_tree(fixtool: Run, make_git: Clone, tmp_path: Path) -> None:
    git = make_git("clone")
    git.commit("base", python__sglang__a_py="x = 1\n")
    base = git.head()
    made = document(fixtool("init", "own", "--upstream", git.path, "--base", base, "--json"))
    assert (made["profile"], made["upstream"]["profile"]) == ("sglang", None)
    assert (tmp_path / "own/pyproject.toml").read_text() == '[tool.fixtool]\nprofile = "sglang"\n'


def test_a_line_of_another_project_says_its_own_profile(
    fixtool: Run, make_git: Clone, widget: Git, tmp_path: Path
) -> None:
    git = make_git("clone")
    git.commit("base", python__sglang__a_py="x = 1\n")
    fixtool("init", "own", "--upstream", git.path, "--base", git.head(), "--line", "first")
    fixtool("init", "own", "--upstream", widget.path, "--base", "v1.0", "--line", "second")
    first, second = PatchRepository.find(tmp_path / "own").lines
    settings = load(tmp_path / "own")
    assert (first.upstream.profile, second.upstream.profile) == (None, "plain")
    assert first.upstream.settings(settings).indexed == "sglang"
    assert second.upstream.settings(settings).profile is PLAIN


def test_a_release_line_remembers_the_package_index(
    server: Server, fixtool: Run, tmp_path: Path
) -> None:
    """Nothing but the index is asked: git has no address that it could reach."""
    server.project = "gadget"
    for version in ("1.0", "1.1"):
        make_wheel(server.folder, version, files={"gadget/a.py": b"x = 1\n"}, name="gadget")
    words = ["init", "own", "--upstream", "pypi", "--project", "gadget", "--base", "1.0"]
    ran = fixtool(*words)
    assert (ran.status, "in which repository gadget is developed" in ran.err) == (2, True)
    assert f"fixtool {shlex.join(words)} --url URL" in ran.err
    ran = fixtool(*words, "--url", "http://127.0.0.1:9/gadget")
    assert ran.status == 0, ran.err
    change = "--- a/gadget/a.py\n+++ b/gadget/a.py\n@@ -1 +1 @@\n-x = 1\n+x = 2\n"
    (tmp_path / "two.patch").write_text(change)
    assert fixtool("import", "two.patch", "-C", "own").status == 0
    for ref in ([], ["--ref", "1.0"], ["--sglang-ref", "v1.1"]):
        applied = document(fixtool("apply", "-C", "own", *ref, "--json"))
        assert (applied["exit_code"], applied["source"]) == (0, "pypi")
    assert applied["build"]["version"].startswith("1.1+fixtool.")
    assert Path(applied["worktree"], "gadget/a.py").read_text() == "x = 2\n"


@pytest.fixture
def two(fixtool: Run, widget: Git, make_git: Clone, tmp_path: Path) -> Path:
    """A patch repository with a line of each of two upstreams, which share the tag v1.0."""
    widget("remote", "remove", "origin")
    gadget = make_git("gadget")
    gadget.commit("base", **{"gadget.c": NUMBERS})
    gadget("tag", "v1.0")
    gadget.commit("more", **{"gadget.c": f"first\n{NUMBERS}"})
    gadget("tag", "v3.0")
    for git in (widget, gadget):
        words = ["--upstream", git.path, "--base", "v1.0", "--line", git.path.name]
        assert fixtool("init", "own", *words).status == 0
    return tmp_path / "own"


@pytest.mark.parametrize(("ref", "line"), [("v1.1", "widget"), ("v3.0", "gadget")])
def test_the_upstream_that_knows_the_ref(fixtool: Run, two: Path, ref: str, line: str) -> None:
    ran = document(fixtool("apply", "--ref", ref, "-C", two, "--dry-run", "--json"))
    assert (ran["line"], ran["line_reason"]) == (line, "the only line of its upstream")


def test_a_tag_that_two_upstreams_share(fixtool: Run, two: Path) -> None:
    ran = fixtool("apply", "--ref", "v1.0", "-C", two, "--dry-run")
    assert (ran.status, "'v1.0' is in 2 upstreams: " in ran.err) == (2, True)
    commands = re.findall(r"fixtool (apply [^;\n]*)", ran.err.partition("  try: ")[2])
    lines = [fixtool(*shlex.split(command)).out.split()[1] for command in commands]
    assert sorted(lines) == ["gadget", "widget"]


def test_a_ref_that_no_upstream_has(fixtool: Run, two: Path) -> None:
    ran = fixtool("apply", "--ref", "v9", "-C", two, "--dry-run")
    assert (ran.status, "no upstream of this repository has 'v9': " in ran.err) == (4, True)


def test_a_clone_is_of_the_upstream_whose_base_it_holds(
    fixtool: Run, two: Path, widget: Git
) -> None:
    words = ["apply", "--ref", "v1.0", "--source", widget.path, "-C", two, "--dry-run", "--json"]
    assert document(fixtool(*words))["line"] == "widget"


def test_a_profile_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.fixtool]\nprofile = "vllm"\n')
    with pytest.raises(Refused, match="profile = 'vllm' is no profile: it is sglang or plain"):
        load(tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "https://git.example/a/b", "https://git.example/a/b.git", "https://GIT.example/a/b/",
        "git@git.example:a/b.git", "ssh://git@git.example/a/b", "https://me:x@git.example/a/b",
    ],
)  # fmt: skip
def test_addresses_of_one_repository(url: str) -> None:
    assert repository_key(url) == "git.example/a/b"
    assert repository_name(url) == "b"


def test_other_addresses() -> None:
    assert len({*map(repository_key, ("https://a/b", "https://a/c", "/a/b", "https://[x"))}) == 4
    assert profile_of_url("git@mirror.example:team/sglang.git") is SGLANG
    assert profile_of_url("https://github.com/nodejs/nan") is None


TYPED = [
    "-C",
    "my repo",
    "rebase",
    "--source=../up",
    "--line",
    "l",
    "--python",
    "py",
    "--onto",
    "v2",
]


@pytest.mark.parametrize(
    ("text", "completed"),
    [
        ("fixtool lint", "fixtool lint -C 'my repo' --source ../up --line l"),
        ("mend it, then fixtool rebase --onto v3; or fixtool show a",
         "mend it, then fixtool rebase -C 'my repo' --source ../up --line l --python py --onto v3; "
         "or fixtool show -C 'my repo' --line l a"),
        ("fixtool rebase --line k --continue", "fixtool rebase -C 'my repo' --line k --continue"),
        ("fixtool init DIR", "fixtool init DIR"),
        ("fixtool build --editable", "fixtool build --python py --editable"),
        ("fixtool apply --help", "fixtool apply --help"),
        ("fixtool apply --source git", "fixtool apply -C 'my repo' --line l --python py --source git"),
        ("/usr/bin/fixtool lint, and no fixtoolx lint", "/usr/bin/fixtool lint, and no fixtoolx lint"),
    ],
)  # fmt: skip
def test_a_command_that_is_named_works_as_typed(text: str, completed: str) -> None:
    assert retype.complete(text, TYPED) == completed
    assert retype.complete(text, ["rebase", "--onto", "v2"]) == text
