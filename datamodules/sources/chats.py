"""Prompts and responses of your own files: text, or chat messages ({"role", "content"})."""

from collections.abc import Mapping, Sequence
from typing import Any

from datamodules.records import DataError, Message, Prompt
from datamodules.sources.transcripts import split_transcripts

ROLES = ("system", "user", "assistant")
Chat = str | list[Mapping[str, str]]


def check_chat(value: Any, where: str) -> None:
    """Raise DataError unless `value` is text or a list of chat messages."""
    if isinstance(value, str):
        return
    is_chat = isinstance(value, list) and all(
        isinstance(m, Mapping)
        and isinstance(m.get("role"), str)
        and isinstance(m.get("content"), str)
        for m in value
    )
    if not is_chat:
        raise DataError(
            f"{where}: must be text or a list of messages with 'role' and 'content',"
            f" not {value!r:.60}"
        )
    if not value:
        raise DataError(f"{where}: has no messages")


def from_prompt(prompt: Chat, responses: Sequence[Chat], where: str) -> tuple[Prompt, list[str]]:
    """A prompt and the texts of its responses, which may repeat the prompt's messages."""
    messages = (Message("user", prompt),) if isinstance(prompt, str) else _messages(prompt)
    checked = _prompt(messages, f"{where}, prompt")
    for response in responses:
        if not isinstance(response, str) and _messages(response[:-1]) not in ((), messages):
            raise DataError(
                f"{where}: the messages before a response's last turn are not its prompt's"
            )
    return checked, [_response(a, where) for a in responses]


def from_shared_beginning(responses: Sequence[Chat], where: str) -> tuple[Prompt, list[str]]:
    """The prompt that all conversations, or two transcripts, begin with; and how each goes on."""
    texts = [a for a in responses if isinstance(a, str)]
    if len(texts) == len(responses) == 2:
        return _from_transcripts(*texts, where)
    if texts:
        raise DataError(
            f"{where}: no column 'prompt', and not all responses are messages."
            " Name the prompt's column with data.columns.prompt=<name>"
        )
    context = _messages(responses[0][:-1])
    if not context or any(_messages(a[:-1]) != context for a in responses):
        raise DataError(
            f"{where}: without a 'prompt' the conversations must be equal up to the last turn"
        )
    return _prompt(context, where), [_response(a, where) for a in responses]


def _from_transcripts(chosen: str, rejected: str, where: str) -> tuple[Prompt, list[str]]:
    split = split_transcripts(chosen, rejected)
    if split is None:
        raise DataError(
            f"{where}: no column 'prompt', and the responses are no transcripts"
            ' "\\n\\nHuman: ...\\n\\nAssistant: ..." that share a beginning.'
            " Name the prompt's column with data.columns.prompt=<name>"
        )
    turns, *responses = split
    return Prompt(turns), responses


def _messages(value: list) -> tuple[Message, ...]:
    return tuple(Message(m["role"], m["content"]) for m in value)


def _prompt(messages: tuple[Message, ...], where: str) -> Prompt:
    unknown = {m.role for m in messages} - set(ROLES)
    if unknown:
        raise DataError(f"{where}: role {min(unknown)!r} is none of {', '.join(ROLES)}")
    if messages[-1].role != "user":
        raise DataError(f"{where}: the last message before a response must be the user's")
    return Prompt(messages)


def _response(value: Chat, where: str) -> str:
    """The text of the last assistant turn; messages before it repeat the prompt."""
    if isinstance(value, str):
        return value
    if value[-1]["role"] != "assistant":
        raise DataError(f"{where}: the last message of a response must be the assistant's")
    return value[-1]["content"]
