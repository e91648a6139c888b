"""The workloads of SGLang's own `bench_serving` on a server of the serving benchmark.

The tree's `sglang.bench_serving` runs as users run it, with prompts of random ids (`random-ids`, which
needs no data set) that all have the same length. What counts is the rate of tokens that it reports.

Two things of its surroundings are made for it. It draws ids out of the whole vocabulary of its tokenizer, so
that gets a tokenizer without the ids that stand for images and sounds. And it imports `datasets`, which a
bare host lacks, for workloads that are not run here: a stand-in refuses whatever is asked of it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verify.server.process import RequestRefused, ServerHangs

_DATASETS = '''"""A stand-in for the package of this name, which only other workloads use."""

def __getattr__(name):
    def refuse(*_, **__):
        raise RuntimeError(f"datasets.{name} is not on this host")
    return refuse
'''
_KEPT = ("output_throughput", "total_throughput", "mean_ttft_ms", "mean_tpot_ms", "completed", "duration")  # fmt: skip


@dataclass(frozen=True)
class Workload:
    """As many prompts as run at once, each of so many tokens in and out."""

    tokens_in: int
    tokens_out: int
    at_once: int = 16

    @property
    def name(self) -> str:
        return f"{self.tokens_in}/{self.tokens_out}x{self.at_once}"


def workload(word: str) -> Workload:
    """IN/OUT, or IN/OUTxN for N requests at once. Raises ArgumentTypeError if it is neither."""
    if (match := re.fullmatch(r"(\d+)/(\d+)(?:x(\d+))?", word)) is None or "0" in match.groups():
        raise argparse.ArgumentTypeError(f"{word!r} is not IN/OUT or IN/OUTxN")
    return Workload(*(int(number) for number in match.groups() if number))


def server_flags(workloads: Sequence[Workload]) -> list[str]:
    """The flags with which a server has room for all of them. A later flag replaces an earlier one."""
    longest = max(each.tokens_in + each.tokens_out for each in workloads)
    total = max((each.tokens_in + each.tokens_out) * each.at_once for each in workloads)
    at_once = max(each.at_once for each in workloads)
    flags = {
        "--context-length": longest + 64,
        "--max-total-tokens": total + 64 * at_once,
        "--max-running-requests": at_once,
    }
    return [word for pair in flags.items() for word in map(str, pair)]


def graph_sizes(workloads: Sequence[Workload]) -> tuple[int, ...]:
    """The batches for which CUDA graphs are captured: powers of two, and what runs at once."""
    most = max(each.at_once for each in workloads)
    powers = [1 << n for n in range(most.bit_length())]
    return tuple(sorted({*powers, *(each.at_once for each in workloads)}))


def client_files(model: Path, folder: Path) -> tuple[Path, Path]:
    """Make, below ``folder``, the tokenizer and the folder of stand-ins, and return both."""
    tokenizer, stand_ins = folder / "tokenizer", folder / "stand-ins"
    for each in (tokenizer, stand_ins):
        each.mkdir(parents=True, exist_ok=True)
    content = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))
    special = json.loads((model / "tokenizer_config.json").read_text(encoding="utf-8"))
    media = set(special.pop("extra_special_tokens", {}).values())
    first = min((n for token, n in content["model"]["vocab"].items() if token in media), default=0)
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {t: n for t, n in vocabulary.items() if not media or n < first}
    content["added_tokens"] = [t for t in content["added_tokens"] if not media or t["id"] < first]
    kept = {name: value for name, value in special.items() if value not in media}
    kept.pop("processor_class", None)
    for name, written in (("tokenizer.json", content), ("tokenizer_config.json", kept)):
        (tokenizer / name).write_text(json.dumps(written), encoding="utf-8")
    if importlib.util.find_spec("datasets") is None:
        (stand_ins / "datasets.py").write_text(_DATASETS, encoding="utf-8")
    return tokenizer, stand_ins


def run(
    each: Workload, port: int, model: Path, env: Mapping[str, str], out: Path, seed: int, timeout: float
) -> dict[str, Any]:  # fmt: skip
    """Run it once against the server on ``port``. Returns what it reports. Raises ServerHangs if it
    takes longer than ``timeout`` seconds, and RequestRefused if it fails or a request did."""
    tokenizer, stand_ins = client_files(model, out.parent / "bench-client")
    flags = {
        "--backend": "sglang", "--host": "127.0.0.1", "--port": port, "--model": model,
        "--tokenizer": tokenizer, "--dataset-name": "random-ids",
        "--random-input-len": each.tokens_in, "--random-output-len": each.tokens_out,
        "--random-range-ratio": 1, "--num-prompts": each.at_once,
        "--max-concurrency": each.at_once, "--seed": seed, "--warmup-requests": 0,
        "--output-file": out,
    }  # fmt: skip
    words = [word for pair in flags.items() for word in map(str, pair)]
    command = [sys.executable, "-m", "sglang.bench_serving", *words]
    command += ["--tokenize-prompt", "--disable-tqdm", "--flush-cache"]
    own = {name: value for name, value in env.items() if name != "FIXTOOL_SERVER"}
    own["PYTHONPATH"] = os.pathsep.join(
        (own["PYTHONPATH"], str(stand_ins))
    )  # last: a real one wins
    log = out.with_suffix(".log")
    with log.open("wb") as file:
        try:
            ran = subprocess.run(
                command, env=own, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                timeout=timeout, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ServerHangs(f"bench_serving {each.name} took over {timeout:.0f} s") from None
    try:
        reported = json.loads(out.read_text(encoding="utf-8").splitlines()[-1])
        found = {name: reported.get(name) for name in _KEPT}
    except (OSError, ValueError, IndexError):
        last = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
        raise RequestRefused(
            f"bench_serving {each.name} ended with {ran.returncode}: {last[:300]}; {os.path.basename(log)}"
        ) from None
    if found["completed"] != each.at_once or not found["output_throughput"]:
        raise RequestRefused(f"bench_serving {each.name}: {found['completed']} of {each.at_once} requests")  # fmt: skip
    return found
