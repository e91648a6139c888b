"""A headless Chromium, driven through a pipe with the standard library alone: its own protocol
(CDP), one JSON message a NUL. No port, no driver, no download."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import importlib.util
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.processes import GENEROUS

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--disable-extensions", "--disable-dev-shm-usage", "--mute-audio",
    "--hide-scrollbars", "--force-color-profile=srgb", "--host-resolver-rules=MAP * ~NOTFOUND",
]  # fmt: skip

START = """
import os, sys
os.dup2(int(sys.argv[1]), 3), os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""  # Chromium reads from 3 and writes to 4


def chromium() -> str | None:
    """Where the browser is; FIXTOOL_CHROMIUM names another."""
    names = (os.environ.get("FIXTOOL_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def axe_core() -> str | None:
    """The text of axe-core, which finds barriers of a page; FIXTOOL_AXE names another file than the
    one of the package axe-core-python."""
    if named := os.environ.get("FIXTOOL_AXE"):
        return Path(named).read_text("utf-8")
    spec = importlib.util.find_spec("axe_core_python")
    folders = spec.submodule_search_locations if spec else None
    return (Path(folders[0]) / "axe.min.js").read_text("utf-8") if folders else None


class Browser:
    def __init__(self, program: str, folder: Path) -> None:
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in (to_read, to_write)]
        os.close(to_read), os.close(to_write)
        self._log = (folder / "chromium.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-c", START, str(ends[0]), str(ends[1]), program, *FLAGS,
             "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}", "about:blank"],
            pass_fds=ends, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            env={**os.environ, "HOME": str(folder)}, start_new_session=True,
        )  # fmt: skip
        for end in ends:
            os.close(end)
        self._number, self._rest = 0, b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        message |= {"sessionId": session} if session else {}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        if "error" in answer:
            raise AssertionError(f"{method}: {answer['error']}")
        return dict(answer["result"])

    def wait(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Until an event that is ``wanted``, which may have come already."""
        if not any(map(wanted, self.events)):
            while not wanted(event := self._next()):
                self.events.append(event)
            self.events.append(event)

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + GENEROUS
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, until - time.monotonic()))
            more = os.read(self._read, 1 << 20) if ready else b""
            if not more:
                raise AssertionError("chromium gave no answer: " + Path(self._log.name).read_text())
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def close(self) -> None:
        with contextlib.suppress(AssertionError, OSError):
            self.call("Browser.close")
        with contextlib.suppress(OSError):
            os.close(self._write), os.close(self._read)
        try:
            self._process.wait(GENEROUS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()


class Tab:
    """A page as a person has it: a width, a theme, keys; and all that the browser had to say."""

    def __init__(self, browser: Browser, page: Path, *, width: int, dark: bool = False) -> None:
        self.browser, self.width = browser, width
        browser.events.clear()
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._target = target
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1,
            mobile=width < 600,
        )  # fmt: skip
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}  # nothing to wait for
        self.call("Emulation.setEmulatedMedia", features=[theme, still])
        self.call("Page.navigate", url=page.as_uri())
        browser.wait(lambda event: event.get("method") == "Page.loadEventFired")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.call(method, self._session, **params)

    def js(self, expression: str) -> Any:
        """The value of ``expression`` (the page's policy is for the page, not for its reader)."""
        result = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def barriers(self, axe: str) -> list[str]:
        """What axe-core finds on the page: a rule and an element for each."""
        self.js(axe + "; 0")
        found = self.js(
            "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.flatMap("
            "v => v.nodes.map(n => v.id + ': ' + n.target + ': ' + n.failureSummary)))"
        )
        return list(found)

    def press(self, key: str, code: int) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key,
                      windowsVirtualKeyCode=code)  # fmt: skip

    def point(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, *, whole: bool = False) -> bytes:
        params: dict[str, Any] = {}
        if whole:
            height = self.js("document.documentElement.scrollHeight")
            clip = {"x": 0, "y": 0, "width": self.width, "height": height, "scale": 1}
            params = {"captureBeyondViewport": True, "clip": clip}
        return base64.b64decode(self.call("Page.captureScreenshot", **params)["data"])

    def complaints(self) -> list[str]:
        """Console messages, log entries, exceptions and issues (a policy that was broken, a
        contrast too low)."""
        self.js("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")
        texts = []
        for event in self.browser.events:
            method, params = event.get("method"), event.get("params", {})
            if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                texts.append(json.dumps(params))
            elif method == "Log.entryAdded":
                texts.append(params["entry"]["text"])
            elif method == "Audits.issueAdded":
                texts.append(json.dumps(params["issue"]))
        return texts

    def requests(self) -> list[str]:
        return [
            event["params"]["request"]["url"]
            for event in self.browser.events
            if event.get("method") == "Network.requestWillBeSent"
        ]

    def close(self) -> None:
        self.browser.call("Target.closeTarget", targetId=self._target)


@contextmanager
def browsing(program: str, folder: Path) -> Iterator[Browser]:
    browser = Browser(program, folder)
    try:
        yield browser
    finally:
        browser.close()
