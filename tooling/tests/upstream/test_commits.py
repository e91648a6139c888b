"""The commits, text and outputs of a pull request, and the reasons to refuse one."""

from __future__ import annotations

import email
import email.policy
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import pytest

from fixtool.git.trees import changed_files
from fixtool.profile import SGLANG
from fixtool.settings import Settings
from fixtool.upstream import _template as template
from fixtool.upstream._body import PullRequestText
from fixtool.upstream._commits import format_title
from fixtool.upstream._figures import ProposedContent, gather
from fixtool.upstream.outputs import write_mail
from support.json_documents import document, validate
from support.repositories import NUMBERS, Git, Ran
from support.upstream import FIVE, MORE, TEMPLATE, Repositories, call, check_result, copy, needed

pytestmark = pytest.mark.slow(1)  # each prepares a whole pull request

Run = Callable[..., Ran]


@pytest.fixture
def real(made: Path, tmp_path: Path, home: Path) -> Repositories:
    """The repositories, with probes that really run."""
    return copy(made, tmp_path)


@pytest.fixture
def repos(real: Repositories, monkeypatch: pytest.MonkeyPatch) -> Repositories:
    """The repositories, without running probes: each takes half a second."""
    needed(monkeypatch)
    return real


def rewritten(repos: Repositories, text: str = "") -> str:
    """Upstream writes the line of patch a in its own way."""
    new = NUMBERS.replace("line 5\n", "line V\n") + text
    return repos.upstream.commit("[gemma4] Rewrite it (#12)", python__model_py=new)


# -- what goes along -------------------------------------------------------------------------


def test_a_patch_goes_with_what_it_needs_and_nothing_else(repos: Repositories) -> None:
    result = repos.propose("c")
    assert [commit.slug for commit in result.commits] == ["a", "c"]
    assert result.notes == ()
    log = result.repo.run("log", "--format=%s", f"{result.target.commit}..{result.tip}").text
    assert log.split("\n") == ["[GEMMA4] Change five more", "[GEMMA4] Change five"]
    assert result.repo.read_commit(result.commits[0].commit).parents == (result.target.commit,)
    assert result.repo.read_commit(result.tip).parents == (result.commits[0].commit,)
    changed = {file.path for file in changed_files(result.repo, result.target.commit, result.tip)}
    assert changed == {"python/model.py", "test/test_c.py"} == set(result.files)
    assert result.repo.run("show", f"{result.tip}:python/model.py").stdout.decode() == MORE
    commit = result.repo.read_commit(result.tip)
    assert (commit.author.name, commit.author.email) == ("A Person", "person@example.org")
    assert commit.message == (
        "[GEMMA4] Change five more\n\nWhy.\n\nCo-authored-by: B Person <b@example.org>\n"
        "Signed-off-by: A Person <person@example.org>\nSigned-off-by: A Maintainer <m@example.org>\n"
    )


def test_a_need_that_is_declared_goes_along_too(repos: Repositories) -> None:
    assert [commit.slug for commit in repos.propose("d").commits] == ["b", "d"]
    assert [commit.slug for commit in repos.propose("b").commits] == ["b"]


def test_the_commits_are_the_same_wherever_they_are_made(
    repos: Repositories, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = repos.propose("c").tip
    assert repos.propose("c").tip == first
    there = tmp_path / "there"
    there.mkdir()
    other = copy(made, there)
    other.settings = Settings(there / "state", there / "cache")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody Else")
    monkeypatch.chdir(there)
    assert other.propose("c").tip == first


def test_an_author_to_whom_nobody_can_write_is_whoever_sends_it(repos: Repositories) -> None:
    repos.edit("a", "A Person <person@example.org>", "Us <us@fork.invalid>")
    result = repos.propose("a")
    commit = result.repo.read_commit(result.tip)
    assert (commit.author.name, commit.author.email) == ("A Maintainer", "m@example.org")
    assert commit.author.date == commit.committer.date
    assert "invalid" not in commit.message
    nobody = repos.propose("a", sender=None)
    assert "Signed-off-by" not in nobody.repo.read_commit(nobody.tip).message


def test_nobody_signs_off_for_an_author(repos: Repositories) -> None:
    """A sign-off in the author's name was added if git did not know who sends."""
    mine, theirs = ("Signed-off-by: A Maintainer <m@example.org>", "Signed-off-by: A Person")
    repos.edit("a", f"{theirs} <person@example.org>\n", "")
    sent = repos.propose("a")
    message = sent.repo.read_commit(sent.tip).message
    assert (mine in message, theirs in message) == (True, False)
    nobody = repos.propose("a", sender=None)
    assert "Signed-off-by" not in nobody.repo.read_commit(nobody.tip).message


def test_what_upstream_has_of_its_needs_is_left_out(repos: Repositories) -> None:
    repos.upstream.commit("[gemma4] Take it (#9)", python__model_py=FIVE)
    result = repos.propose("c")
    assert ([commit.slug for commit in result.commits], result.absorbed) == (["c"], ("a",))
    assert result.repo.read_commit(result.tip).parents == (repos.upstream("rev-parse", "main"),)


def test_what_upstream_took_back_is_said(repos: Repositories) -> None:
    repos.upstream.commit("[gemma4] Take it (#9)", python__model_py=FIVE)
    repos.upstream("revert", "--no-edit", "HEAD")
    assert re.search(r"a was taken back upstream: ", repos.propose("a").notes[0])


def test_onto_a_commit_that_does_not_descend_from_the_base(repos: Repositories) -> None:
    repos.upstream("checkout", "--quiet", "--orphan", "other")
    repos.upstream.commit("another root")
    (note,) = repos.propose("c", "other").notes
    assert note.startswith("upstream's history was not read: ")


# -- what does not go ------------------------------------------------------------------------


def test_what_upstream_has_is_refused_with_its_commit(repos: Repositories) -> None:
    sha = repos.upstream.commit("[gemma4] Take it (#9)", python__model_py=FIVE)
    result = document(call(*repos.words("a", "--json")))
    assert result["exit_code"] == 1
    message = result["error"]["message"]
    assert message.startswith(f"upstream has a already: {sha[:12]} (2026-01-02, A Person, #9: ")
    assert "fixtool rebase" in result["error"]["hint"]


def test_a_conflict_names_the_commit_since_which_it_is_one(real: Repositories) -> None:
    sha = rewritten(real)
    ran = call(*real.words("c"))
    assert ran.status == 3
    assert "a does not apply to " in ran.err
    assert f"since upstream's {sha[:12]} (2026-01-02, A Person, #12: [gemma4] Rewrite it" in ran.err
    assert ran.out == ""
    real.team.write(
        "verify/probes/a.py", "raise SystemExit(2)"
    )  # the conflict is reported, not the broken probe
    assert real.raises("a").exit_code == 3


def test_a_conflict_over_a_bug_that_is_gone_is_superseded(real: Repositories) -> None:
    rewritten(real, "# line 5 fixed\n")
    error = real.raises("a")
    assert error.exit_code == 1
    assert "a is superseded: it does not apply to" in error.message


def test_odd_bytes_and_controls_in_a_message(repos: Repositories, tmp_path: Path) -> None:
    raw = repos.file("b").read_bytes()
    repos.file("b").write_bytes(
        raw.replace(b"Why.", b"Gr\xf6\xdfe.\n\n  \xf6").replace(b"beta", b"b\xe9ta", 1)
    )
    ran = call(*repos.words("b", "--body", tmp_path / "body", "--mail", tmp_path / "mail"))
    assert (ran.status, "title     [Numbers] Change b" in ran.out) == (0, True)
    assert "Gre." in (tmp_path / "body").read_text("utf-8")
    repos.file("b").write_bytes(raw.replace(b"Why.", b"Wh\x1b[2Jy."))
    ran = call(*repos.words("b"))
    assert (ran.status, ran.out) == (1, "")
    assert "control or direction-changing characters in the message" in ran.err


@pytest.mark.parametrize(("answer", "said"), [(0, "without it: it is not"), (1, "with it: the bug is there")])  # fmt: skip
def test_a_probe_that_does_not_flip(real: Repositories, answer: int, said: str) -> None:
    real.team.write("verify/probes/a.py", f"print('x')\nraise SystemExit({answer})\n")
    result = document(call(*real.words("a", "--json")))
    assert result["exit_code"] == 1
    assert "the probe of a does not flip" in result["refused"]["message"]
    assert said in result["need"]["said"]
    assert "Probe on" not in result["body"]


def test_a_probe_that_breaks(real: Repositories) -> None:
    real.team.write("verify/probes/a.py", "raise SystemExit(2)")
    error = real.raises("a")
    assert (error.exit_code, "the probe of a broke" in error.message) == (4, True)


def test_a_patch_without_a_probe_may_go(real: Repositories) -> None:
    shutil.rmtree(real.team.path / "verify")  # with the suite
    result = real.prepare("b")
    assert result.refusal is None
    assert result.flip and (result.flip.script, result.flip.shown) == (None, False)
    assert "Probe" not in result.text.body


def test_without_a_python_everything_else_is_still_shown(
    real: Repositories, fixtool: Run, tmp_path: Path
) -> None:
    """As a process of its own, for which no Python has torch."""
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    words = [word for word in real.words("c") if word not in ("--python", sys.executable)]
    ran = fixtool(*words, PYTHONPATH=str(tmp_path))
    assert ran.status == 4
    assert "the probe and the tests were not run: no Python here has torch" in ran.err
    assert "title     [GEMMA4] Change five more" in ran.out
    assert "test      test/test_c.py: not-run" in ran.out
    assert "## What changed" in ran.out
    assert "--send" not in ran.out
    assert document(fixtool(*words, "--json", PYTHONPATH=str(tmp_path)))["need"] is None


def test_no_release_and_no_network_for_it(repos: Repositories) -> None:
    words = [*repos.words("a", onto="0.5.23"), "--source", "pypi"]
    ran = call(*words)
    assert (ran.status, "upstream takes commits" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a", "--send", "--dry-run"], "--dry-run sends and writes nothing"),
        (["a", "--mail", "m", "--dry-run"], "--dry-run sends and writes nothing"),
        (["a", "--status"], "--status is of every patch"),
        (["--status", "--send"], "--status is of every patch"),
        ([], "SLUG is missing"),
        (["nope"], "has no patch 'nope'"),
        (["../x"], "has no patch '../x'"),
        (["--", "-x"], "has no patch '-x'"),
        (["a", "--onto=--upload-pack=x"], "is not a commit id"),
        (["a", "--onto", "main..v1.0"], "is not a commit id"),
        (["a", "--title", "one\nFrom: two"], "is no title"),
        (["a", "--title", "\x1b[2J"], "is no title"),
        (["a", "--title", " "], "is no title"),
        (["a", "--python", "no-such-python"], "no interpreter"),
        (["a", "--line", "other"], "no line 'other'"),
    ],
)
def test_words_that_do_not_fit(repos: Repositories, words: list[str], said: str) -> None:
    before = repos.team.snapshot()
    ran = call("upstream", "-C", repos.team.path, "--source", repos.upstream.path, *words)
    assert (ran.status, ran.out) == (2, "")
    assert said in ran.err
    assert repos.team.snapshot() == before


# -- title -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subject", "title"),
    [
        ("gemma4: give it", "[GEMMA4] Give it"),  # the most frequent spelling in upstream's log
        ("docs: say it", "[Docs] Say it"),
        ("moe: do: it", "[Moe] Do: it"),
        ("ci fix: do it", "[CI Fix] Do it"),
        ("when it is late: go home", "When it is late: go home"),
        ("[Kept] as it is", "[Kept] as it is"),
        ("just words", "Just words"),
        ("a/b-c: x", "[A/b-c] X"),
    ],
)
def test_titles(subject: str, title: str) -> None:
    assert format_title(subject, {"gemma4": "GEMMA4", "docs": "Docs", "ci fix": "CI Fix"}) == title


def test_the_spelling_of_an_area_is_upstreams(repos: Repositories) -> None:
    assert repos.propose("c").title == "[GEMMA4] Change five more"
    repos.upstream.commit("[Gemma4] One (#4)")
    repos.upstream.commit("[Gemma4] Two (#5)")
    repos.upstream.commit("[Gemma4] Three (#6)")
    assert repos.propose("c").title == "[Gemma4] Change five more"


def test_another_title_is_the_last_commits_alone(repos: Repositories) -> None:
    result = document(call(*repos.words("c", "--title", "[Model] Say é", "--json")))
    assert result["title"] == "[Model] Say é"
    assert [commit["title"] for commit in result["commits"]] == [
        "[GEMMA4] Change five",
        "[Model] Say é",
    ]


def test_the_schema_lets_nothing_else_in(repos: Repositories) -> None:
    result = document(call(*repos.words("c", "--json")))
    for where in (result, result["commits"][0], result["commits"][0]["files"][0], result["need"]):
        where["more"] = 1
        with pytest.raises(jsonschema.ValidationError):
            validate(result)
        del where["more"]
    del result["refused"]
    with pytest.raises(jsonschema.ValidationError):
        validate(result)


def test_a_title_that_is_not_as_upstreams_is_a_warning(repos: Repositories) -> None:
    (finding,) = [finding for finding in repos.prepare("d").findings if finding.rule == "title"]
    assert (finding.level, "begin with an [Area]: 'Change twenty'" in finding.message) == ("warning", True)  # fmt: skip
    shown = call(*repos.words("d"), "--line", "main").out
    assert re.search(r"\(fixtool upstream .*--line main d --title '\[Area\] Do it', or ", shown)
    result = document(call(*repos.words("c", "--title", "[X] " + "long " * 20 + "end.", "--json")))
    assert [finding["message"][:17] for finding in result["findings"]] == ["the title is long"]
    assert result["exit_code"] == 0


# -- template and body -----------------------------------------------------------------------

ANSWERS = {"format": (True, "formatted"), "tests": (False, "none")}
SECTIONS = {"motivation": "W", "modifications": "M", "accuracy": "A", "speed": ""}


def test_upstreams_template_is_filled_in_its_order(repos: Repositories) -> None:
    result = repos.prepare("c").text
    assert result.template == ".github/pull_request_template.md"
    assert re.findall(r"^## .*|^Read.*", result.body, re.MULTILINE) == [
        "Read the guide first.", "## Why is this needed?", "## What changed", "## Screenshots",
        "## Accuracy", "## Checklist",
    ]  # fmt: skip
    assert "<!-- Say why. -->" not in result.body
    assert "<!-- if any -->" in result.body  # an unknown section stays
    assert re.findall(r"- \[(.)\]", result.body) == [" ", "x", " ", " "]
    ticks = {box.item: (box.ticked, box.why) for box in result.checklist}
    assert ticks["Update the documentation."] == (False, "no documentation is changed")
    assert ticks["Add unit tests."] == (True, "test/test_c.py: passed, 1 test, 0 skipped, on CPU")
    assert ticks["Format your code with pre-commit."] == (
        False, "upstream's formatters were not run here",
    )  # fmt: skip


def test_the_body_of_one_patch(repos: Repositories) -> None:
    body = repos.prepare("a").text.body
    assert (
        "## Why is this needed?\n\nWhy.\n\n## What changed\n\n- `python/model.py` (+1 -1)\n" in body
    )
    assert "speed" not in body.lower()  # the template does not ask for it, and nothing was measured


def test_without_a_template_of_its_own(repos: Repositories) -> None:
    repos.upstream.commit("[x] no template", **{".github/pull_request_template.md": None})
    result = repos.prepare("a").text
    assert result.template is None
    assert "## Speed Tests and Profiling\n\nNot measured on this version.\n" in result.body
    assert [box.ticked for box in result.checklist] == [False] * 4


@pytest.mark.parametrize(
    ("text", "body"),
    [
        ("## Checklist\r\n- [ ] add tests\r\n", "## Motivation\n\nW\n\n## Modifications\n\nM\n\n## Accuracy\n\nA\n\n## Checklist\n\n- [ ] add tests\n"),
        ("### Speed\n\n### Changes\n\n### Why\n", "### Speed\n\nNot measured on this version.\n\n### Changes\n\nM\n\n### Why\n\nW\n\n## Accuracy\n\nA\n"),
        ("# Why\nold\n# Notes\nkeep\n# Accuracy\n# What\n* [ ] lint it", "# Why\n\nW\n\n# Notes\n\nkeep\n\n# Accuracy\n\nA\n\n## Modifications\n\nM\n\n# What\n\n* [x] lint it\n"),
        ("# Why\n# Notes\n- [ ] lint it\n# Checklist\n- [ ] add tests\n", "# Why\n\nW\n\n## Modifications\n\nM\n\n## Accuracy\n\nA\n\n# Notes\n\n- [x] lint it\n\n# Checklist\n\n- [ ] add tests\n"),
        ("<!--\n# Why\n-->\n# What\n\n# Benchmark\n", "# What\n\nM\n\n# Benchmark\n\nNot measured on this version.\n\n## Motivation\n\nW\n\n## Accuracy\n\nA\n"),
    ],
)  # fmt: skip
def test_templates(text: str, body: str) -> None:
    assert template.fill(text.replace("\r\n", "\n"), SECTIONS, ANSWERS, SGLANG)[0] == body


@pytest.mark.parametrize("text", ["no headings\n", ""])
def test_a_template_that_is_none(text: str) -> None:
    body, ticks = template.fill(text, SECTIONS, ANSWERS, SGLANG)
    assert body.startswith("## Motivation\n\nW\n\n## Modifications\n\nM\n")
    assert [box.ticked for box in ticks] == [True, False, False, False]


def test_a_template_with_other_line_ends_or_no_end(repos: Repositories) -> None:
    path = ".github/pull_request_template.md"
    expected = repos.prepare("a").text.body
    repos.upstream.commit("[x] crlf", **{path: TEMPLATE.replace("\n", "\r\n")})
    tip = repos.upstream("rev-parse", "main~1")
    assert repos.prepare("a").text.body == expected.replace(
        tip[:12], repos.upstream("rev-parse", "main")[:12]
    )
    repos.upstream.commit("[x] a novel", **{path: TEMPLATE + "word " * 20_000})
    assert repos.prepare("a").text.template is None


def test_figures_are_of_these_very_changes(repos: Repositories) -> None:
    """A result names the diff that it measured: an edit makes it stale, a new message does not."""
    first = check_result(repos.repository.line("main").find("b"), "1,427 cases | @you")
    first["patches"][0]["sha256"] = "0" * 64
    repos.keep_result("2026-11-24-x", first)
    repos.team.write("verify/results/broken.json", "{")
    repos.edit("b", "Why.", "Because.")
    result = document(call(*repos.words("b", "--json")))
    assert result["figures"] == [{"kind": "accuracy", "sources": ["2026-11-24-x.json"]}]
    assert f"NVIDIA H100, Python 3.12, torch 2.9.0, on `{'b' * 12}`:\n" in result["body"]
    assert "| `routing` | passed | `1,427 cases ¦ @you` | 2026-11-24 |" in result["body"]
    assert result["stale"] == []

    # Later runs replace the rows of the checks that they ran, and keep the other rows.
    step = first["steps"][0]
    first["steps"].append({**step, "name": "server", "said": "healthy"})
    repos.keep_result("2026-11-24-x", first)
    later = {**first, "steps": [{**step, "said": "1,500 cases"}]}
    repos.keep_result("2026-11-25-x", later)
    cards = {**first["environment"], "gpus": [{"name": "NVIDIA H100"}] * 2}
    spread = {**cards, "spread": {"tp": 2, "pp": 1}}
    two_cards = {**later, "environment": spread, "steps": [{**step, "said": "as on one"}]}
    repos.keep_result("2026-11-25-x-tp2", two_cards)
    repos.keep_result("2026-11-25-w", {**two_cards, "environment": {**cards, "spread": None}})
    body = repos.prepare("b").text.body
    assert "1,427 cases" not in body
    assert body.count("NVIDIA H100, Python 3.12") == 2  # one table for each device
    for row in ("`routing` | passed | `1,500 cases`", "`server` | passed | `healthy`"):
        assert body.count(row) == 1
    assert "2 x NVIDIA H100, Python 3.12" in body
    assert "`routing` | passed | `as on one`" in body

    for file in (repos.team.path / "verify/results").glob("2026-11-25-*"):
        file.unlink()
    repos.patch("b", "numbers: change beta", {"python/other.py": "alpha\nbeta !\ngamma\n"})
    result = document(call(*repos.words("b", "--json")))
    assert (result["figures"], result["stale"]) == ([], ["2026-11-24-x.json"])


def test_figures_are_of_a_probe_on_the_base_and_on_the_patch_alone(repos: Repositories) -> None:
    """What a probe says beside all other patches of a line says nothing of a pull request."""
    patch = repos.repository.line("main").find("b")
    kept = check_result(patch, "1,427 cases")
    (check,) = kept["steps"]
    for tree, slug, answer in (
        ("base", "b", 1),
        ("+b", "b", 0),
        ("series", "b", 0),
        ("base", "a", 1),
    ):
        step = {**check, "kind": "probe", "name": f"probe {slug} on {tree}", "tree": tree}
        kept["steps"].append({**step, "slug": slug, "answer": answer})
    repos.keep_result("2026-11-24-x", kept)
    content = ProposedContent([patch], frozenset(), frozenset(), frozenset())
    (figure,) = gather(repos.repository, content).tables
    rows = [row.split(" | ")[:2] for row in figure.text.split("\n")]
    assert rows[-3:] == [
        ["| the bug without this change", "there"],
        ["| the bug with it", "not there"],
        ["| `routing`", "passed"],
    ]
    assert len(rows) == 2 + 2 + 3


# -- forms -----------------------------------------------------------------------------------


def test_a_work_tree_with_the_branch(repos: Repositories, tmp_path: Path) -> None:
    place = tmp_path / "wt"
    result = document(call(*repos.words("c", "--worktree", place, "--json")))
    tree = Git(place)
    assert result["forms"] == {"worktree": str(place)}
    assert tree("symbolic-ref", "--short", "HEAD") == "upstream/c"
    assert tree("rev-parse", "HEAD") == result["commits"][-1]["commit"]
    assert (place / "python/model.py").read_text() == MORE
    before = repos.team.snapshot()
    refused = call("export", "-C", repos.team.path, "--worktree", place)
    assert refused.status == 1
    assert "this work tree holds c as upstream would get it" in refused.err
    assert "try: make the change in a work tree of the line" in refused.err
    assert repos.team.snapshot() == before
    repos.edit("c", "Why.", "Because.")
    again = document(call(*repos.words("c", "--worktree", place, "--json")))
    assert again["commits"][-1]["commit"] != result["commits"][-1]["commit"]
    assert (
        tree("rev-parse", "upstream/c")
        == again["commits"][-1]["commit"]
        == tree("rev-parse", "HEAD")
    )
    assert tree("status", "--porcelain") == ""
    other = call(*repos.words("c", "--worktree", tmp_path / "other"))
    assert (other.status, f"upstream/c is checked out in {place}" in other.err) == (1, True)
    shutil.rmtree(place)  # a person did this; the branch still exists at this commit
    assert call(*repos.words("c", "--worktree", tmp_path / "other")).status == 0


def test_a_work_tree_with_work_of_its_own_is_left_alone(
    repos: Repositories, tmp_path: Path
) -> None:
    place = tmp_path / "wt"
    assert call(*repos.words("c", "--worktree", place)).status == 0
    Git(place).write("README.txt", "mine\n")
    repos.edit("c", "Why.", "Because.")
    ran = call(*repos.words("c", "--worktree", place))
    assert (ran.status, "is not clean: README.txt" in ran.err) == (1, True)
    assert (place / "README.txt").read_text() == "mine\n"


def test_a_mail_series(repos: Repositories, tmp_path: Path) -> None:
    repos.edit("c", "Why.", "Because of é.")
    words = repos.words("c", "--title", "[Größe] Change — it", "--json")
    result = document(call(*words, "--mail", tmp_path / "new" / "mail"))
    mails = sorted((tmp_path / "new" / "mail").iterdir())
    assert [mail.name[:4] for mail in mails] == ["0000", "0001", "0002"]
    cover = email.message_from_bytes(mails[0].read_bytes(), policy=email.policy.default)
    assert mails[0].read_bytes().partition(b"\n\n")[0].isascii()
    assert cover["Subject"] == "[PATCH 0/2] [Größe] Change — it"
    assert result["body"].rstrip() in cover.get_content()
    assert "Because of é." in cover.get_content()
    git = repos.upstream
    git("checkout", "--quiet", "--detach", "main")
    git("am", "--quiet", *(str(mail) for mail in mails[1:]))
    tree = Git(*repos.settings.stores.glob("*.git"))("rev-parse", f"{result['commits'][-1]['commit']}^{{tree}}")  # fmt: skip
    assert git("rev-parse", "HEAD^{tree}") == tree
    assert (
        git("log", "-1", "--format=%an <%ae>%n%s") == "A Person <person@example.org>\nChange — it"
    )
    full = call(*words, "--mail", tmp_path / "new" / "mail")
    assert document(full)["error"]["message"].endswith("mail is there already")
    assert full.status == 1
    (tmp_path / "empty").mkdir()
    assert call(*words, "--mail", tmp_path / "empty").status == 0


@pytest.mark.parametrize(("body", "charset"), [("Plain.", None), ("Because of é.", "utf-8")])
def test_a_cover_letter_names_its_charset_once(
    repos: Repositories, tmp_path: Path, body: str, charset: str | None
) -> None:
    text = PullRequestText("Change it", body, (), None, ())
    mails = write_mail(repos.propose("c"), text, tmp_path / "mail")
    (letter,) = mails.glob("0000-*")
    cover = email.message_from_bytes(letter.read_bytes(), policy=email.policy.default)
    assert cover.get_content().startswith(f"{body}\n")
    assert len(cover.get_all("Content-Type") or ()) == (1 if charset else 0)
    assert cover.get_content_charset() == charset


def test_a_body_file(repos: Repositories, tmp_path: Path) -> None:
    file = tmp_path / "body.md"
    file.write_text("old")
    result = document(call(*repos.words("c", "--body", file, "--json")))
    assert file.read_text("utf-8") == result["body"]
    assert "### [GEMMA4] Change five more" in result["body"]
    for bad in (tmp_path / "no" / "body.md", tmp_path):
        assert call(*repos.words("c", "--body", bad)).status == 4
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_for_a_person(real: Repositories, fixtool: Run, tmp_path: Path) -> None:
    """Everything is shown, and nothing is written outside fixtool's own state."""
    before = real.team.snapshot(), real.upstream.snapshot()
    ran = fixtool(*real.words("c"))
    assert (ran.status, ran.err) == (0, "")
    assert re.search(r"^[0-9a-f]{12}  \[GEMMA4\] Change five more  python/model.py  \+1 -1$", ran.out, re.M)  # fmt: skip
    assert "probe     without it: the bug is there; with it: it is not (CPU)" in ran.out
    assert "[ ]       Ask a friend.: nothing that fixtool runs says so" in ran.out
    assert ran.out.endswith(
        f"next      fixtool {shlex.join(map(str, real.words('c', '--send')))}\n"
    )
    assert (real.team.snapshot(), real.upstream.snapshot()) == before
    assert os.listdir(real.settings.state / "upstream")  # noqa: PTH208


def chain_result(blob: str) -> dict[str, Any]:
    cold = {"chain": [3.46, 3, 4], "peer apart": [11.7, 11, 12], "empty": [0.8, 0.8, 0.9]}
    few = {"T": 1, "cold": {**cold, "chain+align": [4.88, 4, 5]}, "warm": {}}
    return {
        "device": "NVIDIA H100", "torch": "2.11.0", "triton": "3.6.0", "patch": "gemma4-router-chain",
        "files": {"kernel.py": blob, "peer.py": "c" * 40}, "missing": {}, "wrong": {},
        "points": [few, {"T": 32, "cold": cold, "warm": {}}, {"T": 64, "cold": {"empty": [0.8] * 3}}],
    }  # fmt: skip


def served(tree: str) -> dict[str, Any]:
    names = {"upstream": "d" * 40, "chain": tree}
    rates = {"upstream": {"median": 175.3}, "chain": {"median": 191.6}}
    return {
        "device": "NVIDIA H100", "layers": 30, "boots": [{}] * 4, "patch": "gemma4-router-chain",
        "contenders": {name: {"python_tree": own} for name, own in names.items()},
        "summary": {"decode": {"1": rates}, "routing": {}},
    }  # fmt: skip


def test_figures_of_the_routers_chain(repos: Repositories) -> None:
    """Of these very files, and of the servers that ran them; of another version they are stale."""
    folder = repos.team.path / "verify/results"
    folder.mkdir(parents=True, exist_ok=True)
    own: Any = SimpleNamespace(slug="gemma4-router-chain")
    content = ProposedContent([own], frozenset({"a" * 40}), frozenset({"b" * 40}), frozenset())

    def figures(blob: str, tree: str) -> Any:
        for name, found in (("chain", chain_result(blob)), ("serving", served(tree))):
            (folder / f"2026-11-27-{name}.json").write_text(json.dumps(found))
        return gather(repos.repository, content)

    current = figures("a" * 40, "b" * 40)
    texts = {f.about: f.text.replace("\\", "") for f in current.of("speed")}
    chain, serving = texts["chain"], texts["serving"]
    assert "| bf16, tokens | 1 | 32 |" in chain
    assert "| **this change**, without align | 3.46 | 3.46 |" in chain
    assert "| **this change**, and its align | 4.88 | - |" in chain
    assert "sgl_kernel's align" not in chain
    assert "| batch 1 | 175 | 192 | 1.093x |" in serving
    stale = figures("e" * 40, "f" * 40)
    assert (stale.tables, len(stale.stale)) == ((), 2)
