"""ci/nightly as cron and the workflow run it, with a real `fixtool announce` and a stand-in for the
rest; and what the workflow's file promises."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import git_http as githttp
from support.github_api import TOKEN
from support.nightly import (
    BRANCH,
    UPSTREAM,
    World,
    conflict,
    document,
    failure,
    history,
    template,
    world,
    write,
)
from support.processes import GENEROUS
from support.repositories import NUMBERS, ROOT, Ran, Team

pytestmark = pytest.mark.slow(2)  # each runs the script of the nightly job

FIX = NUMBERS.replace("line 20\n", "line 20 fixed\n")
WORKFLOWS = ROOT / ".github" / "workflows"

FIXTOOL = f"""#!{sys.executable}
import json, os, pathlib, subprocess, sys
place = pathlib.Path(os.environ["STAND_IN"])
words = sys.argv[1:]
tokens = [name for name in ("GITHUB_TOKEN", "GH_TOKEN") if os.environ.get(name)]
with (place / "calls").open("a") as calls:
    calls.write(json.dumps([words, tokens]) + chr(10))
tree, verb = pathlib.Path(words[1]), words[2]
def answer(name):
    line = words[words.index("--line") + 1] if "--line" in words else ""
    name = f"{{line}}-{{name}}" if (place / f"{{line}}-{{name}}").exists() else name
    if not (place / name).exists():
        sys.exit(137)
    document = json.loads((place / name).read_text())
    if document.get("moved"):
        (tree / "patches/main/series").write_text("# moved" + chr(10))
        git = ["git", "-C", str(tree)]
        subprocess.run([*git, "commit", "--quiet", "--all", "--message", "x"], check=True)
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        document["committed"] = head.stdout.strip()
    print(json.dumps(document))
    sys.exit(document["exit_code"])
if verb == "announce":
    os.execv(sys.executable, [sys.executable, "-m", "fixtool", *words])
if "--abort" not in words and verb in ("rebase", "history", "coverage"):
    answer(verb + ".json")
"""


@dataclass
class Host:
    """A machine with a clone of the patch repository, our script in it, and the stand-in."""

    night: World
    place: Path
    out: Path
    env: dict[str, str] = field(default_factory=dict)

    def __call__(self, *words: str, **env: str) -> Ran:
        process = subprocess.run(
            [str(self.night.root / "ci" / "nightly"), *words], cwd="/", text=True,
            env={**os.environ, **self.night.env, **self.env, **env}, capture_output=True,
            check=False, timeout=GENEROUS,
        )  # fmt: skip
        assert "Traceback" not in process.stderr, process.stderr
        assert TOKEN not in process.stdout + process.stderr
        return Ran(process.returncode, process.stdout, process.stderr)

    def will_say(self, rebase: dict[str, Any] | None) -> None:
        (self.place / "rebase.json").unlink(missing_ok=True)
        if rebase:
            write(self.place / "rebase.json", rebase)

    @property
    def calls(self) -> list[tuple[list[str], list[str]]]:
        return [tuple(json.loads(line)) for line in (self.place / "calls").read_text().splitlines()]  # type: ignore[misc]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return template(tmp_path_factory.mktemp("made"))


@pytest.fixture
def host(made: Path, tmp_path: Path) -> Iterator[Host]:
    with world(made, tmp_path) as night:
        (night.root / "ci").mkdir()
        shutil.copy2(ROOT / "ci" / "nightly", night.root / "ci" / "nightly")
        place = tmp_path / "bin"
        place.mkdir()
        (place / "fixtool").write_text(FIXTOOL)
        (place / "fixtool").chmod(0o755)
        write(place / "history.json", history())
        write(place / "coverage.json", {"exit_code": 3})
        env = {
            "PATH": f"{place}:{os.environ['PATH']}", "STAND_IN": str(place), "LINE": "main",
            "OUT": str(tmp_path / "out"), "GIT_COMMITTER_NAME": "x", "GIT_COMMITTER_EMAIL": "x@x",
            "GIT_AUTHOR_NAME": "x", "GIT_AUTHOR_EMAIL": "x@x", "OWNERS": "octocat hubot",
        }  # fmt: skip
        yield Host(night, place, tmp_path / "out", env)


def test_a_whole_night(host: Host) -> None:
    """The line moved and nobody is needed: a branch and a pull request. The checkout stays as it was."""
    host.will_say(document(moved=True))
    before = host.night.git("rev-parse", "HEAD"), host.night.git("status", "--porcelain", "patches")
    ran = host()
    assert ran.status == 0, ran.err
    assert (
        host.night.tip()
        == json.loads((host.out / "lines/main/rebase.json").read_text())["committed"]
    )
    assert host.night.api.pulls[0]["head"]["ref"] == BRANCH
    assert [user["login"] for user in host.night.api.pulls[0]["assignees"]] == ["octocat", "hubot"]
    git = host.night.git
    assert (git("rev-parse", "HEAD"), git("status", "--porcelain", "patches")) == before
    assert len(git("worktree", "list").splitlines()) == 1
    verbs = [words[2] for words, _ in host.calls]
    assert verbs == [
        "rebase",
        "rebase",
        "rebase",
        "history",
        "coverage",
        "report",
        "report",
        "announce",
    ]
    assert [tokens for _, tokens in host.calls] == [[]] * 7 + [["GITHUB_TOKEN"]]
    words = host.calls[1][0]
    assert words[3:] == ["--line", "main", "--onto", "main", "--json"]
    start = history()["start"]
    assert host.calls[4][0][3:] == ["--from", start, "--to", "main", "--json"]
    assert host.calls[5][0][-4:-2] == ["--coverage", str(host.out / "lines/main/coverage.json")]
    assert not any(TOKEN in word for words, _ in host.calls for word in words)


@pytest.mark.slow(25)
def test_four_nights_of_the_real_thing(made: Path, tmp_path: Path, team: Team) -> None:
    """Upstream over HTTP, fetched without blobs: nothing new; one patch taken; one broken; mended by
    a person."""
    team.patch("fix", "fix twenty", python__model_py=FIX)
    team.patch("taken", "fix beta", python__other_py="alpha\nbeta!\ngamma\n")
    upstream = team.upstream
    with world(made, tmp_path / "night") as night, githttp.serve(tmp_path / "upstreams") as server:

        def publish() -> None:
            githttp.publish(upstream.path, server.root / "upstream.git")

        shutil.rmtree(night.root / "patches")
        shutil.copytree(team.root / "patches", night.root / "patches")
        (night.root / "ci").mkdir()
        shutil.copy2(ROOT / "ci" / "nightly", night.root / "ci" / "nightly")
        night.git("add", "--all")
        night.git("commit", "--quiet", "--message", "the series")
        night.git("push", "--quiet", str(night.served), "main")
        fixtool = tmp_path / "fixtool"
        fixtool.write_text(f'#!/bin/sh\nexec {sys.executable} -m fixtool "$@"\n')
        fixtool.chmod(0o755)
        source = f"{server.url}/upstream.git"
        env = {"LINE": "main", "SOURCE": source, "FIXTOOL": str(fixtool),
               "OUT": str(tmp_path / "out"), "no_proxy": "127.0.0.1"}  # fmt: skip
        host = Host(night, tmp_path, tmp_path / "out", env)

        publish()
        before = night.git.snapshot()
        ran = host()
        assert ran.status == 0, ran.err
        assert night.git.snapshot() == before
        assert (night.tip(), night.api.pulls, night.api.issues) == (None, [], [])

        upstream.commit("Take beta (#76)", python__other_py="alpha\nbeta!\ngamma\n")
        upstream.commit("docs", README_txt="read me twice\n")
        publish()
        ran = host()
        assert ran.status == 0, ran.err
        assert night.git.snapshot() == before
        rebase = json.loads((host.out / "lines/main/rebase.json").read_text())
        assert {patch["slug"]: (patch["verdict"], patch["action"]) for patch in rebase["patches"]} == {
            "fix": ("clean", "kept"), "taken": ("absorbed", "dropped"),
        }  # fmt: skip
        assert night.tip() == rebase["committed"]
        (pull,) = night.api.pulls
        print(pull["title"], pull["body"], sep="\n\n")
        assert "Take beta (#76)" in pull["body"] or "76" in pull["body"]
        assert "taken" in pull["body"]
        assert (host.out / "lines/main/report/report.html").exists()

        upstream.commit("Rework twenty (#77)", python__model_py=FIX.replace("fixed", "reworked"))
        publish()
        ran = host()
        assert ran.status == 3, ran.err
        (issue,) = night.api.issues
        print(issue["title"], issue["body"], sep="\n\n")
        assert "fix does not apply" in issue["body"]
        assert "Rework twenty" in issue["body"]
        assert len(night.api.pulls) == 1

        begun = ["rebase", "--line", "main", "--onto", "main", "--source", source]
        home = {**os.environ, **env, "GIT_COMMITTER_NAME": "x", "GIT_COMMITTER_EMAIL": "x@x"}

        def at_home(*words: str) -> dict[str, Any]:
            process = subprocess.run(
                [str(fixtool), *words, "--json", "-C", str(night.root)],
                env=home, capture_output=True, text=True, check=False,
            )  # fmt: skip
            document: dict[str, Any] = json.loads(process.stdout)
            return document

        waiting = at_home(*begun)
        tree = Path(waiting["session"]["worktree"])
        (tree / "python/model.py").write_text(FIX.replace("fixed", "reworked, and fixed"))
        assert at_home("rebase", "--continue")["committed"]
        night.git("push", "--quiet", str(night.served), "main")
        ran = host()
        assert ran.status == 0, ran.err
        assert night.api.issues[0]["state"] == "closed"
        assert len(night.api.pulls) == 1

        upstream.commit("Take beta back", python__other_py="alpha\nbeta\ngamma\n")
        publish()
        assert host().status in (0, 3)
        rebase = json.loads((host.out / "lines/main/rebase.json").read_text())
        assert {patch["slug"]: patch["action"] for patch in rebase["patches"]}[
            "taken"
        ] == "restored"


@pytest.mark.slow(5)
def test_nights_in_a_row(host: Host) -> None:
    """A conflict, the same again, and green: one issue, which closes itself."""
    host.will_say(conflict())
    assert (host().status, host().status) == (3, 3)
    assert (len(host.night.api.issues), host.night.api.comments) == (1, {})
    host.will_say(document())
    assert host().status == 0
    assert host.night.api.issues[0]["state"] == "closed"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (failure(), "cannot reach https://github.com/x"),
        (None, "fixtool rebase ended with status 137 and said nothing"),
    ],
)
def test_a_rebase_that_cannot_run_is_told(host: Host, said: Any, words: str) -> None:
    host.will_say(said)
    ran = host()
    assert ran.status == 3, ran.err
    assert words in host.night.api.issues[0]["body"]


def test_two_jobs(host: Host, tmp_path: Path) -> None:
    """As in the workflow: the second has another clone, the files of the first, and the token."""
    host.will_say(document(moved=True))
    assert host("rebase", PROBE="1", REF="v0.6", SOURCE=UPSTREAM, GITHUB_TOKEN="").status == 0
    assert host.calls[1][0][5:] == ["--onto", "v0.6", "--source", UPSTREAM, "--probe", "--json"]
    assert host.night.api.log == []
    url = host.night.git("remote", "get-url", "origin")
    host.night.git(
        "clone", "--quiet", "--depth=1", f"file://{host.night.served}", str(tmp_path / "second")
    )
    shutil.copytree(host.night.root / "ci", tmp_path / "second" / "ci")
    host.night.git = type(host.night.git)(tmp_path / "second")
    host.night.git("remote", "set-url", "origin", url)
    ran = host("tell")
    assert ran.status == 0, ran.err
    assert (
        host.night.tip()
        == json.loads((host.out / "lines/main/rebase.json").read_text())["committed"]
    )


def test_a_first_job_that_left_nothing_is_told(host: Host) -> None:
    assert host("tell").status == 3
    assert "was stopped, or did not start" in host.night.api.issues[0]["body"]


@pytest.mark.parametrize(
    ("rebase", "env", "message"),
    [
        (document(), {"GITHUB_TOKEN": "bad"}, "does not take the token"),
        (document(), {"GITHUB_REPOSITORY": "acme/gone"}, "it is not there"),
        (document(), {"OWNERS": "@me"}, "is not a user's name"),
        ({"schema": 1}, {}, "not what `fixtool rebase"),
    ],
)
def test_a_reporter_that_fails_is_red(
    host: Host, rebase: Any, env: dict[str, str], message: str
) -> None:
    """The exit code is an error even if the rebase went well."""
    (host.out / "lines/main").mkdir(parents=True)
    write(host.out / "lines/main/rebase.json", rebase)
    ran = host("tell", **env)
    assert ran.status not in (0, 3)
    assert re.search(message, ran.err)
    assert "ci/nightly: telling failed" in ran.err
    assert "nobody may know what became of line main tonight" in ran.err


def test_a_history_that_fails_is_red_and_the_rest_is_told(host: Host) -> None:
    (host.place / "history.json").unlink()
    host.will_say(conflict())
    ran = host()
    assert ran.status == 4
    assert "history or report failed (137); the rebase ended with 3" in ran.err
    assert len(host.night.api.issues) == 1
    (host.out / "lines/main/history.json").write_text("{")
    ran = host("tell")
    assert ran.status == 3
    assert "history.json is not JSON" in ran.out


def test_a_coverage_that_fails_is_red_and_the_report_is_made(host: Host) -> None:
    (host.place / "coverage.json").unlink()
    host.will_say(document())
    ran = host()
    assert ran.status == 4
    assert "coverage failed (137); the rebase ended with 0" in ran.err
    assert not (host.out / "lines/main/coverage.json").exists()
    words, _ = (words for words, _ in host.calls if words[2] == "report")
    assert "--coverage" not in words
    write(host.place / "coverage.json", failure("it does not support filters"))
    assert "it does not support filters" in host().err  # the reason is in the log of the job


def test_two_at_once(host: Host) -> None:
    host.out.mkdir()
    with (host.out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for step in ((), ("rebase",), ("tell",)):
            ran = host(*step)
            assert (ran.status, "another ci/nightly works in" in ran.err) == (4, True)
    assert host.night.api.log == []


def test_what_a_killed_night_left_is_cleared(host: Host) -> None:
    tree = host.out / "lines/main/tree"
    host.night.git("worktree", "add", "--quiet", "--detach", str(tree))
    (tree / "patches" / "main" / "series").write_text("half\n")
    (host.out / "lines/main/commit.bundle").write_text("of last night")
    host.will_say(document())
    assert host().status == 0
    assert not (host.out / "lines/main/commit.bundle").exists()


@pytest.mark.parametrize(
    ("words", "env", "message"),
    [
        ((), {"LINE": "main nope"}, "there is no line 'nope'; LINE names some of: main"),
        ((), {"LINE": "../x"}, "there is no line '../x'; LINE names some of: main"),
        (("rebase",), {"LINE": "*"}, "there is no line '*'"),
        (("tell",), {"TELL": "fax"}, "TELL=fax is not github, webhook or mail"),
        (("all",), {}, "no such step: all"),
        ((), {"PROBE": "1"}, "PROBE=1 runs upstream's code"),
    ],
)
def test_wrong_words(host: Host, words: tuple[str, ...], env: dict[str, str], message: str) -> None:
    ran = host(*words, **env)
    assert (ran.status, message in ran.err) == (2, True), ran.err


# -- several lines -----------------------------------------------------------------------------


@pytest.fixture
def team_host(host: Host) -> Host:
    """The same with four lines: one whose rebase is killed, one that asks, and two green ones."""
    patches = host.night.root / "patches"
    for line in ("asked", "broken", "calm"):
        shutil.copytree(patches / "main", patches / line)
        write(host.place / f"{line}-history.json", history(line=line))
    host.night.git("add", "--all", "patches")
    host.night.git("commit", "--quiet", "--message", "four lines")
    host.night.git("push", "--quiet", str(host.night.served), "main")
    write(host.place / "asked-rebase.json", conflict(line="asked"))
    write(host.place / "calm-rebase.json", document(line="calm"))
    host.env.pop("LINE")
    return host


def rebased_lines(host: Host) -> list[str]:
    """The lines that were rebased, in order."""
    return [words[4] for words, _ in host.calls if words[2] == "rebase" and "--onto" in words]


def test_every_line_has_its_night_and_all_have_one_summary(team_host: Host, tmp_path: Path) -> None:
    """A rebase that is killed stops no other line, and the night is kept."""
    host = team_host
    (host.place / "rebase.json").unlink(missing_ok=True)
    write(host.place / "main-rebase.json", document(moved=True))
    summary = tmp_path / "summary.md"
    ran = host(GITHUB_STEP_SUMMARY=str(summary))
    assert ran.status == 3, ran.err
    assert rebased_lines(host) == ["asked", "broken", "calm", "main"]
    assert [words[2] for words, _ in host.calls].count("announce") == 1
    titles = sorted(issue["title"] for issue in host.night.api.issues)
    assert titles == [f"Nightly rebase: line {line} needs a person" for line in ("asked", "broken")]
    assert len(host.night.api.pulls) == 1
    assert summary.read_text().startswith(
        "## Nightly rebase: 2 of 4 lines need a person: asked, broken\n"
    )
    (night,) = (host.out / "nights").iterdir()
    assert sorted(path.name for path in night.iterdir()) == [
        "asked.json", "broken.json", "calm.json", "main.json",
    ]  # fmt: skip
    assert host("tell", LINE="calm main").status == 3  # what OUT holds is told


def test_only_the_lines_that_are_named_and_the_newest_nights(team_host: Host) -> None:
    for night in ("2026-01-01", "2026-01-02", "2026-01-03T024300Z"):
        (team_host.out / "nights" / night).mkdir(parents=True)
    assert team_host(LINE="calm main", KEEP="3").status == 3  # nothing is said about main
    assert rebased_lines(team_host) == ["calm", "main"]
    kept = sorted(path.name for path in (team_host.out / "nights").iterdir())
    assert kept[:2] == ["2026-01-02", "2026-01-03T024300Z"]
    assert len(kept) == 3


def test_a_dry_run_needs_no_github_and_keeps_no_night(team_host: Host) -> None:
    none = dict.fromkeys(("GITHUB_TOKEN", "GITHUB_REPOSITORY", "GITHUB_API_URL"), "")
    ran = team_host("--dry-run", LINE="asked calm", **none)
    assert ran.status == 3, ran.err
    assert team_host.night.api.log == []
    assert "| `asked` | `aaaaaaaaaaaa` stays" in ran.out
    assert "# Issue: Nightly rebase: line asked needs a person" in ran.out
    assert not (team_host.out / "nights").exists()
    assert team_host("--dry-run", "tell", LINE="calm", **none).status == 3
    assert team_host.night.api.log == []


def test_a_night_by_mail(team_host: Host) -> None:
    sendmail = team_host.place / "sendmail"
    sendmail.write_text('#!/bin/sh\n[ "$*" = "-t -oi" ] && cat >"$STAND_IN/mail"\n')
    sendmail.chmod(0o755)
    words = {"LINE": "asked calm", "TELL": "mail", "OWNERS": "ada@example.org"}
    assert team_host(**words).status == 3
    mail = (team_host.place / "mail").read_text()
    assert "\nTo: ada@example.org\n" in mail
    assert "\nSubject: Nightly rebase: 1 of 2 lines needs a person: asked\n" in mail
    assert team_host.night.api.log == []
    ran = team_host("tell", **words, SENDMAIL="false")
    assert (ran.status, "telling failed (4)" in ran.err) == (4, True)


# -- the workflow ------------------------------------------------------------------------------


def nightly() -> dict[Any, Any]:
    workflow: dict[Any, Any] = yaml.safe_load((WORKFLOWS / "nightly.yml").read_text("utf-8"))
    return workflow


def test_only_the_job_that_tells_may_write_or_has_a_token() -> None:
    jobs = nightly()["jobs"]
    assert nightly()["permissions"] == {}
    assert jobs["rebase"]["permissions"] == {"contents": "read"}
    assert jobs["tell"]["permissions"] == {
        "contents": "write", "issues": "write", "pull-requests": "write",
    }  # fmt: skip
    assert not re.search(
        r"secrets|github\.token|GITHUB_TOKEN|GH_TOKEN", yaml.safe_dump(jobs["rebase"])
    )
    holders = [
        step["name"] for step in jobs["tell"]["steps"] if "token" in yaml.safe_dump(step).lower()
    ]
    assert holders == ["tell"]
    assert "env" not in jobs["tell"]
    assert "token" not in yaml.safe_dump(nightly()["env"])
    assert set(nightly()[True]) == {"schedule", "workflow_dispatch"}  # no pull_request_target


def test_the_job_that_tells_runs_nothing_of_upstreams() -> None:
    tell = nightly()["jobs"]["tell"]
    ran = "\n".join(step.get("run", "") for step in tell["steps"])
    assert re.findall(r"ci/nightly.*", ran) == ["ci/nightly tell || status=$?"]
    assert not re.search(r"PROBE|cpu\.txt|sglang", yaml.safe_dump(tell))
    assert "cache" not in yaml.safe_dump(tell)
    assert tell["if"] == "${{ !cancelled() }}"


def steps() -> list[dict[str, Any]]:
    return [step for job in nightly()["jobs"].values() for step in job["steps"]]


def test_actions_are_pinned_and_checkouts_keep_no_credentials() -> None:
    text = (WORKFLOWS / "nightly.yml").read_text("utf-8")
    used = re.findall(r"uses: (.*)", text)
    assert used
    for action in used:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    for step in steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_no_expression_is_pasted_into_a_script() -> None:
    assert [step["run"] for step in steps() if "${{" in step.get("run", "")] == []


def test_two_nights_do_not_overlap() -> None:
    assert nightly()["concurrency"]["cancel-in-progress"] is False
    assert all(job["timeout-minutes"] for job in nightly()["jobs"].values())


@pytest.mark.parametrize("workflow", ["nightly.yml", "gpu.yml", "test.yml"])
@pytest.mark.parametrize("tool", ["check-jsonschema", "zizmor"])
def test_linters_of_workflows_agree(tool: str, workflow: str) -> None:
    path = str(WORKFLOWS / workflow)
    words = {
        "check-jsonschema": ["--builtin-schema", "vendor.github-workflows", path],
        "zizmor": ["--offline", "--no-progress", path],
    }[tool]
    tool = str(Path(sys.executable).parent / tool)
    ran = subprocess.run([tool, *words], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
