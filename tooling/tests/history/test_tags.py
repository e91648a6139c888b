"""The first release that holds a commit, by the tags of a clone."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtool.history.tags import ReleaseTags, release_tags
from fixtool.progress import Silence
from fixtool.settings import Settings
from fixtool.sources.source import Releases, open_source
from support.repositories import Git


def tags_of(git: Git, settings: Settings) -> ReleaseTags | None:
    return release_tags(open_source(str(git.path), settings, "", Silence()))


@pytest.fixture
def tagged(upstream: Git) -> Git:
    """The fix lies between v0.5.9 and v0.5.10, and in the tags of other things before that."""
    upstream("tag", "--delete", "v1.0")
    upstream("tag", "v0.5.9")
    upstream.commit("fix (#12)", README_txt="fixed\n")
    upstream("branch", "fix")
    for name in (
        "v0.5.10rc0",
        "v0.5.10.dev1",
        "gateway-v0.3.1",
        "nightly",
        "20260102",
        "v7",
        "v0.5.10+cu130",
        "v0.5-x",
    ):
        upstream("tag", name)
    upstream.commit("go on", README_txt="more\n")
    upstream("tag", "--annotate", "--message", "release", "v0.5.10")
    upstream.commit("go further", README_txt="most\n")
    upstream("tag", "0.5.10.post1")
    upstream("tag", "v0.6.0")
    return upstream


def test_the_first_release_is_the_smallest_version_that_holds_it(
    tagged: Git, settings: Settings
) -> None:
    tags = tags_of(tagged, settings)
    assert tags is not None
    fix, tip = tagged("rev-parse", "fix"), tagged("rev-parse", "main")
    assert list(map(str, tags.holding(fix))) == ["0.5.10", "0.5.10.post1", "0.6.0"]
    assert (tags.first(fix), tags.first(tip)) == ("0.5.10", "0.5.10.post1")
    assert tags.first(tagged("rev-parse", "v0.5.9")) == "0.5.9"


def test_a_commit_that_no_release_holds(tagged: Git, settings: Settings) -> None:
    tags = tags_of(tagged, settings)
    assert tags is not None
    assert tags.first(tagged.commit("newer", README_txt="newer\n")) is None
    assert tags.first("0" * 40) is None


def test_a_clone_whose_tags_do_not_tell(tagged: Git, settings: Settings, tmp_path: Path) -> None:
    """In a shallow clone, a release that holds the commit may not look as if it did."""
    shallow = Git(tmp_path / "shallow")
    tagged("clone", "--quiet", "--depth=2", f"file://{tagged.path}", str(shallow.path))
    shallow("fetch", "--quiet", "--tags", "--depth=1", "origin")
    assert tags_of(shallow, settings) is None
    untagged = Git(tmp_path / "untagged")
    tagged("clone", "--quiet", "--no-tags", str(tagged.path), str(untagged.path))
    assert tags_of(untagged, settings) is None
    assert release_tags(open_source(f"file://{tagged.path}", settings, "", Silence())) is None
    assert release_tags(Releases(settings, Silence())) is None
