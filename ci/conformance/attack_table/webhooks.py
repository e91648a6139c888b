"""Webhooks: what their servers answer, their addresses, and texts of others that are sent to them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from attack_table.hosts import HOSTILE
from attack_table.place import SECRET, Attack, Place, Wrong
from attack_table.tokens import leaves_none
from support.nightly import conflict
from support.repositories import Ran
from support.spy import TOKEN

ANSWERS: Mapping[str, tuple[int, str, bytes]] = {
    "a redirect to a file": (302, "file://{private}", b""),
    "a redirect to another path, which would get the text too": (307, "/elsewhere", b""),
    "a redirect that repeats the address": (308, "{url}", b""),
    "a redirect to a host of the attacker's": (301, "http://attacker.invalid/x", b""),
    "a redirect with an escape": (302, "http://x/\x1b[31m", b""),
    "a question for a login": (401, "", b"who?"),
    "an error with escapes": (500, "", b"\x1b[31mred\x07 ::error::x"),
    "an error that repeats the address": (400, "", b"{url}"),
    "an error of 50 MB": (500, "", b"x" * 50_000_000),
}
"""What the server answers: the status, where it leads to, and the text."""


def answering(
    place: Place, status: int, leads_to: str, body: bytes, got: list[bytes] | None = None
) -> tuple[str, list[str]]:
    """A server whose every answer is this one. Returns its address, whose path is secret, and the
    list of the requests that it gets; their texts come into ``got``."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(f"{self.command} {self.path}")
            text = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if got is not None:
                got.append(text)
            self.send_response(status)
            if leads_to:
                address = leads_to.format(private=place.private, url=url)
                self.send_header("Location", address)
            text = body.replace(b"{url}", url.encode())
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            with suppress(OSError):  # fixtool reads no text of an error, and hangs up
                self.wfile.write(text)

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place.closing.append(server.shutdown)
    url = f"http://127.0.0.1:{server.server_port}/hooks/{TOKEN}"
    return url, asked


def announced(place: Place, url: str, document: object) -> Ran:
    """What `announce --by webhook` says. The address, which is a secret, may be in no answer."""
    path = place.out / "night.json"
    path.write_text(json.dumps(document))
    ran = place.run("announce", path, "--line", "main", "--by", "webhook", FIXTOOL_WEBHOOK=url)
    if TOKEN in ran.out + ran.err:
        raise Wrong("the address of the webhook was printed")
    leaves_none(place)
    return ran


def answered(status: int, leads_to: str, body: bytes) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        url, asked = answering(place, status, leads_to, body)
        ran = announced(place, url, conflict())
        if asked != [f"POST /hooks/{TOKEN}"]:
            raise Wrong(f"the server was asked {asked}")
        return ran

    return attempt


def named(address: str) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        return announced(place, address.format(private=place.private, token=TOKEN), conflict())

    return attempt


def sent(place: Place) -> Ran:
    """The texts of upstream's commits arrive as JSON, without a control character."""
    bodies: list[bytes] = []
    url, _ = answering(place, 200, "", b"", bodies)
    document = conflict(warnings=[HOSTILE])
    document["patches"][0]["subject"] = HOSTILE
    ran = announced(place, url, document)
    (body,) = bodies
    if any(byte < 32 and byte != 10 for byte in body) or SECRET.encode() in body:
        raise Wrong(f"sent as it is: {body[:200]!r}")
    json.loads(body)
    return ran


ADDRESSES = {
    "a file": "file://{private}", "ftp": "ftp://h.invalid/{token}", "a path": "{private}",
    "http to another machine": "http://h.invalid/{token}", "a login": "https://me:{token}@h.invalid/x",
    "a newline": "https://h.invalid/{token}\nX: y", "an escape": "https://h.invalid/{token}\x1b[31m",
    "no host": "https:///{token}", "a port that is none": "https://h.invalid:x/{token}",
    "a program": "ext::sh -c {token}", "a host that looks like this one": "http://localhost.h.invalid/{token}",
}  # fmt: skip


def attacks() -> Iterator[Attack]:
    for what, (status, leads_to, body) in ANSWERS.items():
        yield Attack("webhook", "announce", what, answered(status, leads_to, body))
    for what, address in ADDRESSES.items():
        yield Attack("webhook", "announce", f"its address is {what}", named(address))
    yield Attack("webhook", "announce", "a hostile text is sent to it", sent, "held")
