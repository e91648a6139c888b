"""A hypothesis state machine: two maintainers edit the same lines, in their own clones of one patch
repository and in a work tree each, pull from each other, and die in the middle of commands.

The model knows nothing of fixtool's code. Each change appends a mark (``mark-17``), which nobody
has used before, to a line of a small upstream tree. A patch is then the set of its marks, and a
tree is its base with all marks in their order, so every result can be told beforehand, also that
of a conflict. ``read_line`` reads a line of the patch repository in the same terms.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import random
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from support.command import run_here
from support.dying import run_and_die
from support.repositories import TRAILERS, Git, Team, format_patch

FILES = tuple(f"f{number}.txt" for number in range(5))
PLACES = tuple((name, number) for number in (4, 12, 20, 28) for name in FILES)
TAGS = ("v1.0", "v1.1")
LINES = ("main", "other")
PEOPLE = ("ada", "bob")
CODES = {0, 1, 2, 3, 4}
MOST_WRITES = 70  # writes and gits of a command, about
MARK = re.compile(r" mark-(\d+)")
Marks = frozenset[int]
Places = dict[int, tuple[str, int]]


# -- the model ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """A patch."""

    slug: str
    subject: str
    marks: Marks


@dataclass(frozen=True)
class LineState:
    """A line: the tag of its base, its series, and the patches on its shelf."""

    base: str
    series: tuple[Change, ...]
    shelf: frozenset[Change] = frozenset()

    @property
    def slugs(self) -> list[str]:
        return [change.slug for change in self.series]

    @property
    def marks(self) -> Marks:
        return union(self.series)

    @property
    def everything(self) -> Marks:
        """The marks of all patches, also of those on the shelf."""
        return self.marks | union(self.shelf)

    def with_series(self, series: Iterable[Change]) -> LineState:
        return replace(self, series=tuple(series))


def union(changes: Iterable[Change]) -> Marks:
    return frozenset().union(*(change.marks for change in changes))


def apart(order: Iterable[Change]) -> list[Change]:
    """The patches without the marks that an earlier one of them has."""
    there: Marks = frozenset()
    found = []
    for change in order:
        found.append(replace(change, marks=change.marks - there))
        there |= change.marks
    return found


def base_lines(tag: str, name: str) -> list[str]:
    """The lines of a file of upstream. v1.1 has two more in one file, and another text in one."""
    lines = [f"{name.removesuffix('.txt')} line {number}" for number in range(1, 31)]
    if tag == "v1.1" and name == "f3.txt":
        lines = ["f3 new first", "f3 new second", *lines]
    if tag == "v1.1" and name == "f4.txt":
        lines[3] += " of upstream"
    return lines


def content(tag: str, marks: Iterable[int], places: Places) -> dict[str, str]:
    """The files of a tree: the base with ``marks``, at the ends of their lines, in order."""
    files = {name: base_lines(tag, name) for name in FILES}
    for mark in sorted(marks):
        name, number = places[mark]
        at = next(
            at for at, text in enumerate(files[name]) if label(text).endswith(f"line {number}")
        )
        files[name][at] += f" mark-{mark}"
    return {name: "".join(f"{text}\n" for text in lines) for name, lines in files.items()}


def label(text: str) -> str:
    """The first words of a line, which nobody changes."""
    return " ".join(text.split()[:3])


def marks_of(text: str) -> Marks:
    return frozenset(map(int, MARK.findall(text)))


def tree_id(files: Mapping[str, str]) -> str:
    """The id of the tree with these files, as git computes it."""

    def digest(kind: str, data: bytes) -> bytes:
        return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data).digest()

    entries = (
        f"100644 {name}\0".encode() + digest("blob", text.encode())
        for name, text in sorted(files.items())
    )
    return digest("tree", b"".join(entries)).hex()


# -- what lies on the disk -----------------------------------------------------------------------


class Malformed(AssertionError):
    """A line is not what the model can read, or its patches do not apply one after the other."""


def read_line(folder: Path, tags: Mapping[str, str]) -> LineState:
    """The line at ``folder``. ``tags`` are the tags by commit. Each patch is applied to what those
    before it made: Malformed is raised if a line that it removes is not there."""
    base = tags[re.findall(r'^base = "(.*)"$', (folder / "upstream.toml").read_text(), re.M)[0]]
    entries = [line.split("#")[0].strip() for line in (folder / "series").read_text().splitlines()]
    files = {name: base_lines(base, name) for name in FILES}
    series = []
    for entry in filter(None, entries):
        change, steps = read_patch(folder / entry)
        for name, before, after in steps:
            if before not in files[name]:
                raise Malformed(f"{folder.name}/{entry} changes {before!r}, which is not there")
            files[name][files[name].index(before)] = after
        series.append(change)
    shelf = {read_patch(path)[0] for path in sorted((folder / "shelf").glob("*.patch"))}
    found = {path.name for path in folder.glob("*.patch")}
    if len(series) != len(found) or {f"{change.slug}.patch" for change in series} != found:
        raise Malformed(f"{folder.name}/series and the files differ: {sorted(found)}")
    return LineState(base, tuple(series), frozenset(shelf))


def read_patch(path: Path) -> tuple[Change, list[tuple[str, str, str]]]:
    """A patch, and for each line that it changes: the file, the old text and the new one."""
    if not path.is_file():
        raise Malformed(f"there is no {path}")
    text = path.read_text()
    head, _, diff = text.partition("\ndiff --git ")
    subject = re.findall(r"^Subject: (?:\[PATCH\] )?(.*(?:\n .*)*)", head, re.M)[0]
    name, steps = "", []
    old: list[str] = []
    marks: set[int] = set()
    for line in diff.splitlines():
        if line.startswith("+++ b/"):
            name = line[6:]
        elif line.startswith(("-f", "+f")):
            (old if line[0] == "-" else steps).append((name, line[1:]))  # type: ignore[arg-type]
    pairs = {(name, label(text)): text for name, text in old}
    changes = []
    for name, after in steps:
        before = pairs.pop((name, label(after)), "")
        if not marks_of(before) < marks_of(after):
            raise Malformed(f"{path.name} makes {after!r} of {before!r}")
        marks |= marks_of(after) - marks_of(before)
        changes.append((name, before, after))
    if pairs:
        raise Malformed(f"{path.name} removes {sorted(pairs.values())}")
    return Change(path.stem, " ".join(subject.split()), frozenset(marks)), changes


def mail_of(subject: str, mark: int, before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """A mail with a patch, as `git format-patch` writes it."""
    text = (
        f"From {'0' * 40} Mon Sep 17 00:00:00 2001\nFrom: A Person <person@example.org>\n"
        f"Date: Fri, 2 Jan 2026 03:04:05 +0100\nSubject: [PATCH] {subject}\n\nWhy {mark}.\n\n"
        f"{TRAILERS}\n---\n"
    )
    for name in FILES:
        old, new = before[name], after[name]
        if old != new:
            ids = [hashlib.sha1(f"blob {len(data)}\0{data}".encode()).hexdigest()
                   for data in (old, new)]  # fmt: skip
            text += f"diff --git a/{name} b/{name}\nindex {ids[0]}..{ids[1]} 100644\n"
            text += "".join(difflib.unified_diff(
                old.splitlines(True), new.splitlines(True), f"a/{name}", f"b/{name}"
            ))  # fmt: skip
    return text


# -- the people ----------------------------------------------------------------------------------


@dataclass
class Session:
    """An edit, an import or a rebase that waits for a person. ``wanted`` is the line once it is
    done, and ``steps`` are the patches in order, each with all marks of the tree after it. It waits
    at ``slug``, in ``folder``. ``line`` is how the line was when it began. It may be refused in the
    end if a patch of it would be empty (``hollow``)."""

    verb: str
    line: LineState
    wanted: LineState
    steps: tuple[tuple[str, Marks], ...]
    slug: str
    folder: Path
    hollow: bool = False

    def tree(self) -> Marks:
        return dict(self.steps)[self.slug]


@dataclass(frozen=True)
class Commit:
    """A commit in a work tree. ``head`` is its author's line and its message, as fast-import takes
    them; ``slug`` is None for one that is no patch yet."""

    oid: str
    slug: str | None
    subject: str
    marks: Marks
    author: str
    body: str


@dataclass
class WorkTree:
    """The work tree of a person. ``recorded`` is the line that it was made of or written to last,
    ``head`` the commit that fixtool left there, ``dirty`` are marks that are not committed,
    ``dropped`` slugs of commits that the person took out."""

    git: Git
    recorded: LineState | None = None
    head: str = ""
    commits: tuple[Commit, ...] = ()
    dirty: Marks = frozenset()
    dropped: tuple[str, ...] = ()

    @property
    def marks(self) -> Marks:
        return frozenset().union(*(commit.marks for commit in self.commits))


@dataclass
class Typed:
    """A command that a person has typed, and how all was before it and after it. ``number`` is
    that of its entry in the log, None if it made none."""

    verb: str
    before: Snapshot
    after: Snapshot | None = None
    number: int | None = None
    undone: bool = False


@dataclass(frozen=True)
class Snapshot:
    """What fixtool changes of a person's: the lines, what waits, and the work tree."""

    lines: Mapping[str, LineState]
    sessions: Mapping[tuple[str, str], Session]
    tree: WorkTree

    def is_same_for_fixtool(self, other: Snapshot | None) -> bool:
        return other is not None and (self.lines, self.sessions) == (other.lines, other.sessions)


@dataclass
class Person:
    """``typed`` are the commands that undo may take back, or redo do again. They are forgotten when
    a command dies: what the log then holds, the model cannot know."""

    name: str
    root: Path
    typed: list[Typed] = field(default_factory=list)
    lines: dict[str, LineState] = field(default_factory=dict)
    sessions: dict[tuple[str, str], Session] = field(default_factory=dict)  # by verb and line
    tree: WorkTree = field(default_factory=lambda: WorkTree(Git(Path())))

    @property
    def git(self) -> Git:
        return Git(self.root / self.name)

    def snapshot(self) -> Snapshot:
        sessions = {key: replace(session) for key, session in self.sessions.items()}
        return Snapshot(dict(self.lines), sessions, replace(self.tree))

    def close(self) -> None:
        """Note how all is after the last command: the next thing is about to happen."""
        if self.typed and self.typed[-1].after is None:
            last = self.typed[-1]
            last.after = self.snapshot()
            if last.number is None:
                assert last.before.is_same_for_fixtool(last.after), f"the log has no {last.verb}"
                self.typed.pop()

    def newest_entry(self) -> int:
        """The number of the newest entry of the operation log."""
        folder = self.root / f"home-{self.name}" / "state" / "operations"
        return max((int(path.stem) for path in folder.glob("*/[0-9]*.json")), default=0)

    def kept_sessions(self) -> set[tuple[str, str]]:
        """What waits, as the state folder tells it."""
        state = self.root / f"home-{self.name}" / "state"
        found = set()
        for verb in ("edit", "rebase", "import"):
            for path in (state / verb).glob("*.json"):
                found.add((verb, path.stem.rpartition("-")[2]))
        return found

    def folder(self, line: str) -> Path:
        return self.git.path / "patches" / line

    @property
    def env(self) -> dict[str, str]:
        home = self.root / f"home-{self.name}"
        return {
            "HOME": str(home), "FIXTOOL_STATE_DIR": str(home / "state"),
            "FIXTOOL_CACHE_DIR": str(home / "cache"), "FIXTOOL_SOURCE": str(self.root / "upstream"),
            "TMPDIR": str(self.root / "tmp"),
        }  # fmt: skip


class World:
    """An upstream, a bare patch repository and two clones of it, each with a work tree. Every
    history begins with a fresh copy, always at the same place."""

    def __init__(self, folder: Path) -> None:
        self.root, self.template = folder / "world", folder / "template"
        self.judge = folder / "judge"
        self.places: Places = {}
        self.sound: set[str] = set()  # digests of lines that lint and apply have judged
        self.root.mkdir(parents=True)
        for name in ("upstream", "hub", "ada", "tmp", "trees"):
            (self.root / name).mkdir()
        self._build()
        self.root.rename(self.template)

    def _build(self) -> None:
        upstream = Git(self.root / "upstream")
        upstream("init", "--quiet", "--template=", "--initial-branch=main")
        self.tags = {}
        for tag in TAGS:
            files = content(tag, (), {})
            for name, text in files.items():
                upstream.write(name, text)
            self.tags[upstream.commit(f"release {tag}")] = tag
            upstream("tag", tag)
        team = Team(self.root / "ada", upstream)
        for line, marks in (("main", (1, 2, 3)), ("other", (4, 5))):
            team.line(line)
            made: list[int] = []
            for mark in marks:
                self.places[mark] = PLACES[(0, 6, 0, 2, 6)[mark - 1]]
                made.append(mark)
                self._patch(team, line, made)
        ada = team.track()
        Git(self.root / "hub")("init", "--quiet", "--template=", "--bare", "--initial-branch=main")
        ada("remote", "add", "origin", str(self.root / "hub"))
        ada("push", "--quiet", "--set-upstream", "origin", "main")
        subprocess.run(["git", "clone", "--quiet", "--template=", "hub", "bob"], cwd=self.root,
                       check=True, capture_output=True)  # fmt: skip
        for name in PEOPLE:
            person = Person(name, self.root)
            for setting in ("user.name=M", "user.email=m@example.org", "gc.auto=0"):
                person.git("config", *setting.split("="))
            for line in LINES:
                words = ["lint", "--drift", "--line", line]
                assert run_here(*words, cwd=person.git.path, env=person.env).status == 0
            words = ["apply", "--line", "main", "--ref", "v1.0", "--no-build", "--worktree"]
            folder = self.root / "trees" / name
            ran = run_here(*words, folder, cwd=person.git.path, env=person.env)
            assert ran.status == 0, ran.err

    def _patch(self, team: Team, line: str, marks: Sequence[int]) -> None:
        git, mark = team.upstream, marks[-1]
        git("checkout", "--quiet", "--detach", "v1.0")
        for made in (marks[:-1], marks):
            for name, text in content("v1.0", made, self.places).items():
                git.write(name, text)
            git.commit(f"say mark-{mark}\n\nWhy {mark}.\n\n{TRAILERS}")
        team.add(f"p{mark}", format_patch(git), line)
        git("checkout", "--quiet", "main")

    def commit(self, tag: str) -> str:
        return next(oid for oid, name in self.tags.items() if name == tag)

    def reset(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        subprocess.run(["cp", "-a", self.template, self.root], check=True)


# -- the machine ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Done:
    """What a command gave. ``died`` says that it was killed once, and typed again."""

    status: int
    document: dict[str, Any]
    died: bool = False

    @property
    def message(self) -> str:
        error = self.document.get("error") or {}
        return f"{error.get('message')} (at {error.get('where')}; try {error.get('hint')})"


who_ = st.sampled_from(PEOPLE)
line_ = st.sampled_from(("main", "main", "other"))
number_ = st.integers(0, 99)
place_ = st.integers(0, len(PLACES) - 1)
often_ = st.sampled_from((True, True, True, False))


class Histories(RuleBasedStateMachine):
    """Every rule is one command of fixtool, or what a person does with plain git."""

    world: ClassVar[World]
    counts: ClassVar[Counter[str]] = Counter()
    deaths: ClassVar[float] = 0.15

    def __init__(self) -> None:
        super().__init__()
        world = self.world
        world.reset()
        self.places = dict(world.places)
        self.story: list[str] = []
        self.people = {name: Person(name, world.root) for name in PEOPLE}
        for person in self.people.values():
            person.lines = self.read(person)
            person.tree = WorkTree(Git(world.root / "trees" / person.name))
            self.look_at_tree(person)
        self.counts["histories"] += 1

    # -- reading and judging -----------------------------------------------------------------

    def read(self, person: Person) -> dict[str, LineState]:
        return {line: read_line(person.folder(line), self.world.tags) for line in LINES}

    def content(self, tag: str, marks: Iterable[int]) -> dict[str, str]:
        return content(tag, marks, self.places)

    def tell(self, *words: object) -> None:
        self.story.append(" ".join(map(str, words)))

    def look_at_tree(self, person: Person) -> None:
        """Read the commits that apply has made in the person's work tree of main."""
        line = person.lines["main"]
        form = "%H%x01%an <%ae> %ad%x01%s%x01%b%x02"
        out = person.tree.git("log", "--reverse", f"--format={form}", "--date=raw",
                              f"{self.world.commit(line.base)}..HEAD")  # fmt: skip
        commits = []
        for text, change in zip(out.split("\x02"), line.series, strict=False):
            oid, author, subject, body = text.strip("\n").split("\x01")
            assert subject == change.subject, (subject, change)
            commits.append(Commit(oid, change.slug, subject, change.marks, author, body))
        assert len(commits) == len(line.series) == out.count("\x02"), (commits, line)
        head = commits[-1].oid if commits else ""
        person.tree = WorkTree(person.tree.git, line, head, tuple(commits))

    def require_files(self, git: Git, tag: str, marks: Marks) -> None:
        """The files of a work tree are those of the base with the marks."""
        for name, text in self.content(tag, marks).items():
            assert (git.path / name).read_text() == text, (git.path / name, sorted(marks))

    def judge(self, person: Person) -> None:
        """lint finds no error, and apply makes the tree of the model. They have a cache of their own:
        what is judged once is not judged again, and a command must not go otherwise then."""
        for line, state in person.lines.items():
            folder = person.folder(line)
            digest = hashlib.sha256(line.encode())
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    digest.update(f"{path.name}\0".encode() + path.read_bytes())
            if digest.hexdigest() in self.world.sound:
                continue
            cwd, judge = person.git.path, self.world.judge
            env = {
                **person.env, "FIXTOOL_STATE_DIR": str(judge / "state"),
                "FIXTOOL_CACHE_DIR": str(judge / "cache"),
            }  # fmt: skip
            ran = run_here("lint", "--line", line, "--json", cwd=cwd, env=env)
            assert ran.status == 0, ran.out
            if state.series:
                ran = run_here("apply", "--line", line, "--ref", state.base, "--dry-run", "--json",
                               cwd=cwd, env=env)  # fmt: skip
                assert ran.status == 0, ran.out
                wanted = tree_id(self.content(state.base, state.marks))
                assert json.loads(ran.out)["tree"] == wanted, (state, ran.out)
            self.world.sound.add(digest.hexdigest())

    # -- running fixtool -----------------------------------------------------------------------

    def call(
        self, person: Person, *words: str | Path, cwd: Path | None = None, again: bool = False
    ) -> Done:
        """Run fixtool once, or, if it is to die now, until it dies and then ``again``."""
        given, folder = [*words, "--json"], cwd or person.git.path
        point = 0 if again else self.next_death()
        self.counts["runs"] += 1
        self.counts[f"verb {words[0]}"] += 1
        person.close()
        before = person.newest_entry()
        if words[0] not in ("undo", "redo"):
            person.typed.append(Typed(str(words[0]), person.snapshot()))
        if point:
            ran = run_and_die(given, folder, person.env, person.root, point)
            self.tell(f"{person.name}$ fixtool", *words, f"(dies at {point})" if not ran else "")
            if ran is None:
                self.counts["deaths"] += 1
                person.typed.clear()
                done = self.call(person, *words, cwd=cwd, again=True)
                person.typed.clear()
                return replace(done, died=True)
        else:
            self.tell(f"{person.name}$ fixtool", *words)
            ran = run_here(*given, cwd=folder, env=person.env)
        assert ran is not None
        self.story[-1] += f"  -> {ran.status}"
        assert ran.status in CODES, (ran.status, ran.out, ran.err)
        document = json.loads(ran.out)
        assert document["exit_code"] == ran.status
        newest = person.newest_entry()
        if words[0] not in ("undo", "redo") and newest > before:
            person.typed = [typed for typed in person.typed if not typed.undone]
            person.typed[-1].number = newest
        self.counts[f"exit {ran.status}"] += 1
        done = Done(ran.status, document)
        if ran.status in (1, 2, 4):
            self.tell("    ", done.message)
        return done

    def do(
        self,
        person: Person,
        *words: str | Path,
        after: Mapping[str, LineState] | None = None,
        cwd: Path | None = None,
        loses: Marks | None = frozenset(),
    ) -> Done:
        """Run a command that gives the line ``after`` if it succeeds, and judge what it left. If
        ``after`` is None, the caller judges the lines, and takes what is there. No change may go
        from the patches of a line, in its series or on its shelf, but those of ``loses``; None are
        any."""
        before = person.lines
        wanted = {**before, **after} if after is not None else None
        done = self.call(person, *words, cwd=cwd)
        now = self.read(person)
        if done.status == 0 and wanted is not None:
            assert now == wanted, differing(now, wanted)
        elif done.status and not (done.died and wanted in (now, None)):
            assert now == before, differing(now, before)
        for line, state in before.items() if loses is not None else ():
            lost = state.everything - now[line].everything - (loses or frozenset())
            assert not lost, f"{words[0]} has lost {sorted(lost)} of line {line}"
        person.lines = now
        assert person.git("status", "--porcelain") == "", person.git("status", "--porcelain")
        self.judge(person)
        return done

    def refused(self, done: Done, *allowed: bool) -> None:
        """A command may be refused if one of the reasons is there, or if it had died before."""
        assert done.died or any(allowed), done.message

    def waits(self, person: Person, line: str) -> bool:
        """Whether something waits in a line: no other command changes it then."""
        return any(where == line for _, where in person.sessions)

    # -- small choices -----------------------------------------------------------------------

    def new_mark(self, place: int) -> int:
        mark = max(self.places) + 1
        self.places[mark] = PLACES[place]
        return mark

    def touches(self, first: Marks, second: Marks) -> bool:
        """Whether marks of both are on one line."""
        return not {self.places[mark] for mark in first}.isdisjoint(
            self.places[mark] for mark in second
        )

    def message(self, mark: int, again: str = "") -> tuple[str, ...]:
        return "-m", f"say mark-{mark}{again}", "-m", f"Why {mark}.", "-m", TRAILERS

    # -- verbs that need nobody ---------------------------------------------------------------

    @rule(who=who_, line=line_, number=number_)
    def reword(self, who: str, line: str, number: int) -> None:
        person, state = self.people[who], self.people[who].lines[line]
        if not state.series:
            return
        change = state.series[number % len(state.series)]
        mark = min(change.marks)
        subject = f"say mark-{mark} again {number}"
        series = [replace(other, subject=subject) if other == change else other
                  for other in state.series]  # fmt: skip
        done = self.do(
            person, "reword", change.slug, *self.message(mark, f" again {number}"), "--line", line,
            after={line: state.with_series(series)},
        )  # fmt: skip
        if done.status:
            self.refused(done, self.waits(person, line))

    @rule(who=who_, line=line_, number=number_, name=number_)
    def rename(self, who: str, line: str, number: int, name: int) -> None:
        person, state = self.people[who], self.people[who].lines[line]
        if not state.series:
            return
        change = state.series[number % len(state.series)]
        slug = f"renamed-{name}"
        taken = slug in state.slugs or slug in {other.slug for other in state.shelf}
        series = [replace(other, slug=slug) if other == change else other for other in state.series]
        done = self.do(person, "rename", change.slug, slug, "--line", line,
                       after={line: state.with_series(series)})  # fmt: skip
        if done.status:
            self.refused(done, self.waits(person, line), taken)

    @rule(who=who_, line=line_, number=number_)
    def drop(self, who: str, line: str, number: int) -> None:
        person, state = self.people[who], self.people[who].lines[line]
        if not state.series:
            return
        at = number % len(state.series)
        change, later = state.series[at], state.series[at + 1 :]
        wanted = replace(state, series=state.series[:at] + later, shelf=state.shelf | {change})
        done = self.do(person, "drop", change.slug, "--reason", f"{number}", "--line", line,
                       after={line: wanted})  # fmt: skip
        if done.status == 1:
            self.refused(done, self.waits(person, line), self.touched_later(change, later))

    def touched_later(self, change: Change, later: Sequence[Change]) -> bool:
        return any(self.touches(change.marks, other.marks) for other in later)

    @rule(who=who_, line=line_, number=number_, hunk=st.booleans())
    def split(self, who: str, line: str, number: int, hunk: bool) -> None:
        person, state = self.people[who], self.people[who].lines[line]
        several = [change for change in state.series if len(self.files_of(change)) > 1]
        if not several:
            return
        change = several[number % len(several)]
        path = sorted(self.files_of(change))[0]
        moved = {mark for mark in change.marks if self.places[mark][0] == path}
        if hunk:
            first = min(self.places[mark][1] for mark in moved)
            moved = {mark for mark in moved if self.places[mark][1] == first}
        slug = f"part-{min(moved)}-{number}"
        if slug in state.slugs:
            return
        into = f"{slug}={path}{':1' if hunk else ''}"
        done = self.do(person, "split", change.slug, "--into", into, "--line", line)
        now = person.lines[line]
        if done.status == 0 or (done.died and now != state):
            parts = {slug: frozenset(moved), change.slug: change.marks - moved}
            at = state.series.index(change)
            found = now.series[at : at + 2]
            assert {part.slug: part.marks for part in found} == parts, (found, parts)
            assert now == state.with_series(
                (*state.series[:at], *found, *state.series[at + 1 :])
            ), (now, state)
        else:
            self.refused(done, self.waits(person, line))

    def files_of(self, change: Change) -> set[str]:
        return {self.places[mark][0] for mark in change.marks}

    # -- verbs that may need a person ---------------------------------------------------------

    def begin(
        self, person: Person, line: str, wanted: LineState, order: Sequence[Change],
        *words: str | Path, stops: bool = False, now: bool = True, allowed: Sequence[bool] = (),
        session: str = "edit",
    ) -> None:  # fmt: skip
        """Type a command that may wait. ``order`` are the patches as they come, also those that
        end up empty."""
        state = person.lines[line]
        waiting = self.waits(person, line)
        done = self.do(person, *words, after={} if stops else {line: wanted})
        if done.died and done.status in (1, 2) and person.lines[line] == state and not waiting:
            self.end(person, session, line)  # it died while it began to wait, or was not done
            return
        if done.status == 3 or (done.status == 0 and stops):
            assert not waiting, done.document
            slug, folder = self.waits_at(done.document)
            slug = slug or order[-1].slug  # import does not name what it brings
            steps, marks = [], frozenset[int]()
            for change in order:
                marks |= change.marks
                steps.append((change.slug, marks))
            person.sessions[session, line] = Session(
                str(words[0]), state, wanted, tuple(steps), slug, folder,
                not all(change.marks for change in wanted.series),
            )  # fmt: skip
            if now:
                self.finish(person, session, line)
        elif done.status:
            self.refused(done, waiting, *allowed)

    @staticmethod
    def waits_at(document: Mapping[str, Any]) -> tuple[str, Path]:
        """The slug and the work tree of what waits now."""
        if "edited" in document:
            waiting = document["edited"]["waiting"]
            return waiting["slug"], Path(waiting["worktree"])
        session = document["session"]
        return session.get("patch") or "", Path(session["worktree"])

    def finish(self, person: Person, session: str, line: str) -> None:
        for _ in range(12):
            if (session, line) not in person.sessions:
                return
            self.go_on(person, session, line)
        raise AssertionError("it waits again and again")

    def go_on(self, person: Person, kind: str, line: str) -> None:
        """Resolve what waits as the model has it, and go on."""
        session = person.sessions[kind, line]
        git = Git(session.folder)
        base = session.wanted.base
        for name, text in self.content(base, session.tree()).items():
            git.write(name, text)
        git("add", "--all")
        changed = person.lines[line] != session.line
        words = (session.verb if kind == "edit" else kind, "--continue", "--line", line)
        done = self.do(person, *words, after={line: session.wanted} if not changed else {})
        if done.status == 0 or (done.died and person.lines[line] != session.line):
            assert not changed, "it went on over the change of another"
            del person.sessions[kind, line]
        elif done.status == 3:
            slug, session.folder = self.waits_at(done.document)
            session.slug = slug or session.slug
        elif done.died:
            self.end(person, kind, line)
        else:
            assert changed or session.hollow, done.message
            self.end(person, kind, line)

    def end(self, person: Person, kind: str, line: str) -> None:
        """Abort what waits, if anything does."""
        waits = person.sessions.get((kind, line))
        done = self.do(person, kind, "--abort", "--line", line, after={})
        person.sessions.pop((kind, line), None)
        assert done.status in (0, 2), done.message
        assert done.status == 0 or waits is None or done.died, done.message
        if waits is None:
            person.typed.clear()  # what undo would bring back is unknown to the model

    @rule(who=who_, line=line_, number=number_, place=place_, before=st.booleans(), now=often_)
    def new(self, who: str, line: str, number: int, place: int, before: bool, now: bool) -> None:
        person, state = self.people[who], self.people[who].lines[line]
        mark = self.new_mark(place)
        change = Change(f"p{mark}", f"say mark-{mark}", frozenset({mark}))
        series, at = list(state.series), self.place(state, number, before)
        series.insert(at[0], change)
        self.begin(
            person, line, state.with_series(series), series,
            "new", change.slug, *self.message(mark), *at[1], "--line", line, stops=True, now=now,
        )  # fmt: skip

    def place(
        self, state: LineState, number: int, before: bool, without: str = ""
    ) -> tuple[int, tuple[str, ...]]:
        """A place in the series without a patch, and the words for it."""
        slugs = [slug for slug in state.slugs if slug != without]
        if not slugs:
            return 0, ()
        at = number % len(slugs)
        return at + (not before), ("--before" if before else "--after", slugs[at])

    @rule(who=who_, line=line_, number=number_, place=place_, take=st.booleans(), now=often_)
    def edit(self, who: str, line: str, number: int, place: int, take: bool, now: bool) -> None:
        """Add a mark to a patch, or all marks of a later one, which is then empty."""
        person, state = self.people[who], self.people[who].lines[line]
        if not state.series:
            return
        at = number % len(state.series)
        change, later = state.series[at], state.series[at + 1 :]
        emptied = later[-1] if take and later else None
        marks = emptied.marks if emptied else frozenset({self.new_mark(place)})
        order = [replace(other, marks=other.marks | marks) if other == change else other
                 for other in state.series]  # fmt: skip
        wanted = state.with_series(other for other in order if other != emptied)
        if emptied:
            wanted = replace(wanted, shelf=wanted.shelf | {emptied})
        self.begin(person, line, wanted, order, "edit", change.slug, "--line", line,
                   stops=True, now=now)  # fmt: skip

    @rule(who=who_, line=line_, number=number_, to=number_, before=st.booleans(), now=often_)
    def move(self, who: str, line: str, number: int, to: int, before: bool, now: bool) -> None:
        person, state = self.people[who], self.people[who].lines[line]
        if len(state.series) < 2:
            return
        change = state.series[number % len(state.series)]
        order = [other for other in state.series if other != change]
        at, words = self.place(state, to, before, change.slug)
        order.insert(at, change)
        self.begin(person, line, state.with_series(order), order,
                   "move", change.slug, *words, "--line", line, now=now)  # fmt: skip

    @rule(who=who_, line=line_, number=number_, other=number_, now=often_)
    def squash(self, who: str, line: str, number: int, other: int, now: bool) -> None:
        person, state = self.people[who], self.people[who].lines[line]
        if len(state.series) < 2:
            return
        first, second = sorted({number % len(state.series), other % len(state.series)} | {0, 1})[
            -2:
        ]
        into, gone = state.series[first], state.series[second]
        joined = replace(into, marks=into.marks | gone.marks)
        order = [joined if change == into else change for change in state.series if change != gone]
        self.begin(person, line, state.with_series(order), order,
                   "squash", into.slug, gone.slug, "--line", line, now=now)  # fmt: skip

    @rule(who=who_, line=line_, number=number_, to=number_, before=st.booleans(), now=often_)
    def copy(self, who: str, line: str, number: int, to: int, before: bool, now: bool) -> None:
        person = self.people[who]
        target = LINES[1 - LINES.index(line)]
        state, aim = person.lines[line], person.lines[target]
        taken = {change.slug for change in (*aim.series, *aim.shelf)}
        free = [change for change in state.series
                if change.slug not in taken and not change.marks & aim.marks]  # fmt: skip
        if not free:
            return
        change = free[number % len(free)]
        at, words = self.place(aim, to, before)
        order = list(aim.series)
        order.insert(at, change)
        self.begin(person, target, aim.with_series(order), order,
                   "copy", change.slug, "--line", line, "--to", target, *words, now=now)  # fmt: skip

    @rule(who=who_, line=line_, number=number_, to=number_, before=st.booleans(), now=often_)
    def restore(self, who: str, line: str, number: int, to: int, before: bool, now: bool) -> None:
        person, state = self.people[who], self.people[who].lines[line]
        shelf = sorted(state.shelf, key=lambda change: change.slug)
        if not shelf:
            return
        change = shelf[number % len(shelf)]
        at, words = self.place(state, to, before)
        order = list(state.series)
        order.insert(at, change)
        series = apart(order)
        wanted = replace(state.with_series(series), shelf=state.shelf - {change})
        empty = not all(other.marks for other in series)
        self.begin(person, line, wanted, order, "restore", change.slug, *words, "--line", line,
                   now=now, allowed=[empty])  # fmt: skip

    @rule(who=who_, line=line_, skip=st.booleans(), now=often_)
    def rebase(self, who: str, line: str, skip: bool, now: bool) -> None:
        person, state = self.people[who], self.people[who].lines[line]
        tag = TAGS[1 - TAGS.index(state.base)]
        self.begin(person, line, replace(state, base=tag), state.series,
                   "rebase", "--onto", tag, "--line", line, now=now, session="rebase")  # fmt: skip

    @rule(
        who=who_,
        line=line_,
        kind=st.sampled_from(("edit", "rebase", "import")),
        abort=st.booleans(),
    )
    def what_waits(self, who: str, line: str, kind: str, abort: bool) -> None:
        person = self.people[who]
        if (kind, line) in person.sessions:
            (self.end if abort else self.finish)(person, kind, line)

    # -- import ----------------------------------------------------------------------------------

    @rule(who=who_, line=line_, place=place_, fresh=st.booleans(), now=often_)
    def bring(self, who: str, line: str, place: int, fresh: bool, now: bool) -> None:
        """Import a mail, made on the base alone or on the whole series."""
        person, state = self.people[who], self.people[who].lines[line]
        mark = self.new_mark(place)
        below = frozenset() if fresh else state.marks
        files = [self.content(state.base, marks) for marks in (below, below | {mark})]
        mail = person.root / "tmp" / f"{mark}.patch"
        mail.write_text(mail_of(f"say mark-{mark}", mark, *files))
        change = Change(f"say-mark-{mark}", f"say mark-{mark}", frozenset({mark}))
        order = [*state.series, change]
        self.begin(person, line, state.with_series(order), order,
                   "import", mail, "--line", line, now=now, session="import")  # fmt: skip

    # -- the work tree ---------------------------------------------------------------------------

    @rule(who=who_)
    def apply(self, who: str) -> None:
        """Make the work tree of main, or let it move on to the line as it is now."""
        person, tree = self.people[who], self.people[who].tree
        done = self.do(
            person, "apply", "--line", "main", "--ref", person.lines["main"].base, "--no-build",
            "--worktree", tree.git.path, after={},
        )  # fmt: skip
        if done.status == 0:
            assert not tree.dirty
            assert self.saved(tree), "apply went over commits that are in no patch"
            self.look_at_tree(person)
            self.require_tree(person)
        else:
            self.refused(done, tree.recorded is None, bool(tree.dirty), not self.saved(tree),
                         not person.lines["main"].series)  # fmt: skip
            self.require_tree(person)

    def saved(self, tree: WorkTree) -> bool:
        """Whether the commits of a work tree are those that fixtool knows."""
        return tree.head == (tree.commits[-1].oid if tree.commits else "")

    def require_tree(self, person: Person) -> None:
        """The work tree is what the model says."""
        tree = person.tree
        if tree.recorded is not None:
            self.require_files(tree.git, tree.recorded.base, tree.marks | tree.dirty)
            if tree.commits:
                assert tree.git("rev-parse", "HEAD") == tree.commits[-1].oid

    def rebuild(self, person: Person, commits: Sequence[Commit], how: str) -> None:
        """Give the work tree these commits, as `git rebase -i` does: those that stay at the
        beginning keep their ids."""
        tree = person.tree
        person.close()
        assert tree.recorded is not None
        tag = tree.recorded.base
        kept = 0
        while kept < min(len(commits), len(tree.commits)) and (commits[kept] == tree.commits[kept]):
            kept += 1
        parent = tree.commits[kept - 1].oid if kept else self.world.commit(tag)
        marks = frozenset[int]().union(*(commit.marks for commit in commits[:kept]))
        text: list[bytes] = []
        for number, commit in enumerate(commits[kept:], 1):
            marks |= commit.marks
            message = f"{commit.subject}\n\n{commit.body}\n".encode()
            author = commit.author.encode()
            text.append(
                b"commit refs/worktree/again\nmark :%d\nauthor %s\ncommitter %s\ndata %d\n%s\n"
                % (number, author, author, len(message), message)
            )
            text.append(b"from %s\n" % (parent.encode() if number == 1 else b":%d" % (number - 1)))
            for name, content in self.content(tag, marks).items():
                data = content.encode()
                text.append(b"M 100644 inline %s\ndata %d\n%s\n" % (name.encode(), len(data), data))
        file = person.root / "tmp" / "marks"
        file.unlink(missing_ok=True)
        if text:
            tree.git("fast-import", "--quiet", "--force", f"--export-marks={file}",
                     stdin=b"".join(text))  # fmt: skip
            oids = dict(line[1:].split() for line in file.read_text().splitlines())
            new = [replace(commit, oid=oids[str(number)])
                   for number, commit in enumerate(commits[kept:], 1)]  # fmt: skip
        else:
            new = []
        tree.commits = (*commits[:kept], *new)
        head = tree.commits[-1].oid if tree.commits else self.world.commit(tag)
        tree.git("reset", "--quiet", "--hard", head)
        self.tell(f"{person.name}'s work tree: {how}:",
                  *(f"{commit.subject}{sorted(commit.marks)}" for commit in tree.commits))  # fmt: skip

    def usable(self, person: Person) -> bool:
        return person.tree.recorded is not None and not person.tree.dirty

    @rule(who=who_, number=number_, place=place_)
    def amend(self, who: str, number: int, place: int) -> None:
        person, commits = self.people[who], list(self.people[who].tree.commits)
        if self.usable(person) and commits:
            at = number % len(commits)
            marks = commits[at].marks | {self.new_mark(place)}
            commits[at] = replace(commits[at], marks=marks, oid="")
            self.rebuild(person, commits, f"amend commit {at}")

    @rule(who=who_, number=number_, place=place_)
    def commit(self, who: str, number: int, place: int) -> None:
        person, commits = self.people[who], list(self.people[who].tree.commits)
        if self.usable(person):
            mark = self.new_mark(place)
            commits.insert(number % (len(commits) + 1), self.own_commit(mark, frozenset({mark})))
            self.rebuild(person, commits, "commit")

    def own_commit(self, mark: int, marks: Marks) -> Commit:
        author = f"A Person <person@example.org> {1770000000 + mark} +0100"
        return Commit("", None, f"say mark-{mark} too", marks, author, f"Why {mark}.\n\n{TRAILERS}")

    @rule(who=who_, number=number_,
          how=st.sampled_from(("reword", "swap", "squash", "split", "drop", "take", "give")))  # fmt: skip
    def by_git(self, who: str, number: int, how: str) -> None:
        """What a person does to the commits with plain git."""
        person, commits = self.people[who], list(self.people[who].tree.commits)
        if not self.usable(person) or len(commits) < 2:
            return
        at = number % (len(commits) - 1)
        first, second = commits[at], commits[at + 1]
        if how == "reword":
            commits[at] = replace(first, subject=f"{first.subject} {number}", oid="")
        elif how == "swap":
            commits[at : at + 2] = [replace(second, oid=""), replace(first, oid="")]
        elif how == "squash":
            marks = first.marks | second.marks
            commits[at : at + 2] = [replace(first, marks=marks, oid="")]
        elif how == "split" and len(first.marks) > 1:
            least = min(first.marks)
            rest = self.own_commit(max(first.marks), first.marks - {least})
            commits[at : at + 1] = [replace(first, marks=frozenset({least}), oid=""), rest]
        elif how == "take" and len(second.marks) > 1:  # one hunk of another commit
            moved = {min(second.marks)}
            commits[at : at + 2] = [
                replace(first, marks=first.marks | moved, oid=""),
                replace(second, marks=second.marks - moved, oid=""),
            ]
        elif how == "give" and len(first.marks) > 1:
            moved = {max(first.marks)}
            commits[at : at + 2] = [
                replace(first, marks=first.marks - moved, oid=""),
                replace(second, marks=second.marks | moved, oid=""),
            ]
        elif how == "drop" and first.slug:
            person.tree.dropped += (first.slug,)
            del commits[at]
        self.rebuild(person, commits, how)

    @rule(who=who_, place=place_)
    def edit_a_file(self, who: str, place: int) -> None:
        tree = self.people[who].tree
        self.people[who].close()
        if tree.recorded is not None:
            mark = self.new_mark(place)
            tree.dirty |= {mark}
            for name, text in self.content(tree.recorded.base, tree.marks | tree.dirty).items():
                tree.git.write(name, text)
            self.tell(f"{who}'s work tree: mark-{mark} in {self.places[mark]}, not committed")

    @rule(who=who_, way=st.sampled_from(("reset", "remove")))
    def begin_anew(self, who: str, way: str) -> None:
        """Throw away what is in the work tree, as a person does with plain git, or with rm -rf."""
        tree = self.people[who].tree
        if tree.recorded is None:
            return
        self.people[who].close()
        self.tell(f"{who}'s work tree: {way}")
        if way == "reset":
            tree.git(
                "reset", "--quiet", "--hard", tree.head or self.world.commit(tree.recorded.base)
            )
        else:
            shutil.rmtree(tree.git.path)
        tree.recorded, tree.dirty, tree.commits, tree.dropped = None, frozenset(), (), ()
        tree.head = ""
        self.apply(who)

    @rule(who=who_, verb=st.sampled_from(("refresh", "export")),
          favour=st.sampled_from(("", "--ours", "--theirs")))  # fmt: skip
    def write_back(self, who: str, verb: str, favour: str) -> None:
        """Write the commits of the work tree into their line."""
        person, tree = self.people[who], self.people[who].tree
        line = person.lines["main"]
        if tree.recorded is None:
            return
        words: list[str | Path] = [verb, "--worktree", tree.git.path]
        if tree.dropped and verb == "export":
            words.append("--remove-missing")
        if tree.dirty and verb == "refresh":
            return  # that puts the edits into a patch: see refresh_into
        gone = tree.recorded.marks - tree.marks  # by the person's own hand
        done = self.do(person, *words, loses=gone)
        if done.status == 3:
            assert line != tree.recorded, "nobody else has changed the line"
            named = {both["slug"] for both in done.document["conflicts"]}
            if not favour:
                return
            done = self.do(person, *words, favour, loses=None)
            assert done.status in (0, 3), done.message  # a side alone may not fit either
            self.judge_written(person, line, done, named)
        elif done.status == 0:
            self.judge_written(person, line, done, set())
        else:
            self.refused(done, bool(tree.dirty),
                "no commit in the work tree holds" in done.message,  bool(tree.dropped), line.base != tree.recorded.base,
                         self.waits(person, "main"))  # fmt: skip
        self.require_tree(person)

    @rule(who=who_, number=number_)
    def refresh_into(self, who: str, number: int) -> None:
        """Put what is not committed in the work tree into a patch of the line."""
        person, tree = self.people[who], self.people[who].tree
        named = [commit for commit in tree.commits if commit.slug]
        if tree.recorded is None or not tree.dirty or not named:
            return
        into = named[number % len(named)]
        at = tree.commits.index(into)
        commits = [replace(commit, marks=commit.marks | tree.dirty) if commit == into else commit
                   for commit in tree.commits]  # fmt: skip
        words = ("refresh", into.slug or "", "--worktree", tree.git.path)
        self.write_edits(person, words, commits, frozenset(), [into.slug or ""], at)

    @rule(who=who_)
    def absorb(self, who: str) -> None:
        """Put each edit into the patch that last changed its line."""
        person, tree = self.people[who], self.people[who].tree
        if tree.recorded is None or not tree.dirty or not tree.commits:
            return
        commits, stays = list(tree.commits), set()
        for mark in tree.dirty:
            owners = [number for number, commit in enumerate(tree.commits)
                      if self.touches(commit.marks, frozenset({mark}))]  # fmt: skip
            if owners:
                owner = commits[owners[-1]]
                commits[owners[-1]] = replace(owner, marks=owner.marks | {mark})
            else:
                stays.add(mark)
        slugs = [commit.slug or "" for commit, old in zip(commits, tree.commits, strict=True)
                 if commit != old]  # fmt: skip
        words = ("absorb", "--worktree", tree.git.path)
        self.write_edits(person, words, commits, frozenset(stays), slugs, 0)

    def write_edits(
        self, person: Person, words: Sequence[str | Path], commits: Sequence[Commit], stays: Marks,
        slugs: Sequence[str], at: int,
    ) -> None:  # fmt: skip
        """Run a command that puts uncommitted edits into patches. If it succeeds, the work tree
        has ``commits``, and the edits ``stays``; the patches ``slugs`` of the line have what they
        lacked."""
        tree, line = person.tree, person.lines["main"]
        assert tree.recorded is not None
        plain = (
            line == tree.recorded and all(commit.slug for commit in commits) and self.saved(tree)
        )
        kept = tree.marks | tree.recorded.marks  # what it does not write stays in the work tree
        done = self.do(person, *words, loses=kept)
        now = person.lines["main"]
        if done.died and done.status in (1, 2) and not self.waits(person, "main"):
            self.end(person, "edit", "main")  # it died while it began to wait, or did nothing
        added = {commit.slug: commit.marks for commit in commits}
        wanted = line.with_series(
            replace(change, marks=change.marks | added[change.slug])
            if change.slug in slugs
            else change
            for change in line.series
        )
        if done.status == 0 and not done.died and plain:
            assert now == wanted, differing({"main": now}, {"main": wanted})
        elif "edited" in done.document:
            self.wait_below(
                person, str(words[0]), wanted, done if plain and not done.died else None
            )
            plain = plain and person.lines["main"] == wanted
        elif done.status == 0:
            assert now.marks <= line.marks | tree.marks | tree.dirty, now
        else:
            later = any(self.touches(commit.marks, tree.dirty)
                        for commit in commits[at + 1 :])  # fmt: skip
            self.refused(done, later, not plain, self.waits(person, "main"))
        everything = tree.marks | tree.dirty
        self.require_files(tree.git, tree.recorded.base, everything)
        if done.status in (0, 3) and plain and not done.died:
            self.look_at_tree(person)
            person.tree.dirty = stays
        elif done.status in (0, 3) or done.died:
            person.tree = WorkTree(tree.git)  # what each commit holds is not foreseen here

    def wait_below(self, person: Person, verb: str, wanted: LineState, done: Done | None) -> None:
        """Resolve the conflict of edits with the patches above theirs, or give the edits up if the
        model cannot foresee what they give."""
        if done is None:
            self.end(person, "edit", "main")
            return
        slug, folder = self.waits_at(done.document)
        steps, marks = [], frozenset[int]()
        for change in wanted.series:
            marks |= change.marks
            steps.append((change.slug, marks))
        line = person.lines["main"]
        person.sessions["edit", "main"] = Session(verb, line, wanted, tuple(steps), slug, folder)
        self.finish(person, "edit", "main")

    def judge_written(self, person: Person, before: LineState, done: Done, named: set[str]) -> None:
        """Judge what refresh or export made of the line ``before``. ``named`` are the patches that
        it named before, and for which the person has chosen a side."""
        tree, now = person.tree, person.lines["main"]
        if done.status or tree.recorded is None:
            return
        slugs = {
            file["commit"]: file["slug"] for file in done.document["patches"] if file["commit"]
        }
        commits = [replace(commit, slug=slugs.get(commit.oid, commit.slug))
                   for commit in tree.commits]  # fmt: skip
        assert now.shelf == before.shelf
        if before == tree.recorded:
            wanted = [
                Change(commit.slug or "?", commit.subject, commit.marks) for commit in commits
            ]
            assert now == before.with_series(wanted), differing(
                {"main": now}, {"main": before.with_series(wanted)}
            )
            for commit, old in zip(commits, tree.commits, strict=True):
                assert old.slug in (None, commit.slug), (old, commit.slug)
        else:
            old, own, other = tree.recorded.marks, tree.marks, before.marks
            merged = (old & own & other) | (own - old) | (other - old)
            sided = {mark for change in (*before.series, *tree.recorded.series) for mark in change.marks
                     if change.slug in named}  # fmt: skip
            sided |= {mark for commit in commits for mark in commit.marks if commit.slug in named}
            assert now.marks - sided == merged - sided, (sorted(now.marks), sorted(merged))
            # Whichever side was chosen: what both have is there, and what neither has is not.
            assert own & other <= now.marks <= own | other, (sorted(now.marks), sorted(merged))
        tree.recorded = replace(before, series=tuple(
            Change(commit.slug or "?", commit.subject, commit.marks) for commit in commits
        ))  # fmt: skip
        tree.head = commits[-1].oid if commits else tree.head
        tree.commits, tree.dropped = tuple(commits), ()

    # -- between the two -----------------------------------------------------------------------

    @rule(who=who_)
    def push(self, who: str) -> None:
        self.tell(f"{who}$ git push")
        self.people[who].git("push", "--quiet", "origin", "main", check=False)

    @rule(who=who_, way=st.sampled_from(("theirs", "ours", "abort")))
    def pull(self, who: str, way: str) -> None:
        """git pull. Where git conflicts, or makes patches that do not fit each other, the person
        takes one side's whole commit, or aborts."""
        person = self.people[who]
        person.close()
        git = person.git
        git("fetch", "--quiet", "origin")
        before = git("rev-parse", "HEAD")
        git("merge", "--quiet", "--no-edit", "origin/main", check=False)
        try:
            assert git("status", "--porcelain") == "", "a conflict"
            person.lines = self.read(person)
        except (AssertionError, KeyError):
            git("merge", "--abort", check=False)
            git("reset", "--quiet", "--hard", before if way != "theirs" else "origin/main")
            if way == "ours":
                git("merge", "--quiet", "--no-edit", "--strategy=ours", "origin/main")
            person.lines = self.read(person)
            way = f"conflicts: {way}"
        else:
            way = ""
        self.tell(f"{who}$ git pull {way}")
        self.judge(person)

    # -- undo ----------------------------------------------------------------------------------

    @rule(who=who_, again=st.integers(0, 2))
    def undo(self, who: str, again: int) -> None:
        """Take the last command back, and sometimes do it again."""
        self.take("undo", self.people[who])
        for verb in ("redo", "undo")[:again]:
            self.take(verb, self.people[who])

    def take(self, verb: str, person: Person) -> None:
        person.close()
        before, waited = person.lines, person.kept_sessions()
        done = self.do(person, verb, loses=None)
        if done.status:
            assert done.status in (1, 2), done.message
            if done.died:  # the one that died may have taken back all that there was
                self.adopt(person)
            else:
                assert (person.lines, person.kept_sessions()) == (before, waited)
            return
        (operation,) = done.document["operations"]
        entry = next((typed for typed in person.typed if typed.number == operation["number"]), None)
        if entry is None or done.died or entry.after is None or operation["exit_code"] is None:
            person.typed.clear()
            self.adopt(person)
            return
        assert entry.verb == operation["command"].split()[1], (entry.verb, operation)
        place = person.typed.index(entry)
        passed = person.typed[place + 1 :] if verb == "undo" else person.typed[:place]
        assert entry.undone == (verb == "redo"), f"{verb} took {entry.verb} again"
        skipped = [typed.verb for typed in passed if typed.undone == entry.undone]
        assert not skipped, f"{verb} passed over {skipped}"
        entry.undone = verb == "undo"
        wanted = entry.before if verb == "undo" else entry.after
        # A line that the command did not change stays as it is: a pull may have changed it since.
        lines = {
            line: before[line] if state == entry.after.lines[line] else wanted.lines[line]
            for line, state in entry.before.lines.items()
        }
        assert person.lines == lines, differing(person.lines, lines)
        assert person.kept_sessions() == wanted.sessions.keys(), wanted.sessions.keys()
        person.sessions = {key: replace(session) for key, session in wanted.sessions.items()}
        if entry.verb in ("apply", "refresh", "export", "absorb"):
            person.tree = replace(wanted.tree)
        self.require_tree(person)

    def adopt(self, person: Person) -> None:
        """Take what is there for granted, where the model cannot know what undo takes back."""
        there = person.kept_sessions()
        for key in person.sessions.keys() - there:
            del person.sessions[key]
        for kind, line in sorted(there - person.sessions.keys()):
            self.end(person, kind, line)
        person.tree = WorkTree(person.tree.git)

    # -- death ----------------------------------------------------------------------------------

    @initialize(seed=st.integers(0, 2**32))
    def draw_deaths(self, seed: int) -> None:
        self.draw = random.Random(seed)

    def next_death(self) -> int:
        """The write or git at which the next command is killed; 0 for one that lives."""
        return self.draw.randint(1, MOST_WRITES) if self.draw.random() < self.deaths else 0


def differing(now: Mapping[str, LineState], wanted: Mapping[str, LineState]) -> str:
    return "\n".join(
        f"line {line}:\n  is     {now[line]}\n  wanted {wanted[line]}"
        for line in now
        if now[line] != wanted[line]
    )


def machine_in(folder: Path) -> type[Histories]:
    """A machine whose world is below ``folder``."""
    found = World(folder)

    class Machine(Histories):
        world = found
        counts: ClassVar[Counter[str]] = Counter()

    return Machine
