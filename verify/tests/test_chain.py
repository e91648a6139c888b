"""The definition of the router's chain, which the check compares with: a right answer passes, and each
kind of wrong one is named. And the breakages that the check must notice fit each line's patch. No
kernel runs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support.repositories import ROOT

torch: Any = pytest.importorskip("torch")

from verify.routing.chain import Enough, Tally, check_align, inputs  # noqa: E402
from verify.routing.chain_oracle import ChainInputs, compare_chain  # noqa: E402
from verify.routing.oracle import route  # noqa: E402

SHAPE = (96, 16, 4)
PATCHES = sorted(ROOT.glob("patches/*/gemma4-router-chain.patch"))
MUTANTS = tomllib.loads((ROOT / "verify/mutants/chain.toml").read_text())["mutant"]
Parts = list[Any]  # logits, weights, ids and the experts' input


def given_to(tokens: int = 5, dtype: Any = torch.bfloat16, **more: Any) -> ChainInputs:
    given: ChainInputs = inputs(tokens, SHAPE, dtype, "cpu", False, **more)
    return given


def answer_by_torch(given: ChainInputs) -> Parts:
    """As SGLang computes it, a step after the other, in fp32."""
    x = given.x.float()

    def normed(eps: float, weight: Any, twice: bool) -> Any:
        value = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
        value = value.to(given.x.dtype).float() if twice else value
        return (value * weight.float()).to(given.x.dtype)

    channels = normed(given.eps, given.channel, given.twice)
    logits = (channels.float() @ given.matrix.float().T).to(given.x.dtype)
    return routed(given, logits, normed(given.norm_eps, given.norm, False))


def routed(given: ChainInputs, logits: Any, normed: Any) -> Parts:
    weights, ids = route(logits, given.scale, given.topk)
    return [logits, weights.float(), ids.int(), normed]


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_right_answer(dtype: Any, twice: bool) -> None:
    given = given_to(40, dtype, twice=twice)
    found = compare_chain(tuple(answer_by_torch(given)), given)
    assert (found.problems, found.rows) == ([], 40)
    assert 0 < found.worst < 1


def other_logit(given: ChainInputs, parts: Parts) -> Parts:
    parts[0][2, 3] += 0.5
    return routed(given, parts[0], parts[3])


def lifted(given: ChainInputs, parts: Parts) -> Parts:
    """The worst expert becomes the best one, in the logits and in all that follows from them."""
    parts[0][1, parts[0][1].argmin()] = parts[0].max() * 2
    return routed(given, parts[0], parts[3])


def at(place: int, change: Callable[[Any, ChainInputs], Any]) -> Callable[..., Parts]:
    def spoil(given: ChainInputs, parts: Parts) -> Parts:
        parts[place] = change(parts[place], given)
        return parts

    return spoil


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (other_logit, "1 logits are off; row 2, expert 3"),
        (lifted, "row 1 chose other experts"),
        (at(0, lambda logits, given: logits[:, :-1]), "logits are [5, 15]"),
        (at(0, lambda logits, given: logits.float()), "of torch.float32"),
        (at(1, lambda weights, given: weights * 1.01), "weights of 5 rows"),
        (at(2, lambda ids, given: ids.flip(-1)), "ids of 5 rows"),
        (at(3, lambda normed, given: normed * given.norm), "inputs of experts are off, first in row 0"),
        (at(3, lambda normed, given: normed[:3]), "normed are [3, 96]"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_named(spoil: Callable[..., Parts], problem: str) -> None:
    given = given_to()
    found = compare_chain(tuple(spoil(given, answer_by_torch(given))), given)
    assert problem in "; ".join(found.problems)


def test_no_answer() -> None:
    assert compare_chain(None, given_to()).problems == ["the chain left the batch to others"]


def test_what_is_not_finite_may_not_come_out_finite() -> None:
    given = given_to(special=True)
    parts = answer_by_torch(given)
    assert compare_chain(tuple(parts), given).problems == []
    parts[0] = parts[0].nan_to_num()
    found = compare_chain(tuple(routed(given, parts[0], parts[3])), given)
    assert found.problems == ["logits are finite where their definition is not"]


def test_of_two_experts_at_the_border_that_are_equal_either_is_right() -> None:
    given = given_to(1)
    order = answer_by_torch(given)[0][0].argsort(descending=True)
    given.matrix[order[4]] = given.matrix[order[3]]
    fell = set()
    above = torch.tensor(torch.inf).bfloat16()
    for first, second in ((3, 4), (4, 3)):
        logits, _, _, normed = answer_by_torch(given)
        logits[0, order[first]] = torch.nextafter(logits[0, order[second]], above)
        found = compare_chain(tuple(routed(given, logits, normed)), given)
        assert found.near_ties == 1
        assert "chose other" not in "; ".join(found.problems)
        fell.add(found.fell_otherwise)
    assert fell == {0, 1}


def added_to(files: list[str], patch: Path) -> str:
    """The lines that a patch, and the one that it stands on, add to these files."""
    below = patch.with_name("gemma4-fused-routing.patch")
    sections = [part for file in dict.fromkeys((below, patch)) if file.is_file()
                for part in file.read_text().split("\ndiff --git ")[1:]]  # fmt: skip
    return "\n".join(
        line[1:]
        for section in sections
        if section.partition("\n")[0].partition(" b/")[2] in files
        for line in section.partition("\n@@")[2].split("\n")
        if line.startswith("+")
    )


@pytest.mark.parametrize("patch", PATCHES, ids=[patch.parent.name for patch in PATCHES])
def test_every_breakage_fits_once(patch: Path) -> None:
    fits = {
        (mutant["name"], edit["find"]): len(re.findall(edit["find"], text, re.MULTILINE))
        for mutant in MUTANTS
        for edit in mutant["edit"]
        if (text := added_to(edit["files"], patch))
    }
    assert len(fits) == sum(len(mutant["edit"]) for mutant in MUTANTS) > 30
    assert set(fits.values()) == {1}, [name for name, found in fits.items() if found != 1]


def test_with_fail_fast_the_first_problem_ends_the_check() -> None:
    """A mutant was killed by its first case, and the check went on for minutes."""
    module: Any = SimpleNamespace(moe_align_few=lambda *_: True)
    tally = Tally(fail_fast=True)
    with pytest.raises(Enough):
        check_align(module, "cpu", tally)
    assert (tally.cases, len(tally.problems) > 0) == (1, True)
    check_align(module, "cpu", whole := Tally())
    assert whole.cases > 10


def on_the_routing(patch: Path) -> str:
    """The lines that gemma4-fused-routing adds, with the chain's changes of them made."""
    routing = patch.with_name("gemma4-fused-routing.patch")
    text = added_to(ROUTING_FILES, routing)
    for section in patch.read_text().split("\ndiff --git ")[1:]:
        for hunk in section.split("\n@@ ")[1:]:
            lines = hunk.split("\n")[1:]
            old, new = (
                "\n".join(line[1:] for line in lines if line[:1] in (" ", sign)) for sign in "-+"
            )
            if old and text.count(old) == 1:  # a hunk of other lines is not of the routing
                text = text.replace(old, new)
    return text


ROUTING_FILES = MUTANTS[0]["edit"][0]["files"]
OF_THE_ROUTING = tomllib.loads((ROOT / "verify/mutants/kernel.toml").read_text())["mutant"]


@pytest.mark.parametrize("patch", PATCHES, ids=[patch.parent.name for patch in PATCHES])
def test_the_routings_breakages_fit_with_the_chain_and_without(patch: Path) -> None:
    """Six of them no longer fitted once the chain stood on the routing, and nothing said so."""
    alone = added_to(ROUTING_FILES, patch.with_name("gemma4-fused-routing.patch"))
    whole = on_the_routing(patch)
    assert "_route_by_heads(" in whole
    for text in (alone, whole):
        fits = {
            mutant["name"]: len(re.findall(edit["find"], text, re.MULTILINE))
            for mutant in OF_THE_ROUTING
            for edit in mutant["edit"]
        }
        assert set(fits.values()) == {1}, {name: n for name, n in fits.items() if n != 1}
