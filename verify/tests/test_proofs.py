"""Proves our own series on real releases of SGLang, on a CPU. This is the main evidence, and slow.

They run once a week, and for each release. On every push one of them runs.

Each probe imports SGLang, so this needs the packages of verify/requirements/cpu.txt, here or in the
Python that FIXTOOL_TARGET_PYTHON names.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from fixtool.progress import Silence
from fixtool.settings import Settings
from fixtool.sources.source import Releases
from support.json_documents import document
from support.package_index import REAL_CACHE
from support.repositories import ROOT, Ran

BASE = "b0ce16d0c577e127b3f7b82ada1739277d988687"
PYTHON = os.environ.get("FIXTOOL_TARGET_PYTHON", sys.executable)
PP, NUM, BF16, FUSED, CHAIN = (
    "gemma4-mtp-pp-group", "gemma4-num-experts-guard", "gemma4-bf16-moe-backend",
    "gemma4-fused-routing", "gemma4-router-chain",
)  # fmt: skip
Verify = Callable[..., dict[str, Any]]

pytestmark = pytest.mark.skipif(
    sys.executable == PYTHON and importlib.util.find_spec("transformers") is None,
    reason="no SGLang dependencies: pip install -r verify/requirements/cpu.txt, or FIXTOOL_TARGET_PYTHON",
)  # fmt: skip


@pytest.fixture
def verify(fixtool: Callable[..., Ran]) -> Verify:
    """`fixtool verify`, with each release downloaded once on this machine."""

    def run(*args: str, release: str | None = None) -> dict[str, Any]:
        words = ["verify", "--python", PYTHON, "--json", "-C", str(ROOT), *args]
        if release is not None:
            words += ["--sglang-ref", f"v{release}", "--source", "pypi"]
            with (REAL_CACHE / "releases.lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # the other worker may be downloading it too
                Releases(settings, Silence()).release(release)
        line = args[args.index("--line") + 1]
        with (REAL_CACHE / f"verify-{line}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # two runs at once into one folder are refused
            result = document(fixtool(*words, **folders))
        assert "error" not in result, result["error"]
        return result

    settings = Settings(state=REAL_CACHE / "state", cache=REAL_CACHE)
    settings.stores.mkdir(parents=True, exist_ok=True)
    folders = {"FIXTOOL_STATE_DIR": str(settings.state), "FIXTOOL_CACHE_DIR": str(settings.cache)}
    return run


def answers(result: dict[str, Any]) -> dict[str, dict[str, int]]:
    """tree -> slug -> answer, without the probes that were not run."""
    columns = result["matrix"]["columns"]
    return {
        row["tree"]: {
            slug: answer
            for slug, answer in zip(columns, row["answers"], strict=True)
            if answer is not None
        }
        for row in result["matrix"]["rows"]
    }


def proofs(result: dict[str, Any]) -> dict[str, str]:
    return {proof["slug"]: proof["proof"] for proof in result["proofs"]}


@pytest.mark.slow(100)
@pytest.mark.release(sample_of="proofs and checks")
@pytest.mark.pypi
def test_before_the_bugs_came(verify: Verify) -> None:
    result = verify("--prove", "--line", "v0.5.12.post1", release="0.5.12.post1")
    assert result["exit_code"] == 0, result["steps"]
    others = {PP: 77, NUM: 0, BF16: 77}
    assert answers(result) == {
        "base": {FUSED: 1, CHAIN: 1, **others}, f"+{FUSED}": {FUSED: 0, CHAIN: 1, **others},
        f"+{CHAIN}": {FUSED: 0, CHAIN: 0, **others}, "series": {FUSED: 0, CHAIN: 0, **others},
    }  # fmt: skip
    assert proofs(result)[FUSED] == proofs(result)[CHAIN] == "proved"


@pytest.mark.slow(100)
@pytest.mark.release(sample_of="proofs and checks")
@pytest.mark.pypi
@pytest.mark.parametrize(
    ("line", "release"),
    [("v0.5.13", "0.5.13"), ("v0.5.13", "0.5.16"), ("v0.5.13", "0.5.20"), ("v0.5.23", "0.5.23")],
)
def test_where_upstream_fixed_them(verify: Verify, line: str, release: str) -> None:
    """The launch fixes are there, and the router's corners are what our patch is for."""
    result = verify("--prove", "--line", line, release=release)
    assert result["exit_code"] == 0, result["steps"]
    matrix = answers(result)
    assert matrix["base"] == {FUSED: 1, CHAIN: 1, PP: 0, NUM: 0, BF16: 0}
    assert matrix["series"] == {FUSED: 0, CHAIN: 0, PP: 0, NUM: 0, BF16: 0}
    assert [matrix[f"-{slug}"] for slug in (PP, NUM, BF16)] == [{PP: 1}, {NUM: 1}, {BF16: 1}]
    absorbed = dict.fromkeys((PP, NUM, BF16), "absorbed")
    assert proofs(result) == {FUSED: "proved", CHAIN: "proved", **absorbed}


@pytest.mark.slow(100)
@pytest.mark.release(sample_of="proofs and checks")
@pytest.mark.pypi
def test_the_proof_runs_backwards_on_0_5_13(verify: Verify) -> None:
    result = verify("--prove", "--line", "b0ce16d0c", release="0.5.13")
    assert result["exit_code"] == 3, result["steps"]
    assert answers(result) == {
        "base": {PP: 0, NUM: 0, BF16: 0, FUSED: 0, CHAIN: 1},
        **{f"-{slug}": {slug: 1} for slug in (PP, NUM, BF16, FUSED)},
    }
    # Upstream has no chain, and our patch of this line does not fit that release: line v0.5.13 has one.
    absorbed = dict.fromkeys((PP, NUM, BF16, FUSED), "absorbed")
    assert proofs(result) == {**absorbed, CHAIN: "conflict"}


@pytest.mark.slow(130)
@pytest.mark.release
@pytest.mark.pypi
def test_the_probes_notice_every_mutant_of_the_fixes(verify: Verify) -> None:
    """(The mutants of the kernel: test_routing.py.)"""
    only = [f"mutant {fix}-" for fix in ("pp-group", "num-experts", "bf16-backend", "routing")]
    words = [word for name in [*only, "control probe"] for word in ("--only", name)]
    result = verify("--mutants", "--line", "v0.5.23", *words, release="0.5.23")
    assert [step["name"] for step in result["steps"] if step["outcome"] != "passed"] == []
    assert sum(step["kind"] == "mutant" for step in result["steps"]) >= 22


@pytest.mark.slow(50)
@pytest.mark.release(sample_of="proofs and checks")
@pytest.mark.pypi
def test_two_ranks_see_what_one_cannot(verify: Verify) -> None:
    """Two gloo ranks build and load the assistant as a pipeline, and notice if its group is missing, or
    is the pipeline's group only on one rank, which the probe cannot notice."""
    only = ["--only", "mutant stages-", "--only", "control parallel/pipeline.py"]
    result = verify("--mutants", "--line", "v0.5.23", *only, release="0.5.23")
    steps = {step["name"]: step for step in result["steps"]}
    control = steps.pop(f"control parallel/pipeline.py {PP}")
    assert (control["outcome"], pipeline(control)) == ("passed", [None, None])
    assert {step["outcome"] for step in steps.values()} == {"passed"}
    error = "AttributeError: 'Gemma4AssistantForCausalLM' object has no attribute 'pp_group'"
    assert pipeline(steps["mutant stages-pp-group-dropped"]) == [error] * 2
    first, last = pipeline(steps["mutant stages-pp-group-of-one-rank-alone"])
    assert first == "ValueError: its pp_group is tp:0, not the pipeline's pp:0"
    assert last  # it fails to tie an embedding that is on the first stage


def pipeline(step: dict[str, Any]) -> list[str | None]:
    """The errors of the two ranks of a pipeline, in their order."""
    ranks = step["details"]["ranks"]
    assert [(rank["ranks"], rank["pp_rank"], rank["met"]) for rank in ranks] == [
        (2, 0, [0, 1]), (2, 1, [0, 1]),
    ]  # fmt: skip
    assert [(rank["first"], rank["last"]) for rank in ranks] == [(True, False), (False, True)]
    assert all("speculative decoding" in rank["refusal"] for rank in ranks)
    return [rank["error"] for rank in ranks]


@pytest.mark.slow(40)
@pytest.mark.release(sample_of="proofs and checks")
@pytest.mark.pypi
@pytest.mark.parametrize("release", ["0.5.12.post1", "0.5.13", "0.5.23"])
def test_routing_end_to_end(verify: Verify, release: str) -> None:
    result = verify("--line", f"v{release}", "--only", "routing end to end", release=release)
    assert [step["outcome"] for step in result["steps"]] == ["passed"], result["steps"]


@pytest.mark.history
def test_the_pinned_base(verify: Verify) -> None:
    """The whole matrix: each patch flips its own probe, and those of what it depends on."""
    source = os.environ["FIXTOOL_SGLANG_REPO"]
    result = verify("--prove", "--line", "b0ce16d0c", "--sglang-ref", BASE, "--source", source)
    assert result["exit_code"] == 0, result["steps"]
    slugs = (PP, NUM, BF16, FUSED, CHAIN)
    needs = {own: {own} for own in slugs} | {CHAIN: {FUSED, CHAIN}}
    assert answers(result) == {
        "base": dict.fromkeys(slugs, 1),
        **{f"+{own}": {slug: int(slug not in needs[own]) for slug in slugs} for own in slugs},
        "series": dict.fromkeys(slugs, 0),
    }
    assert set(proofs(result).values()) == {"proved"}


@pytest.mark.history
def test_the_pinned_base_in_a_pipeline(verify: Verify) -> None:
    """Each rank fails with the next bug, as a server on one GPU does, until the whole series is applied."""
    source = os.environ["FIXTOOL_SGLANG_REPO"]
    words = ["--line", "b0ce16d0c", "--sglang-ref", BASE, "--source", source]
    result = verify(*words, "--only", "pipeline of two")
    assert result["exit_code"] == 0, result["steps"]
    first, second, whole = result["steps"]
    assert [step["tree"] for step in result["steps"]] == ["base", f"+{PP}", "series"]
    error = "AttributeError: 'Gemma4AssistantForCausalLM' object has no attribute 'pp_group'"
    assert pipeline(first) == [error] * 2
    error = "TypeError: 'NoneType' object cannot be interpreted as an integer"
    assert pipeline(second) == [error] * 2
    assert pipeline(whole) == [None] * 2
    assert [rank["layers"] for rank in whole["details"]["ranks"]] == [[0], [1]]
