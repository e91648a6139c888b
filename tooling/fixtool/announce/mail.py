"""Tells about a night by mail: a message in the form of RFC 5322, which `sendmail -t` sends."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from fixtool.announce.night import Night
from fixtool.announce.tell import Told, unsent_lines
from fixtool.errors import UsageError

_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}")


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Mail:
    """A mail to ``addresses``. It is made and not sent: whoever runs the command hands it on."""

    addresses: Sequence[str]
    made: datetime = field(default_factory=_now)

    def tell(self, night: Night) -> Told:
        message = EmailMessage(policy=SMTP.clone(linesep="\n"))
        message["From"] = f"fixtool <fixtool@{_host()}>"
        message["To"] = ", ".join(self.addresses)
        message["Date"] = format_datetime(self.made)
        message["Subject"] = night.subject
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(night.message(), subtype="markdown", cte="quoted-printable")
        return Told(unsent_lines(night), message.as_string(), ", ".join(self.addresses))


def _host() -> str:
    name = re.sub(r"[^A-Za-z0-9.-]", "", socket.gethostname()).strip(".-")
    return name or "localhost"


def check_addresses(addresses: Sequence[str]) -> tuple[str, ...]:
    """Return ``addresses`` if there are any and each can be one of a mail; else raise
    UsageError."""
    if not addresses:
        raise UsageError("a mail needs an address", hint="--owner MAIL")
    for address in addresses:
        if not _ADDRESS.fullmatch(address):
            raise UsageError(f"{address!r} is not the address of a mail")
    return tuple(addresses)
