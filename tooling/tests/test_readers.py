"""Every reader of texts that others write ends in an answer: a value, or a FixtoolError."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from support.reader import CORPUS, Reader
from support.readers import Readers
from support.repositories import ROOT

FUZZ = ROOT / "ci/conformance/fuzz"


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    return {reader.name: reader for reader in Readers(tmp_path_factory.mktemp("readers")).all()}


def names() -> list[str]:
    return sorted(folder.name for folder in CORPUS.iterdir() if folder.is_dir())


def test_every_reader_reads_a_seed(readers: dict[str, Reader]) -> None:
    """A fuzzer that begins with nothing well formed never gets past the first check."""
    for reader in readers.values():
        assert any(reader.answer(seed) for seed in reader.seeds), reader.name


def test_every_folder_of_the_corpus_has_its_reader(readers: dict[str, Reader]) -> None:
    assert set(names()) <= readers.keys()


@pytest.mark.parametrize("name", names())
def test_what_once_was_a_fault_has_an_answer(readers: dict[str, Reader], name: str) -> None:
    reader = readers[name]
    inputs = reader.corpus()
    assert inputs
    for raw in inputs:
        reader.answer(raw)


def test_every_input_of_the_corpus_has_its_sentence() -> None:
    notes = tomllib.loads((CORPUS / "found.toml").read_text())
    kept = {folder: sorted(path.name for path in (CORPUS / folder).iterdir()) for folder in names()}
    assert {folder: sorted(notes[folder]) for folder in notes} == kept


@pytest.mark.slow(10)
def test_the_fuzzer_counts_what_it_tried_and_finds_nothing(tmp_path: Path) -> None:
    chosen = ["date", "series", "trailers"]
    done = subprocess.run(
        [sys.executable, FUZZ, "--minutes", "0.03", "--state", tmp_path / "state",
         "--results", tmp_path / "fuzz.json", *chosen],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "fuzz.json").read_text())
    assert sorted(document["counts"]) == chosen
    for counts in document["counts"].values():
        assert counts["tried"] == counts["answered"] + counts["refused"] > 0
