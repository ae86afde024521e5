"""The files of conf/ as a person reads them: options with their values and comments.

For help and for suggestions; a run's config is composed by Hydra.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

CONF = Path(__file__).parents[2] / "conf"
HIDDEN = ("defaults", "hydra", "task")  # what is no option of the file itself
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Option:
    """An option of a file. `name` has dots, `text` is the value as it is written."""

    name: str
    text: str
    value: Any
    comment: str
    is_section: bool = False


@dataclass(frozen=True)
class OptionFile:
    """`head` are the comment's lines above everything, `is_global` says that names count from the
    root of the config.
    """

    head: tuple[str, ...]
    is_global: bool
    options: dict[str, Option]


@functools.cache
def read(group: str, choice: str, root: Path = CONF) -> OptionFile:
    """conf/<group>/<choice>.yaml with what it inherits; no options if there is no such file."""
    path = root / group / f"{choice}.yaml"
    if not path.is_file():
        return OptionFile((), False, {})
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    node = yaml.compose(text, LOADER)
    values = yaml.load(text, LOADER)
    if not isinstance(node, yaml.MappingNode):
        return OptionFile(_head(lines), _is_global(lines), {})
    inherited: dict[str, Option] = {}
    for entry in values.get("defaults") or []:
        inherited |= dict(_inherited(group, entry, root))
    own = {option.name: option for option in _options(node, values, lines)}
    return OptionFile(_head(lines), _is_global(lines), inherited | own)


def choices(group: str, root: Path = CONF) -> list[str]:
    """The names of a group's files."""
    return sorted(file.stem for file in (root / group).glob("*.yaml"))


def _inherited(group: str, entry: Any, root: Path) -> Iterator[tuple[str, Option]]:
    """The options that one line of a defaults list brings."""
    key, choice = next(iter(entry.items())) if isinstance(entry, dict) else (entry, None)
    if key == "_self_" or key.startswith(("override ", "optional ")) or not group:
        return
    path, _, package = key.partition("@")
    path = path[1:] if path.startswith("/") else f"{group}/{path}"
    if choice is None:
        path, _, choice = path.rpartition("/")
    elif not package:
        package = key.rpartition("/")[2]
    prefix = "" if package in ("", "_here_") else f"{package}."
    for option in read(path, str(choice), root).options.values():
        name = f"{prefix}{option.name}"
        yield name, replace(option, name=name)


def _options(
    node: yaml.MappingNode, values: dict, lines: list[str], prefix: str = ""
) -> Iterator[Option]:
    for key, value in node.value:
        name = str(key.value)
        if name.startswith("_") or (not prefix and name in HIDDEN):
            continue
        is_section = isinstance(value, yaml.MappingNode) and not value.flow_style
        end = key.end_mark if is_section else value.end_mark
        line = lines[end.line] if end.line < len(lines) else ""
        text = "" if is_section else _written(value, lines)
        comment = line[end.column :].partition("#")[2].strip()
        yield Option(f"{prefix}{name}", text, values[name], comment, is_section)
        if is_section:
            yield from _options(value, values[name], lines, f"{prefix}{name}.")


def _written(node: yaml.Node, lines: list[str]) -> str:
    start, end = node.start_mark, node.end_mark
    return lines[start.line][start.column : end.column if end.line == start.line else None].strip()


def _head(lines: list[str]) -> tuple[str, ...]:
    head = []
    for line in lines:
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            head.append(line[1:].removeprefix(" ").rstrip())
    return tuple(head)


def _is_global(lines: list[str]) -> bool:
    return bool(lines) and lines[0].replace(" ", "").startswith("#@package_global_")
