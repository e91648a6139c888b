"""A proposal where a person can use it: a branch in a work tree, a mail series, a file."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from fixtool.description import Description
from fixtool.errors import Refused
from fixtool.progress import Progress
from fixtool.proposal import Proposal
from fixtool.series import PatchRepository
from fixtool.worktree import Record, place


def branch(
    repository: PatchRepository, proposal: Proposal, folder: Path, progress: Progress
) -> Path:
    """A work tree with the proposal as the branch ``upstream/SLUG``."""
    proposal.source.bring(proposal.target.commit, ())
    record = Record(
        line=proposal.line.name,
        patches=str(repository.root.resolve()),
        base=proposal.line.upstream.base,
        onto=proposal.target.commit,
        commit=proposal.tip,
        branch=f"upstream/{proposal.slug}",
        version=proposal.line.upstream.version,
        release=None,
        commits={one.slug: one.commit for one in proposal.parts},
        proposal=proposal.slug,
    )
    return place(proposal.source.repo, folder, record, progress).path


def mail(proposal: Proposal, description: Description, folder: Path) -> Path:
    """A series as `git send-email` takes it, its cover letter filled in. The folder is new."""
    folder = folder.absolute()
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise Refused(f"{folder} is there already", where=str(folder), hint="--mail another folder")
    who = proposal.repo.read_commit(proposal.tip).author
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        made = Path(scratch) / "mail"
        proposal.repo.run(
            "-c", f"user.name={who.name}", "-c", f"user.email={who.email}", "format-patch",
            "--quiet", "--cover-letter", "--cover-from-description=none", "--zero-commit",
            "--no-signature", "--no-renames", "--no-ext-diff", "--no-textconv", "--binary",
            f"--base={proposal.target.commit}", f"--output-directory={made}",
            f"{proposal.target.commit}..{proposal.tip}",
        )  # fmt: skip
        letter = next(made.glob("0000-*"))
        text = letter.read_text("utf-8", "surrogateescape")
        text = text.replace("*** SUBJECT HERE ***", description.title)
        text = text.replace("*** BLURB HERE ***", description.body.rstrip())
        if not text.isascii() and "\nContent-Type:" not in text:
            said = "MIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n"
            text = text.replace("\n\n", f"\n{said}Content-Transfer-Encoding: 8bit\n\n", 1)
        letter.write_text(text, "utf-8", "surrogateescape")
        if folder.exists():
            folder.rmdir()
        shutil.move(made, folder)
    return folder


def body(description: Description, file: Path) -> Path:
    """The body alone, whole or not at all."""
    file = file.absolute()
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=file.parent, prefix=f".{file.name}.", delete=False
    ) as partial:
        partial.write(description.body)
    Path(partial.name).chmod(0o644)
    Path(partial.name).replace(file)
    return file
