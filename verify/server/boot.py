"""Check: boots a real SGLang server of this tree, and says what became of it.

    --dies-with REGEX   it must die, and its log must hold this
    --serves            it must become healthy and generate, with MTP on, and its routing must be
                        this tree's kernel and agree with the oracle

Tiny models are made on the spot; --model takes a real checkpoint instead. The log is server.log in
the working directory, and live.log, at the end, what its processes said of themselves. Runs under
the contract of verify/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from fixtool.verify.answer import BROKE, CANNOT_RUN, FAILED, PASSED, Answer, answer, tree
from verify.server import checkpoint
from verify.server import evidence as life
from verify.server import gpu as host
from verify.server import tiny_models as models
from verify.server.layout import ONE_GPU
from verify.server.log import ServerLog
from verify.server.process import Hang, Lost, Refused, Server, prompts

# After its message, or after one of its processes gave up, a server gets this long to be gone.
_LAST_WORDS_SECONDS = 10.0
# The host's packages, not the tree's own modules: those are the tree's fault.
_LACKS = re.compile(r"ModuleNotFoundError: No module named '(?!sglang\b)([\w.]+)'")
_ADDRESS_IN_USE = re.compile(r"address already in use|Errno 98", re.IGNORECASE)


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    asked = argparse.ArgumentParser(
        description="Boot a real SGLang server of the tree in FIXTOOL_TREE, and judge it."
    )
    want = asked.add_mutually_exclusive_group(required=True)
    want.add_argument("--dies-with", metavar="REGEX", help="it must die, with this in its log")
    want.add_argument("--serves", action="store_true", help="it must serve, and route as it should")
    how = asked.add_mutually_exclusive_group()
    how.add_argument("--eager", action="store_true", help="without CUDA graphs")
    how.add_argument("--graphs", action="store_true", help="with CUDA graphs (the default)")
    asked.add_argument("--model", metavar="PATH", help="a real MoE checkpoint, not the tiny models")
    asked.add_argument("--assistant", metavar="PATH", help="its MTP assistant")
    asked.add_argument("--load-format", choices=("auto", "dummy"), default="auto")
    asked.add_argument("--models", type=Path, metavar="DIR", help="where the tiny models are kept")
    asked.add_argument("--port", type=int, help="default: a free one")
    asked.add_argument(
        "--boot-timeout", type=float, metavar="SECONDS", help="300; --model: 1800, --dies-with 800"
    )
    asked.add_argument("--generate-timeout", type=float, default=180.0, metavar="SECONDS")
    asked.add_argument(
        "--min-free-gib", type=float, metavar="GIB", help="GPU memory kept beside the weights"
    )
    asked.add_argument("more", nargs="*", help="after --: more flags for the server")
    return asked.parse_args(given)


class Boot:
    """One server, from what it needs of the host to what is said about it. ``live``, before its
    ".log", names its evidence, ``size`` the models that are made for it."""

    name, live_name, size = "server", "live", "tiny"
    layout, mtp, float32 = ONE_GPU, True, False

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.tree = Path(tree())
        self.here = Path.cwd()
        self.live = self.here / self.live_name
        self.graphs = not given.eager
        self.wanted = None
        if given.dies_with is not None:
            try:
                self.wanted = re.compile(given.dies_with)
            except re.error as error:
                raise Answer(BROKE, f"--dies-with {given.dies_with!r}: {error}") from None
        self.log = ServerLog(self.here / f"{self.name}.log", self.wanted)
        longest = (800.0 if self.wanted else 1800.0) if given.model else 300.0
        self.timeout = given.boot_timeout or longest
        self.details: dict[str, Any] = {}
        self.start = time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.start:6.1f} s] {text}", file=sys.stderr, flush=True)

    def run(self) -> Answer:
        try:
            blobs = self._blobs()
            if not (self.tree / "python" / "sglang" / "launch_server.py").is_file():
                raise Answer(BROKE, f"{self.tree} holds no python/sglang/launch_server.py")
            if self.given.port is not None:
                host.require_port(self.given.port)
            where = self._models()
            server = self._server(where)
            try:
                server.launch(self._environment(server))
                self._boot(server)
                said = self._wanted_death(server) if self.wanted else self._service(server, blobs)
            finally:
                self._stop(server)
            return self._checked(said, blobs)
        except Answer as answered:
            answered.details = {**self.details, **answered.details}
            if answered.code in (FAILED, CANNOT_RUN):
                self._show_log()
            raise

    # --- before -----------------------------------------------------------------------------------

    def _blobs(self) -> dict[str, str]:
        try:
            with open(os.environ["FIXTOOL_TREE_BLOBS"], encoding="utf-8") as file:
                return dict(json.load(file))
        except KeyError:
            raise Answer(
                BROKE, "FIXTOOL_TREE_BLOBS names no file; run me through `fixtool verify`"
            ) from None

    def _models(self) -> models.Models:
        if self.given.model is not None:
            where = checkpoint.real(self.given.model, self.given.assistant)
        else:
            shared = os.environ.get("FIXTOOL_SHARED")
            folder = self.given.models or Path(shared or self.here, f"models-{self.size}")
            try:
                where = models.make(folder, self.size)
            except OSError as error:
                raise Answer(CANNOT_RUN, f"cannot make the tiny models: {error}") from None
        dummy = self.given.load_format == "dummy"
        weights = checkpoint.weights(where, dummy=dummy) / 2**30
        reserve = self.given.min_free_gib
        if reserve is None:
            reserve = 8.0 if self.given.model else 6.0
        seen = host.gpus()
        host.require(seen, self.layout.ranks, self.layout.asked)
        self.gpu, *others = seen[: self.layout.ranks]
        for one in (self.gpu, *others):
            host.require_memory(one, weights, reserve)
            self.say(f"{one.label}: {one.free:.1f} GiB free")
        self.details.update(
            gpu=self.gpu.label, free_gib=round(self.gpu.free, 2), weights_gib=round(weights, 2)
        )
        self.say(f"models in {where.target.parent}")
        return where

    def _server(self, where: models.Models) -> Server:
        self.live.mkdir(exist_ok=True)
        for stale in self.live.iterdir():
            stale.unlink()  # of an earlier server here: it must not speak for this one
        port, nccl = host.free_ports(2)
        server = Server(
            self.tree,
            where,
            self.log,
            port=self.given.port or port,
            nccl_port=nccl,
            graphs=self.graphs,
            real=self.given.model is not None,
            more=[
                *(["--load-format", "dummy"] if self.given.load_format == "dummy" else []),
                *self.given.more,
            ],
            layout=self.layout,
            mtp=self.mtp,
            float32=self.float32,
        )
        self.say(f"port {server.port}, log {self.log.path}")
        return server

    def _environment(self, server: Server) -> dict[str, str]:
        env = server.environment(self.live)
        host.find_cuda(env, self.here / "cuda-links")
        self.details.update(command=server.command, environment=server.changes(env))
        if "CUDA_HOME" not in env:
            self.say("no CUDA toolkit found (CUDA_HOME): kernels that compile at run time may fail")
        return env

    # --- while it boots ---------------------------------------------------------------------------

    def _boot(self, server: Server) -> None:
        """Until it is ready, gone, or has said what it was to die with; else it hangs."""
        self.ready = self.gone = False
        deadline = self.start + self.timeout
        while not self.ready:
            self.log.read()
            now = time.monotonic()
            said = min(self.log.matched_at, self.log.fatal_at)
            if server.gone() or now > said + _LAST_WORDS_SECONDS:
                self.gone = True
                # Its processes may still be writing what it died of.
                settled = now + 1.0
                while self.wanted and not self.log.matched and time.monotonic() < settled:
                    time.sleep(0.1)
                    self.log.read()
                self.log.read(final=True)
                self.details.update(gone_s=self._now(), exit_code=server.exit_code)
                self.say(f"gone, exit code {server.exit_code}")
                return
            if now > deadline:
                self._hangs(server, f"neither ready nor gone after {self.timeout:.0f} s")
            self.ready = server.ready()
            time.sleep(0.1)
        self.details["ready_s"] = self._now()
        self.say("ready")

    def _wanted_death(self, server: Server) -> Answer:
        asked = self.given.dies_with
        if self.ready:
            raise Answer(
                FAILED,
                f"came up healthy after {self.details['ready_s']} s; it was to die with /{asked}/; "
                f"log: {self.log.path.name}",
            )
        if self.log.matched is None:
            raise Answer(
                FAILED,
                f"died of something else than /{asked}/: {self._death(server)}; log: {self.log.path.name}",
            )
        self.details["matched"] = self.log.matched
        after = self.details["gone_s"]
        return Answer(
            PASSED, f"died after {after} s with the message asked for: {self.log.matched}"
        )

    # --- when it is up ----------------------------------------------------------------------------

    def _service(self, server: Server, blobs: dict[str, str]) -> Answer:
        if self.gone:
            raise Answer(FAILED, f"died: {self._death(server)}; log: {self.log.path.name}")
        try:
            self._generate(server)
            health = server.health(within=min(90.0, self.given.generate_timeout))
            info = server.info()
        except Hang as hang:
            self._hangs(server, str(hang))
        except Refused as refused:
            # A crash closes the connection first, and is written to the log a moment later.
            end = time.monotonic() + (5.0 if isinstance(refused, Lost) else 0.0)
            while time.monotonic() < end and not server.gone():
                time.sleep(0.1)
            self.log.read(final=True)
            what = f"died: {self._death(server)}" if server.gone() else str(refused)
            raise Answer(FAILED, f"{what}; log: {self.log.path.name}") from None
        self.details.update(health=health, server_info=info, gpu_used_gib=host.used_gib(self.gpu))
        if health != 200:
            raise Answer(FAILED, f"not healthy: {health}; log: {self.log.path.name}")
        algorithm = info.get("speculative_algorithm")
        verified = [one["spec_verify_ct"] for one in self.generated if one.get("spec_verify_ct")]
        if self.mtp and not algorithm and not verified:
            raise Answer(FAILED, f"it serves, but without MTP; log: {self.log.path.name}")
        if not self.graphs and info.get("disable_cuda_graph") is False:
            raise Answer(FAILED, "it serves with CUDA graphs, which --eager was to switch off")
        evidence = self._evidence()
        if evidence.errors:
            self.details["recorder"] = evidence.errors
            last = str(evidence.errors[0].get("traceback")).strip().splitlines()[-1]
            raise Answer(BROKE, f"the recorder in the server broke: {last}")
        missing = life.verdict(
            evidence, self.tree, blobs, graphs=self.graphs, ranks=self.layout.ranks
        )
        if missing is not None:
            raise Answer(FAILED, f"{missing}; evidence: {self.live_name}.log")
        how = "with CUDA graphs" if self.graphs else "eagerly"
        tokens = sum(one["tokens"] for one in self.generated)
        mtp = f"MTP on ({algorithm})" if self.mtp else "the target alone"
        return Answer(
            PASSED,
            f"ready after {self.details['ready_s']} s, healthy, generated {tokens} tokens {how}, {mtp}: "
            f"{life.in_words(evidence)}",
        )

    def _generate(self, server: Server) -> None:
        """Two prompts, a batch, and a last one whose prefill lets the recorder read what the
        graphs of the others left."""
        self.generated: list[dict[str, Any]] = []
        self.details["generated"] = self.generated
        for name, texts, tokens in prompts(real=self.given.model is not None):
            start = time.monotonic()
            said = server.generate(texts, tokens, self.given.generate_timeout)
            seconds = round(time.monotonic() - start, 2)
            for one in said:
                self.generated.append({"prompt": name, "seconds": seconds, **one})
                if one["tokens"] != tokens:
                    raise Answer(
                        FAILED,
                        f"{name}: {one['tokens']} tokens generated, not {tokens} "
                        f"({one.get('finish_reason')}); log: {self.log.path.name}",
                    )
            self.say(f"generated: {name}, {len(said)} x {tokens} tokens in {seconds} s")

    # --- what is said of it -----------------------------------------------------------------------

    def _death(self, server: Server) -> str:
        self.log.read(final=True)
        if any(_ADDRESS_IN_USE.search(line) for line in self.log.tail):
            raise Answer(
                CANNOT_RUN,
                f"port {server.port} was taken while it booted ({self.log.last}); run it again",
            )
        if (lacks := _LACKS.match(self.log.died_of())) is not None:
            raise Answer(
                CANNOT_RUN,
                f"{sys.executable} lacks the package {lacks[1]} (see verify/requirements/gpu.txt); "
                f"log: {self.log.path.name}",
            )
        if server.exit_code == -signal.SIGKILL and self.log.crash() is None:
            return f"{self.log.died_of()} (killed: out of host memory?)"
        return self.log.died_of()

    def _hangs(self, server: Server, what: str) -> NoReturn:
        self.log.read(final=True)
        self.say(f"hangs: {what}")
        stacks = server.stacks(self.live)
        for one in stacks:
            print(f"--- {one}\n{one.read_text(errors='replace')[-3000:]}", file=sys.stderr)
        hint = f"; where its processes stand: {self.live_name}.log" if stacks else ""
        raise Answer(
            FAILED, f"hangs: {what}; last line: {self.log.last}{hint}; log: {self.log.path.name}"
        )

    def _evidence(self) -> life.Evidence:
        evidence = life.read(self.live)
        self.details["evidence"] = evidence.details()
        return evidence

    def _checked(self, said: Answer, blobs: dict[str, str]) -> Answer:
        """A server that died as it should must have died of this tree's files."""
        if self.wanted:
            wrong = life.strangers(self._evidence(), self.tree, blobs)
            if wrong is not None:
                raise Answer(FAILED, f"{wrong}; evidence: {self.live_name}.log")
        said.details = self.details
        return said

    def _stop(self, server: Server) -> None:
        left = server.stop()
        with open(self.here / f"{self.live_name}.log", "w", encoding="utf-8") as kept:
            for path in sorted((*self.live.glob("*.jsonl"), *self.live.glob("*.stacks"))):
                kept.write(f"--- {path.name}\n{path.read_text(errors='replace')}")
        self.details["total_s"] = self._now()
        self.say("stopped")
        if left:
            raise Answer(BROKE, f"processes of the server that would not die: {left}", self.details)

    def _show_log(self) -> None:
        crash = self.log.crash()
        lines = crash[1] if crash is not None else []
        for title, shown in (("traceback", lines), ("end of the log", list(self.log.tail))):
            if shown:
                print(f"--- {title}", *(one[:300] for one in shown), sep="\n", file=sys.stderr)

    def _now(self) -> float:
        return round(time.monotonic() - self.start, 1)


def end_on_signals() -> None:
    """Let SIGTERM and SIGHUP unwind as Ctrl-C does, so that the server is stopped."""

    def end(number: int, _frame: object) -> NoReturn:
        raise Answer(128 + number, f"ended by {signal.Signals(number).name}")

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, end)


def main(given: argparse.Namespace) -> Answer:
    end_on_signals()
    return Boot(given).run()


if __name__ == "__main__":
    asked = arguments()  # here, since --help is no answer
    answer(lambda: main(asked))
