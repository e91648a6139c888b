"""A git server on this machine, for tests and benchmarks: smart HTTP, real git behind it.

`git http-backend` answers each request over CGI; this file only carries bytes to and fro, and
counts them. It listens on 127.0.0.1 alone.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any

_PIECE = 1 << 16


@dataclass
class Counts:
    """What crossed the wire, headers included, as the server sees it: a clone is ``sent``. ``log``
    has one line a request: its method, path, and the command that git asked for."""

    sent: int = 0
    received: int = 0
    log: list[str] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return len(self.log)

    @property
    def fetches(self) -> int:
        """The requests that asked for a pack."""
        return sum(line.endswith(" fetch") for line in self.log)

    def clear(self) -> None:
        self.sent = self.received = 0
        self.log.clear()


@dataclass
class Server:
    """A running server: ``root``'s repositories are at ``url/<folder>``.

    ``limit`` is how many more bytes it will send: then every connection is cut, until it is None
    again. ``login`` is the ``user:password`` that it asks for. ``protocol`` 0 makes it an old one.
    ``swallow`` is how many of the next pushes it carries out without an answer.
    ``headers`` are those of every request.
    """

    root: Path
    url: str
    counts: Counts
    login: str | None = None
    limit: int | None = None
    protocol: int = 2
    swallow: int = 0
    headers: list[Message] = field(default_factory=list)


@contextmanager
def serve(root: Path, login: str | None = None) -> Iterator[Server]:
    """Serve the bare repositories in ``root``, for reading, until the end of the block."""
    httpd = _Httpd(("127.0.0.1", 0), _Handler)
    server = Server(root, f"http://127.0.0.1:{httpd.server_address[1]}", Counts(), login)
    httpd.git = server
    thread = threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def publish(
    source: Path, folder: Path, *, filters: bool = True, any_sha: bool = True, tags: bool = True
) -> None:
    """Make ``folder`` a bare repository to serve, with the branches and tags of ``source``, whose
    objects it borrows and never writes. GitHub allows filters and any id that is there."""
    found = _git("for-each-ref", "--format=%(objectname) %(refname)", at=source).splitlines()
    refs = [line.split(" ") for line in found]
    objects = (source / _git("rev-parse", "--git-path", "objects", at=source)).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        _git("init", "--quiet", "--bare", "--template=", "--initial-branch=main", str(folder))
    (folder / "objects" / "info").mkdir(exist_ok=True)
    (folder / "objects" / "info" / "alternates").write_text(f"{objects}\n")
    wanted = {"refs/heads/"} | ({"refs/tags/"} if tags else set())
    kept = {name: sha for sha, name in refs if name.startswith(tuple(wanted))}
    for sha, name in refs:  # a user's clone: what it calls origin's branches is what upstream has
        branch = name.removeprefix("refs/remotes/origin/")
        if branch not in (name, "HEAD"):
            kept[f"refs/heads/{branch}"] = sha
    lines = "".join(f"update {name} {sha}\n" for name, sha in kept.items())
    _git("update-ref", "--stdin", at=folder, stdin=lines)
    _git("pack-refs", "--all", at=folder)
    _git("config", "uploadpack.allowFilter", str(filters).lower(), at=folder)
    _git("config", "uploadpack.allowAnySHA1InWant", str(any_sha).lower(), at=folder)


def _git(*args: str, at: Path | None = None, stdin: str = "") -> str:
    place = [f"--git-dir={at / '.git' if (at / '.git').is_dir() else at}"] if at else []
    done = subprocess.run(
        ["git", *place, *args], input=stdin, env=_environment(), cwd=at or "/", text=True,
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def _environment() -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    return {**kept, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}


class _Httpd(ThreadingHTTPServer):
    daemon_threads = True
    git: Server

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or that was cut off, is no news."""


class _Counted:
    """One side of a connection, counting."""

    def __init__(self, stream: IO[bytes], handler: _Handler) -> None:
        self._stream = stream
        self._handler = handler

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def read(self, size: int = -1) -> bytes:
        return self._count(self._stream.read(size))

    def readline(self, size: int = -1) -> bytes:
        return self._count(self._stream.readline(size))

    def _count(self, data: bytes) -> bytes:
        self._handler.git.counts.received += len(data)
        return data

    def write(self, data: bytes) -> int:
        git = self._handler.git
        if git.limit is not None:
            data, cut = data[: git.limit], len(data) > git.limit
            git.limit -= len(data)
        else:
            cut = False
        self._stream.write(data)
        git.counts.sent += len(data)
        if cut:
            raise ConnectionAbortedError("the test said so")
        return len(data)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60
    server: _Httpd

    @property
    def git(self) -> Server:
        return self.server.git

    def setup(self) -> None:
        super().setup()
        self.rfile: Any = _Counted(self.rfile, self)
        self.wfile: Any = _Counted(self.wfile, self)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the counts have it."""

    def do_GET(self) -> None:
        with tempfile.TemporaryFile() as body:
            self._answer(body)

    def do_POST(self) -> None:
        with tempfile.TemporaryFile() as body:
            for piece in self._body():
                body.write(piece)
            body.seek(0)
            self._answer(body)

    def _body(self) -> Iterator[bytes]:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():  # trailers
                pass
            return
        left = int(self.headers.get("Content-Length") or 0)
        while left and (piece := self.rfile.read(min(left, _PIECE))):
            left -= len(piece)
            yield piece

    def _answer(self, body: IO[bytes]) -> None:
        path, _, query = self.path.partition("?")
        self.git.counts.log.append(f"{self.command} {path} {self._asked(body, query)}")
        self.git.headers.append(self.headers)
        if not self._may_enter():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        cgi = {
            **_environment(),
            "GIT_PROJECT_ROOT": str(self.git.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", "") if self.git.protocol else "",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(os.fstat(body.fileno()).st_size),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        backend = subprocess.Popen(
            ["git", "http-backend"], stdin=body, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, env=cgi, cwd="/",
        )  # fmt: skip
        assert backend.stdout is not None
        try:
            if self.git.swallow and self.command == "POST" and path.endswith("/git-receive-pack"):
                self.git.swallow -= 1
                backend.stdout.read()
                raise ConnectionAbortedError("the test said so")
            self._pass_on(backend.stdout)
        except BaseException:
            self.close_connection = True
            backend.kill()
            raise
        finally:
            backend.stdout.close()
            backend.wait()

    def _asked(self, body: IO[bytes], query: str) -> str:
        """The command of protocol 2, which stands at the head of the body."""
        head = body.read(_PIECE)
        body.seek(0)
        if self.headers.get("Content-Encoding") == "gzip":
            with suppress(zlib.error):
                head = zlib.decompressobj(31).decompress(head)
        found = re.match(
            rb"[0-9a-f]{4}command=(fetch|ls-refs)", head
        )  # a packet: no newline ends it
        return found[1].decode() if found else query

    def _may_enter(self) -> bool:
        if self.git.login is None:
            return True
        expected = "Basic " + base64.b64encode(self.git.login.encode()).decode()
        return self.headers.get("Authorization") == expected

    def _pass_on(self, answer: IO[bytes]) -> None:
        status, headers = 200, []
        while line := answer.readline().strip().decode("latin-1"):
            name, _, text = line.partition(":")
            if name.lower() == "status":
                status = int(text.split()[0])
            else:
                headers.append((name, text.strip()))
        self.send_response(status)
        for name, text in headers:
            self.send_header(name, text)
        sized = any(name.lower() == "content-length" for name, _ in headers)
        if not sized:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := answer.read1(_PIECE):  # type: ignore[attr-defined]
            self.wfile.write(piece if sized else b"%x\r\n%s\r\n" % (len(piece), piece))
        if not sized:
            self.wfile.write(b"0\r\n\r\n")
