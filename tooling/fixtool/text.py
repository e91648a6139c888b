"""Texts: their lines, counts, and foreign texts without terminal controls or logins."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterable
from typing import Any, AnyStr, cast


class _LatePattern:
    """A regular expression that is compiled when it is used for the first time."""

    def __init__(self, expression: str | bytes, flags: int) -> None:
        self._wanted: tuple[Any, int] = expression, flags

    def __getattr__(self, name: str) -> Any:
        found = getattr(re.compile(*self._wanted), name)
        setattr(self, name, found)  # so that this is not asked again
        return found


def late_pattern(expression: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """A pattern that is compiled at its first use, and of which only methods can be used: most
    commands use few of those that their modules define, and to compile all took 8 of 150 ms."""
    return cast("re.Pattern[AnyStr]", _LatePattern(expression, flags))


_ALIKE = str.maketrans("oil_", "011-")  # letters that are taken for a digit, or a sign for another
_SIMILAR = 0.7  # words that are less alike, such as --since and --line, are no typing mistake
_MOST_LOGINS = 8  # of an address; no real one has more than one
_LONGEST_LOGIN = 1000  # characters
_JOB_COMMAND = late_pattern(r"^(\s*):(?=:)", re.MULTILINE)
# A path that was an address has one slash.
_LOGIN = late_pattern(
    r"(?:(?<=://)|(?<=https:/)|(?<=http:/)|(?<=ftp:/)|(?<=ssh:/)|(?<=git:/))[^/\s]*@", re.IGNORECASE
)
# A password may hold a slash, which no address can: then no port follows the colon.
_LOGIN_WITH_SLASH = late_pattern(r"(?<=://)[^/\s:@\[\]]+:(?!\d+(?:[^\w@]|$))[^\s@]{0,250}@")
_LOGIN_BEFORE_HOST = late_pattern(r"(?<![\w.+/@:%-])([\w.+-]{1,60}):[^\s/@]{1,250}@(?=[\w.-]+:)")
_ENCODED_LOGIN = late_pattern(r"(?<=%3A%2F%2F)(?:(?!%2F)[^\s/]){1,250}?%40", re.IGNORECASE)
_PARAMETER = late_pattern(r"(?<=[?&;])([\w.%+-]{1,60})=[^&;#\s'\"<>)\]]+")
_SECRET_PARAMETER = late_pattern(
    r"token(?!izer)|secret|passw|passphrase|credential|auth(?!or)|jwt|signature"
    r"|(?:^|[_-])(?:key|sig|pat|pw)$|api_?key",
    re.IGNORECASE,
)


def count(number: int, what: str) -> str:
    """``1 patch``, ``2 patches``."""
    ending = "" if number == 1 else "es" if what.endswith("ch") else "s"
    return f"{number} {what}{ending}"


def split_lines(text: str) -> list[str]:
    """The lines of ``text`` without their ends. As for git, only a newline ends one:
    str.splitlines would also cut at a form feed or U+2028, which a line may hold."""
    parts = text.split("\n")
    return parts if parts[-1] else parts[:-1]


def argument(value: object) -> str:
    """``value`` as one word of a command that a person is told to type. An address, a ref or the
    name of a file may hold what a shell would run."""
    return shlex.quote(str(value))


def closest(word: str, names: Iterable[str]) -> str | None:
    """The one of ``names`` that was probably meant by ``word``: the only one that begins with it or
    holds it, the one that looks the same, such as v1.0 for v1.O, or else the most similar one. None
    if no name is similar."""
    from difflib import get_close_matches

    names = tuple(names)
    folder, slash, last = word.rpartition("/")
    if slash and (inside := [name for name in names if name.startswith(folder + slash)]):
        # Paths of one folder are alike in all but their last part.
        start = len(folder) + 1
        meant = closest(last, (name[start:] for name in inside))
        return meant and folder + slash + meant
    lower = {name.lower(): name for name in names}
    wanted = word.lower()
    for fits in (str.startswith, str.__contains__):
        found = [name for name in lower if len(wanted) > 1 and fits(name, wanted)]
        if len(found) == 1:
            return lower[found[0]]
    if name := {name.translate(_ALIKE): name for name in lower}.get(wanted.translate(_ALIKE)):
        return lower[name]
    same_letters = [name for name in lower if sorted(name) == sorted(wanted)]
    found = same_letters or get_close_matches(wanted, lower, 1, _SIMILAR)
    return lower[found[0]] if found else None


def public_url(url: str) -> str:
    """``url`` as it may be shown and stored: without any password, and without the user name, which
    is often a token, unless a server of ssh needs it."""
    for _ in range(_MOST_LOGINS):
        shown = _without_first_login(url)
        if shown == url:
            return url
        url = shown  # what followed the login may look like one itself
    return url.rpartition("@")[2]


def _without_first_login(url: str) -> str:
    match = re.match(r"([A-Za-z][\w+.-]*://)?([^/]*@)", url)
    if match is None:
        return redact(url)
    scheme, login = match[1] or "", match[2]
    return redact(f"{scheme}{_user(scheme or 'ssh://', login)}{url[match.end() :]}")


def redact(text: str, token: str | None = None) -> str:
    """``text`` without ``token``, and with every address in it as in ``public_url``."""
    if token:
        text = text.replace(token, "***")
    if ":/" in text:
        text = _LOGIN.sub(_without_login, text)
        text = _LOGIN_WITH_SLASH.sub(_without_login, text)
    if "@" in text:
        text = _LOGIN_BEFORE_HOST.sub(r"\1@", text)
    if "%" in text:
        text = _ENCODED_LOGIN.sub("", text)
    return _PARAMETER.sub(_without_secret, text) if "=" in text else text


def shortened(text: str, length: int) -> str:
    """``text`` in at most ``length`` characters. Its addresses lose their logins first: what is cut
    off could be the sign by which a login is known."""
    text = redact(text[: length + _LONGEST_LOGIN])
    return text if len(text) <= length else text[: length - 1] + "…"


def _without_login(match: re.Match[str]) -> str:
    return _user(match.string[max(0, match.start() - 12) : match.start()], match[0])


def _user(scheme: str, login: str) -> str:
    """What of a login stands in a public address. ``scheme`` ends as that of the address."""
    if not re.search(r"(?:ssh|ssh\+git):/{1,2}$", scheme, re.IGNORECASE):
        return ""
    user = re.split(r":|%3A|/|@", login, maxsplit=1, flags=re.IGNORECASE)[0]
    return user and f"{user}@"


def _without_secret(match: re.Match[str]) -> str:
    return f"{match[1]}=***" if _SECRET_PARAMETER.search(match[1]) else match[0]


def printable(text: str) -> str:
    """``text`` with escapes instead of control characters, line breaks excepted: subjects and paths
    come from patches, which anyone may have written."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter == "\n" else f"\\x{ord(letter):02x}"
        for letter in text
    )


def escaped(text: str) -> str:
    """``text`` without what a terminal, or the log of a job on GitHub, would take for a command,
    and without the logins in its addresses."""
    return _without_job_commands(printable(redact(text)))


def _without_job_commands(text: str) -> str:
    if "::" not in text and "##[" not in text:  # as most are: to look for the pattern takes longer
        return text
    return _JOB_COMMAND.sub(r"\1\\x3a", text).replace("##[", "## [")


def visible(text: str) -> str:
    """``text`` on one line, without what ``without_controls`` removes."""
    return " ".join(without_controls(text).split())


def without_controls(text: str) -> str:
    """``text`` without escape sequences, control characters, characters that change the direction
    of writing, and words that GitHub Actions takes for a command. Blanks and line breaks become
    blanks."""
    text = re.sub(r"\x1b(\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)?", "", text)
    categories = ((letter, unicodedata.category(letter)) for letter in text)
    visible = (
        " " if letter.isspace() or category == "Cc" else letter
        for letter, category in categories
        if category not in ("Cf", "Cs", "Co", "Cn")
    )
    return _without_job_commands("".join(visible))
