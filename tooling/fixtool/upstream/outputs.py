"""A proposal where a person can use it: a branch in a work tree, a mail series, a file."""

from __future__ import annotations

import os
import shutil
import tempfile
from email.header import Header
from pathlib import Path

from fixtool.apply.worktree import Record, place
from fixtool.errors import Refused
from fixtool.progress import Progress
from fixtool.series.line import PatchRepository
from fixtool.upstream._body import PullRequestText
from fixtool.upstream._commits import ProposedBranch


def branch(
    repository: PatchRepository, proposal: ProposedBranch, folder: Path, progress: Progress
) -> Path:
    """A work tree with the proposal as the branch ``upstream/SLUG``. Raises Refused where that is
    checked out in another: it would move under that one's files."""
    proposal.source.bring(proposal.target.commit, ())
    name = f"upstream/{proposal.slug}"
    there = proposal.repo.run("worktree", "list", "--porcelain").text.split("\n\n")
    for other in (
        one.split("\n") for one in there if f"branch refs/heads/{name}" in one.split("\n")
    ):
        held = Path(other[0].removeprefix("worktree "))
        if held.is_dir() and held.resolve() != folder.resolve():
            raise Refused(
                f"the branch {name} is checked out in {held}",
                where=str(held),
                hint=f"--worktree {held}, or take it away: rm -r {held}",
            )
    record = Record(
        line=proposal.line.name,
        patches=str(repository.root.resolve()),
        base=proposal.line.upstream.base,
        onto=proposal.target.commit,
        commit=proposal.tip,
        branch=name,
        version=proposal.line.upstream.version,
        release=None,
        commits={one.slug: one.commit for one in proposal.parts},
        proposal=proposal.slug,
    )
    return place(proposal.source.repo, folder, record, progress).path


def mail(proposal: ProposedBranch, description: PullRequestText, folder: Path) -> Path:
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
        head, _, text = letter.read_text("utf-8", "surrogateescape").partition("\n\n")
        title = description.title
        encoded = title if title.isascii() else Header(title, "utf-8").encode()
        head = head.replace("*** SUBJECT HERE ***", encoded)
        text = text.replace("*** BLURB HERE ***", description.body.rstrip())
        if not text.isascii() and "\nContent-Type:" not in head:
            head += "\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8"
            head += "\nContent-Transfer-Encoding: 8bit"
        letter.write_text(f"{head}\n\n{text}", "utf-8", "surrogateescape")
        if folder.exists():
            folder.rmdir()
        shutil.move(made, folder)
    return folder


def body(description: PullRequestText, file: Path) -> Path:
    """The body alone, whole or not at all."""
    file = file.absolute()
    with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as scratch:
        partial = Path(scratch) / "body"
        partial.write_text(description.body, "utf-8")
        partial.replace(file)
    return file
