"""The commits of a source: how they are fetched, what is fetched, and what a clone must have."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from fixtool.errors import CannotRun
from fixtool.git.repo import Repo
from fixtool.git.store import CommitStore
from fixtool.history.log import upstream_commit
from fixtool.progress import Silence
from fixtool.settings import Settings
from fixtool.sources.source import Local, Releases, Remote, open_source
from support import git_http as githttp
from support.repositories import NUMBERS, Git, Ran, Team

COMMITS = 300


def add_commits(git: Git, number: int, seed: int) -> str:
    """Commit ``number`` times, with 2,000 random bytes each time, and return the tip."""
    draw = random.Random(seed)
    stream = b""
    for n in range(number):
        message = f"change {seed}.{n} (#{n})\n".encode()
        content = draw.randbytes(1000).hex().encode()
        parent = b"from refs/heads/main^0\n" if n == 0 else b""
        stream += (
            b"commit refs/heads/main\nauthor A <a@b.org> %d +0000\ncommitter A <a@b.org> %d +0000\n"
            b"data %d\n%s%sM 644 inline python/file%d.py\ndata %d\n%s\n"
        ) % (1_700_000_000 + n, 1_700_000_000 + n, len(message), message, parent, n % 50,
             len(content), content)  # fmt: skip
    git("fast-import", "--quiet", "--force", stdin=stream)
    git("reset", "--quiet", "--hard", "main")
    return git.head()


@dataclass
class Hub:
    """An upstream with some history, on a server. Call ``publish`` after each commit."""

    server: githttp.Server
    git: Git
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

    def ids(self, revision: str) -> list[str]:
        return self.git("rev-list", revision).split()


@pytest.fixture
def hub(upstream: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    base = upstream("rev-parse", "v1.0")
    tip = add_commits(upstream, COMMITS, 1)
    with githttp.serve(tmp_path / "served") as server:
        hub = Hub(server, upstream, base, tip)
        hub.publish()
        yield hub


@pytest.fixture
def remote(hub: Hub, settings: Settings) -> Remote:
    return opened(hub.url, settings)


def opened(url: str, settings: Settings) -> Remote:
    source = open_source(url, settings, "", Silence())
    assert isinstance(source, Remote)
    return source


def local(path: Path, settings: Settings, url: str = "") -> Local:
    source = open_source(str(path), settings, url, Silence())
    assert isinstance(source, Local)
    return source


def objects(repo: Repo) -> dict[str, set[str]]:
    """The objects of a repository by type, without fetching one."""
    out = subprocess.run(
        ["git", f"--git-dir={repo.git_dir}", "cat-file", "--batch-all-objects",
         "--batch-check=%(objecttype) %(objectname)"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    kinds: dict[str, set[str]] = {}
    for line in out.splitlines():
        kind, _, oid = line.partition(" ")
        kinds.setdefault(kind, set()).add(oid)
    return kinds


# -- what is fetched -------------------------------------------------------------------------


def test_all_ancestors_and_nothing_else(remote: Remote, hub: Hub) -> None:
    store = remote.commits(hub.tip)
    assert objects(store) == {"commit": set(hub.ids(hub.tip))}
    assert store.is_ancestor(hub.base, hub.tip)
    assert not store.is_ancestor(hub.tip, hub.base)
    assert hub.counts.fetches == 1


def test_the_bytes_are_a_small_part_of_a_clone(remote: Remote, hub: Hub, tmp_path: Path) -> None:
    store = remote.commits(hub.tip)
    for_commits = hub.counts.sent
    hub.counts.clear()
    hub.git("clone", "--quiet", "--bare", hub.url, str(tmp_path / "full"))
    assert for_commits < hub.counts.sent / 6
    assert 0.5 * for_commits < store.received < for_commits


def test_what_is_here_is_not_asked_for(remote: Remote, hub: Hub, settings: Settings) -> None:
    remote.commits(hub.tip)
    hub.counts.clear()
    earlier = hub.ids(hub.tip)[COMMITS // 2]
    store = opened(hub.url, settings).commits(earlier)
    assert store.is_ancestor(hub.base, earlier)
    assert store.received == 0
    assert hub.counts.log == []


def test_a_newer_commit_brings_only_what_is_new(
    remote: Remote, hub: Hub, settings: Settings
) -> None:
    first = remote.commits(hub.tip).received
    newer = add_commits(hub.git, 5, 2)
    hub.publish()
    hub.counts.clear()
    store = opened(hub.url, settings).commits(newer)
    assert store.is_ancestor(hub.base, newer)
    assert store.received < first / 10
    assert hub.counts.fetches <= 2  # what is here is told in one request, what is new comes in one


def test_nothing_is_fetched_later(remote: Remote, hub: Hub) -> None:
    """Trees, unknown commits and short ids: what is not here is not here."""
    store = remote.commits(hub.tip)
    hub.counts.clear()
    tree = hub.git("rev-parse", f"{hub.tip}^{{tree}}")
    assert store.run("cat-file", "-p", tree, accept=None).status != 0
    assert store.run("log", "-1", "-p", hub.tip, accept=None).status != 0
    assert not store.has(tree)
    assert not store.has("f" * 40)
    assert store.candidates(hub.base[:9]) == [hub.base]
    assert store.candidates(tree[:9]) == []
    assert store.candidates("fffffff") == []
    assert not store.is_ancestor("f" * 40, hub.tip)
    assert upstream_commit(store, hub.tip[:9]).sha == hub.tip
    assert hub.counts.log == []


def test_two_at_once_fetch_once(hub: Hub, settings: Settings) -> None:
    sources = [opened(hub.url, settings) for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        stores = list(pool.map(lambda source: source.commits(hub.tip), sources))
    assert all(store.is_ancestor(hub.base, hub.tip) for store in stores)
    assert sum(store.received > 0 for store in stores) == 1
    assert hub.counts.fetches == 1


# -- when it cannot be -----------------------------------------------------------------------


def test_a_commit_that_is_not_there(remote: Remote) -> None:
    with pytest.raises(CannotRun, match="cannot fetch the commits before ffffffffffff") as caught:
        remote.commits("f" * 40)
    assert "--source PATH" in (caught.value.hint or "")


def test_no_server_at_all(hub: Hub, settings: Settings) -> None:
    with pytest.raises(CannotRun, match=r"from http://127\.0\.0\.1:9/x\.git") as caught:
        opened("http://127.0.0.1:9/x.git", settings).commits(hub.tip)
    assert "--source PATH" in (caught.value.hint or "")


@pytest.mark.parametrize("limit", [0, 300, 700, 1500, 3500, 20_000])
def test_a_server_that_goes_away(remote: Remote, hub: Hub, settings: Settings, limit: int) -> None:
    """Wherever it stops, nothing is half here, and the same call works once it is back."""
    hub.server.limit = limit
    with pytest.raises(CannotRun, match=r"127\.0\.0\.1"):
        remote.commits(hub.tip)
    store = CommitStore(next(settings.stores.glob("*-commits.git")))
    assert objects(store) == {}
    assert store.run("for-each-ref").text == ""
    hub.server.limit = None
    assert remote.commits(hub.tip).is_ancestor(hub.base, hub.tip)


def test_what_a_killed_run_left_is_removed(remote: Remote, hub: Hub, settings: Settings) -> None:
    hub.server.limit = 0
    with pytest.raises(CannotRun):
        remote.commits(hub.tip)
    hub.server.limit = None
    packs = next(settings.stores.glob("*-commits.git")) / "objects" / "pack"
    packs.mkdir(parents=True, exist_ok=True)
    (packs / "tmp_pack_killed").write_bytes(b"half")
    remote.commits(hub.tip)
    assert not list(packs.glob("tmp_*"))


@pytest.mark.parametrize("protocol", [2, 0])
def test_a_server_without_filters(
    remote: Remote, hub: Hub, settings: Settings, protocol: int, tmp_path: Path
) -> None:
    """It would send every file of the whole history. Its clone, which the hint gives, will do."""
    hub.publish(filters=False)
    hub.server.protocol = protocol
    with pytest.raises(CannotRun, match="cannot send commits without their files") as caught:
        remote.commits(hub.tip)
    store = CommitStore(next(settings.stores.glob("*-commits.git")))
    assert objects(store) == {}
    words = (caught.value.hint or "").partition(", then")[0].split()
    clone = tmp_path / "CLONE"
    subprocess.run([*words[:-1], clone], check=True, capture_output=True)
    assert local(clone, settings).commits(hub.tip).is_ancestor(hub.base, hub.tip)


def test_an_old_server_that_refuses_ids(remote: Remote, hub: Hub) -> None:
    hub.publish(any_sha=False)
    hub.server.protocol = 0
    with pytest.raises(CannotRun, match="not allow request for unadvertised object"):
        remote.commits(hub.ids(hub.tip)[3])
    assert remote.commits(hub.tip).is_ancestor(hub.base, hub.tip)


def test_a_server_that_has_no_full_history_itself(
    hub: Hub, settings: Settings, tmp_path: Path
) -> None:
    """What it sends is not taken for the whole history, now or later."""
    shallow = hub.server.root / "shallow.git"
    hub.git("clone", "--quiet", "--bare", "--depth=5", hub.url, str(shallow))
    Git(shallow)("config", "uploadpack.allowFilter", "true")
    for _ in range(2):
        with pytest.raises(CannotRun, match="cannot fetch the commits before"):
            opened(f"{hub.server.url}/shallow.git", settings).commits(hub.tip)


def test_a_login_is_used_and_never_stored(hub: Hub, settings: Settings) -> None:
    hub.server.login = "someone:s3cret"
    address = hub.url.replace("http://", "http://someone:s3cret@")
    store = opened(address, settings).commits(hub.tip)
    assert store.is_ancestor(hub.base, hub.tip)
    for file in settings.stores.rglob("*"):
        assert "s3cret" not in str(file)
        assert not file.is_file() or b"s3cret" not in file.read_bytes()


def test_releases_have_no_commits(hub: Hub, settings: Settings) -> None:
    assert Releases(settings, Silence()).commits(hub.tip) is None


# -- a clone on this machine -----------------------------------------------------------------


@pytest.fixture
def clone(hub: Hub, tmp_path: Path) -> Callable[..., Path]:
    def make(*options: str) -> Path:
        place = tmp_path / "clone"
        hub.git("clone", "--quiet", "--no-checkout", *options, hub.url, str(place))
        return place

    return make


@pytest.mark.parametrize("options", [(), ("--filter=blob:none",), ("--filter=tree:0",)])
def test_a_clone_with_all_commits(
    hub: Hub, clone: Callable[..., Path], settings: Settings, options: tuple[str, ...]
) -> None:
    source = local(clone(*options), settings, hub.url)
    hub.counts.clear()
    commits = source.commits(hub.tip)
    assert commits is source.repo
    assert commits.is_ancestor(hub.base, hub.tip)
    assert not commits.is_ancestor("f" * 40, hub.tip)
    assert hub.counts.log == []


def test_a_clone_without_the_commit(hub: Hub, upstream: Git, settings: Settings) -> None:
    with pytest.raises(CannotRun, match="does not hold the commit ffff"):
        local(upstream.path, settings, hub.url).commits("f" * 40)


def test_a_shallow_clone_asks_upstream(
    hub: Hub, clone: Callable[..., Path], settings: Settings
) -> None:
    path = clone("--depth=3")
    commits = local(path, settings, hub.url).commits(hub.tip)
    assert commits.is_ancestor(hub.base, hub.tip)
    assert "tree" not in objects(commits)
    assert len(hub.git("-C", str(path), "rev-list", "HEAD").split()) == 3  # it is left as it was


@pytest.mark.parametrize("remote_name", ["origin", "upstream"])
def test_a_shallow_clone_that_has_nobody_to_ask(
    hub: Hub, clone: Callable[..., Path], settings: Settings, remote_name: str
) -> None:
    """The command in the hint works as it stands."""
    path = clone("--depth=3", f"--origin={remote_name}")
    with pytest.raises(CannotRun, match="is a shallow clone, so fixtool cannot tell") as caught:
        local(path, settings).commits(hub.tip)
    command, _, other = (caught.value.hint or "").partition("; or ")
    assert other == "use --source git"
    assert command.split()[-1] == remote_name
    subprocess.run(command.split(), check=True, capture_output=True)
    commits = local(path, settings).commits(hub.tip)
    assert commits.is_ancestor(hub.base, hub.tip)
    assert not commits.shallow


def test_a_shallow_clone_whose_upstream_cannot_be_reached(
    hub: Hub, clone: Callable[..., Path], settings: Settings
) -> None:
    path = clone("--depth=3")
    hub.git("-C", str(path), "remote", "rename", "origin", "theirs")
    hub.git("-C", str(path), "remote", "add", "fork", "https://fork.invalid/x.git")
    hub.server.limit = 0
    with pytest.raises(CannotRun, match="shallow clone.*; and cannot fetch the commits") as caught:
        local(path, settings, hub.url).commits(hub.tip)
    assert "fetch --unshallow --filter=blob:none theirs; or" in (caught.value.hint or "")


def test_a_shallow_clone_that_is_cut_off_elsewhere(
    hub: Hub, clone: Callable[..., Path], settings: Settings
) -> None:
    """Only the history of the commit itself counts."""
    git = Git(clone())
    side = hub.git("commit-tree", f"{hub.tip}^{{tree}}", "-p", hub.tip, "-m", "side")
    side = hub.git("commit-tree", f"{hub.tip}^{{tree}}", "-p", side, "-m", "side")
    hub.git("branch", "side", side)
    hub.publish()
    git("fetch", "--quiet", "--depth=1", hub.url, side)
    assert (git.path / ".git" / "shallow").exists()
    source = local(git.path, settings)
    assert source.commits(hub.tip) is source.repo
    with pytest.raises(CannotRun, match="shallow clone"):
        source.commits(side)


def test_apply_in_a_shallow_checkout(
    hub: Hub, team: Team, fixtool: Callable[..., Ran], tmp_path: Path
) -> None:
    """What a patch records of upstream is looked up at upstream's address."""
    fixed = NUMBERS.replace("line 20\n", "line 20 fixed\n")
    raw = team.patch("fix", "fix twenty", python__model_py=fixed)
    took = hub.git.commit("fix it better (#900)", python__model_py=NUMBERS.replace("20", "twenty"))
    hub.git.commit("newer (#901)", README_txt="newer\n")
    hub.publish()
    path = team.root / "patches" / "main" / "fix.patch"
    path.write_bytes(raw.replace(b"Forwarded: no", f"Applied-Upstream: {took}, #900".encode()))
    hub.git("clone", "--quiet", "--depth=1", hub.url, str(tmp_path / "clone"))
    command = ["apply", "--into", tmp_path / "clone", "--dry-run", "--json"]
    ran = fixtool(*command, cwd=team.root, FIXTOOL_URL=hub.url)
    assert ran.status == 0, ran.out
    (patch,) = json.loads(ran.out)["patches"]
    assert patch["verdict"] == "absorbed"
    assert took[:12] in patch["evidence"][0]
    hub.server.limit = 0
    ran = fixtool(*command, cwd=team.root, FIXTOOL_URL="http://127.0.0.1:9/x.git")
    assert ran.status == 4
    assert "fetch --unshallow --filter=blob:none origin" in json.loads(ran.out)["error"]["hint"]
