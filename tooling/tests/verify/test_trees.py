"""The trees that are laid out are git's."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from fixtool.git.trees import list_tree
from fixtool.verify.runner.git_ids import blob_id, tree_id
from support.repositories import Git, Team, format_patch
from support.verifying import Run, run_checks, store_path


def test_tree_ids_are_gits(make_git: Callable[[str], Git]) -> None:
    git = make_git("odd")
    for name in ("a", "a.b", "a/b", "a0", "ä", "x y"):
        git.write(f"{name}.txt" if name != "a/b" else "a/b/c.txt", name)
    git.write("run.sh", "#!/bin/sh\n")
    (git.path / "run.sh").chmod(0o755)
    (git.path / "link").symlink_to("a.txt")
    git.commit("odd")
    files = list_tree(git.repo, "HEAD")
    assert tree_id(files) == git("rev-parse", "HEAD^{tree}")
    assert blob_id(b"a") == files["a.txt"][1]


def test_a_tree_is_what_git_says_file_by_file(fixtool: Run, proved: Team, tmp_path: Path) -> None:
    """Also where folders are links: a new file in a new folder, one deleted, one in a deep folder
    beside folders that nothing changes in."""
    git = proved.upstream
    for name in ("python/a/b/c.py", "python/a/d.py", "python/e/f.py", "python/e/g/h.py"):
        git.write(name, name)
    git("tag", "--force", "v1.0", git.commit("more"))
    proved.line("more", base=git("rev-parse", "v1.0"))
    git("checkout", "--quiet", "--detach", "v1.0")
    git.commit(
        "deep\n\nWhy.\n\nProbe: probes/five.py\nDrop-When: never",
        python__a__b__c_py="changed", python__new__folder__x_py="new", python__e__f_py=None,
    )  # fmt: skip
    proved.add("deep", format_patch(git), line="more")
    result = run_checks(fixtool, proved, "--checks", "--line", "more", "--keep-trees")
    series = Path(result["folder"]) / "trees/series"
    ours = {
        str((Path(at) / name).relative_to(series)): (Path(at) / name).read_text()
        for at, _, names in os.walk(series, followlinks=True)
        for name in names
    }
    store = Git(store_path())
    theirs = store("ls-tree", "-r", "--name-only", result["tree"], "python").splitlines()
    assert sorted(ours) == sorted(theirs)
    assert all(store("show", f"{result['tree']}:{name}") == text.strip() for name, text in ours.items())  # fmt: skip
    assert (series / "python/e/g").is_symlink()
