"""Wrong command lines: what is wrong with one, and the command that was probably meant."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fixtool.commands.verbs import PROGRAM_OPTIONS, VERBS, is_valid, options_of, parser_of
from fixtool.errors import FixtoolError, Mistyped, UsageError
from fixtool.text import closest, shortened

if TYPE_CHECKING:
    from fixtool.series.line import Line

_ELSEWHERE = {
    "add": "import", "am": "import", "amend": "refresh", "annotate": "history", "cat": "show",
    "check": "lint", "cherry-pick": "copy", "commit": "export", "delete": "drop",
    "fixup": "absorb", "fold": "squash", "format-patch": "export", "goto": "edit", "ls": "list",
    "merge": "squash", "mv": "move", "patches": "list", "pick": "copy", "pull": "rebase",
    "push": "apply", "qimport": "import", "remove": "drop", "revert": "undo", "rm": "drop",
    "rollback": "undo", "send": "upstream", "series": "list", "sink": "move", "float": "move",
    "test": "verify", "update": "rebase", "upgrade": "rebase", "view": "show", "prove": "verify",
    "start": "init", "create": "init",
}  # fmt: skip
"""What other tools call a verb, such as git, quilt, StGit and jj."""
_WITH_DEFAULT = {"--line", "--ref", "--source", "--python", "--worktree", "--repository"}
"""Options that most commands can do without."""
_OF_ALL = {"clean", "coverage", "deps", "export", "lint", "list", "report", "verify"}
"""The verbs that take all lines, patches or folders unless an option chooses."""
_OPTIONS_ELSEWHERE = {"--since": "--from", "--after": "--from", "--until": "--to"}
"""What git calls an option."""
_LONGEST = 300  # characters of a command line that is shown
_PATCHES = re.compile(r"\.(?:patch|diff|mbox)$")
_NUMBER = re.compile(r"'?(.*?)'? is not (?:a valid (?:int|float)|in the range)")


def describe(error: Any, typed: Sequence[str]) -> UsageError:
    """The error for ``error``, which typer raised for the words ``typed`` after ``fixtool``. Its
    hint is the whole command as it was probably meant, or else the help to read."""
    options, words = _split(typed)
    is_verb = bool(words) and words[0] in VERBS
    hint = _for_verb(error, words, options) if is_verb else _for_program(words)
    kept = options
    if "" in options:  # an empty folder after -C
        kept, hint = [], _valid(words) or hint
    command = shlex.join(["fixtool", *kept, *hint])
    if is_verb and hint == [words[0], "--help"]:
        command = f"see what `fixtool {words[0]}` takes: {command}"
    elif is_verb and ("SLUG" in hint or hint[-2:] == ["--line", "NAME"]):
        names = shlex.join(["fixtool", *kept, "list"])
        command = f"{command}; to see the names: {names}"
    elif is_verb:
        others = _for_others(hint, _extra_words(error), options)
        command = "; then: ".join([command, *(shlex.join(["fixtool", *kept, *o]) for o in others)])
    return UsageError(
        _message(error, words[0] if is_verb else ""), where=as_typed(typed), hint=command
    )


def _message(error: Any, verb: str) -> str:
    """What is wrong with a command of ``verb`` for which typer raised ``error``: in words of
    fixtool's own where typer's do not say what the verb takes."""
    kind = type(error).__name__
    if kind == "MissingParameter" and (about := getattr(error.param, "help", None)):
        name = (
            error.param.opts[0] if error.param.param_type_name == "option" else _name(error.param)
        )
        return f"{name} is missing: {about[0].lower()}{about[1:].rstrip('.')}"
    if kind == "BadOptionUsage" and verb and "requires an argument" in error.message:
        option = options_of(verb)[error.option_name]
        about = (option.help or "").rstrip(".")
        return f"{error.option_name} lacks its value: {about[:1].lower()}{about[1:]}"
    if verb and (extra := _extra_words(error)):
        return _too_many(verb, extra)
    text = re.sub(r" (?:Did you mean|\(Possible options:).*", "", error.format_message()).strip()
    if number := _wrong_number(error):
        return f"{_name(error.param)} takes {_numbers(error.param)}, and {number!r} is none"
    if kind == "NoSuchOption" and (holders := _holders(error.option_name)):
        verbs = ", ".join(holders[:3]) + (", …" if len(holders) > 3 else "")
        return f"{text} (it belongs to: {verbs})"
    return text


def _extra_words(error: Any) -> list[str]:
    """The words that a verb does not take, if that is what is wrong."""
    found = re.search(r"unexpected extra argument\S* \((.*)\)", error.message)
    return found[1].split(" ") if found else []


def _too_many(verb: str, extra: Sequence[str]) -> str:
    """What a verb takes, of which the words ``extra`` are no part."""
    shown = shlex.join(extra)
    if verb in ("apply", "new") and all(map(_PATCHES.search, extra)):
        takes = "applies all patches of a line" if verb == "apply" else "makes a patch of edits"
        return f"`fixtool {verb}` {takes}, and takes no patch file: {shown}"
    taken = [
        _name(parameter)
        for parameter in parser_of(verb).params
        if parameter.param_type_name == "argument"
    ]
    what = f"only {' and '.join(taken)}" if taken else "no argument"
    be = "are" if len(extra) > 1 else "is"
    return f"`fixtool {verb}` takes {what}: {shown} {be} too many"


def _wrong_number(error: Any) -> str | None:
    """The value that stands in ``error`` for a number, and is none or too large or small."""
    found = _NUMBER.match(error.message) if type(error).__name__ == "BadParameter" else None
    return found[1] if found and error.param is not None else None


def _name(parameter: Any) -> str:
    """What a person calls a parameter: ``--tp``, or ``N``."""
    if parameter.param_type_name == "option":
        return str(max(parameter.opts, key=len))
    return str(parameter.metavar or parameter.name).strip("[].")


def _numbers(parameter: Any) -> str:
    """Which numbers a parameter takes, in words."""
    least, most = (getattr(parameter.type, name, None) for name in ("min", "max"))
    if most is not None:
        return f"a number from {least or 0} to {most}"
    return "a number" if least is None else f"a number from {least} on"


def as_typed(typed: Sequence[str]) -> str:
    """The command line of the words ``typed`` after ``fixtool``, on one line."""
    return shortened(shlex.join(["fixtool", *typed]).replace("\n", "\\n"), _LONGEST)


def correction(mistyped: Mistyped, typed: Sequence[str]) -> str | None:
    """What to type instead of the words ``typed`` after ``fixtool``, one of which names nothing; or
    which name to write where it stands. None if no name is similar."""
    word, names = mistyped.word, mistyped.names
    plain = Path(word).name.removesuffix(".patch")  # a slug is the name of a file without its end
    meant = plain if plain in names else closest(word, names) or closest(plain, names)
    if meant is None or meant == word:
        return None
    command = _with(typed, word, [meant]) or _with(typed, f"{word}.patch", [meant])
    return shlex.join(["fixtool", *command]) if command else f"write {meant} instead of {word}"


# An option at the beginning of a hint or of a part of it, such as `--line main` in
# `choose a line: --line main, or --line next`.
_FRAGMENT = re.compile(
    r"(?:^(?:add |use |for example )?|(?<=: )|(?<=\bor )|(?<=\bthen ))(?:the same command with )?"
    r"(--?[a-zA-Z][\w-]*(?: [^\s,;-][^\s,;]*)?(?: --[a-zA-Z][\w-]* [^\s,;]+)*)(?=$|[,;]| or )"
)
_LESS = re.compile(r"the same command without (--[a-z][\w-]*)")
_OTHERWISE = re.compile(r"the same command with (\S+) instead of ('[^']*'|[^\s,;]+)")


def completed(hint: str, typed: Sequence[str]) -> str:
    """``hint`` with each option that begins a part of it as a whole command: the words ``typed``
    with that option, in the place of the value that it has there. A part such as ``the same command
    without --dry-run``, or ``with NEW instead of OLD``, becomes a whole command too."""

    def command(match: re.Match[str], words: Sequence[str] | None) -> str:
        if words is None or not is_valid(_split(words)[1]):  # another verb calls the option so
            return match[0]
        return shlex.join(["fixtool", *words])

    def with_option(match: re.Match[str]) -> str:
        words, seen = list(typed), set()
        for option, *value in _options_in(match[1]):
            if option == "--source" and _split(typed)[1][:1] == ["init"]:
                option = "--upstream"  # what init calls it
            known = _with_option(words, [option, *value])
            words = [*words, option, *value] if option in seen else known
            seen.add(option)
        return command(match, words)

    def without(match: re.Match[str]) -> str:
        return command(match, _without(typed, match[1]))

    def otherwise(match: re.Match[str]) -> str:
        old, new = (shlex.split(match[number])[0] for number in (2, 1))
        if old.startswith("--"):
            return command(match, _without(typed, old, [new]))
        places = [at for at, word in enumerate(typed) if word and Path(word) == Path(old) and at]
        own = [at for at in places if not typed[at - 1].startswith("-")]  # of no option
        # A verb such as `rename` takes the new name last.
        at = own[-1] if own else next(iter(places), None)
        words = None if at is None else [*typed[:at], new, *typed[at + 1 :]]
        return command(match, words or _with(typed, old, [new]))

    return _FRAGMENT.sub(with_option, _OTHERWISE.sub(otherwise, _LESS.sub(without, hint)))


def _without(typed: Sequence[str], option: str, others: Sequence[str] = ()) -> list[str] | None:
    """The words ``typed`` with ``others`` in the place of an option and its value, if it has one.
    None if they are no valid command then."""
    at = next((at for at, word in enumerate(typed) if word.partition("=")[0] == option), None)
    if at is None:
        return None
    ways = ([*typed[:at], *others, *typed[at + length :]] for length in (1, 2))
    return next((words for words in ways if is_valid(_split(words)[1])), None)


def _options_in(text: str) -> list[list[str]]:
    """Each option of a hint such as ``--from a --to b``, with its value if it has one."""
    found: list[list[str]] = []
    for word in shlex.split(text):
        if word.startswith("-"):
            found.append([word])
        else:
            found[-1].append(word)
    return found


def _with_option(typed: Sequence[str], option: Sequence[str]) -> list[str]:
    name, *values = option
    for at, given in enumerate(typed):
        if given == name and values:
            return [*typed[:at], *option, *typed[at + 2 :]]
        if given.startswith(f"{name}="):
            return [*typed[:at], *option, *typed[at + 1 :]]
    return [*typed, *option]


def _with(words: Sequence[str], word: str, others: Sequence[str]) -> list[str] | None:
    """``words`` with ``others`` at the place of ``word``, which may be the value or the name of an
    option written with ``=``."""
    for at in reversed(range(len(words))):  # a verb may have the same name
        given = words[at]
        name, equals, value = given.partition("=")
        if given == word:
            return [*words[:at], *others, *words[at + 1 :]]
        if equals and len(others) == 1 and word in (name, value):
            new = f"{others[0]}={value}" if word == name else f"{name}={others[0]}"
            return [*words[:at], new, *words[at + 1 :]]
    return None


def _split(typed: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options of the program itself that ``typed`` begins with, and the words after them."""
    at = 0
    while at < len(typed) and typed[at].startswith("-C"):
        at += 2 if typed[at] == "-C" else 1
    return list(typed[:at]), list(typed[at:])


def _for_program(words: Sequence[str]) -> list[str]:
    """What was probably meant by ``words`` that do not begin with a verb."""
    if not words:
        return ["--help"]
    first, rest = words[0], words[1:]
    if first == "completion":  # as other tools call it
        return ["--install-completion", *rest[:1]]
    if first in ("help", "version"):
        return [
            *(rest[:1] if first == "help" and rest[:1] and rest[0] in VERBS else []),
            f"--{first}",
        ]
    if first.startswith("-"):
        verbs = [at for at, word in enumerate(words) if word in VERBS]
        if verbs:  # an option of the verb before the verb
            at = verbs[0]
            return _valid([words[at], *words[:at], *words[at + 1 :]]) or [words[at], "--help"]
        if option := _closest_option(first, PROGRAM_OPTIONS):
            return [option, "bash"] if option.endswith("-completion") else [option]
        first = first.lstrip("-")
    verb = _ELSEWHERE.get(first, "")
    if verb not in VERBS:
        verb = closest(first, VERBS) or ""
    if not verb:
        return ["--help"]
    return _valid([verb, *rest]) or [verb, "--help"]


def _valid(words: Sequence[str]) -> list[str] | None:
    return list(words) if is_valid(words) else None


def _for_verb(error: Any, words: Sequence[str], before: Sequence[str]) -> list[str]:
    """What was probably meant by ``words``, a verb and what follows it, for which typer raised
    ``error``. The options of the program itself stand ``before`` the verb."""
    verb = words[0]
    found: list[str] | None = None
    if error.message == "it is empty" and error.param is not None:
        found = _without_empty(words, error.param)
    match type(error).__name__:
        case "NoSuchOption":
            found = _other_option(words, error.option_name)
        case "MissingParameter":
            found = _missing(words, error.param)
        case "BadOptionUsage":
            found = _bad_value(words, error.option_name)
        case "BadParameter" if (number := _wrong_number(error)) is not None:
            found = _with_number(words, error.param, number)
        case _ if extra := _extra_words(error):
            found = _extra(words, extra, before)
    return found or [verb, "--help"]


def _without_empty(words: Sequence[str], parameter: Any) -> list[str] | None:
    """The command without an option whose value is empty, if that has a default; or else with the
    name of what it takes."""
    names = {*parameter.opts, *parameter.secondary_opts}
    instead = [] if names & _WITH_DEFAULT else [parameter.opts[-1], _placeholder(parameter)]
    left = list(words)
    for at, given in enumerate(words):
        if given in names:
            left = [*words[:at], *instead, *words[at + 2 :]]
        elif given.partition("=")[0] in names:
            left = [*words[:at], *instead, *words[at + 1 :]]
    return left if left != list(words) and is_valid(left) else None


def _other_option(words: Sequence[str], name: str) -> list[str] | None:
    """The command with the option that was meant by ``name``, which its verb does not have."""
    verb = words[0]
    if name == "--version":
        return [name]
    if name == "--all" and verb in _OF_ALL:
        return _valid([word for word in words if word != name])
    options = options_of(verb)
    for given in words[1:]:
        spelling, _, _ = given.partition("=")
        if spelling == name or (not name.startswith("--") and spelling.startswith(name)):
            wanted = "--" + spelling.lstrip("-").replace("_", "-")
            wanted = _OPTIONS_ELSEWHERE.get(wanted, wanted) if wanted not in options else wanted
            meant = wanted if wanted in options else _closest_option(wanted, options)
            command = _with(words, spelling, [meant]) if meant else None
            if command and is_valid(command):
                return command
    if re.fullmatch(r"-\d", name):  # `undo -1`, as for `head -1`
        given = next((word for word in words if re.fullmatch(r"-\d+", word)), "")
        command = _with(words, given, [given.lstrip("-")]) or []
        return _valid(command)
    return None


def _closest_option(word: str, options: Iterable[str]) -> str | None:
    """The one of ``options`` that was probably meant. Their dashes do not make two alike."""
    found = closest(word.lstrip("-"), (name[2:] for name in options if name.startswith("--")))
    return f"--{found}" if found else None


def _holders(option: str) -> list[str]:
    """The verbs that have ``option``."""
    return [verb for verb in VERBS if option in options_of(verb)]


def _missing(words: Sequence[str], parameter: Any) -> list[str] | None:
    """The command that shows what to give for a ``parameter`` that is missing."""
    if parameter.param_type_name == "option":
        return [*words, parameter.opts[0], _placeholder(parameter)]
    name = _placeholder(parameter)
    needs = ["--upstream", "URL", "--base", "REF"] if list(words) == ["init"] else []
    return _valid([words[0], name, *words[1:], *needs])


def _placeholder(parameter: Any) -> str:
    """What stands for the value of a parameter in a command that a person completes."""
    text = parameter.metavar or ("TEXT" if parameter.type.name == "str" else "NUMBER")
    return str(text).strip("[].'").partition("|")[0]


def _with_number(words: Sequence[str], parameter: Any, given: str) -> list[str] | None:
    """The command with a number in the place of ``given``: the one in it, or else the smallest that
    ``parameter`` takes."""
    digits = re.search(r"\d+", given)
    for number in (digits[0] if digits else "", str(getattr(parameter.type, "min", None) or 1)):
        command = _with(words, given, [number])
        if number and command and is_valid(command):
            return command
    return None


def _bad_value(words: Sequence[str], name: str) -> list[str] | None:
    """The command for an option ``name`` that has a value too many or lacks one."""
    for given in words:
        if given.startswith(f"{name}="):
            return _with(words, given, [name])  # it takes none
    return _valid([*words, _placeholder(options_of(words[0])[name])])


def _extra(words: Sequence[str], extras: Sequence[str], before: Sequence[str]) -> list[str] | None:
    """The command in which the words ``extras``, which its verb does not take, are an option's
    value, the files to import or the patch to refresh; or else the command without them."""
    options = options_of(words[0])
    lines = tuple(line.name for line in _lines([*before, *words]))
    if words[0] in ("apply", "new") and all(map(_PATCHES.search, extras)):  # as for `git am`
        named = "--line" in words or len(lines) < 2
        given = list(words[1:]) if is_valid(["import", *words[1:]]) else list(extras)
        return ["import", *given, *([] if named else ["--line", "LINE"])]
    if words[0] == "absorb" and len(extras) == 1:  # which asks which patch an edit belongs to
        return _valid(["refresh", *words[1:]])
    extra = extras[0] if len(extras) == 1 else ""
    first, dots, last = extra.partition("..")
    if dots and {"--from", "--to"} <= options.keys():
        return _valid([*(_with(words, extra, []) or words), "--from", first, "--to", last])
    wanted = ["--line"] if extra in lines else ["--ref", "--onto", "--to"]
    arguments = (
        parameter for parameter in parser_of(words[0]).params if parameter.opts[0][0] != "-"
    )
    takes_slug = "SLUG" in map(_placeholder, arguments)
    if takes_slug and extra not in lines:  # it is one patch too many, and no commit
        wanted = []
    for option in wanted if extra else ():
        taken = option in options and not {option, *options[option].opts}.intersection(words)
        if taken and (command := _with(words, extra, [option, extra])):
            return _valid(command)
    left = list(words)
    for word in reversed(extras):
        left = _with(left, word, []) or left
    return _valid(left) if len(left) < len(words) else None


def _for_others(
    command: Sequence[str], extras: Sequence[str], before: Sequence[str]
) -> list[list[str]]:
    """``command``, which is about one patch, for each of ``extras``; none if these are no patches.
    The options of the program itself stand ``before`` it."""
    if not extras or not is_valid(command):
        return []
    slug = parser_of(command[0]).make_context(command[0], [*command[1:]]).params.get("slug")
    slugs = {entry.slug for line in _lines([*before, *command]) for entry in line.entries}
    if not isinstance(slug, str) or not {slug, *extras} <= slugs:
        return []
    return [other for extra in extras if (other := _with(command, slug, [extra]))]


def _lines(words: Sequence[str]) -> Iterable[Line]:
    """The lines of the patch repository that the command ``words`` is about."""
    from fixtool.commands.retype import given
    from fixtool.series.line import PatchRepository

    with suppress(FixtoolError, OSError):
        repository = PatchRepository.find(Path(given(words).get("-C", ".")).resolve())
        return tuple(repository.lines)
    return ()
