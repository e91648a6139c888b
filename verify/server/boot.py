"""Boots a real SGLang server of the tree, and checks that it serves, or that it dies as expected.

    --dies-with REGEX   it must die, and a line of its log must match
    --serves            it must become healthy and generate, with MTP on; it must route with this
                        tree's kernel, and as the oracle does

The server gets tiny models, made on the spot, or a real checkpoint with --model. The working directory
gets the server's log, server.log, and in the end the evidence of its processes, live.log. Runs under
the contract of verify/README.md: within the FIXTOOL_SECONDS of the environment, less the time that it
takes to end a server, it answers, and says in which phase it was and where the server's processes stood.
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
from verify.server import checkpoint, gpu, tiny_models
from verify.server.evidence import (
    LiveEvidence,
    foreign_files,
    missing_proof,
    read_evidence,
    summarise,
)
from verify.server.log import ServerLog
from verify.server.process import ONE_GPU, RequestRefused, Server, ServerHangs, prompts

# How long a server may take to end after the wanted message, or after one of its processes gave up.
_LAST_WORDS_SECONDS = 10.0
# Kept back from FIXTOOL_SECONDS: to show stacks and logs, and to end all processes.
_ENDING_SECONDS = 12.0
# A missing package is the host's fault; a missing module of sglang is the tree's.
_MISSING_PACKAGE = re.compile(r"ModuleNotFoundError: No module named '(?!sglang\b)([\w.]+)'")
_ADDRESS_IN_USE = re.compile(r"address already in use|Errno 98", re.IGNORECASE)


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Boot a real SGLang server of the tree in FIXTOOL_TREE, and check it."
    )
    expect = parser.add_mutually_exclusive_group(required=True)
    expect.add_argument("--dies-with", metavar="REGEX", help="it must die, with this in its log")
    expect.add_argument("--serves", action="store_true", help="it must serve, and route right")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--eager", action="store_true", help="without CUDA graphs")
    mode.add_argument("--graphs", action="store_true", help="with CUDA graphs (the default)")
    add = parser.add_argument
    add("--model", metavar="PATH", help="a real MoE checkpoint, not the tiny models")
    add("--assistant", metavar="PATH", help="its MTP assistant")
    add("--load-format", choices=("auto", "dummy"), default="auto")
    add("--models", type=Path, metavar="DIR", help="where the tiny models are kept")
    add("--port", type=int, help="default: a free one")
    add("--boot-timeout", type=float, metavar="S", help="300; --model: 1800, --dies-with 800")
    add("--generate-timeout", type=float, default=180.0, metavar="S")
    add("--min-free-gib", type=float, metavar="GIB", help="GPU memory kept beside the weights")
    add("more", nargs="*", help="after --: more flags for the server")
    return parser.parse_args(words)


class OutOfTime(Answer):
    """The check is nearly over its time. Raised by a signal, wherever the check is."""


class Boot:
    """One run of one server: its preparation, its boot, the checks, and the answer. ``name`` and
    ``live_name`` name its log and its evidence, ``size`` the models that are made for it."""

    name, live_name, size = "server", "live", "tiny"
    layout, mtp, float32 = ONE_GPU, True, False

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.tree = Path(tree())
        self.folder = Path.cwd()
        self.live = self.folder / self.live_name
        self.graphs = not options.eager
        self.wanted = None
        if options.dies_with is not None:
            try:
                self.wanted = re.compile(options.dies_with)
            except re.error as error:
                raise Answer(BROKE, f"--dies-with {options.dies_with!r}: {error}") from None
        self.log = ServerLog(self.folder / f"{self.name}.log", self.wanted)
        longest = (800.0 if self.wanted else 1800.0) if options.model else 300.0
        self.timeout = options.boot_timeout or longest
        self.details: dict[str, Any] = {"phases": {}}
        self.start = self.phase_since = time.monotonic()
        self.phase = "preparation"

    def say(self, text: str) -> None:
        print(f"[{time.monotonic() - self.start:6.1f} s] {text}", file=sys.stderr, flush=True)

    def enter(self, phase: str) -> None:
        """Begin a phase of the check, and note how long the one before took."""
        now = time.monotonic()
        self.details["phases"][self.phase] = round(now - self.phase_since, 1)
        self.phase, self.phase_since = phase, now
        self.say(f"{phase} …")

    def stands(self) -> str:
        return f"{self.name} was in {self.phase} for {time.monotonic() - self.phase_since:.0f} s"

    def run(self) -> Answer:
        try:
            blobs = self._blobs()
            if not (self.tree / "python" / "sglang" / "launch_server.py").is_file():
                raise Answer(BROKE, f"{self.tree} holds no python/sglang/launch_server.py")
            if self.options.port is not None:
                gpu.require_port(self.options.port)
            models = self._models()
            server = self._server(models)
            try:
                server.launch(self._environment(server))
                self._boot(server)
                if self.wanted:
                    result = self._check_death(server)
                else:
                    result = self._check_service(server, blobs)
            except OutOfTime as over:
                self._fail_as_late(server, over)
            finally:
                self._stop(server)
            if self.wanted:
                self._check_files(blobs)
            result.details = self.details
            return result
        except Answer as raised:
            if isinstance(raised, OutOfTime) and self.name not in raised.saw:
                raised.saw += f"; {self.stands()}"
            raised.details = {**self.details, **raised.details}
            if raised.code in (FAILED, CANNOT_RUN):
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

    def _models(self) -> tiny_models.Models:
        """The models to serve, once the GPUs are known to have room for them."""
        if self.options.model is not None:
            models = checkpoint.find_checkpoint(self.options.model, self.options.assistant)
        else:
            shared = os.environ.get("FIXTOOL_SHARED")
            folder = self.options.models or Path(shared or self.folder, f"models-{self.size}")
            try:
                models = tiny_models.make(folder, self.size)
            except OSError as error:
                raise Answer(CANNOT_RUN, f"cannot make the tiny models: {error}") from None
        dummy = self.options.load_format == "dummy"
        weights = checkpoint.check_weights(models, dummy=dummy) / 2**30
        reserve = self.options.min_free_gib
        if reserve is None:
            reserve = 8.0 if self.options.model else 6.0
        gpus = gpu.visible_gpus()
        gpu.require_gpus(gpus, self.layout.ranks, self.layout.options)
        for device in gpus[: self.layout.ranks]:
            gpu.require_memory(device, weights, reserve)
            self.say(f"{device.label}: {device.free:.1f} GiB free")
        self.gpu = gpus[0]
        self.details.update(
            gpu=self.gpu.label, free_gib=round(self.gpu.free, 2), weights_gib=round(weights, 2)
        )
        self.say(f"models in {models.target.parent}")
        return models

    def _server(self, models: tiny_models.Models) -> Server:
        self.live.mkdir(exist_ok=True)
        for stale in self.live.iterdir():
            stale.unlink()  # the evidence of an earlier server in this folder
        port, nccl = gpu.free_ports(2)
        server = Server(
            self.tree,
            models,
            self.log,
            port=self.options.port or port,
            nccl_port=nccl,
            graphs=self.graphs,
            real=self.options.model is not None,
            more=[
                *(["--load-format", "dummy"] if self.options.load_format == "dummy" else []),
                *self.options.more,
            ],
            layout=self.layout,
            mtp=self.mtp,
            float32=self.float32,
        )
        self.say(f"port {server.port}, log {self.log.path}")
        return server

    def _environment(self, server: Server) -> dict[str, str]:
        env = server.environment(self.live)
        gpu.set_cuda_paths(env, self.folder / "cuda-links")
        self.details.update(command=server.command, environment=server.changed_variables(env))
        if "CUDA_HOME" not in env:
            self.say("no CUDA toolkit found (CUDA_HOME): kernels that compile at run time may fail")
        return env

    # --- while it boots ---------------------------------------------------------------------------

    def _boot(self, server: Server) -> None:
        """Wait until it is ready, or has ended or logged why; raise Answer (failed) if it hangs."""
        self.enter("boot")
        self.ready = self.gone = False
        deadline = self.start + self.timeout
        while not self.ready:
            self.log.read()
            now = time.monotonic()
            dying_since = min(self.log.matched_at, self.log.fatal_at)
            if server.gone() or now > dying_since + _LAST_WORDS_SECONDS:
                self.gone = True
                # Its processes may still be writing the cause.
                while self.wanted and not self.log.matched and time.monotonic() < now + 1.0:
                    time.sleep(0.1)
                    self.log.read()
                self.log.read(final=True)
                self.details.update(gone_s=self._now(), exit_code=server.exit_code)
                self.say(f"gone, exit code {server.exit_code}")
                return
            if now > deadline:
                self._fail_as_hanging(server, f"neither ready nor gone after {self.timeout:.0f} s")
            self.ready = server.ready()
            time.sleep(0.1)
        self.details["ready_s"] = self._now()
        self.say("ready")

    def _check_death(self, server: Server) -> Answer:
        """A server that was to die must have died, with the wanted message."""
        wanted = self.options.dies_with
        if self.ready:
            after = self.details["ready_s"]
            raise self._failure(f"came up healthy after {after} s; it was to die with /{wanted}/")
        if self.log.matched is None:
            raise self._failure(f"died of something else than /{wanted}/: {self._cause(server)}")
        self.details["matched"] = self.log.matched
        after = self.details["gone_s"]
        return Answer(
            PASSED, f"died after {after} s with the message asked for: {self.log.matched}"
        )

    # --- when it is up ----------------------------------------------------------------------------

    def _check_service(self, server: Server, blobs: dict[str, str]) -> Answer:
        """A server that was to serve must be healthy, generate, and route with this tree's kernel."""
        if self.gone:
            raise self._failure(f"died: {self._cause(server)}")
        try:
            self._generate(server)
            self.enter("health")
            health = server.health(within=min(90.0, self.options.generate_timeout))
            info = server.info()
        except ServerHangs as error:
            self._fail_as_hanging(server, str(error))
        except RequestRefused as error:
            ended = server.settle(error)
            raise self._failure(f"died: {self._cause(server)}" if ended else str(error)) from None
        used = gpu.used_memory_gib(self.gpu)
        self.details.update(health=health, server_info=info, gpu_used_gib=used)
        if health != 200:
            raise self._failure(f"not healthy: {health}")
        algorithm = info.get("speculative_algorithm")
        if (
            self.mtp
            and not algorithm
            and not any(reply.get("spec_verify_ct") for reply in self.generated)
        ):
            raise self._failure("it serves, but without MTP")
        if not self.graphs and info.get("disable_cuda_graph") is False:
            raise Answer(FAILED, "it serves with CUDA graphs, which --eager was to switch off")
        evidence = self._check_evidence(blobs)
        how = "with CUDA graphs" if self.graphs else "eagerly"
        tokens = sum(reply["tokens"] for reply in self.generated)
        mtp = f"MTP on ({algorithm})" if self.mtp else "the target alone"
        return Answer(
            PASSED,
            f"ready after {self.details['ready_s']} s, healthy, generated {tokens} tokens {how}, {mtp}: "
            f"{summarise(evidence)}",
        )

    def _check_evidence(self, blobs: dict[str, str]) -> LiveEvidence:
        """The recorders must have worked, and must prove that this tree's kernel routed."""
        evidence = self._evidence()
        if evidence.errors:
            self.details["recorder"] = evidence.errors
            last = str(evidence.errors[0].get("traceback")).strip().splitlines()[-1]
            raise Answer(BROKE, f"the recorder in the server broke: {last}")
        missing = missing_proof(
            evidence, self.tree, blobs, graphs=self.graphs, ranks=self.layout.ranks
        )
        if missing is not None:
            raise Answer(FAILED, f"{missing}; evidence: {self.live_name}.log")
        return evidence

    def _generate(self, server: Server) -> None:
        """Generate from two prompts, a batch and a last prompt. The recorder reads what the CUDA
        graphs left during the prefill that follows them."""
        self.generated: list[dict[str, Any]] = []
        self.details["generated"] = self.generated
        for name, texts, tokens in prompts(real=self.options.model is not None):
            self.enter(f"generation, {name}")
            start = time.monotonic()
            answers = server.generate(texts, tokens, self.options.generate_timeout)
            seconds = round(time.monotonic() - start, 2)
            for reply in answers:
                self.generated.append({"prompt": name, "seconds": seconds, **reply})
                if reply["tokens"] != tokens:
                    reason = reply.get("finish_reason")
                    raise self._failure(
                        f"{name}: {reply['tokens']} tokens generated, not {tokens} ({reason})"
                    )
            self.say(f"generated: {name}, {len(answers)} x {tokens} tokens in {seconds} s")

    # --- failures -------------------------------------------------------------------------------

    def _failure(self, what: str) -> Answer:
        return Answer(FAILED, f"{what}; log: {self.log.path.name}")

    def _cause(self, server: Server) -> str:
        """What a server that has ended died of. Raises Answer (cannot run) if it is the host's fault."""
        self.log.read(final=True)
        if any(_ADDRESS_IN_USE.search(line) for line in self.log.tail):
            raise Answer(
                CANNOT_RUN,
                f"port {server.port} was taken while it booted ({self.log.last}); run it again",
            )
        if (package := _MISSING_PACKAGE.match(self.log.cause_of_death())) is not None:
            raise Answer(
                CANNOT_RUN,
                f"{sys.executable} lacks the package {package[1]} (see verify/requirements/gpu.txt); "
                f"log: {self.log.path.name}",
            )
        if server.exit_code == -signal.SIGKILL and self.log.crash() is None:
            return f"{self.log.cause_of_death()} (killed: out of host memory?)"
        return self.log.cause_of_death()

    def _fail_as_hanging(self, server: Server, what: str) -> NoReturn:
        """Show where its processes stand, and raise Answer (failed)."""
        self.say(f"hangs: {what}")
        raise self._failure(f"hangs: {what}; {self._where_it_stands(server)}")

    def _fail_as_late(self, server: Server, over: OutOfTime) -> NoReturn:
        """Show where its processes stand, and raise Answer (broke): whether it hangs is not known."""
        stands = self.stands()
        self.say(f"{over.saw}: {stands}")
        raise OutOfTime(
            BROKE,
            f"{over.saw}; {stands}; {self._where_it_stands(server)}; log: {self.log.path.name}",
        ) from None

    def _where_it_stands(self, server: Server) -> str:
        """Have its processes write their stacks. Returns the log's last line, and where they are."""
        self.log.read(final=True)
        stacks = server.stacks(self.live)
        for path in stacks:
            print(f"--- {path}\n{path.read_text(errors='replace')[-3000:]}", file=sys.stderr)
        hint = f"; where its processes stand: {self.live_name}.log" if stacks else ""
        return f"last line: {self.log.last}{hint}"

    def _evidence(self) -> LiveEvidence:
        evidence = read_evidence(self.live)
        self.details["evidence"] = evidence.details()
        return evidence

    def _check_files(self, blobs: dict[str, str]) -> None:
        """A server that died as it should must have run this tree's files."""
        if (problem := foreign_files(self._evidence(), self.tree, blobs)) is not None:
            raise Answer(FAILED, f"{problem}; evidence: {self.live_name}.log")

    def _stop(self, server: Server) -> None:
        self.enter("its end")
        alive = server.stop()
        with open(self.folder / f"{self.live_name}.log", "w", encoding="utf-8") as log:
            for path in sorted((*self.live.glob("*.jsonl"), *self.live.glob("*.stacks"))):
                log.write(f"--- {path.name}\n{path.read_text(errors='replace')}")
        self.details["total_s"] = self._now()
        self.say("stopped")
        if alive:
            raise Answer(
                BROKE, f"processes of the server that would not die: {alive}", self.details
            )

    def _show_log(self) -> None:
        crash = self.log.crash()
        lines = crash[1] if crash is not None else []
        for title, shown in (("traceback", lines), ("end of the log", list(self.log.tail))):
            if shown:
                print(f"--- {title}", *(line[:300] for line in shown), sep="\n", file=sys.stderr)

    def _now(self) -> float:
        return round(time.monotonic() - self.start, 1)


def end_on_signals() -> None:
    """Have SIGTERM and SIGHUP raise an Answer, so that the server is stopped, and have OutOfTime raised
    shortly before FIXTOOL_SECONDS are over."""

    def end(number: int, _frame: object) -> NoReturn:
        raise Answer(128 + number, f"ended by {signal.Signals(number).name}")

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            signal.signal(number, end)
    if seconds := os.environ.get("FIXTOOL_SECONDS"):

        def out_of_time(_number: int, _frame: object) -> NoReturn:
            raise OutOfTime(BROKE, f"no answer within the {seconds} s that it has")

        signal.signal(signal.SIGALRM, out_of_time)
        signal.setitimer(signal.ITIMER_REAL, max(0.5, float(seconds) - _ENDING_SECONDS))


def main(options: argparse.Namespace) -> Answer:
    end_on_signals()
    return Boot(options).run()


if __name__ == "__main__":
    options = parse_arguments()  # outside of answer(): --help is no answer
    answer(lambda: main(options))
