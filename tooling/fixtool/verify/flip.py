"""Is a proposal needed? Its patch's own probe, on upstream's commit without it and with it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fixtool import __version__
from fixtool.errors import CannotRun
from fixtool.files import lock, private_folder
from fixtool.progress import Progress
from fixtool.series.line import Line, PatchRepository
from fixtool.settings import Settings
from fixtool.sources.resolve import Target
from fixtool.sources.source import Source
from fixtool.sources.target import bring_base
from fixtool.verify._plan import Planner, write
from fixtool.verify._trees import Trees
from fixtool.verify.result import read_result
from fixtool.verify.run import Where, run_plan, scratch
from fixtool.verify.suite import BASE, SERIES, probes, read_suite

_WORDS = {1: "the bug is there", 0: "it is not", 77: "what it is about is not there"}


@dataclass(frozen=True)
class Need:
    """What a probe says ``without`` and ``with_it``: 1 the bug is there, 0 it is not, 77 what it is
    about is not there, None no answer. ``script`` is None where the patch has no probe; ``device``
    is where it ran."""

    script: str | None
    without: int | None
    with_it: int | None
    said: str
    device: str | None = None

    @property
    def shown(self) -> bool:
        return (self.without, self.with_it) == (1, 0)


def ask(
    repository: PatchRepository,
    settings: Settings,
    line: Line,
    slug: str,
    source: Source,
    target: Target,
    python: str,
    progress: Progress,
) -> Need:
    """Run the probe of ``slug`` with ``python`` on ``target``, and on it with ``line`` (the patch
    and what it needs). Raises CannotRun where the probe gives no answer."""
    if line.find(slug).trailer("Probe") is None:
        return Need(
            None, None, None, "it has no Probe: trailer, so nothing shows that it is needed"
        )
    suite = read_suite(repository)
    alone = replace(line, entries=tuple(one for one in line.entries if one.slug == slug))
    own = [one for one in probes(repository, alone) if one.slug == slug]
    source.bring(target.commit, ["python"])
    trees = Trees(
        source.repo, line, target.commit, suite,
        lambda: bring_base(source, line.upstream, settings, progress),
    )  # fmt: skip
    planner = Planner(trees, suite, own)
    planner.flip()
    about = {
        "line": line.name, "base": line.upstream.base, "onto": target.commit, "ref": target.ref,
        "source": target.source, "commit": None, "tree": None, "kinds": ["flip"],
        "patches": [{"slug": one.slug, "sha256": one.digest} for one in line.patches],
        "missing": [], "fixtool": __version__,
    }  # fmt: skip
    plan = planner.plan(about)
    folder = settings.state / "upstream" / f"{line.name}-{slug}-{target.commit[:12]}"
    private_folder(folder)
    with lock(folder / "lock", f"the evidence folder {folder}"), scratch(folder) as place:
        write(plan, place, source.repo, suite, progress, xz=False)
        run_plan(python, place, folder, Where(), len(plan.steps), progress)
        result = read_result(folder / "result.json")
    if broken := result.broke(slug):
        raise CannotRun(f"the probe of {slug} broke {broken[0]}", where=str(folder))
    without, with_it = result.answer(slug, BASE), result.answer(slug, SERIES)
    words = f"without it: {_said(without)}; with it: {_said(with_it)}"
    gpus = [str(one["name"]) for one in result.environment.get("gpus", ())]
    return Need(own[0].script, without, with_it, words, gpus[0] if gpus else "CPU")


def _said(answer: int | None) -> str:
    return "not asked" if answer is None else _WORDS.get(answer, f"exit {answer}")
