"""Our own series on real SGLang: in normal form, accepted by git and quilt, and right."""

from __future__ import annotations

import ast
import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fixtool.git.repo import Repo
from fixtool.git.store import Store
from fixtool.git.trees import list_tree
from fixtool.progress import Silence
from fixtool.replay.run import replay
from fixtool.replay.verdict import Verdict
from fixtool.series.line import Line, PatchRepository
from fixtool.series.lint import drift, lint
from fixtool.series.patch import export
from fixtool.settings import Settings
from fixtool.sources.source import Releases
from fixtool.verify.suite import probes
from support.package_index import REAL_CACHE
from support.repositories import ROOT, Git

A_LITTLE = "full_tile or rows_apart or arguments"  # a few of the patch's own tests
A_LITTLE_OF_THE_CHAIN = "rows_apart or 3-128 or left_alone or (align and 1-8)"
OURS = PatchRepository(ROOT)
RELEASES = [line.name for line in OURS.lines if line.upstream.release]
KERNELS = {
    "v0.5.12.post1": "python/sglang/srt/layers/gemma4_fused_ops.py",
    "v0.5.13": "python/sglang/srt/layers/gemma4_fused_ops.py",
    "v0.5.23": "python/sglang/kernels/ops/moe/gemma4_routing.py",
}


@pytest.fixture(scope="module")
def releases() -> Releases:
    """Real releases from the package index, brought once on this machine."""
    settings = Settings(state=REAL_CACHE / "state", cache=REAL_CACHE)
    settings.stores.mkdir(parents=True, exist_ok=True)
    with (REAL_CACHE / "releases.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # waits: the other worker may be bringing them
        source = Releases(settings, Silence())
        for name in RELEASES:
            release = OURS.line(name).upstream.release
            assert release is not None
            source.release(release)
    return source


def kernel_of(patch_text: str) -> str:
    """The fused routing kernels and their launcher, as the patch leaves them. (One line of the
    signature is left out: from 0.5.13 on it falls between two hunks.)"""
    lines = [line[1:] for line in patch_text.split("\n") if line.startswith(("+", " "))]
    lines = [line for line in lines if line != "    gating_output: torch.Tensor,"]
    text = "\n".join(lines)
    start = text.index("# Gemma4 routing in one launch.")
    return text[start : text.index("return weights, ids\n", text.index("num_warps=warps")) + 19]


def test_there_are_the_lines_that_the_readme_names() -> None:
    assert OURS.line_names == ("b0ce16d0c", "v0.5.12.post1", "v0.5.13", "v0.5.23")
    slugs = [entry.slug for entry in OURS.line("b0ce16d0c").entries]
    assert slugs == [
        "gemma4-mtp-pp-group", "gemma4-num-experts-guard", "gemma4-bf16-moe-backend",
        "gemma4-fused-routing", "gemma4-router-chain",
    ]  # fmt: skip


@pytest.mark.parametrize("name", OURS.line_names)
def test_lint_finds_nothing(name: str) -> None:
    assert lint(OURS.line(name)) == ()


@pytest.mark.parametrize("name", OURS.line_names)
def test_every_patch_says_why_and_when_it_can_go(name: str) -> None:
    for patch in OURS.line(name).patches:
        assert len(patch.body) > 400
        for key in ("Origin", "Forwarded", "Probe", "Drop-When", "Signed-off-by"):
            assert patch.trailer(key), f"{patch.slug}: {key}"
    assert len(probes(OURS, OURS.line(name))) == 5  # each names a script that is there


def test_one_algorithm_in_every_line() -> None:
    texts = {kernel_of(line.find("gemma4-fused-routing").raw.decode()) for line in OURS.lines}
    assert len(texts) == 1
    assert "tl.sort" not in texts.pop()


@pytest.mark.pypi
@pytest.mark.parametrize("name", RELEASES)
def test_release_lines_round_trip(name: str, releases: Releases) -> None:
    line = OURS.line(name)
    replayed = replay(releases.repo, line, line.upstream.base)
    assert [patch.verdict for patch in replayed.patches] == [Verdict.CLEAN] * len(line.entries)
    assert drift(releases.repo, line, line.upstream.base) == ()
    for result, patch in zip(replayed.patches, line.patches, strict=True):
        assert result.commit is not None
        assert export(releases.repo, result.commit) == patch.raw


def am_and_quilt(line: Line, source: Repo, base: str, place: Path) -> dict[str, str]:
    """The tree of the series by plain `git am`, and by quilt, from the files as they are."""
    trees = {}
    for tool in ("am", "quilt"):
        git = Git(place / tool)
        source.run("worktree", "add", "--quiet", "--detach", str(git.path), base)
        try:
            if tool == "am":
                for entry in line.entries:
                    git("am", "--quiet", str(line.folder / entry.file_name))
            else:
                env = {**os.environ, "QUILT_PATCHES": str(line.folder), "QUILTRC": "-"}
                subprocess.run(["quilt", "push", "-a", "-q"], cwd=git.path, env=env, check=True)
                git("add", "--all", "--force", "--", ".", ":!.pc")
                git("commit", "--quiet", "-m", "quilt")
            trees[tool] = git("rev-parse", "HEAD^{tree}")
        finally:
            source.run("worktree", "remove", "--force", str(git.path))
    return trees


@pytest.mark.pypi
@pytest.mark.parametrize("name", RELEASES)
def test_git_am_and_quilt_take_release_lines(name: str, releases: Releases, tmp_path: Path) -> None:
    if not shutil.which("quilt"):
        pytest.skip("quilt is not installed (Debian: apt-get install quilt)")
    line = OURS.line(name)
    replayed = replay(releases.repo, line, line.upstream.base)
    trees = am_and_quilt(line, releases.repo, line.upstream.base, tmp_path)
    assert trees == {"am": replayed.tree, "quilt": replayed.tree}


@pytest.mark.pypi
def test_the_ids_in_the_readme(releases: Releases) -> None:
    """A patch had changed, and README.md went on with the ids of the old one."""
    line = OURS.line("v0.5.23")
    replayed = replay(releases.repo, line, line.upstream.base)
    shown = (ROOT / "README.md").read_text("utf-8")
    commits = [patch.commit or "" for patch in replayed.patches]
    assert f"commit    {replayed.commit}\ntree      {replayed.tree}\n" in shown
    assert [commit for commit in commits if f"  clean    {commit[:12]}  " not in shown] == []
    assert f"The commit id `{replayed.commit[:12]}…` is the same" in shown


@pytest.mark.history
def test_the_pinned_base(tmp_path: Path) -> None:
    """All clean on the base; alone, or with what they need, too; equal to git am and quilt; exported unchanged."""
    if not shutil.which("quilt"):
        pytest.skip("quilt is not installed (Debian: apt-get install quilt)")
    line = OURS.line("b0ce16d0c")
    clone = Store.create(tmp_path / "store.git")
    theirs = Repo.open(Path(os.environ["FIXTOOL_SGLANG_REPO"]), bare=True)

    clone.borrow(theirs)
    replayed = replay(clone, line, line.upstream.base)
    assert [patch.verdict for patch in replayed.patches] == [Verdict.CLEAN] * 5
    assert drift(clone, line, line.upstream.base) == ()
    trees = am_and_quilt(line, clone, line.upstream.base, tmp_path)
    assert trees == {"am": replayed.tree, "quilt": replayed.tree}
    for entry in line.entries:
        needed = line.patch(entry).depends_on
        below = (other for other in line.entries if other.slug in needed)
        alone = Line(line.name, line.folder, line.upstream, (*below, entry))
        assert replay(clone, alone, line.upstream.base).ok


@pytest.mark.slow(16)
@pytest.mark.release(sample_of="the kernel's tests")
@pytest.mark.pypi
@pytest.mark.parametrize(
    ("name", "chosen", "least"),
    [
        pytest.param("v0.5.23", "test", 180, marks=pytest.mark.slow(80)),
        ("v0.5.13", A_LITTLE, 20),
        ("v0.5.12.post1", A_LITTLE, 20),
    ],
)
def test_the_kernel_is_right_in_the_interpreter(
    name: str, chosen: str, least: int, releases: Releases, tmp_path: Path
) -> None:
    """The patch's own test, as it lies in the patched tree, through Triton's interpreter.

    The kernel is the same text in every line (see above), so the others are asked a little of
    everything. Only the kernel's file and the test register are put into the package, since
    importing all of sglang wants 2 GB of other packages; `fixtool verify` runs it in a whole tree.
    """
    pytest.importorskip("torch", reason="pip install '.[verify]' brings torch")
    pytest.importorskip("triton", reason="pip install '.[verify]' brings triton")
    line = OURS.line(name)
    replayed = replay(releases.repo, line, line.upstream.base)
    files = list_tree(releases.repo, replayed.tree)
    tests = sorted(path for path in files if path.startswith("test/"))
    assert len(tests) == 2
    register = "python/sglang/test/ci/ci_register.py"
    for path in (KERNELS[name], register, *tests):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(next(releases.repo.read_blobs([files[path][1]])))
    for folder in (tmp_path / "python").rglob("*"):
        if folder.is_dir():
            (folder / "__init__.py").touch()
    wanted = {
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": str(tmp_path / "python"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    counts = []
    for path, some in zip(tests, (chosen, A_LITTLE_OF_THE_CHAIN), strict=True):
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", "-k", some, str(tmp_path / path)],
            env={**os.environ, **wanted}, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout[-3000:]
        counts.append(int(ran.stdout.rsplit(" passed", 1)[0].rsplit(maxsplit=1)[-1].lstrip("=")))
    declared = {
        node.name
        for node in ast.walk(ast.parse((tmp_path / tests[0]).read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert len(declared) >= 15
    assert counts[0] >= least and counts[1] >= 4
