"""A result for others to read: JUnit XML, and Markdown."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from fixtool.markdown import code, inline, table
from fixtool.text import escaped, shortened
from fixtool.verify.proof import BAD, Matrix, Proof, answer_text
from fixtool.verify.result import Result, StepKind, StepOutcome

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_XML = "<?xml version='1.0' encoding='UTF-8'?>"
_TAGS = {
    StepOutcome.FAILED: "failure",
    StepOutcome.BROKE: "error",
    StepOutcome.CANNOT_RUN: "error",
    StepOutcome.SKIPPED: "skipped",
}


def junit(result: Result, matrix: Matrix | None) -> str:
    """JUnit XML, as GitHub and Jenkins read it: one test case for each step and each proof."""
    suite = ET.Element("testsuite", name=f"fixtool verify {result.about['line']}")
    failures = 0
    for step in result.steps:
        case = ET.SubElement(
            suite, "testcase", classname=f"verify.{step.kind}", name=step.name,
            time=f"{step.seconds:.1f}",
        )  # fmt: skip
        if tag := _TAGS.get(step.outcome):
            ET.SubElement(case, tag, message=step.said)
            failures += tag != "skipped"
        ET.SubElement(case, "system-out").text = step.said
    for patch in matrix.proofs if matrix else ():
        case = ET.SubElement(suite, "testcase", classname="verify.proof", name=patch.slug, time="0")
        if patch.proof in BAD or patch.proof is Proof.CONFLICT:
            ET.SubElement(case, "failure", message=f"{patch.proof}: {patch.why}")
            failures += 1
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(failures))
    suite.set("skipped", str(result.count(StepOutcome.SKIPPED)))
    suite.set("time", f"{sum(step.seconds for step in result.steps):.1f}")
    for element in suite.iter():
        element.text = _xml(element.text or "")
        element.attrib.update({name: _xml(text) for name, text in element.attrib.items()})
    ET.indent(suite)
    return f"{_XML}\n{ET.tostring(suite, 'unicode')}\n"


def _xml(text: str) -> str:
    """``text`` as every reader of the file may show it. It comes from patches and from hosts."""
    return _NOT_XML.sub("?", escaped(text))


def markdown(result: Result, matrix: Matrix | None) -> str:
    """A page for a pull request or a job summary."""
    about = result.about
    sections = [
        f"## fixtool verify: line {code(about['line'])} on {code(about['onto'][:12])}",
        f"{inline(result.host)}, {inline(result.started)}; {result.tally}.",
    ]
    if matrix:
        rows = [
            (code(tree), *(answer_text(answer) for answer in answers))
            for tree, answers in matrix.rows
        ]
        proofs = [(code(patch.slug), patch.proof, patch.why) for patch in matrix.proofs]
        sections.append(table(("tree", *map(code, matrix.columns)), rows))
        sections.append(table(("patch", "proof", ""), proofs))
    steps = [
        (step.name, step.outcome, f"{step.seconds:.1f}", step.mebibytes, shortened(step.said, 300))
        for step in result.steps if step.kind is not StepKind.PROBE or step.want is not None
    ]  # fmt: skip
    if steps:
        sections.append(table(("step", "outcome", "s", "MiB", "said"), steps))
    return "\n\n".join(sections) + "\n"
