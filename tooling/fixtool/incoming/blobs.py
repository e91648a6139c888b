"""Finds the contents that an older patch was made on, by the ids in its ``index`` lines."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from fixtool.errors import FixtoolError
from fixtool.git.names import is_full_sha
from fixtool.git.objects import Oid
from fixtool.incoming.change import Incoming
from fixtool.sources.source import Source
from fixtool.text import split_lines

_BEFORE = timedelta(days=90)  # how much older than the patch the files may be


class BlobFinder:
    """Finds older contents of files in a source. If its store does not have them, it brings them,
    with the history before the base of the line where it has to look for an abbreviated id."""

    def __init__(self, source: Source, base: Oid) -> None:
        self._source, self._base = source, base

    def __call__(self, wanted: Mapping[str, str], change: Incoming) -> dict[str, Oid]:
        """The blobs of ``wanted``, path -> perhaps abbreviated id, that can now be read."""
        found = self._here(wanted)
        missing = {path: name for path, name in wanted.items() if path not in found}
        try:
            if missing and not all(map(is_full_sha, missing.values())):
                full = self._in_history(missing, change)
                missing = {path: full.get(path, name) for path, name in missing.items()}
            if blobs := [Oid(name) for name in missing.values() if is_full_sha(name)]:
                self._source.bring_blobs(blobs)
        except FixtoolError:
            return found  # the patch is then refused, and the hint names another source
        return found | self._here(missing)

    def _here(self, wanted: Mapping[str, str]) -> dict[str, Oid]:
        text = "".join(f"{name}\n" for name in wanted.values()).encode()
        out = self._source.repo.run_on_objects("cat-file", "--batch-check", stdin=text)
        answers = (line.split(" ") for line in split_lines(out.text))
        return {
            path: Oid(answer[0])
            for path, answer in zip(wanted, answers, strict=True)
            if len(answer) == 3 and answer[1] == "blob"
        }

    def _in_history(self, wanted: Mapping[str, str], change: Incoming) -> dict[str, str]:
        """The full ids of older contents, from the history of the files."""
        since = change.author.day - _BEFORE
        self._source.bring_past(self._base, since.isoformat())
        out = self._source.repo.run(
            "log", "--raw", "--no-abbrev", "--no-renames", "--format=", "-m", "-z", self._base,
            "--", *(f":(literal){path}" for path in wanted),
        )  # fmt: skip
        fields = out.stdout.decode("utf-8", "surrogateescape").split("\0")
        full: dict[str, str] = {}
        for meta, path in zip(fields[::2], fields[1::2], strict=False):
            words = meta.strip("\n").split(" ")
            for blob in words[2:4]:
                if path in wanted and blob.startswith(wanted[path]):
                    full[path] = blob
        return full
