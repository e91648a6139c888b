"""A prepared pull request as files: a branch in a work tree, a mail series, or the body alone."""

from __future__ import annotations

import os
import shutil
from email.header import Header
from pathlib import Path

from fixtool.apply.worktree import Record, place
from fixtool.errors import Refused
from fixtool.files import temporary_folder, write_atomically
from fixtool.git import worktrees
from fixtool.git.repo import reading_answer
from fixtool.series.context import Context
from fixtool.series.patch import format_patch
from fixtool.text import argument
from fixtool.upstream._body import PullRequestText
from fixtool.upstream._commits import ProposedBranch


def write_worktree(context: Context, branch: ProposedBranch, folder: Path) -> Path:
    """Check the commits out in ``folder`` as the branch ``upstream/SLUG``. Raises Refused if that
    branch is checked out in another work tree: it would move under the files there."""
    branch.source.bring(branch.target.commit, ())
    name = f"upstream/{branch.slug}"
    for entry in worktrees.listed(branch.repo).split("\n\n"):
        first, *lines = entry.split("\n")
        holder = Path(first.removeprefix("worktree "))
        taken = f"branch refs/heads/{name}" in lines
        if taken and holder.is_dir() and holder.resolve() != folder.resolve():
            raise Refused(
                f"the branch {name} is checked out in {holder}",
                where=str(holder),
                hint=f"--worktree {argument(holder)}, or take it away: rm -r {argument(holder)}",
            )
    named = branch.target.source
    record = Record(
        line=branch.line.name,
        patches=str(context.repository.root.resolve()),
        base=branch.line.upstream.base,
        onto=branch.target.commit,
        commit=branch.tip,
        branch=name,
        version=branch.line.upstream.version,
        release=None,
        commits={commit.slug: commit.commit for commit in branch.commits},
        proposal=branch.slug,
        source=None if context.settings.source or named == "git" else named,
    )
    patience = context.settings.timeout
    return place(branch.repo, folder, record, context.progress, patience).path


def require_new(folder: Path) -> None:
    """Raise Refused if ``folder`` exists and is not an empty folder."""
    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise Refused(
            f"{folder} is there already", where=str(folder), hint="name another folder: --mail DIR"
        )


def write_mail(branch: ProposedBranch, text: PullRequestText, folder: Path) -> Path:
    """Write a series for `git send-email`, with ``text`` as its cover letter. Raises Refused if
    ``folder`` exists and is not an empty folder."""
    folder = folder.absolute()
    require_new(folder)
    author = branch.repo.read_commit(branch.tip).author
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(f".{folder.name}.", folder.parent) as scratch:
        series = scratch / "mail"
        options = (
            "--quiet", "--cover-letter", "--cover-from-description=none", "--zero-commit",
            "--no-signature", "--no-renames", "--no-ext-diff", "--no-textconv", "--binary",
            f"--base={branch.target.commit}", f"--output-directory={series}",
        )  # fmt: skip
        sender = ("-c", f"user.name={author.name}", "-c", f"user.email={author.email}")
        revisions = f"{branch.target.commit}..{branch.tip}"
        format_patch(branch.repo, options, revisions, settings=sender)
        with reading_answer("format-patch"):
            letter, *_ = series.glob("0000-*")
        head, _, body = letter.read_text("utf-8", "surrogateescape").partition("\n\n")
        title = text.title if text.title.isascii() else Header(text.title, "utf-8").encode()
        head = head.replace("*** SUBJECT HERE ***", title)
        body = body.replace("*** BLURB HERE ***", text.body.rstrip())
        if not body.isascii() and "\nContent-Type:" not in head:
            head += "\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8"
            head += "\nContent-Transfer-Encoding: 8bit"
        letter.write_text(f"{head}\n\n{body}", "utf-8", "surrogateescape")
        if folder.exists():
            folder.rmdir()
        shutil.move(series, folder)
    return folder


def write_body(text: PullRequestText, file: Path) -> Path:
    file = file.absolute()
    write_atomically(file, text.body)
    return file
