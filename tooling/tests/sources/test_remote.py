"""The git source over a real server: what is asked for, what is fetched, what is said when it
cannot be."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fixtool.errors import CannotRun, ExitCode, FixtoolError, UsageError
from fixtool.progress import Silence
from fixtool.settings import Settings
from fixtool.sources.source import Remote, open_source
from fixtool.text import public_url, redact
from support import git_http as githttp
from support.repositories import NUMBERS, Git, Ran, Team

FIX = NUMBERS.replace("line 20\n", "line 20 fixed\n")
FEW = 20_000  # bytes: no file of the small upstream needs more
BIG = "".join(f"{n * n * n:x}\n" for n in range(40_000))


@dataclass
class Hub:
    """The upstream of conftest with some history, on a server; ``publish`` after each commit."""

    server: githttp.Server
    git: Git
    old: str
    base: str
    tip: str

    @property
    def url(self) -> str:
        return f"{self.server.url}/upstream.git"

    @property
    def counts(self) -> githttp.Counts:
        return self.server.counts

    def publish(self, **options: bool) -> None:
        githttp.publish(self.git.path, self.server.root / "upstream.git", **options)


@pytest.fixture
def hub(upstream: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    old = upstream("rev-parse", "v1.0")
    base = upstream.commit("the line's base", python__unused_py=BIG)
    upstream("tag", "--force", "v1.0")
    tip = upstream.commit("newer", python__other_py="alpha\nbeta\ngamma\ndelta\n")
    with githttp.serve(tmp_path / "served") as server:
        hub = Hub(server, upstream, old, base, tip)
        hub.publish()
        yield hub


@pytest.fixture
def remote(hub: Hub, settings: Settings) -> Remote:
    return opened(hub.url, settings)


def opened(url: str, settings: Settings, *known: str) -> Remote:
    source = open_source(url, settings, "", Silence(), known)
    assert isinstance(source, Remote)
    return source


def here(source: Remote) -> dict[str, str]:
    """Every object of the store, ``id -> type``, without fetching one."""
    out = subprocess.run(
        ["git", f"--git-dir={source.repo.git_dir}", "cat-file", "--batch-all-objects",
         "--batch-check=%(objectname) %(objecttype)"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return dict(line.split(" ") for line in out.splitlines())


def stored(home: Path) -> str:
    """Every file and folder name of the state, and every small text in it."""
    names = [str(path) for path in home.rglob("*")]
    texts = [path.read_text("utf-8", "replace") for path in home.rglob("*")
             if path.is_file() and path.stat().st_size < 10_000]  # fmt: skip
    return "\n".join(names + texts)


# -- what a ref means ------------------------------------------------------------------------


def test_every_kind_of_name(hub: Hub, settings: Settings) -> None:
    hub.git("tag", "--annotate", "--message", "note", "v1.1", hub.base)
    hub.git("branch", "feature/x", hub.old)
    hub.publish()
    source = opened(hub.url, settings, hub.base)
    meant = {
        hub.base: [hub.base, "v1.0", "1.0", "v1.1", "1.1", hub.base[:9]],
        hub.tip: [hub.tip, "main", hub.tip[:8]],
        hub.old: [hub.old, "feature/x"],
    }
    for commit, names in meant.items():
        for name in names:
            target = source.resolve(name)
            assert (target.commit, target.ref) == (commit, name)
            assert target.tree == hub.git("rev-parse", f"{commit}^{{tree}}")
    assert source.resolve("1.1").version == "1.1"
    assert source.resolve("main").version is None


def test_a_short_id_that_nobody_can_look_up(remote: Remote, hub: Hub) -> None:
    with pytest.raises(CannotRun, match="can only be asked for all 40 digits") as caught:
        remote.resolve(hub.old[:9])
    assert "--source PATH" in (caught.value.hint or "")


def test_a_name_that_is_not_there(hub: Hub, team: Team, fixtool: Callable[..., Ran]) -> None:
    ran = fixtool("apply", "--no-build", "--source", hub.url, "--sglang-ref", "v9.9", cwd=team.root)
    assert ran.status == ExitCode.CANNOT_RUN
    assert f"{hub.url} has no tag or branch 'v9.9'" in ran.err
    assert f"or see what is there: git ls-remote {hub.url} '*v9.9*'" in ran.err


def test_a_full_id_that_is_not_there(remote: Remote) -> None:
    with pytest.raises(CannotRun, match="has no commit ffffffffffff") as caught:
        remote.resolve("f" * 40)
    assert "--source PATH" in (caught.value.hint or "")


def test_a_tag_and_a_branch_that_disagree(remote: Remote, hub: Hub) -> None:
    hub.git("tag", "twin", hub.base)
    hub.git("branch", "twin", hub.tip)
    hub.publish()
    with pytest.raises(UsageError, match="both a tag") as caught:
        remote.resolve("twin")
    assert hub.base in (caught.value.hint or "")
    hub.git("branch", "--force", "twin", hub.base)
    hub.publish()
    assert remote.resolve("twin").commit == hub.base


def test_only_branches_and_tags_are_listed(remote: Remote, hub: Hub) -> None:
    bare = Git(hub.server.root / "upstream.git")
    bare("update-ref", "refs/pull/1/head", hub.old)
    refs = remote.repo.remote_refs(hub.url)
    assert set(refs) == {"refs/heads/main", "refs/tags/v1.0"}


# -- what is fetched -------------------------------------------------------------------------


def test_one_commit_and_no_blob(remote: Remote, hub: Hub) -> None:
    remote.resolve(hub.tip)
    objects = here(remote)
    assert [oid for oid, kind in objects.items() if kind == "commit"] == [hub.tip]
    assert "blob" not in objects.values()
    assert hub.counts.fetches == 1
    remote.resolve(hub.base)
    commits = {oid for oid, kind in here(remote).items() if kind == "commit"}
    assert commits == {hub.tip, hub.base}
    assert hub.counts.fetches == 2


def test_what_is_here_is_not_asked_for(remote: Remote, hub: Hub, settings: Settings) -> None:
    remote.resolve(hub.tip)
    hub.counts.clear()
    opened(hub.url, settings).resolve(hub.tip)
    assert hub.counts.log == []


def test_bring_takes_the_named_files_in_one_request(remote: Remote, hub: Hub) -> None:
    remote.resolve(hub.tip)
    hub.counts.clear()
    remote.bring(hub.tip, ["python/model.py", "README.txt", "no/such/file", "*"])
    assert hub.counts.fetches == 1
    blobs = {oid for oid, kind in here(remote).items() if kind == "blob"}
    assert blobs == {hub.git("rev-parse", f"{hub.tip}:{path}")
                     for path in ("python/model.py", "README.txt")}  # fmt: skip
    hub.counts.clear()
    remote.bring(hub.tip, ["python/model.py"])
    assert hub.counts.log == []
    remote.bring(hub.tip, [])
    assert hub.counts.fetches == 1
    assert list(here(remote).values()).count("blob") == 4


def test_a_question_fetches_nothing(remote: Remote, hub: Hub) -> None:
    """A partial clone fetches, one by one, what a git command does not find there."""
    remote.resolve(hub.tip)
    blobs = [hub.git("rev-parse", f"{hub.tip}:{path}")
             for path in ("README.txt", "python/model.py", "python/other.py")]  # fmt: skip
    hub.counts.clear()
    assert remote.repo.lacks([hub.tip, hub.old, *blobs]) == {hub.old, *blobs}
    assert not remote.repo.has(blobs[0])
    assert not remote.repo.has(hub.old)
    assert hub.counts.log == []
    remote.bring_blobs(blobs)
    assert hub.counts.fetches == 1
    assert remote.repo.has(*blobs)


def test_apply_end_to_end(
    hub: Hub, team: Team, fixtool: Callable[..., Ran], home: Path, settings: Settings
) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    command = ["apply", "--no-build", "--json", "--source", hub.url, "--sglang-ref", hub.base]
    ran = fixtool(*command, cwd=team.root)
    assert ran.status == ExitCode.OK, ran.err
    document = json.loads(ran.out)
    tree = Path(document["worktree"])
    assert (tree / "python" / "model.py").read_text() == FIX
    assert (tree / "python" / "unused.py").read_text() == BIG
    assert Git(tree)("status", "--porcelain") == ""
    assert document["source"] == hub.url
    assert hub.counts.fetches <= 3  # the commit, what the series touches, the rest
    hub.counts.clear()
    again = fixtool(*command, cwd=team.root)
    assert json.loads(again.out)["commit"] == document["commit"]
    other = fixtool(*command, "--worktree", home / "other", cwd=team.root)
    assert other.status == ExitCode.OK, other.err
    assert hub.counts.log == []


def test_a_dry_run_fetches_what_the_series_touches(
    hub: Hub, team: Team, fixtool: Callable[..., Ran]
) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    ran = fixtool("apply", "--dry-run", "--source", hub.url, "--sglang-ref", hub.base,
                  cwd=team.root)  # fmt: skip
    assert ran.status == ExitCode.OK, ran.err
    assert hub.counts.sent < FEW


def test_three_way_brings_the_base(
    hub: Hub, team: Team, fixtool: Callable[..., Ran], settings: Settings
) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    near = hub.git.commit("near", python__model_py=NUMBERS.replace("line 22\n", "line 22 new\n"))
    far = hub.git.commit("far", python__model_py=NUMBERS, README_txt="read me twice\n")
    hub.publish()
    command = ["apply", "--dry-run", "--json", "--source", hub.url, "--sglang-ref"]
    source = opened(hub.url, settings)
    ran = fixtool(*command, far, cwd=team.root)
    assert json.loads(ran.out)["patches"][0]["verdict"] == "clean"
    assert hub.base not in here(source)
    ran = fixtool(*command, near, cwd=team.root)
    assert json.loads(ran.out)["patches"][0]["verdict"] == "merged"
    assert hub.base in here(source)
    assert hub.old not in here(source)


def test_where_lines_went_is_looked_up_with_few_requests(
    hub: Hub, team: Team, fixtool: Callable[..., Ran]
) -> None:
    """`git grep` would ask a partial clone's server for each file alone."""
    for number in range(12):
        hub.git.write(f"python/part{number}.py", "".join(f"{number * n}\n" for n in range(50)))
    base = hub.git.commit("parts")
    team.line(base=base)
    team.patch("fix", "fix twenty", base=base, python__model_py=FIX)
    head, line, tail = NUMBERS.partition("line 30\n")
    for number in range(12):
        hub.git.write(f"python/part{number}.py", "".join(f"{number - n}\n" for n in range(50)))
    tip = hub.git.commit("split", python__model_py=line + tail, python__head_py=head)
    hub.publish()
    ran = fixtool("apply", "--dry-run", "--json", "--source", hub.url, "--sglang-ref", tip,
                  cwd=team.root)  # fmt: skip
    assert json.loads(ran.out)["patches"][0]["verdict"] == "merged"
    assert hub.counts.fetches <= 8  # without the two requests for all files, 17 or more


# -- when it cannot be -----------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 700, 1500, 2500, 3500, 20_000])
def test_a_server_that_goes_away(
    hub: Hub, team: Team, fixtool: Callable[..., Ran], limit: int, home: Path
) -> None:
    """Wherever it stops, nothing is half done, and the same command works once it is back."""
    team.patch("fix", "fix twenty", python__model_py=FIX)
    hub.server.limit = limit
    place = home / "place"
    command = ["apply", "--no-build", "--source", hub.url, "--sglang-ref", hub.base,
               "--worktree", place]  # fmt: skip
    ran = fixtool(*command, cwd=team.root)
    assert ran.status == ExitCode.CANNOT_RUN, ran.out
    assert ran.err.startswith("error: ")
    assert not place.exists()
    hub.server.limit = None
    ran = fixtool(*command, cwd=team.root)
    assert ran.status == ExitCode.OK, ran.err
    assert (place / "python" / "model.py").read_text() == FIX


def test_no_server_at_all(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    source = opened("http://127.0.0.1:9/x.git", settings)
    for ref, way_out in (("v1.0", "--source pypi"), ("a" * 40, "--source PATH"), ("main", "PATH")):
        with pytest.raises(CannotRun, match=r"http://127\.0\.0\.1:9/x\.git") as caught:
            source.resolve(ref)
        assert way_out in (caught.value.hint or "")


@pytest.mark.parametrize(("filters", "any_sha"), [(False, True), (True, False), (False, False)])
@pytest.mark.parametrize("ref", ["tip", "base"])
def test_a_server_that_refuses_filters_or_ids(
    hub: Hub, team: Team, fixtool: Callable[..., Ran], filters: bool, any_sha: bool, ref: str
) -> None:
    """Protocol 2 takes any id, whatever the server's configuration; a filter is only a wish."""
    team.patch("fix", "fix twenty", python__model_py=FIX)
    hub.publish(filters=filters, any_sha=any_sha)
    wanted = {"tip": hub.tip, "base": hub.base}[ref]
    ran = fixtool("apply", "--no-build", "--source", hub.url, "--sglang-ref", wanted, cwd=team.root)
    assert ran.status == ExitCode.OK, ran.err


def test_an_old_server_that_refuses_ids(hub: Hub, settings: Settings) -> None:
    hub.publish(any_sha=False)
    hub.server.protocol = 0
    source = opened(hub.url, settings)
    assert source.resolve(hub.tip).commit == hub.tip  # a branch's tip may be asked for
    with pytest.raises(CannotRun, match="not allow request for unadvertised object") as caught:
        source.resolve(hub.old)
    assert "--source PATH" in (caught.value.hint or "")


# -- the user's configuration, and what must stay hidden -------------------------------------


def test_network_settings_are_used_and_no_other(
    hub: Hub, team: Team, fixtool: Callable[..., Ran], tmp_path: Path
) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    config = tmp_path / "their.gitconfig"
    config.write_text(
        f'[url "{hub.server.url}/"]\n\tinsteadOf = https://mirror.example/\n'
        "[http]\n\textraHeader = X-Sent-By: the-user\n"
        f"[core]\n\tautocrlf = true\n\teol = crlf\n\thooksPath = {tmp_path}\n"
    )
    made_up = "https://mirror.example/upstream.git"
    ran = fixtool(
        "apply", "--no-build", "--json", "--source", made_up, "--sglang-ref", "v1.0",
        cwd=team.root, GIT_CONFIG_GLOBAL=str(config),
    )  # fmt: skip
    assert ran.status == ExitCode.OK, ran.out
    document = json.loads(ran.out)
    assert document["source"] == made_up
    assert (Path(document["worktree"]) / "python" / "model.py").read_bytes() == FIX.encode()
    assert hub.counts.requests
    assert {headers.get("X-Sent-By") for headers in hub.server.headers} == {"the-user"}


@pytest.mark.parametrize("as_json", [True, False])
def test_a_login_in_the_url_is_used_and_never_shown(
    hub: Hub, team: Team, fixtool: Callable[..., Ran], home: Path, as_json: bool
) -> None:
    team.patch("fix", "fix twenty", python__model_py=FIX)
    hub.server.login = "someone:s3cret"
    address = hub.url.replace("http://", "http://{}@")
    command = ["apply", "--no-build", *(["--json"] if as_json else []), "--source"]
    runs = [
        fixtool(*command, address.format(login), "--sglang-ref", ref, cwd=team.root)
        for login in ("someone:wr0ng-s3cret", "s3cret", "someone:s3cret")
        for ref in ("v9.9", "f" * 40, hub.base)
    ]
    assert [run.status for run in runs] == [4] * 8 + [0], runs
    assert all(hub.url in run.out + run.err for run in runs)
    for text in [run.out + run.err for run in runs] + [stored(home)]:
        assert "s3cret" not in text
    assert len(list((home / "state" / "repos").glob("*.git"))) == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:pw@host/x.git", "https://host/x.git"),
        ("https://token@host/x.git", "https://host/x.git"),
        ("HTTP://me:p@w@host:1/x@2", "HTTP://host:1/x@2"),
        ("https://host/@scope/x", "https://host/@scope/x"),
        ("ssh://git@host/x", "ssh://git@host/x"),
        ("ssh://git:pw@host/x", "ssh://git@host/x"),
        ("git@host:team/x.git", "git@host:team/x.git"),
        ("file:///a/b@c", "file:///a/b@c"),
        ("/a/b@c", "/a/b@c"),
    ],
)
def test_public_urls(url: str, shown: str) -> None:
    assert public_url(url) == shown


def test_logins_in_what_git_says() -> None:
    message = "could not read Password for 'https://token@host': no terminal"
    assert redact(message) == "could not read Password for 'https://host': no terminal"
    assert redact("fatal: ssh://me:pa-ss@host/x is down") == "fatal: ssh://me@host/x is down"
    assert redact("the token is abc, abc!", "abc") == "the token is ***, ***!"


@pytest.mark.parametrize(
    "url", ["https://me:pa ss@host/x", "ext::https://me:pa-ss@host/x", "me:pa-ss@nowhere/x"]
)
def test_a_bad_address_is_refused_without_its_login(url: str, settings: Settings) -> None:
    with pytest.raises(FixtoolError) as caught:
        open_source(url, settings, "", Silence())
    text = f"{caught.value.message} {caught.value.where} {caught.value.hint}"
    assert "pa ss" not in text
    assert "pa-ss" not in text


def test_the_tests_listen_on_this_machine_only(hub: Hub) -> None:
    assert hub.server.url.startswith("http://127.0.0.1:")
    assert os.environ["no_proxy"] == "127.0.0.1"
