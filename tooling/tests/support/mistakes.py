"""Common mistakes: a situation, what a person types in it, and what fixtool answers.

The table is tested, and docs/mistakes.md is written from it, by ``commands/test_mistakes.py``.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from support.command import run_here
from support.repositories import NUMBERS, Git, Ran, Team, format_patch

FIX = NUMBERS.replace("line 20\n", "line 20 fixed\n")
DIFF = "--- a/python/new.py\n+++ b/python/new.py\n@@ -0,0 +1 @@\n+x = 1\n"


@dataclass(frozen=True)
class Situation:
    """A maintainer's folders: upstream's clone, the patch repository with the lines main and next,
    and a work tree of main."""

    root: Path
    upstream: Git
    team: Git
    work: Git

    def run(self, *words: str | Path, cwd: Path | None = None, **env: str) -> Ran:
        environment = {
            "HOME": str(self.root), "FIXTOOL_STATE_DIR": str(self.root / "state"),
            "FIXTOOL_CACHE_DIR": str(self.root / "cache"), "FIXTOOL_SOURCE": str(self.upstream.path),
            "GIT_CONFIG_GLOBAL": str(self.root / ".gitconfig"), "NO_COLOR": "1", "TERM": "dumb",
            "EDITOR": "", "VISUAL": "", "GIT_EDITOR": "", **env,
        }  # fmt: skip
        return run_here(*words, cwd=cwd or self.team.path, env=environment)

    def shown(self, text: str) -> str:
        """What fixtool printed, with the names of folders and commits that are the same each
        time."""
        for path in (self.root.resolve(), self.root):
            text = text.replace(str(path), "~")
        text = re.sub(r"\b[0-9a-f]{40}\b", "0123456789abcdef0123456789abcdef01234567", text)
        text = re.sub(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{12,16}\b", "0123456789ab", text)
        text = re.sub(
            r"(?<=there are |tool undo )(?!99)\d+(?= operations|$)", "5", text, flags=re.M
        )
        return re.sub(r"(?<=team-)[0-9a-f]{6,10}", "012345", text)


def prepare(root: Path, upstream: Git) -> Situation:
    """Make the folders of a situation in ``root``. ``upstream`` lies there."""
    upstream.commit("theirs", python__model_py=NUMBERS.replace("line 20\n", "theirs\n"))
    upstream("tag", "v1.1")
    team = Team(root / "team", upstream)
    team.line()
    team.patch("fix-twenty", "model: fix twenty", python__model_py=FIX)
    upstream("checkout", "--quiet", "--detach", "v1.0")
    upstream.commit("first", python__model_py=FIX)
    message = (
        "model: say more of twenty\n\nWhy.\n\nOrigin: vendor\nForwarded: no\nDrop-When: never\n"
    )
    more = upstream.commit(
        f"{message}Signed-off-by: A Person <person@example.org>",
        python__model_py=FIX.replace("line 20 fixed\n", "line 20 fixed more\n"),
    )
    raw = format_patch(upstream, more)
    upstream("checkout", "--quiet", "main")
    team.add("more-twenty", raw)
    team.patch("other", "other: shout", python__other_py="alpha\nBETA\ngamma\n")
    team.line("next", base=upstream("rev-parse", "v1.1"))
    git = team.track()
    (root / ".gitconfig").write_text("")
    situation = Situation(root, upstream, git, Git(root / "work"))
    words = ("apply", "--line", "main", "--ref", "v1.0", "--no-build", "--worktree", root / "work")
    ran = situation.run(*words)
    assert ran.status == 0, ran.err
    return situation


Arrange = Callable[[Situation], Iterator[None]]


@dataclass(frozen=True)
class Mistake:
    """``about`` says what a person did. ``typed`` is the command in the folder ``where``."""

    about: str
    typed: str
    code: int
    where: str = "team"
    arrange: Arrange | None = None
    env: dict[str, str] = field(default_factory=dict)

    def make(self, situation: Situation) -> Ran:
        with contextmanager(self.arrange or _nothing)(situation):
            words = [word.replace("_", " ") for word in self.typed.split()]
            words = [word.replace("~", str(situation.root)) for word in words]
            return situation.run(*words, cwd=situation.root / self.where, **self.env)


def section(mistake: Mistake, situation: Situation) -> str:
    """What docs/mistakes.md says of a mistake."""
    ran = mistake.make(situation)
    assert ran.status == mistake.code, f"{mistake.about} {ran.status}: {ran.out}{ran.err}"
    place = {"team": "", "work": "cd ~/work\n$ ", EMPTY: "cd ~/empty\n$ "}[mistake.where]
    variables = "".join(f"{name}={value} " for name, value in mistake.env.items())
    typed = " ".join(f"'{word.replace('_', ' ')}'" if "_" in word else word
                     for word in mistake.typed.split())  # fmt: skip
    text = situation.shown(ran.out + ran.err).rstrip()
    return (
        f"### {mistake.about}\n\n```text\n$ {place}{variables}fixtool {typed}\n{text}\n```\n\n"
        f"Exit code: {mistake.code}.\n"
    )


def page(situation: Situation) -> str:
    """docs/mistakes.md."""
    groups = (
        f"## {group}\n\n" + "\n".join(section(mistake, situation) for mistake in mistakes)
        for group, mistakes in MISTAKES.items()
    )
    return HEAD + "\n".join(groups)


HEAD = """# Common mistakes, and what fixtool answers

Each answer says what is wrong, where it is (`at:`), and what to type next (`try:`). A command after `try:` is
whole: it can be typed as it stands. What only you can know is in capitals, such as `NAME` or `DIR`.

The commands were typed in the patch repository `~/team`, which has the lines `main` and `next`, if no `cd` stands
before them. `~/upstream` is a clone of upstream, and `~/work` a work tree of the line `main`. `ci/mistakes` writes
this page, and a test compares it with what fixtool prints.

"""


def _nothing(_: Situation) -> Iterator[None]:
    yield


def changed(name: str, change: Callable[[str], str | None]) -> Arrange:
    """A file has what ``change`` makes of its text; with None, it is not there."""

    def arrange(situation: Situation) -> Iterator[None]:
        path = situation.root / name
        before = path.read_text() if path.exists() else None
        put(path, change(before or ""))
        yield
        put(path, before)

    return arrange


def put(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink()
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, newline="")


def writes(name: str, text: str) -> Arrange:
    return changed(name, lambda _: text)


def appends(name: str, text: str) -> Arrange:
    return changed(name, lambda before: before + text)


def removes(name: str) -> Arrange:
    return changed(name, lambda _: None)


def waits(*words: str) -> Arrange:
    """An edit or a rebase waits for a person."""

    def arrange(situation: Situation) -> Iterator[None]:
        ran = situation.run(*words)
        assert "continue" in ran.out, ran.out + ran.err
        yield
        ran = situation.run(words[0], "--abort", "--line", "main")
        assert ran.status == 0, ran.err

    return arrange


def gone(situation: Situation) -> Iterator[None]:
    """A rebase waits for a person, and somebody has removed its work tree."""
    with contextmanager(waits("rebase", "--onto", "v1.1", "--line", "main"))(situation):
        (tree,) = (situation.root / "state/worktrees").glob("*/rebase-main")
        shutil.rmtree(tree)
        yield


def nameless(situation: Situation) -> Iterator[None]:
    """git does not know who commits."""
    git = situation.team
    git("config", "--unset", "user.name")
    git("config", "--unset", "user.email")
    git("config", "user.useConfigOnly", "true")
    yield
    git("config", "--unset", "user.useConfigOnly")
    git("config", "user.name", "A Maintainer")
    git("config", "user.email", "m@example.org")


def bare(situation: Situation) -> Iterator[None]:
    """An empty folder, which is no patch repository."""
    (situation.root / "empty").mkdir()
    yield
    (situation.root / "empty").rmdir()


def shallow(situation: Situation) -> Iterator[None]:
    """A clone of upstream without its history."""
    clone, address = situation.root / "shallow", f"file://{situation.upstream.path}"
    situation.upstream("clone", "--quiet", "--depth", "1", address, str(clone))
    yield
    shutil.rmtree(clone)


def mailing(situation: Situation) -> Iterator[None]:
    """`git am` has stopped in the work tree."""
    state = Path(situation.work("rev-parse", "--absolute-git-dir")) / "rebase-apply"
    state.mkdir()
    (state / "applying").touch()
    yield
    shutil.rmtree(state)


EMPTY = "empty"
MAIN = "--line main"
OTHER = "team/patches/main/other.patch"
MISTAKES = {
    "Start a series": [
        Mistake("You are in a folder that is no patch repository.", "list", 2, EMPTY, bare),
        Mistake("You forget the base.", "init ours --upstream ~/upstream", 2, EMPTY, bare),
        Mistake("You misspell the base.", "init ours --upstream ~/upstream --base v1.O", 4, EMPTY, bare),
        Mistake("You give an address where no repository is.",
                "init ours --upstream file://~/nowhere --base v1.0", 4, EMPTY, bare),
        Mistake("You start a line that is there.", "init . --upstream ~/upstream --base v1.0 --line main", 2),
        Mistake("You import a file that is not there.", f"import fxi.diff {MAIN}", 4),
        Mistake("You import a file that holds no patch.", f"import notes.txt {MAIN}", 1,
                arrange=writes("team/notes.txt", "buy milk\n")),
        Mistake("You import an empty file.", f"import empty.patch {MAIN}", 1,
                arrange=writes("team/empty.patch", "")),
        Mistake("You import the address of a pull request.", f"import https://github.com/x/y/pull/3 {MAIN}", 2),
        Mistake("You import one commit.", f"import v1.1 --from ~/upstream {MAIN}", 2),
        Mistake("You name a clone of commits that is not there.", f"import v1.0..v1.1 --from ~/clone {MAIN}", 4),
        Mistake("You import a diff whose files upstream does not have.", f"import far.diff {MAIN}", 1,
                arrange=writes("team/far.diff", DIFF.replace("-0,0 +1", "-1 +1").replace("+x", "-y\n+x"))),
        Mistake("You give a line a name with a slash.",
                "init . --upstream ~/upstream --base v1.0 --line team/a", 2),
        Mistake("You import what the line has already.", f"import patches/main/other.patch {MAIN}", 1),
        Mistake("You import commits and do not say of which repository.", f"import v1.0..main {MAIN}", 2),
        Mistake("You import a range the wrong way round.", f"import main..v1.0 --from ~/upstream {MAIN}", 2),
        Mistake("You import a branch where a range is asked for.", f"import main --from ~/upstream {MAIN}", 2),
    ],
    "Apply and install": [
        Mistake("You misspell a command.", "aply --ref v1.0", 2),
        Mistake("You use quilt's word for it.", "push --ref v1.0", 2),
        Mistake("You ask for help as git gives it.", "help apply", 2),
        Mistake("You apply a patch file, as `git am` does.", "apply fix.patch", 2),
        Mistake("You misspell an option.", "apply --ref v1.0 --soruce git", 2),
        Mistake("You shorten an option.", "apply --ref v1.0 --dry", 2),
        Mistake("You give an option before the command.", "--line main apply --ref v1.0", 2),
        Mistake("You leave out --ref.", "apply v1.0", 2),
        Mistake("You name no commit, and there are two lines.", "apply", 2),
        Mistake("You misspell a tag.", f"apply --ref v1.O {MAIN}", 4),
        Mistake("You misspell a line.", "apply --ref v1.0 --line mian", 2),
        Mistake("You name a clone that is not there.", f"apply --ref v1.0 {MAIN} --source ../upsteam", 2),
        Mistake("You name a folder that is no clone.", f"apply --ref v1.0 {MAIN} --source ~/empty", 4, arrange=bare),
        Mistake("You name a clone that is shallow.", f"apply --ref v1.0 {MAIN} --source ~/shallow", 4, arrange=shallow),
        Mistake("You apply to a range of commits.", f"apply --ref v1.0..v1.1 {MAIN}", 2),
        Mistake("The series does not fit the commit.", f"apply --ref v1.1 {MAIN} --no-build", 3),
        Mistake("You name a folder of your own as the work tree.",
                f"apply --ref v1.0 {MAIN} --no-build --worktree ~/upstream", 1),
        Mistake("Your edits in the work tree are not committed.",
                f"apply --ref v1.0 {MAIN} --no-build --worktree ~/work", 1,
                arrange=writes("work/README.txt", "mine\n")),
        Mistake("You give an option no value.", f"apply {MAIN} --ref=", 2),
        Mistake("You name an interpreter that is not there.", "build --worktree ~/work --python ~/py", 2),
        Mistake("You name a work tree that is not there.", "refresh --worktree ~/wrok", 4),
        Mistake("You ask the status of nothing.", "status", 2),
        Mistake("You uninstall without an interpreter.", "uninstall", 2),
        Mistake("You build where no work tree is.", "build", 4),
        Mistake("You want an editable build and name no interpreter.", "build --editable", 2, "work"),
        Mistake("You install without an interpreter.", "install", 2),
    ],
    "Edit a series": [
        Mistake("You begin a patch whose name is taken.", f"new other -m x {MAIN}", 2),
        Mistake("You misspell the patch that you want to edit.", f"edit fix-twnety {MAIN}", 2),
        Mistake("You edit a patch while another edit waits.", f"edit other {MAIN}", 1,
                arrange=waits("edit", "fix-twenty", "--line", "main")),
        Mistake("You move a patch and do not say where to.", f"move other {MAIN}", 2),
        Mistake("You move a patch before the one that it needs.",
                f"move more-twenty --before fix-twenty --dry-run {MAIN}", 3),
        Mistake("You move a patch before itself.", f"move other --before other {MAIN}", 2),
        Mistake("You rename a patch to a name that is taken.", f"rename fix-twenty other {MAIN}", 2),
        Mistake("You give a patch a name with a slash.", f"new team/fix -m x {MAIN}", 2),
        Mistake("You copy a patch to its own line.", f"copy other {MAIN} --to main", 2),
        Mistake("You go on with an edit, and none waits.", f"edit --continue {MAIN}", 2),
        Mistake("You drop a patch while a rebase waits.", f"drop other --reason old {MAIN}", 1,
                arrange=waits("rebase", "--onto", "v1.1", "--line", "main")),
        Mistake("You split into a part that is not written NAME=PATH.", f"split other --into python {MAIN}", 2),
        Mistake("You drop two patches at once.", f"drop fix-twenty other --reason old {MAIN}", 2),
        Mistake("You name the patch to absorb into.", "absorb other", 2, "work"),
        Mistake("You export a work tree into another line.", "export --line next --worktree ~/work", 2),
        Mistake("You export onto a folder.", f"export --mbox ~/upstream {MAIN}", 4),
        Mistake("You give a patch a name with a blank.", f"rename fix-twenty fix_it {MAIN}", 2),
        Mistake("You squash a single patch.", f"squash other {MAIN}", 2),
        Mistake("You reword without an editor.", f"reword other {MAIN}", 2),
        Mistake("You copy a patch to a line that is not there.", f"copy other {MAIN} --to nxet", 2),
        Mistake("You copy a patch and do not say to which line.", f"copy other {MAIN}", 2),
        Mistake("You restore what is not on the shelf.", f"restore other {MAIN}", 2),
        Mistake("You split a patch and do not say how.", f"split other {MAIN}", 2),
        Mistake("You misspell the way to split.", f"split other --by fodler {MAIN}", 2),
        Mistake("You split by hunks as you do by files.", f"split other --by hunk {MAIN}", 2),
        Mistake("You drop a patch and give no reason.", f"drop other {MAIN}", 2),
        Mistake("You drop a patch that a later one needs.", f"drop fix-twenty --reason old {MAIN}", 1),
        Mistake("You edited a patch file by hand and did not commit it.",
                f"drop other --reason old {MAIN}", 1, arrange=appends("team/patches/main/series", "# x\n")),
        Mistake("git does not know who you are.", f"drop other --reason old {MAIN}", 4, arrange=nameless),
        Mistake("You refresh where no work tree is.", "refresh", 4),
        Mistake("You absorb, and have changed nothing.", "absorb", 0, "work"),
        Mistake("You export, and your edits are not committed.", "export", 1, "work",
                writes("work/README.txt", "mine\n")),
        Mistake("You export in the middle of `git am`.", "export", 1, "work", mailing),
        Mistake("You export where no work tree is.", "export", 4),
        Mistake("You name a patch with its folder.", "show patches/main/othr.patch", 2),
    ],
    "Follow upstream": [
        Mistake("You do not say where to.", f"rebase {MAIN}", 2),
        Mistake("You begin a rebase and go on at once.", f"rebase --onto v1.1 --continue {MAIN}", 2),
        Mistake("You rebase onto a branch of a fork.", f"rebase --onto someone:main {MAIN}", 2),
        Mistake("You give the new line a name that is taken.", f"rebase --onto v1.1 --new-line next {MAIN}", 2),
        Mistake("You ask for history from the newer to the older.", f"history --from v1.1 --to v1.0 {MAIN}", 2),
        Mistake("You give history a span where it takes patches.", "history v1.0..v1.1", 2),
        Mistake("You give coverage a word of git's.", "coverage --since v1.0", 2),
        Mistake("You removed the work tree in which a rebase waits.", f"rebase --continue {MAIN}", 4,
                arrange=gone),
        Mistake("You leave out --onto.", f"rebase v1.1 {MAIN}", 2),
        Mistake("You rebase onto a tag that is not there.", f"rebase --onto v1.2 {MAIN}", 4),
        Mistake("You go on, and no rebase waits.", f"rebase --continue {MAIN}", 2),
        Mistake("You go on, and a conflict marker is left.", f"rebase --continue {MAIN}", 1,
                arrange=waits("rebase", "--onto", "v1.1", "--line", "main")),
        Mistake("You give one release where a span is asked for.", f"history --releases 0.5.23 {MAIN}", 2),
        Mistake("You announce what is no JSON.", "announce rebase.json --by print", 1,
                arrange=writes("team/rebase.json", "error: interrupted\n")),
        Mistake("You announce by a way that there is none of.", "announce rebase.json --by slack", 2),
        Mistake("You announce a result that is not there.", "announce rebase.json --by print", 2),
    ],
    "Prove, and send upstream": [
        Mistake("The repository has no probes.", f"verify --prove {MAIN}", 1),
        Mistake("You give a word where a number is asked for.", "verify --tp two", 2),
        Mistake("A patch file is listed and is not there.", "lint", 1,
                arrange=appends("team/patches/main/series", "gone.patch\n")),
        Mistake("You changed a patch file by hand, and not the number in the head of its hunk.", "lint", 1,
                arrange=appends("team/patches/main/other.patch", "+y\n")),
        Mistake("Your editor wrote a byte order mark.", f"show other {MAIN}", 1,
                arrange=changed(OTHER, lambda text: f"\ufeff{text}")),
        Mistake("Your mailer wrote the patch with the line ends of Windows.", "lint", 1,
                arrange=changed(OTHER, lambda text: text.replace("\n", "\r\n"))),
        Mistake("A patch file is empty.", f"list {MAIN}", 1, arrange=writes(OTHER, "")),
        Mistake("You took [PATCH] out of a subject.", "lint", 1,
                arrange=changed(OTHER, lambda text: text.replace("[PATCH] ", ""))),
        Mistake("You added a patch to the series without the end of its name.", f"list {MAIN}", 1,
                arrange=appends("team/patches/main/series", "other\n")),
        Mistake("A merge has listed a patch twice.", "lint", 1,
                arrange=appends("team/patches/main/series", "other.patch\n")),
        Mistake("You wrote a tag as the base.", "list", 1,
                arrange=changed("team/patches/main/upstream.toml",
                                lambda text: re.sub(r"base = .*", 'base = "v1.0"', text))),
        Mistake("You removed the series of a line.", f"apply {MAIN}", 1,
                arrange=removes("team/patches/main/series")),
        Mistake("You removed a patch file that is in the series.", f"apply --ref v1.0 {MAIN}", 1,
                arrange=removes("team/patches/main/other.patch")),
        Mistake("You merged, and left a conflict marker in the series.", "list", 1,
                arrange=appends("team/patches/main/series", "<<<<<<< HEAD\n")),
        Mistake("A patch file is not in the series.", "lint --line main", 1,
                arrange=writes("team/patches/main/left.patch", "x\n")),
        Mistake("You misspell a way of lint.", "lint --trailers ech", 2),
        Mistake("You send to an upstream that is not on GitHub.", f"upstream other {MAIN} --send", 2),
        Mistake("You do not say which patch to send.", "upstream", 2),
        Mistake("You send two patches at once.", f"upstream more-twenty other {MAIN}", 2),
        Mistake("You misspell the patch to send.", f"upstream othr {MAIN}", 2),
    ],
    "Look, and take back": [
        Mistake("You misspell a patch.", "show fix-twnety", 2),
        Mistake("You show two patches.", "show fix-twenty other", 2),
        Mistake("You name a line, and list takes it as an option.", "list main", 2),
        Mistake("You misspell the patch that you compare.", f"diff othr {MAIN}", 2),
        Mistake("You ask what a patch needs, and misspell it.", f"deps othr {MAIN}", 2),
        Mistake("You take back more than there is.", "undo 99", 2),
        Mistake("You show a patch and do not say which.", "show", 2),
        Mistake("You name an option of another command.", "clean --yes", 2),
        Mistake("You show a patch of another line.", "show other --line next", 2),
        Mistake("You leave out the value of an option.", f"apply {MAIN} --ref", 2),
        Mistake("You redo, and nothing was taken back.", "redo", 2),
        Mistake("You ask the log for one patch.", "log other", 2),
        Mistake("You misspell what clean shall look at.", "clean --only worktre", 2),
        Mistake("You leave out the unit of an age.", "clean --older-than 30", 2),
        Mistake("You ask for nights that are not kept.", "report --nights nigths", 2),
        Mistake("You misspell a setting.", "list", 1,
                arrange=writes("team/pyproject.toml", "[tool.fixtool]\nsorce = 'git'\n")),
        Mistake("You name a profile that there is none of.", "list", 1,
                arrange=writes("team/pyproject.toml", "[tool.fixtool]\nprofile = 'vllm'\n")),
        Mistake("You give a number where a setting is a text.", "list", 1,
                arrange=writes("team/pyproject.toml", "[tool.fixtool]\nsource = 3\n")),
        Mistake("A setting names a line that is not there.", "apply", 1, env={"FIXTOOL_LINE": "mian"}),
        Mistake("A setting is no number of seconds.", "list", 1, env={"FIXTOOL_TIMEOUT": "soon"}),
        Mistake("Your pyproject.toml is not valid.", "list", 1,
                arrange=writes("team/pyproject.toml", "[tool.fixtool\nsource = 'git'\n")),
        Mistake("You misspell a variable.", "list", 0, env={"FIXTOOL_SORCE": "git"}),
        Mistake("An option's value is a variable that is not set.", "show other --line=", 2),
    ],
}  # fmt: skip
