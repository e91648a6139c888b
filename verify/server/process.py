"""The server process: how it is launched, asked and ended, and how it is spread over GPUs."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fixtool.verify.answer import CANNOT_RUN, Answer
from verify.server import supervisor
from verify.server.evidence import HOOK_FOLDER
from verify.server.log import ServerLog
from verify.server.tiny_models import Models

_ROOT = Path(__file__).resolve().parents[2]
# Two requests verify four draft tokens each at a time, so eight of them are 32 rows in a graph.
_MTP = {
    "--speculative-algorithm": "NEXTN",
    "--speculative-num-steps": "3",
    "--speculative-num-draft-tokens": "4",
    "--speculative-eagle-topk": "1",
}
_FLAGS = {
    "--attention-backend": "triton",
    "--mm-attention-backend": "triton_attn",
    "--sampling-backend": "pytorch",
    "--grammar-backend": "none",
    "--moe-runner-backend": "triton",
    "--dtype": "bfloat16",
    "--max-running-requests": "8",
}
_TINY = {"--context-length": "2048", "--max-total-tokens": "8192", "--mem-fraction-static": "0.3"}
_REAL = {"--context-length": "4096", "--max-total-tokens": "32768", "--mem-fraction-static": "0.88"}
# For a server on one host without a network; variables that the caller has set stay as they are.
# NVLink multicast is off: on a shared host it can put GPUs out of service that others use too.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "NCCL_SOCKET_IFNAME": "lo",
    "GLOO_SOCKET_IFNAME": "lo",
    "TOKENIZERS_PARALLELISM": "false",
    # A bundle's torch may want a newer cuDNN than the host's, and no server here convolves.
    "PYTORCH_SKIP_CUDNN_COMPATIBILITY_CHECK": "1",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # so that CUDA numbers GPUs as nvidia-smi does
    "NCCL_NVLS_ENABLE": "0",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
    "NVSHMEM_DISABLE_NVLS": "1",
}
# Multiply float32 in float32, in cuBLAS and in Triton; recorder/float32.py does the rest.
_FLOAT32 = {"NVIDIA_TF32_OVERRIDE": "0", "TRITON_F32_DEFAULT": "ieee", "FIXTOOL_FLOAT32": "1"}


@dataclass(frozen=True)
class Layout:
    """How a server is spread: ``tp`` ranks share each layer, in each of ``pp`` stages of a pipeline."""

    tp: int = 1
    pp: int = 1

    @property
    def ranks(self) -> int:
        return self.tp * self.pp

    @property
    def options(self) -> str:
        """The command-line options that ask for it."""
        tp, pp = f"--tp {self.tp}", f"--pp {self.pp}"
        return tp if self.pp == 1 else pp if self.tp == 1 else f"{tp} {pp}"


ONE_GPU = Layout()


class ServerHangs(Exception):
    """The server took a request and does not answer."""


class RequestRefused(Exception):
    """The server answered a request with an error."""


class ServerLost(RequestRefused):
    """The connection broke, or there was none: the server may have ended."""


class Server:
    """One `sglang.launch_server` and everything it starts, below a supervisor that ends them."""

    def __init__(
        self,
        tree: Path,
        models: Models,
        log: ServerLog,
        *,
        port: int,
        nccl_port: int,
        graphs: bool,
        real: bool,
        more: list[str],
        layout: Layout = ONE_GPU,
        mtp: bool = True,
        float32: bool = False,
    ) -> None:
        self.port = port
        self.exit_code: int | None = None
        self._tree = tree
        self._log = log
        self._models = models
        self._float32 = float32
        self._token = f"fixtool-server-{secrets.token_hex(16)}"
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._partial_line = b""
        self._still_alive: list[int] = []
        flags = (_MTP if mtp else {}) | _FLAGS | (_REAL if real else _TINY)
        if float32:
            flags["--dtype"] = "float32"
        if layout.ranks > 1:
            flags |= {"--tp-size": str(layout.tp), "--pp-size": str(layout.pp)}
        self.command = [
            sys.executable, "-m", "sglang.launch_server",
            "--host", "127.0.0.1",
            "--port", str(port),
            "--model-path", str(models.target),
            *(["--speculative-draft-model-path", str(models.assistant)] if mtp else []),
            "--skip-server-warmup",
            *(word for pair in flags.items() for word in pair),
            *_tree_flags(tree, nccl_port, graphs=graphs),
            *more,
        ]  # fmt: skip
        # A proxy of the environment must not be asked for 127.0.0.1.
        self._http = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    # --- the process ------------------------------------------------------------------------------

    def environment(self, live: Path) -> dict[str, str]:
        """The server's environment; the recorder in it writes to the folder ``live``."""
        env = dict(os.environ)
        first = [str(HOOK_FOLDER), str(self._tree / "python"), str(_ROOT)]
        paths = [*first, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
        env["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
        for name, value in _ENVIRONMENT.items():
            env.setdefault(name, value)
        if self._float32:
            env |= _FLOAT32
        env["FIXTOOL_LIVE"] = str(live)
        env["FIXTOOL_SERVER"] = self._token
        env["PYTHONUNBUFFERED"] = "1"
        if shared := os.environ.get("FIXTOOL_SHARED"):
            # Bytecode is kept between boots, and never in the tree.
            env.setdefault("PYTHONPYCACHEPREFIX", str(Path(shared, "pycache")))
        if "PYTHONPYCACHEPREFIX" in env:
            env.pop("PYTHONDONTWRITEBYTECODE", None)
        return env

    @staticmethod
    def changed_variables(env: dict[str, str]) -> dict[str, str]:
        return {name: value for name, value in env.items() if os.environ.get(name) != value}

    def launch(self, env: dict[str, str]) -> None:
        self._log.path.write_bytes(b"")
        # fixtool's runner, when it ends this process, ends all processes that carry its mark. The
        # supervisor must not: it has yet to end those that no longer show the mark.
        own = {name: value for name, value in env.items() if name != supervisor.RUN_VARIABLE}
        if supervisor.RUN_VARIABLE in env:
            own[f"{supervisor.RUN_VARIABLE}_OF_SERVER"] = env[supervisor.RUN_VARIABLE]
        self._supervisor = subprocess.Popen(
            # Isolated and without site: the recorder's hook does not run, and it starts at once.
            [sys.executable, "-I", "-S", supervisor.__file__, str(self._log.path), *self.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=own,
            cwd=self._log.path.parent,
            start_new_session=True,
        )

    def gone(self) -> bool:
        """Whether its main process has ended; then ``exit_code`` is set."""
        self._read_supervisor(0.0)
        process = self._supervisor
        if process is not None and process.poll() is not None and self.exit_code is None:
            self.exit_code = -signal.SIGKILL  # it ended with its supervisor
        return self.exit_code is not None

    def settle(self, error: Exception) -> bool:
        """Whether it has ended. After ServerLost wait for that, and for the log, up to 5 seconds:
        a crash closes the connection first, and is written to the log a moment later."""
        end = time.monotonic() + (5.0 if isinstance(error, ServerLost) else 0.0)
        while not self.gone() and time.monotonic() < end:
            time.sleep(0.1)
        self._log.read(final=True)
        return self.gone()

    def _read_supervisor(self, seconds: float) -> bool:
        """Read what the supervisor reports within ``seconds``; False once its output has ended."""
        assert self._supervisor is not None
        assert self._supervisor.stdout is not None
        pipe = self._supervisor.stdout.fileno()
        while select.select([pipe], [], [], seconds)[0]:
            chunk = os.read(pipe, 4096)
            *lines, self._partial_line = (self._partial_line + chunk).split(b"\n")
            for line in lines:
                event, *rest = line.decode().split()
                if event == "exited":
                    self.exit_code = int(rest[0])
                elif event == "left":
                    self._still_alive = [int(pid) for pid in rest]
            if not chunk:
                return False
            seconds = 0.0
        return True

    def stop(self) -> list[int]:
        """End all of its processes. Returns the pids that would not die, normally none."""
        if self._supervisor is None:
            return []
        assert self._supervisor.stdin is not None
        with contextlib.suppress(OSError):
            self._supervisor.stdin.close()  # which also happens if this process dies
        end = time.monotonic() + 60.0
        while self._read_supervisor(0.5) and time.monotonic() < end:
            pass
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._supervisor.wait(5.0)
        # Only a supervisor that was itself killed leaves any.
        for _ in range(50):
            pids = supervisor.leftover_processes(self._token, str(self._log.path))
            if not pids:
                break
            supervisor.send_signal(pids)
            time.sleep(0.1)
            self._still_alive = pids
        else:
            return self._still_alive
        return [pid for pid in self._still_alive if Path(f"/proc/{pid}").exists()]

    def stacks(self, live: Path) -> list[Path]:
        """Have its Python processes write their stacks, and return the files. Only processes that
        opened such a file are asked: the signal would end any other."""
        if self._supervisor is None:
            return []
        own = supervisor.descendants(self._supervisor.pid)
        files = []
        for path in sorted(live.glob("*.stacks")):
            if int(path.stem) in own:
                supervisor.send_signal([int(path.stem)], signal.SIGUSR1)
                files.append(path)
        time.sleep(1.0)
        return [file for file in files if file.stat().st_size]

    # --- requests --------------------------------------------------------------------------------

    def ready(self) -> bool:
        """Whether it answers. Raises Answer (cannot run) if another server answers on its port.

        /health would not do: it generates, and gives up after 20 seconds, which a first forward
        exceeds.
        """
        try:
            info = self._ask("/model_info", timeout=2.0)
        except (ServerHangs, RequestRefused):
            return False
        path = info.get("model_path")
        if path is not None and os.path.realpath(path) != os.path.realpath(self._models.target):
            raise Answer(
                CANNOT_RUN, f"another server answers on port {self.port}, with the model {path}"
            )
        return True

    def generate(
        self, texts: list[str] | list[list[int]], tokens: int, timeout: float
    ) -> list[dict[str, Any]]:
        """Send one request for each prompt, all at the same time, greedy and to the full length.
        Returns an answer for each prompt: its tokens, text, output ids and statistics of MTP."""
        results: list[dict[str, Any] | Exception | None] = [None] * len(texts)

        def ask(number: int, prompt: str | list[int]) -> None:
            body = {
                "text" if isinstance(prompt, str) else "input_ids": prompt,
                "sampling_params": greedy(tokens),
            }
            try:
                results[number] = self._ask("/generate", body, timeout)
            except Exception as error:
                results[number] = error

        threads = [
            # Daemons: a Ctrl-C does not wait for their answers.
            threading.Thread(target=ask, args=numbered, daemon=True)
            for numbered in enumerate(texts)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        answers = []
        for result in results:
            if isinstance(result, Exception):
                raise result
            assert result is not None
            meta = result.get("meta_info") or {}
            reason = meta.get("finish_reason")
            answers.append(
                {
                    "tokens": meta.get("completion_tokens"),
                    "text": result.get("text"),
                    "output_ids": result.get("output_ids"),
                    "finish_reason": reason.get("type") if isinstance(reason, dict) else reason,
                    "spec_verify_ct": meta.get("spec_verify_ct"),
                    "spec_accept_length": meta.get("spec_accept_length"),
                }
            )
        return answers

    def likely_tokens(self, prompt: list[int], timeout: float) -> dict[int, float]:
        """The likeliest next tokens, with the logarithms of their probabilities."""
        body = {
            "input_ids": prompt,
            "sampling_params": greedy(1),
            "return_logprob": True,
            "top_logprobs_num": 8,
        }
        reply = self._ask("/generate", body, timeout)
        try:
            first = reply["meta_info"]["output_top_logprobs"][0]
            return {int(token): float(logprob) for logprob, token, *_ in first}
        except (KeyError, IndexError, TypeError, ValueError):
            raise RequestRefused(
                f"/generate names no likeliest tokens: {str(reply)[:200]}"
            ) from None

    def health(self, within: float) -> int | str:
        """The status of /health, or its error after ``within`` seconds; it may be 503 at first."""
        end = time.monotonic() + within
        while True:
            try:
                self._ask("/health", timeout=30.0)
                return 200
            except (ServerHangs, RequestRefused) as error:
                if time.monotonic() > end or self.gone():
                    return str(error)
            time.sleep(1.0)

    def info(self) -> dict[str, Any]:
        """What /server_info says of speculation, backends and memory."""
        try:
            info = self._ask("/server_info", timeout=60.0)
        except (ServerHangs, RequestRefused) as error:
            return {"error": str(error)}
        names = (
            "version", "speculative_algorithm", "speculative_num_steps", "attention_backend",
            "speculative_num_draft_tokens", "moe_runner_backend", "disable_cuda_graph",
            "max_total_num_tokens", "cuda_graph_bs", "tp_size", "pp_size", "dtype",
        )  # fmt: skip
        state = (info.get("internal_states") or [{}])[0]
        return {
            **{name: info.get(name) for name in names},
            "avg_spec_accept_length": state.get("avg_spec_accept_length"),
            "memory_usage": state.get("memory_usage"),
        }

    def fetch(self, path: str, body: Any = None, timeout: float = 60.0) -> bytes:
        """The body of its answer. Raises ServerHangs, ServerLost or RequestRefused if there is none."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with self._http.open(request, timeout=timeout) as response:
                return bytes(response.read())
        except Answer:  # raised by a signal handler: not an error of the request
            raise
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(500).decode("utf-8", "replace")
            raise RequestRefused(f"{path} answers {error.code}: {text}") from None
        except TimeoutError:
            raise ServerHangs(f"no answer from {path} within {timeout:.0f} s") from None
        except (OSError, ValueError) as error:  # URLError is an OSError; a cut-off answer
            if isinstance(getattr(error, "reason", None), TimeoutError):
                raise ServerHangs(f"no answer from {path} within {timeout:.0f} s") from None
            raise ServerLost(f"{path}: {error}") from None
        except Exception as error:  # http.client's own are no OSError
            raise ServerLost(f"{path}: {error!r}") from None

    def _ask(self, path: str, body: Any = None, timeout: float = 60.0) -> dict[str, Any]:
        content = self.fetch(path, body, timeout)
        try:
            return dict(json.loads(content)) if content.strip() else {}
        except (ValueError, TypeError):
            raise RequestRefused(f"{path} answers {content[:200]!r}") from None


def greedy(tokens: int) -> dict[str, Any]:
    """The sampling parameters of a greedy answer of exactly ``tokens`` tokens."""
    return {"temperature": 0, "max_new_tokens": tokens, "ignore_eos": True}


def _tree_flags(tree: Path, nccl_port: int, *, graphs: bool) -> list[str]:
    """Flags whose spelling depends on the tree. Read from its text: importing it would take 20 s. A
    prefill must run outside CUDA graphs, since the recorder reads the graphs' buffers then."""
    text = source(tree, "server_args.py") + source(tree, "arg_groups/*.py")
    flags = []
    if "nccl_port" in text:
        flags += ["--nccl-port", str(nccl_port)]
    if not graphs:
        flags.append("--disable-cuda-graph")
    elif "cuda_graph_max_bs_decode" in text:
        flags += ["--cuda-graph-max-bs-decode", "8"]
    else:
        flags += ["--cuda-graph-max-bs", "8"]
    for name in ("disable_piecewise_cuda_graph", "disable_prefill_cuda_graph"):
        if name in text:
            flags.append(f"--{name.replace('_', '-')}")
    return flags


def source(tree: Path, names: str) -> str:
    """The text of the files of the tree's `sglang/srt` that match ``names``; "" if there are none."""
    text = ""
    for path in sorted(Path(tree, "python/sglang/srt").glob(names)):
        with contextlib.suppress(OSError):
            text += path.read_text(encoding="utf-8", errors="replace")
    return text


def prompts(*, real: bool) -> Iterator[tuple[str, list[Any], int]]:
    """Yield name, prompts and number of tokens to generate.

    No two prompts start alike, so that no prefix is cached. All differ in length: the recorder
    compares each length that it has not seen often.
    """
    if not real:

        def token_ids(seed: int, length: int) -> list[int]:
            return [2] + [(seed + 7 * i * seed) % 250 + 4 for i in range(1, length)]

        yield "short", [[2, 75, 72, 79, 79, 82]], 24
        yield "long", [token_ids(11, 61)], 24
        yield "batch", [token_ids(13 + i, 17 + 5 * i) for i in range(6)], 16
        yield "last", [token_ids(29, 101)], 8
        return
    yield "short", ["The capital of France is"], 32
    yield "long", [_PARAGRAPH], 64
    yield "batch", [f"{word} is a word that" for word in _WORDS], 32
    yield "last", [f"Once more, and from the start: {_PARAGRAPH}"], 16


_WORDS = ("Apple", "Blue", "Cup of tea", "Driftwood in spring", "Evening", "Far and wide")
_PARAGRAPH = (
    "A router in a mixture of experts looks at each token and picks a few experts for it. It is a "
    "small matrix product, a choice of the largest, and a softmax over them. In a sentence, the "
    "reason to do all of this in one kernel is that"
)
