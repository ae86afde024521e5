"""The commands that documents tell a reader to type, as they stand there."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SHELL = ("bash", "sh", "shell", "console")
# What a block of no language, an indented block or words in a line begin with if they are commands.
FIRST = r"(?:[A-Z_]+=\S+ )*(?:for|bash|pip|wandb|(?:\S*/bin/)?(?:python3?|ruff|rlhf-ladder)) "
# In a line, a program alone is its name, `...` stands for any options, and keys are pressed.
NO_COMMAND = re.compile(r"\.\.\.|<TAB>|^python3? \S+\.py$")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*\n)+")
INLINE = re.compile(rf"`({FIRST}[^`\n]+)`")


@dataclass(frozen=True)
class Script:
    """Lines of a shell that are typed together."""

    line: int
    text: str


def scripts(text: str) -> list[Script]:
    """Those of a document, in its order."""
    return sorted(_found(text), key=lambda script: script.line)


def _found(text: str) -> Iterator[Script]:
    def line(at: int) -> int:
        return text.count("\n", 0, at) + 1

    for fence in FENCE.finditer(text):
        if fence[1] in SHELL or (not fence[1] and re.match(FIRST, fence[2])):
            yield Script(line(fence.start()), fence[2])
    prose = FENCE.sub(lambda fence: re.sub(r"[^\n]", " ", fence[0]), text)
    for block in INDENTED.finditer(prose):
        if re.match(rf" {{4}}{FIRST}", block[0]):
            yield Script(line(block.start()), re.sub(r"^ {4}", "", block[0], flags=re.MULTILINE))
    for words in INLINE.finditer(prose):
        if not NO_COMMAND.search(words[1]):
            yield Script(line(words.start()), words[1].replace("\\|", "|") + "\n")


def python_blocks(text: str) -> list[str]:
    return [fence[2] for fence in FENCE.finditer(text) if fence[1] == "python"]


def typed(script: str) -> list[str]:
    """Its lines, those that a backslash goes on with as one, without what only a reader reads."""
    lines = script.replace("\\\n", " ").splitlines()
    return [" ".join(re.sub(r"(^|\s+)#\s.*", "", line).split()) for line in lines]


def without(script: str, excepted: set[str]) -> str:
    """The script less the lines that `typed` gives as one of these."""
    lines = re.findall(r"(?:.*\\\n)*.*\n", script)
    return "".join(line for line in lines if typed(line)[0] not in excepted)
