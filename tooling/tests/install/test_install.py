"""A series in an installed package: put in, proved, taken out, and killed in between."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fixtool.errors import Refused
from fixtool.install import _transaction, record, run
from fixtool.profile import PLAIN
from fixtool.progress import Silence
from fixtool.settings import Settings
from fixtool.sources.source import Releases
from support.installed import (
    ADDED,
    MODEL,
    OTHER,
    SERIES,
    Environment,
    environment,
    made_environment,
    patched_tree,
    unpack,
    write_line,
)
from support.json_documents import document
from support.package_index import X86, make_wheel, use_index
from support.wheels import make_venv

__all__ = ["environment", "made_environment"]  # fixtures
MAIN = ("--line", "main")


def imported(environment: Environment, code: str) -> str:
    done = subprocess.run(
        [environment.python, "-I", "-B", "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_a_series_goes_in_and_out_and_leaves_no_byte(environment: Environment) -> None:
    before = environment.snapshot()
    tree = patched_tree(environment, SERIES)
    answer = document(environment.run("install", *MAIN, "--json"))
    assert (answer["exit_code"], answer["changed"], answer["line"]) == (0, True, "main")
    assert (answer["package"], answer["package_tree"]) == ("python/sglang", tree)
    assert answer["left_out_files"] == ["test/test_model.py"]
    packages = environment.packages
    assert (packages / "sglang/srt/model.py").read_bytes() == MODEL
    assert (packages / "sglang/srt/extra/added.py").read_bytes() == ADDED
    assert not (packages / "sglang/srt/gone.py").exists()
    environment.check_record()
    code = "from sglang.srt import model; from sglang.srt.extra import added; print(model.x20)"
    assert imported(environment, code) == "99"
    proved = document(environment.run("status", "--json"))
    assert (proved["ok"], proved["problems"], proved["tree_now"]) == (True, [], tree)
    there = environment.snapshot()
    assert "as it was" in environment.run("install", *MAIN).out
    assert environment.snapshot() == there
    assert environment.run("uninstall").status == 0
    assert environment.snapshot() == before
    assert not (packages / "sglang/srt/extra").exists()
    assert document(environment.run("uninstall", "--json"))["changed"] is False


def test_bytecode_is_that_of_the_new_text(environment: Environment) -> None:
    """A file of the same size, written in the same second, has bytecode that Python would take for
    its own: the old one is replaced, and RECORD still lists it."""
    environment.run("install", *MAIN)
    srt = environment.packages / "sglang/srt"
    (cached,) = (srt / "__pycache__").glob("model.*.pyc")
    assert cached.relative_to(environment.packages).as_posix() in {
        row[0] for row in environment.record()
    }
    assert not [*(srt / "__pycache__").glob("gone.*")]
    assert imported(environment, "from sglang.srt import model; print(model.x20)") == "99"
    # What Python has made of the series' own file goes with it.
    subprocess.run([environment.python, "-I", "-c", "import sglang.srt.extra.added"], check=True)
    assert [*srt.glob("extra/__pycache__/added.*")]
    environment.run("uninstall")
    assert not (srt / "extra").exists()
    assert imported(environment, "from sglang.srt import model; print(model.x20)") == "20"


def test_another_series_takes_the_place_of_the_old_one(environment: Environment) -> None:
    before = environment.snapshot()
    environment.run("install", *MAIN)
    answer = document(environment.run("install", "--line", "other", "--json"))
    assert (answer["replaced"], answer["line"]) == ("main", "other")
    assert answer["package_tree"] == patched_tree(environment, OTHER)
    assert (environment.packages / "sglang/srt/gone.py").exists()
    assert not (environment.packages / "sglang/srt/extra").exists()
    environment.check_record()
    assert environment.run("status").status == 0
    environment.run("uninstall")
    assert environment.snapshot() == before


def test_lines_of_record_in_the_forms_of_installers() -> None:
    """uv writes sizes alone where a wheel has no hashes, and even one for RECORD itself; pip lists
    bytecode without either. A name with a comma is quoted."""
    raw = b'a.py,,3\n"b,c.py",md5=x,1\nd.pyc,,\nx/RECORD,,0\n'
    rows = record.parse(raw, "RECORD")
    assert [(row.path, row.size) for row in rows] == [
        ("a.py", 3), ("b,c.py", 1), ("d.pyc", None), ("x/RECORD", 0)
    ]  # fmt: skip
    files = {"a.py": b"1", "b,c.py": None, "d.pyc": b"x", "new,1.py": b""}
    empty = b"sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    assert record.changed(raw, "RECORD", files, "x/RECORD") == (
        b"a.py,sha256=a4ayc_80_OGda4BO_1o_V0etpOqiLx1JwB5S3beHW0s,1\nd.pyc,,\n"
        b'"new,1.py",' + empty + b",0\nx/RECORD,,0\n"
    )
    with pytest.raises(Refused, match="not a line of RECORD") as error:
        record.parse(b"a.py,,3\nb.py\n", "RECORD")
    assert error.value.where == "RECORD:2"


def test_a_dry_run_writes_nothing(environment: Environment) -> None:
    before = environment.snapshot()
    assert "nothing was written" in environment.run("install", *MAIN, "--dry-run").out
    assert environment.snapshot() == before
    environment.run("install", *MAIN)
    there = environment.snapshot()
    assert "nothing was written" in environment.run("uninstall", "--dry-run").out
    assert environment.snapshot() == there


def test_edits_of_others_are_refused_by_name(environment: Environment) -> None:
    init, model = (
        environment.packages / "sglang" / name for name in ("__init__.py", "srt/model.py")
    )
    text = init.read_bytes()
    init.write_bytes(b"x = 2\n")
    before = environment.snapshot()
    ran = environment.run("install", *MAIN)
    assert ran.status == 1
    assert "sglang/__init__.py" in ran.err
    assert environment.snapshot() == before
    init.write_bytes(text)
    environment.run("install", *MAIN)
    model.write_bytes(MODEL + b"# mine\n")
    for verb, *words in (("install", "--line", "other"), ("uninstall",)):
        ran = environment.run(verb, *words)
        assert (ran.status, "sglang/srt/model.py" in ran.err) == (1, True)
    assert model.read_bytes() == MODEL + b"# mine\n"
    model.write_bytes(MODEL)
    record = environment.info / "RECORD"
    raw = record.read_bytes()
    record.write_bytes(raw.replace(b"\r\n", b"\n", 1))
    assert "RECORD" in environment.run("uninstall").err
    record.write_bytes(raw)
    assert environment.run("uninstall").status == 0


def test_a_file_in_the_way_is_refused(environment: Environment) -> None:
    folder = environment.packages / "sglang/srt/extra"
    folder.mkdir()
    (folder / "added.py").write_text("mine = True\n")
    ran = environment.run("install", *MAIN)
    assert (ran.status, "is in the way" in ran.err) == (1, True)
    assert (folder / "added.py").read_text() == "mine = True\n"


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ("two", 1, "2 distributions"),
        ("none", 4, "not installed"),
        ("record", 1, "no RECORD"),
        ("commit", 1, "built from a commit"),
        ("ours", 1, "is a wheel that fixtool built"),
        ("unknown", 4, "2.0"),
        ("python", 2, "no interpreter"),
    ],
)
def test_what_cannot_be_judged_is_refused(
    environment: Environment, change: str, status: int, message: str
) -> None:
    info = environment.info
    metadata = (info / "METADATA").read_text()
    words = list(MAIN)
    match change:
        case "two":
            shutil.copytree(info, info.with_name("sglang-0.9.dist-info"))
        case "none":
            shutil.rmtree(info)
        case "record":
            (info / "RECORD").unlink()
        case "commit":
            (info / "direct_url.json").write_text(json.dumps({"vcs_info": {"vcs": "git"}}))
        case "ours":
            text = metadata.replace("Version: 1.0", "Version: 1.0+fixtool.abc")
            (info / "METADATA").write_text(text)
        case "unknown":
            (info / "METADATA").write_text(metadata.replace("Version: 1.0", "Version: 2.0"))
        case "python":
            words += ["--python", "/no/such/python"]
    ran = environment.run("install", *words)
    assert (ran.status, message in ran.err) == (status, True), ran.err
    if change != "unknown":  # which release it is does not matter to a series that is not there
        ran = environment.run("uninstall", *words[2:])
        assert (ran.status, message in ran.err) == (status, True), ran.err


def test_a_patch_that_conflicts_changes_nothing(environment: Environment) -> None:
    patch = environment.team / "patches/main/main-fix.patch"
    patch.write_bytes(patch.read_bytes().replace(b"x19 = 19", b"x19 = 18").replace(
        b"x20 = 20", b"x20 = 21"))  # fmt: skip
    before = environment.snapshot()
    answer = document(environment.run("install", *MAIN, "--json"))
    assert (answer["exit_code"], answer["changed"], answer["package"]) == (3, False, None)
    assert "do not apply" in environment.run("install", *MAIN).out
    assert environment.snapshot() == before


def test_a_folder_that_cannot_be_written_to(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, access = environment.snapshot(), os.access
    folder = environment.packages / "sglang/srt"
    monkeypatch.setattr(os, "access", lambda path, mode: path != folder and access(path, mode))
    ran = environment.run("install", *MAIN)
    assert (ran.status, f"{folder} cannot be written to" in ran.err) == (1, True)
    assert environment.snapshot() == before
    # A container's root is often mounted read-only: then it does not matter who the user is.
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    ran = environment.run("install", *MAIN)
    assert (ran.status, f"{folder} is on a file system that is mounted read-only" in ran.err) == (
        1, True,
    )  # fmt: skip
    assert f"findmnt --target {folder}" in ran.err
    assert environment.snapshot() == before


class Killed(BaseException):
    """A kill, which no code of fixtool handles."""


def killed(stop: int, run: Callable[[], object]) -> bool:
    """Whether ``run`` was killed at the moment of number ``stop`` of those at which files have
    changed. What ``finally`` would do after it, a kill leaves undone."""
    seen = 0
    with pytest.MonkeyPatch.context() as patched:

        def watch(name: str) -> None:
            real = getattr(_transaction, name)

            def watched(*words: object) -> object:
                nonlocal seen
                seen += 1
                if seen == stop:
                    patched.setattr(shutil, "rmtree", lambda *_, **__: None)
                    raise Killed
                return real(*words)

            patched.setattr(_transaction, name, watched)

        for name in ("_do", "_sync", "_tidy", "_remove"):
            watch(name)
        try:
            run()
        except Killed:
            return True
    return False


def texts(environment: Environment) -> dict[str, bytes]:
    """The bytes of every file; bytecode holds a time, and the state the hash of bytecode."""
    return {name: data for name, (_, _, data) in environment.snapshot().items()
            if not name.endswith((".pyc", "RECORD", "state.json"))}  # fmt: skip


def test_a_killed_run_is_ended_by_the_next(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the moment: once the run is ended, all files are the old ones, or all the new."""
    calls: list[tuple[Any, ...]] = []
    put_in = run._put_in
    monkeypatch.setattr(run, "_put_in", lambda *words: calls.append(words) or put_in(*words))
    pristine, before = environment.snapshot(), texts(environment)
    environment.run("install", *MAIN)
    after = texts(environment)
    environment.run("uninstall")
    (install, uninstall) = calls
    place = install[0].place
    for words, start, end in ((install, before, after), (uninstall, after, before)):
        outcomes: Counter[str | None] = Counter()
        for stop in range(1, 100):
            if not killed(stop, lambda words=words: put_in(*words)):  # type: ignore[misc]
                break
            outcomes[recovered := _transaction.recover(place)] += 1
            now = texts(environment)
            assert now == (end if recovered == "finished" else start), stop
            environment.check_record()
            assert _transaction.recover(place) is None
            if now == end:
                put_in(*(uninstall if words is install else install))
        assert stop > 8
        assert outcomes.keys() == {"finished", "taken back"}
    assert environment.snapshot() == pristine


def test_the_next_command_says_that_a_run_was_killed(environment: Environment) -> None:
    before = environment.snapshot()
    assert killed(3, lambda: environment.run("install", *MAIN))
    answer = document(environment.run("status", "--json"))
    assert [problem["fault"] for problem in answer["problems"]] == ["unfinished"]
    ran = environment.run("uninstall")
    assert "an earlier run was killed, and was finished" in ran.out
    assert environment.snapshot() == before


def test_a_file_that_was_edited_after_a_kill_is_not_overwritten(environment: Environment) -> None:
    model = environment.packages / "sglang/srt/model.py"
    assert killed(2, lambda: environment.run("install", *MAIN))
    model.write_text("mine = True\n")
    ran = environment.run("install", *MAIN)
    assert (ran.status, "changed by somebody else" in ran.err) == (1, True)
    assert model.read_text() == "mine = True\n"


def test_another_project_beside_sglang(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project of the plain profile has its files at the top of the tree. Of the projects of a
    repository, the one that is installed is meant."""
    served = tmp_path / "served"
    use_index(monkeypatch, FIND_LINKS=str(served), NO_INDEX="1")
    files = {"tool/__init__.py": b"x = 1\n", "tool/model.py": b"y = 1\n", "single.py": b"z = 1\n"}
    environment = Environment(tmp_path / "venv", tmp_path / "team", settings)
    make_venv(environment.root)
    unpack(make_wheel(served, "1.0", X86, files, name="tool"), environment.packages)
    releases = Releases(replace(settings, profile=PLAIN, project="tool"), Silence())
    base = releases.release("1.0").commit
    series: dict[str, bytes | None] = {"tool/model.py": b"y = 2\n", "single.py": b"z = 2\n"}
    for name, project in (("main", {"profile": "plain", "project": "tool"}), ("sglang", {})):
        write_line(releases.repo, environment.team, name, base, "1.0", series, **project)
    before = environment.snapshot()
    answer = document(environment.run("install", "--json"))
    assert (answer["project"], answer["line"], answer["package"]) == ("tool", "main", "tool")
    assert answer["files"] == ["single.py", "tool/model.py"]
    assert environment.run("status").status == 0
    assert environment.run("uninstall").status == 0
    assert environment.snapshot() == before
    assert environment.run("install", "--line", "sglang").status == 4


def test_a_patch_is_left_out_by_hand(environment: Environment) -> None:
    before = environment.snapshot()
    (patch,) = (environment.team / "patches/main").glob("*.patch")
    answer = document(environment.run("install", *MAIN, "--without", patch.name, "--json"))
    assert [entry["verdict"] for entry in answer["patches"]] == ["left-out"]
    assert answer["files"] == []
    assert "0 patches, 1 left out" in environment.run("status").out
    assert environment.run("uninstall").status == 0
    assert environment.snapshot() == before
    wrong = environment.run("install", *MAIN, "--without", "nothing")
    assert (wrong.status, "nothing" in wrong.err) == (2, True)
