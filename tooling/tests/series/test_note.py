"""The note by which a killed change of a line is finished."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

from fixtool.series.commit import Rewrite, digest_of_files, digest_of_folder, look_at, note_pieces


def test_the_pieces_of_the_note_are_one_document(tmp_path: Path) -> None:
    """The note was made whole in memory: with a thousand patches, four times their size."""
    one, two = tmp_path / 'o"ne', tmp_path / "two"
    old = {"series": b"a.patch\n", "a.patch": b"\xff\0", "gone.patch": b"x"}
    new = {"a.patch": b"\xfe", "sh\u00e9lf/b.patch": b""}
    one.mkdir()
    for name, data in old.items():
        (one / name).write_bytes(data)
    changes = [Rewrite(one, new, {"gone.patch"}), Rewrite(two, {})]
    found = [look_at(change) for change in changes]
    assert found[0].replaced == {"a.patch": old["a.patch"], "gone.patch": b"x"}
    assert [each.empty for each in found] == [False, True]
    assert digest_of_folder(one) == digest_of_files(old)
    note = json.loads(b"".join(note_pieces('say "more"\n', changes, found)))
    after = {"series": b"a.patch\n", **new}
    assert note == {
        "message": 'say "more"\n',
        "folders": [
            {
                "folder": str(one), "before": digest_of_files(old), "after": digest_of_files(after),
                "remove": ["gone.patch"],
                "files": {name: b64encode(data).decode() for name, data in new.items()},
            },
            {
                "folder": str(two), "before": digest_of_files({}), "after": digest_of_files({}),
                "remove": [], "files": {},
            },
        ],
    }  # fmt: skip


def test_a_file_that_is_written_as_it_was_is_put_back(tmp_path: Path) -> None:
    """All empty texts are one object, so an empty series file counted as new, and was removed."""
    (tmp_path / "series").write_bytes(b"")
    (tmp_path / "a.patch").write_bytes(b"x")
    found = look_at(Rewrite(tmp_path, {"series": b"", "b.patch": b""}))
    assert found.replaced == {"series": b""}
