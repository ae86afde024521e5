"""What --help prints: the chosen task with its own options, then all that can be chosen.

Everything comes from the files of conf/: what a task does and its examples from the comment above
its options, and what an option means from the comment behind it.
"""

import json
import shutil
import textwrap
from argparse import Namespace
from collections.abc import Iterable, Sequence

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.command_line import option_files
from harness.command_line.composing import Composer
from harness.command_line.option_files import Option, OptionFile
from harness.overrides import written

TITLE = (
    "rlhf-ladder: classical RLHF, rung by rung. Preference data in, an aligned language model out."
)
WIDEST = 100  # columns
NAMES = 30  # columns at most for what stands before an explanation
SENTENCE = 50  # columns at most of a value that is a text
FLAGS = (
    ("-m", "go through all combinations: -m algo=a2c,ppo seed=1,2,3"),
    ("--cfg job", "print every option of this run with its value, and do nothing else"),
    (
        "--help",
        "this; of another task: task=evaluate --help; with what can be set of a choice:"
        " algo=ppo --help",
    ),
    ("--version", "print the version"),
)


def help_of(config: DictConfig, flags: Namespace) -> str:
    """The text of --help for a composed config."""
    width = min(shutil.get_terminal_size((80, 24)).columns, WIDEST)
    composer = Composer(flags)
    chosen = config.hydra.runtime.choices
    file = option_files.read("task", chosen.task)
    own = file if file.options else option_files.read("", "config")
    parts = [
        textwrap.fill(TITLE, width),
        textwrap.fill(
            f"task={chosen.task}" + _others(composer.choices("task"), chosen.task),
            width,
            break_on_hyphens=False,
        ),
        described(file.head, width),
        f"Options of task={chosen.task}:",
        options(own, "", config, width),
    ]
    for group in _typed_groups(flags, chosen):
        chosen_file = option_files.read(group, str(chosen[group]))
        if not chosen_file.options:
            continue
        parts += [
            f"Options of {group}={chosen[group]}:",
            options(chosen_file, group, config, width),
        ]
    groups = {group: ", ".join(composer.choices(group)) for group in composer.groups()}
    parts += ["What can be chosen (group=choice):", table(groups.items(), width)]
    parts += ["Flags:", table(FLAGS, width)]
    return "\n\n".join(part for part in parts if part)


def described(head: Sequence[str], width: int) -> str:
    """What a file says of itself: prose, wrapped, and then its examples, a line each."""
    prose = " ".join(line for line in head if not line.startswith(" "))
    examples = [line for line in head if line.startswith(" ")]
    return "\n\n".join(part for part in (textwrap.fill(prose, width), "\n".join(examples)) if part)


def options(file: OptionFile, group: str, config: DictConfig, width: int) -> str:
    """The options of a file with their values in this config, and what they mean."""
    prefix = "" if file.is_global or not group else f"{group.replace('/', '.')}."
    shown = [option for option in file.options.values() if option.comment or not option.is_section]
    return table(((_shown(f"{prefix}{o.name}", o, config), o.comment) for o in shown), width)


def table(rows: Iterable[tuple[str, str]], width: int) -> str:
    """Names with their explanations beside them, or below where the name is long."""
    rows = list(rows)
    column = min(max((len(name) for name, _ in rows), default=0), NAMES) + 4
    lines = []
    for name, text in rows:
        told = textwrap.wrap(text, width - column, break_on_hyphens=False) or [""]
        first = f"  {name}".ljust(column)
        if len(name) + 4 > column and text:
            lines.append(first)
            first = " " * column
        lines += [f"{first}{told[0]}".rstrip(), *(" " * column + line for line in told[1:])]
    return "\n".join(lines)


def _shown(name: str, option: Option, config: DictConfig) -> str:
    if option.is_section:
        return name
    try:
        value = OmegaConf.select(config, name, throw_on_missing=True)
    except OmegaConfBaseException:  # no value yet, or one that cannot be looked up here
        return f"{name}={option.text.replace('???', '...')}"
    told = json.dumps(value) if isinstance(value, bool | None) else written(value)
    if isinstance(value, str):  # such as the criteria of a judge
        told = textwrap.shorten(told, SENTENCE, placeholder=" ...") if " " in value else told
    return f"{name}={told}"


def _others(tasks: Sequence[str], this: str) -> str:
    others = [task for task in tasks if task != this]
    return f" (others: {', '.join(others)})" if others else ""


def _typed_groups(flags: Namespace, chosen: DictConfig) -> list[str]:
    """The groups that were typed beside the task, in that order."""
    typed = [word.partition("=")[0] for word in flags.overrides]
    return [name for name in dict.fromkeys(typed) if name in chosen and name != "task"]
