"""Transcripts as HH-RLHF has them: "\\n\\nHuman: ...\\n\\nAssistant: ..."."""

import re

from datamodules.records import Message

TURN = re.compile(r"\n\n(Human|Assistant):")
ASSISTANT = "\n\nAssistant:"
ROLES = {"Human": "user", "Assistant": "assistant"}


def split_transcripts(chosen: str, rejected: str) -> tuple[tuple[Message, ...], str, str] | None:
    """Two transcripts, cut at the last assistant turn that begins in their common prefix.

    The turns before it, and the two responses, all without space around them; None where the texts
    are no transcripts that share a beginning. A response may hold further turns.
    """
    shared = 0
    while chosen[shared : shared + 1] == rejected[shared : shared + 1] != "":
        shared += 1
    cut = chosen.rfind(ASSISTANT, 0, shared)
    if cut < 0 or not chosen.startswith("\n\nHuman:"):
        return None
    start = cut + len(ASSISTANT)
    pieces = TURN.split(chosen[:cut])[1:]  # role, content, role, content, ...
    turns = tuple(
        Message(ROLES[role], content.strip())
        for role, content in zip(pieces[::2], pieces[1::2], strict=True)
    )
    return turns, chosen[start:].strip(), rejected[start:].strip()
