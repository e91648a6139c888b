"""The editing engine: another sequence of patches on a line's base, and the files that change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fixtool.edit.sequence import (
    Conflict,
    EditAction,
    OwnSeries,
    Plan,
    Wanted,
    make,
    own_series,
    require_free,
)
from fixtool.edit.texts import joined_message, with_dependencies
from fixtool.errors import Refused, UsageError
from fixtool.git.database import ObjectDatabase, passing_objects
from fixtool.git.objects import Signature, TreeEntry
from fixtool.series.commit import open_for_commit
from fixtool.series.patch import parse
from fixtool.series.write import series_in_order
from support.editing import SERIES, Editing, copied, make_team
from support.repositories import NUMBERS, Ran, Team


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, made_upstream: Path) -> Team:
    return make_team(tmp_path_factory.mktemp("editing"), made_upstream)


@pytest.fixture
def editing(made: Team, tmp_path: Path, fixtool: Callable[..., Ran]) -> Editing:
    return copied(made, tmp_path, fixtool)


@pytest.fixture
def objects(made: Team) -> Iterator[ObjectDatabase]:
    with passing_objects(made.upstream.repo) as database:
        yield database


@pytest.fixture
def own(made: Team, objects: ObjectDatabase) -> OwnSeries:
    line = made.repository.line("main")
    return own_series(objects, line, line.upstream.base)


def ordered(own: OwnSeries, *slugs: str) -> tuple[Wanted, ...]:
    by_slug = {wanted.slug: wanted for wanted in own.wanted}
    return tuple(by_slug[slug] for slug in slugs)


def test_the_series_as_it_is_changes_nothing(objects: ObjectDatabase, own: OwnSeries) -> None:
    made = make(objects, own, Plan(tuple(own.wanted), "nothing", same_tree=True))
    assert (made.changed, made.patches, dict(made.commits)) == (False, (), dict(own.commits))
    assert made.files == {"series": SERIES.encode()}


def test_another_order_keeps_the_bytes_of_what_it_does_not_touch(
    objects: ObjectDatabase, own: OwnSeries
) -> None:
    wanted = ordered(own, "other", "twenty", "five", "again")
    made = make(objects, own, Plan(wanted, "move", same_tree=True))
    assert [(patch.slug, patch.change) for patch in made.patches] == [
        ("twenty", EditAction.REWRITTEN), ("five", EditAction.REWRITTEN)
    ]  # fmt: skip
    assert set(made.files) == {"twenty.patch", "five.patch", "series"}
    assert list(made.commits) == ["other", "twenty", "five", "again"]
    assert made.tree == own.tree


def test_a_conflict_names_the_patch_and_where_it_stopped(
    objects: ObjectDatabase, own: OwnSeries
) -> None:
    again, *rest = ordered(own, "again", "twenty", "other", "five")
    with pytest.raises(Conflict) as caught:
        make(objects, own, Plan((replace(again, message="again\n"), *rest), "move"))
    conflict = caught.value
    assert (conflict.slug, conflict.number, conflict.parent) == ("again", 0, own.base)
    assert (conflict.theirs, conflict.paths) == (own.commits["again"], ("python/model.py",))


def test_a_tree_that_is_given_is_taken_and_the_rest_follows(
    objects: ObjectDatabase, own: OwnSeries
) -> None:
    new = TreeEntry("100644", objects.add("blob", b"new\n"))
    wanted = own.wanted
    tree = objects.with_files(objects.tree_of(own.commits["five"]), {"docs/new": new})
    wanted[0] = replace(wanted[0], tree=tree, message="another subject\n")
    made = make(objects, own, Plan(tuple(wanted), "edit"))
    assert objects.entry(made.tree, "docs/new") == new
    assert [patch.slug for patch in made.patches] == ["five"]
    assert made.patches[0].subject == "another subject"


def test_what_ends_in_a_tree_is_what_leads_there(objects: ObjectDatabase, own: OwnSeries) -> None:
    """The first of two patches that change places was resolved; the last one needs no person."""
    again, twenty, other, five = ordered(own, "again", "twenty", "other", "five")
    half = objects.add("blob", NUMBERS.replace("line 5\n", "line 5, half\n").encode())
    tree = objects.with_files(
        objects.tree_of(own.base), {"python/model.py": TreeEntry("100644", half)}
    )
    again = replace(again, tree=tree, message="again\n")
    with pytest.raises(Conflict, match="five conflicts in python/model.py"):
        make(objects, own, Plan((again, twenty, other, five), "move"))
    wanted = (again, twenty, other, replace(five, ends_in=own.tree))
    made = make(objects, own, Plan(wanted, "move", same_tree=True))
    assert made.tree == own.tree
    assert b"-line 5, half\n+line FIVE\n" in made.files["five.patch"]
    assert made.notes == (
        "five conflicted, and became what leads to the tree that is wanted after it: look at it",
    )


def test_a_patch_with_another_change_gets_a_new_file(
    objects: ObjectDatabase, own: OwnSeries
) -> None:
    """Although its message and its author are as before, and its first change goes in as it is."""
    five, twenty, other, again = ordered(own, "five", "twenty", "other", "again")
    made = make(objects, own, Plan((replace(five, then=(other.commit,)), again, twenty), "squash"))
    assert b"+BETA" in made.files["five.patch"]
    assert b"-line five\n+line FIVE\n" in made.files["again.patch"]  # on another content
    message, author = own.line.find("five").message, own.line.find("five").author
    instead = replace(five, commit=other.commit, message=message, author=author)
    made = make(objects, own, Plan((instead,), "edit"))
    assert b"+BETA" in made.files["five.patch"]


def test_what_would_change_nothing_is_refused_or_shelved(
    objects: ObjectDatabase, own: OwnSeries
) -> None:
    wanted = own.wanted
    wanted[0] = replace(wanted[0], tree=objects.tree_of(own.commits["twenty"]))
    with pytest.raises(Refused, match="twenty would change nothing"):
        make(objects, own, Plan(tuple(wanted), "edit five"))
    made = make(objects, own, Plan(tuple(wanted), "edit five", emptied="five has all of it"))
    assert [(patch.slug, patch.change) for patch in made.patches] == [
        ("five", EditAction.REWRITTEN), ("twenty", EditAction.SHELVED)
    ]  # fmt: skip
    assert {"shelf/twenty.patch", "shelf.toml"} <= made.files.keys()
    assert made.remove == {"twenty.patch"}
    assert made.tree == own.tree


def test_dependencies_are_renamed_and_kept_true(objects: ObjectDatabase, own: OwnSeries) -> None:
    wanted = [replace(each, slug="FIVE") if each.slug == "five" else each for each in own.wanted]
    made = make(objects, own, Plan(tuple(wanted), "rename", names={"five": ("FIVE",)}))
    assert parse(made.files["again.patch"], "again").depends_on == ("FIVE",)
    assert [(patch.slug, patch.change, patch.was) for patch in made.patches] == [
        ("FIVE", EditAction.RENAMED, "five"), ("again", EditAction.REWRITTEN, None)
    ]  # fmt: skip
    assert made.remove == {"five.patch"}
    text = SERIES.replace("five.patch", "FIVE.patch")
    assert made.files["series"] == text.encode()
    without = tuple(each for each in own.wanted if each.slug != "five")
    with pytest.raises(Refused, match="again depends on five, which the line would not have"):
        make(objects, own, Plan(without, "lose"))
    with pytest.raises(Refused, match="again depends on five, which would come after it"):
        make(objects, own, Plan(ordered(own, "again", "five", "twenty", "other"), "move"))


def test_it_is_written_at_once_unless_somebody_else_has_written(editing: Editing) -> None:
    repository, line = editing.team.repository, editing.line
    git = open_for_commit(repository.root, line.folder)
    with passing_objects(editing.team.upstream.repo) as objects:
        own = own_series(objects, line, line.upstream.base)
        wanted = ordered(own, "five", "other", "twenty", "again")
        made = make(objects, own, Plan(wanted, "move other", "Why.", same_tree=True))
    assert made.write(repository, git) is not None
    assert editing.git("log", "-1", "--format=%B") == "main: move other\n\nWhy."
    assert editing.slugs == ["five", "other", "twenty", "again"]
    editing.require_well_formed()
    with pytest.raises(Refused, match="changed meanwhile"):
        made.write(repository, git)


def test_names_that_are_taken_or_unsafe(editing: Editing) -> None:
    for slug in ("five", "../x", ""):
        with pytest.raises(UsageError):
            require_free(editing.line, slug)


ORDERS = {
    "one moves down": ("b a c", "a:a b:b c:c", "# 1\nb.patch\na.patch # x\n# 2\nc.patch\n"),
    "one moves up": ("c a b", "a:a b:b c:c", "# 1\nc.patch\na.patch # x\nb.patch\n# 2\n"),
    "one is new": ("a n b c", "a:a b:b c:c", "# 1\na.patch # x\nn.patch\nb.patch\n# 2\nc.patch\n"),
    "one goes": ("a c", "a:a c:c", "# 1\na.patch # x\n# 2\nc.patch\n"),
    "one is renamed": ("A b c", "A:a b:b c:c", "# 1\nA.patch # x\nb.patch\n# 2\nc.patch\n"),
    "one is split": ("a d b c", "a:a d:a b:b c:c",
                     "# 1\na.patch # x\nd.patch\nb.patch\n# 2\nc.patch\n"),
    "all go": ("", "", "# 1\n# 2\n"),
    "all are new": ("n", "", "# 1\n# 2\nn.patch\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDERS)
def test_the_series_file_keeps_its_comments(editing: Editing, name: str) -> None:
    slugs, pairs, expected = ORDERS[name]
    (editing.folder / "series").write_text("# 1\na.patch # x\nb.patch\n# 2\nc.patch\n")
    was: dict[str, str | None] = dict(pair.split(":") for pair in pairs.split())
    assert series_in_order(editing.line, slugs.split(), was).decode() == expected


def test_the_dependencies_in_a_message() -> None:
    body = "Text.\n\nDepends-On: a, b\nOrigin: x\nDepends-On: c"
    assert with_dependencies(body, {"z": ("y",)}, "own") == body
    assert with_dependencies(body, {"a": ("p", "q"), "c": ("own",)}, "own") == (
        "Text.\n\nDepends-On: p, q, b\nOrigin: x"
    )


def test_joined_messages(made: Team) -> None:
    five, twenty, *_ = made.repository.line("main").patches
    twenty = replace(twenty, author=Signature("B", "b@example.org", "1 +0000"))
    assert joined_message([five, twenty, five]) == (
        "change five\n\nWhy five.\n\nchange twenty\n\nWhy twenty.\n\nWhy five.\n\n"
        "Origin: vendor\nForwarded: no\nDrop-When: never\n"
        "Co-authored-by: B <b@example.org>\nSigned-off-by: A <a@example.org>\n"
    )
