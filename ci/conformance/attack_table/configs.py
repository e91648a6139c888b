"""Configurations of repositories that others made, or in whose work trees code of others ran."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from attack_table.place import Attack, Place, Wrong
from support.repositories import Git, Ran

# Settings that name a program, one attack each.
PROGRAMS = (
    "core.fsmonitor", "core.sshCommand", "core.askPass", "core.editor", "core.pager", "core.gitProxy", "core.hooksPath",
    "core.alternateRefsCommand", "credential.helper", "diff.external", "diff.evil.command", "diff.evil.textconv",
    "filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "gpg.program", "gpg.ssh.program", "gpg.ssh.defaultKeyCommand",
    "merge.evil.driver", "remote.origin.uploadpack", "remote.origin.receivepack", "remote.origin.vcs", "uploadpack.packObjectsHook",
    "sequence.editor", "interactive.diffFilter", "alias.apply", "alias.cat-file", "alias.rev-parse", "alias.merge-tree",
    "trailer.evil.command", "trailer.evil.cmd", "sendemail.smtpServer", "http.proxy", "url.ext::sh.insteadOf",
    "protocol.ext.allow", "mergetool.evil.cmd", "difftool.evil.cmd", "browser.evil.cmd", "man.evil.cmd", "submodule.x.update",
    "fetch.output", "init.templateDir", "core.worktree", "include.path", "includeIf.gitdir:/.path", "includeIf.onbranch:main.path",
    "extensions.partialClone", "core.attributesFile", "commit.template", "pager.diff", "tar.evil.command",
)  # fmt: skip


def arm(place: Place, git_dir: Path, key: str, *, worktree_config: bool = False) -> None:
    """Name a program in one setting, and make git use it wherever it may."""
    program = place.program()
    file = git_dir / ("config.worktree" if worktree_config else "config")
    config = Git(git_dir)
    if worktree_config:
        config("config", "--file", str(git_dir / "config"), "extensions.worktreeConfig", "true")
    value = str(program)
    if key.endswith(".path"):
        (git_dir / "included").write_text(
            f'[core]\n\tfsmonitor = {program}\n[filter "evil"]\n\tclean = {program}\n\tsmudge = {program}\n'
        )
        value = str(git_dir / "included")
    elif key.startswith("alias."):
        value = f"!{program}"
    elif key == "core.hooksPath":
        (git_dir / "evil").mkdir()
        for name in (
            "pre-commit",
            "post-checkout",
            "reference-transaction",
            "post-index-change",
            "post-commit",
            "pre-push",
        ):
            shutil.copy(program, git_dir / "evil" / name)
        value = str(git_dir / "evil")
    elif key == "extensions.partialClone":
        config("config", "--file", str(file), "remote.origin.uploadpack", str(program))
        config("config", "--file", str(file), "remote.origin.promisor", "true")
        config("config", "--file", str(file), "remote.origin.url", str(git_dir))
        config("config", "--file", str(git_dir / "config"), "core.repositoryFormatVersion", "1")
        value = "origin"
    elif key == "core.attributesFile":
        config("config", "--file", str(file), "filter.evil.clean", str(program))
        (git_dir / "attributes").write_text("* filter=evil\n")
        value = str(git_dir / "attributes")
    elif key == "core.worktree":
        value = str(place.private)
    elif key == "url.ext::sh.insteadOf":
        value = "file://"
    config("config", "--file", str(file), key, value)
    (git_dir / "info").mkdir(exist_ok=True)
    (git_dir / "info" / "attributes").write_text("* filter=evil diff=evil merge=evil\n")


def lender(key: str) -> Callable[[Place], Ran]:
    def attempt(place: Place) -> Ran:
        arm(place, place.up.path / ".git", key)
        ran = place.apply("v1.1", "--worktree", place.root / "out" / "tree")
        place.run("history", "--to", "v1.1", "--source", place.up.path)
        place.run(
            "import", "v1.0..v1.1", "--from", place.up.path, "--source", place.up.path, "--dry-run"
        )
        return ran

    return attempt


def tree_of_store(
    key: str, words: tuple[str, ...], *, worktree_config: bool
) -> Callable[[Place], Ran]:
    """Code that ran in a work tree of fixtool's has written to the store's configuration."""

    def attempt(place: Place) -> Ran:
        tree = place.tree()
        git_dir = Path(tree("rev-parse", "--absolute-git-dir"))
        store = next(place.state.glob("repos/*.git"))
        if worktree_config:
            program = place.program()
            file = git_dir / "config.worktree"
            tree("config", "--file", str(store / "config"), "extensions.worktreeConfig", "true")
            tree("config", "--file", str(file), "core.bare", "false")
            tree("config", "--file", str(file), key, str(program))
            (store / "info").mkdir(exist_ok=True)
            (store / "info" / "attributes").write_text("* filter=evil diff=evil merge=evil\n")
        else:
            arm(place, store, key)
        (tree.path / "README.txt").write_text("changed\n")
        (tree.path / "python" / "model.py").touch()
        given = [
            word.replace("{tree}", str(tree.path)).replace("{up}", str(place.up.path))
            for word in words
        ]
        return place.run(*given)

    return attempt


def embedded(key: str, where: str) -> Callable[[Place], Ran]:
    """A repository inside the patch repository."""

    def attempt(place: Place) -> Ran:
        folder = place.team.root / where
        folder.mkdir(parents=True)
        inner = Git(folder)
        inner("init", "--quiet", "--template=", "--initial-branch=main")
        inner.commit("inner", a_txt="a\n")
        if where.startswith("patches"):
            place.commit_all()
        arm(place, folder / ".git", key)
        inner.write("a.txt", "b\n")
        return place.run("drop", "fix", "--reason", "x", "--source", place.up.path)

    return attempt


def looks_bare(key: str) -> Callable[[Place], Ran]:
    """Files of the patch repository that together look like a bare repository."""

    def attempt(place: Place) -> Ran:
        shutil.rmtree(place.team.root / ".git")
        for name in ("objects", "refs"):
            (place.team.root / name).mkdir()
        (place.team.root / "HEAD").write_text("ref: refs/heads/main\n")
        (place.team.root / "config").write_text(
            "[core]\n\tbare = true\n\trepositoryformatversion = 0\n"
        )
        arm(place, place.team.root, key)
        return place.run("drop", "fix", "--reason", "x", "--source", place.up.path)

    return attempt


def lacking(name: str) -> Callable[[Place], Ran]:
    """A source that lacks an object, and names the program that would fetch it."""

    def attempt(place: Place) -> Ran:
        sha = place.up("rev-parse", name)
        (place.up.path / ".git" / "objects" / sha[:2] / sha[2:]).unlink()
        arm(place, place.up.path / ".git", "extensions.partialClone")
        return place.apply("v1.1")

    return attempt


def hooks_of_line(name: str) -> Callable[[Place], Ran]:
    """Hooks of the patch repository do not run when fixtool commits."""

    def attempt(place: Place) -> Ran:
        hooks = place.git.path / ".git" / "hooks"
        hooks.mkdir(exist_ok=True)
        shutil.copy(place.program(), hooks / name)
        return place.run("drop", "fix", "--reason", "x", "--source", place.up.path)

    return attempt


def upstream_attributes(text: str) -> Callable[[Place], Ran]:
    """Attributes that upstream's tree brings, and a user whose configuration has such a filter."""

    def attempt(place: Place) -> Ran:
        program = place.program()
        (place.home / ".gitconfig").write_text(
            f'[filter "evil"]\n\tclean = {program}\n\tsmudge = {program}\n\trequired = true\n[diff "evil"]\n\tcommand = {program}\n'
            f'[merge "evil"]\n\tdriver = {program}\n'
        )
        place.env["GIT_CONFIG_GLOBAL"] = str(place.home / ".gitconfig")
        place.up.write(".gitattributes", text)
        place.up("checkout", "--quiet", "-b", "side")
        place.up("add", ".gitattributes")
        place.up("commit", "--quiet", "--message", "attributes")
        place.up("tag", "v1.2")
        before = place.run("apply", "--no-build", "--source", place.up.path, "--sglang-ref", "v1.2",
                           "--worktree", place.root / "out" / "tree")  # fmt: skip
        if before.status == 0:
            status = subprocess.run(
                ["git", "-c", f"safe.directory={place.root / 'out' / 'tree'}", "status", "--porcelain"],
                cwd=place.root / "out" / "tree", capture_output=True, text=True, check=False,
                env={"PATH": "/usr/bin:/bin", "HOME": "/none", "GIT_CONFIG_NOSYSTEM": "1"},
            )  # fmt: skip
            if status.stdout:
                raise Wrong(f"the work tree is not clean: {status.stdout}")
        (place.home / ".gitconfig").unlink()
        return before

    return attempt


def attacks() -> Iterator[Attack]:
    for key in PROGRAMS:
        yield Attack(
            "source repository",
            "apply, history, import",
            f"{key} names a program",
            lender(key),
            "held",
        )
    for name in ("v1.1:python/other.py", "v1.1^{tree}", "v1.1", "v1.0:python/model.py"):
        yield Attack(
            "source repository",
            "apply",
            f"it lacks {name}, and names what would fetch it",
            lacking(name),
            "held",
        )
    verbs = (("export", "--worktree", "{tree}"), ("refresh", "fix", "--worktree", "{tree}"), ("build", "--worktree", "{tree}"),
             ("apply", "--no-build", "--source", "{up}", "--sglang-ref", "v1.1", "--worktree", "{tree}"))  # fmt: skip
    keys = ("core.fsmonitor", "filter.evil.clean", "filter.evil.process", "diff.external", "core.hooksPath",
            "includeIf.gitdir:/.path", "gpg.program", "core.attributesFile")  # fmt: skip
    for words in verbs:
        for key in keys:
            yield Attack("upstream tree", words[0], f"its code set {key} in the store", tree_of_store(
                key, words, worktree_config=False), "held")  # fmt: skip
        for key in ("core.fsmonitor", "filter.evil.clean", "diff.external"):
            yield Attack("upstream tree", words[0], f"its code set {key} in config.worktree", tree_of_store(
                key, words, worktree_config=True), "held")  # fmt: skip
    for key in ("core.fsmonitor", "filter.evil.clean", "core.hooksPath", "extensions.partialClone"):
        for where in ("patches/main/inner", "vendor/inner", "verify/inner"):
            yield Attack(
                "patch repository",
                "drop",
                f"{key} in a repository at {where}",
                embedded(key, where),
                "held",
            )
        yield Attack(
            "patch repository",
            "drop",
            f"{key} in files that look like a bare repository",
            looks_bare(key),
            "held",
        )
    for name in ("pre-commit", "post-commit", "commit-msg", "prepare-commit-msg", "reference-transaction", "post-index-change",
                 "post-checkout", "fsmonitor-watchman", "pre-auto-gc", "post-rewrite"):  # fmt: skip
        yield Attack("patch repository", "drop", f"the hook {name}", hooks_of_line(name), "held")
    for text in ("* filter=evil\n", "* diff=evil merge=evil\n", "* text eol=crlf\n", "* ident\n",
                 "*.py working-tree-encoding=UTF-16\n", "* -text\n", "* binary\n", "* export-subst export-ignore\n", "[attr]x text\n* x\n"):  # fmt: skip
        yield Attack(
            "upstream tree", "apply", f"attributes {text!r}", upstream_attributes(text), "held"
        )
