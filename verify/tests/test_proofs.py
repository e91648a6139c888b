"""Our own series, proved on real releases of SGLang, on a CPU: the main evidence, and slow.

They run once a release; of the proofs and of the other checks, one runs every time.

Each probe imports SGLang, so this wants verify/requirements/cpu.txt here, or a Python that has them
in FIXTOOL_TARGET_PYTHON.
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
PP, NUM, BF16, FUSED = (
    "gemma4-mtp-pp-group", "gemma4-num-experts-guard", "gemma4-bf16-moe-backend",
    "gemma4-fused-routing",
)  # fmt: skip
Verify = Callable[..., dict[str, Any]]

pytestmark = pytest.mark.skipif(
    sys.executable == PYTHON and importlib.util.find_spec("transformers") is None,
    reason="no SGLang dependencies: pip install -r verify/requirements/cpu.txt, or FIXTOOL_TARGET_PYTHON",
)  # fmt: skip


@pytest.fixture
def verify(fixtool: Callable[..., Ran]) -> Verify:
    """`fixtool verify` with releases brought once on this machine."""

    def run(*args: str, release: str | None = None) -> dict[str, Any]:
        given = ["verify", "--python", PYTHON, "--json", "-C", str(ROOT), *args]
        if release is not None:
            given += ["--sglang-ref", f"v{release}", "--source", "pypi"]
            with (REAL_CACHE / "releases.lock").open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # the other worker may be bringing it too
                Releases(settings, Silence()).release(release)
        line = args[args.index("--line") + 1]
        with (REAL_CACHE / f"verify-{line}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # two runs at once into one folder are refused
            found = document(fixtool(*given, **places))
        assert "error" not in found, found["error"]
        return found

    settings = Settings(state=REAL_CACHE / "state", cache=REAL_CACHE)
    settings.stores.mkdir(parents=True, exist_ok=True)
    places = {"FIXTOOL_STATE_DIR": str(settings.state), "FIXTOOL_CACHE_DIR": str(settings.cache)}
    return run


def answers(found: dict[str, Any]) -> dict[str, dict[str, int]]:
    """tree -> slug -> answer, of what was asked."""
    columns = found["matrix"]["columns"]
    return {
        row["tree"]: {
            slug: answer
            for slug, answer in zip(columns, row["answers"], strict=True)
            if answer is not None
        }
        for row in found["matrix"]["rows"]
    }


def proofs(found: dict[str, Any]) -> dict[str, str]:
    return {one["slug"]: one["proof"] for one in found["proofs"]}


@pytest.mark.slow(100)
@pytest.mark.release(sample_of="proofs")
@pytest.mark.pypi
def test_before_the_bugs_came(verify: Verify) -> None:
    found = verify("--prove", "--line", "v0.5.12.post1", release="0.5.12.post1")
    assert found["exit_code"] == 0, found["steps"]
    others = {PP: 77, NUM: 0, BF16: 77}
    assert answers(found) == {
        "base": {FUSED: 1, **others}, f"+{FUSED}": {FUSED: 0, **others},
        "series": {FUSED: 0, **others},
    }  # fmt: skip
    assert proofs(found)[FUSED] == "proved"


@pytest.mark.slow(100)
@pytest.mark.release(sample_of="proofs")
@pytest.mark.pypi
def test_where_upstream_mended_them(verify: Verify) -> None:
    """0.5.23: the launch fixes are there, and the router's corners are what our patch is for."""
    found = verify("--prove", "--line", "v0.5.23", release="0.5.23")
    assert found["exit_code"] == 0, found["steps"]
    seen = answers(found)
    assert seen["base"] == {FUSED: 1, PP: 0, NUM: 0, BF16: 0}
    assert seen["series"] == {FUSED: 0, PP: 0, NUM: 0, BF16: 0}
    assert [seen[f"-{slug}"] for slug in (PP, NUM, BF16)] == [{PP: 1}, {NUM: 1}, {BF16: 1}]
    assert proofs(found) == {FUSED: "proved", PP: "absorbed", NUM: "absorbed", BF16: "absorbed"}


@pytest.mark.slow(100)
@pytest.mark.release(sample_of="proofs")
@pytest.mark.pypi
def test_the_proof_runs_backwards_on_0_5_13(verify: Verify) -> None:
    found = verify("--prove", "--line", "b0ce16d0c", release="0.5.13")
    assert found["exit_code"] == 0, found["steps"]
    assert answers(found) == {
        "base": {PP: 0, NUM: 0, BF16: 0, FUSED: 0},
        **{f"-{slug}": {slug: 1} for slug in (PP, NUM, BF16, FUSED)},
    }
    assert set(proofs(found).values()) == {"absorbed"}


@pytest.mark.slow(130)
@pytest.mark.release
@pytest.mark.pypi
def test_the_probes_notice_every_mutant_of_the_fixes(verify: Verify) -> None:
    """(The mutants of the kernel: test_routing.py.)"""
    only = [f"mutant {fix}-" for fix in ("pp-group", "num-experts", "bf16-backend", "routing")]
    given = [word for one in [*only, "control probe"] for word in ("--only", one)]
    found = verify("--mutants", "--line", "v0.5.23", *given, release="0.5.23")
    assert [one["name"] for one in found["steps"] if one["outcome"] != "passed"] == []
    assert sum(one["kind"] == "mutant" for one in found["steps"]) >= 22


@pytest.mark.slow(50)
@pytest.mark.release(sample_of="checks")
@pytest.mark.pypi
def test_two_ranks_see_what_one_cannot(verify: Verify) -> None:
    """Two gloo ranks build and load the assistant as a pipeline, and notice where the group is taken
    from it, or is the pipeline's on one rank alone, which the probe must miss."""
    only = ["--only", "mutant stages-", "--only", "control parallel/pipeline.py"]
    found = verify("--mutants", "--line", "v0.5.23", *only, release="0.5.23")
    steps = {one["name"]: one for one in found["steps"]}
    control = steps.pop(f"control parallel/pipeline.py {PP}")
    assert (control["outcome"], pipeline(control)) == ("passed", [None, None])
    assert {one["outcome"] for one in steps.values()} == {"passed"}
    said = "AttributeError: 'Gemma4AssistantForCausalLM' object has no attribute 'pp_group'"
    assert pipeline(steps["mutant stages-pp-group-dropped"]) == [said] * 2
    first, last = pipeline(steps["mutant stages-pp-group-of-one-rank-alone"])
    assert first == "ValueError: its pp_group is tp:0, not the pipeline's pp:0"
    assert last  # it dies tying an embedding that lies on the first stage


def pipeline(step: dict[str, Any]) -> list[str | None]:
    """What the two ranks of a pipeline said, each known by its place in it."""
    ranks = step["details"]["ranks"]
    assert [(one["ranks"], one["pp_rank"], one["met"]) for one in ranks] == [
        (2, 0, [0, 1]), (2, 1, [0, 1]),
    ]  # fmt: skip
    assert [(one["first"], one["last"]) for one in ranks] == [(True, False), (False, True)]
    assert all("speculative decoding" in one["refusal"] for one in ranks)
    return [one["error"] for one in ranks]


@pytest.mark.slow(40)
@pytest.mark.release(sample_of="checks")
@pytest.mark.pypi
@pytest.mark.parametrize("release", ["0.5.12.post1", "0.5.23"])
def test_routing_end_to_end(verify: Verify, release: str) -> None:
    found = verify("--line", f"v{release}", "--only", "routing end to end", release=release)
    assert [one["outcome"] for one in found["steps"]] == ["passed"], found["steps"]


@pytest.mark.history
def test_the_pinned_base(verify: Verify) -> None:
    """The whole matrix: each patch flips its own probe, and no other."""
    source = os.environ["FIXTOOL_SGLANG_REPO"]
    found = verify("--prove", "--line", "b0ce16d0c", "--sglang-ref", BASE, "--source", source)
    assert found["exit_code"] == 0, found["steps"]
    slugs = (PP, NUM, BF16, FUSED)
    assert answers(found) == {
        "base": dict.fromkeys(slugs, 1),
        **{f"+{own}": {slug: int(slug != own) for slug in slugs} for own in slugs},
        "series": dict.fromkeys(slugs, 0),
    }
    assert set(proofs(found).values()) == {"proved"}


@pytest.mark.history
def test_the_pinned_base_in_a_pipeline(verify: Verify) -> None:
    """Each rank dies of the next bug, as a server on one GPU does, until the series lets it load."""
    source = os.environ["FIXTOOL_SGLANG_REPO"]
    words = ["--line", "b0ce16d0c", "--sglang-ref", BASE, "--source", source]
    found = verify(*words, "--only", "pipeline of two")
    assert found["exit_code"] == 0, found["steps"]
    first, second, whole = found["steps"]
    assert [one["tree"] for one in found["steps"]] == ["base", f"+{PP}", "series"]
    said = "AttributeError: 'Gemma4AssistantForCausalLM' object has no attribute 'pp_group'"
    assert pipeline(first) == [said] * 2
    said = "TypeError: 'NoneType' object cannot be interpreted as an integer"
    assert pipeline(second) == [said] * 2
    assert pipeline(whole) == [None] * 2
    assert [one["layers"] for one in whole["details"]["ranks"]] == [[0], [1]]
