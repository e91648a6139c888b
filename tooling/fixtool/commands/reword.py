"""fixtool reword"""

from __future__ import annotations

import typer

from fixtool.commands import editing, options


def reword(
    ctx: typer.Context,
    slug: options.Slug,
    message: editing.Message = None,
    file: editing.File = None,
    source: options.Source = None,
    line: options.LineName = None,
    no_commit: options.NoCommit = False,
    dry_run: options.DryRun = False,
    directory: options.Directory = None,
    json: options.Json = False,
) -> None:
    """Change the message of a patch, in your editor or with -m or --file.

    The editor is that of git: GIT_EDITOR, core.editor, VISUAL or EDITOR. What fixtool lint would
    find wrong in the message is refused, and your text is kept.

    Example: fixtool reword logging -m "log: say which expert was chosen" -m "Forwarded: no"
    """
    from fixtool.edit.plans import reworded
    from fixtool.edit.texts import mailable_message
    from fixtool.errors import FixtoolError
    from fixtool.files import private_folder
    from fixtool.text import argument

    edit = editing.Edit(ctx, "reword", directory, line, source, json=json)
    patch = edit.line.find(slug)
    text = editing.message_from(message, file)
    folder, name = edit.context.settings.state / "edit", f"{edit.line.name}-{patch.slug}.txt"
    edited = text is None
    if text is None:
        from fixtool.commands.editor import ask

        private_folder(folder)
        text = mailable_message(ask(folder, name, patch.message, patch.slug))
    wanted = edit.options(f"reword {patch.slug}", dry_run=dry_run, no_commit=no_commit)
    try:
        edit.run(wanted, lambda _, own: reworded(own, patch.slug, text))
    except FixtoolError as error:
        if edited:
            again = f"fixtool reword {patch.slug} --file {argument(folder / name)}"
            mend = f"mend your text, then: {again}"
            error.hint = f"{error.hint}; {mend}" if error.hint else mend
        raise
    except typer.Exit:
        (folder / name).unlink(missing_ok=True)
        raise
