"""Checks refs and addresses before git gets them."""

from __future__ import annotations

import re
import shlex

from fixtool.errors import UsageError
from fixtool.text import public_url

_FULL_SHA = re.compile(r"[0-9a-f]{40}")
_SHORT_SHA = re.compile(r"[0-9a-f]{7,40}")


def check_ref(ref: str) -> str:
    """Return ``ref`` if it can be a sha, tag, branch or release.

    Raises UsageError for what git would read as an option (as in CVE-2022-24439), a range, or a
    revision expression.
    """
    bad = (
        not ref
        or ref.startswith(("-", "/", "."))
        or ref.endswith(("/", ".", ".lock"))
        or ".." in ref
        or "//" in ref
        or "@{" in ref
        or re.search(r"[\x00-\x20\x7f~^:?*\[\\]", ref)
    )
    if bad or len(ref) > 250:
        hint = "name a commit id of 7 to 40 digits, a tag, a branch or a release: the same command "
        hint += f"with REF instead of {shlex.quote(ref)}"
        if re.fullmatch(r"\w[\w./+-]*[~^][\w~^]*", ref):
            hint = f"give the commit itself: git -C CLONE rev-parse '{ref}'"
        if re.fullmatch(r"(?:[\w/+-]|\.(?!\.))+\.\.\.?(?:[\w/+-]|\.(?!\.))+", ref):
            last = ref.rpartition("..")[2]
            hint = f"name its end alone: the same command with {last} instead of {ref}"
        if re.fullmatch(r"[\w.-]+:[\w./-]+", ref):
            branch = ref.partition(":")[2]
            hint = f"name the branch alone: the same command with {branch} instead of {ref}; and "
            hint += "the repository that has it by --source URL"
        raise UsageError(f"{ref!r} is not a commit id, tag, branch or release", hint=hint)
    return ref


def is_full_sha(text: str) -> bool:
    return bool(_FULL_SHA.fullmatch(text))


def is_short_sha(text: str) -> bool:
    return bool(_SHORT_SHA.fullmatch(text))


def check_url(url: str) -> str:
    """Return ``url`` if git may be given it. Raises UsageError for options and for transports that
    run a program (``ext::``)."""
    scheme = url.split("://", 1)[0] if "://" in url else ""
    if (
        not url
        or url.startswith("-")
        or "::" in url.split("/", 1)[0]
        or re.search(r"[\x00-\x20\x7f]", url)
        or (scheme and scheme not in {"http", "https", "ssh", "git", "file"})
        or re.match(r"[^/]*://-", url)
    ):
        raise UsageError(
            f"{public_url(url)!r} is not a repository address that fixtool will hand to git",
            hint="use https://, ssh://, git://, file:// or a local path",
        )
    return url
