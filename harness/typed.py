"""Options and paths as they can be pasted: quoted for Hydra's grammar, and then for a shell."""

import os
import re
import shlex
import sys
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from harness.printable import printable

SCRIPT = "rlhf-ladder"


def program() -> str:
    """What starts this program, as the user has typed it."""
    return SCRIPT if os.path.basename(sys.argv[0]) == SCRIPT else "python run.py"


def from_here(path: Path | str) -> str:
    """A path as short as it can be typed here: from this folder if it is below it."""
    return os.path.relpath(path) if Path(path).is_relative_to(os.getcwd()) else str(path)


def option(key: str, value: object) -> str:
    """`key=value` for a command line, whatever text the value is.

    For `runs/a b [v2]` Hydra has to be given `key='runs/a b [v2]'`, and a shell that in quotes.
    """
    text = str(value)
    plain = f"{key}={text}"
    return word(plain if _is_taken_as_it_is(plain, text) else f"{key}={quoted(text)}")


def word(text: str) -> str:
    """One word of a command line. What a terminal cannot show is written in octal digits, as
    bash, ksh and zsh read them.
    """
    if printable(text, getattr(sys.stdout, "encoding", None) or "utf-8") == text:
        return shlex.quote(text)
    octal = (
        chr(byte) if 32 <= byte < 127 and byte not in b"\\'" else f"\\{byte:03o}"
        for byte in os.fsencode(text)
    )
    return f"$'{''.join(octal)}'"


def _is_taken_as_it_is(override: str, text: str) -> bool:
    """Whether Hydra reads the bare value as this very text, and no `${...}` is looked up in it."""
    try:
        value = OverridesParser.create().parse_override(override).value()
    except HydraException:
        return False
    return "${" not in text and value == text


def quoted(text: str) -> str:
    """A quoted value: backslashes are doubled where they stand before a quote or at the end, and
    before that where they stand before `${`, which OmegaConf would look up.
    """
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return "'" + re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + (m[2] and "\\'"), text) + "'"
