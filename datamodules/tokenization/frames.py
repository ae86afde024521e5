"""What a chat template writes around what is said, seen by a conversation of known words."""

from contextlib import suppress
from dataclasses import dataclass

from datamodules.records import DataError, Message
from datamodules.tokenization.templates import ChatTemplate

QUESTION, ANSWER = Message("user", "Qx7"), Message("assistant", "Ax7")
SYSTEM, LONG = Message("system", "Sx7"), Message("user", "Qx7 " * 500 + "Qx7")


@dataclass(frozen=True)
class Frame:
    """`prompt` is the shortest prompt, of the messages `opening`; `before` and `after` are what
    stands around the response in the conversation that continues them; `turns` are conversations
    with a turn of every kind that the template takes.
    """

    opening: tuple[Message, ...]
    prompt: str
    before: str
    after: str
    turns: str

    @property
    def continues(self) -> bool:
        """Whether conversations begin as prompts do, which may end in more than these have."""
        return self.before.startswith(self.prompt)

    @property
    def lead(self) -> str:
        """What the template writes between a prompt and a response."""
        return self.before.removeprefix(self.prompt) if self.continues else ""


def frame_of(template: ChatTemplate) -> Frame:
    """The frame of a template; DataError if it leaves out or cuts what is said."""
    opening = _opening(template)
    prompt = template.render(opening, generation_prompt=True)
    whole = template.render([*opening, ANSWER], generation_prompt=False)
    long = template.render([*opening[:-1], LONG], generation_prompt=True)
    for lost, what in (
        (ANSWER.content not in whole, "leaves out what the assistant says"),
        (QUESTION.content not in prompt, "leaves out what the user says"),
        (LONG.content not in long, "cuts what the user says"),
    ):
        if lost:
            raise DataError(
                f"the chat template {what}; give another one with model.chat_template=<file>"
            )
    before, _, after = whole.rpartition(ANSWER.content)
    return Frame(tuple(opening), prompt, before, after, _turns(template, opening))


def _opening(template: ChatTemplate) -> list[Message]:
    """The shortest beginning of a conversation that the template takes."""
    try:
        template.render([QUESTION], generation_prompt=True)
    except DataError:
        template.render([SYSTEM, QUESTION], generation_prompt=True)
        return [SYSTEM, QUESTION]
    return [QUESTION]


def _turns(template: ChatTemplate, opening: list[Message]) -> str:
    """Conversations that go on after a response: what is written around the last one, such as an
    empty block of thoughts, may be part of what is taught.
    """
    written = ""
    for turns in ([SYSTEM, QUESTION, ANSWER, QUESTION], [*opening, ANSWER, QUESTION]):
        with suppress(DataError):  # a template may take no system turn, or one exchange at most
            written += template.render(turns, generation_prompt=False)
    return written or template.render([*opening, ANSWER], generation_prompt=False)
