"""The checks before a pull request is sent, and Markdown in which GitHub acts on nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from fixtool import markdown
from fixtool.errors import CannotRun, Refused
from fixtool.isolation import can_isolate
from fixtool.markdown import ACTIVE_TEXT, LIMIT, prose
from fixtool.settings import Settings
from fixtool.upstream import _checks as checks
from fixtool.upstream import _hooks as hooks
from fixtool.upstream._body import PullRequestText
from fixtool.upstream._hooks import CheckOutcome, HookResult
from fixtool.upstream.prepare import PreparedPullRequest
from support.github_api import visible_to_github
from support.json_documents import document
from support.spy import finds, run_with_token, spy
from support.upstream import TWENTY, Repositories, call, copy, needed

SIGN = "Signed-off-by: A Person <person@example.org>"


@pytest.fixture
def repos(made: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Repositories:
    needed(monkeypatch)
    repos = copy(made, tmp_path)
    repos.keep("a", "c")
    return repos


# -- what may not leave the house ------------------------------------------------------------

SECRETS = ["ghp_" + "a1" * 18, "github_pat_" + "a" * 30, "hf_" + "aB" * 17, "AKIA" + "A1" * 8,
           "xoxb-" + "1" * 12, "sk-proj-" + "a1" * 20, "https://me:hunter2@git.corp/x",
           "-----BEGIN OPENSSH PRIVATE KEY-----"]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        *((f'x = "{secret}"', "secret") for secret in SECRETS),
        ("see /home/alice/sglang/x.py", "local-path"),
        ("(/Users/bob/x)", "local-path"),
        ("C:\\Users\\bob\\x", "local-path"),
        ("file:///home/alice/x", "local-path"),
        ("/root/sglang", "local-path"),
        ("as fixtool says", "fork-name"),
        ("from our acme-fork", "fork-name"),
        ("a \x1b[2J b", "control-characters"),
        ("turn \u202e back", "control-characters"),
    ],
)
def test_what_is_found_in_a_line(line: str, rule: str, tmp_path: Path) -> None:
    fork = re.compile(r"\bfixtool\b|\bacme-fork\b")
    (finding,) = checks.search_line(line, "x.py:3", fork)
    assert (finding.rule, finding.where, finding.level) == (rule, "x.py:3", "error")
    assert finding.fix.startswith(("take it out", "take them out", "say it"))
    assert all(secret not in finding.message for secret in SECRETS)


@pytest.mark.parametrize(
    "line",
    [
        "@triton.jit", "    @pytest.mark.parametrize('x', [1])", "SPDX: me@example.org",
        "scp me@host:path/x .", "git clone git@github.com:sgl-project/sglang.git",
        "docker run -v ~/.cache:/root/.cache -v $HOME:/x", "https://x.example/home/page",
        "https://x.example/Users/list", "f'http://{user}:{password}@{host}:{port}'", "a = b @ c",
        "http://<user>:<password>@host", "http://localhost:30000/v1@x", "disk-offload-of-the-whole-model-to-some-place",
        "task-" + "a" * 40, "for i in range(10):\t# tabs", "'file://' + path", "hf_config_of_the_model",
        "MY_GHP_CONST = ghp_short", "~/home/x", "os.path.join(root, 'home/x')", "fixtools, prefixtool",
    ],
)  # fmt: skip
def test_what_is_harmless_in_a_line(line: str) -> None:
    assert list(checks.search_line(line, "x", re.compile(r"\bfixtool\b"))) == []


def test_the_name_of_the_patch_repository_is_the_forks(repos: Repositories, tmp_path: Path) -> None:
    def named(name: str) -> bool:
        repos.team.path.rename(tmp_path / name)
        object.__setattr__(repos.team, "path", tmp_path / name)
        return bool(checks.fork_names(repos.repository).search(f"of {name.upper()}!"))

    assert named("acme-fork")
    assert not named("routing")  # an ordinary word, which many messages contain


def test_each_finding_says_where_and_what_to_do(repos: Repositories) -> None:
    repos.patch(
        "d", "docs: mend it for @octocat",
        {"python/model.py": TWENTY, "NEWS.txt": f"new\nkey {SECRETS[0]}\nin /home/al/x\n",
         "python/fixtool-x.py": "x = 1\r\n"},
        why="As fixtool result.\n\nThis fixes\n#12, and closes: acme/sglang#3.\nSee /home/al/y.",
        trailers=(SIGN, "Reviewed-by: C <c@example.org>"),
    )  # fmt: skip
    ran = call(*repos.words("d", "--json"))
    result = document(ran)
    rows = {
        (finding["rule"], finding["where"])
        for finding in result["findings"]
        if finding["level"] == "error"
    }
    assert rows == {
        ("calls", "message of d, line 1"), ("fork-name", "message of d, line 3"),
        ("calls", "message of d, line 5"), ("calls", "message of d, line 6"),
        ("local-path", "message of d, line 7"), ("secret", "NEWS.txt:2"),
        ("local-path", "NEWS.txt:3"), ("fork-name", "python/fixtool-x.py"),
    }  # fmt: skip
    assert all(finding["fix"] for finding in result["findings"])
    assert result["exit_code"] == 1
    assert result["refused"]["message"].startswith("the preflight says no: ")
    assert result["refused"]["message"].endswith(" more")
    assert SECRETS[0] not in ran.out


def test_the_author_signs_off_and_can_be_written_to(repos: Repositories) -> None:
    repos.team("config", "user.name", "")  # so that no sender replaces the author
    repos.team("config", "user.useConfigOnly", "true")
    repos.team("config", "user.email", "")
    repos.edit("a", "\nFrom: A Person <person@example.org>", "\nFrom: Us <us@x.invalid>")
    repos.edit("a", SIGN, "Tested-by: C Person <c@example.org>")
    repos.save_as("Z <z@example.org>")
    findings = {finding.rule: finding for finding in repos.prepare("a").findings}
    assert "no Signed-off-by: of its author, Us <us@x.invalid>" in findings["sign-off"].message
    assert "--signoff" in findings["sign-off"].fix
    assert "us@x.invalid is an address that nobody can write to" in findings["author"].message
    assert "git config user.name" in findings["author"].fix
    assert findings["author"].where.endswith("patches/main/a.patch")


def test_a_patch_without_a_test_is_a_warning(repos: Repositories) -> None:
    (finding,) = repos.prepare("a").findings
    assert (finding.rule, finding.level) == ("test", "warning")
    assert repos.prepare("c").findings == ()
    assert repos.prepare("a").refusal is None


# -- tests and what is kept ------------------------------------------------------------------


@pytest.mark.slow(2)
def test_what_was_run_is_kept_for_the_same_tree(
    repos: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    run = checks._run_test
    monkeypatch.setattr(checks, "_run_test", lambda *words: ran.append(words[1]) or run(*words))  # type: ignore[func-returns-value]
    assert not repos.prepare("c").checks.reused
    second = repos.prepare("c").checks
    assert (second.reused, second.tests[0].outcome) == (True, "passed")
    repos.edit("c", "Why.", "Because.")
    assert repos.prepare("c").checks.reused
    repos.edit("c", "Because.", "Because of @octocat.")  # texts are searched every time
    assert [finding.rule for finding in repos.prepare("c").findings] == ["calls"]
    assert len(ran) == 1
    assert not repos.prepare("c", fresh=True).checks.reused
    repos.edit(
        "c", "+        print('looked')\n", "+        print('looked' )\n"
    )  # only a formatter cares about this blank
    assert not repos.prepare("c").checks.reused
    repos.upstream.commit("[x] go on", README_txt="more\n")
    assert not repos.prepare("c").checks.reused
    assert ran == ["test/test_c.py"] * 4


@pytest.mark.parametrize(
    ("text", "outcome", "status"),
    [("self.fail()", "failed", 1), ("self.skipTest('no card')", "nothing-shown", 0),
     ("__import__('os')._exit(2)", "not-run", 4)],
)  # fmt: skip
def test_a_test_that_does_not_pass(
    repos: Repositories, text: str, outcome: str, status: int
) -> None:
    repos.edit("c", "+        print('looked')\n", f"+        {text}\n")
    result = document(call(*repos.words("c", "--json")))
    assert [test["outcome"] for test in result["tests"]] == [outcome]
    assert result["exit_code"] == status
    ticked = {box["item"]: box["ticked"] for box in result["checklist"]}
    assert ticked["Add unit tests."] is False
    assert "test/test_c.py" in (result["refused"] or {"message": "test/test_c.py"})["message"]


def test_a_test_sees_no_token_and_does_not_hang_on(
    repos: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "ghs_secret")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    see = "import os; assert not {'GITHUB_TOKEN', 'AWS_ACCESS_KEY_ID'} & set(os.environ)"
    repos.edit("c", "+        print('looked')\n", f"+        {see}\n")
    assert repos.prepare("c").checks.tests[0].said == "1 test, 0 skipped, on CPU"
    monkeypatch.setattr(checks, "_PATIENCE", 0.3)
    repos.edit("c", f"+        {see}\n", "+        import time; time.sleep(3600)\n")
    assert repos.prepare("c").checks.tests[0].said == "no end in 0.0 minutes"


# -- upstream's hooks ------------------------------------------------------------------------

CONFIG = """\
default_stages: [pre-commit]
fail_fast: true
exclude: ^vendor/
repos:
  - repo: https://github.com/nobody/knows-this
    rev: v1.2.3
    hooks: [{id: mystery}]
  - repo: meta
    hooks: [{id: check-hooks-apply}]
  - repo: local
    hooks:
      - {id: bad, name: Bad, entry: "sh -c 'echo of no use; echo twice......Passed; exit 1'", language: system, files: model}
      - {id: twice, name: One, entry: "false", language: system, files: model}
      - {id: twice, name: Two, entry: python3 tools/look.py, language: system, files: model}
      - {id: none, name: None, entry: "false", language: system, files: nothing-of-that-name}
      - {id: absent, name: Absent, entry: no-such-program, language: system, files: model}
      - {id: slow, name: Slow, entry: "false", language: system, stages: [manual]}
      - {id: far, name: Far, entry: x, language: golang}
"""
LOOK = """\
import os, pathlib, sys
seen = [name for name in os.environ if 'TOKEN' in name or name in ('SSH_AUTH_SOCK', 'MY_PAT')]
assert sys.argv[1:] == ['python/model.py'], sys.argv
pathlib.Path(sys.argv[1]).write_bytes(pathlib.Path(sys.argv[1]).read_bytes())
sys.exit(f'saw {seen}' if seen else 0)
"""


def test_upstreams_own_hooks_run_where_they_can_do_no_harm(
    repos: Repositories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "ghs_secret")
    monkeypatch.setenv("SSH_AUTH_SOCK", "/x")
    monkeypatch.setenv("MY_PAT", "x")
    repos.upstream.commit("[x] hooks", **{hooks.CONFIG: CONFIG, "tools/look.py": LOOK})
    place = tmp_path / "wt"
    before = repos.team.snapshot(), repos.upstream.snapshot()
    ran = call(*repos.words("a", "--json", "--worktree", place))
    result = document(ran)
    rows = [(hook["id"], hook["outcome"], hook["said"]) for hook in result["hooks"]]
    assert rows == [
        ("mystery", "not-run", "nobody/knows-this at v1.2.3 is no package that fixtool knows"),
        ("check-hooks-apply", "skipped", "it reads the configuration"),
        ("bad", "failed", "- exit code: 1; of no use; twice......Passed"),
        ("twice", "failed", "- exit code: 1"),
        ("twice", "passed", ""),
        ("none", "skipped", ""),
        ("absent", "not-run", "- exit code: 1; Executable `no-such-program` not found"),
        ("slow", "by-hand", "it is of the stage manual"),
        ("far", "not-run", "its language golang is not at hand"),
    ]
    assert result["exit_code"] == 1
    assert result["refused"]["message"] == "the preflight says no: bad; twice"
    assert result["checklist"][0]["why"] == "these hooks failed: bad, twice"
    assert (repos.team.snapshot(), repos.upstream.snapshot()) == before
    assert repos.upstream("worktree", "list").count("\n") == 0
    assert list((repos.settings.state / "upstream").glob("tree-*")) == []
    shown = call(*repos.words("a"))
    assert re.search(r"^hooks +1 of 3 passed, 2 had no file", shown.out, re.MULTILINE)
    assert "          slow: by-hand: it is of the stage manual\n" in shown.out


@pytest.mark.skipif(not can_isolate(), reason="this kernel has no Landlock domains")
def test_hooks_and_tests_find_no_token_anywhere(repos: Repositories, tmp_path: Path) -> None:
    """Not in their environment, and not in that of fixtool or of the shell that started it."""
    log = tmp_path / "log"
    repos.edit("c", "+        print('looked')\n", f"+        exec({spy(log)!r}, {{}})\n")
    hook = "{id: spy, name: spy, entry: python3 tools/spy.py, language: system, files: model}"
    config = f"repos: [{{repo: local, hooks: [{hook}]}}]\n"
    repos.upstream.commit("[x] hooks", **{hooks.CONFIG: config, "tools/spy.py": spy(log)})
    ran = run_with_token(*repos.words("c", "--json"))
    assert ran.status == 0, ran.out
    assert finds(log) == [[], []]


def test_a_module_of_upstreams_does_not_stand_in_for_pre_commit(repos: Repositories) -> None:
    config = "repos: [{repo: local, hooks: [{id: x, name: x, entry: 'true', language: system}]}]\n"
    theirs = "raise SystemExit('upstream: imported')\n"
    files = {hooks.CONFIG: config, "pre_commit.py": theirs, "yaml.py": theirs, "json.py": theirs}
    repos.upstream.commit("[x] hooks", **files)
    (hook,) = repos.prepare("a").checks.hooks
    assert hook == HookResult("x", None, CheckOutcome.PASSED, "")


def test_what_could_not_run_is_no_yes(repos: Repositories) -> None:
    config = "repos: [{repo: 'https://github.com/nobody/x', rev: abc, hooks: [{id: y}]}]\n"
    repos.upstream.commit("[x] hooks", **{hooks.CONFIG: config})
    ran = call(*repos.words("a"))
    assert ran.status == 4
    assert "not all of the preflight could run: hook y: nobody/x at abc is no package" in ran.err
    assert "  try: run upstream's own checks by hand" in ran.err
    assert not repos.prepare("a").checks.reused  # hooks that could not run are tried again


def test_without_pre_commit(repos: Repositories, monkeypatch: pytest.MonkeyPatch) -> None:
    repos.upstream.commit("[x] hooks", **{hooks.CONFIG: "repos: []\n"})
    monkeypatch.setattr(hooks, "find_spec", lambda name: None)
    assert repos.prepare("a").checks.not_run == (
        "hook pre-commit: pre-commit is not installed here: pip install 'sglang-fixtool[upstream]'",
    )


@pytest.mark.parametrize(
    "text",
    ["repos: [", "", "[]", "repos: 3", "repos: [{hooks: [{id: x}]}]", "repos: [{repo: local}]",
     "repos: [{repo: local, hooks: [{name: x}]}]", "repos: [{repo: local, hooks: [3]}]",
     "repos: [{repo: 3, hooks: [{id: x}]}]", "repos: &a [*a]", "a: &a [x]\nb: &b [*a, *a]\nc: [*b]", f"a: &a x\nb: [{'*a, ' * 101}]", "\x00", b"\xff\xfe\xfa", "a: !!python/object:os.x {}",
     "[" * 3000],
)  # fmt: skip
def test_a_configuration_that_cannot_be_read(text: str | bytes, tmp_path: Path) -> None:
    (tmp_path / hooks.CONFIG).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(CannotRun, match=r"upstream's \.pre-commit-config\.yaml cannot be read: ."):
        hooks.run(tmp_path, ["x.py"], Settings(tmp_path / "s", tmp_path / "c"))


def test_aliases_that_stand_for_little_are_read(tmp_path: Path) -> None:
    """vLLM's configuration has some, for hooks that differ in their name alone."""
    common = "&common {name: a, entry: x, language: system, stages: [manual]}"
    hooks_of_it = f"[{{<<: {common}, id: a}}, {{<<: *common, id: b}}]"
    (tmp_path / hooks.CONFIG).write_text(f"repos: [{{repo: local, hooks: {hooks_of_it}}}]")
    results = hooks.run(tmp_path, ["x.py"], Settings(tmp_path / "s", tmp_path / "c"))
    assert [(result.id, result.outcome) for result in results] == [
        ("a", "by-hand"), ("b", "by-hand"),
    ]  # fmt: skip


def test_a_broken_configuration_is_one_message(repos: Repositories) -> None:
    repos.upstream.commit("[x] hooks", **{hooks.CONFIG: "repos: ["})
    ran = call(*repos.words("a"))
    assert ran.status == 4
    assert ran.err.startswith("error: upstream's .pre-commit-config.yaml cannot be read: ")


def test_a_hook_that_pre_commit_refuses_and_one_without_an_end(
    repos: Repositories, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = "repos: [{repo: local, hooks: [{id: x, entry: 'true', language: system, types: [3], day: 2026-01-01}]}]"
    (tmp_path / hooks.CONFIG).write_text(wrong)
    repos.upstream("init", "--quiet", str(tmp_path))
    (hook,) = hooks.run(tmp_path, ["x"], repos.settings)
    assert (hook.outcome, "could not be had: An error has occurred" in hook.said) == (
        "not-run",
        True,
    )
    (tmp_path / hooks.CONFIG).write_text(
        "repos: [{repo: local, hooks: [{id: x, entry: sleep 60, language: system, always_run: true, pass_filenames: false}]}]"
    )
    monkeypatch.setattr(hooks, "_PATIENCE", 1.5)
    (hook,) = hooks.run(tmp_path, ["x"], repos.settings)
    assert hook == HookResult(
        "x", None, CheckOutcome.NOT_RUN, "could not be had: no end in ten minutes"
    )


@pytest.mark.slow(12)
def test_hooks_come_from_the_package_index(repos: Repositories) -> None:
    """Hooks run in the version that upstream pins, with its arguments. This test installs them."""
    config = (
        "repos:\n  - repo: https://github.com/pre-commit/pre-commit-hooks\n    rev: v6.0.0\n"
        "    hooks:\n      - id: trailing-whitespace\n        args: [--markdown-linebreak-ext=txt]\n"
        "      - id: check-json\n      - id: check-merge-conflict\n"
    )
    repos.upstream.commit("[x] hooks", **{hooks.CONFIG: config})
    repos.patch("d", "docs: say it", {"NEWS.txt": "hard break  \n", "x.py": "x = 1 \n"},
               trailers=(SIGN,))  # fmt: skip
    ran = {hook.id: hook for hook in repos.prepare("d").checks.hooks}
    if "could not be had" in ran["trailing-whitespace"].said and not os.environ.get("CI"):
        pytest.skip("no package index here")
    white = ran["trailing-whitespace"]
    assert (white.outcome, white.package) == ("failed", "pre-commit-hooks==6.0.0")
    assert "Fixing x.py" in white.said
    assert "NEWS.txt" not in white.said
    assert (ran["check-json"].outcome, ran["check-merge-conflict"].outcome) == ("skipped", "passed")
    repos.edit("d", "+x = 1 \n", "+x = 1\n")  # an edit of one blank runs the hooks again
    result = repos.prepare("d")
    assert {hook.outcome for hook in result.checks.hooks} == {"passed", "skipped"}
    assert not result.checks.reused


def test_formatters_are_ticked_where_they_ran(
    repos: Repositories, monkeypatch: pytest.MonkeyPatch
) -> None:
    repos.upstream.commit("[x] hooks", **{hooks.CONFIG: "repos: []\n"})
    for outcomes, ticked in (
        ({"black": "passed", "isort": "skipped"}, True),
        ({"black": "passed", "isort": "not-run"}, False),
        ({"black": "passed", "other": "failed"}, False),
        ({"black": "skipped"}, False),
        ({"other": "passed"}, False),
    ):
        ran = [HookResult(name, None, CheckOutcome(said)) for name, said in outcomes.items()]
        monkeypatch.setattr(hooks, "run", lambda *words, ran=ran: tuple(ran))
        box = repos.prepare("a", fresh=True).text.checklist[0]
        assert (box.item, box.ticked) == ("Format your code with pre-commit.", ticked), outcomes


@pytest.mark.parametrize(
    ("outcomes", "clean"),
    [
        ("passed", True),
        ("passed skipped", True),
        ("skipped", False),
        ("passed failed", False),
        ("", False),
    ],
)
def test_formatters_that_only_skipped_show_nothing(outcomes: str, clean: bool) -> None:
    ids = sorted(hooks.FORMATTERS)
    ran = [
        HookResult(name, None, CheckOutcome(text))
        for name, text in zip(ids, outcomes.split(), strict=False)
    ]
    assert checks.formatted(ran) is clean


def prepared(failed: int, no_python: CannotRun | None) -> PreparedPullRequest:
    """A pull request with so many failed tests."""
    tests = [checks.TestResult(f"t{n}.py", CheckOutcome.FAILED, "no") for n in range(failed)]
    branch = SimpleNamespace(slug="five", target=SimpleNamespace(commit="a1" * 20))
    ran = checks.CheckResults((), (), tuple(tests), reused=False)
    text = PullRequestText("title", "body", (), None, ())
    return PreparedPullRequest(branch, None, ran, text, no_python)  # type: ignore[arg-type]


def test_four_failed_checks_are_named_and_the_others_counted() -> None:
    four, five = (prepared(failed, None).refusal for failed in (4, 5))
    assert four is not None
    assert four.message.endswith("; t3.py")
    assert five is not None
    assert five.message.endswith("; t3.py and 1 more")


def test_a_failed_check_comes_before_an_open_one() -> None:
    no_python = CannotRun("no Python here has torch")
    first, second = (prepared(failed, no_python).refusal for failed in (1, 0))
    assert isinstance(first, Refused)
    assert isinstance(second, CannotRun)
    assert "no Python here has torch" in second.message
    assert prepared(0, None).refusal is None


# -- words that do nothing -------------------------------------------------------------------


def runs(tokens: list[Token]) -> Iterator[str]:
    """The texts in which GitHub looks for mentions: what lies between code, links and breaks."""
    for token in tokens:
        if token.type == "inline":
            text = ""
            for child in token.children or ():
                assert child.type not in ("html_inline", "image"), child
                if child.type == "text":
                    text += child.content
                elif child.type in ("softbreak", "hardbreak"):
                    text += "\n"
                elif child.type == "code_inline":
                    text += "`"
            yield text
        assert token.type not in ("html_block", "heading_open"), token


def acts(text: str) -> list[str]:
    page = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return [match[0] for run in runs(page.parse(text)) for match in ACTIVE_TEXT.finditer(run)]


PIECES = ["@octocat", "fixes", "Closes:", "#12", "a/b#3", "GH-7", "https://x.example/issues/9", "`", "``",
          "```", "~~~", "\\", " ", " ", "\n", "\n", "\n\n", "    ", "- ", "1. ", "# ", "*", "_", "[", "](x)", "<img src=x>",
          "<!--", "-->", "&lt;", "&#64;", "word", "/", ".", "-", "|", ">", "==", "---", "\t", "\x1b[31m", "(", "é"]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=24).map("".join))
@example("a ` b @octocat ` c @octocat")
@example("\\@octocat `x` \\`@octocat`")
@example("This fixes\n#12")
@example("This fixes\n    #12")
@example("This fixes\n- #12")
@example("@a``b``@c `d`@e")
@example("@a``b`` @c d")
@example("```\n@octocat\n\n@octocat\n```\n@octocat")
@example("x/@octocat .@octocat -@octocat (@octocat)")
@example("**fixes** #12, *Closes:* [#12](x)")
@example("`fixes` #12")
@example("_@octocat_ _fixes_ #12")
@example("fixes #12@octocat")
def test_prose_does_nothing(text: str) -> None:
    assert acts(prose(text)) == [], prose(text)


@pytest.mark.parametrize(
    ("text", "markdown_"),
    [
        ("a line\nand another", "a line and another"),
        ("Run:\n\n  git am x\n  git push\n\nDone.", "Run:\n\n```\ngit am x\ngit push\n```\n\nDone."),
        ("Run:\n\n\tmake\n", "Run:\n\n```\nmake\n```"),
        ("- one\n  more\n- two", "- one more\n- two"),
        ("1. one\n2. two", "1. one\n2. two"),
        ("  - an item\n  - another", "  - an item\n  - another"),
        ("## not a heading", "\\## not a heading"),
        ("a < b && c", "a &lt; b &amp;&amp; c"),
        ("`a < b` and `x", "`a < b` and &#96;x"),
        ("by `@triton.jit` and @triton.jit", "by `@triton.jit` and `@triton`.jit"),
        ("mail me@x.example", "mail me@x.example"),
        ("Fixes #12.", "Fixes `#12`."),
        ("see #12", "see #12"),
        ("```sh\nmake  x\n\nmake y\n```\nend", "```\nmake  x\n\nmake y\n```\n\nend"),
        ("red \x1b[31mred\x1b[0m \u202eback", "red red back"),
        ("", ""),
        ("\n\n", ""),
    ],
)  # fmt: skip
def test_prose(text: str, markdown_: str) -> None:
    assert prose(text) == markdown_


HOSTILE = """\
The routing @octocat knew, and <img src=x onerror=alert(1)> too.
It closes
#12, and Fixes: sgl/sglang#13 ` odd.

## Heading
@team/core `` x ` @octocat

  git checkout @octocat
  echo 'Closes #14'

Long: """


def test_a_hostile_message_in_a_whole_body(repos: Repositories) -> None:
    repos.patch("d", "docs: say it", {"NEWS.txt": "x\n"}, why=HOSTILE + "`@octocat " * 120_000,
               trailers=(SIGN, "Bug: https://x.example/1", "Bug: https://x.example/ @octocat",
                         "Co-authored-by: @octocat <img@x.example>"))  # fmt: skip
    body = repos.prepare("d").text.body
    assert len(body) < LIMIT - 1_000
    assert acts(re.sub(r"(?m)^#+ |<!--.*?-->", "", body)) == []
    outside = visible_to_github(body)
    assert "@octocat" not in outside
    assert not re.search(r"(?i)(closes|fixes):? +\S*#1", outside)
    assert "&lt;img" in outside
    assert "Related: https://x.example/1\n" in body
    assert "```\ngit checkout @octocat\necho 'Closes #14'\n```" in body
    assert "It closes `#12`" in body
    assert "## Checklist" in body  # long sections do not push out upstream's own


def test_a_great_many_files(repos: Repositories) -> None:
    repos.patch("d", "docs: say it", {f"docs/a-rather-long-name-{n:04}.md": "x\n" for n in range(600)},
               trailers=(SIGN,))  # fmt: skip
    body = repos.prepare("d").text.body
    assert len(body) < 20_000
    assert re.search(r"\n… and \d+ more lines\n", body)
    assert re.search(r"- \[x\] Update the documentation", body)


def test_control_characters_of_upstreams_do_not_reach_the_terminal(repos: Repositories) -> None:
    repos.upstream.commit(
        "[x] t", **{".github/pull_request_template.md": "# Why\n\n# Note\n\x1b[2J\n"}
    )
    ran = call(*repos.words("a"))
    assert "\x1b" not in ran.out
    assert "\\x1b[2J" in ran.out


def test_what_github_acts_on() -> None:
    for text in ("@x", "a @x", "cc/@x", ".@x", "(@x)", "fixes #1", "Closes\n#1", "resolved GH-1",
                 "fix: a/b#1", "close https://github.com/a/b/issues/3"):  # fmt: skip
        assert ACTIVE_TEXT.search(text), text
    for text in ("a@b", "fix (#12)", "@ x", "x = a @ b", "prefix #12", "see #12", "@{u}"):
        assert not ACTIVE_TEXT.search(text), text
    assert markdown.join_sections(None, [prose("@x")]) == "`@x`\n"
