"""History against the judgement of every single commit."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from fixtool.git.objects import Oid
from fixtool.git.repo import Repo
from fixtool.git.store import Store
from fixtool.history.log import first_parent_changes
from fixtool.history.recorded import FactsAlong, RecordedState
from fixtool.history.result import History
from fixtool.history.run import history, weigh
from fixtool.history.trace import trace
from fixtool.progress import Silence
from fixtool.replay.run import replay
from fixtool.replay.verdict import PatchState, Verdict
from fixtool.series.context import Context
from fixtool.series.line import Line, PatchRepository
from fixtool.settings import Settings
from fixtool.sources.source import Local, open_source
from support.progress import Counted
from support.rebase import FIVE, FIVE_AND_TWENTY, OTHER
from support.repositories import NUMBERS, Git, Team


def store_of(git: Git, folder: Path) -> Store:
    store = Store.create(folder / "store.git")
    store.borrow(git.repo)
    return store


def look(team: Team, tmp_path: Path, end: str = "HEAD", **options: Path) -> History:
    git = team.upstream
    return history(
        store_of(git, tmp_path), team.repository.line("main"), git("rev-parse", "v1.0"),
        git("rev-parse", end), Silence(), **options,
    )  # fmt: skip


def runs(result: History, slug: str) -> list[tuple[str, int, str | None]]:
    (patch,) = (patch for patch in result.patches if patch.slug == slug)
    return [
        (interval.verdict.value, interval.count, interval.culprit and interval.culprit.subject)
        for interval in patch.intervals
    ]


def by_force(repo: Repo, line: Line, start: Oid, end: Oid) -> dict[str, list[Verdict]]:
    """The verdicts of every patch, by a replay on the whole tree of every single commit."""
    changes = first_parent_changes(repo, start, end)
    states: dict[str, list[PatchState]] = {patch.slug: [] for patch in line.patches}
    for commit in (start, *(change.commit.sha for change in changes)):
        for result in replay(repo, line, commit).patches:
            states[result.slug].append(PatchState(result.verdict, result.evidence))
    facts = FactsAlong.read(repo, line, start, changes)
    return {
        slug: [state.verdict for state in weigh(by_text, facts.states(slug), changes)]
        for slug, by_text in states.items()
    }


def verdicts(result: History) -> dict[str, list[Verdict]]:
    """The verdicts of every patch on every commit."""
    return {
        patch.slug: [
            interval.verdict for interval in patch.intervals for _ in range(interval.count)
        ]
        for patch in result.patches
    }


def test_intervals_and_culprits(team: Team, tmp_path: Path) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    team.patch("other", "fix other", python__other_py=OTHER)
    git = team.upstream
    git.commit("docs", README_txt="read it\n")
    git.commit("shift", python__model_py="line 0\n" + NUMBERS)
    git.commit("they took five (#12)", python__model_py="line 0\n" + FIVE)
    git.commit("docs again", README_txt="read it all\n")
    git.commit("rewrite", python__other_py="one\ntwo\nthree\n")
    result = look(team, tmp_path)
    assert runs(result, "five") == [
        ("clean", 2, None), ("offset", 1, "shift"), ("absorbed", 3, "they took five (#12)"),
    ]  # fmt: skip
    assert runs(result, "other") == [("clean", 5, None), ("conflict", 1, "rewrite")]
    lasts = [interval.last.subject for interval in result.patches[0].intervals]
    assert lasts == ["docs", "shift", "rewrite"]
    five = result.patches[0].intervals[-1]
    assert five.culprit is not None
    assert (five.culprit.pr, five.culprit.author) == (12, "A Person")
    assert (five.first, five.last.subject) == (five.culprit, "rewrite")
    assert result.commits == 6
    assert result.judged == 3 + 2


def test_every_judged_state_is_reported(team: Team, tmp_path: Path) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    git.commit("shift", python__model_py="line 0\n" + NUMBERS)
    git.commit("they took five (#12)", python__model_py="line 0\n" + FIVE)
    progress = Counted()
    start, end = git("rev-parse", "v1.0"), git.head()
    line = team.repository.line("main")
    assert history(store_of(git, tmp_path), line, start, end, progress).judged == 3
    assert (progress.tasks["judging"].total, progress.tasks["judging"].done) == (3, 3)


def test_the_history_is_brought_from_the_day_of_its_start(
    team: Team, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    start, end = git("rev-parse", "v1.0"), git.commit("docs", README_txt="read it\n")
    brought: list[tuple[Oid, Oid, str]] = []
    monkeypatch.setattr(Local, "bring_history", lambda _, *words: brought.append(words))
    source = open_source(str(git.path), settings, "", Silence())
    found = trace(
        Context(team.repository, settings), source, team.repository.line("main"), start, end
    )
    assert brought == [(start, end, "2026-01-02")]
    assert found.commits == 2


def test_that_another_cure_is_there_does_not_mean_that_a_lost_text_was_taken_back() -> None:
    """The text was there for a while beside the cure that upstream has instead."""
    recorded = RecordedState(PatchState(Verdict.SUPERSEDED, ()))
    texts = [PatchState(verdict, ()) for verdict in (Verdict.ABSORBED, Verdict.CLEAN)]
    weighed = weigh(texts, [recorded, recorded], ())
    assert [state.verdict for state in weighed] == [Verdict.SUPERSEDED, Verdict.SUPERSEDED]
    taken = RecordedState(PatchState(Verdict.ABSORBED, ()))
    weighed = weigh(texts, [taken, taken], ())
    assert [state.verdict for state in weighed] == [Verdict.ABSORBED, Verdict.REVERTED]


def test_what_was_judged_once_is_known_the_next_time(team: Team, tmp_path: Path) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    team.upstream.commit("shift", python__model_py="line 0\n" + NUMBERS)
    cache = tmp_path / "cache"
    first, again = (look(team, tmp_path, cache=cache) for _ in range(2))
    assert (first.judged, first.reused) == (2, 0)
    assert (again.judged, again.reused) == (0, 2)
    assert again.patches == first.patches
    for file in cache.iterdir():
        file.write_text("[1, 2")
    assert look(team, tmp_path, cache=cache).patches == first.patches


def test_merged_then_reverted_is_kept_and_told(team: Team, tmp_path: Path) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    git.commit("they took it", python__model_py=FIVE)
    git("revert", "--no-edit", "HEAD")
    git.commit("docs", README_txt="read it\n")
    assert runs(look(team, tmp_path), "five") == [
        ("clean", 1, None), ("absorbed", 1, "they took it"),
        ("reverted", 2, 'Revert "they took it"'),
    ]  # fmt: skip


def test_a_pull_request_taken_in_another_form(team: Team, tmp_path: Path) -> None:
    raw = team.patch("five", "fix five", python__model_py=FIVE)
    path = team.root / "patches" / "main" / "five.patch"
    path.write_bytes(raw.replace(b"Forwarded: no", b"Forwarded: https://x.org/a/b/pull/77"))
    git = team.upstream
    took = git.commit("Mend line 5 (#77)", python__model_py=FIVE.replace("5 fixed", "5 mended"))
    git.commit("docs", README_txt="x\n")
    git("revert", "--no-edit", took)
    result = look(team, tmp_path)
    assert [run[:2] for run in runs(result, "five")] == [
        ("clean", 1), ("absorbed", 2), ("reverted", 1),
    ]  # fmt: skip
    assert result.patches[0].intervals[1].evidence[:2] == (
        f"upstream took #77 as {took[:12]}", "by its text: conflict",
    )  # fmt: skip


def test_what_is_taken_back_without_a_word(team: Team, tmp_path: Path) -> None:
    """The text says that upstream has it no more, whatever a trailer says that it took."""
    git = team.upstream
    took = git.commit("take it (#77)", python__model_py=FIVE)
    raw = team.patch("five", "fix five", python__model_py=FIVE)
    path = team.root / "patches" / "main" / "five.patch"
    trailer = f"Applied-Upstream: {took}, #77\nSigned-off-by:".encode()
    path.write_bytes(raw.replace(b"Signed-off-by:", trailer))
    git.commit("tidy up", python__model_py=NUMBERS)
    git.commit("rewrite", python__model_py=NUMBERS.replace("line 5\n", "line V\n"))
    git.commit("docs", python__model_py=NUMBERS)
    git.commit("take it again", python__model_py=FIVE)
    result = look(team, tmp_path)
    assert runs(result, "five") == [
        ("clean", 1, None), ("absorbed", 1, "take it (#77)"), ("reverted", 1, "tidy up"),
        ("conflict", 1, "rewrite"), ("reverted", 1, "docs"), ("absorbed", 1, "take it again"),
    ]  # fmt: skip
    assert result.patches[0].intervals[2].evidence[0] == "upstream had it, and has it no more"


def test_a_patch_that_upstream_has_in_another_form_fits_on(team: Team, tmp_path: Path) -> None:
    """Its text never was in upstream, so that it still fits says nothing."""
    raw = team.patch("five", "fix five", python__model_py=FIVE)
    path = team.root / "patches" / "main" / "five.patch"
    path.write_bytes(raw.replace(b"Forwarded: no", b"Forwarded: https://x.org/a/b/pull/77"))
    git = team.upstream
    git.commit("cure it elsewhere (#77)", python__other_py=OTHER)
    git.commit("docs", README_txt="x\n")
    assert [run[:2] for run in runs(look(team, tmp_path), "five")] == [
        ("clean", 1),
        ("absorbed", 2),
    ]


def test_a_patch_that_upstream_takes_again_in_another_form(team: Team, tmp_path: Path) -> None:
    raw = team.patch("five", "fix five", python__model_py=FIVE)
    path = team.root / "patches" / "main" / "five.patch"
    path.write_bytes(raw.replace(b"Forwarded: no", b"Forwarded: https://x.org/a/b/pull/77"))
    git = team.upstream
    git.commit("take it (#77)", python__model_py=FIVE)
    git("revert", "--no-edit", "HEAD")
    git.commit("cure it elsewhere (#77)", python__other_py=OTHER)
    assert [run[0] for run in runs(look(team, tmp_path), "five")] == [
        "clean", "absorbed", "reverted", "absorbed",
    ]  # fmt: skip


def test_what_is_taken_back_and_rewritten_at_once_is_a_conflict(team: Team, tmp_path: Path) -> None:
    """Upstream does not have it any more, so its text is not a form of what upstream has."""
    raw = team.patch("five", "fix five", python__model_py=FIVE)
    path = team.root / "patches" / "main" / "five.patch"
    path.write_bytes(raw.replace(b"Forwarded: no", b"Forwarded: https://x.org/a/b/pull/77"))
    git = team.upstream
    took = git.commit("take it (#77)", python__model_py=FIVE)
    git.commit("go on", python__model_py=FIVE.replace("5 fixed", "5 fixed more"))
    body = f"Try another way\n\nThis reverts commit {took}."
    git.commit(body, python__model_py=NUMBERS.replace("line 5\n", "line V\n"))
    assert [run[:2] for run in runs(look(team, tmp_path), "five")] == [
        ("clean", 1), ("absorbed", 2), ("conflict", 1),
    ]  # fmt: skip


def test_a_text_that_was_there_before_the_pull_request(team: Team, tmp_path: Path) -> None:
    """That it went before upstream took another form does not mean that the other form went."""
    raw = team.patch("five", "fix five", python__model_py=FIVE)
    path = team.root / "patches" / "main" / "five.patch"
    path.write_bytes(raw.replace(b"Forwarded: no", b"Forwarded: https://x.org/a/b/pull/77"))
    git = team.upstream
    git.commit("by chance", python__model_py=FIVE)
    git.commit("tidy up", python__model_py=NUMBERS)
    git.commit("cure it elsewhere (#77)", python__other_py=OTHER)
    git.commit("docs", README_txt="x\n")
    assert [run[:2] for run in runs(look(team, tmp_path), "five")] == [
        ("clean", 1), ("absorbed", 1), ("reverted", 1), ("absorbed", 2),
    ]  # fmt: skip


def test_a_file_that_moves_is_followed(team: Team, tmp_path: Path) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    git.commit("decoy of half its size", python__half_py=NUMBERS[: len(NUMBERS) // 2 + 20])
    git.commit("move", python__model_py=None, python__moved__model_py=NUMBERS)
    git.commit("twin", python__moved__twin_py=NUMBERS + "more\n")
    git.commit("move on", python__moved__model_py=None, python__far_py="line 0\n" + NUMBERS)
    removed = {"python__far_py": None, "python__moved__twin_py": None, "python__half_py": None}
    git.commit("remove", **removed)
    result = look(team, tmp_path)
    line = team.repository.line("main")
    forced = by_force(git.repo, line, git("rev-parse", "v1.0"), git("rev-parse", "HEAD"))
    assert verdicts(result) == forced
    assert [run[0] for run in runs(result, "five")] == ["clean", "merged", "conflict"]


def test_only_a_new_file_that_is_similar_may_be_the_new_place(team: Team, tmp_path: Path) -> None:
    team.patch("five", "fix five", python__model_py=FIVE)
    git = team.upstream
    git.commit("remove", python__model_py=None)
    for number in range(3):
        unlike = "".join(f"word {number} {n}\n" for n in range(40))
        git.commit(f"another file of that size, {number}", python__unlike_py=unlike)
    result = look(team, tmp_path)
    assert [run[:2] for run in runs(result, "five")] == [("clean", 1), ("conflict", 4)]
    assert result.judged == 2


def test_a_folder_that_is_moved_in_two_steps(team: Team, tmp_path: Path) -> None:
    """Where a patch adds a file to it, git sees the move only after the second step."""
    git = team.upstream
    files = {f"python__kernels__k{n}_py": f"kernel {n}\n" * 30 for n in range(3)}
    git.commit("kernels", **files)
    git("tag", "--force", "v1.0")
    (team.root / "patches/main/upstream.toml").unlink()
    team.line()
    team.patch("fresh", "add a kernel", python__kernels__fresh_py="fresh\n" * 9)
    git.commit("remove them", **dict.fromkeys(files))
    git.commit("docs", README_txt="1\n")
    moved = {name.replace("kernels", "ops"): text for name, text in files.items()}
    git.commit("bring them back elsewhere", **moved)
    git.commit("bring them back", **files)
    line = team.repository.line("main")
    forced = by_force(git.repo, line, git("rev-parse", "v1.0"), git("rev-parse", "HEAD"))
    assert verdicts(look(team, tmp_path)) == forced
    assert [run[0] for run in runs(look(team, tmp_path), "fresh")] == [
        "clean", "conflict", "clean",
    ]  # fmt: skip


def test_a_history_that_does_not_lead_there(team: Team, tmp_path: Path) -> None:
    from fixtool.errors import UsageError

    git = team.upstream
    git("checkout", "--quiet", "--orphan", "elsewhere")
    git.commit("unrelated")
    with pytest.raises(UsageError, match="does not descend"):
        look(team, tmp_path)


def step_at_random(
    git: Git, draw: random.Random, number: int, places: list[str], others: list[str]
) -> None:
    """One commit of upstream: it edits, moves, copies or removes a file, takes what a patch does,
    or reverts. ``places`` are where files may go, and ``others`` other files that it may change."""
    present = [p for p in (places[0], *places, *others) if (git.path / p).exists()]
    move = draw.choice(("edit", "edit", "move", "absorb", "revert", "copy", "remove", "else"))
    path = draw.choice(present) if present else None
    text = (git.path / path).read_text() if path else ""
    if move == "edit" and path:
        lines = text.split("\n")
        lines[draw.randrange(len(lines))] += " edited"
        git.write(path, "\n".join(lines))
    elif move in ("move", "copy") and path:
        git.write(draw.choice(places), text)
        if move == "move" and draw.random() < 0.8:
            (git.path / path).unlink(missing_ok=True)
    elif move == "absorb" and path:
        git.write(path, text.replace("line 5\n", "line 5 fixed\n").replace("beta\n", "beta!\n"))
    elif move == "remove" and path:
        (git.path / path).unlink()
    elif move == "revert" and number:
        git("revert", "--no-edit", "HEAD", check=False)
        git("revert", "--abort", check=False)
        return
    else:
        git.write("README.txt", f"{number}\n")
    git.commit(f"step {number}: {move}")


@pytest.mark.slow(2)
@pytest.mark.release(sample_of="histories drawn at random")
@pytest.mark.parametrize("seed", range(6))
def test_as_by_force_on_histories_drawn_at_random(team: Team, tmp_path: Path, seed: int) -> None:
    """Edits, moves, copies, removals, absorptions and reverts, in any order."""
    draw = random.Random(seed)
    team.patch("five", "fix five", python__model_py=FIVE)
    team.patch("twenty", "fix twenty", base="patch/five", python__model_py=FIVE_AND_TWENTY)
    team.patch("fresh", "add a file", python__new__file_py="".join(f"new {n}\n" for n in range(9)))
    team.patch("other", "fix other", python__other_py=OTHER)
    git = team.upstream
    places = ["python/model.py", "python/moved.py", "python/new/x.py", "deep/er/model.py"]
    for number in range(14):
        step_at_random(git, draw, number, places, ["python/other.py", "python/new/file.py"])
    line = team.repository.line("main")
    forced = by_force(git.repo, line, git("rev-parse", "v1.0"), git("rev-parse", "HEAD"))
    assert verdicts(look(team, tmp_path)) == forced


@pytest.mark.slow(2)
@pytest.mark.release(sample_of="histories drawn at random")
@pytest.mark.parametrize("seed", range(6))
def test_patches_that_remove_files_as_by_force(team: Team, tmp_path: Path, seed: int) -> None:
    """A patch that removes or renames files, besides others that it edits, beside patches that
    change the same files."""
    draw = random.Random(seed)
    git = team.upstream
    a, b, c = ("".join(f"{name} {n}\n" for n in range(30)) for name in "abc")
    git.commit("old files", python__old__a_py=a, python__old__b_py=b, python__c_py=c)
    git("tag", "--force", "v1.0")
    (team.root / "patches/main/upstream.toml").unlink()
    team.line()
    team.patch("five", "fix five", python__model_py=FIVE)
    gone: dict[str, str | None] = {"python__old__a_py": None}
    if draw.random() < 0.4:
        gone["python__old__b_py"] = None  # the folder goes too
        if draw.random() < 0.5:
            gone |= {"python__older__a_py": a, "python__older__b_py": b}  # it is renamed
    team.patch("gone", "remove", base="patch/five", python__model_py=FIVE_AND_TWENTY, **gone)
    moved = {"python__c_py": None, "python__new__c_py": c.replace("c 7\n", "c seven\n")}
    team.patch("moved", "move", base="patch/gone", python__other_py=OTHER, **moved)
    again = {"python__new__c_py": c.replace("c 7\n", "c seven\n").replace("c 20\n", "c twenty\n")}
    team.patch("again", "edit it", base="patch/moved", **again)
    places = ["python/model.py", "python/old/x.py", "python/new/x.py", "python/old/a.py"]
    others = ["python/other.py", "python/old/b.py", "python/c.py", "python/new/c.py", "README.txt"]
    for number in range(14):
        step_at_random(git, draw, number, places, others)
    line = team.repository.line("main")
    forced = by_force(git.repo, line, git("rev-parse", "v1.0"), git("rev-parse", "HEAD"))
    assert verdicts(look(team, tmp_path)) == forced


@pytest.mark.history
def test_as_by_force_on_sglang(tmp_path: Path) -> None:
    """All 849 commits from the base to ca17bd834, judged one by one: about ten minutes."""
    line = PatchRepository.find(Path(__file__)).line("b0ce16d0c")
    clone = Repo.open(Path(os.environ["FIXTOOL_SGLANG_REPO"]), bare=True)
    store = Store.create(tmp_path / "store.git")
    store.borrow(clone)
    base, end = line.upstream.base, "ca17bd83479c1e27f68419bbe05374d349b571cb"
    times = []
    for _ in range(2):
        begun = time.perf_counter()
        result = history(store, line, base, end, Silence(), cache=tmp_path / "cache")
        times.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    forced = by_force(store, line, base, end)
    force = time.perf_counter() - begun
    print(f"cold {times[0]:.2f} s, warm {times[1]:.2f} s, by force {force:.1f} s")
    assert result.commits == 850
    assert verdicts(result) == forced
