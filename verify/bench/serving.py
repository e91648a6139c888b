"""Times real SGLang servers of several trees on one GPU, one boot after the other: decode, prefill, and
routing's share of a decode step.

    serving.py --tree NAME=FOLDER … [--kernel NAME=FILE …] [--order A,B,C,C,B,A] [--seconds N]
               [--batches 1,16,64] [--mtp [--accept-drafts]] [--workload IN/OUTxN …] [--patch SLUG] [--not-slower NAME:THAN]
               [--add JSON] [--out JSON] [-- server flags]

FOLDER holds python/sglang. --kernel replaces the tree's gemma4_fused_routing by FILE's, in a folder of
links; the call site stays the tree's. The model has the shapes of Gemma 4 26B-A4B, weights made up on
the GPU (49 GB; contender.py says how), and no MTP, unless --mtp asks for it; --tiny takes the tiny model, to try the command out.
With made-up weights the target agrees with no draft. --accept-drafts has the server accept each all the same,
so that a step gives four tokens of a request, as it does at best on a real checkpoint.

In each boot every batch size runs once to warm up. Then, for each batch size, prompts of random tokens
run with 1 token out and with many, --reps times each: decode tokens/s = batch x (many - 1) / (seconds of
many - median seconds of 1). Prefill tokens/s = prompt tokens / seconds, with 1 token out. In a
contender's first boot a few decode steps of each batch size then run under torch's profiler (trace.py);
last, and once only, since a profiler slows what follows it.

With --workload, SGLang's own bench_serving runs instead (workloads.py): N requests at once of IN random
tokens and OUT tokens out, --reps times in each boot; its rate of tokens out stands in the decode table.

The order goes forth and back (A B C C B A by default), so that a drifting clock affects all alike. A row
is the median of all samples of all boots; its spread is (most - least) / median. A ratio of --not-slower
comes with its 95% interval (summary.py). When --seconds are nearly over, what remains is left out and
listed. --add counts the boots of an earlier run too.

Everything is written to the working directory: logs, traces, and models unless FIXTOOL_SHARED has them.
Exit codes are those of verify/README.md: 1 if a server died, or --not-slower does not hold; 4 if this
host cannot run it, or a contender of the order was never timed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import random
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from fixtool.verify.answer import BROKE, CANNOT_RUN, FAILED, PASSED, Answer, answer
from verify.bench import trace, workloads
from verify.bench.bytecode import compile_in_background, stop_compiling
from verify.bench.contender import Contender, folders_of_modules
from verify.bench.summary import decode_rates, ratios, summarise, table
from verify.bench.timed_server import FULL, TINY, TimedServer
from verify.server import checkpoint, gpu, tiny_models
from verify.server.boot import end_on_signals
from verify.server.log import ServerLog
from verify.server.process import RequestRefused, ServerHangs, ServerLost

_STOP_SECONDS = 10.0  # reserved to stop a server and to write the results
_FIRST_BOOT_SECONDS = 60.0  # the first boot is not started with less than this left
_ANSWER_SECONDS = 300.0  # within which a server answers that does not hang
_FREED_SECONDS = 30.0  # within which a stopped server's GPU memory is free again
Answered = TypeVar("Answered")


class OutOfTime(Exception):
    """--seconds are nearly over."""


class Clock:
    """The seconds since the start, and those that remain of --seconds."""

    def __init__(self, seconds: float | None) -> None:
        self.start = time.monotonic()
        self._seconds = float("inf") if seconds is None else seconds

    def passed(self) -> float:
        return round(time.monotonic() - self.start, 1)

    def remaining(self) -> float:
        """Seconds until a server has to be stopped. Raises OutOfTime if there are none."""
        seconds = self.start + self._seconds - _STOP_SECONDS - time.monotonic()
        if seconds <= 0:
            raise OutOfTime
        return seconds


# --- the run ------------------------------------------------------------------------------------


class ServingBench:
    """A whole run: the boots in order, their measurements, and the answer."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.clock = Clock(options.seconds)
        self.folder = Path.cwd()
        self.size = TINY if options.tiny else FULL
        self.batches = options.batches or self.size.batches
        self.workloads: list[workloads.Workload] = options.workload
        self.rows = [each.name for each in self.workloads] or [str(b) for b in self.batches]
        self.contenders: dict[str, Contender] = options.contenders
        self.names = list(self.contenders)
        self.left_out: list[str] = []
        self.boots: list[dict[str, Any]] = []
        self.details: dict[str, Any] = {"schema": 1}
        self.compiling = False
        self.limit = options.boot_timeout or (300.0 if options.tiny else 600.0)

    def say(self, text: str) -> None:
        print(f"[{self.clock.passed():6.1f} s] {text}", flush=True)

    def run(self) -> Answer:
        self._prepare()
        self._add_earlier_boots()
        dead: set[str] = set()
        try:
            for number, name in enumerate(self.options.order):
                what = f"boot {number + 1} of {len(self.options.order)}: {name}"
                if name in dead:
                    self.left_out.append(f"{what} (it died before)")
                    continue
                try:
                    if self.clock.remaining() < self._boot_takes():
                        raise OutOfTime
                    boot = self._boot(name, what)
                except OutOfTime:
                    self.left_out.append(f"{what} (out of time)")
                    continue
                if boot["problem"]:
                    dead.add(name)
                self._save()
        finally:
            stop_compiling()
            self._save()
        return self._answer()

    def _boot_takes(self) -> float:
        """Seconds that a boot needs at least. The first is the slowest: it compiles for all."""
        took = [boot["seconds"] for boot in self.boots if not boot["earlier"]]
        return 0.8 * min(took) if took else _FIRST_BOOT_SECONDS

    # --- before -----------------------------------------------------------------------------------

    def _add_earlier_boots(self) -> None:
        """Add the boots of --add, which must be of the same trees and workload on the same kind of GPU."""
        if self.options.add is None or not self.options.add.is_file():
            return
        try:
            earlier = json.loads(self.options.add.read_text(encoding="utf-8"))
            boots = [boot for boot in earlier["boots"] if boot["contender"] in self.names]
            was, now = _identity(earlier, self.names), _identity(self.details, self.names)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Answer(BROKE, f"--add {self.options.add}: {error!r}") from None
        if other := [key for key in now if was.get(key, now[key]) != now[key]]:
            raise Answer(BROKE, f"--add {self.options.add} has another {', '.join(other)}")
        self.boots = [boot | {"earlier": True} for boot in boots]

    def _prepare(self) -> None:
        self.gpu = gpu.first_gpu()
        shared = Path(os.environ.get("FIXTOOL_SHARED") or self.folder)
        try:
            self.models = tiny_models.make(shared / f"models-{self.size.model}", self.size.model)
        except OSError as error:
            raise Answer(CANNOT_RUN, f"cannot make the models: {error}") from None
        dummy = self.size.model == "full"
        self.weights = checkpoint.check_weights(self.models, dummy=dummy) / 2**30
        self._require_memory(0.0)
        config = json.loads((self.models.target / "config.json").read_text(encoding="utf-8"))
        self.layers = config["text_config"]["num_hidden_layers"]
        shutil.rmtree(self.folder / "trees", ignore_errors=True)
        for name, contender in self.contenders.items():
            place = self.folder / "trees" / name
            contender.lay_out(place, dummy=dummy, accept=self.options.accept_drafts)
        self.details |= {
            "size": self.size.model,
            "batches": list(self.batches),
            "mtp": self.options.mtp,
            "accept_drafts": self.options.accept_drafts,
            "workloads": [each.name for each in self.workloads],
            "prompt": self.size.prompt,
            "out": self.size.out,
            "prefill": list(self.size.prefill),
            "layers": self.layers,
            "patch": self.options.patch,
            "order": self.options.order,
            "device": self.gpu.label,
            "driver": _driver(),
            "versions": _versions(),
            "contenders": {name: c.details() for name, c in self.contenders.items()},
        }
        self.say(
            f"{self.gpu.label}, {self.gpu.free:.1f} GiB free; {self.size.model} model; "
            f"order {' '.join(self.options.order)}"
        )

    def _require_memory(self, wait: float) -> None:
        """Wait up to ``wait`` seconds until the GPU has room for the model, after an earlier server."""
        end = time.monotonic() + wait
        while True:
            try:
                return gpu.require_memory(self.gpu, self.weights, self.size.reserve)
            except Answer as raised:
                if raised.code != CANNOT_RUN or time.monotonic() > end:
                    raise
            time.sleep(1.0)
            self.gpu = gpu.first_gpu()

    # --- a boot -----------------------------------------------------------------------------------

    def _boot(self, name: str, what: str) -> dict[str, Any]:
        number = len(self.boots) + 1
        boot: dict[str, Any] = {
            "contender": name, "number": number, "earlier": False, "problem": None,
            "ready_s": None, "decode": {}, "prefill": {}, "routing": {},
        }  # fmt: skip
        start = time.monotonic()
        self.gpu = gpu.first_gpu()
        self._require_memory(_FREED_SECONDS)
        log = ServerLog(self.folder / f"server-{number}-{name}.log")
        server = TimedServer(
            self.contenders[name], self.models, log,
            self.size, self._graph_sizes(), self._flags(), mtp=self.options.mtp,
        )  # fmt: skip
        env = server.environment(self.folder / "live")
        gpu.set_cuda_paths(env, self.folder / "cuda-links")
        boot["command"] = server.command
        self.say(f"{what}; log: {log.path.name}")
        try:
            server.launch(env)
            if not self.compiling and "PYTHONPYCACHEPREFIX" in env:
                self._compile(env)
            self._wait(server, log, boot, start)
            self.boots.append(boot)  # from here on its measurements count
            boot["server"] = server.info()
            self._measure(server, boot)
        except OutOfTime:
            if boot["ready_s"] is None:
                raise
            self.left_out.append(f"{what}: {self._unmeasured(boot)} (out of time)")
        except (ServerHangs, RequestRefused) as error:
            boot["problem"] = self._problem(server, log, error)
            if boot not in self.boots:
                self.boots.append(boot)
            self.say(f"{name}: {boot['problem']}")
        finally:
            alive = server.stop()
            boot["seconds"] = round(time.monotonic() - start, 1)
        if alive:
            raise Answer(BROKE, f"processes of the server that would not die: {alive}")
        return boot

    def _graph_sizes(self) -> tuple[int, ...]:
        return workloads.graph_sizes(self.workloads) if self.workloads else self.batches

    def _flags(self) -> list[str]:
        room = workloads.server_flags(self.workloads) if self.workloads else []
        return [*room, *self.options.more]

    def _compile(self, env: dict[str, str]) -> None:
        """Compile the bytecode of all trees in the background, while the first of them boots."""
        self.compiling = True
        trees = [contender.folder for contender in self.contenders.values()]
        unmarked = {name: value for name, value in env.items() if name != "FIXTOOL_SERVER"}
        folders = [folder for tree in trees for folder in folders_of_modules(tree)]
        compile_in_background(folders, unmarked, jobs=4)

    def _wait(
        self, server: TimedServer, log: ServerLog, boot: dict[str, Any], start: float
    ) -> None:
        while not server.ready():
            log.read()
            if server.gone() or time.monotonic() > log.fatal_at + _STOP_SECONDS:
                raise ServerLost("it is gone")
            if time.monotonic() > start + self.limit:
                raise ServerHangs(f"not ready after {self.limit:.0f} s")
            self.clock.remaining()
            time.sleep(0.2)
        boot["ready_s"] = round(time.monotonic() - start, 1)
        self.say(f"ready after {boot['ready_s']} s")

    def _problem(self, server: TimedServer, log: ServerLog, error: Exception) -> str:
        """What is wrong, in a line."""
        dead = server.settle(error) or log.fatal_at < float("inf")
        what = f"died: {log.cause_of_death()}" if dead else f"{error}; last line: {log.last}"
        return f"{what}; log: {log.path.name}"

    def _unmeasured(self, boot: dict[str, Any]) -> str:
        what = "workload" if self.workloads else "batch"
        parts = [f"{what} {row}" for row in self.rows if row not in boot["decode"]]
        parts += [] if boot["prefill"] or self.workloads else ["prefill"]
        return ", ".join(parts) or "its profile"

    def _measure(self, server: TimedServer, boot: dict[str, Any]) -> None:
        size = self.size
        if self.workloads:
            self._measure_workloads(server, boot)
            return
        for turn in ("warm", "warm again"):  # the split of a batch into prefills varies a little
            self._run(server, *size.prefill, 1, turn)
            for batch in self.batches:
                self._run(server, batch, size.prompt, 8, turn)
        self.say("warm")
        for batch in self.batches:
            first, whole = (
                [
                    self._run(server, batch, size.prompt, out, rep)
                    for rep in range(self.options.reps)
                ]
                for out in (1, size.out)
            )
            boot["decode"][str(batch)] = {
                "first_s": [round(seconds, 5) for seconds, _ in first],
                "whole_s": [round(seconds, 5) for seconds, _ in whole],
                "different_answers": min(different for _, different in whole),
                "tokens_per_s": decode_rates(
                    batch, size.out, [run[0] for run in first], [run[0] for run in whole]
                ),
            }
            self.say(f"decode, batch {batch}: {boot['decode'][str(batch)]['tokens_per_s']}")
        prompts, length = size.prefill
        runs = [self._run(server, prompts, length, 1, rep)[0] for rep in range(self.options.reps)]
        boot["prefill"][f"{prompts}x{length}"] = {
            "seconds": [round(seconds, 5) for seconds in runs],
            "tokens_per_s": [round(prompts * length / seconds, 1) for seconds in runs],
        }
        self.say(f"prefill: {boot['prefill'][f'{prompts}x{length}']['tokens_per_s']}")
        profiled = {
            batch
            for other in self.boots
            if other["contender"] == boot["contender"]
            for batch, routing in other["routing"].items()
            if "share_percent" in routing
        }
        for batch in self.batches:
            if self.options.profile_steps and str(batch) not in profiled:
                self._profile(server, boot, batch)
                if server.gone():
                    return

    def _measure_workloads(self, server: TimedServer, boot: dict[str, Any]) -> None:
        """Run each workload --reps times. A repetition that is finished is kept."""
        env = server.environment(self.folder / "live")
        for batch in self._graph_sizes():
            self._run(server, batch, self.size.prompt, 8, "warm")
        self.say("warm")
        for rep in range(self.options.reps):
            for number, each in enumerate(self.workloads):
                out = self.folder / f"bench-{boot['number']}-{number}-{rep}.jsonl"
                out.unlink(missing_ok=True)
                call = partial(
                    workloads.run, each, server.port, self.models.target, env, out, rep + 1
                )
                found = self._in_time(call)
                row = boot["decode"].setdefault(each.name, {"tokens_per_s": [], "reported": []})
                row["tokens_per_s"].append(round(found["output_throughput"], 2))
                row["reported"].append(found)
                self.say(f"{each.name}: {json.dumps(found)}")
                self._save()

    def _run(
        self, server: TimedServer, batch: int, length: int, out: int, rep: object
    ) -> tuple[float, int]:
        """Time one batch: its seconds, and its number of different answers. The prompts are the
        same for every contender, and others for every repetition, so that no prefix is cached."""
        drawn = random.Random(f"{batch} {length} {out} {rep}")
        prompts = [
            [drawn.choice(self.size.vocabulary) for _ in range(length)] for _ in range(batch)
        ]
        return self._in_time(partial(server.time, prompts, out))

    def _in_time(self, ask: Callable[[float], Answered]) -> Answered:
        """What the server answers within the seconds that ``ask`` is given. Raises ServerHangs if there
        is no answer in _ANSWER_SECONDS, and OutOfTime if fewer remained."""
        remaining = self.clock.remaining()
        try:
            return ask(min(_ANSWER_SECONDS, remaining))
        except ServerHangs:
            if remaining < _ANSWER_SECONDS:
                raise OutOfTime from None
            raise

    # --- the profile ------------------------------------------------------------------------------

    def _profile(self, server: TimedServer, boot: dict[str, Any], batch: int) -> None:
        """Measure routing's share of some decode steps under the profiler. If the profiler fails,
        only this row is missing."""
        steps = self.options.profile_steps
        folder = self.folder / "traces" / f"{boot['number']}-{boot['contender']}-{batch}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        request = {
            "output_dir": str(folder),
            "num_steps": steps,
            "activities": ["GPU"],
            "profile_by_stage": True,  # two traces, and one holds decode steps only
            "with_stack": False,
            "record_shapes": False,
        }
        try:
            server.fetch("/start_profile", request, timeout=min(60.0, self.clock.remaining()))
            self._run(server, batch, self.size.prompt, steps + 12, "profile")
            routing = trace.routing(self._trace(folder), self.layers)
        except (ServerHangs, RequestRefused, trace.NoRouting) as error:
            routing = {"problem": str(error)}
            if server.settle(error):
                routing["problem"] += "; the server went down with the profiler"
        boot["routing"][str(batch)] = routing
        self.say(f"routing, batch {batch}: {json.dumps(routing)}")

    def _trace(self, folder: Path) -> list[trace.Kernel]:
        """The trace of the decode steps, once it is complete."""
        end = time.monotonic() + min(60.0, self.clock.remaining())
        problem: Exception | None = None
        while time.monotonic() < end:
            for path in sorted(folder.glob("*.json*")):
                if "decode" in path.name.lower():
                    try:
                        return trace.read(path)
                    except (OSError, EOFError, ValueError, KeyError) as error:
                        problem = error
            time.sleep(0.2)
        names = [file.name for file in folder.iterdir()]
        raise trace.NoRouting(f"no decode trace in {names}: {problem!r}")

    # --- the results ------------------------------------------------------------------------------

    def _save(self) -> None:
        """Write the results so far, so that they remain if the run is stopped."""
        self.details |= {
            "boots": self.boots,
            "left_out": self.left_out,
            "summary": summarise(self.boots, self.names),
            "ratios": {
                f"{name}:{than}": ratios(self.boots, name, than)
                for name, than in self.options.not_slower
            },
            "seconds": self.clock.passed(),
        }
        if self.options.out:
            staged = self.options.out.with_name(f".{self.options.out.name}.{os.getpid()}")
            staged.write_text(json.dumps(self.details, indent=1), encoding="utf-8")
            staged.replace(self.options.out)

    def _answer(self) -> Answer:
        summary = self.details["summary"]
        print(*table(summary, self.names), sep="\n")
        for what in self.left_out:
            print(f"left out: {what}")
        text = f"{len(self.boots)} boots on {self.gpu.label}, {self.clock.passed():.0f} s"
        if self.left_out:
            text += f", {len(self.left_out)} things left out"
        problems = [f"{b['contender']}: {b['problem']}" for b in self.boots if b["problem"]]
        never = [
            name
            for name in dict.fromkeys(self.options.order)
            if not any(name in row for row in summary["decode"].values())
        ]
        if problems:
            return Answer(FAILED, f"{text}; {'; '.join(problems)}", self.details)
        if never:
            return Answer(CANNOT_RUN, f"{text}; never timed: {', '.join(never)}", self.details)
        for name, than in self.options.not_slower:
            times = self.details["ratios"][f"{name}:{than}"]
            text += f"; {name} / {than}: "
            text += ", ".join(
                f"{ratio:.4f} ({low:.3f} to {high:.3f}) at batch {batch}"
                for batch, (ratio, low, high) in times.items()
            )
            least = 1 - self.options.tolerance / 100
            slowest = min((ratio for ratio, _, _ in times.values()), default=0.0)
            if set(times) != set(self.rows) or slowest < least:
                text += f"; not shown: at least {least:g} at every batch"
                return Answer(FAILED, text, self.details)
        return Answer(PASSED, text, self.details)


def _identity(details: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """What must be equal for the boots of two runs to be comparable."""
    keys = ("versions", "size", "batches", "driver")
    identity = {key: details[key] for key in keys}
    # Another card of a host will do, if it is of the same kind: a session gives each step one that is free.
    identity["device"] = re.sub(r"^GPU \S+ ", "", details["device"])
    identity |= {
        key: details.get(key) or None for key in ("mtp", "accept_drafts", "workloads")
    }  # not in older files
    for name in names:
        if (contender := details["contenders"].get(name)) is not None:
            identity[name] = contender["python_tree"], (contender["kernel"] or {}).get("blob")
    return identity


def _driver() -> str | None:
    """The NVIDIA driver's version, from its kernel module; None if there is none."""
    with suppress(OSError):
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
        if version := re.search(r"\b\d{3}\.\d+(\.\d+)?\b", text):
            return version[0]
    return None


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in ("torch", "triton", "transformers", "sglang-kernel", "flashinfer-python"):
        versions[name] = None
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


# --- the command line ---------------------------------------------------------------------------


def _named_paths(words: list[str], option: str, fail: Any) -> dict[str, Path]:
    """NAME=PATH words as a dict of absolute paths; ``fail`` gets the message if one is wrong."""
    paths: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or not re.fullmatch(r"[\w.+-]+", name) or not path:
            fail(f"{option} {word}: not NAME=PATH, with a name of letters, digits and . + - _")
        if name in paths:
            fail(f"{option} {word}: {name} is there twice")
        paths[name] = Path(path).absolute()
    return paths


def _numbers(word: str) -> tuple[int, ...]:
    numbers = tuple(sorted({int(number) for number in word.split(",")}))
    if not numbers or numbers[0] < 1:
        raise ValueError
    return numbers


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Time real SGLang servers of several trees, in turns."
    )
    add = parser.add_argument
    add("--tree", action="append", required=True, metavar="NAME=FOLDER")
    add("--kernel", action="append", default=[], metavar="NAME=FILE")
    add("--patch", metavar="SLUG", help="the patch that the last tree has and the first lacks")
    add("--order", metavar="A,B,…", help="default: the trees as given, and back")
    add("--batches", type=_numbers, metavar="1,16,64")
    add("--mtp", action="store_true", help="with the assistant: 4 draft tokens a request")
    add("--accept-drafts", action="store_true", help="with --mtp: accept every draft")
    add(
        "--workload",
        type=workloads.workload,
        action="append",
        default=[],
        metavar="IN/OUTxN",
        help="by bench_serving, in place of --batches",
    )
    add("--reps", type=int, default=3, help="of each timing, in each boot")
    add("--tiny", action="store_true", help="the tiny model, to try the command out")
    add("--seconds", type=float, help="end well within these; default: no limit")
    add("--boot-timeout", type=float, metavar="SECONDS", help="600; --tiny: 300")
    add("--profile-steps", type=int, default=10, help="decode steps; 0: no profile")
    add("--not-slower", action="append", default=[], metavar="NAME:THAN")
    add("--tolerance", type=float, default=1.0, metavar="PERCENT")
    add("--add", type=Path, metavar="JSON", help="count an earlier run's boots too")
    add("--out", type=Path, metavar="JSON", help="every number; kept up to date")
    add("more", nargs="*", help="after --: more flags for the servers")
    options = parser.parse_args(words)
    trees = _named_paths(options.tree, "--tree", parser.error)
    kernels = _named_paths(options.kernel, "--kernel", parser.error)
    options.contenders = {
        name: Contender(name, tree, kernels.pop(name, None)) for name, tree in trees.items()
    }
    for name in kernels:
        parser.error(f"--kernel {name}: no --tree has that name")
    size = TINY if options.tiny else FULL
    names = list(trees)
    options.order = options.order.split(",") if options.order else names + names[::-1]
    options.not_slower = [tuple(pair.split(":")) for pair in options.not_slower]
    for name in (*options.order, *(name for pair in options.not_slower for name in pair)):
        if name not in trees:
            parser.error(f"no --tree is named {name!r}")
    if any(len(pair) != 2 for pair in options.not_slower):
        parser.error("--not-slower wants NAME:THAN")
    if options.accept_drafts and not options.mtp:
        parser.error("--accept-drafts wants --mtp")
    if options.reps < 1 or options.profile_steps < 0:
        parser.error("--reps is at least 1, --profile-steps at least 0")
    if options.batches and options.batches[-1] > size.batches[-1]:
        parser.error(f"--batches: the {size.model} model's server takes {size.batches[-1]} at most")
    return options


def main(options: argparse.Namespace) -> Answer:
    end_on_signals()
    return ServingBench(options).run()


if __name__ == "__main__":
    options = parse_arguments()  # outside of answer(): --help is no answer
    answer(lambda: main(options))
