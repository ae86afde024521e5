"""Answers to be judged, as JSON lines: a row a prompt, with the answers of one or several policies.

    {"id": ..., "prompt": text or messages, "answers": [{"text", "policy", "sample", "stopped",
     "tokens"}, ...]}

`data=files` reads such a file as prompts.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datamodules.records import DataError, Prompt
from datamodules.sources.messages import read_messages
from datamodules.sources.reading.json_rows import json_rows
from harness.disk.files import write_text, writing

ANSWERS = "answers.jsonl"
DIGITS = 16  # of a prompt's id


@dataclass(frozen=True)
class Answer:
    """What `policy` said, its `sample`-th response (from 0), of so many `tokens`, the one that ends
    it included. One that has not `stopped` was cut at the limit.
    """

    text: str
    policy: str
    sample: int
    stopped: bool
    tokens: int


@dataclass(frozen=True)
class AnsweredPrompt:
    """A prompt and its answers: those of the first policy, then those of the next."""

    id: str
    prompt: Prompt
    answers: tuple[Answer, ...]


def prompt_id(prompt: Prompt) -> str:
    """The same for the same conversation, wherever it comes from."""
    said = json.dumps(prompt.messages)
    return hashlib.sha256(said.encode()).hexdigest()[:DIGITS]


def answers_line(row: AnsweredPrompt) -> str:
    """The line of a file, with its end."""
    written = {
        "id": row.id,
        "prompt": prompt_written(row.prompt),
        "answers": [asdict(answer) for answer in row.answers],
    }
    return json.dumps(written, ensure_ascii=False) + "\n"


def prompt_written(prompt: Prompt) -> str | list[dict[str, str]]:
    """A prompt as files have it: a turn of the user alone as text, else messages."""
    if len(prompt.messages) == 1 and prompt.messages[0].role == "user":
        return prompt.messages[0].content
    return [message._asdict() for message in prompt.messages]


def write_answers(path: Path, rows: Iterable[AnsweredPrompt]) -> None:
    """Write a file as a whole; DiskError if it cannot be."""
    write_text(path, "".join(map(answers_line, rows)))


def read_answers(path: Path | str) -> list[AnsweredPrompt]:
    """The rows of a file, which may be compressed (.gz). DataError with file and line for one that
    is not such a row.
    """
    return list(answers_in(path))


def answers_in(path: Path | str) -> Iterator[AnsweredPrompt]:
    """The same, one after another."""
    return (answered(row, where) for where, row in json_rows(Path(path)))


def keep_whole(path: Path, prompts: Sequence[Prompt]) -> int:
    """How many rows of a file that a process has left are whole, and of the first of these prompts;
    what is behind them is cut off. DiskError if it cannot be.
    """
    if not path.exists():
        return 0
    count = size = 0
    with writing(path):
        with open(path, "rb") as file:
            for line, prompt in zip(file, prompts, strict=False):
                if not line.endswith(b"\n") or not _answers_to(prompt, line):
                    break
                count, size = count + 1, size + len(line)
        os.truncate(path, size)
    return count


def _answers_to(prompt: Prompt, line: bytes) -> bool:
    try:
        return answered(json.loads(line), "").prompt == prompt
    except ValueError:  # a DataError is one
        return False


def answered(row: Any, where: str) -> AnsweredPrompt:
    """A row of a file; DataError, which begins with `where`, if it is not one."""
    if not isinstance(row, Mapping):
        raise DataError(f"{where}: a row must be an object with named fields, not {row!r:.60}")
    answers = _field(row, "answers", list, where)
    if not answers:
        raise DataError(f"{where}: has no answers")
    return AnsweredPrompt(
        id=_field(row, "id", str, where),
        prompt=_prompt(row, where),
        answers=tuple(
            _answer(each, f"{where}, answer {number}") for number, each in enumerate(answers, 1)
        ),
    )


def _prompt(row: Mapping, where: str) -> Prompt:
    said = row.get("prompt")
    if isinstance(said, str):
        return Prompt.from_text(said)
    if isinstance(said, list):
        return Prompt(read_messages(said, f"{where}, column 'prompt'"))
    raise DataError(f"{where}: 'prompt' must be text or a list of messages, not {said!r:.60}")


def _answer(value: Any, where: str) -> Answer:
    if not isinstance(value, Mapping):
        raise DataError(f"{where}: must be an object with a 'text', not {value!r:.60}")
    kinds = {"text": str, "policy": str, "sample": int, "stopped": bool, "tokens": int}
    return Answer(**{name: _field(value, name, kind, where) for name, kind in kinds.items()})


def _field(row: Mapping, name: str, kind: type, where: str) -> Any:
    value = row.get(name)
    if type(value) is not kind:
        words = {str: "text", int: "a whole number", bool: "true or false", list: "a list"}
        said = f"not {value!r:.60}" if name in row else f"and it has {', '.join(map(repr, row))}"
        raise DataError(
            f"{where}: {name!r} must be {words[kind]}, {said}; such files are written by"
            " task=generate"
        )
    return value
