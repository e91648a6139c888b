"""Completion: what may stand at the cursor of a command line, for bash, zsh and fish.

A shell hands its line over in a variable, so that no text of the line is run. What is offered comes
from the disk alone: no network, no code of the repository, and no name with a letter that means
something to a shell. Names are read without the modules that read whole lines: those take longer to
import than all the rest.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fixtool.commands.verbs import PROGRAM_OPTIONS, VERBS, options_of, parser_of, summary

SHELL, LINE = "_FIXTOOL_COMPLETE", "_FIXTOOL_LINE"
"""The variables in which a shell gives its name and the line up to the cursor."""
SHELLS = ("bash", "zsh", "fish")
_PLAIN = re.compile(r"[\w.+/@%,:=^~-]+", re.ASCII)  # nothing of it means anything to a shell
_MOST = 2000  # candidates that a shell is given
_LARGEST = 1 << 20  # bytes of a file that is read


@dataclass(frozen=True)
class Answer:
    """What may stand at the cursor: ``names``, each with a description or an empty text, and also
    ``files`` or ``folders``, which the shell completes itself."""

    names: Mapping[str, str]
    also: str = "names"


def answer(shell: str, line: str) -> str:
    """What fixtool prints for a ``shell`` with ``line`` before the cursor: what the shell has to
    complete itself, and then each candidate, with a tab before its description."""
    words = _words(line)
    found = complete_words(words[:-1], words[-1], described=shell != "bash")
    names = {name: about for name, about in found.names.items() if name.startswith(words[-1])}
    skipped = _broken_off(words[-1]) if shell == "bash" else 0
    shown = [
        f"{name[skipped:]}\t{about}" if about and shell != "bash" else name[skipped:]
        for name, about in list(names.items())[:_MOST]
        if _PLAIN.fullmatch(name)
    ]
    return "\n".join([found.also, *shown])


def _broken_off(word: str) -> int:
    """How much of ``word`` bash takes for words before the one that it completes."""
    return max(word.rfind(sign) for sign in "=:") + 1


def _words(line: str) -> list[str]:
    """The words after ``fixtool``, without quotes. The last one is not finished, or empty."""
    for end in ("", '"', "'"):  # the cursor may be inside quotes
        with suppress(ValueError):
            words = shlex.split(line + end)
            break
    else:
        words = line.split()
    if not line or (line[-1].isspace() and not end):
        words.append("")
    while words and Path(words[0]).name != "fixtool":
        words.pop(0)
    return words[1:] or [""]


def complete_words(words: Sequence[str], word: str, *, described: bool) -> Answer:
    """What may stand at the place of the unfinished ``word`` after ``words``. To have the verbs
    ``described`` takes the import of their modules."""
    folder, rest = _folder_of(words)
    if rest is None or (word.startswith("-C") and not rest):
        return Answer({}, "folders")
    if not rest:
        return _program(word, described=described)
    if rest[0] in SHELLS or rest[0].startswith("--") or rest[0] not in VERBS:
        return Answer(dict.fromkeys(SHELLS, "") if rest[0].endswith("-completion") else {})
    return _Verb(rest[0], rest[1:], folder).complete(word)


def _folder_of(words: Sequence[str]) -> tuple[Path, list[str] | None]:
    """The folder that ``-C`` names, and the words after it; None if its value is missing."""
    folder, rest = Path(), list(words)
    while rest and rest[0].startswith("-C"):
        first = rest.pop(0)
        if first == "-C" and not rest:
            return folder, None
        folder = Path(first[2:] or rest.pop(0)).expanduser()
    return folder, rest


def _program(word: str, *, described: bool) -> Answer:
    if word.startswith("-"):
        return Answer(PROGRAM_OPTIONS)
    verbs = [verb for verb in VERBS if verb.startswith(word)]
    return Answer({verb: summary(verb) if described else "" for verb in verbs})


class _Verb:
    """A verb and what follows it, in the patch repository at or above ``folder``."""

    def __init__(self, verb: str, words: Sequence[str], folder: Path) -> None:
        self._verb = verb
        self._options = options_of(verb)
        self._values: dict[str, list[str]] = {}
        self._arguments: list[str] = []
        self._pending: Any = None  # the option whose value comes next
        self._only_arguments = False
        for word in words:
            self._take(word)
        self._folder = Path(*self._values.get("directory", [str(folder)])[-1:]).expanduser()

    def _take(self, word: str) -> None:
        name, equals, value = word.partition("=")
        option = self._options.get(name)
        if self._pending is not None:
            self._note(self._pending, word)
            self._pending = None
        elif self._only_arguments or not word.startswith("-"):
            self._arguments.append(word)
        elif word == "--":
            self._only_arguments = True
        elif option is not None and not option.is_flag and not equals:
            self._pending = option
        elif option is not None:
            self._note(option, value)

    def _note(self, option: Any, value: str) -> None:
        self._values.setdefault(option.name, []).append(value)

    def complete(self, word: str) -> Answer:
        """What may stand at the place of ``word``."""
        name, equals, _ = word.partition("=")
        if self._pending is not None:
            return self._value(self._pending, word)
        if self._only_arguments or not word.startswith("-"):
            return self._argument(word)
        if equals and (option := self._options.get(name)) is not None:
            found = self._value(option, word[len(name) + 1 :])
            return Answer(
                {f"{name}={value}": about for value, about in found.names.items()}, found.also
            )
        return self._names_of_options(word)

    def _argument(self, word: str) -> Answer:
        arguments = [
            parameter
            for parameter in parser_of(self._verb).params
            if parameter.param_type_name == "argument"
        ]
        for number, argument in enumerate(arguments):
            if argument.nargs == -1 or number == len(self._arguments):
                found = self._value(argument, word)
                left = found.names.keys() - set(self._arguments)
                return Answer({name: found.names[name] for name in found.names if name in left},
                              found.also)  # fmt: skip
        return self._names_of_options(word)

    def _names_of_options(self, word: str) -> Answer:
        names: dict[str, str] = {"--help": "Show the options of this command."}
        for option in dict.fromkeys(self._options.values()):
            spellings = [name for name in option.opts if name.startswith(word or "--")]
            if not option.hidden and (option.multiple or option.name not in self._values):
                names |= dict.fromkeys(spellings[:1], option.help or "")
        return Answer(names)

    def _value(self, parameter: Any, word: str) -> Answer:
        """What ``parameter`` takes, which its metavar says."""
        kind = (parameter.metavar or "").strip("[].")
        if parameter.name == "line" or kind == "LINE":
            return Answer(dict.fromkeys(self._line_folders(), ""))
        if kind == "SLUG":
            return Answer(dict(self._slugs()))
        if kind == "REF":
            return Answer(dict.fromkeys(self._refs(), ""))
        if kind == "A..B":
            return Answer(self._spans(word))
        if "pypi" in (choices := kind.split("|")):
            return Answer({name: "" for name in choices if name.islower()}, "folders")
        if len(choices) > 1 and kind.replace("|", "").isalpha() and kind.islower():
            return Answer(dict.fromkeys(choices, ""))
        also = "folders" if kind == "DIR" else "files" if is_path(parameter) else "names"
        return Answer({}, also)

    def _line_folders(self) -> dict[str, Path]:
        """The folder of each line, by the line's name."""
        start = self._folder.resolve()
        for root in (start, *start.parents):
            series = sorted((root / "patches").glob("[!.]*/series"))
            if series:
                folders = (path.parent for path in series)
                return {folder.name: folder for folder in folders if _PLAIN.fullmatch(folder.name)}
        return {}

    def _chosen_folders(self) -> dict[str, Path]:
        """The folders of the lines that the command is about."""
        folders = self._line_folders()
        wanted = self._values.get("line", [])
        return {name: folders[name] for name in wanted if name in folders} or folders

    def _slugs(self) -> Iterator[tuple[str, str]]:
        """Each patch, and the lines that have it. What `restore` takes lies on the shelf, and
        `rename` takes both."""
        lines: dict[str, list[str]] = {}
        for line, folder in self._chosen_folders().items():
            slugs: list[str] = []
            if self._verb != "restore":
                slugs = re.findall(r"^\s*([^\s#]+)\.patch\b", _read(folder / "series"), re.M)
            if self._verb in ("restore", "rename"):
                slugs += (path.stem for path in sorted(folder.glob("shelf/*.patch")))
            for slug in dict.fromkeys(slugs):
                lines.setdefault(slug, []).append(line)
        yield from ((slug, ", ".join(names)) for slug, names in lines.items())

    def _refs(self) -> Iterator[str]:
        """The release or the base of each line, and the refs that its source is known to have."""
        for folder in self._chosen_folders().values():
            text = _read(folder / "upstream.toml")
            about = dict(re.findall(r'^(\w+)\s*=\s*"([^"\n]*)"', text, re.M))
            yield about.get("release") or about.get("base", "")
        yield from self._known_refs()

    def _known_refs(self) -> Iterator[str]:
        from fixtool.errors import FixtoolError
        from fixtool.series.line import read_line
        from fixtool.settings import load
        from fixtool.sources.known import known_refs

        for folder in self._chosen_folders().values():
            with suppress(FixtoolError, OSError):
                settings = load(folder.parents[1])
                source = self._values.get("source", [""])[-1]
                yield from known_refs(read_line(folder).upstream, settings, source)

    def _spans(self, word: str) -> dict[str, str]:
        """Spans of releases, one of whose ends is typed."""
        start, dots, _ = word.partition("..")
        refs = [ref for ref in self._refs() if re.match(r"v?\d+\.\d", ref)]
        return {f"{start}..{ref}" if dots else f"{ref}..": "" for ref in refs}


def is_path(parameter: Any) -> bool:
    """Whether ``parameter`` takes a path."""
    words = set(re.split(r"[^A-Z]+", parameter.metavar or ""))
    return parameter.type.name == "path" or bool(words & {"FILE", "PATH", "PY", "DIR"})


def _read(path: Path) -> str:
    """The text of ``path``, or an empty one if it is no plain file."""
    with suppress(OSError):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                return file.read(_LARGEST).decode("utf-8", "replace")
    return ""


BASH = """\
# Completion of fixtool for bash. The line is handed over in a variable, and nothing of it is run.
_fixtool_completion() {
    local kind candidate
    COMPREPLY=()
    {
        read -r kind
        while read -r candidate; do COMPREPLY+=("$candidate"); done
    } < <(_FIXTOOL_COMPLETE=bash _FIXTOOL_LINE="${COMP_LINE:0:COMP_POINT}" \\
          command fixtool </dev/null 2>/dev/null)
    case $kind in
        files) compopt -o default -o filenames 2>/dev/null ;;
        folders) compopt -o plusdirs -o filenames 2>/dev/null ;;
    esac
    return 0
}
complete -F _fixtool_completion fixtool
"""
ZSH = """\
#compdef fixtool
# Completion of fixtool for zsh. The line is handed over in a variable, and nothing of it is run.
_fixtool() {
    local kind candidate about
    local -a candidates shown
    {
        IFS= read -r kind
        while IFS=$'\\t' read -r candidate about; do
            candidates+=("$candidate")
            shown+=("$candidate${about:+  -- $about}")
        done
    } < <(_FIXTOOL_COMPLETE=zsh _FIXTOOL_LINE="${(j: :)words[1,CURRENT-1]} $PREFIX" \\
          command fixtool </dev/null 2>/dev/null)
    (( $#candidates )) && compadd -l -d shown -a candidates
    [[ $PREFIX == --*=* ]] && compset -P '*='
    case $kind in
        files) _files ;;
        folders) _files -/ ;;
    esac
}
if [[ ${funcstack[1]} == _fixtool ]]; then
    _fixtool "$@"
else
    compdef _fixtool fixtool
fi
"""
FISH = """\
# Completion of fixtool for fish. The line is handed over in a variable, and nothing of it is run.
function __fixtool_complete
    set -l line (commandline -cp | string collect)
    set -l answer (env _FIXTOOL_COMPLETE=fish _FIXTOOL_LINE="$line" fixtool </dev/null 2>/dev/null)
    test (count $answer) -gt 1; and printf '%s\\n' $answer[2..-1]
    switch "$answer[1]"
        case files
            __fish_complete_path (commandline -ct | string replace -r '^--[a-z-]+=' '')
        case folders
            __fish_complete_directories (commandline -ct | string replace -r '^--[a-z-]+=' '')
    end
end
complete --command fixtool --no-files --arguments '(__fixtool_complete)'
"""
SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
"""The script of each shell, which it reads once."""


def this_shell(environment: Mapping[str, str]) -> str:
    """The shell that fixtool was started from, or else the user's own."""
    process = os.getppid()
    for _ in range(8):  # a wrapper or two may lie between
        stat = _read_process(process)
        if stat is None:
            break
        name, process = stat
        if name.lstrip("-") in SHELLS:
            return name.lstrip("-")
    return Path(environment.get("SHELL", "")).name


def _read_process(process: int) -> tuple[str, int] | None:
    """The name of a process and the number of its parent, where the system has /proc."""
    with suppress(OSError, ValueError, IndexError):
        name, _, rest = Path(f"/proc/{process}/stat").read_text().partition("(")[2].rpartition(")")
        return name, int(rest.split()[1])
    return None


_PLACES = {
    "bash": (".bash_completions/fixtool.sh", ".bashrc", "source ~/.bash_completions/fixtool.sh"),
    "zsh": (".zfunc/_fixtool", ".zshrc", "fpath+=~/.zfunc; autoload -Uz compinit; compinit"),
    "fish": (".config/fish/completions/fixtool.fish", "", ""),
}
"""Where the script of each shell lies in the home, the file that the shell reads at its start, and
the line which that file needs."""


def install(shell: str, home: Path) -> tuple[Path, ...]:
    """Write the script of ``shell`` to where the shell finds it, and a line into the file that it
    reads at its start where it needs one. Returns the files that were written."""
    from fixtool.files import require_folder  # no completion needs it

    script, start, line = _PLACES[shell]
    path = home / script
    require_folder(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SCRIPTS[shell], "utf-8")
    if not start:
        return (path,)
    text = (home / start).read_text("utf-8") if (home / start).exists() else ""
    if line not in text.split("\n"):
        between = "" if not text or text.endswith("\n") else "\n"
        with (home / start).open("a", encoding="utf-8") as file:
            file.write(f"{between}{line}\n")
    return path, home / start
