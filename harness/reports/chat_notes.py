"""What a user should know of a model's chat format, in lines."""

from datamodules.tokenization.chat_format import ChatFormat
from datamodules.tokenization.templates import PLAIN_TEMPLATE


def date_notes(chat: ChatFormat) -> list[str]:
    """The date that the template is told, if it asks for one."""
    if not chat.template.asks_clock:
        return []
    date = chat.template.options.date
    return [f"the template asks for the date: {date:%Y-%m-%d} for the whole run"]


def chat_notes(chat: ChatFormat) -> list[str]:
    """What ends a response, what the template writes around it, and what was put right."""
    names = chat.tokenizer.convert_ids_to_tokens
    stops = names(list(chat.stop_ids))
    also = f"; taught responses end with {names(chat.stop_id)}" if len(stops) > 1 else ""
    lines = []
    if chat.template.text == PLAIN_TEMPLATE:
        lines += [
            "the chat template is the plain one, turns headed User: and Assistant:, as for every"
            " tokenizer that brings none"
        ]
    lines += [f"a response stops at {', '.join(stops)}{also}"]
    if not chat.writes_stop and chat.frame.after.strip():
        lines += [
            f"the template writes {chat.frame.after!r} after a response, and no token in it could"
            f" end one: responses are taught to end with {names(chat.stop_id)} instead"
        ]
    if chat.lead:
        lines += [f"the template writes {chat.lead!r} before a response: it is taught as well"]
    if not chat.frame.continues:
        lines += [
            f"the template's prompt ends in {chat.frame.prompt[-20:]!r}, which its conversations do"
            " not have before a response: that part is not taught"
        ]
    if chat.prefix and not chat.template_begins:
        lines += [f"the template writes no {' '.join(names(chat.prefix))}: it is put first, once"]
    lines += date_notes(chat)
    own = chat.tokenizer.pad_token_id
    if own is not None and own != chat.pad_id:
        lines += [f"the padding token has no embedding; {names(chat.pad_id)} serves, masked"]
    return lines
