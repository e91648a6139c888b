"""A wrong command line is refused with what is wrong, the command as it was typed, and the command
that was probably meant, which is valid."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtool.commands.misused import completed
from fixtool.commands.verbs import GROUPS, VERBS, is_valid, summary
from fixtool.text import closest
from support.hints import commands_in
from support.json_documents import document
from support.repositories import NUMBERS, Git, Ran, Team

LINES = [
    ("aply --ref v1", "No such command 'aply'.", "apply --ref v1"),
    ("aply --nope", "No such command 'aply'.", "apply --help"),
    ("rm fix --reason x", "No such command 'rm'.", "drop fix --reason x"),
    ("xyzzy", "No such command 'xyzzy'.", "--help"),
    ("-C . aply", "No such command 'aply'.", "-C . apply"),
    ("--line main apply --ref x", "No such option: --line", "apply --line main --ref x"),
    ("--verison", "No such option: --verison", "--version"),
    ("--list", "No such option: --list", "list"),
    ("apply --soruce git", "No such option: --soruce", "apply --source git"),
    ("apply --soruce=git", "No such option: --soruce", "apply --source=git"),
    ("clean --all", "No such option: --all", "clean"),
    ("clean --all --remove", "No such option: --all", "clean --remove"),
    ("undo --all", "No such option: --all", "undo --help"),
    ("apply --dry", "No such option: --dry", "apply --dry-run"),
    ("apply --dry_run", "No such option: --dry_run", "apply --dry-run"),
    ("apply -dry-run", "No such option: -d", "apply --dry-run"),
    ("list --onto x", "No such option: --onto (it belongs to: rebase, ", "list --help"),
    ("apply --only fix", "No such option: --only (it belongs to: verify, clean)", "apply --help"),
    ("list --into x", "No such option: --into (it belongs to: ", "list --help"),
    ("list --mbox x", "No such option: --mbox (it belongs to: export)", "list --help"),
    ("version", "No such command 'version'.", "--version"),
    ("help", "No such command 'help'.", "--help"),
    ("help apply", "No such command 'help'.", "apply --help"),
    ("am x.patch", "No such command 'am'.", "import x.patch"),
    ("cherry-pick x", "No such command 'cherry-pick'.", "copy x"),
    (
        "init --upstream x --base v1.0",
        "DIR is missing: the folder of the repository",
        "init DIR --upstream x --base v1.0",
    ),
    (
        "init x --base v1.0",
        "--upstream is missing: the repository of upstream",
        "init x --base v1.0 --upstream URL",
    ),
    (
        "apply a.patch b.diff",
        "`fixtool apply` applies all patches of a line, and takes no patch file: a.patch b.diff",
        "import a.patch b.diff",
    ),
    ("log other", "`fixtool log` takes no argument: other is too many", "log"),
    (
        "show fix other third",
        "`fixtool show` takes only SLUG: other third are too many",
        "show fix",
    ),
    ("log log", "`fixtool log` takes no argument: log is too many", "log"),
    ("list --version", "No such option: --version", "--version"),
    ("show", "SLUG is missing: the patch", "show SLUG; to see the names: fixtool list"),
    ("drop fix", "--reason is missing: why the line no longer needs it", "drop fix --reason TEXT"),
    (
        "list --line",
        "--line lacks its value: the line, a folder in patches",
        "list --line NAME; to see the names: fixtool list",
    ),
    ("history --until x", "No such option: --until", "history --to x"),
    ("lint --json=3", "Option '--json' does not take a value.", "lint --json"),
    ("lint main", "`fixtool lint` takes no argument: main is too many", "lint --line main"),
    ("apply v1.0", "`fixtool apply` takes no argument: v1.0 is too many", "apply --ref v1.0"),
    ("rebase v1.0", "`fixtool rebase` takes no argument: v1.0 is too many", "rebase --onto v1.0"),
    ("verify --tp x", "--tp takes a number from 1 on, and 'x' is none", "verify --tp 1"),
    ("verify --tp=2x", "--tp takes a number from 1 on, and '2x' is none", "verify --tp=2"),
    ("verify --tp 0", "--tp takes a number from 1 on, and '0' is none", "verify --tp 1"),
    ("undo two", "N takes a number, and 'two' is none", "undo 1"),
    ("undo -2", "No such option: -2", "undo 2"),
    ("init", "DIR is missing: the folder of the repository", "init DIR --upstream URL --base REF"),
    ("clean --yes", "No such option: --yes (it belongs to: upstream)", "clean --help"),
    ("history --since x", "No such option: --since", "history --from x"),
    ("absorb fix", "`fixtool absorb` takes no argument: fix is too many", "refresh fix"),
    ("coverage a..b", "`fixtool coverage` takes no argument: a..b is", "coverage --from a --to b"),
    ("completion bash", "No such command 'completion'.", "--install-completion bash"),
]


@pytest.mark.parametrize(("typed", "message", "meant"), LINES, ids=[line[0] for line in LINES])
def test_the_command_that_was_meant(
    fixtool: Callable[..., Ran], team: Team, typed: str, message: str, meant: str
) -> None:
    ran = fixtool(*typed.split(), cwd=team.root)
    assert (ran.status, ran.out) == (2, ""), ran.err
    what, where, hint = ran.err.splitlines()
    assert what.startswith(f"error: {message}")
    assert where == f"   at: fixtool {typed}"
    assert hint.rpartition("takes: ")[2].removeprefix("  try: ") == f"fixtool {meant}"
    words = shlex.split(meant.removeprefix("-C . ").partition("; ")[0])
    assert words[0] in ("--help", "--version", "--install-completion") or is_valid(words)


@pytest.mark.parametrize("folder", ["-C team lint", "lint -C team", "-C elsewhere lint -C team"])
def test_a_line_is_one_of_the_repository_that_is_named(
    fixtool: Callable[..., Ran], team: Team, folder: str
) -> None:
    team.line("next")
    typed = folder.replace("team", str(team.root))
    ran = fixtool(*typed.split(), "next", cwd=team.root.parent)
    assert ran.err.splitlines()[-1] == f"  try: fixtool {typed} --line next"


@pytest.mark.parametrize("typed", ["--json lint", "aply --json", "apply --soruce x --json"])
def test_a_wrong_command_line_is_json_where_json_was_typed(
    fixtool: Callable[..., Ran], typed: str
) -> None:
    ran = fixtool(*typed.split())
    assert (ran.status, ran.err) == (2, "")
    assert document(ran)["error"]["where"] == f"fixtool {typed}"


def test_help_shows_each_verb_once_and_cuts_nothing(fixtool: Callable[..., Ran]) -> None:
    shown = fixtool("--help").out
    assert "..." not in shown.partition("Options:")[2]
    assert max(map(len, shown.splitlines())) <= 80
    for group, verbs in GROUPS.items():
        section = shown.partition(f"\n{group}:\n")[2].partition("\n\n")[0]
        for verb in verbs:
            assert f"{verb} " in section
            assert summary(verb) in " ".join(shown.split())
    assert sum(len(verbs) for verbs in GROUPS.values()) == len(VERBS)


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("fxi", "fix"), ("FIX", "fix"), ("rout", "gemma4-fused-routing"), ("zzz", None),
        ("gemma4-fused", "gemma4-fused-routing"), ("gemma4", "gemma4-fused-routing"), ("x", None),
        ("v1.O", "v1.0"), ("vl.0", "v1.0"), ("gemma4_fused_routing", "gemma4-fused-routing"),
    ],
)  # fmt: skip
def test_the_name_that_was_probably_meant(word: str, name: str | None) -> None:
    assert closest(word, ("fix", "gemma4-fused-routing", "v1.0", "v1.1")) == name


def test_a_login_in_the_command_line_is_not_shown(
    fixtool: Callable[..., Ran], upstream: Git
) -> None:
    ran = fixtool("aply", "--source", "https://me:s3cret@host.example/x.git")
    assert ran.status == 2
    assert "s3cret" not in ran.err


NAMES = [
    ("show fxi", "show fix"),
    ("show FIX --json", "show fix --json"),
    ("show fxi.patch", "show fix"),
    ("show patches/main/fix.patch", "show fix"),
    ("show --line man fix", "show --line main fix"),
    ("show --line=man fix", "show --line=main fix"),
    ("drop fxi --reason x --source {up}", "drop fix --reason x --source {up}"),
    ("apply --ref v1.O --source {up}", "apply --ref v1.0 --source {up}"),
    ("apply --ref v1.O --source file://{up}", "apply --ref v1.0 --source file://{up}"),
    ("apply --source gti", "apply --source git"),
    ("split fix --by fodler", "split fix --by folder"),
    ("split fxi --by file --source {up}", "split fix --by file --source {up}"),
    ("announce x --by mial", "announce x --by mail"),
    ("show zzz", "list"),
    ("lint --line zzz", "list"),
]


@pytest.mark.parametrize(("typed", "meant"), NAMES, ids=[name[0] for name in NAMES])
def test_the_name_that_was_meant(
    fixtool: Callable[..., Ran], tracked: Git, upstream: Git, typed: str, meant: str
) -> None:
    words = typed.format(up=upstream.path).split()
    ran = fixtool(*words, cwd=tracked.path)
    hint = document(ran)["error"]["hint"] if "--json" in words else ran.err
    assert ran.status in (2, 4)
    assert f"fixtool {meant.format(up=upstream.path)}" in hint.splitlines()[-1]


@pytest.mark.parametrize(
    "typed", ["drop fix --reason x", "show fix", "history fix", "edit fix.patch"]
)
def test_a_patch_on_the_shelf_is_no_misspelt_one(
    fixtool: Callable[..., Ran], team: Team, upstream: Git, typed: str
) -> None:
    team.patch("fix", "fix twenty", python__model_py=NUMBERS.replace("line 20\n", "line XX\n"))
    team.patch("fixed", "fix other", python__other_py="x\n")
    team.track()
    source = ("--source", upstream.path)
    assert fixtool("drop", "fix", "--reason", "not now", *source, cwd=team.root).status == 0
    ran = fixtool(*typed.split(), *(() if "show" in typed else source), cwd=team.root)
    assert (ran.status, ran.out) == (2, "")
    assert "error: fix is on the shelf of line main" in ran.err
    assert ran.err.splitlines()[0].endswith(": not now")
    then = shlex.split(commands_in(ran.err.partition("  try: ")[2].strip())[0])
    assert fixtool(*then[1:], cwd=team.root).status == 0
    assert fixtool("show", "fix", cwd=team.root).status == 0


SETTINGS = [
    ("sorce = 'git'", "write source instead of sorce"),
    ("profile = 'sgalng'", "write sglang instead of sgalng"),
]


@pytest.mark.parametrize(("text", "hint"), SETTINGS)
def test_a_setting_that_was_meant(
    fixtool: Callable[..., Ran], tracked: Git, text: str, hint: str
) -> None:
    (tracked.path / "pyproject.toml").write_text(f"[tool.fixtool]\n{text}\n")
    ran = fixtool("list", cwd=tracked.path)
    assert ran.status == 1
    assert f"   at: {tracked.path}/pyproject.toml:2\n  try: {hint}\n" in ran.err


def test_a_variable_that_was_meant(fixtool: Callable[..., Ran], tracked: Git) -> None:
    ran = fixtool("list", cwd=tracked.path, FIXTOOL_SORCE="git", FIXTOOL_OWNERS="me")
    assert ran.status == 0
    assert (
        ran.err
        == "warning: nothing reads the variable FIXTOOL_SORCE: write FIXTOOL_SOURCE instead\n"
    )


PARTS = [
    ("add --python PY", "fixtool build --editable --python PY"),
    ("--worktree DIR", "fixtool build --editable --worktree DIR"),
    ("choose another: --worktree DIR; or wait", "choose another: fixtool build --editable --worktree DIR; or wait"),
    ("--python=a or b", "--python=a or b"),
    ("leave --editable out", "leave --editable out"),
    ("--nope X", "--nope X"),
    ("give more digits", "give more digits"),
    ("choose one: --line a, or --line b; or name: --worktree X",
     "choose one: --line a, or --line b; or name: fixtool build --editable --worktree X"),
    ("--python a or --python b", "fixtool build --editable --python a or fixtool build --editable --python b"),
    ("clone it, then the same command with --worktree DIR", "clone it, then fixtool build --editable --worktree DIR"),
    ("the same command without --editable", "fixtool build"),
    ("the same command with x-y instead of nope", "the same command with x-y instead of nope"),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "whole"), PARTS, ids=[part[0] for part in PARTS])
def test_an_option_in_a_hint_becomes_a_whole_command(hint: str, whole: str) -> None:
    assert completed(hint, ["build", "--editable"]) == whole


def test_another_name_takes_the_place_of_one_that_will_not_do() -> None:
    typed = ["rename", "a", "b it", "--line", "main"]
    hint = "choose another: the same command with C instead of 'b it'; or x"
    assert completed(hint, typed) == "choose another: fixtool rename a C --line main; or x"
    typed, hint = (
        ["import", "main", "--line", "main"],
        "the same command with A..main instead of main",
    )
    assert completed(hint, typed) == "fixtool import A..main --line main"
    typed, hint = (
        ["apply", "--line=main", "--ref", "a..b"],
        "the same command with b instead of a..b",
    )
    assert completed(hint, typed) == "fixtool apply --line=main --ref b"


def test_what_other_commands_call_source_is_upstream_for_init() -> None:
    typed = ["init", "x", "--upstream", "https://a", "--base", "v1"]
    hint = "the same command with --source PATH, a clone; or --source pypi, for a release"
    init = "fixtool init x --upstream {} --base v1"
    assert (
        completed(hint, typed)
        == f"{init.format('PATH')}, a clone; or {init.format('pypi')}, for a release"
    )


@pytest.mark.parametrize("given", [["--line", "x"], ["--line=x"]])
def test_an_option_in_a_hint_takes_the_place_of_the_one_given(given: list[str]) -> None:
    typed = ["list", *given, "--json"]
    assert completed("--line main", typed) == "fixtool list --line main --json"


def test_what_waits_goes_on_by_the_command_of_the_document(
    fixtool: Callable[..., Ran], tracked: Git, upstream: Git, tmp_path: Path
) -> None:
    """Outside of the repository, that has to name it."""
    words = ("edit", "fix", "--source", upstream.path, "-C", tracked.path, "--json")
    then = document(fixtool(*words, cwd=tmp_path))["edited"]["waiting"]["next"]
    ran = fixtool(*shlex.split(then)[1:], cwd=tmp_path)
    assert (ran.status, ran.err) == (0, "")


def test_of_several_patches_each_is_a_command(
    fixtool: Callable[..., Ran], tracked: Git, team: Team
) -> None:
    team.patch("other", "fix other", python__other_py="x\n")
    ran = fixtool("drop", "fix", "other", "--reason", "x", cwd=tracked.path)
    hint = ran.err.partition("  try: ")[2]
    assert hint == "fixtool drop fix --reason x; then: fixtool drop other --reason x\n"


WHOLE = [
    ("apply --ref main --source pypi --dry-run", "the same command with --source git",
     "apply --ref main --source git --dry-run"),
    ("history --from a --to b --json", "turn it round: --from b --to a",
     "history --from b --to a --json"),
    ("coverage --from=a --to=b", "--from b --to a", "coverage --from b --to a"),
    ("apply --without a --dry-run", "leave both out: --without a --without b",
     "apply --without a --dry-run --without b"),
    ("rebase --onto v1 --continue --json", "the same command without --onto",
     "rebase --continue --json"),
    ("rebase --onto=v1 --continue", "the same command without --onto", "rebase --continue"),
    ("split a --by hunk --dry-run", "the same command with --hunks instead of --by",
     "split a --hunks --dry-run"),
    ("import ./a b --dry-run", "the same command with FILE instead of a", "import FILE b --dry-run"),
    ("rebase --onto v1 --dry-run", "the same command with abc instead of v1",
     "rebase --onto abc --dry-run"),
]  # fmt: skip


@pytest.mark.parametrize(("typed", "hint", "whole"), WHOLE, ids=[row[1] for row in WHOLE])
def test_a_hint_keeps_all_other_words(typed: str, hint: str, whole: str) -> None:
    head = hint.partition(": ")[0] + ": " if ": " in hint else ""
    assert completed(hint, typed.split()) == f"{head}fixtool {whole}"


KEPT = [
    "history fix v1.0..main --json",
    "import nope.patch --line main --dry-run",
    "import --line main --dry-run",
    "rebase --line main --dry-run",
    "rebase --onto v1.0 --continue --dry-run",
    "split fix --line main --dry-run",
    "split fix --by hunk --dry-run",
    "refresh fix --line main --dry-run",
    "apply --ref both --dry-run --source {up}",
    "rebase --onto both --dry-run --source {up}",
    "apply --ref main --source pypi --dry-run",
    "coverage --releases 1.0..1.1 --from v1.0 --json",
    "coverage --releases 1.0..1.1 --source git --verbose",
    "history --releases 1.0..1.1 --record --json",
    "apply x.patch --line main --dry-run",
    "upstream --dry-run",
    "drop gone --line main --reason x --dry-run",
]


@pytest.mark.parametrize("typed", KEPT)
def test_a_proposed_command_of_the_same_verb_has_each_option_that_was_typed(
    fixtool: Callable[..., Ran], tracked: Git, upstream: Git, typed: str
) -> None:
    """What is proposed was once put together from parts, and lost --dry-run: it would have
    written."""
    upstream("tag", "both", "HEAD")
    upstream.commit("next", python__more_py="x\n")
    upstream("branch", "both")
    words = typed.format(up=upstream.path).split()
    ran = fixtool(*words, cwd=tracked.path)
    text = document(ran)["error"]["hint"] if "--json" in words else ran.err.partition("try: ")[2]
    command = commands_in(text.strip())[0]
    assert ran.status in (2, 4)
    kept = {word for word in words if word in ("--json", "--dry-run", "--verbose")}
    assert kept <= {*shlex.split(command)} or words[0] not in command.split(), text


def test_of_two_ways_to_split_one_is_left_out(fixtool: Callable[..., Ran], tracked: Git) -> None:
    ran = fixtool("split", "fix", "--into", "a=b", "--hunks", "--dry-run", cwd=tracked.path)
    hint = ran.err.partition("  try: ")[2]
    assert hint == "leave one out: fixtool split fix --into a=b --dry-run\n"


def test_what_does_not_fit_is_left_out_of_the_command_that_was_typed(
    fixtool: Callable[..., Ran], tracked: Git, team: Team, upstream: Git, tmp_path: Path
) -> None:
    """--dry-run, --no-build and --worktree were once lost: the command made another work tree."""
    team.patch("other", "fix other", python__other_py="x\n")
    upstream.commit("theirs", python__model_py=NUMBERS.replace("line 20\n", "theirs\n"))
    words = ("--ref=main", f"--source={upstream.path}", "--no-build", "--worktree", tmp_path / "w")
    ran = fixtool("apply", *words, cwd=tracked.path)
    (then,) = (line[10:] for line in ran.out.splitlines() if line.startswith("or "))
    typed = shlex.join(map(str, words))
    assert (ran.status, then) == (3, f"fixtool apply {typed} --line main --without fix")
    assert fixtool(*shlex.split(then)[1:], cwd=tracked.path).status == 0
