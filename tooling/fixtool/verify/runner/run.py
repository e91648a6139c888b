"""Runs a plan of probes and checks on a host, and writes result.json.

    python3 run.py [--jobs N] [--require-gpu] [--only NAME] [--model PATH --assistant PATH]
                   [--tp N] [--pp M] [--seconds N] …

`fixtool verify` starts it for a local run; a bundle carries it, so that a GPU host with another
Python, no network and no fixtool gives the same JSON. In --folder lie plan.json, base.tar[.xz],
blobs/, verify/ and perhaps site.tar.xz.

--seconds N is for a host that is lent for a time: the run ends within it, with the results that
it has. A step that is then still running is told to end, and its record says how far it was. About
every half minute the run says on stderr where each step stands.

Exit codes: 0 as wanted, 1 a check said no, 2 usage, 4 cannot run, 130 interrupted.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import json
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from fixtool.isolation import isolate, without_credentials

from .layout import Stop, archive_in, lay_out, unpack
from .processes import TOKEN, die_with_parent, sweep

SCHEMA = 1
_SAY_SECONDS = 30.0
_LAST_SECONDS = 12.0  # kept back from --seconds, to stop servers and to write the result
_END = 1 << 16  # bytes of a log in which its last line is looked for
_SHIM = str(Path(__file__).with_name("script.py"))
_SCRATCH = ("trees", "scratch", "shared", "pycache", "site")  # folders that no result needs
_STOPPING = threading.Event()

_ENVIRONMENT = """
import importlib.metadata as m, json, os, shutil
def version(name):
    try: return m.version(name)
    except m.PackageNotFoundError: return None
names = ("torch", "triton", "transformers", "sglang-kernel", "flashinfer-python")
packages = {name.replace("-", "_"): version(name) for name in names}
gpus = []
devices = "/dev/nvidiactl", "/dev/dxg", "/dev/kfd"
try:  # torch takes seconds to import: asked only where there may be a card to tell of
    if shutil.which("nvidia-smi") or any(map(os.path.exists, devices)):
        import torch
        packages["cuda"] = torch.version.cuda
        for n in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(n)
            gpus.append({"name": gpu.name, "memory_bytes": gpu.total_memory,
                         "capability": f"{gpu.major}.{gpu.minor}"})
except ImportError:
    pass
print(json.dumps({"packages": packages, "gpus": gpus}))
"""


class Run:
    """One run of a plan: its folders, and the result so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.folder, self.work, self.options = options.folder, options.work, options
        self.plan = json.loads((self.folder / "plan.json").read_text("utf-8"))
        if self.plan.get("schema") != SCHEMA:
            raise Stop(4, f"plan.json has schema {self.plan.get('schema')!r}, this runner knows 1")
        self.token = f"{os.getpid()}-{time.time_ns()}"
        self.end = float("inf")
        if options.seconds is not None:
            self.end = time.monotonic() + options.seconds - _LAST_SECONDS
        self.spread = {"tp": options.tp or 1, "pp": options.pp or 1}
        self.steps = self._chosen()
        self.result: dict[str, Any] = {
            "schema": SCHEMA, "plan": self.plan["about"], "started": _now(), "finished": False,
            "environment": {}, "trees": {}, "steps": [],
        }  # fmt: skip

    def _chosen(self) -> list[dict[str, Any]]:
        """The steps to run. Those for several GPUs run only with --tp or --pp."""
        options, steps = self.options, self.plan["steps"]
        named = [step for step in steps if _is_named(step["name"], options.only)]
        if options.only and not named:
            raise Stop(2, f"no step is named {', '.join(options.only)}")
        spread = bool(options.tp or options.pp)
        if spread and not any(step["parallel"] for step in named):
            raise Stop(2, "--tp and --pp spread a server over GPUs, and no step here does that")
        chosen = [step for step in named if spread or not step["parallel"]]
        if named and not chosen:
            raise Stop(2, f"{named[0]['name']} wants --tp N or --pp M")
        return chosen

    def environment(self, tree: str) -> dict[str, str]:
        """The environment of a step on ``tree``, without credentials.

        PYTHONDONTWRITEBYTECODE would have every server compile its code anew. A bare host keeps all
        bytecode in one folder of the run. Elsewhere the installed packages have theirs beside them,
        and PYTHONPYCACHEPREFIX would hide it.
        """
        inherited = without_credentials(os.environ)
        env = {name: text for name, text in inherited.items() if not name.startswith("PYTHON")}
        place = self.work / "trees" / self.plan["trees"][tree]["folder"]
        code = place / "python"
        paths = [self.folder, code if code.is_dir() else place]
        if self.site is not None:
            paths.append(self.site)
        env |= {
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "PYTHONUNBUFFERED": "1",
            "FIXTOOL_TREE": str(place),
            "FIXTOOL_TREE_BLOBS": f"{place}.json",
            "FIXTOOL_SHARED": str(self.work / "shared"),
        }
        if self.site is not None:
            env["PYTHONPYCACHEPREFIX"] = str(self.work / "pycache")
        if self.options.model is not None:
            env["FIXTOOL_MODEL"] = self.options.model
        return env

    def prepare(self) -> None:
        began = time.monotonic()
        (self.work / "shared").mkdir(parents=True)
        self.site: Path | None = None
        archive = archive_in(self.folder, "site")
        unpacking = None
        if archive is not None:
            self.site = self.work / "site"
            unpacking = threading.Thread(target=unpack, args=(archive, self.site))
            unpacking.start()
        used = {"base", *(step["tree"] for step in self.steps)}
        trees = {name: tree for name, tree in self.plan["trees"].items() if name in used}
        self.result["trees"] = lay_out(self.folder, self.work, trees)
        if unpacking is not None:
            unpacking.join()
            self._compile()
        facts = subprocess.run(
            [sys.executable, "-c", _ENVIRONMENT], env=self.environment("base"),
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        try:
            packages_and_gpus = json.loads(facts.stdout)
        except ValueError:
            raise Stop(4, f"{sys.executable} does not work: {facts.stderr[-300:]}") from None
        self.result["environment"] = {
            "python": platform.python_version(), "platform": platform.platform(),
            "machine": platform.machine(), "cpus": len(os.sched_getaffinity(0)),
            "driver": _driver(), **packages_and_gpus,
        }  # fmt: skip
        if self.options.tp or self.options.pp:
            self._require_gpus()
        self.result["prepare_seconds"] = round(time.monotonic() - began, 1)

    def _require_gpus(self) -> None:
        """Stop if there are fewer GPUs than ranks. The command is valid, since another host may
        have enough, so this is no usage error; and a skip would hide that nothing ran."""
        ranks, gpus = self.spread["tp"] * self.spread["pp"], self.result["environment"]["gpus"]
        if ranks > len(gpus):
            numbers = {name: getattr(self.options, name) for name in self.spread}
            flags = " ".join(f"--{name} {number}" for name, number in numbers.items() if number)
            names = f"{len(gpus)} ({', '.join(gpu['name'] for gpu in gpus)})" if gpus else "none"
            raise Stop(
                4,
                f"{flags} needs {ranks} GPU{'s' * (ranks > 1)}, one a rank, and this host has "
                f"{names}: ask for fewer ranks, or run it on a host that has them",
            )
        self.result["environment"]["spread"] = self.spread

    def _compile(self) -> None:
        """Compile all modules for a bare host, while the first steps make their models."""
        torch = next((path for path in sys.path if Path(path, "torch").is_dir()), None)
        folders = [self.site, self.work / "trees", torch and Path(torch, "torch")]
        subprocess.Popen(
            [sys.executable, "-m", "compileall", "-q", "-j", "0",
             *map(str, filter(None, folders))],
            env={**self.environment("base"), TOKEN: self.token},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    # -- steps -----------------------------------------------------------------------------

    def run(self) -> int:
        """Run all steps, wave after wave. Returns the exit code."""
        self.save()
        numbered = list(enumerate(self.steps, 1))
        for _, steps in groupby(numbered, key=lambda pair: pair[1]["wave"]):
            wave = list(steps)
            width = self.options.jobs or max(1, min(len(os.sched_getaffinity(0)), 8))
            if self.options.model and any(step["model"] for _, step in wave):
                width = 1  # tiny models share a card; two real ones do not
            with ThreadPoolExecutor(width) as pool:
                futures = [pool.submit(self.step, number, step) for number, step in wave]
                for future in as_completed(futures):
                    record = future.result()
                    self.result["steps"].append(record)
                    self.result["steps"].sort(key=lambda record: record["number"])
                    self.save()
                    _report(len(self.result["steps"]), len(self.steps), record)
            if _STOPPING.is_set():
                raise KeyboardInterrupt
        self.result["finished"] = True
        self.result["ended"] = _now()
        self.save()
        return exit_code(self.result["steps"], require_gpu=self.options.require_gpu)

    def step(self, number: int, step: dict[str, Any]) -> dict[str, Any]:
        """Run one step. Returns its part of the result."""
        record = {key: step[key] for key in ("name", "kind", "tree", "slug", "want")}
        record["number"] = number
        record |= {"answer": None, "seconds": 0.0, "memory_bytes": None, "log": None, "details": {}}
        if _STOPPING.is_set():
            return record | {"outcome": "skipped", "said": "interrupted before it began"}
        if step["needs"] == "gpu" and not self.result["environment"]["gpus"]:
            return record | {"outcome": "skipped", "said": "no CUDA GPU on this host"}
        if time.monotonic() >= self.end:
            said = f"not begun: the {self.options.seconds:g} s of --seconds are over"
            return record | {"outcome": "broke", "said": said}
        name = f"{number:03}-{re.sub(r'[^A-Za-z0-9.+-]+', '-', step['name'])[:60]}"
        scratch, log = self.work / "scratch" / name, self.work / "logs" / name
        scratch.mkdir(parents=True)
        log.mkdir(parents=True)
        token, began = f"{self.token}-{number}", time.monotonic()
        status, record["memory_bytes"] = self._start(step, scratch, log, token)
        record["seconds"] = round(time.monotonic() - began, 1)
        record["log"] = str(log.relative_to(self.work))
        leftovers = sweep(token)
        with suppress(OSError, ValueError):
            record["details"] = json.loads((log / "details.json").read_text("utf-8"))
        for path in scratch.glob("*.log"):
            shutil.move(path, log / path.name)
        shutil.rmtree(scratch, ignore_errors=True)
        last = _last_line(log / "stdout") or _last_line(log / "stderr") or "said nothing"
        if status is None:
            last = f"no answer in {record['seconds']:.0f} s: {last}"
        if leftovers:
            last += f" [{leftovers} processes were left behind and stopped]"
        record |= {"answer": status, "outcome": outcome(status, step["want"], step["kind"])}
        if _STOPPING.is_set() and record["outcome"] == "broke":
            record["outcome"], last = "skipped", f"interrupted: {last}"
        return record | {"said": last}

    def _start(
        self, step: dict[str, Any], scratch: Path, log: Path, token: str
    ) -> tuple[int | None, int]:
        """Run a step's script to its end, as ``_wait`` says."""
        env = self.environment(step["tree"])
        env |= {TOKEN: token, "FIXTOOL_DETAILS": str(log / "details.json")}
        script = str(self.folder / "verify" / step["script"])
        command = [sys.executable, _SHIM, script, *step["args"], *self._flags(step)]
        until = min(time.monotonic() + step["timeout"], self.end)
        # A script that can then ends by itself in time, with an answer.
        env["FIXTOOL_SECONDS"] = f"{until - time.monotonic():.0f}"
        with (log / "stdout").open("wb") as out, (log / "stderr").open("wb") as err:
            process = subprocess.Popen(
                command, cwd=scratch, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                start_new_session=True,
            )  # fmt: skip
            return self._wait(process, token, until, step["name"], log)

    def _flags(self, step: dict[str, Any]) -> list[str]:
        """The flags of the run that a step takes."""
        names = ("model", "assistant", "port") if step["model"] else ()
        flags = {name: getattr(self.options, name) for name in names}
        flags |= self.spread if step["parallel"] else {}
        chosen = {name: value for name, value in flags.items() if value is not None}
        return [word for name, value in chosen.items() for word in (f"--{name}", str(value))]

    def _wait(
        self, process: subprocess.Popen[bytes], token: str, until: float, name: str, log: Path
    ) -> tuple[int | None, int]:
        """Exit status (None: no answer in time) and the peak memory, in bytes, of the largest
        process of the step."""
        pause, overdue, began = 0.01, False, time.monotonic()
        say_at = began + _SAY_SECONDS
        while True:
            if (now := time.monotonic()) > say_at:
                say_at = now + _SAY_SECONDS
                stands = _last_line(log / "stderr") or _last_line(log / "stdout")
                print(f"{name}: {now - began:.0f} s: {stands[:200]}", file=sys.stderr, flush=True)
            pid, raw, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(raw)
                unit = 1 if sys.platform == "darwin" else 1024
                return None if overdue else process.returncode, usage.ru_maxrss * unit
            if not overdue and (_STOPPING.is_set() or time.monotonic() > until):
                overdue = time.monotonic() > until
                # It first gets a chance to stop its own server.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
                until, deadline = float("inf"), time.monotonic() + 10
                threading.Thread(
                    target=_kill_late, args=(process, token, deadline), daemon=True
                ).start()
            time.sleep(pause)
            pause = min(pause * 1.5, 0.2)

    def save(self) -> None:
        """Write result.json as it is now: a run that is killed leaves what it has seen."""
        path = self.options.result
        staged = path.with_name(f".{path.name}.{os.getpid()}")
        staged.write_text(json.dumps(self.result, indent=1), "utf-8")
        staged.replace(path)


def _kill_late(process: subprocess.Popen[bytes], token: str, deadline: float) -> None:
    while process.returncode is None and time.monotonic() < deadline:
        time.sleep(0.1)
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        sweep(token)


def outcome(answer: int | None, want: list[int] | None, kind: str) -> str:
    """What an exit code means. A mutant survives if its killer does not apply to it."""
    if answer == 4:
        return "cannot-run"
    if answer not in (0, 1, 77):
        return "broke"
    if want is None:
        return "seen"
    if answer in want:
        return "passed"
    return "skipped" if answer == 77 and kind in ("probe", "check") else "failed"


def exit_code(steps: list[dict[str, Any]], *, require_gpu: bool) -> int:
    outcomes = {step["outcome"] for step in steps}
    if outcomes & {"failed", "broke"}:
        return 1
    if "cannot-run" in outcomes or (require_gpu and "skipped" in outcomes):
        return 4
    return 0


def _is_named(name: str, only: list[str]) -> bool:
    return not only or any(fnmatch.fnmatch(name, word) or word in name for word in only)


def _last_line(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _END))  # a script may have printed gigabytes
        lines = file.read(_END).decode("utf-8", "replace").split("\n")
    return next((line.strip()[:2000] for line in reversed(lines) if line.strip()), "")


def _driver() -> str | None:
    """The version of the NVIDIA driver that the kernel has loaded."""
    with suppress(OSError):
        text = Path("/proc/driver/nvidia/version").read_text("utf-8")
        if version := re.search(r"\b\d{3}\.\d+(\.\d+)?\b", text):
            return version[0]
    return None


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")  # noqa: UP017


def _report(number: int, total: int, record: dict[str, Any]) -> None:
    answer = "" if record["answer"] is None else f" {record['answer']}"
    print(
        f"{number}/{total} {record['name']}: {record['outcome']}{answer} "
        f"({record['seconds']} s) {record['said'][:300]}",
        flush=True,
    )


def ranks(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def _stop(*_: object) -> None:
    _STOPPING.set()


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    own = Path(__file__).resolve().parents[3]
    parser = argparse.ArgumentParser(prog="run.py", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", type=Path, default=own, help="where plan.json lies")
    parser.add_argument("--work", type=Path, help="trees, logs, scratch; default FOLDER/work")
    parser.add_argument("--result", type=Path, help="default FOLDER/result.json")
    parser.add_argument("--jobs", type=int, default=0, help="steps at once; default one a core")
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--model", help="a real checkpoint instead of the tiny one")
    parser.add_argument("--assistant", help="the assistant that goes with it")
    parser.add_argument("--port", type=int, help="the servers' port; default a free one")
    parser.add_argument("--tp", type=ranks, metavar="N", help="GPUs that share a server's layers")
    parser.add_argument("--pp", type=ranks, metavar="M", help="GPUs in a row, as its stages")
    parser.add_argument("--seconds", type=float, metavar="N", help="end the run within so many")
    parser.add_argument("--require-gpu", action="store_true", help="a skip is exit 4")
    parser.add_argument("--with-parent", action="store_true", help="stop when the starter is gone")
    parser.add_argument("--keep-trees", action="store_true", help="leave the trees in --work")
    options = parser.parse_args(words)
    options.folder = options.folder.resolve()
    options.work = (options.work or options.folder / "work").resolve()
    options.result = (options.result or options.folder / "result.json").resolve()
    return options


def main(words: list[str] | None = None) -> int:
    """Run the plan. Returns the exit code. ``words`` are the arguments. Without them, the arguments
    are those of this process, which gives up what its steps must not see."""
    options = arguments(words)
    if words is None:
        _give_up_credentials()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), _stop)
    if options.with_parent:
        die_with_parent()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # a server opens more files than a shell's default
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, hard), hard))
    run = None
    try:
        _remove(options.work, *_SCRATCH, "logs")
        options.work.mkdir(parents=True, exist_ok=True)
        run = Run(options)
        run.prepare()
        return run.run()
    except Stop as stop:
        print(f"error: {stop}", file=sys.stderr)
        return stop.code
    except KeyboardInterrupt:
        print("interrupted: every process of this run was stopped", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return 4
    finally:
        if run is not None:
            sweep(run.token)
        if not options.keep_trees:
            _remove(options.work, *_SCRATCH)


def _give_up_credentials() -> None:
    """Start this process again if its environment holds a credential, because a step could read it
    in /proc; then keep all steps from reading other processes."""
    environment = without_credentials(os.environ)
    if environment != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606
    isolate()


def _remove(work: Path, *names: str) -> None:
    for name in names:
        shutil.rmtree(work / name, ignore_errors=True)
