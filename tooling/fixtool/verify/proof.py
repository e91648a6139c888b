"""What the answers of the probes prove of each patch, and the exit code of a whole result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from fixtool.errors import ExitCode
from fixtool.verify.answer import DOES_NOT_APPLY
from fixtool.verify.result import Result, StepKind, StepOutcome
from fixtool.verify.suite import BASE, SERIES, alone, undone


class Proof(StrEnum):
    """What the matrix says of one patch on one base."""

    PROVED = "proved"  # 1 without it, 0 with it alone, and no other probe moved
    BACKWARDS = "absorbed"  # 0 here already, and 1 once the fix is taken out
    ABSENT = "not-present"  # 0 here, and no fix that could be taken out: the bug never came
    DOES_NOT_APPLY = "does-not-apply"
    PRESENT = "present"  # 1 here, and this line carries no patch for it
    CONFLICT = "conflict"  # 1 here, and its patch does not apply
    UNPROVED = "unproved"
    BROKE = "broke"


BAD = frozenset({Proof.UNPROVED, Proof.BROKE})


@dataclass(frozen=True)
class PatchProof:
    """The proof of one patch: ``why`` is in words for a person."""

    slug: str
    proof: Proof
    why: str


@dataclass(frozen=True)
class Matrix:
    """The answers of every probe (``columns``, by slug) on every tree. ``rows`` are the name of a
    tree and its answers in column order: None if the probe did not run there, -1 if it broke."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int | None, ...]], ...]
    proofs: tuple[PatchProof, ...]


def answer_text(answer: int | None) -> str:
    """A cell of the matrix, for a person."""
    return "" if answer is None else "broke" if answer == -1 else str(answer)


def prove(result: Result) -> Matrix | None:
    """What the probes prove; None if they ran on the series alone, or not at all."""
    probes = [step for step in result.steps if step.kind is StepKind.PROBE]
    if all(step.want is not None for step in probes):
        return None
    columns = tuple(dict.fromkeys(step.slug or "" for step in probes))
    trees = sorted(dict.fromkeys(step.tree for step in probes), key=_row_order)
    answers = {
        (step.tree, step.slug): step.answer if step.answer in (0, 1, DOES_NOT_APPLY) else -1
        for step in probes
    }
    rows = tuple((tree, tuple(answers.get((tree, slug)) for slug in columns)) for tree in trees)
    own = {patch["slug"] for patch in result.about["patches"]}
    proofs = tuple(
        PatchProof(slug, *_proof(result, slug, columns, own=slug in own)) for slug in columns
    )
    return Matrix(columns, rows, proofs)


def _row_order(tree: str) -> int:
    """The order of the argument: without the patches, with each, with all, and backwards."""
    return {BASE: 0, SERIES: 2}.get(tree, 1 if tree.startswith("+") else 3)


def _proof(result: Result, slug: str, columns: Sequence[str], *, own: bool) -> tuple[Proof, str]:
    """The proof of ``slug`` and why; ``own`` if the result's line carries it."""
    if broken := result.broke(slug):
        return Proof.BROKE, f"its probe broke {broken[0]}"
    at_home = own and result.about["onto"] == result.about["base"]
    answer = result.answer(slug, BASE)
    if answer is None:
        return Proof.BROKE, "its probe gave no answer on the base"
    if answer == DOES_NOT_APPLY:
        if at_home:
            return Proof.UNPROVED, "its probe says that it does not apply to its own base"
        return Proof.DOES_NOT_APPLY, "what it is about is not in this tree"
    if answer == 0:
        return _proof_backwards(result, slug, at_home=at_home)
    if not own:
        return Proof.PRESENT, "present, and this line has no patch for it"
    return _proof_forwards(result, slug, columns)


def _proof_backwards(result: Result, slug: str, *, at_home: bool) -> tuple[Proof, str]:
    """The base lacks the bug: it must come back once the fix is taken out."""
    without = result.answer(slug, undone(slug))
    if without == 1:
        return Proof.BACKWARDS, "not present; present again once the fix is taken out"
    if without is not None:
        return Proof.UNPROVED, f"the fix was taken out, and its probe still says {without}"
    if at_home:
        return Proof.UNPROVED, "its probe says 0 on the base that the patch is to mend"
    why = result.missing.get(undone(slug), "no undo was tried")
    return Proof.ABSENT, f"not present, and nothing here to take out ({why})"


def _proof_forwards(result: Result, slug: str, columns: Sequence[str]) -> tuple[Proof, str]:
    """The base has the bug: it must go with the patch alone, which may move no other probe but
    those of the patches that it needs: they are in its tree."""
    with_patch = result.answer(slug, alone(slug))
    if with_patch is None:
        return Proof.CONFLICT, result.missing.get(alone(slug), "it has no tree")
    if with_patch != 0:
        return Proof.UNPROVED, f"with the patch alone, its probe still says {with_patch}"
    if (whole := result.answer(slug, SERIES)) not in (0, None):
        return Proof.UNPROVED, f"on the whole series, its probe says {whole}"
    besides = {slug, *result.needs(slug)}
    moved = [
        other for other in columns
        if other not in besides and result.answer(other, alone(slug)) != result.answer(other, BASE)
    ]  # fmt: skip
    if moved:
        return Proof.UNPROVED, f"it also moves the probe of {', '.join(moved)}"
    if whole is None:
        return Proof.PROVED, "1 without it, 0 with it; the whole series does not apply here"
    return Proof.PROVED, "1 without it, 0 with it alone"


def exit_code(result: Result, matrix: Matrix | None, *, require_gpu: bool) -> ExitCode:
    """The worst of a result: a failure, a needed patch in conflict, or a step that could not run.
    With ``require_gpu``, a skipped step counts as one that could not run."""
    proofs = {patch.proof for patch in matrix.proofs} if matrix else set()
    outcomes = {step.outcome for step in result.steps}
    if outcomes & {StepOutcome.FAILED, StepOutcome.BROKE} or proofs & BAD or not outcomes:
        return ExitCode.REFUSED
    if Proof.CONFLICT in proofs:
        return ExitCode.CONFLICT
    if not result.finished or StepOutcome.CANNOT_RUN in outcomes:
        return ExitCode.CANNOT_RUN
    if require_gpu and StepOutcome.SKIPPED in outcomes:
        return ExitCode.CANNOT_RUN
    return ExitCode.OK
