"""Times real SGLang servers of several trees on one GPU, boot by boot in turns: decode, prefill, and how
much of a decode step is routing.

    serving.py --tree NAME=FOLDER … [--kernel NAME=FILE …] [--order A,B,C,C,B,A] [--seconds N]
               [--batches 1,16,64] [--patch SLUG] [--not-slower NAME:THAN] [--add JSON] [--out JSON] [-- server flags]

FOLDER holds python/sglang. --kernel puts FILE's gemma4_fused_routing in the place of the tree's own, in
a folder of links; the call site stays the tree's. The model has Gemma 4 26B-A4B's shapes and weights made
up on the GPU (49 GB; contender.py says how), no MTP; --tiny takes the tiny model, for a rehearsal.

A boot: each batch once to warm up; then, for each batch, prompts of random tokens with 1 token out and
with many, --reps times each: decode tokens/s = batch x (many - 1) / (seconds of many - median seconds of 1).
Prefill tokens/s = prompt tokens / seconds, 1 token out. Last, in a contender's first boot only, since a
profiler slows what comes after it: a few decode steps of each batch under torch's profiler (trace.py).

The order goes there and back (A B C C B A unless told otherwise), so that a drifting clock drifts under
all alike. A row is the median of all samples of all boots; its spread is (most - least) / median; a
ratio of --not-slower comes with its 95% interval (rows.py), which says what that spread leaves open. When
--seconds are nearly over, what is left is named and left out. --add takes an earlier run's boots in.

Everything goes to the working directory: logs, traces, and models unless FIXTOOL_SHARED has some. Exit
codes are answer.py's: 1 if a server died, or --not-slower was not so; 4 if this host cannot, or a
contender was never timed.
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
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from fixtool.verify.answer import BROKE, CANNOT_RUN, FAILED, PASSED, Answer, answer
from verify.bench import trace
from verify.bench.contender import Contender, compile_ahead
from verify.bench.summary import decode_rates, ratios, summarise, table
from verify.bench.timed_server import FULL, TINY, Timed
from verify.server import checkpoint
from verify.server import gpu as host
from verify.server import tiny_models as models
from verify.server.boot import end_on_signals
from verify.server.log import ServerLog
from verify.server.process import Hang, Lost, Refused

_STOP_SECONDS = 10.0  # kept back to stop a server and to write down what was seen
_FIRST_BOOT_SECONDS = 60.0  # with less than this left, not even the first boot is begun
_FREED_SECONDS = 30.0  # how long a stopped server's GPU memory may take to be free again


class OutOfTime(Exception):
    """--seconds are nearly over."""


class Clock:
    """Seconds since the start, and until --seconds are over."""

    def __init__(self, seconds: float | None) -> None:
        self.start = time.monotonic()
        self._seconds = float("inf") if seconds is None else seconds

    def passed(self) -> float:
        return round(time.monotonic() - self.start, 1)

    def left(self) -> float:
        """Until a server has to be stopped; OutOfTime where that is now."""
        left = self.start + self._seconds - _STOP_SECONDS - time.monotonic()
        if left <= 0:
            raise OutOfTime
        return left


# --- the run ------------------------------------------------------------------------------------


class Bench:
    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.clock = Clock(given.seconds)
        self.here = Path.cwd()
        self.size = TINY if given.tiny else FULL
        self.batches = given.batches or self.size.batches
        self.contenders: dict[str, Contender] = given.contenders
        self.names = list(self.contenders)
        self.left_out: list[str] = []
        self.boots: list[dict[str, Any]] = []
        self.details: dict[str, Any] = {"schema": 1}
        self.compiling: subprocess.Popen[bytes] | None = None
        self.limit = given.boot_timeout or (300.0 if given.tiny else 600.0)

    def say(self, text: str) -> None:
        print(f"[{self.clock.passed():6.1f} s] {text}", flush=True)

    def run(self) -> Answer:
        self._prepare()
        self._earlier()
        dead: set[str] = set()
        try:
            for number, name in enumerate(self.given.order):
                what = f"boot {number + 1} of {len(self.given.order)}: {name}"
                if name in dead:
                    self.left_out.append(f"{what} (it died before)")
                    continue
                try:
                    if self.clock.left() < self._boot_takes():
                        raise OutOfTime
                    boot = self._boot(name, what)
                except OutOfTime:
                    self.left_out.append(f"{what} (out of time)")
                    continue
                if boot["problem"]:
                    dead.add(name)
                self._save()
        finally:
            if self.compiling is not None:
                self.compiling.kill()
            self._save()
        return self._verdict()

    def _boot_takes(self) -> float:
        """Seconds that a boot must be given. The first is the slowest: it compiles for all."""
        took = [one["seconds"] for one in self.boots if not one["earlier"]]
        return 0.8 * min(took) if took else _FIRST_BOOT_SECONDS

    # --- before -----------------------------------------------------------------------------------

    def _earlier(self) -> None:
        """Boots of --add, if they were of the same trees and workload on such a GPU."""
        if self.given.add is None or not self.given.add.is_file():
            return
        try:
            said = json.loads(self.given.add.read_text(encoding="utf-8"))
            boots = [one for one in said["boots"] if one["contender"] in self.names]
            was, now = _identity(said, self.names), _identity(self.details, self.names)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Answer(BROKE, f"--add {self.given.add}: {error!r}") from None
        if other := [key for key in now if was.get(key, now[key]) != now[key]]:
            raise Answer(BROKE, f"--add {self.given.add} has another {', '.join(other)}")
        self.boots = [one | {"earlier": True} for one in boots]

    def _prepare(self) -> None:
        self.gpu = host.gpu()
        shared = Path(os.environ.get("FIXTOOL_SHARED") or self.here)
        try:
            self.where = models.make(shared / f"models-{self.size.model}", self.size.model)
        except OSError as error:
            raise Answer(CANNOT_RUN, f"cannot make the models: {error}") from None
        dummy = self.size.model == "full"
        self.weights = checkpoint.weights(self.where, dummy=dummy) / 2**30
        self._require_memory(0.0)
        config = json.loads((self.where.target / "config.json").read_text(encoding="utf-8"))
        self.layers = config["text_config"]["num_hidden_layers"]
        shutil.rmtree(self.here / "trees", ignore_errors=True)
        for name, one in self.contenders.items():
            one.lay_out(self.here / "trees" / name, dummy=dummy)
        self.details |= {
            "size": self.size.model,
            "batches": list(self.batches),
            "prompt": self.size.prompt,
            "out": self.size.out,
            "prefill": list(self.size.prefill),
            "layers": self.layers,
            "patch": self.given.patch,
            "order": self.given.order,
            "device": self.gpu.label,
            "driver": _driver(),
            "versions": _versions(),
            "contenders": {name: one.details() for name, one in self.contenders.items()},
        }
        self.say(
            f"{self.gpu.label}, {self.gpu.free:.1f} GiB free; {self.size.model} model; "
            f"order {' '.join(self.given.order)}"
        )

    def _require_memory(self, wait: float) -> None:
        """Enough for the model, which the server before may take a moment to give back."""
        end = time.monotonic() + wait
        while True:
            try:
                return host.require_memory(self.gpu, self.weights, self.size.reserve)
            except Answer as little:
                if little.code != CANNOT_RUN or time.monotonic() > end:
                    raise
            time.sleep(1.0)
            self.gpu = host.gpu()

    # --- a boot -----------------------------------------------------------------------------------

    def _boot(self, name: str, what: str) -> dict[str, Any]:
        number = len(self.boots) + 1
        boot: dict[str, Any] = {
            "contender": name, "number": number, "earlier": False, "problem": None,
            "ready_s": None, "decode": {}, "prefill": {}, "routing": {},
        }  # fmt: skip
        begun = time.monotonic()
        self.gpu = host.gpu()
        self._require_memory(_FREED_SECONDS)
        log = ServerLog(self.here / f"server-{number}-{name}.log")
        server = Timed(
            self.contenders[name], self.where, log,
            self.size, self.batches, self.given.more,
        )  # fmt: skip
        env = server.environment(self.here / "live")
        host.find_cuda(env, self.here / "cuda-links")
        boot["command"] = server.command
        self.say(f"{what}; log: {log.path.name}")
        try:
            server.launch(env)
            if self.compiling is None and "PYTHONPYCACHEPREFIX" in env:
                self.compiling = compile_ahead([one.place for one in self.contenders.values()], env)
            self._wait(server, log, boot, begun)
            self.boots.append(boot)  # from here on, what there is of it counts
            boot["server"] = server.info()
            self._measure(server, boot)
        except OutOfTime:
            if boot["ready_s"] is None:
                raise
            self.left_out.append(f"{what}: {self._lacks(boot)} (out of time)")
        except (Hang, Refused) as error:
            boot["problem"] = self._became(server, log, error)
            if boot not in self.boots:
                self.boots.append(boot)
            self.say(f"{name}: {boot['problem']}")
        finally:
            left = server.stop()
            boot["seconds"] = round(time.monotonic() - begun, 1)
        if left:
            raise Answer(BROKE, f"processes of the server that would not die: {left}")
        return boot

    def _wait(self, server: Timed, log: ServerLog, boot: dict[str, Any], begun: float) -> None:
        while not server.ready():
            log.read()
            if server.gone() or time.monotonic() > log.fatal_at + _STOP_SECONDS:
                raise Lost("it is gone")
            if time.monotonic() > begun + self.limit:
                raise Hang(f"not ready after {self.limit:.0f} s")
            self.clock.left()
            time.sleep(0.2)
        boot["ready_s"] = round(time.monotonic() - begun, 1)
        self.say(f"ready after {boot['ready_s']} s")

    def _became(self, server: Timed, log: ServerLog, error: Exception) -> str:
        """What is wrong, in a line. A crash closes the connection before it is in the log."""
        end = time.monotonic() + (5.0 if isinstance(error, Lost) else 0.0)
        while time.monotonic() < end and not server.gone():
            time.sleep(0.1)
        log.read(final=True)
        dead = server.gone() or log.fatal_at < float("inf")
        what = f"died: {log.died_of()}" if dead else f"{error}; last line: {log.last}"
        return f"{what}; log: {log.path.name}"

    def _lacks(self, boot: dict[str, Any]) -> str:
        parts = [f"batch {one}" for one in self.batches if str(one) not in boot["decode"]]
        parts += [] if boot["prefill"] else ["prefill"]
        return ", ".join(parts) or "its profile"

    def _measure(self, server: Timed, boot: dict[str, Any]) -> None:
        size = self.size
        for turn in ("warm", "warm again"):  # how a batch is cut into prefills varies a little
            self._run(server, *size.prefill, 1, turn)
            for batch in self.batches:
                self._run(server, batch, size.prompt, 8, turn)
        self.say("warm")
        for batch in self.batches:
            first, whole = (
                [self._run(server, batch, size.prompt, out, rep) for rep in range(self.given.reps)]
                for out in (1, size.out)
            )
            boot["decode"][str(batch)] = {
                "first_s": [round(one[0], 5) for one in first],
                "whole_s": [round(one[0], 5) for one in whole],
                "different_answers": min(one[1] for one in whole),
                "tokens_per_s": decode_rates(
                    batch, size.out, [one[0] for one in first], [one[0] for one in whole]
                ),
            }
            self.say(f"decode, batch {batch}: {boot['decode'][str(batch)]['tokens_per_s']}")
        prompts, length = size.prefill
        runs = [self._run(server, prompts, length, 1, rep)[0] for rep in range(self.given.reps)]
        boot["prefill"][f"{prompts}x{length}"] = {
            "seconds": [round(one, 5) for one in runs],
            "tokens_per_s": [round(prompts * length / one, 1) for one in runs],
        }
        self.say(f"prefill: {boot['prefill'][f'{prompts}x{length}']['tokens_per_s']}")
        seen = {
            batch
            for one in self.boots
            if one["contender"] == boot["contender"]
            for batch, of in one["routing"].items()
            if "share_percent" in of
        }
        for batch in self.batches:
            if self.given.profile_steps and str(batch) not in seen:
                self._profile(server, boot, batch)
                if server.gone():
                    return

    def _run(
        self, server: Timed, batch: int, length: int, out: int, rep: object
    ) -> tuple[float, int]:
        """The same prompts for every contender, and others for every repetition: no prefix is in
        the cache."""
        drawn = random.Random(f"{batch} {length} {out} {rep}")
        prompts = [
            [drawn.choice(self.size.vocabulary) for _ in range(length)] for _ in range(batch)
        ]
        left = self.clock.left()
        try:
            return server.time(prompts, out, timeout=min(300.0, left))
        except Hang:
            if left < 300.0:
                raise OutOfTime from None
            raise

    # --- the profile ------------------------------------------------------------------------------

    def _profile(self, server: Timed, boot: dict[str, Any], batch: int) -> None:
        """Routing's share, from some decode steps under the profiler. A profiler that fails costs
        this row and no other."""
        steps = self.given.profile_steps
        folder = self.here / "traces" / f"{boot['number']}-{boot['contender']}-{batch}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        asked = {
            "output_dir": str(folder),
            "num_steps": steps,
            "activities": ["GPU"],
            "profile_by_stage": True,  # two traces, and one holds decode steps only
            "with_stack": False,
            "record_shapes": False,
        }
        try:
            server.fetch("/start_profile", asked, timeout=min(60.0, self.clock.left()))
            self._run(server, batch, self.size.prompt, steps + 12, "profile")
            seen = trace.routing(self._trace(folder), self.layers)
        except (Hang, Refused, trace.NoRouting) as error:
            seen = {"problem": str(error)}
            end = time.monotonic() + (5.0 if isinstance(error, Lost) else 0.0)
            while not server.gone() and time.monotonic() < end:
                time.sleep(0.1)
            if server.gone():
                seen["problem"] += "; the server went down with the profiler"
        boot["routing"][str(batch)] = seen
        self.say(f"routing, batch {batch}: {json.dumps(seen)}")

    def _trace(self, folder: Path) -> list[trace.Kernel]:
        """The decode steps' trace, once it has been written to its end."""
        end = time.monotonic() + min(60.0, self.clock.left())
        problem: Exception | None = None
        while time.monotonic() < end:
            for path in sorted(folder.glob("*.json*")):
                if "decode" in path.name.lower():
                    try:
                        return trace.read(path)
                    except (OSError, EOFError, ValueError, KeyError) as error:
                        problem = error
            time.sleep(0.2)
        names = [one.name for one in folder.iterdir()]
        raise trace.NoRouting(f"no decode trace in {names}: {problem!r}")

    # --- what is said -----------------------------------------------------------------------------

    def _save(self) -> None:
        """What there is so far: a run that is ended in the middle leaves it."""
        self.details |= {
            "boots": self.boots,
            "left_out": self.left_out,
            "summary": summarise(self.boots, self.names),
            "ratios": {
                f"{name}:{than}": ratios(self.boots, name, than)
                for name, than in self.given.not_slower
            },
            "seconds": self.clock.passed(),
        }
        if self.given.out:
            staged = self.given.out.with_name(f".{self.given.out.name}.{os.getpid()}")
            staged.write_text(json.dumps(self.details, indent=1), encoding="utf-8")
            staged.replace(self.given.out)

    def _verdict(self) -> Answer:
        summary = self.details["summary"]
        print(*table(summary, self.names), sep="\n")
        for one in self.left_out:
            print(f"left out: {one}")
        said = f"{len(self.boots)} boots on {self.gpu.label}, {self.clock.passed():.0f} s"
        if self.left_out:
            said += f", {len(self.left_out)} things left out"
        problems = [f"{one['contender']}: {one['problem']}" for one in self.boots if one["problem"]]
        never = [
            name
            for name in self.names
            if not any(name in row for row in summary["decode"].values())
        ]
        if problems:
            return Answer(FAILED, f"{said}; {'; '.join(problems)}", self.details)
        if never:
            return Answer(CANNOT_RUN, f"{said}; never timed: {', '.join(never)}", self.details)
        for name, than in self.given.not_slower:
            times = self.details["ratios"][f"{name}:{than}"]
            said += f"; {name} / {than}: "
            said += ", ".join(
                f"{ratio:.4f} ({low:.3f} to {high:.3f}) at batch {batch}"
                for batch, (ratio, low, high) in times.items()
            )
            least = 1 - self.given.tolerance / 100
            slowest = min((ratio for ratio, _, _ in times.values()), default=0.0)
            if set(times) != set(map(str, self.batches)) or slowest < least:
                said += f"; not shown: at least {least:g} at every batch"
                return Answer(FAILED, said, self.details)
        return Answer(PASSED, said, self.details)


def _identity(details: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """What must be the same for two runs' boots to be compared."""
    found = {key: details[key] for key in ("device", "versions", "size", "batches", "driver")}
    for name in names:
        if (one := details["contenders"].get(name)) is not None:
            found[name] = one["python_tree"], (one["kernel"] or {}).get("blob")
    return found


def _driver() -> str | None:
    """The NVIDIA driver's version, as the kernel module tells it."""
    with suppress(OSError):
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
        if found := re.search(r"\b\d{3}\.\d+(\.\d+)?\b", text):
            return found[0]
    return None


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in ("torch", "triton", "transformers", "sglang-kernel", "flashinfer-python"):
        found[name] = None
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


# --- what was asked -----------------------------------------------------------------------------


def _named(words: list[str], option: str, fail: Any) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or not re.fullmatch(r"[\w.+-]+", name) or not path:
            fail(f"{option} {word}: not NAME=PATH, with a name of letters, digits and . + - _")
        if name in found:
            fail(f"{option} {word}: {name} is there twice")
        found[name] = Path(path).absolute()
    return found


def _numbers(word: str) -> tuple[int, ...]:
    found = tuple(sorted({int(one) for one in word.split(",")}))
    if not found or found[0] < 1:
        raise ValueError
    return found


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    asked = argparse.ArgumentParser(
        description="Time real SGLang servers of several trees, in turns."
    )
    asked.add_argument("--tree", action="append", required=True, metavar="NAME=FOLDER")
    asked.add_argument("--kernel", action="append", default=[], metavar="NAME=FILE")
    asked.add_argument("--patch", metavar="SLUG", help="what the last tree has more than the first")
    asked.add_argument("--order", metavar="A,B,…", help="default: the trees as given, and back")
    asked.add_argument("--batches", type=_numbers, metavar="1,16,64")
    asked.add_argument("--reps", type=int, default=3, help="of each timing, in each boot")
    asked.add_argument("--tiny", action="store_true", help="the tiny model: a rehearsal")
    asked.add_argument("--seconds", type=float, help="end well within these; default: no limit")
    asked.add_argument("--boot-timeout", type=float, metavar="SECONDS", help="600; --tiny: 300")
    asked.add_argument("--profile-steps", type=int, default=10, help="decode steps; 0: no profile")
    asked.add_argument("--not-slower", action="append", default=[], metavar="NAME:THAN")
    asked.add_argument("--tolerance", type=float, default=1.0, metavar="PERCENT")
    asked.add_argument("--add", type=Path, metavar="JSON", help="count an earlier run's boots too")
    asked.add_argument("--out", type=Path, metavar="JSON", help="every number; kept up to date")
    asked.add_argument("more", nargs="*", help="after --: more flags for the servers")
    options = asked.parse_args(given)
    trees = _named(options.tree, "--tree", asked.error)
    kernels = _named(options.kernel, "--kernel", asked.error)
    options.contenders = {
        name: Contender(name, tree, kernels.pop(name, None)) for name, tree in trees.items()
    }
    for name in kernels:
        asked.error(f"--kernel {name}: no --tree has that name")
    size = TINY if options.tiny else FULL
    names = list(trees)
    options.order = options.order.split(",") if options.order else names + names[::-1]
    pairs = [tuple(one.split(":")) for one in options.not_slower]
    options.not_slower = pairs
    for name in (*options.order, *(one for pair in pairs for one in pair)):
        if name not in trees:
            asked.error(f"no --tree is named {name!r}")
    if any(len(pair) != 2 for pair in pairs):
        asked.error("--not-slower wants NAME:THAN")
    if options.reps < 1 or options.profile_steps < 0:
        asked.error("--reps is at least 1, --profile-steps at least 0")
    if options.batches and options.batches[-1] > size.batches[-1]:
        asked.error(f"--batches: the {size.model} model's server takes {size.batches[-1]} at most")
    return options


def main(given: argparse.Namespace) -> Answer:
    end_on_signals()
    return Bench(given).run()


if __name__ == "__main__":
    asked = arguments()  # here, since --help is no answer
    answer(lambda: main(asked))
