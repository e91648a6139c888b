"""Reads the evidence that the recorder wrote inside a live server (recorder/recorder.py), and checks it."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from verify.routing.launcher import CHAIN, defines_chain

HOOK_FOLDER = Path(__file__).resolve().parent / "recorder" / "hook"


@dataclass
class LiveEvidence:
    """What the recorders of all processes of a server wrote; ``routers`` counts those that routed, and
    ``chained`` those in which the router's chain took a batch."""

    installed: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    mismatches: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    patched: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    native: set[str] = field(default_factory=set)
    routers: int = 0
    chained: int = 0

    def details(self) -> dict[str, Any]:
        return {**vars(self), "counts": dict(self.counts), "native": sorted(self.native)}


def read_evidence(folder: Path) -> LiveEvidence:
    """Read the evidence files of a folder."""
    evidence = LiveEvidence()
    lists = {
        "installed": evidence.installed, "mismatch": evidence.mismatches, "error": evidence.errors,
    }  # fmt: skip
    for path in sorted(folder.glob("*.jsonl")):
        summary: dict[str, Any] = {}
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue  # its writer was killed in the middle of it
            kind = event.get("event")
            if kind in lists:
                lists[kind].append(event)
            elif kind == "summary":
                summary = event
            elif kind == "native":
                evidence.native.add(str(event.get("layer")))
            for name, file in (event.get("patched") or {}).items():
                evidence.patched.setdefault(name, []).append(file)
        evidence.routers += bool(summary.get("launches"))
        evidence.chained += bool(summary.get("chain_taken"))
        evidence.counts.update(
            {name: n for name, n in summary.items() if isinstance(n, int) and name != "pid"}
        )
    return evidence


def foreign_files(evidence: LiveEvidence, tree: Path, blobs: dict[str, str]) -> str | None:
    """Which file of the server is not of this tree, as a sentence; None if all of them are.
    ``blobs`` are the git blob ids of the patched files, by path in the tree."""
    root = Path(os.path.abspath(tree))  # a folder of it may be a link to the base's
    for process in evidence.installed:
        sglang = process.get("sglang")
        if not sglang or not Path(os.path.abspath(sglang)).is_relative_to(root):
            return f"the server imported sglang from {sglang}, not from {root}"
        for part in ("caller", "kernel", "chain"):
            if (file := process.get(part)) is None:
                continue
            path = Path(str(file.get("file")))
            if not path.is_relative_to(root):
                return f"the server's {part} comes from {path}, not from {root}"
            if (problem := _other_blob(str(path.relative_to(root)), file, blobs)) is not None:
                return problem
            if file.get("runs_its_file") is False:
                return f"{file.get('name')} runs other code than its file {path} holds"
    for name, files in evidence.patched.items():
        for file in files:
            if not Path(str(file.get("file"))).is_relative_to(root):
                return f"{name} was imported from {file.get('file')}, not from {root}"
            if (problem := _other_blob(name, file, blobs)) is not None:
                return problem
    return None


def _other_blob(name: str, file: dict[str, Any], blobs: dict[str, str]) -> str | None:
    want = blobs.get(name)
    if want is None or file.get("blob") == want:
        return None
    return f"{name} is blob {file.get('blob')} in the server, {want} in the patched tree"


def missing_proof(
    evidence: LiveEvidence, tree: Path, blobs: dict[str, str], *, graphs: bool, ranks: int = 1
) -> str | None:
    """What is missing from the proof that this tree's fused kernel ran, and routed right, in ``ranks``
    processes; None if nothing is. ``graphs``: CUDA graphs must have been replayed."""
    if not evidence.installed:
        return "no process of the server said that it imported gemma4_causal: nothing was recorded"
    if (problem := foreign_files(evidence, tree, blobs)) is not None:
        return problem
    kernels = [process["kernel"] for process in evidence.installed if process.get("kernel")]
    if not kernels:
        return "gemma4_causal has no gemma4_fused_routing: this tree has no fused router"
    root = Path(os.path.abspath(tree))
    path = str(Path(kernels[0]["file"]).relative_to(root))
    if blobs and path not in blobs:
        return f"gemma4_fused_routing comes from {path}, which no patch of the line touches"
    counts = evidence.counts
    if not counts["launches"]:
        return "gemma4_fused_routing was imported and never called"
    if evidence.routers < ranks:
        return f"{evidence.routers} of {ranks} ranks routed"
    if counts["enqueued"] == 0 and "enqueued" in counts:
        return f"{counts['launches']} calls of gemma4_fused_routing launched no Triton kernel"
    if evidence.mismatches or counts["mismatches"]:
        n = max(counts["mismatches"], len(evidence.mismatches))
        first = evidence.mismatches[0] if evidence.mismatches else {}
        problem = "; ".join(first.get("problems", [])[:1])
        where = f"{first.get('where')} {first.get('shape')}"
        return f"{n} routings are not the oracle's; the first ({where}): {problem}"
    if (problem := missing_chain(evidence, root, blobs, graphs=graphs, ranks=ranks)) is not None:
        return problem
    if not counts["eager_compared"]:
        return "no routing outside a graph was compared with the oracle"
    if not counts["eager_varied"]:
        return "every row of logits was constant: the server's activations have collapsed"
    if graphs:
        if not counts["captured"]:
            return "no CUDA graph captured gemma4_fused_routing"
        if not counts["replayed"]:
            return "gemma4_fused_routing was captured in CUDA graphs, and none was replayed"
        if not counts["graph_compared"]:
            return "no routing replayed in a CUDA graph was compared with the oracle"
    return None


def missing_chain(
    evidence: LiveEvidence, root: Path, blobs: dict[str, str], *, graphs: bool, ranks: int
) -> str | None:
    """What is missing from the proof that the router's chain took every batch that is small enough for
    it, each by a launch of its kernel; None if nothing is, or if this tree has no chain."""
    counts = evidence.counts
    if not any(process.get("chain") for process in evidence.installed):
        file = next((name for name in sorted(blobs) if defines_chain(root / name)), None)
        return f"{file} defines {CHAIN}, and gemma4_causal does not import it" if file else None
    if counts["bypassed"]:
        calls = (
            f"{counts['chain_calls']} calls of {CHAIN}, {counts['chain_taken']} of which it took"
        )
        return f"{counts['bypassed']} batches that the chain takes were routed without it ({calls})"
    if evidence.chained < ranks:
        return f"{evidence.chained} of {ranks} ranks ran {CHAIN}"
    if "chain_enqueued" in counts and counts["chain_enqueued"] != counts["chain_taken"]:
        launches = f"{counts['chain_enqueued']} launches of its kernel"
        return f"{CHAIN} took {counts['chain_taken']} batches, with {launches}"
    if not counts["chain_compared"]:
        return f"no answer of {CHAIN} outside a graph was compared with its definition"
    if graphs and not counts["chain_replayed"]:
        return f"no CUDA graph that holds {CHAIN} was replayed"
    return None


def summarise(evidence: LiveEvidence) -> str:
    """The calls that were seen and compared, as a phrase."""
    counts = evidence.counts
    calls = f"{counts['eager']} calls of this tree's kernel"
    if counts["replayed"]:
        calls += f" and {counts['replayed']} more in graph replays"
    if counts["chain_taken"]:
        calls += f"; the router's chain took {counts['chain_taken']} batches"
        calls += f", and {counts['chain_replayed']} in replays" * bool(counts["chain_replayed"])
    names = ("eager", "chain", "graph")
    rows = sum(counts[f"{name}_rows"] for name in names)
    compared = sum(counts[f"{name}_compared"] for name in names)
    return f"{calls}; {compared} routings ({rows} tokens) as the oracle's"
