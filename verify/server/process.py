"""The server process: how it is launched, what it is asked, and how it is ended."""

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
from pathlib import Path
from typing import Any

from fixtool.verify.answer import CANNOT_RUN, Answer
from verify.server import evidence as life
from verify.server import supervisor as keeper
from verify.server.layout import ONE_GPU, Layout
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
_TINY = {
    "--context-length": "2048",
    "--max-total-tokens": "8192",
    "--mem-fraction-static": "0.3",
}
_REAL = {
    "--context-length": "4096",
    "--max-total-tokens": "32768",
    "--mem-fraction-static": "0.88",
}
# What a server without a network, and with one host, needs; a caller's own settings stand. NVLink
# multicast is off: on a shared host it can put GPUs out of service that others use too.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "NCCL_SOCKET_IFNAME": "lo",
    "GLOO_SOCKET_IFNAME": "lo",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # so that CUDA numbers GPUs as nvidia-smi does
    "NCCL_NVLS_ENABLE": "0",
    "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
    "NVSHMEM_DISABLE_NVLS": "1",
}
# Products of float32 in float32, in cuBLAS and in Triton; live/float32.py sees to the rest.
_FLOAT32 = {"NVIDIA_TF32_OVERRIDE": "0", "TRITON_F32_DEFAULT": "ieee", "FIXTOOL_FLOAT32": "1"}


class Hang(Exception):
    """It took a request and does not answer."""


class Refused(Exception):
    """It answers a request with an error."""


class Lost(Refused):
    """The connection broke, or there was none: it may be gone."""


class Server:
    """One `sglang.launch_server` and all that it starts, below a keeper that ends it."""

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
        self._keeper: subprocess.Popen[bytes] | None = None
        self._heard = b""
        self._left: list[int] = []
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
        env = dict(os.environ)
        before = [one for one in env.get("PYTHONPATH", "").split(os.pathsep) if one]
        first = [str(life.HOOK), str(self._tree / "python"), str(_ROOT)]
        env["PYTHONPATH"] = os.pathsep.join([*first, *(one for one in before if one not in first)])
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
    def changes(env: dict[str, str]) -> dict[str, str]:
        return {name: value for name, value in env.items() if os.environ.get(name) != value}

    def launch(self, env: dict[str, str]) -> None:
        self._log.path.write_bytes(b"")
        # A runner that kills this process kills all that carry its mark. Not the keeper, which has
        # yet to find what no longer shows one.
        own = {name: value for name, value in env.items() if name != keeper.RUN}
        if keeper.RUN in env:
            own[f"{keeper.RUN}_OF_SERVER"] = env[keeper.RUN]
        self._keeper = subprocess.Popen(
            # Isolated and without site: no hook, and up at once.
            [sys.executable, "-I", "-S", keeper.__file__, str(self._log.path), *self.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=own,
            cwd=self._log.path.parent,
            start_new_session=True,
        )

    def gone(self) -> bool:
        """Whether its main process has ended; then ``exit_code`` says how."""
        self._listen(0.0)
        if self._keeper is not None and self._keeper.poll() is not None and self.exit_code is None:
            self.exit_code = -signal.SIGKILL  # with its keeper
        return self.exit_code is not None

    def _listen(self, seconds: float) -> bool:
        """Hear what the keeper says; False once it has no more to say."""
        assert self._keeper is not None
        assert self._keeper.stdout is not None
        pipe = self._keeper.stdout.fileno()
        while select.select([pipe], [], [], seconds)[0]:
            said = os.read(pipe, 4096)
            *lines, self._heard = (self._heard + said).split(b"\n")
            for line in lines:
                word, *rest = line.decode().split()
                if word == "exited":
                    self.exit_code = int(rest[0])
                elif word == "left":
                    self._left = [int(one) for one in rest]
            if not said:
                return False
            seconds = 0.0
        return True

    def stop(self) -> list[int]:
        """End all of it. Gives the processes that would not go, which is none."""
        if self._keeper is None:
            return []
        assert self._keeper.stdin is not None
        with contextlib.suppress(OSError):
            self._keeper.stdin.close()  # also if this process dies: then the keeper goes on alone
        end = time.monotonic() + 60.0
        while self._listen(0.5) and time.monotonic() < end:
            pass
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._keeper.wait(5.0)
        # Only a keeper that was itself killed leaves any.
        for _ in range(50):
            if not (strays := keeper.strays(self._token, str(self._log.path))):
                break
            keeper.kill(strays)
            time.sleep(0.1)
            self._left = strays
        else:
            return self._left
        return [one for one in self._left if Path(f"/proc/{one}").exists()]

    def stacks(self, live: Path) -> list[Path]:
        """Ask its Python processes where they stand; only those that said they would answer."""
        if self._keeper is None:
            return []
        own = keeper.descendants(self._keeper.pid)
        files = []
        for path in sorted(live.glob("*.stacks")):
            if int(path.stem) in own:
                keeper.kill([int(path.stem)], signal.SIGUSR1)
                files.append(path)
        time.sleep(1.0)
        return [one for one in files if one.stat().st_size]

    # --- what it is asked -------------------------------------------------------------------------

    def ready(self) -> bool:
        """Whether it answers. /health would not do: it generates, and gives up after 20 seconds,
        and a first forward takes longer."""
        try:
            info = self._ask("/model_info", timeout=2.0)
        except (Hang, Refused):
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
        """One request for each prompt, all at the same time, greedy and to the full length."""
        results: list[dict[str, Any] | Exception | None] = [None] * len(texts)

        def ask(number: int, prompt: str | list[int]) -> None:
            body = {
                "text" if isinstance(prompt, str) else "input_ids": prompt,
                "sampling_params": {
                    "temperature": 0,
                    "max_new_tokens": tokens,
                    "ignore_eos": True,
                },
            }
            try:
                results[number] = self._ask("/generate", body, timeout)
            except Exception as error:
                results[number] = error

        threads = [
            # Daemons: a Ctrl-C does not wait for their answers.
            threading.Thread(target=ask, args=one, daemon=True)
            for one in enumerate(texts)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        said = []
        for result in results:
            if isinstance(result, Exception):
                raise result
            assert result is not None
            meta = result.get("meta_info") or {}
            reason = meta.get("finish_reason")
            said.append(
                {
                    "tokens": meta.get("completion_tokens"),
                    "text": result.get("text"),
                    "output_ids": result.get("output_ids"),
                    "finish_reason": reason.get("type") if isinstance(reason, dict) else reason,
                    "spec_verify_ct": meta.get("spec_verify_ct"),
                    "spec_accept_length": meta.get("spec_accept_length"),
                }
            )
        return said

    def likeliest(self, prompt: list[int], timeout: float) -> dict[int, float]:
        """The likeliest tokens to follow, with the logarithms of their probabilities."""
        body = {
            "input_ids": prompt,
            "sampling_params": {"temperature": 0, "max_new_tokens": 1, "ignore_eos": True},
            "return_logprob": True,
            "top_logprobs_num": 8,
        }
        said = self._ask("/generate", body, timeout)
        try:
            first = said["meta_info"]["output_top_logprobs"][0]
            return {int(one[1]): float(one[0]) for one in first}
        except (KeyError, IndexError, TypeError, ValueError):
            raise Refused(f"/generate names no likeliest tokens: {str(said)[:200]}") from None

    def health(self, within: float) -> int | str:
        """/health's status; it may say 503 at first."""
        end = time.monotonic() + within
        while True:
            try:
                self._ask("/health", timeout=30.0)
                return 200
            except (Hang, Refused) as error:
                if time.monotonic() > end or self.gone():
                    return str(error)
            time.sleep(1.0)

    def info(self) -> dict[str, Any]:
        """What /server_info says of speculation, backends and memory."""
        try:
            said = self._ask("/server_info", timeout=60.0)
        except (Hang, Refused) as error:
            return {"error": str(error)}
        names = (
            "version", "speculative_algorithm", "speculative_num_steps", "attention_backend",
            "speculative_num_draft_tokens", "moe_runner_backend", "disable_cuda_graph",
            "max_total_num_tokens", "cuda_graph_bs", "tp_size", "pp_size", "dtype",
        )  # fmt: skip
        state = (said.get("internal_states") or [{}])[0]
        return {
            **{name: said.get(name) for name in names},
            "avg_spec_accept_length": state.get("avg_spec_accept_length"),
            "memory_usage": state.get("memory_usage"),
        }

    def fetch(self, path: str, body: Any = None, timeout: float = 60.0) -> bytes:
        """What it answers with; Hang, Lost or Refused where it does not."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with self._http.open(request, timeout=timeout) as response:
                return bytes(response.read())
        except Answer:  # a signal's, and not what went wrong here
            raise
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(500).decode("utf-8", "replace")
            raise Refused(f"{path} answers {error.code}: {said}") from None
        except TimeoutError:
            raise Hang(f"no answer from {path} within {timeout:.0f} s") from None
        except (OSError, ValueError) as error:  # URLError is an OSError; a cut-off answer
            if isinstance(getattr(error, "reason", None), TimeoutError):
                raise Hang(f"no answer from {path} within {timeout:.0f} s") from None
            raise Lost(f"{path}: {error}") from None
        except Exception as error:  # http.client's own are no OSError
            raise Lost(f"{path}: {error!r}") from None

    def _ask(self, path: str, body: Any = None, timeout: float = 60.0) -> dict[str, Any]:
        content = self.fetch(path, body, timeout)
        try:
            return dict(json.loads(content)) if content.strip() else {}
        except (ValueError, TypeError):
            raise Refused(f"{path} answers {content[:200]!r}") from None


def _tree_flags(tree: Path, nccl_port: int, *, graphs: bool) -> list[str]:
    """Flags whose spelling depends on the tree: asked of its text, since to import it takes 20 s.

    A prefill must run outside graphs, or the recorder would have no moment to read them.
    """
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
    """The text of those files of the tree's `sglang/srt`; nothing where there are none."""
    text = ""
    for path in sorted(Path(tree, "python/sglang/srt").glob(names)):
        with contextlib.suppress(OSError):
            text += path.read_text(encoding="utf-8", errors="replace")
    return text


def prompts(*, real: bool) -> Iterator[tuple[str, list[Any], int]]:
    """Name, prompts and tokens to generate. No two begin alike, so that no prefix is cached, and
    all have another length, which the recorder takes as a reason to look."""
    if not real:

        def made(seed: int, length: int) -> list[int]:
            return [2] + [(seed + 7 * i * seed) % 250 + 4 for i in range(1, length)]

        yield "short", [[2, 75, 72, 79, 79, 82]], 24
        yield "long", [made(11, 61)], 24
        yield "batch", [made(13 + i, 17 + 5 * i) for i in range(6)], 16
        yield "last", [made(29, 101)], 8
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
