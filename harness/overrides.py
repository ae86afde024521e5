"""Values of the command line that are names, taken as the text that was typed.

Hydra's grammar reads 2024_01_02 as a number, parts a name at its comma and stumbles over an accent.
Where an option is a name, of a file, a folder, a model or a group of runs, such a value is put into
Hydra's quotes before Hydra sees it. What has a meaning that is wanted stays as it is: null, lists
where lists are taken, values to sweep over with -m, `${...}`, and what is in quotes already.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString, ValueType
from hydra.errors import HydraException

from lightning_modules.errors import OptionError

# In places `~` is the home folder.
PLACES = (
    r"data\.(val_path|path|more)",
    r"model\.(pretrained|chat_template)",
    r"algo\.(policy|critic)_from",
    r"reward(\.rewards\.\w+)*\.path",
    "policy|policies|against|run|runs|to|resume|cache_dir",
    "items|store|export|reward_model",
    r"hydra\.(run|sweep)\.dir",
)
NAMES = (
    "experiment|checkpoint|clear|instructions|host",
    r"data\.(name|revision|subset|columns\.\w+)",
    r"model\.(name|revision|date)",
    r"(algo|reward|adapter)\.name",
    r"logger\.(project|entity|group|tags)",
    r"hydra\.sweep\.subdir|hydra\.job\.name",
)
IS_PLACE = re.compile("|".join(PLACES))
IS_NAME = re.compile("|".join((*PLACES, *NAMES)))
TAKES_LIST = re.compile(
    r"data\.(val_path|path|more|subset)|policies|runs|clear|experiment|logger\.tags|items"
)
# Those that nothing else checks.
UNCHECKED = (
    *("policy", "against", "run", "to", "resume", "cache_dir", "checkpoint"),
    *("store", "export", "host", "instructions", "reward_model"),
    *("logger.project", "logger.entity", "logger.group"),
)
OVERRIDE = re.compile(r"(\+{0,2})([^=]+)=(.*)", re.DOTALL)
CHOICE = re.compile(r"\s*choice\((.*)\)\s*", re.DOTALL)
BLANKS = " \t"  # what Hydra's grammar takes for space
CALL = re.compile(r"\s*\w+\(.*\)\s*", re.DOTALL)
QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)


def with_names_as_text(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command line, those that give a name so that Hydra takes it for one.

    What comes out stays as it is if it goes in again: the processes that Lightning starts for
    several devices get these arguments.
    """
    swept = any(map(means_multirun, arguments))
    return [_with_name_as_text(argument, swept) for argument in arguments]


def place_of(override: str) -> str:
    """The option or section of the config that an override of the command line says:
    `reward@reward.rewards.third=checkpoint` and `algo/optimizer=adam` are of those sections.
    """
    key = override.lstrip("+~").partition("=")[0]
    return key.partition("@")[2] or key.replace("/", ".")


def is_chosen(config: Mapping[str, Any], place: str) -> bool:
    """Whether `place` is a whole section, such as `data`, and not one of its options."""
    return "." not in place and isinstance(config.get(place), Mapping)


def require_names(config: Mapping[str, Any]) -> None:
    """Raise OptionError for an option of a composed config that is a name and holds no text."""
    logger = config.get("logger") or {}
    for key in UNCHECKED:
        group, _, name = key.rpartition(".")
        value = (logger if group else config).get(name)
        if value is not None and not isinstance(value, str):
            raise OptionError(f"{key}={written(value)}: must be a name{quoting(key, value)}")
    tags = logger.get("tags") or []
    if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
        raise OptionError(f"logger.tags={written(tags)}: must be a list of names: logger.tags=[a]")


def quoting(key: str, value: Any) -> str:
    """How a name is written that was not taken for one; "" where that is not the cause."""
    if value is None or isinstance(value, str):
        return ""
    return f"; if it is one, quote it twice: '{key}=\"{written(value)}\"'"


def written(value: Any) -> str:
    """A value as it was typed, more or less: lists without spaces and quotes."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{k}:{written(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(written, value))}]"
    return str(value)


def means_multirun(argument: str) -> bool:
    """Whether an argument of the command line starts a sweep."""
    return (
        argument == "-m"
        or (len(argument) > 3 and "--multirun".startswith(argument))
        or bool(re.fullmatch(r"\+{0,2}hydra\.mode=multirun", argument, re.IGNORECASE))
    )


def _with_name_as_text(argument: str, swept: bool) -> str:
    match = OVERRIDE.fullmatch(argument)
    if not match or not IS_NAME.fullmatch(match[2]):
        return argument
    plus, key, value = match.groups()
    if key == "hydra.run.dir" and len(value) > 1 and value[0] == value[-1] == '"':
        # Lightning puts the folder between quotes, whatever is in its name.
        value = value if _parsed(value) else value[1:-1]
    quoted = _quoted_place if IS_PLACE.fullmatch(key) else _quoted
    listed = bool(TAKES_LIST.fullmatch(key))
    if swept and not key.startswith("hydra."):  # those cannot be swept over
        return f"{plus}{key}={_swept(value, quoted, listed)}"
    if (parsed := _parsed(value)) and parsed.is_sweep_override():
        return f"{plus}{key}={quoted(value)}"  # glob(x), range(1,3): nothing else without a sweep
    return f"{plus}{key}={_element(value, quoted, listed)}"


def _swept(value: str, quoted: Callable[[str], str], listed: bool) -> str:
    """Values that are gone through: a,b or choice(a,b); or one value."""
    # Within choice() Hydra forgets quotes.
    choice = CHOICE.fullmatch(value)
    return _joined(choice[1] if choice else value, quoted, listed)


def _joined(value: str, quoted: Callable[[str], str], listed: bool) -> str:
    parts = [part.strip(BLANKS) for part in _parts(value)]
    if len(parts) == 1 or not all(parts):
        return _element(value, quoted, listed)
    return ",".join(_element(part, quoted, listed) for part in parts)


def _element(value: str, quoted: Callable[[str], str], listed: bool) -> str:
    """One name, or a list of names where the option takes one."""
    if not value.strip(BLANKS):
        return value
    parsed = _parsed(value)
    if parsed is None:
        is_list = listed and value[0] == "[" and value[-1] == "]"
        return _list(value, quoted) if is_list else quoted(value)
    if parsed.value_type != ValueType.ELEMENT:
        # A comma without -m says nothing else; a function says what it says.
        is_name = parsed.value_type == ValueType.SIMPLE_CHOICE_SWEEP
        return quoted(value) if is_name else value
    meant = parsed._value
    if isinstance(meant, list) and listed:
        return _list(value, quoted)
    if meant is None or isinstance(meant, QuotedString | list | dict) or meant == value:
        return value
    is_escaped = isinstance(meant, str) and "\\" in value
    return value if is_escaped or CALL.fullmatch(value) else quoted(value)


def _list(value: str, quoted: Callable[[str], str]) -> str:
    inner = value.strip(BLANKS)[1:-1].strip(BLANKS)
    return f"[{_joined(inner, quoted, listed=False)}]"


def _parts(value: str, nested: bool = True) -> list[str]:
    """What the commas part that are in no quotes and, if `nested`, in no brackets."""
    parts, start, depth, at = [], 0, 0, 0
    while at < len(value):
        character = value[at]
        opens = not value[start:at].strip(" \t[({")
        if opens and (quote := QUOTED.match(value, at)):
            at = quote.end()
            continue
        if nested and character in "[({":
            depth += 1
        elif nested and character in "])}":
            depth = max(depth - 1, 0)
        elif character == "," and not depth:
            parts.append(value[start:at])
            start = at + 1
        at += 2 if character == "\\" else 1
    if depth:
        return _parts(value, nested=False)
    return [*parts, value[start:]]


def _parsed(value: str) -> Override | None:
    """What Hydra makes of a value; None if it stumbles."""
    try:
        return PARSER.parse_overrides([f"name={value}"])[0]
    except HydraException:
        return None


PARSER = OverridesParser.create()


def _quoted(text: str) -> str:
    return QuotedString(text, Quote.single).with_quotes()


def _quoted_place(text: str) -> str:
    return _quoted(os.path.expanduser(text))
