"""Answers of GPU hosts, package indexes and git servers, and documents of other machines."""

from __future__ import annotations

import io
import json
import re
import stat
import zipfile
from collections.abc import Callable, Iterator

from markdown_it import MarkdownIt

from attack_table.place import Attack, Place, Wrong
from support.package_index import Server, make_wheel, serve
from support.repositories import Ran

RESULT = {
    "schema": 1, "started": "2026-01-02T03:04:05Z", "ended": "2026-01-02T03:04:06Z", "finished": True, "prepare_seconds": 1.0,
    "plan": {"line": "main", "ref": "v1.0", "source": "git", "base": "a" * 40, "onto": "a" * 40, "patches": [], "missing": [],
             "kinds": ["checks"]},
    "environment": {"machine": "x86_64", "python": "3.12", "gpus": [], "packages": {}}, "trees": {"series": "b" * 40},
    "steps": [{"name": "check a", "kind": "check", "tree": "series", "slug": None, "want": [0], "answer": 0, "outcome": "passed",
               "said": "fine", "seconds": 1.0, "memory_bytes": None, "log": None, "details": {}}],
}  # fmt: skip
BAD: tuple[object, ...] = (
    None,
    5,
    -1,
    "x",
    [],
    {},
    [1],
    {"a": 1},
    True,
    1e400,
    "\x1b[31m\u202e@everyone <b>",
    "9" * 5000,
)
HOSTILE = "<img src=x onerror=alert(1)> @everyone Closes #1 \x1b[31mred\x1b]8;;http://e.example\x07 \u202e ::error::x ##[error]y | `c` \ud800"


def paths(value: object, prefix: tuple[object, ...] = ()) -> Iterator[tuple[object, ...]]:
    if prefix:
        yield prefix
    pairs: Iterator[tuple[object, object]] = iter(())
    if isinstance(value, dict):
        pairs = iter(value.items())
    elif isinstance(value, list):
        pairs = enumerate(value)
    for key, inner in pairs:
        yield from paths(inner, (*prefix, key))


def changed(path: tuple[object, ...], value: object) -> object:
    copy = json.loads(json.dumps(RESULT))
    target = copy
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return copy


def imported(document: Callable[[], str]) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        (place.out / "result.json").write_text(document())
        out = place.out
        ran = place.run(
            "verify",
            "--import",
            out / "result.json",
            "--junit",
            out / "junit.xml",
            "--markdown",
            out / "page.md",
            "--save",
        )
        check_files(place)
        report = place.run("report", "--output", out / "report")
        if report.status == 70:
            return report
        return ran

    return attempt


def check_files(place: Place) -> None:
    """No markup of theirs is in a page."""
    for file in (*place.out.rglob("*.md"), *place.out.rglob("*.html"), *place.out.rglob("*.xml")):
        text = file.read_text("utf-8")
        shown = (
            MarkdownIt("commonmark").enable("table").render(text) if file.suffix == ".md" else text
        )
        for mark in ("<img src=x", "\x1b", "\u202e", "##[error]"):
            if mark in shown:
                raise Wrong(f"{mark!r} is in {file.name}")
        if file.suffix == ".md" and "@everyone" in re.sub(
            "<code>.*?</code>", "", shown, flags=re.S
        ):
            raise Wrong(f"a mention is in {file.name}")


def index(change: Callable[[Place, Server], None]) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        folder = place.root / "out" / "served"
        make_wheel(folder, "1.0")
        server = Server(folder)
        change(place, server)
        serving = serve(server)
        serving.__enter__()
        place.closing.append(lambda: serving.__exit__(None, None, None))
        place.env["PIP_INDEX_URL"] = server.url
        return place.run(
            "apply", "--no-build", "--source", "pypi", "--sglang-ref", "1.0", "--line", "main"
        )

    return attempt


def members(
    *names: str, mode: int = stat.S_IFREG | 0o644, data: bytes = b"x", twice: bool = False
) -> Callable[[Place, Server], None]:
    def change(place: Place, server: Server) -> None:
        path = next(server.folder.iterdir())
        with zipfile.ZipFile(path, "a") as archive:
            for name in names * (2 if twice else 1):
                entry = zipfile.ZipInfo(name)
                entry.external_attr = mode << 16
                archive.writestr(entry, data)

    return change


def wrong_hash(place: Place, server: Server) -> None:
    server.hashes[next(server.folder.iterdir()).name] = "0" * 64


def bomb(place: Place, server: Server) -> None:
    path = next(server.folder.iterdir())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sglang/big.py", b"\0" * (300 << 20))


def no_zip(place: Place, server: Server) -> None:
    next(server.folder.iterdir()).write_bytes(b"PK\x03\x04" + b"\0" * 100)


def cut(place: Place, server: Server) -> None:
    path = next(server.folder.iterdir())
    path.write_bytes(path.read_bytes()[:-30])


def lying_size(place: Place, server: Server) -> None:
    """The directory of the archive says another size than its member has."""
    path = next(server.folder.iterdir())
    raw = bytearray(path.read_bytes())
    at = raw.rindex(b"PK\x01\x02")
    raw[at + 24 : at + 28] = (1 << 30).to_bytes(4, "little")
    path.write_bytes(raw)


INDEXES = {
    "a file of another hash": wrong_hash, "a file that leaves the tree": members("../../../owned"),
    "an absolute file": members("/owned"), "a file in git's own folder": members(".git/hooks/pre-commit"),
    "a file in git's own folder, below": members("sglang/.git/config"), "a file with backslashes": members("sglang\\..\\..\\x"),
    "a link": members("sglang/l", mode=stat.S_IFLNK | 0o777, data=b"/etc/passwd"),
    "a device": members("sglang/d", mode=stat.S_IFCHR | 0o644), "a pipe": members("sglang/p", mode=stat.S_IFIFO | 0o644),
    "a file twice": members("sglang/a.py", twice=True), "a name with a newline": members("sglang/a\nb.py"),
    "a name with an escape": members("sglang/\x1b[31m.py"), "a file of 300 MiB out of nothing": bomb, "no archive": no_zip,
    "an archive that is cut": cut, "a member of another size": lying_size, "a name of a drive": members("C:/x"),
    "a file below a file": members("sglang/__init__.py/x"),
}  # fmt: skip


def served(status: int, body: bytes, kind: str) -> Callable[[Place], Ran]:
    """A git server, or what stands in its place, that answers every question alike."""

    def attempt(place: Place) -> Ran:
        import threading
        from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header(
                        "Location", body.decode().replace("{private}", str(place.private))
                    )
                if status == 401:
                    self.send_header("WWW-Authenticate", "Basic realm=x")
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place.closing.append(server.shutdown)
        url = f"http://127.0.0.1:{server.server_port}/x.git"
        return place.run(
            "apply", "--no-build", "--source", url, "--sglang-ref", "v1.0", FIXTOOL_TIMEOUT="5"
        )

    return attempt


ADVERTISED = "application/x-git-upload-pack-advertisement"


def packets(*lines: bytes) -> bytes:
    out = io.BytesIO()
    for line in lines:
        out.write(b"0000" if line == b"" else b"%04x" % (len(line) + 4) + line)
    return out.getvalue()


SERVERS = {
    "a redirect to a file": (302, b"file://{private}", "text/plain"), "a redirect to ext::": (302, b"ext::sh -c id", "text/plain"),
    "a redirect to itself": (302, b"/x.git/info/refs", "text/plain"), "a question for a login": (401, b"who", "text/plain"),
    "an error with escapes": (500, b"\x1b[31mred\x07", "text/plain"), "nothing": (200, b"", ADVERTISED), "HTML": (200, b"<html>", "text/html"),
    "an error packet with escapes": (200, packets(b"# service=git-upload-pack\n", b"", b"ERR \x1b[31m::error::x\n"), ADVERTISED),
    "refs with escapes": (200, packets(b"# service=git-upload-pack\n", b"", b"a" * 40 + b" refs/heads/\x1b[31m\0side-band-64k\n", b""), ADVERTISED),
    "refs that leave": (200, packets(b"# service=git-upload-pack\n", b"", b"a" * 40 + b" refs/heads/../../x\0multi_ack\n", b""), ADVERTISED),
    "a packet that is too long": (200, b"ffff" + b"x" * 10, ADVERTISED), "null bytes": (200, b"\0" * 5000, ADVERTISED),
    "an id that is none": (200, packets(b"# service=git-upload-pack\n", b"", b"z" * 40 + b" refs/tags/v1.0\0x\n", b""), ADVERTISED),
}  # fmt: skip


def attacks() -> Iterator[Attack]:
    who = "GPU host's answer"
    known = list(paths(RESULT))
    for number, path in enumerate(known):
        for step in range(2):
            value = BAD[(number * 2 + step) % len(BAD)]
            name = ".".join(map(str, path))
            yield Attack(
                who,
                "verify --import",
                f"{name} = {value!r:.30}",
                imported(lambda p=path, v=value: json.dumps(changed(p, v))),
                "held",
            )
    texts = [path for path in known if isinstance(get(path), str)]
    for path in texts:
        yield Attack(who, "verify --import", f"{'.'.join(map(str, path))} is hostile",
                     imported(lambda p=path: json.dumps(changed(p, HOSTILE))), "held")  # fmt: skip
    for what, text in {"no JSON": "{", "null": "null", "nested": "[" * 100000, "NaN": '{"schema": NaN}', "a list": "[]",
                       "a huge number": "9" * 100000, "two documents": "{}{}"}.items():  # fmt: skip
        yield Attack(who, "verify --import", what, imported(lambda t=text: t))
        for verb in (("announce",), ("report",)):
            yield Attack(who, verb[0], what, document_for(verb[0], text))
    for what, change in INDEXES.items():
        yield Attack("package index", "apply", what, index(change))
    for what, (status, body, kind) in SERVERS.items():
        yield Attack("git server", "apply", what, served(status, body, kind))


def get(path: tuple[object, ...]) -> object:
    value: object = RESULT
    for key in path:
        value = value[key]  # type: ignore[index]
    return value


def document_for(verb: str, text: str) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        (place.out / "x.json").write_text(text)
        if verb == "announce":
            return place.run("announce", place.out / "x.json", "--line", "main", "--dry-run")
        return place.run("report", place.out / "x.json", "--output", place.out / "report")

    return attempt
