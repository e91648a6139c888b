"""`lint --drift` checks the recorded facts of a line against upstream's commits, and says what it
could not check."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.json_documents import document
from support.rebase import FIVE, OTHER
from support.repositories import Git, Ran, Team


@dataclass(frozen=True)
class Clone:
    """An upstream in which a bug came, in which it was cured after the base of the line, and in
    which other things happened; and a line of one patch."""

    team: Team
    fixtool: Callable[..., Ran]
    bug: str
    cure: str

    @property
    def git(self) -> Git:
        return self.team.upstream

    @property
    def path(self) -> Path:
        return self.team.root / "patches/main/five.patch"

    def record(self, *trailers: str) -> None:
        """Give the patch these trailers, and no other facts."""
        lines = self.path.read_text().split("\n")
        facts = ("Fixes:", "Applied-Upstream:", "Superseded-By:")
        lines = [line for line in lines if not line.startswith(facts)]
        at = next(n for n, line in enumerate(lines) if line.startswith("Forwarded:"))
        self.path.write_text("\n".join([*lines[:at], *trailers, *lines[at:]]))

    def lint(self, *words: str | Path, source: str | Path | None = None) -> Ran:
        source = source or self.git.path
        return self.fixtool("lint", "--drift", "--source", source, "-C", self.team.root, *words)

    def findings(self, *words: str, source: str | Path | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = document(self.lint("--json", *words, source=source))[
            "findings"
        ]
        return found

    def found(self, *trailers: str, source: str | Path | None = None) -> list[tuple[str, str]]:
        """The level and the message of each finding for a patch with these trailers; each is at
        the line of a trailer."""
        self.record(*trailers)
        text = self.path.read_text().split("\n")
        numbers = {f"{self.path}:{n}" for n, line in enumerate(text, 1) if line in trailers}
        findings = self.findings(source=source)
        assert {finding["where"] for finding in findings} <= numbers
        assert all(finding["fix"] for finding in findings)
        return [(finding["level"], finding["message"]) for finding in findings]


@pytest.fixture
def clone(team: Team, fixtool: Callable[..., Ran]) -> Clone:
    git = team.upstream
    git("tag", "--delete", "v1.0")
    git("tag", "v0.9")
    bug = git.commit("bring it (#10)", python__other_py="alpha\nbug\ngamma\n")
    git("tag", "v1.0")  # the base of the line
    git("tag", "v1.1")
    (team.root / "patches/main/upstream.toml").unlink()
    team.line(base=bug)
    team.patch("five", "area: fix five", python__model_py=FIVE)
    cure = git.commit("cure it (#11)", python__other_py=OTHER)
    git.commit("docs", README_txt="x\n")
    git("tag", "v1.2rc1")
    git("tag", "v1.2")
    return Clone(team, fixtool, bug, cure)


def test_true_facts_give_no_finding(clone: Clone) -> None:
    assert clone.found(f"Fixes: {clone.bug} (#10), 1.0", f"Applied-Upstream: {clone.cure}, #11, 1.2") == []  # fmt: skip
    assert clone.found(f"Fixes: {clone.bug[:9]}", f"Superseded-By: {clone.cure[:9]}, v1.2") == []
    assert clone.lint("--strict").out == "1 patch in 1 line: 0 findings\n"


def test_a_patch_without_facts_needs_no_clone(clone: Clone) -> None:
    assert clone.found() == []


def test_a_commit_that_is_not_there(clone: Clone) -> None:
    path = clone.git.path
    assert clone.found(f"Fixes: {'0' * 39}1", "Applied-Upstream: 0000001") == [
        ("error", f"Fixes: {path} has no commit {'0' * 39}1"),
        ("error", f"Applied-Upstream: {path} has no commit 0000001"),
    ]
    tree = clone.git("rev-parse", "main^{tree}")
    assert clone.found(f"Fixes: {tree}") == [("error", f"Fixes: {path} has no commit {tree}")]
    assert clone.lint().status == 1


def test_a_commit_that_is_another_pull_request(clone: Clone) -> None:
    assert clone.found(f"Fixes: {clone.bug}, #11") == [
        ("error", f"Fixes: {clone.bug[:12]} (bring it (#10)) is not pull request #11")
    ]
    docs = clone.git("rev-parse", "main")
    assert clone.found(f"Applied-Upstream: {docs}, #12") == [
        ("note", f"not checked: the subject of {docs[:12]} (docs) ends with "
                 "no pull request")
    ]  # fmt: skip


def test_the_base_must_hold_the_bug_and_not_the_cure(clone: Clone) -> None:
    base = clone.bug[:12]
    assert clone.found(f"Fixes: {clone.cure}") == [
        ("error", f"Fixes: the base {base} does not hold {clone.cure[:12]}")
    ]
    for kind in ("Applied-Upstream", "Superseded-By"):
        assert clone.found(f"{kind}: {clone.bug}, #10") == [
            ("error", f"{kind}: the base {base} holds {base} already")
        ]
    (finding,) = clone.findings()
    fix = r"correct the commit, or drop the patch: fixtool drop --source .* -C .* five --line main"
    assert re.fullmatch(fix, finding["fix"])


def test_one_of_several_commits_that_brought_the_bug_is_enough(clone: Clone) -> None:
    """fixtool does not use the other one."""
    message = f"Fixes: the base {clone.bug[:12]} does not hold {clone.cure[:12]}"
    assert clone.found(f"Fixes: {clone.cure}", f"Fixes: {clone.bug}") == [("warning", message)]


def test_what_upstream_took_back_before_the_base(clone: Clone) -> None:
    git = clone.git
    took = git.commit("take five (#20)", python__model_py=FIVE)
    git("revert", "--no-edit", "HEAD")
    back = git.head()
    (clone.team.root / "patches/main/upstream.toml").unlink()
    clone.team.line(base=back)
    message = (
        f"the base {back[:12]} does not hold {took[:12]}: upstream took it back with {back[:12]}"
    )
    assert clone.found(f"Applied-Upstream: {took}, #20") == [
        ("warning", f"Applied-Upstream: {message}")
    ]
    assert clone.lint().status == 0
    assert clone.lint("--strict").status == 1
    assert clone.found(f"Fixes: {took}, #20") == [("error", f"Fixes: {message}")]


RELEASES = [
    ("Applied-Upstream: {cure}, 1.1", "by the tags of the clone, 1.2 is the first release that holds {cure:.12}; the trailer says 1.1"),
    ("Applied-Upstream: {cure}, 1.3", "by the tags of the clone, 1.2 is the first release that holds {cure:.12}; the trailer says 1.3"),
    ("Applied-Upstream: {cure}, none", "by the tags of the clone, 1.2 is the first release that holds {cure:.12}; the trailer says none"),
    ("Fixes: {bug}, 0.9", "by the tags of the clone, 1.0 is the first release that has the bug; the trailer says 0.9"),
    ("Fixes: {bug}, none", "by the tags of the clone, 1.0 is the first release that has the bug; the trailer says none"),
]  # fmt: skip


@pytest.mark.parametrize(("trailer", "message"), RELEASES, ids=[row[0] for row in RELEASES])
def test_the_first_release_is_the_one_that_the_tags_show(
    clone: Clone, trailer: str, message: str
) -> None:
    names = {"bug": clone.bug, "cure": clone.cure}
    kind = trailer.partition(":")[0]
    assert clone.found(trailer.format(**names)) == [("error", f"{kind}: {message.format(**names)}")]


def test_a_bug_that_no_release_has(clone: Clone) -> None:
    """It came and was cured between two releases."""
    clone.git("tag", "--delete", "v1.0", "v1.1")
    cure = f"Applied-Upstream: {clone.cure}, 1.2"
    assert clone.found(f"Fixes: {clone.bug}, none", cure) == []
    findings = clone.found(f"Fixes: {clone.bug}, 1.2", cure)
    assert ("error", "Fixes: by the tags of the clone, no release has the bug; the trailer says 1.2") in findings  # fmt: skip
    assert clone.found(f"Fixes: {clone.bug}, 1.2") == []  # nothing tells of a cure


def test_a_release_branch_with_a_copy_of_the_commit(clone: Clone) -> None:
    git = clone.git
    git("checkout", "--quiet", "-b", "release", "v1.1")
    git.commit("prepare the release", README_txt="release\n")
    git("cherry-pick", clone.cure)
    git("tag", "v1.1.post1")
    git("checkout", "--quiet", "main")
    assert clone.found(f"Applied-Upstream: {clone.cure}, 1.1.post1") == []
    assert clone.found(f"Applied-Upstream: {clone.cure}, 1.1")[0][0] == "error"


def test_a_release_that_the_clone_has_no_tag_of(clone: Clone) -> None:
    newest = clone.git.commit("newer (#13)", README_txt="newer\n")
    for trailer in (
        f"Applied-Upstream: {newest}, 1.3",
        f"Applied-Upstream: {clone.cure}, 1.1.post9",
    ):
        ((level, message),) = clone.found(trailer)
        assert level == "note"
        assert "the clone has no tag of release 1." in message
    assert clone.found(f"Applied-Upstream: {newest}, 1.2")[0][0] == "error"
    assert clone.found(f"Applied-Upstream: {newest}, none") == []


# -- what could not be checked ---------------------------------------------------------------


def test_what_was_not_checked_is_said_and_fails_nothing(clone: Clone) -> None:
    clone.git("tag", "--delete", "v0.9", "v1.0", "v1.1", "v1.2rc1", "v1.2")
    reason = "its first release can be compared only with the release tags of a whole clone"
    assert clone.found(f"Fixes: {clone.bug}, 1.0", f"Applied-Upstream: {clone.cure}, 1.2") == [
        ("note", f"not checked, here and in 1 more trailer: {reason}")
    ]
    ran = clone.lint("--strict")
    assert ran.status == 0
    assert ran.out.endswith("1 patch in 1 line: 0 findings, 1 note\n")
    url = clone.git.path
    assert f"    git -C {clone.git.path} fetch --tags {url}\n" in ran.out


def test_a_release_alone_is_not_checked_against_commits(clone: Clone) -> None:
    assert clone.found("Applied-Upstream: 1.2") == [("note", "not checked: it names no commit")]


def test_without_a_commit_no_history_is_read(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a remote, it would first have to be fetched."""
    read: list[object] = []
    monkeypatch.setattr("fixtool.history.fact_check.read_upstream", lambda *_: read.append(_))
    clone.found("Applied-Upstream: 1.2")
    assert read == []
    clone.found(f"Fixes: {clone.bug}")
    assert len(read) == 1


def test_a_shallow_clone_does_not_hold_every_commit(clone: Clone, tmp_path: Path) -> None:
    """What it holds is checked."""
    clone.record(f"Fixes: {clone.bug}, #11", f"Applied-Upstream: {'0' * 39}1")
    shallow = tmp_path / "shallow"
    clone.git("clone", "--quiet", "--depth=3", f"file://{clone.git.path}", str(shallow))
    findings = clone.findings(source=shallow)
    levels = {finding["level"]: finding["message"] for finding in findings}
    assert "is not pull request #11" in levels["error"]
    assert "shallow clone" in levels["note"]


def test_a_remote_is_asked_for_the_commits(clone: Clone) -> None:
    url = f"file://{clone.git.path}"
    clone.git("config", "uploadpack.allowFilter", "true")
    clone.git("config", "uploadpack.allowAnySHA1InWant", "true")
    assert clone.found(f"Fixes: {clone.bug}, #10", source=url) == []
    assert clone.found(f"Fixes: {clone.cure}, #10", source=url)[0][0] == "error"
    ((level, message),) = clone.found(f"Applied-Upstream: {'0' * 39}1", source=url)
    assert (level, "has no commit" in message) == ("error", True)
    ((level, message),) = clone.found(f"Applied-Upstream: {clone.cure[:9]}", source=url)
    assert (level, "only for ids of 40 digits" in message) == ("note", True)
    clone.record(f"Applied-Upstream: {clone.cure}, 1.2")
    ran = clone.lint(source=url)
    assert "--source PATH, a clone of upstream" in ran.out
    assert ran.status == 0


# -- lines for a release ---------------------------------------------------------------------


@pytest.fixture
def released(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """The line is for release 1.1, whose base is had without the package index."""
    toml = clone.team.root / "patches/main/upstream.toml"
    toml.write_text(f'{toml.read_text()}release = "1.1"\n')
    base = SimpleNamespace(repo=None, base=None)
    monkeypatch.setattr("fixtool.commands.options.open_base", lambda *_: base)
    monkeypatch.setattr("fixtool.series.lint.drift", lambda *_: ())
    return clone


def test_a_line_for_a_release_is_compared_by_releases(released: Clone) -> None:
    bug, cure = released.bug, released.cure
    assert released.found(f"Fixes: {bug}, 1.0", f"Applied-Upstream: {cure}, 1.2") == []
    holds = "release 1.1, the base of the line, holds the cure already"
    lacks = "release 1.1, the base of the line, does not have the bug"
    assert ("error", f"Applied-Upstream: {holds}") in released.found("Applied-Upstream: 1.1")
    assert ("error", f"Superseded-By: {holds}") in released.found("Superseded-By: 1.0.post1")
    assert ("error", f"Fixes: {lacks}") in released.found("Fixes: 1.2")
    assert ("error", f"Fixes: {lacks}") in released.found(f"Fixes: {bug}, none")
    assert "error" not in dict(released.found("Fixes: 1.2", "Fixes: 1.0"))


def test_without_a_source_of_commits_the_releases_are_compared(released: Clone) -> None:
    assert released.found(f"Fixes: {released.bug}, 1.2", source="pypi") == [
        ("error", "Fixes: release 1.1, the base of the line, does not have the bug"),
        ("note", "not checked: the package index has no commits"),
    ]
