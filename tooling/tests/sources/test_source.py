"""Refs and addresses: what is accepted, what each means, what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtool.errors import CannotRun, UsageError
from fixtool.git.names import check_ref, check_url
from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.progress import Silence
from fixtool.series.context import Context
from fixtool.series.line import Upstream
from fixtool.settings import Settings, load
from fixtool.sources.resolve import UnknownRef, resolve_local, version_of
from fixtool.sources.source import Local, open_source
from fixtool.sources.target import TargetRequest, find_target, source_name
from support.repositories import Git, Team


@pytest.mark.parametrize(
    "ref",
    ["", "-x", "--upload-pack=x", "a b", "a\nb", "a..b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b",
     "@{u}", "x.lock", "a//b", "/a", "a/", ".a", "a.", "a\x7fb", "x" * 251],
)  # fmt: skip
def test_refs_that_are_refused(ref: str) -> None:
    with pytest.raises(UsageError):
        check_ref(ref)


def test_an_expression_is_told_what_gives_its_commit() -> None:
    with pytest.raises(UsageError) as raised:
        check_ref("5ae8d286d^")
    assert raised.value.hint == "give the commit itself: git -C CLONE rev-parse '5ae8d286d^'"


@pytest.mark.parametrize(
    "ref", ["v0.5.23", "main", "feature/x-y", "b0ce16d", "a" * 40, "0.5.12.post1"]
)
def test_refs_that_are_taken(ref: str) -> None:
    assert check_ref(ref) == ref


@pytest.mark.parametrize(
    "url",
    ["ext::sh -c x", "fd::17", "-oProxyCommand=x", "--upload-pack=x", "https://a b", "ftp://x/y", "",
     "ssh://-oProxyCommand=x/y", "file://a\nb", "transport::https://x"],
)  # fmt: skip
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(UsageError):
        check_url(url)


def test_versions() -> None:
    names = ["v0.5.23", "0.5.23", "v0.5.12.post1", "main", "v2", "b0ce16d", "0.x"]
    assert [version_of(name) for name in names] == [
        "0.5.23", "0.5.23", "0.5.12.post1", None, None, None, None,
    ]  # fmt: skip


def test_every_kind_of_name(upstream: Git) -> None:
    base = upstream("rev-parse", "v1.0")
    upstream("tag", "-a", "-m", "annotated", "v1.1", base)
    tip = upstream.commit("newer")
    repo = upstream.repo
    names = [base, base[:9], "v1.0", "1.0", "v1.1", "1.1"]
    assert {resolve_local(repo, name, "x") for name in names} == {base}
    assert {resolve_local(repo, name, "x") for name in ("main", "HEAD", tip)} == {tip}
    for unknown in ("nope", "f" * 40, "abcdef0", "9.9"):
        with pytest.raises(CannotRun):
            resolve_local(repo, unknown, "x")


def test_a_tag_and_a_branch_that_disagree(upstream: Git) -> None:
    upstream.commit("newer")
    upstream("tag", "twin", "v1.0")
    upstream("branch", "twin", "main")
    with pytest.raises(UsageError, match="both a tag"):
        resolve_local(upstream.repo, "twin", "x")


def test_ambiguous_short_sha(upstream: Git) -> None:
    """Two commits with the same first seven digits, found by their birthday."""
    import hashlib

    tree, bodies, pair = upstream("rev-parse", "HEAD^{tree}"), {}, None
    for n in range(200_000):
        body = f"tree {tree}\nauthor a <a@b> {n} +0000\ncommitter a <a@b> 0 +0000\n\nx\n".encode()
        sha = hashlib.sha1(b"commit %d\0" % len(body) + body).hexdigest()
        if sha[:7] in bodies:
            pair = (bodies[sha[:7]], body)
            break
        bodies[sha[:7]] = body
    assert pair is not None
    ids = [upstream("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw) for raw in pair]
    with pytest.raises(UsageError, match=f"{ids[0][:7]} is short for 2 commits"):
        resolve_local(upstream.repo, ids[0][:7], "x")
    assert resolve_local(upstream.repo, ids[0][:16], "x") == ids[0]


def test_a_path_is_borrowed_from_not_written_to(upstream: Git, settings: Settings) -> None:
    before = upstream.snapshot()
    source = open_source(str(upstream.path), settings, "", Silence())
    target = source.resolve("v1.0")
    assert source.repo.has(target.commit)
    assert source.repo.git_dir.is_relative_to(settings.stores)
    blob = source.repo.run("hash-object", "-w", "--stdin", stdin=b"new").text
    assert not Repo.open(upstream.path).has(blob)
    assert upstream.snapshot() == before


def test_unknown_sources(settings: Settings) -> None:
    with pytest.raises(UsageError, match="not git, pypi, a URL, or a path"):
        open_source("no/such/path", settings, "", Silence())


def test_a_release_that_is_newer_than_the_clone_is_fetched(upstream: Git, tmp_path: Path) -> None:
    """The hint for v9.0 was v1.0, as if it were a typing mistake."""
    clones = {"whole": (), "shallow": ("--depth", "1")}
    for name, words in clones.items():
        upstream("clone", "--quiet", *words, f"file://{upstream.path}", str(tmp_path / name))
    cases = {
        ("alone", "v9.0"): (None, "take the newest: .* git -C .* for-each-ref"),
        ("whole", "v9.0"): (None, "bring it: git -C .*/whole fetch --tags; or"),
        ("shallow", "v9.0"): (None, "bring it: git -C .*/shallow fetch --tags --unshallow; or"),
        ("whole", "v1.O"): ("v1.O", "for-each-ref"), ("whole", "v0.9"): ("v0.9", "for-each-ref"),
    }  # fmt: skip
    for (name, ref), (word, hint) in cases.items():
        path = upstream.path if name == "alone" else tmp_path / name
        with pytest.raises(UnknownRef) as raised:
            resolve_local(Repo.open(path), ref, str(path))
        error = raised.value
        assert (error.mistyped and error.mistyped.word, bool(re.match(hint, error.hint or ""))) == (
            word, not hint.startswith("for")), error.hint  # fmt: skip
        assert ("its newest release is v1.0" in error.message) == (ref == "v9.0")


def test_not_a_repository(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(CannotRun, match="is not in a git repository"):
        Local(tmp_path, settings)


def test_the_settings_name_the_source(team: Team, settings: Settings) -> None:
    context = Context(team.repository, replace(settings, source=str(team.upstream.path)))
    source, target = find_target(context, TargetRequest("v1.0"))
    assert source.name == str(team.upstream.path)
    assert (target.commit, target.version) == (team.upstream("rev-parse", "v1.0"), "1.0")


def test_without_a_ref_the_target_is_the_base_of_the_only_line(
    team: Team, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the package index, which has no commits, it is the release that is the base."""
    toml = team.root / "patches/main/upstream.toml"
    toml.write_text(toml.read_text() + 'release = "1.1"\n')
    asked: list[str] = []
    source = SimpleNamespace(resolve=asked.append)
    monkeypatch.setattr("fixtool.sources.target.open_source", lambda *_: source)
    for name in ("pypi", "git", None):  # git has a tag of the release
        find_target(Context(team.repository, settings), TargetRequest(source=name))
    assert asked == ["1.1", "1.1", "1.1"]


def test_settings_in_order(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.fixtool]\nsource = "pypi"\nline = "a"\n')
    plain = {"HOME": "/h"}
    assert load(tmp_path, plain).source == "pypi"
    assert load(tmp_path, {**plain, "FIXTOOL_SOURCE": "git"}).source == "git"
    assert load(None, plain).state == Path("/h/.local/state/fixtool")
    assert load(None, {**plain, "XDG_CACHE_HOME": "/c"}).cache == Path("/c/fixtool")
    assert load(None, {**plain, "FIXTOOL_CACHE_DIR": "/d"}).cache == Path("/d")


@pytest.mark.parametrize(
    ("releases", "ref", "expected"),
    [
        (["0.5.23", None], "v0.5.23", "pypi"),  # once git, although a line is for that release
        (["0.5.23", None], "0.5.23", "pypi"),
        (["0.5.23", None], "v0.5.21", "git"),
        (["0.5.23", None], "main", "git"),
        (["0.5.23", "0.5.21"], "v0.5.22", "pypi"),
        (["0.5.23", "0.5.21"], "main", "git"),
        (["0.5.23"], None, "pypi"),
        ([None], "v0.5.23", "git"),
    ],
)
def test_the_source_of_a_ref_is_that_of_a_line_for_it(
    settings: Settings, releases: list[str | None], ref: str | None, expected: str
) -> None:
    upstreams = [
        Upstream("https://example.org/x", Oid("a1" * 20), Oid("b2" * 20), release, "0.5.23", "")
        for release in releases
    ]
    assert source_name(settings, upstreams, ref) == expected
    assert source_name(replace(settings, source="git"), upstreams, ref) == "git"
