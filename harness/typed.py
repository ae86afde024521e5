"""Options as they can be typed or pasted: quoted for Hydra's grammar, and then for a shell."""

import re
import shlex

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException


def option(key: str, value: object) -> str:
    """`key=value` for a command line, whatever text the value is.

    A folder such as `runs/a b [v2]` becomes `'key=\\'runs/a b [v2]\\''` in a shell's own words.
    """
    text = str(value)
    plain = f"{key}={text}"
    return shlex.quote(plain if _is_taken_as_it_is(plain, text) else f"{key}={_quoted(text)}")


def _is_taken_as_it_is(override: str, text: str) -> bool:
    """Whether Hydra reads the bare value as this very text, and no `${...}` is looked up in it."""
    try:
        return (
            "${" not in text and OverridesParser.create().parse_override(override).value() == text
        )
    except HydraException:
        return False


def _quoted(text: str) -> str:
    """A quoted value: backslashes are doubled where they stand before a quote or at the end, and
    before that where they stand before `${`, which OmegaConf would look up.
    """
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)
    return "'" + re.sub(r"(\\*)('|\Z)", lambda m: m[1] * 2 + (m[2] and "\\'"), text) + "'"
