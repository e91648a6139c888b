"""What fixtool knows of one upstream project. SGLang has a profile of its own; every other project
has the plain one.

A repository names its profile in ``[tool.fixtool]``, and a line of another project in its
``upstream.toml``. Where neither says, the upstream's address does, and last its tree.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_PLAIN_TEMPLATE = """## Motivation

## Modifications
"""
_SGLANG_TEMPLATE = """## Motivation

## Modifications

## Accuracy Tests

## Speed Tests and Profiling

## Checklist

- [ ] Format your code with the project's hooks.
- [ ] Add unit tests.
- [ ] Update documentation.
- [ ] Provide accuracy and speed benchmark results.
"""


@dataclass(frozen=True)
class Profile:
    """The facts about an upstream project that no tree and no address tells.

    ``root`` is the folder of the Python project in the tree, with a slash at its end, or empty.
    ``package`` is a folder that only a tree of this project has. ``url`` is the address of its
    repository, and ``project`` its name on the package index. ``template`` is the text of a pull
    request if upstream has none, ``headings`` names the sections that a template lacks, and
    ``tests`` is a folder in which upstream keeps its tests. With ``area_titles``, the title of
    a pull request begins with an ``[Area]``. With ``sign_off``, each author signs off. With
    ``torch``, tests and probes need a Python that has torch.
    """

    name: str
    root: str = ""
    package: str | None = None
    url: str | None = None
    project: str | None = None
    template: str = _PLAIN_TEMPLATE
    headings: Mapping[str, str] = field(default_factory=dict)
    tests: str | None = None
    area_titles: bool = False
    sign_off: bool = False
    torch: bool = False


SGLANG = Profile(
    name="sglang",
    root="python/",
    package="python/sglang",
    url="https://github.com/sgl-project/sglang.git",
    project="sglang",
    template=_SGLANG_TEMPLATE,
    tests="test/registered/unit/",
    area_titles=True,
    sign_off=True,
    torch=True,
)
PLAIN = Profile("plain", headings={"accuracy": "Tests", "speed": "Benchmarks"})
PROFILES = {profile.name: profile for profile in (SGLANG, PLAIN)}


def profile_of_url(url: str) -> Profile | None:
    """SGLang's profile for the address of SGLang's repository, or of a fork or mirror that has the
    same name; None for any other address, which does not tell."""
    return SGLANG if repository_name(url).lower() == SGLANG.project else None


def repository_name(url: str) -> str:
    """The last part of a repository's address, such as ``nan`` for https://github.com/nodejs/nan."""
    last = url.rstrip("/").rpartition("/")[2].rpartition(":")[2]
    return last.removesuffix(".git")


def repository_key(url: str) -> str:
    """A text that is the same for all addresses of one repository: ``git@host:a/b.git`` and
    ``https://host/a/b`` name one."""
    scheme, separator, _ = url.partition("://")
    if separator:
        try:
            parts = urlsplit(url)
            host = f"{(parts.hostname or '').lower()}{f':{parts.port}' if parts.port else ''}"
        except ValueError:  # such as a bracket without its end
            return url
        path = parts.path
        if scheme == "file":
            return f"file:{path.rstrip('/').removesuffix('.git')}"
    else:
        host, colon, path = url.partition(":")
        if not colon or "/" in host:  # a path
            return f"file:{url.rstrip('/').removesuffix('.git')}"
        host = host.rpartition("@")[2].lower()
    return f"{host}/{path.strip('/').removesuffix('.git')}"
