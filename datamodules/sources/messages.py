"""Chat messages as people write them: {"role", "content"}, or {"from", "value"} (ShareGPT)."""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from datamodules.records import DataError, Message

ROLES = ("system", "user", "assistant")
# Other names of the same.
ALIASES = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
CALLS = ("tool_calls", "function_call")
NOT_TAUGHT = (
    "conversations with tools cannot be taught; leave such rows out, or write as text what was"
    " called and what it returned"
)
# Texts that may be lists of objects, numpy's arrays of them, and those that would be messages.
LIST = re.compile(r"\s*(?:array\()?\[\s*\{")
ARRAY = re.compile(r"\Aarray\((.*?)(?:,\s*dtype=object)?\)\Z", re.DOTALL)
BROKEN = re.compile(
    r"""(?:array\()?\[\s*\{\s*(['"])(?:role|content|from|value)\1\s*:\s*(?:['"\[]|None|null)"""
)
READ = {"role", "content", "from", "value", *CALLS}


def read_messages(value: Sequence[Any], where: str) -> tuple[Message, ...]:
    """The messages of a list; DataError that names the message and what is wrong in it."""
    if not value:
        raise DataError(f"{where}: has no messages")
    return tuple(_message(m, f"{where}, message {i}") for i, m in enumerate(value, start=1))


def written_list(text: str, where: str) -> list | None:
    """The messages that a text holds as JSON, Python or numpy writes them; None if it is just text,
    and DataError if it begins like such a list and goes on otherwise.
    """
    if not LIST.match(text):
        return None
    plain = ARRAY.sub(r"\1", text.strip())
    # Between two objects numpy writes a line's end and no comma; in what is said it is written \n.
    for written in (plain, plain.replace("}\n {", "},\n {")):
        for parse in (json.loads, ast.literal_eval):
            try:
                value = parse(written)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
            if isinstance(value, list) and all(_is_message(m) for m in value):
                return value or None
            return None
    if BROKEN.match(plain):
        raise DataError(
            f"{where}: begins like a list of messages and cannot be read as one, neither as JSON"
            f" nor as Python writes it: {plain[:40]!r} ... {plain[-20:]!r}; write the list whole,"
            " with commas between its messages"
        )
    return None


def _is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and (
        {"role", "content"} <= value.keys() or {"from", "value"} <= value.keys()
    )


def unread_keys(value: Any) -> set[str]:
    """What messages hold beside who speaks and what is said."""
    messages = [m for m in value if isinstance(m, Mapping)] if isinstance(value, list) else []
    return {str(k) for m in messages for k, v in m.items() if v not in (None, [], "")} - READ


def _message(value: Any, where: str) -> Message:
    if not isinstance(value, Mapping):
        raise DataError(
            f"{where}: messages must be objects with 'role' and 'content', not {value!r:.60}"
        )
    for calls in CALLS:
        if value.get(calls):
            raise DataError(f"{where}: has {calls!r} ({value[calls]!r:.60}): {NOT_TAUGHT}")
    return Message(_role(value, where), _content(value, where))


def _role(message: Mapping, where: str) -> str:
    role = message.get("role", message.get("from"))
    if not isinstance(role, str):
        raise DataError(f"{where}: its messages need a 'role', one of {', '.join(ROLES)}")
    name = ALIASES.get(role.strip().lower(), role.strip().lower())
    if name in ROLES:
        return name
    advice = f"; {NOT_TAUGHT}" if "tool" in name or "function" in name else ""
    raise DataError(f"{where}: role {role!r} is none of {', '.join(ROLES)}{advice}")


def _content(message: Mapping, where: str) -> str:
    content = message.get("content", message.get("value"))
    if isinstance(content, str):
        return content
    if content is None:
        said = "is null" if "content" in message or "value" in message else "is missing"
        raise DataError(
            f"{where}: its 'content' {said}, and messages need text; leave such rows out"
        )
    if isinstance(content, list):
        parts = enumerate(content, start=1)
        return "".join(_part(part, f"{where}, part {i} of its content") for i, part in parts)
    raise DataError(f"{where}: its 'content' must be text, not {content!r:.60}")


def _part(part: Any, where: str) -> str:
    """The text of one part: {"type": "text", "text": ...}, or plain text."""
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping):
        kind = part.get("type") or next((k for k, v in part.items() if v is not None), None)
        if kind in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
            return part["text"]
        if kind and kind != "text":
            raise DataError(f"{where}: is of type {kind!r}; only text can be taught")
    raise DataError(f"{where}: must have text, not {part!r:.60}")
