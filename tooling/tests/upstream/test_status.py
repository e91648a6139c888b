"""The status of each patch upstream, and the trailers that are written into it."""

from __future__ import annotations

import datetime
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fixtool.errors import CannotRun, FixtoolError
from fixtool.github.model import PullRequestStatus
from fixtool.series import trailers
from fixtool.series.context import Context
from fixtool.series.patch import parse
from fixtool.settings import Settings
from fixtool.upstream.status import PatchStatus, _days, read_statuses, record_merges
from support.json_documents import document
from support.repositories import Ran, Team
from support.upstream import FIVE, MORE, Hosting, call, line

PULL = "https://github.com/sgl/sglang/pull/1"


# -- trailers --------------------------------------------------------------------------------

HEAD = "From 0000\nFrom: A <a@b.example>\nDate: Mon, 23 Nov 2026 12:00:00 +0000\nSubject: [PATCH] x\n\n"
DIFF = "\ndiff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-Forwarded: old\n+Forwarded: new\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("W.\n\nForwarded: no\nSigned-off-by: A\n", "W.\n\nForwarded: U\nSigned-off-by: A\n"),
        ("W.\n\nForwarded: no,\n  at all\nX-Y: z\n", "W.\n\nForwarded: U\nX-Y: z\n"),
        ("W.\n\nOrigin: x\nSigned-off-by: A\nSigned-off-by: B\n", "W.\n\nOrigin: x\nSigned-off-by: A\nForwarded: U\nSigned-off-by: B\n"),
        ("W.\n\nOrigin: x\n", "W.\n\nOrigin: x\nForwarded: U\n"),
        ("W.\n", "W.\n\nForwarded: U\n"),
        ("Forwarded: to all.\n\nOrigin: x\nForwarded: no\n", "Forwarded: to all.\n\nOrigin: x\nForwarded: U\n"),
        ("", "Forwarded: U\n"),
    ],
)  # fmt: skip
def test_a_trailer_is_written_where_it_belongs(before: str, after: str) -> None:
    mail = f"{HEAD}{before}" if before else HEAD[:-1]
    raw = trailers.with_trailer((mail + DIFF).encode(), "Forwarded", "U")
    patch = parse(raw, "x")
    assert raw.decode().endswith(after + DIFF), raw.decode()
    assert (patch.trailer("Forwarded"), patch.subject) == ("U", "x")
    assert patch.diff.decode() == DIFF[1:]


def test_a_trailer_that_cannot_be_written(hosting: Hosting) -> None:
    """The message ends with a paragraph that is not only trailers."""
    line_ = hosting.repos.repository.line("main")
    hosting.repos.edit("b", "Drop-When: never", "and more words")
    hosting.repos.save()
    with pytest.raises(FixtoolError, match="the trailers of b cannot be written"):
        trailers.record(hosting.repos.repository, line_, "b", {"Forwarded": PULL}, "x")
    assert hosting.repos.team("status", "--porcelain") == ""


def test_without_git_the_trailer_is_written_and_nothing_committed(hosting: Hosting) -> None:
    shutil.rmtree(hosting.repos.team.path / ".git")
    repos = hosting.repos
    recorded = trailers.record(repos.repository, repos.repository.line("main"), "b", {"Forwarded": PULL}, "x")  # fmt: skip
    assert recorded == str(repos.file("b"))
    assert f"\nForwarded: {PULL}\n" in repos.file("b").read_text()
    assert trailers.record(repos.repository, repos.repository.line("main"), "b", {"Forwarded": PULL}, "x") is None  # fmt: skip


@pytest.mark.parametrize(
    ("state", "commit"),
    [(None, None), ("open", None), ("open", "a1" * 20), ("closed", "a1" * 20), ("merged", None)],
)
def test_only_the_commit_of_a_merge_is_recorded(
    team: Team, settings: Settings, state: str | None, commit: str | None
) -> None:
    """GitHub gives an open pull request a commit too: the merge that it would be."""
    pull = PullRequestStatus(9, PULL, state, "", None, None, commit) if state else None
    status = PatchStatus("main", "five", None, pull, None, None, None, None, ())
    lines = [team.repository.line("main")]
    context = Context(team.repository, settings)
    assert record_merges(context, lines, [status], str(team.upstream.path)) == (status,)


@pytest.mark.parametrize("release", [None, "1.0"])
def test_the_tip_is_a_commit_whatever_the_line_is_for(
    team: Team, settings: Settings, monkeypatch: pytest.MonkeyPatch, release: str | None
) -> None:
    """The package index has no tip. A short id may mean the base of the line, unless that is what
    a release became."""
    team.patch("five", "fix five", python__model_py=FIVE)
    toml = team.root / "patches/main/upstream.toml"
    toml.write_text(toml.read_text() + (f'release = "{release}"\n' if release else ""))
    opened: list[object] = []

    def refuse(*words: object) -> None:
        opened.append((words[0], words[4]))
        raise CannotRun("no network")

    monkeypatch.setattr("fixtool.upstream.status.open_source", refuse)
    line_ = team.repository.line("main")
    context = Context(team.repository, replace(settings, source="pypi"))
    now = datetime.datetime.now(datetime.UTC)
    (status,) = read_statuses(context, [line_], None, "main", lambda *_: None, now)  # type: ignore[arg-type]
    assert opened == [("git", [] if release else [line_.upstream.base])]
    assert status.unknown == ("upstream's tip could not be read: no network",)


# -- where each stands -----------------------------------------------------------------------


def ago(days: float) -> str:
    when = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=days)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def status(hosting: Hosting, *more: str | Path) -> list[str | Path]:
    repos = hosting.repos
    return ["upstream", "--status", "--source", repos.upstream.path, "-C", repos.team.path, *more]


@pytest.fixture
def two(hosting: Hosting) -> Hosting:
    """Two lines: upstream took a; the pull request of b is open and that of c closed; d was never sent;
    e, of the other line, is open too."""
    repos = hosting.repos
    for number, slug in enumerate("bce", 1):
        hosting.api.add_pull(f"octocat:{slug}", "main", slug, "")
        hosting.api.pulls[-1].update(created_at=ago(number * 10 + 0.5), user={"login": "octocat"})
    for slug, number in (("b", 1), ("c", 2)):
        repos.edit(slug, "Forwarded: no", f"Forwarded: https://github.com/sgl/sglang/pull/{number}")
    repos.upstream.commit("[gemma4] Take it (#77)", python__model_py=FIVE)
    line(repos, "other", "main")
    repos.patch("e", "gemma4: go further", {"python/model.py": MORE}, on="main", line="other")
    text = repos.file("e", "other").read_text().replace("Forwarded: no", "Forwarded: https://github.com/sgl/sglang/pull/3")  # fmt: skip
    repos.file("e", "other").write_text(text)
    hosting.api.pulls[1]["state"] = "closed"
    hosting.api.add_review(1, "hubot", "CHANGES_REQUESTED", ago(6.5))
    hosting.api.add_review(1, "reviewer", "APPROVED", ago(3.5))
    hosting.api.add_review(
        1, "octocat", "COMMENTED", ago(0.5)
    )  # the author answers; this is no review
    repos.save()
    return hosting


def merge(hosting: Hosting) -> str:
    sha = hosting.repos.upstream.commit("[gemma4] Go further (#3)", python__model_py=MORE)
    hosting.api.pulls[2].update(state="closed", merged_at=ago(1), merge_commit_sha=sha)
    return sha


def test_the_table_over_two_lines(two: Hosting) -> None:
    sha = two.repos.upstream("rev-parse", "main")
    before = two.repos.team("rev-parse", "HEAD")
    ran = call(*status(two))
    assert (ran.status, ran.err) == (0, "")
    rows = [re.split(r" {2,}", row) for row in ran.out.rstrip().split("\n")]
    pulls = "https://github.com/sgl/sglang/pull/"
    assert rows == [
        ["line", "patch", "forwarded", "pull request", "on upstream now"],
        ["main", "a", "no", "-", f"absorbed {sha[:12]} #77"],
        ["", "b", f"{pulls}1", "#1 open, 10 days, approved 3 days ago", "clean"],
        ["", "c", f"{pulls}2", "#2 closed", "clean"],
        ["", "d", "no", "-", "clean"],
        ["other", "e", f"{pulls}3", "#3 open, 30 days, no review", "clean"],
    ]  # fmt: skip
    assert two.repos.team("rev-parse", "HEAD") == before


def test_the_same_as_a_document(two: Hosting) -> None:
    result = document(call(*status(two, "--json")))
    assert result["exit_code"] == 0
    by = {status["slug"]: status for status in result["standings"]}
    assert by["b"]["review"] | {"opened": "", "reviewed": ""} == {
        "number": 1, "url": PULL, "state": "open", "opened": "", "reviewed": "",
        "said": "approved", "commit": None,
    }  # fmt: skip
    assert (by["b"]["days"], by["b"]["waiting"]) == (10, 3)
    assert (by["e"]["days"], by["e"]["waiting"], by["e"]["line"]) == (30, 30, "other")
    assert (by["a"]["tip"], by["a"]["since"]["pr"]) == ("absorbed", 77)
    other = document(call(*status(two, "--json", "--line", "other")))
    assert [status["slug"] for status in other["standings"]] == ["e"]


@pytest.mark.parametrize("branch", ["main", "master"])
def test_the_branch_that_was_looked_at(two: Hosting, branch: str) -> None:
    two.repos.upstream("branch", "--move", branch)
    result = document(call(*status(two, "--json")))
    assert (result["onto"], {each["ref"] for each in result["standings"]}) == (branch, {branch})


def test_a_merge_is_written_into_the_patch_once(two: Hosting) -> None:
    sha = merge(two)
    team, file = two.repos.team, two.repos.file("e", "other")
    head = team("rev-parse", "HEAD")
    dry = call(*status(two, "--dry-run"))
    assert (dry.status, "recorded" in dry.out, team("rev-parse", "HEAD")) == (0, False, head)
    ran = call(*status(two))
    assert ran.status == 0
    assert "#3 merged" in ran.out
    assert f"recorded  Applied-Upstream: {sha}, #3 in e\n" in ran.out
    assert f"\nApplied-Upstream: {sha}, #3\nSigned-off-by: " in file.read_text()
    assert team("log", "--format=%s", f"{head}..") == "other: say where e stands upstream"
    again = document(call(*status(two, "--json")))
    assert [status["written"] for status in again["standings"]] == [None] * 5
    assert team("rev-parse", "HEAD~1") == head


def test_the_first_release_with_a_merge_is_added_when_it_is_there(two: Hosting) -> None:
    sha = merge(two)
    upstream, file = two.repos.upstream, two.repos.file("e", "other")
    call(*status(two))
    upstream("tag", "v1.1rc1")
    assert "recorded" not in call(*status(two)).out
    upstream("tag", "v1.1")
    ran = call(*status(two))
    assert f"recorded  Applied-Upstream: {sha}, #3, 1.1 in e\n" in ran.out
    assert f"\nApplied-Upstream: {sha}, #3, 1.1\nSigned-off-by: " in file.read_text()
    assert "recorded" not in call(*status(two)).out


def test_what_a_person_wrote_about_a_merge_is_kept(two: Hosting) -> None:
    sha = merge(two)
    two.repos.upstream("tag", "v1.1")
    file = two.repos.file("e", "other")
    text = file.read_text().replace("Signed-off-by:", "Applied-Upstream: 1.0.post1\nSigned-off-by:")
    file.write_text(text)
    two.repos.save()
    call(*status(two))
    written = re.findall("^Applied-Upstream: .*$", file.read_text(), re.MULTILINE)
    assert written == ["Applied-Upstream: 1.0.post1", f"Applied-Upstream: {sha}, #3, 1.1"]


def test_a_merge_that_cannot_be_written_yet(two: Hosting) -> None:
    merge(two)
    two.repos.edit("a", "Why.", "Because.")  # another line may have uncommitted changes
    assert "recorded" in call(*status(two)).out
    two.repos.save()
    file = two.repos.file("e", "other")
    file.write_text(re.sub("Applied-Upstream: .*\n", "", file.read_text()))
    ran = call(*status(two))
    assert ran.status == 4
    assert "#3 merged" in ran.out
    assert "unknown   Applied-Upstream: " in ran.out
    assert "patches/other/e.patch is not committed" in ran.out


def test_without_an_answer_the_rest_is_shown(two: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    two.api.log.clear()
    two.api.fail("GET .*/pulls/", None, times=99)
    ran = call(*status(two))
    assert ran.status == 4
    assert len(two.api.log) == 3  # three attempts for the first patch, none for the others
    assert re.search(r"^unknown   cannot read #1: .* gives no answer", ran.out, re.MULTILINE)
    assert re.search(r"^ +b +https://github.com/sgl/sglang/pull/1 +- +clean$", ran.out, re.M)
    two.api.faults.clear()
    monkeypatch.setenv("FIXTOOL_URL", "https://gitlab.example/x/y")
    result = document(call(*status(two, "--json")))
    assert result["exit_code"] == 4
    assert "is not on GitHub" in result["standings"][1]["unknown"][0]


def test_without_pygithub_what_needs_none_is_shown(
    two: Hosting, fixtool: Callable[..., Ran], tmp_path: Path
) -> None:
    hidden = tmp_path / "hidden"
    (hidden / "github").mkdir(parents=True)
    (hidden / "github/__init__.py").write_text("raise ImportError\n")
    ran = fixtool(*status(two, "--line", "other"), PYTHONPATH=str(hidden))
    assert (ran.status, ran.err) == (4, "")
    assert "clean" in ran.out
    assert "unknown   GitHub's API needs PyGithub, which is not installed here" in ran.out
    for slug, number in (("b", 1), ("c", 2)):
        two.repos.edit(slug, f"Forwarded: https://github.com/sgl/sglang/pull/{number}", "Forwarded: no")  # fmt: skip
    ran = fixtool(*status(two, "--line", "main"), PYTHONPATH=str(hidden))
    assert (ran.status, ran.err) == (0, ""), ran.out


def test_an_upstream_that_cannot_be_read(two: Hosting) -> None:
    ran = call(*status(two, "--onto", "nowhere"))
    assert ran.status == 4
    assert "has no commit, tag, branch or release 'nowhere'" in ran.out
    assert "#1 open, 10 days, approved 3 days ago" in ran.out
    assert re.search(r"^main +a +no +- +unknown$", ran.out, re.MULTILINE)


def test_a_pull_request_of_another_repository(two: Hosting) -> None:
    two.repos.edit("d", "Forwarded: no", "Forwarded: https://github.com/someone/else/pull/1")
    result = {
        status["slug"]: status for status in document(call(*status(two, "--json")))["standings"]
    }
    assert result["d"]["review"] is None
    assert result["d"]["unknown"] == ["someone/else#1 is no pull request of sgl/sglang"]
    two.repos.edit("d", "someone/else/pull/1", "sgl/sglang/pull/404")
    result = {
        status["slug"]: status for status in document(call(*status(two, "--json")))["standings"]
    }
    assert "it is not there" in result["d"]["unknown"][0]
    assert result["e"]["review"]["number"] == 3  # and the others are still asked


def test_days_and_clocks() -> None:
    now = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
    assert _days("2026-11-24T12:00:05+00:00", now) == 0
    assert _days("2026-11-14T11:00:00+00:00", now) == 10
