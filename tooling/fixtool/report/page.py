"""The picture: what became of each patch, as one HTML page that asks nobody for anything, and the
same in Markdown. From data to text; all that it tells comes from patches and upstream, so no word
of it is trusted: markup, control characters and what a forge would link are harmless by default.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fixtool.errors import ExitCode
from fixtool.git.names import public_url
from fixtool.report._timeline import WORDS, letters, picture
from fixtool.report.documents import Commit, Failure, History, Rebase
from fixtool.report.todo import FINE, Kept, Report, find_todos, looked, many
from fixtool.text import printable
from fixtool.verify import result as evidence
from fixtool.verify.result import Matrix, StepResult

_GITHUB = re.compile(r"(https://(?:[\w-]+\.)*github\.[\w.-]+/[\w-]+/(?!\.)[\w.-]+?)(?:\.git)?/?")


def html(report: Report) -> str:
    """The page. Its style is named by hash in its own policy, so nothing else can style, run or
    load."""
    environment = _environment(autoescape=True)
    environment.filters["commit_url"] = lambda sha: _commit_url(report.url, sha)
    environment.filters["breaks"] = _breaks
    environment.filters["pr_url"] = lambda pr: _pr_url(report.url, pr)
    view = _view(report)
    source, _, _ = environment.loader.get_source(environment, "report.css")  # type: ignore[union-attr]
    style = source + "".join(view["picture"].css if view["picture"] else ())
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    image = report.plot and base64.b64encode(report.plot.png).decode()
    page = environment.get_template("report.html.j2")
    return page.render(view, style=Markup(style), digest=digest, image=image) + "\n"  # noqa: S704


def markdown(report: Report) -> str:
    """The same for a pull request, an issue or a job summary."""
    environment = _environment(autoescape=False)
    environment.filters |= {
        "code": _code,
        "commit": lambda one: _commit(report.url, one),
        "image": lambda plot: _Written(quote(plot.link, errors="surrogateescape")),
    }
    page = environment.get_template("report.md.j2").render(_view(report))
    return re.sub(r"\n{3,}", "\n\n", page).strip() + "\n"


def _environment(*, autoescape: bool) -> Environment:
    """Every expression of a template goes through ``finalize``: harmless unless said otherwise."""
    clean: Callable[[Any], Any] = _shown if autoescape else _neutral
    environment = Environment(
        loader=PackageLoader("fixtool.report"), autoescape=autoescape, finalize=clean,  # noqa: S701
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"cut": _cut, "many": many, "shown": evidence.shown}
    return environment


def _view(report: Report) -> dict[str, Any]:
    """What both templates are given."""
    history = report.history if isinstance(report.history, History) else None
    rebase = report.rebase if isinstance(report.rebase, Rebase) else None
    now = Counter(one.now.verdict for one in history.patches if one.now) if history else Counter()
    used = {span.verdict for one in history.patches for span in one.intervals} if history else set()
    used |= {cell.verdict for row in history.releases for cell in row.cells} if history else set()
    return {
        "report": report,
        "history": history,
        "rebase": rebase,
        "failures": [one for one in (report.history, report.rebase) if isinstance(one, Failure)],
        "repository": web(report.url),
        "todos": find_todos(report),
        "looked": looked(report),
        "now": now.most_common(),
        "words": WORDS,
        "legend": [verdict for verdict in WORDS if verdict in used],
        "picture": picture(history.patches) if history else None,
        "drawn": [letters(one) for one in history.patches] if history else [],
        "runs": [_run(one) for one in report.results],
    }


# -- verify --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A kept result as told: of what went right, only the checks and the count of mutants."""

    kept: Kept
    matrix: Matrix | None
    ok: bool
    where: str
    tally: str
    steps: tuple[StepResult, ...]
    mutants: tuple[int, int] | None


def _run(kept: Kept) -> Run:
    result, matrix = kept.result, evidence.matrix(kept.result)
    mutants = [one for one in result.steps if one.kind == "mutant"]
    killed = sum(one.outcome == "passed" for one in mutants)
    return Run(
        kept, matrix, evidence.exit_code(result, matrix, require_gpu=False) is ExitCode.OK,
        evidence.where(result), evidence.tally(result),
        tuple(one for one in result.steps if one.kind == "check" or one.outcome not in FINE),
        (killed, len(mutants)) if mutants else None,
    )  # fmt: skip


# -- text ----------------------------------------------------------------------------------


class _Written(str):
    """Markdown that is meant as such."""

    __slots__ = ()


def web(url: str | None) -> str | None:
    """The page of the repository at ``url``, where commits and pull requests have pages as well."""
    match = _GITHUB.fullmatch(public_url(url)) if url else None
    return match[1] if match else None


def _commit_url(url: str | None, sha: str) -> str | None:
    return f"{page}/commit/{sha}" if (page := web(url)) else None


def _pr_url(url: str | None, pr: int) -> str | None:
    return f"{page}/pull/{pr}" if (page := web(url)) else None


def _commit(url: str | None, commit: Commit) -> _Written:
    """A commit in Markdown: its id, linked, what and who."""
    link = _commit_url(url, commit.sha)
    short = f"`{commit.sha[:9]}`"
    short = f"[{short}]({link})" if link else short
    return _Written(f"{short} {_neutral(_cut(commit.subject))} ({_neutral(_cut(commit.author))})")


def _cut(text: str, length: int = 200) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _breaks(text: str) -> Markup:
    """A path may go on in the next line."""
    return Markup("/<wbr>").join(printable(text).split("/"))  # join escapes the parts


def _shown(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _neutral(value: Any) -> Any:
    """Somebody's text in Markdown: no markup, no cell of its own, no mention, and none of the links
    that a forge makes by itself (#1, GH-1, closes #1, an address)."""
    if isinstance(value, _Written) or not isinstance(value, str):
        return "" if value is None else value
    plain = printable(re.sub(r"\s+", " ", value))
    plain = re.sub(r"([\\`*_\[\]|<>~$&])", r"\\\1", plain)
    return re.sub(r"(@|#(?=\w)|GH-(?=\d)|:(?=//)|www(?=\.))", "\\1\u200b", plain, flags=re.I)


def _code(value: str) -> _Written:
    """In code, a forge links nothing; only a backtick and a bar still mean something."""
    plain = printable(re.sub(r"\s+", " ", value)).replace("`", "'").replace("|", "\\|")
    return _Written(f"`{plain.strip() or ' '}`")
