"""What is kept of a config on disk and told to trackers: all but secrets.

A value that was read from the environment stays as it was written, `${oc.env:NAME}`; one whose name
says that it is a secret is replaced. What is kept of the command line is treated alike.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from harness.resolvers import environment_read

HIDDEN = "<secret>"
MISSING = "???"
# Shorter ones are found in every text.
SHORTEST = 4
# Names in lower case, their words joined by `_`.
SECRET = re.compile(
    r"""
    (^|_)(secrets?|passwords?|passwd|passphrase|pwd|credentials?|authorization|auth)(_|$)
    | (^|_)(bearer|cookies?|jwt)$
    | (secret|password|passwd|passphrase|credentials?)$
    | (api|access|private|account|master|deploy|license|encryption|signing|ssh)_?keys?(_|$)
    | (^|_)(wandb|hf|hub|openai|anthropic)_?keys?$
    | (^|_)(api|access|refresh|session|bearer|hf|hub|wandb|github|gitlab)_?tokens?(_|$)
    | token$
    """,
    re.VERBOSE,
)
# Tokens of a text, and options that choose among ways of counting.
OF_TEXT = re.compile(
    r"(^|_)(bos|eos|pad|unk|sep|cls|mask|stop|start|end|begin|special|extra|boi|eoi|eot|image|video"
    r"|audio|speech|text|newline|prefix|suffix|middle|decoder|encoder|per|by|of)_?token$"
)
WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|\W")
NAME = re.compile(r"[+~]*[\w./@:$-]+")
PAIR = re.compile(
    r"""(?P<name>["']?[\w./@-]+["']?\s*:\s*)(?P<value>"[^"]*"|'[^']*'|[^\s"',{}\[\]]+)"""
)
DEFAULT = re.compile(r"(\$\{oc\.env:\s*([^,{}\s]+)\s*,)[^{}]*(?=\})")


def is_secret(name: str) -> bool:
    """Whether an option, a variable or a header of this name holds what nobody else shall know.

    `my_token`, `hf.api_key`, `clientSecret` and `AUTHORIZATION` do; `max_prompt_tokens` and
    `eos_token` are about text.
    """
    for part in str(name).split("."):
        words = re.sub(r"_?\d+$", "", WORD.sub("_", part).lower())
        if SECRET.search(words) and not OF_TEXT.search(words):
            return True
    return False


def kept(cfg: DictConfig) -> dict[str, Any]:
    """The config as a plain dict in which no secret stands: what is written and told to trackers.

    Resolved, but for values that were read from the environment, in whatever number of steps: they
    keep their text. A section or a value of a secret name is HIDDEN, unless it is None.
    """
    return _kept(cfg, secrets_of(cfg))


def _kept(node: Any, secrets: list[str]) -> Any:
    if isinstance(node, DictConfig):
        values = {key: _child(node, key, secrets) for key in node}
        return {k: HIDDEN if _is_hidden(k, value) else value for k, value in values.items()}
    if isinstance(node, ListConfig):
        return [_child(node, place, secrets) for place in range(len(node))]
    return without(hide_override(node), secrets) if isinstance(node, str) else node


def _is_hidden(name: Any, value: Any) -> bool:
    return is_secret(name) and value is not None and not isinstance(value, bool)


def _child(node: DictConfig | ListConfig, key: Any, secrets: list[str]) -> Any:
    """The value at `key`, resolved unless that reads the environment or a secret."""
    if OmegaConf.is_missing(node, key):
        return MISSING
    if not OmegaConf.is_interpolation(node, key):
        return _kept(node[key], secrets)
    with environment_read() as read:
        value = node[key]
    if read or (isinstance(value, str) and without(value, secrets) != value):
        return _without_default(node._get_node(key)._value())
    return _kept(value, secrets)


def _without_default(text: str) -> str:
    """Interpolations without what they give for a secret that the environment does not hold."""
    return DEFAULT.sub(lambda m: f"{m[1]}{HIDDEN}" if is_secret(m[2]) else m[0], text)


def secrets_of(cfg: DictConfig) -> list[str]:
    """The texts in this config that nobody else shall know, the longest first."""
    with environment_read() as read:
        found = set(_secret_texts(cfg, False))
    found |= {value for name, value in read.items() if is_secret(name)}
    return sorted((text for text in found if len(text) >= SHORTEST), key=len, reverse=True)


def _secret_texts(node: Any, inside: bool) -> Iterator[str]:
    """The values below `node` that have a secret name or, `inside`, are below one."""
    if isinstance(node, DictConfig):
        for key in node:
            if not OmegaConf.is_missing(node, key):
                yield from _secret_texts(node[key], inside or is_secret(key))
    elif isinstance(node, ListConfig):
        for place in range(len(node)):
            yield from _secret_texts(node[place], inside)
    elif inside and node is not None and not isinstance(node, bool):
        yield str(node)


def without_secrets(text: str, cfg: DictConfig) -> str:
    """A text, such as an error's, in which the secrets of `cfg` are HIDDEN."""
    return without(text, secrets_of(cfg))


def without(text: str, secrets: Iterable[str]) -> str:
    """The same with secrets that are known."""
    for secret in secrets:
        for form in {secret, repr(secret)[1:-1]}:
            text = re.sub(rf"(?<!\w){re.escape(form)}(?!\w)", HIDDEN, text)
    return text


def hide_overrides(overrides: Iterable[str]) -> list[str]:
    """The overrides of a command line, with HIDDEN in the place of secrets; Hydra reads them."""
    return [hide_override(override) for override in overrides]


def hide_override(override: str) -> str:
    """`+my_token=abc` as `+my_token='<secret>'`; of `+x={my_token: abc}` the part within."""
    name, sign, value = override.partition("=")
    if not sign or not NAME.fullmatch(name):
        return override
    if is_secret(re.sub(r"[@/:]", ".", name)):
        return override if value in ("", "null") else f"{name}='{HIDDEN}'"
    return f"{name}={_without_default(PAIR.sub(_hidden_pair, value))}"


def _hidden_pair(found: re.Match) -> str:
    hides = is_secret(found["name"].strip("\"': ")) and found["value"] != "null"
    return f"{found['name']}'{HIDDEN}'" if hides else found[0]
