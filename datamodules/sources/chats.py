"""Prompts and responses of your own files: text, or chat messages ({"role", "content"})."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from datamodules.records import DataError, Message, Prompt
from datamodules.sources.messages import read_messages, written_list
from datamodules.sources.transcripts import begun, conversation, split_transcripts, tells_dialogue

Chat = str | tuple[Message, ...]


class Told(NamedTuple):
    """A prompt, the texts of its responses, and what was done to get them."""

    prompt: Prompt
    responses: list[str]
    was_transcript: bool = False  # a prompt that was one text with several speakers
    tells_dialogue: bool = False  # a prompt that was such a text, but ends with the assistant
    cut: int = 0  # responses that went on with further turns


def read_chat(value: Any, where: str) -> Chat:
    """Text as it is, or a list as messages (in a CSV file it is text). DataError if it is neither,
    or if somebody says nothing before the last message.
    """
    messages = written_list(value, where) if isinstance(value, str) else value
    if isinstance(messages, list):
        return _with_words(read_messages(messages, where), where)
    if isinstance(value, str):
        return value
    raise DataError(
        f"{where}: must be text or a list of messages with 'role' and 'content', not {value!r:.60}"
    )


def _with_words(messages: tuple[Message, ...], where: str) -> tuple[Message, ...]:
    """The messages; an empty last one only leaves its row out, and the system's may be empty."""
    for i, message in enumerate(messages[:-1], start=1):
        if message.role != "system" and not message.content.strip():
            raise DataError(
                f"{where}, message {i}: the {message.role} says nothing, and others go on after it;"
                " leave such rows out, or write what was said"
            )
    return messages


def from_prompt(
    prompt: Chat, responses: Sequence[Chat], where: str, system: str | None = None
) -> Told:
    """A prompt and its responses, which may repeat the prompt's messages."""
    messages = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    is_text = len(messages) == 1 and messages[0].role == "user"
    turns = conversation(messages[0].content) if is_text else None
    if is_text and turns is None and (said := begun(messages[0].content)):
        raise DataError(
            f"{where}, prompt: is a transcript in which the assistant has begun to speak"
            f" ({said!r:.60}); let it end with the user's turn, or with the marker that asks the"
            " assistant, and put what was begun before the responses"
        )
    whole = _with_system(turns or messages, system, where)
    checked = _prompt(whole, f"{where}, prompt")
    for response in responses:
        if not isinstance(response, str) and response[:-1] not in ((), messages, turns, whole):
            raise DataError(
                f"{where}: the messages before a response's last turn are not its prompt's"
            )
    texts = [_response(a, where) for a in responses]
    tells = is_text and turns is None and tells_dialogue(messages[0].content)
    return Told(checked, texts, was_transcript=turns is not None, tells_dialogue=tells)


def from_shared_beginning(
    responses: Sequence[Chat], where: str, no_prompt: Callable[[], str], system: str | None = None
) -> Told:
    """The prompt that all conversations, or two transcripts, begin with; and how each goes on.

    `no_prompt` is what is said first where responses are of a kind that needs a prompt.
    """
    texts = [a for a in responses if isinstance(a, str)]
    if len(texts) == len(responses) == 2:
        return _from_transcripts(*texts, where, no_prompt, system)
    if texts:
        raise DataError(
            f"{no_prompt()}. Without prompts responses must be transcripts or messages, and not all"
            " of these are messages"
        )
    context = responses[0][:-1]
    if not context or any(a[:-1] != context for a in responses):
        raise DataError(
            f"{where}: without a 'prompt' the conversations must be equal up to the last turn"
        )
    prompt = _prompt(_with_system(context, system, where), where)
    return Told(prompt, [_response(a, where) for a in responses])


def _from_transcripts(
    chosen: str, rejected: str, where: str, no_prompt: Callable[[], str], system: str | None
) -> Told:
    parted = split_transcripts(chosen, rejected)
    if parted is None:
        raise DataError(
            f"{no_prompt()}. Without prompts the responses must be transcripts"
            ' "\\n\\nHuman: ...\\n\\nAssistant: ..." that share a beginning, and these are not'
        )
    prompt = Prompt(_with_system(parted.turns, system, where))
    return Told(prompt, [parted.chosen, parted.rejected], cut=parted.cut)


def _with_system(
    messages: tuple[Message, ...], system: str | None, where: str
) -> tuple[Message, ...]:
    """Messages that begin with this system turn; DataError if they begin with another."""
    if system is None:
        return messages
    if messages[0].role == "system":
        if messages[0].content != system:
            raise DataError(
                f"{where}: the prompt begins with the system message {messages[0].content!r:.60},"
                f" and the column of system messages says {system!r:.60}; keep one of them"
            )
        return messages
    return (Message("system", system), *messages)


def _prompt(messages: tuple[Message, ...], where: str) -> Prompt:
    if messages[-1].role != "user":
        raise DataError(f"{where}: the last message before a response must be the user's")
    return Prompt(messages)


def _response(value: Chat, where: str) -> str:
    """The text of the last assistant turn; messages before it repeat the prompt."""
    if isinstance(value, str):
        return value
    if value[-1].role != "assistant":
        raise DataError(f"{where}: the last message of a response must be the assistant's")
    return value[-1].content
