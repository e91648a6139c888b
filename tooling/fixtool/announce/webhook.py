"""Tells a webhook about a night: one POST of JSON, as chat servers and GitLab's or a team's own
services take it."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from fixtool.announce.night import Night
from fixtool.announce.tell import Told, unsent_lines
from fixtool.errors import CannotRun, UsageError

VARIABLE = "FIXTOOL_WEBHOOK"
"""The variable of the environment that holds the address. The address is a secret: who has it can
write there, so it is no option, which every process of the machine could read."""

_SECONDS = 30
_LOCAL = ("localhost", "127.0.0.1", "::1")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Makes a redirect an error: the message would go to an address that nobody chose."""

    def redirect_request(self, *_: Any) -> None:
        return None


@dataclass(frozen=True)
class Webhook:
    """The webhook at ``url``. A dry run makes the message and does not send it."""

    url: str
    dry_run: bool = False

    @property
    def host(self) -> str:
        """The part of the address that may be shown."""
        return urlsplit(self.url).hostname or ""

    def tell(self, night: Night) -> Told:
        body = json.dumps(payload(night), indent=2)
        if not self.dry_run:
            self._post(body.encode())
        return Told(unsent_lines(night), body, self.host)

    def _post(self, body: bytes) -> None:
        request = urllib.request.Request(  # noqa: S310 - find_webhook has checked the scheme
            self.url, body, {"Content-Type": "application/json", "User-Agent": "fixtool"}
        )
        again = "run the same command again, or see the host's own log"
        try:
            with urllib.request.build_opener(_NoRedirect()).open(request, timeout=_SECONDS):
                pass
        except urllib.error.HTTPError as error:
            error.close()
            message = f"the webhook on {self.host} answered {error.code}"
            raise CannotRun(message, where=VARIABLE, hint=again) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            message = f"cannot reach the webhook on {self.host}: {reason}"
            raise CannotRun(message, where=VARIABLE, hint=again) from None


def find_webhook(environment: Mapping[str, str], *, dry_run: bool = False) -> Webhook:
    """The webhook that the environment names. Raises UsageError, which does not show the address,
    if there is none, or if its address would send the message unencrypted to another machine."""
    url = environment.get(VARIABLE, "").strip()
    hint = f"{VARIABLE}=https://host/path, and the same command again"
    if not url:
        raise UsageError(f"{VARIABLE} holds no address of a webhook", hint=hint)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    safe = parts.scheme == "https" or (parts.scheme == "http" and host in _LOCAL)
    if not host or not safe or "@" in parts.netloc or not url.isprintable() or " " in url:
        raise UsageError(f"{VARIABLE} is no https address of a webhook", hint=hint)
    return Webhook(url, dry_run)


def payload(night: Night) -> dict[str, Any]:
    """What is posted. Chat servers show ``text``; ``lines`` is for programs."""
    return {
        "subject": night.subject,
        "text": night.message(),
        "needs_person": night.needs_person,
        "lines": [
            {"line": row.line, "result": row.result.value, "base": row.base or None,
             "onto": row.onto or None, "moved": row.moved, "who": list(row.who),
             "next": row.next or None}
            for row in night.rows
        ],
    }  # fmt: skip
