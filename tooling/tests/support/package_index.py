"""A package index on this machine, and the wheels that it serves."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import stat
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from fixtool.sources import index
from support.processes import GENEROUS

REAL_HOME = os.environ.get("HOME", "")  # conftest gives every test an empty one


REAL_CACHE = Path(
    os.environ.get("FIXTOOL_TEST_CACHE") or Path.home() / ".cache" / "fixtool-tests"
).absolute()


ELF = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00" + bytes(44)  # x86_64, shared object


GPU_ELF = ELF[:18] + b"\xe0\x00" + ELF[20:]  # the same for an AMD GPU


X86 = "cp311-cp311-manylinux_2_34_x86_64"


ARM = "cp312-cp312-manylinux_2_34_aarch64"


def make_wheel(
    folder: Path,
    version: str,
    tag: str = X86,
    files: dict[str, bytes] | None = None,
    executable: tuple[str, ...] = (),
    name: str = "sglang",
) -> Path:
    """A small wheel as setuptools writes it: native code executable, dist-info after the files."""
    info = f"{name}-{version}.dist-info"
    files = {"sglang/__init__.py": b"x = 1\n"} if files is None else files
    metadata = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nVersion: body\n",
        "WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: false\nTag: {tag}\n",
        "entry_points.txt": "[console_scripts]\nsglang = sglang:main\n",
        "licenses/LICENSE": "Do as you like.\n",
        "RECORD": "",
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for one, data in [*files.items(), *((f"{info}/{k}", v) for k, v in metadata.items())]:
            entry = zipfile.ZipInfo(one, (2026, 1, 2, 3, 4, 6))
            mode = 0o755 if one in executable or one.endswith(".so") else 0o644
            entry.external_attr = (stat.S_IFREG | mode) << 16
            archive.writestr(entry, data)
    return path


@dataclass
class Server:
    """A simple index of what lies in ``folder``; the fields break it in the ways that happen."""

    folder: Path
    project: str = "sglang"
    style: str = "json"
    ranges: bool = True
    break_after: int | None = None  # bytes of a file, then the connection is lost
    hashes: dict[str, str | None] = field(default_factory=dict)  # lies, by file name
    uploads: dict[str, str] = field(default_factory=dict)  # upload times, by file name
    drip: float | None = None  # seconds between two bytes of every answer
    hold: threading.Event | None = None
    held: threading.Event = field(default_factory=threading.Event)
    seen: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range
    url: str = ""

    def asked(self, ending: str) -> list[str | None]:
        return [told for path, told in self.seen if path.endswith(ending)]


class _Handler(BaseHTTPRequestHandler):
    state: Server

    def do_GET(self) -> None:
        state = self.state
        state.seen.append((self.path, self.headers.get("Range")))
        name = self.path.rpartition("/")[2]
        if self.path == f"/simple/{state.project}/":
            kind, body = self._page()
            self.answer(200, body, kind)
        elif self.path.startswith("/files/") and (state.folder / name).is_file():
            self._file((state.folder / name).read_bytes())
        else:
            self.answer(404, b"", "text/plain")

    def answer(self, status: int, body: bytes, kind: str, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self._send(body)

    def _send(self, data: bytes) -> None:
        if self.state.drip is None:
            self.wfile.write(data)
            return
        with suppress(OSError):  # the other side has had enough
            for byte in data:
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
                time.sleep(self.state.drip)

    def _page(self) -> tuple[str, bytes]:
        files = []
        for path in sorted(self.state.folder.iterdir()):
            sha = hashlib.sha256(path.read_bytes()).hexdigest()
            files.append((path, self.state.hashes.get(path.name, sha) or ""))
        if self.state.style == "html":
            links = [
                f'<a href="../../files/{path.name}{sha and "#sha256=" + sha}">{path.name}</a>'
                for path, sha in files
            ]
            return (
                "text/html",
                f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode(),
            )
        uploads = self.state.uploads
        data = {
            "meta": {"api-version": "1.1"},
            "name": self.state.project,
            "versions": [],
            "files": [
                {
                    "filename": path.name,
                    "url": f"../../files/{path.name}",
                    "hashes": {"sha256": sha} if sha else {},
                    "size": path.stat().st_size,
                    **({"upload-time": uploaded} if (uploaded := uploads.get(path.name)) else {}),
                }
                for path, sha in files
            ],
        }
        return "application/vnd.pypi.simple.v1+json", json.dumps(data).encode()

    def _file(self, data: bytes) -> None:
        state = self.state
        if state.hold:
            state.held.set()
            state.hold.wait(GENEROUS)
        start = 0
        told = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        self.send_response(206 if told and state.ranges else 200)
        if told and state.ranges:
            start = int(told[1])
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = len(data) if state.break_after is None else state.break_after
        self._send(data[start:end])
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serve(state: Server) -> Iterator[Server]:
    handler = type("Handler", (_Handler,), {"state": state})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{httpd.server_port}/simple"
    try:
        yield state
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes: the nearest to a full disk that needs no root."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Heard:
    """A progress listener that adds up."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.amount = 0

    @contextmanager
    def task(self, label: str, total: int | None = None, unit: str = "") -> Iterator[Heard]:
        self.total = total
        yield self

    def advance(self, amount: int) -> None:
        self.amount += amount


def use_index(monkeypatch: pytest.MonkeyPatch, **options: str) -> None:
    """A pip configuration of these options alone, e.g. INDEX_URL."""
    # Without pip, fixtool reads the same out of the environment, in hundredths of the time.
    monkeypatch.setattr(index, "sys", SimpleNamespace(executable="false"))
    for name in [one for one in os.environ if one.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    for key, value in options.items():
        monkeypatch.setenv(f"PIP_{key}", value)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    with serve(Server(folder)) as state:
        use_index(monkeypatch, INDEX_URL=state.url)
        yield state


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """The developer's own pip configuration, for tests that use real releases."""
    monkeypatch.setenv("HOME", REAL_HOME)
