"""The manifest in a wheel: its file, its words in METADATA, and the version that names it."""

from __future__ import annotations

import email
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from jsonschema import Draft202012Validator
from packaging.metadata import Metadata
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from fixtool.documents import Field
from fixtool.git.repo import Repo
from fixtool.git.store import Store
from fixtool.judgement.manifest import Manifest, manifest_of, read_manifest
from fixtool.replay.run import Decisions, replay
from fixtool.replay.verdict import PatchState, Verdict
from fixtool.series.line import PatchRepository
from fixtool.settings import Settings
from fixtool.sources import release
from fixtool.sources.release import Release
from fixtool.wheel import build
from fixtool.wheel._manifest import FILE, add_manifest, describe
from fixtool.wheel.build import BuildRequest, BuiltWheel
from support.json_documents import SCHEMA
from support.package_index import REAL_CACHE, X86, Server, online, server
from support.releases import make_release, real_wheel
from support.repositories import ROOT
from support.wheels import (
    THEIRS,
    ask,
    carried,
    imported,
    left_out,
    make_venv,
    manifest,
    read,
    repo,
    venv,
)

__all__ = ["imported", "online", "repo", "server", "venv"]  # fixtures

FULL = manifest(carried("fix"), carried("more", Verdict.OFFSET))
ABSORBED = left_out("more", Verdict.ABSORBED, "upstream took #26", culprit=THEIRS)
LEFT_OUT = left_out("more", Verdict.LEFT_OUT, "left out with --without")
MANIFESTS = {
    "all patches": FULL,
    "another verdict": manifest(carried("fix"), carried("more", Verdict.MERGED)),
    "a commit of one's own": manifest(
        carried("fix"), carried("more", Verdict.OFFSET), own_commits=1
    ),
    "another line": replace(FULL, line="other"),
    "another patch file": manifest(carried("fix"), replace(FULL.patches[1], sha256="b" * 64)),
    "absorbed": manifest(carried("fix"), ABSORBED),
    "absorbed, by nobody known": manifest(carried("fix"), replace(ABSORBED, culprit=None)),
    "superseded": manifest(
        carried("fix"), left_out("more", Verdict.SUPERSEDED, "its probe says 0")
    ),
    "not needed": manifest(carried("fix"), left_out("more", Verdict.NOT_NEEDED)),
    "by hand": manifest(carried("fix"), LEFT_OUT),
    "all by hand": manifest(replace(LEFT_OUT, slug="fix"), LEFT_OUT),
}
BY_HAND = {"by hand": 1, "all by hand": 2}


def of(
    settings: Settings,
    repo: Repo,
    base: Release,
    wanted: Manifest | None,
    tags: tuple[str, ...] = (X86,),
) -> BuiltWheel:
    """A wheel of the release as it is, with the manifest ``wanted``."""
    request = BuildRequest("1.0", tags, base, manifest=wanted)
    return build.build(repo, base.commit, request, settings)


# -- the file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_wheel_holds_the_manifest(
    repo: Repo, settings: Settings, imported: Release, name: str
) -> None:
    built = of(settings, repo, imported, MANIFESTS[name])
    data = json.loads(read(built.path)[f"sglang-{built.version}.dist-info/{FILE}"])
    assert (data.pop("schema"), data.pop("tree")) == (1, imported.tree)
    Draft202012Validator({**SCHEMA["$defs"]["manifest"], "$defs": SCHEMA["$defs"]}).validate(data)
    assert read_manifest(Field(data)) == MANIFESTS[name] == built.manifest


def test_the_words_and_the_file_are_put_into_a_wheel(imported: Release) -> None:
    metadata = b"Name: sglang\n\nwords\n"
    plan = SimpleNamespace(info={"METADATA": metadata})
    add_manifest(plan, FULL, imported.tree)  # type: ignore[arg-type]
    assert plan.info["METADATA"] == describe(metadata, FULL) != metadata
    assert json.loads(plan.info[FILE])["tree"] == imported.tree


def test_without_a_manifest_the_wheel_is_named_after_the_tree_alone(
    repo: Repo, settings: Settings, imported: Release
) -> None:
    built = of(settings, repo, imported, None)
    assert built.version == f"1.0+fixtool.{imported.tree[:12]}"
    assert built.manifest is None
    assert not [name for name in read(built.path) if name.endswith(FILE)]


def test_the_same_tree_and_manifest_are_the_same_bytes(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_release(server.folder)
    wheels = set()
    for number, (zone, umask) in enumerate([("UTC", 0o022), ("Asia/Tokyo", 0o077)]):
        monkeypatch.setenv("TZ", zone)
        old = os.umask(umask)
        try:
            repo = Store.create(tmp_path / f"{number}.git")
            settings = Settings(tmp_path / f"state{number}", tmp_path / f"cache{number}")
            base = release.import_release("1.0", repo, settings, tags=[X86])
            built = of(settings, repo, base, MANIFESTS["absorbed"])
        finally:
            os.umask(old)
        wheels.add((built.path.name, built.path.parent.name, built.sha256, built.path.read_bytes()))
    assert len(wheels) == 1


def test_each_manifest_has_its_own_wheel_and_its_own_file_name(
    repo: Repo, settings: Settings, imported: Release
) -> None:
    wheels = {name: of(settings, repo, imported, wanted) for name, wanted in MANIFESTS.items()}
    assert not any(built.reused for built in wheels.values())
    assert len({built.path.name for built in wheels.values()}) == len(MANIFESTS)
    for name, wanted in MANIFESTS.items():
        again = of(settings, repo, imported, wanted)
        assert (again.reused, again.path) == (True, wheels[name].path)
        assert again.manifest == wanted


def test_the_cache_does_not_rely_on_the_digits_in_the_version(
    repo: Repo, settings: Settings, imported: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "local_version", lambda *_: "1.0+fixtool.a.b")
    wheels = [of(settings, repo, imported, wanted) for wanted in MANIFESTS.values()]
    assert not any(built.reused for built in wheels)


# -- the version -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MANIFESTS)
@pytest.mark.parametrize("base", ["0.5.23", "0.5.12.post1", "1.0+cu130", "v1.0rc1"])
def test_the_version_says_how_many_patches_were_left_out_by_hand(base: str, name: str) -> None:
    version = build.local_version(base, "0123456789ab" + "f" * 28, MANIFESTS[name])
    plain = build.local_version(base, "0123456789ab" + "f" * 28)
    tree, digest, *rest = version.removeprefix(plain.removesuffix("0123456789ab")).split(".")
    assert (tree, digest) == ("0123456789ab", MANIFESTS[name].digest[: len(digest)])
    assert len(digest) >= 8
    assert rest == ([f"without{BY_HAND[name]}"] if name in BY_HAND else [])
    assert str(Version(version)) == version
    assert Version(version).public == Version(base).public
    assert parse_wheel_filename(f"sglang-{version}-{X86}.whl")[1] == Version(version)


@pytest.mark.parametrize(
    ("tree", "part"),
    [
        ("0123456789ab" + "f" * 28, "0123456789ab"),
        ("012345678901" + "23c" + "f" * 25, "01234567890123c"),
        ("1" * 39 + "a", "1" * 39 + "a"),
        ("e12345678901" + "2" * 28, "e12345678901"),
    ],
)
def test_a_tree_id_that_reads_as_a_number_keeps_its_zeros(tree: str, part: str) -> None:
    """A version takes a part without letters for a number: `0123` would become `123`."""
    assert build.local_version("1.0", tree) == f"1.0+fixtool.{part}"


# -- the words in METADATA ---------------------------------------------------------------------

HEAD = "Metadata-Version: 2.4\nName: sglang\nVersion: 1.0\n"
MARKDOWN = "Description-Content-Type: text/markdown; charset=UTF-8\n"


def words(text: str, wanted: Manifest) -> tuple[str, list[str]]:
    """The summary of a METADATA file with the words of a manifest, and the lines of its
    description, after checking that all readers agree."""
    data = describe(text.encode(), wanted)
    strict = Metadata.from_email(data, validate=True)  # as package indexes read it
    assert strict.summary is not None
    assert strict.description is not None
    message = email.message_from_bytes(data)
    assert message["Summary"] == strict.summary
    return strict.summary, strict.description.split("\n")


def test_summary_and_description_say_what_is_in_and_what_is_out() -> None:
    both = manifest(carried("fix", Verdict.OFFSET), ABSORBED, replace(LEFT_OUT, slug="third"))
    text = f"{HEAD}Summary: Serves models.\n{MARKDOWN}\n# Read me\n"
    summary, lines = words(text, both)
    assert summary == (
        "Serves models. Patched by fixtool: 1 of 3 patches of line main; "
        "left out: more (absorbed), third (left-out)."
    )
    assert lines == [
        "# Read me",
        "",
        f"fixtool built this distribution from line main, applied to commit {'d' * 12}. "
        f"{FILE} beside this text says more:",
        "",
        "    Carries: fix (offset): area: fix",
        f"    Left out: more (absorbed, upstream took #26, by {'e' * 12} (#26)): area: more",
        "    Left out: third (left-out, left out with --without): area: more",
        "",
    ]


def test_a_series_that_is_all_in_leaves_nothing_out() -> None:
    summary, lines = words(f"{HEAD}{MARKDOWN}\n", FULL)
    assert summary == "Patched by fixtool: 2 of 2 patches of line main."
    assert not [line for line in lines if "Left out" in line or "no patch" in line]


def test_commits_of_ones_own_are_counted() -> None:
    _, lines = words(HEAD, MANIFESTS["a commit of one's own"])
    assert "    Commits that are no patch of the line: 1" in lines


def test_the_upstream_commit_is_named_once() -> None:
    known = replace(ABSORBED, evidence=(f"upstream took #26 as {'e' * 12}",))
    _, lines = words(HEAD, manifest(known))
    assert f"    Left out: more (absorbed, upstream took #26 as {'e' * 12}): area: more" in lines


@pytest.mark.parametrize(
    ("text", "ending"),
    [
        (f"{HEAD}{MARKDOWN}\nbody\n", "says more:"),
        (f"{HEAD}Description-Content-Type: text/plain\n\nbody\n", "says more:"),
        (f"{HEAD}Description-Content-Type: text/x-rst\n\nbody\n", "says more::"),
        (f"{HEAD}\nbody\n", "says more::"),
        (f"{HEAD}\nbody", "says more::"),
        (HEAD, "says more::"),
        (HEAD.rstrip("\n"), "says more::"),
        (f"{HEAD}{MARKDOWN}\nbody\n\n\n".replace("\n", "\r\n"), "says more:"),
        (f"{HEAD}Summary: \n{MARKDOWN}\nbody\n", "says more:"),
        (f"{HEAD}License: A\n        Summary: no field\n{MARKDOWN}\nbody\n", "says more:"),
    ],
)
def test_the_words_stand_verbatim_in_every_kind_of_description(text: str, ending: str) -> None:
    """An indented block is verbatim in Markdown, and after `::` in reStructuredText."""
    summary, lines = words(text, FULL)
    assert summary == "Patched by fixtool: 2 of 2 patches of line main."
    at = next(at for at, line in enumerate(lines) if line.endswith(ending))
    assert lines[at + 1 :] == ["", "    Carries: fix (clean): area: fix",
                               "    Carries: more (offset): area: more", ""]  # fmt: skip
    assert [line.rstrip("\r") for line in lines[:at] if line.strip()] == ["body"] * ("body" in text)


def test_a_description_in_the_header_stays_there() -> None:
    text = f"{HEAD}Description: first\n        second\nLicense: A\n"
    data = describe(text.encode(), FULL)
    message = email.message_from_bytes(data)
    assert message["License"] == "A"
    assert message.get_payload() == ""
    lines = [line.strip() for line in message["Description"].splitlines()]
    assert lines[:2] == ["first", "second"]
    assert lines[-2:] == ["Carries: fix (clean): area: fix", "Carries: more (offset): area: more"]
    assert Metadata.from_email(data, validate=True).description is not None


def test_a_summary_stays_within_what_an_index_accepts() -> None:
    many = manifest(*(replace(LEFT_OUT, slug=f"{'long-' * 10}{number}") for number in range(12)))
    summary, _ = words(f"{HEAD}Summary: Serves.\n", many)
    assert summary == "Serves. Patched by fixtool: 0 of 12 patches of line main."
    summary, _ = words(f"{HEAD}Summary: {'long ' * 120}\n", FULL)
    assert summary == "Patched by fixtool: 2 of 2 patches of line main."


def test_a_foreign_text_cannot_add_a_field() -> None:
    evil = replace(
        left_out("more", Verdict.ABSORBED, "a\nRequires-Dist: evil\n\nb", culprit=THEIRS),
        subject="x\r\nRequires-Dist: evil\x1b[31m\udce9",
    )
    for text in (HEAD, f"{HEAD}Description: first\n"):
        data = describe(text.encode(), manifest(evil))
        message = email.message_from_bytes(data)
        assert message["Requires-Dist"] is None
        (line,) = [line for line in data.decode().split("\n") if "Left out" in line]
        assert line.isprintable()
        assert line.endswith("x Requires-Dist: evil")


# -- as pip sees it ----------------------------------------------------------------------------

SHOW = (
    "import importlib.metadata as m, json; d = m.distribution('sglang'); "
    f"p = json.loads(d.read_text({FILE!r}))['patches']; "
    "print(json.dumps([d.version, d.metadata['Summary'], d.read_text('METADATA'), "
    "{x['slug']: x['verdict'] for x in p}]))"
)


def pip_install(python: str, wheel: Path) -> str:
    """What pip says when it installs ``wheel`` as a user would."""
    return subprocess.run(
        [python, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile",
         "--disable-pip-version-check", str(wheel)],
        capture_output=True, text=True, check=True, cwd="/",
    ).stdout  # fmt: skip


def check_installed(python: str, *wheels: BuiltWheel) -> None:
    """Install each of ``wheels`` over the one before, and read it back from the environment."""
    for built in wheels:
        assert "already installed" not in pip_install(python, built.path)
        version, summary, metadata, patches = json.loads(ask(python, SHOW))
        assert built.manifest is not None
        assert version == built.version
        assert "Patched by fixtool: " in summary
        assert patches == {patch.slug: patch.verdict for patch in built.manifest.patches}
        for patch in built.manifest.patches:
            start = "Carries" if patch.commit else "Left out"
            assert f"    {start}: {patch.slug} ({patch.why}): {patch.subject}\n" in metadata


@pytest.mark.slow(10)
def test_pip_tells_a_wheel_without_a_patch_from_the_whole_one(
    repo: Repo, settings: Settings, imported: Release, venv: str
) -> None:
    full, less = (
        of(settings, repo, imported, MANIFESTS[name], release.own_tags())
        for name in ("all patches", "by hand")
    )
    assert Version(full.version).public == Version(less.version).public
    check_installed(venv, full, less, full)
    assert "already installed" in pip_install(venv, full.path)


def test_an_editable_install_has_the_manifest_too(
    tmp_path: Path, repo: Repo, settings: Settings, imported: Release, venv: str
) -> None:
    worktree = tmp_path / "worktree"
    repo.run("worktree", "add", "--quiet", "--detach", str(worktree), imported.commit)
    request = BuildRequest("1.0", (X86,), imported, python=venv, manifest=MANIFESTS["by hand"])
    built = build.install_editable(repo, imported.commit, request, settings, worktree)
    version, *_, patches = json.loads(ask(venv, SHOW))
    assert (version, patches) == (built.version, {"fix": "clean", "more": "left-out"})
    assert version.endswith(".without1")


@pytest.mark.slow(30)
@pytest.mark.release(sample_of="wheels of real releases")
@pytest.mark.pypi
def test_a_real_release_with_our_patch_and_without_it(
    tmp_path: Path, online: None, repo: Repo
) -> None:
    settings = Settings(state=tmp_path / "state", cache=tmp_path / "cache")
    real_wheel("0.5.23", X86)
    settings.cache.mkdir()
    (settings.cache / "releases").symlink_to(REAL_CACHE / "releases")
    base = release.import_release("0.5.23", repo, settings, tags=[X86])
    line = PatchRepository(ROOT).line("v0.5.23")
    slug = "gemma4-fused-routing"
    by_hand = Decisions({slug: PatchState(Verdict.LEFT_OUT, ("left out with --without",))})
    wheels = []
    for decisions in (None, by_hand):
        result = replay(repo, line, base.commit, decisions=decisions)
        wanted = manifest_of(line, base.commit, result.patches)
        request = BuildRequest("0.5.23", release.own_tags(), base, manifest=wanted)
        wheels.append(build.build(repo, result.commit, request, settings))
    full, less = wheels
    assert not full.version.endswith("without1")
    assert less.version.endswith(".without1")
    for built in wheels:
        assert Metadata.from_email(
            read(built.path)[f"sglang-{built.version}.dist-info/METADATA"], validate=True
        )
    check_installed(make_venv(tmp_path / "venv"), full, less)
