"""An import that stops at a conflict waits in a work tree, and goes on or ends cleanly, also after
a kill at each point."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fixtool.edit import parked
from support.json_documents import document
from support.repositories import NUMBERS, Git, Ran, Team

OURS = NUMBERS.replace("line 20\n", "line twenty\n")
THEIRS = NUMBERS.replace("line 20\n", "line XX\n")


class Importer:
    """Somebody who imports a patch that was made on v1.0 into a line on a later commit."""

    def __init__(self, fixtool: Callable[..., Ran], team: Team, home: Path, folder: Path) -> None:
        self.fixtool, self.team, self.home = fixtool, team, home
        up = team.upstream
        self.patch = folder / "mono.patch"
        up("checkout", "--quiet", "--detach", "v1.0")
        up.commit("mono", python__model_py=THEIRS, python__other_py="alpha\nBETA\ngamma\n",
                  README_txt="read it\n")  # fmt: skip
        self.patch.write_text("mono\n\n" + up("diff", "v1.0", "HEAD") + "\n")
        up("checkout", "--quiet", "main")
        up.commit("later", python__model_py=OURS, README_txt="read them\n")
        (team.root / "patches/main/upstream.toml").unlink()
        team.line(base=up.head())

    @property
    def tree(self) -> Git:
        (folder,) = (self.home / "state" / "worktrees").glob("*/import-main")
        return Git(folder)

    def run(self, *words: str | Path) -> Ran:
        return self.fixtool("import", *words, cwd=self.team.root)

    def begin(self, *words: str | Path) -> Ran:
        return self.run(self.patch, *words, "--source", self.team.upstream.path)

    def resolve(self) -> None:
        self.tree.write("python/model.py", THEIRS)
        self.tree.write("README.txt", "read them and it\n")

    def files(self) -> dict[str, bytes]:
        folder = self.team.root / "patches" / "main"
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    def waits(self) -> bool:
        trees = list((self.home / "state" / "worktrees").glob("*/import-main"))
        return bool(trees) or bool(list((self.home / "state" / "import").glob("*.json")))


@pytest.fixture
def importer(fixtool: Callable[..., Ran], team: Team, home: Path, tmp_path: Path) -> Importer:
    return Importer(fixtool, team, home, tmp_path)


def test_a_conflict_waits_and_goes_on(importer: Importer) -> None:
    old = importer.files()
    ran = importer.begin()
    assert ran.status == 3
    assert "mono (change 1 of 1): 2 of 3 files conflict" in ran.out
    assert f"  python/model.py:20   ({importer.patch}:" in ran.out
    assert "next      fixtool import --continue   (or --abort)" in ran.out
    assert importer.files() == old
    assert "<<<<<<<" in (importer.tree.path / "python/model.py").read_text()
    early = importer.run("--continue")
    assert (early.status, "a conflict marker is left" in early.err) == (1, True)
    assert f"{importer.tree.path}/README.txt:1" in early.err
    importer.resolve()
    tree = importer.tree
    done = document(importer.run("--continue", "--json"))
    (patch,) = done["patches"]
    assert (patch["slug"], done["session"]) == ("mono", None)
    assert "resolved by hand" in patch["notes"]
    text = (importer.team.root / "patches/main/mono.patch").read_text()
    assert "-line twenty\n+line XX\n" in text
    assert "+BETA" in text
    assert not importer.waits()
    assert not tree.path.exists()
    ran = importer.run("--continue")
    assert (ran.status, "no import waits for a person here" in ran.err) == (2, True)


def test_the_document_of_an_import_that_waits(importer: Importer) -> None:
    ran = importer.begin("--json")
    assert ran.status == 3
    session = document(ran)["session"]
    assert (session["position"], session["of"], session["files"]) == (1, 1, 3)
    assert [(file["path"], file["line"]) for file in session["conflicts"]] == [
        ("README.txt", 1), ("python/model.py", 20),
    ]  # fmt: skip
    aborted = importer.run("--abort", "--json")
    assert (aborted.status, document(aborted)["aborted"]) == (0, True)


def test_abort_leaves_all_as_it_was(importer: Importer) -> None:
    old = importer.files()
    assert importer.begin().status == 3
    again = importer.begin()
    assert (again.status, "waits at 'mono'" in again.err) == (1, True)
    assert importer.run("--abort").status == 0
    assert (importer.files(), importer.waits()) == (old, False)
    assert importer.begin("--dry-run").status == 3
    assert not importer.waits()


def test_what_else_came_in_is_kept_and_the_options_too(importer: Importer, tmp_path: Path) -> None:
    up = importer.team.upstream
    up.commit("second", docs__new_txt="new\n")
    (tmp_path / "z.patch").write_text(up("diff", "HEAD^", "HEAD") + "\n")
    ran = importer.begin(tmp_path / "z.patch", "--split", "file")
    assert ran.status == 3
    importer.patch.unlink()  # it is not needed any more
    (tmp_path / "z.patch").unlink()
    importer.resolve()
    done = importer.run("--continue")
    assert done.status == 0, done.err
    slugs = [entry.slug for entry in importer.team.repository.line("main").entries]
    assert slugs == ["mono-readme-txt", "mono-python-model-py", "mono-python-other-py", "z"]


def test_a_resolution_that_is_what_the_line_has_leaves_it_out(
    importer: Importer, tmp_path: Path
) -> None:
    up = importer.team.upstream
    up("checkout", "--quiet", "--detach", "v1.0")
    up.commit("x", python__model_py=THEIRS)
    importer.patch.write_text(up("diff", "v1.0", "HEAD") + "\n")
    up("checkout", "--quiet", "main")
    assert importer.begin().status == 3
    importer.tree.write("python/model.py", OURS)
    done = importer.run("--continue")
    assert (done.status, "left out" in done.out) == (0, True)
    assert importer.team.repository.line("main").entries == ()


def test_a_line_that_changed_meanwhile_is_refused(importer: Importer) -> None:
    assert importer.begin().status == 3
    importer.resolve()
    (importer.team.root / "patches/main/series").write_text("# changed\n")
    ran = importer.run("--continue")
    assert (ran.status, "has changed since the import began" in ran.err) == (1, True)
    assert importer.run("--abort").status == 0


class Killed(BaseException):
    """The process ends here."""


POINTS = [
    ("begin", "worktrees.add", "before"),
    ("begin", "resolving.pick", "before"),
    ("begin", "save_session", "before"),
    ("begin", "save_session", "after"),
    ("continue", "save_session", "before"),
    ("continue", "Prepared.write", "before"),
    ("continue", "end_session", "before"),
    ("continue", "end_session", "after"),
]
"""What is run, and before or after which step it is killed."""


@pytest.mark.parametrize(("what", "point", "when"), POINTS)
def test_killed_at_each_point_it_goes_on_or_ends(
    importer: Importer, monkeypatch: pytest.MonkeyPatch, what: str, point: str, when: str
) -> None:
    old = importer.files()
    if what == "continue":
        assert importer.begin().status == 3
        importer.resolve()
    real = _found(point)

    def die(*args: Any, **kwargs: Any) -> None:
        if when == "after":
            real(*args, **kwargs)
        raise Killed

    run = importer.begin if what == "begin" else partial(importer.run, "--continue")
    with monkeypatch.context() as patched:
        patched.setattr(f"fixtool.edit.parked.{point}", die)
        with pytest.raises(Killed):
            run()
    assert importer.files() == old or (what == "continue" and "mono.patch" in importer.files())
    if what == "begin":
        if importer.begin().status == 1:  # it waits already
            assert importer.run("--abort").status == 0
            assert importer.begin().status == 3
        importer.resolve()
    ran = importer.run("--continue")
    assert ran.status == 0 or "no import waits" in ran.err, ran.err
    assert "mono.patch" in importer.files()
    assert not importer.waits()


def _found(point: str) -> Callable[..., Any]:
    found: Any = parked
    for name in point.split("."):
        found = getattr(found, name)
    assert callable(found)
    return found  # type: ignore[no-any-return]


def test_a_damaged_session_is_told(importer: Importer) -> None:
    assert importer.begin().status == 3
    (file,) = (importer.home / "state" / "import").glob("*.json")
    session = json.loads(file.read_text())
    for key, value in {"conflicts": ["../../x"], "number": 7, "split": "line", "line": "x",
                       "fitted": {}, "changes": [{"subject": 1}], "base": "main"}.items():  # fmt: skip
        file.write_text(json.dumps(session | {key: value}))
        ran = importer.run("--continue")
        assert (ran.status, str(file) in ran.err) == (4, True), (key, ran)


def test_the_command_to_go_on_works_where_it_was_begun(importer: Importer) -> None:
    place = ("-C", importer.team.root)
    source = ("--source", importer.team.upstream.path)
    ran = importer.fixtool("import", importer.patch, *source, *place, cwd=importer.patch.parent)
    advice = f"next      fixtool import -C {importer.team.root} --continue   (or --abort)"
    assert (ran.status, advice in ran.out) == (3, True)
    assert importer.fixtool("import", *place, "--abort").status == 0
    session = document(importer.fixtool("import", importer.patch, *source, *place, "--json"))
    assert session["session"]["next"] == f"fixtool import -C {importer.team.root} --continue"
