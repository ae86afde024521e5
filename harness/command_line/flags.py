"""The words of a command line: flags of Hydra, and overrides, `name=value`."""

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from harness.command_line import option_files
from lightning_modules.errors import OptionError

NAME = re.compile(r"[A-Za-z_][\w./@]*")
EXAMPLE = "options are written name=value, without spaces, such as algo=ppo or seed=1"


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags and, as `overrides`, the rest; OptionError for a flag that is none, or is given
    something that it does not take.
    """
    parser = get_args_parser()
    parser.error = _refuse
    flags, rest = parser.parse_known_args(arguments)
    wrong = [word for word in rest if word.startswith("-")]
    if wrong:
        _refuse_flag(wrong[0], arguments, _names(parser))
    _require_one_command(flags)
    # Hydra takes options before its flags, or after them, not both.
    flags.overrides = [word for word in arguments if word in (*flags.overrides, *rest)]
    return flags


def _require_one_command(flags: argparse.Namespace) -> None:
    given = {
        "--run": flags.run,
        "--multirun": flags.multirun,
        "--cfg": flags.cfg,
        "--info": flags.info,
        "--shell-completion": flags.shell_completion,
    }
    commands = [name for name, value in given.items() if value]
    if len(commands) > 1:
        raise OptionError(f"{' '.join(commands)}: give one of them")
    if flags.resolve and not (flags.cfg or flags.help):
        raise OptionError("--resolve: belongs to --cfg, as in --cfg job --resolve")


def in_order(arguments: Sequence[str]) -> list[str]:
    """The same arguments with the flags first: between two options Hydra does not find them."""
    overrides = parse(arguments).overrides
    flags = [word for word in arguments if word not in overrides]
    return [*flags, *overrides]


def parse_overrides(words: Sequence[str]) -> list[Override]:
    """What the overrides say; OptionError for the first one that cannot be read."""
    parser = OverridesParser.create()
    found = []
    for at, word in enumerate(words):
        try:
            found.append(parser.parse_override(word))
            if not found[-1].key_or_group:
                raise HydraException(word)
        except HydraException as error:
            raise OptionError(_unreadable(word, words[at + 1 :])) from error
    return found


def _names(parser: argparse.ArgumentParser) -> list[str]:
    return [name for action in parser._actions for name in action.option_strings]


def _refuse(message: str) -> NoReturn:
    found = re.fullmatch(r"argument (\S+): invalid choice: (\S+) \(choose from (.*)\)", message)
    if not found:
        raise OptionError(f"{message}; python run.py --help shows what can be typed")
    flag, given, choices = (part.replace("'", "") for part in found.groups())
    flag = flag.split("/")[0]
    near = difflib.get_close_matches(given, choices.split(", "), n=1, cutoff=0)[0]
    raise OptionError(f"{flag} {given}: must be one of {choices}; did you mean {flag} {near}?")


def _refuse_flag(word: str, arguments: Sequence[str], flags: Sequence[str]) -> NoReturn:
    """A flag that there is not: a name of one that is misspelt, or an option with dashes."""
    name, _, value = word.lstrip("-").partition("=")
    near = difflib.get_close_matches(f"--{name}", flags, n=1, cutoff=0.7)
    if near:
        raise OptionError(f"{word}: there is no such flag; did you mean {near[0]}?")
    if not value:
        following = arguments[arguments.index(word) + 1 :][:1]
        value = "".join(v for v in following if "=" not in v and not v.startswith("-")) or "..."
    raise OptionError(f"{word}: options have no dashes; write {name.replace('-', '_')}={value}")


def _unreadable(word: str, following: Sequence[str]) -> str:
    """What is wrong with a word that is no override."""
    name, is_there, value = word.partition("=")
    if is_there and NAME.fullmatch(name.lstrip("+~")):
        if name.lstrip("+~").startswith("judge."):  # it may hold a key
            return f"{name}=...: the value cannot be read: quote it twice: \"{name}='...'\""
        quoted = value.replace("'", "\\'")
        return (
            f"{word}: the value cannot be read: a bracket or a quote has no other half, or a"
            f" character has a meaning; if it is text, quote it twice: \"{name}='{quoted}'\""
        )
    if following and NAME.fullmatch(word) and following[0].startswith("="):
        value = following[0][1:] or "".join(following[1:2])
        return f"{word} {following[0]}: write {word}={value}, without spaces"
    if following and NAME.fullmatch(word) and "=" not in following[0]:
        return f"{word} {following[0]}: write {word}={following[0]}"
    if parts := re.fullmatch(r"([A-Za-z_][\w./@]*):\s*(.+)", word):
        return f"{word}: write {parts[1]}={parts[2]}"
    return f"{word}: {_alone(word) or EXAMPLE}"


def _alone(word: str) -> str:
    """What to write instead of a word alone: a group, a choice, or a flag without its dashes."""
    if f"--{word}" in _names(get_args_parser()):
        return f"write --{word}"
    if there := option_files.choices(word):
        return f"write {word}=..., one of {', '.join(there)}"
    groups = [folder.name for folder in option_files.CONF.iterdir() if folder.is_dir()]
    of = [group for group in sorted(groups) if word in option_files.choices(group)]
    return f"write {of[0]}={word}" if of else ""
