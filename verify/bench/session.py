"""Fills a session of a GPU host, which is lent for a time, with what has no result yet.

    session.py BUNDLE --out DIR [--seconds 590] [--only NAME …] [--peer FILE] [--matvec FILE]
               [--small-align FILE] [--vllm FILE] [--sglang FOLDER] [--work DIR] [--list]

BUNDLE is one of `fixtool verify --bundle BUNDLE --prove --checks --line b0ce16d0c …`. The other files are
those of the benchmarks (chain.py, ci/serving). In this order, each with as many GPUs as it needs, and side
by side where the host has them:

    spread      4 GPUs   a server with --tp 2 --pp 2 answers as one on one GPU does
    serves      1        servers that serve, eager and with CUDA graphs, and the kernels' checks
    chain       1        the router's chain beside all peers
    mtp         1        decode with MTP: upstream's router and the series, in turns
    workloads   1        bench_serving, 1000/1000 and 8000/1000: three fixes, the routing, the series

A step that passed in an earlier session of DIR is not run again. Each writes its result to DIR as it goes, so
that a session that is cut off keeps what it had, and the next one adds to it; and each is told how long it
may take. Every 20 seconds a line says where each step stands. DIR/session.json says how each step ended.

0   all ended well    1   one did not    4   no GPU, or no time for one of them
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tooling")]

from verify.bench.bundle import prepare  # noqa: E402
from verify.bench.bytecode import stop_compiling  # noqa: E402

_FILES = ("peer", "matvec", "small-align", "vllm", "sglang")
_SAY_SECONDS, _LAST_SECONDS, _GRACE_SECONDS = 20.0, 15.0, 12.0


@dataclass
class Step:
    """A command that takes ``gpus`` GPUs and at least ``least`` seconds. ``command`` gets the seconds
    that it has. Its result is ``result`` in the folder of the session. If it is ``unpacked``, it gets
    the bundle's trees and packages, which are unpacked once for all such steps."""

    name: str
    gpus: int
    least: float
    command: Callable[[float], list[str]]
    result: str
    env: dict[str, str] = field(default_factory=dict)
    unpacked: bool = False


@dataclass
class Running:
    step: Step
    process: subprocess.Popen[bytes]
    gpus: list[str]
    log: Path
    since: float

    def last_line(self) -> str:
        with suppress(OSError):
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
            return next((line for line in reversed(lines) if line.strip()), "")[:200]
        return ""


class Session:
    """The steps of a session, in order, on the GPUs that are free, until its time is over."""

    def __init__(self, gpus: Sequence[str], out: Path, seconds: float) -> None:
        self.start = time.monotonic()
        self.end = self.start + seconds - _LAST_SECONDS
        self.out, self.free = out, list(gpus)
        self.running: list[Running] = []
        self.earlier = earlier_notes(out)
        self.ended: list[dict[str, Any]] = []

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.start:6.1f} s] {text}", flush=True)

    def run(self, steps: Sequence[Step]) -> int:
        """Run the steps in order, side by side where there are GPUs for it. Returns the exit code."""
        waiting, say_at, most = list(steps), 0.0, len(self.free)
        for step in [step for step in waiting if step.gpus > most]:
            waiting.remove(step)
            self._note(step, "cannot-run", f"it takes {step.gpus} GPUs, and here are {most}")
        try:
            while waiting or self.running:
                self._collect()
                self._start_what_fits(waiting)
                if time.monotonic() > say_at:
                    say_at = time.monotonic() + _SAY_SECONDS
                    for each in self.running:
                        self.say(f"{each.step.name}, {time.monotonic() - each.since:.0f} s: {each.last_line()}")  # fmt: skip
                if time.monotonic() > self.end:
                    self._stop()
                time.sleep(0.1)
        finally:
            self._stop()
        outcomes = {note["outcome"] for note in self.ended}
        return 1 if outcomes & {"failed", "stopped"} else 4 if "cannot-run" in outcomes else 0

    def _start_what_fits(self, waiting: list[Step]) -> None:
        for step in list(waiting):
            left = self.end - time.monotonic()
            if left < step.least:
                waiting.remove(step)
                self._note(
                    step, "cannot-run", f"{left:.0f} s are left, and it takes {step.least:.0f}"
                )
            elif step.gpus <= len(self.free):
                waiting.remove(step)
                self._begin(step, left)
            else:
                return  # the next ones wait too, so that a step with many GPUs gets them

    def _begin(self, step: Step, left: float) -> None:
        gpus, self.free = self.free[: step.gpus], self.free[step.gpus :]
        log = self.out / f"{step.name}.log"
        env = {**os.environ, **step.env, "CUDA_VISIBLE_DEVICES": ",".join(gpus)}
        with log.open("wb") as file:
            process = subprocess.Popen(
                step.command(left), stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=env,
                start_new_session=True,
            )  # fmt: skip
        self.running.append(Running(step, process, gpus, log, time.monotonic()))
        self.say(f"{step.name} begins on GPU {', '.join(gpus)}, with {left:.0f} s")

    def _collect(self) -> None:
        for each in list(self.running):
            if (code := each.process.poll()) is not None:
                self.running.remove(each)
                self.free = sorted(self.free + each.gpus)
                self._note(
                    each.step, "passed" if code == 0 else "failed", each.last_line(), code, each
                )

    def _stop(self) -> None:
        """End what runs: first so that it can stop its servers and save, then for certain."""
        for number, patience in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, 1.0)):
            for each in self.running:
                with suppress(ProcessLookupError):
                    os.killpg(each.process.pid, number)
            until = time.monotonic() + patience
            while any(each.process.poll() is None for each in self.running):
                if time.monotonic() > until:
                    break
                time.sleep(0.05)
        for each in self.running:
            self._note(each.step, "stopped", each.last_line(), each.process.poll(), each)
        self.running = []

    def _note(
        self, step: Step, outcome: str, said: str, code: int | None = None, ran: Running | None = None
    ) -> None:  # fmt: skip
        seconds = round(time.monotonic() - ran.since, 1) if ran else 0.0
        has = (self.out / step.result).is_file()
        note = {"name": step.name, "outcome": outcome, "code": code, "seconds": seconds,
                "result": step.result if has else None, "said": said}  # fmt: skip
        self.ended.append(note)
        self.say(f"{step.name}: {outcome}, {seconds} s: {said}")
        staged = self.out / ".session.json"
        staged.write_text(json.dumps(self.earlier + self.ended, indent=1), encoding="utf-8")
        staged.replace(self.out / "session.json")


def earlier_notes(out: Path) -> list[dict[str, Any]]:
    """How the steps of earlier sessions in this folder ended."""
    with suppress(OSError, ValueError):
        return list(json.loads((out / "session.json").read_text(encoding="utf-8")))
    return []


# --- the steps -----------------------------------------------------------------------------------


def steps(options: argparse.Namespace) -> Iterator[Step]:
    out, unpacked, python = options.out, options.unpacked, sys.executable
    bundle = str(options.bundle)

    def checks(name: str, gpus: int, least: float, *words: str) -> Step:
        command = lambda left: [
            str(ROOT / "ci/gpu-smoke"), bundle, str(out / name), "--seconds", f"{left:.0f}", *words,
        ]  # fmt: skip
        return Step(name, gpus, least, command, f"{name}/result.json", {"PYTHON": python})

    yield checks("spread", 4, 90, "--tp", "2", "--pp", "2", "--only", "server answers alike")
    yield checks(
        "serves", 1, 90, "--only", "server serves", "--only", "check router chain", "--only",
        "check routing end to end",
    )  # fmt: skip

    given = [word for name, file in given_files(options) for word in (f"--{name}", str(file))]
    chain = str(ROOT / "verify/bench/chain.py")
    ours = {"FIXTOOL_TREE": str(unpacked / "trees/series")}
    yield Step(
        "chain", 1, 60,
        lambda left: [
            python, chain, *given, "--out", str(out / "chain.json"), "--seconds", f"{left - 30:.0f}",
        ],
        "chain.json", ours, unpacked=True,
    )  # fmt: skip

    def serving(name: str, least: float, order: str, *words: str) -> Step:
        peer = ["--peer", str(options.peer)] if options.peer else []
        file = str(out / f"{name}.json")  # an earlier session's boots count too
        command = lambda left: [
            python, str(ROOT / "ci/serving"), bundle, *peer,
            "--work", str(unpacked), "--run", str(options.work / name), "--", "--order", order,
            "--profile-steps", "0", *words, "--seconds", f"{left:.0f}", "--add", file, "--out", file,
        ]  # fmt: skip
        return Step(name, 1, least, command, f"{name}.json", unpacked=True)

    first = "upstream" if options.peer else "routing"
    yield serving(
        "mtp", 150, f"{first},series,series,{first}", "--mtp", "--batches", "1,4,8", "--reps", "3",
        "--not-slower", f"series:{first}",
    )  # fmt: skip
    yield serving(
        "workloads", 200, "fixes,routing,series,series,routing,fixes", "--reps", "1",
        "--workload", "1000/1000x16", "--workload", "8000/1000x8",
    )  # fmt: skip


def given_files(options: argparse.Namespace) -> list[tuple[str, Path]]:
    """The files of other projects that the benchmarks get, by the names of their options."""
    files = ((name, getattr(options, name.replace("-", "_"))) for name in _FILES)
    return [(name, file) for name, file in files if file is not None]


def visible_gpus() -> list[str]:
    """The GPUs of this host, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [gpu for gpu in named.split(",") if gpu.strip()]
    with suppress(OSError, subprocess.SubprocessError):
        ran = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        return ran.stdout.split()
    return []


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Fill a session of a GPU host with measurements.")
    add = parser.add_argument
    path = lambda word: Path(word).absolute()
    add("bundle", type=path)
    add("--out", type=path, required=True, metavar="DIR")
    add("--seconds", type=float, default=590.0, help="of the whole session")
    add("--only", action="append", default=[], metavar="NAME")
    add("--work", type=path, metavar="DIR", help="what is unpacked and compiled")
    add("--list", action="store_true", help="say which steps would run, and run nothing")
    for name in _FILES:
        add(f"--{name}", type=path, metavar="FOLDER" if name == "sglang" else "FILE")
    options = parser.parse_args(words)
    options.work = options.work or Path(tempfile.gettempdir(), "fixtool-session")
    options.unpacked = options.work / "bundle"
    for file in (options.bundle, *(file for _, file in given_files(options))):
        if not file.exists():
            parser.error(f"there is no {file}")
    named = [step.name for step in steps(options)]
    if unknown := set(options.only) - set(named):
        parser.error(f"no step is named {', '.join(sorted(unknown))}: {', '.join(named)}")
    return options


def main(options: argparse.Namespace) -> int:
    start = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    passed = {note["name"] for note in earlier_notes(options.out) if note["outcome"] == "passed"}
    wanted = options.only or [step.name for step in steps(options)]
    todo = [step for step in steps(options) if step.name in wanted and step.name not in passed]
    if options.list:
        for step in todo:
            print(
                f"{step.name:12} {step.gpus} GPU{'s' * (step.gpus > 1)}, {step.least:.0f} s at least"
            )
        return 0
    gpus = visible_gpus()
    if not gpus:
        print("session: no CUDA GPU on this host", file=sys.stderr)
        return 4
    try:
        if any(step.unpacked for step in todo):
            env = prepare(options.bundle, options.unpacked)
            for step in todo:
                step.env = {**env, **step.env} if step.unpacked else step.env
        session = Session(gpus, options.out, options.seconds - (time.monotonic() - start))
        return session.run(todo)
    finally:
        stop_compiling()


def _end(number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    options = parse_arguments()
    for each in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _end)
    try:
        sys.exit(main(options))
    except KeyboardInterrupt:
        sys.exit(130)
