"""A conversation with a policy, and what the other one would have said."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from datamodules.records import Message, Prompt
from harness.chat.votes import Votes


class Speaking(Protocol):
    """An answer while it is spoken (harness/chat/speech.py)."""

    name: str
    left_out: int
    is_cut: bool
    stopped: bool

    @property
    def text(self) -> str: ...

    def __iter__(self) -> Iterator[str]: ...


class Speaker(Protocol):
    """Who answers."""

    name: str

    def speak(self, prompt: Prompt, sample: int) -> Speaking: ...

    def set_temperature(self, temperature: float) -> None: ...


class NothingSaid(ValueError):
    """There is no answer yet of which this could be said; the message says what to do."""


@dataclass
class Turn:
    """What was asked, with all before it, and what was answered: `answers` by who answers."""

    prompt: Prompt
    sample: int = 0
    answers: dict[str, str] = field(default_factory=dict)
    ended: float = 0.0  # when the last answer was whole


class Talk:
    """A conversation with `voice`; `other` loads who else may answer, when first asked for.

    Each of `ask`, `again` and `beside` gives an answer that is spoken while one iterates; `heard`
    is to be called with it then, whole or not.
    """

    def __init__(
        self,
        voice: Speaker,
        other: Callable[[], Speaker],
        votes: Votes,
        system: str | None = None,
    ):
        self.voice = voice
        self.load_other = other
        self.other: Speaker | None = None
        self.votes = votes
        self.system = system
        self.temperature: float | None = None
        self.turns: list[Turn] = []

    def ask(self, text: str) -> Speaking:
        """The answer to what is said now."""
        messages = [Message("system", self.system)] if self.system else []
        for turn in self.turns:
            said = turn.answers[self.voice.name]
            messages += [turn.prompt.messages[-1], Message("assistant", said)]
        turn = Turn(Prompt((*messages, Message("user", text))))
        speech = self.voice.speak(turn.prompt, 0)
        self.turns.append(turn)
        return speech

    def again(self) -> Speaking:
        """Another answer in the place of the last one."""
        turn = self._last()
        turn.sample += 1
        return self.voice.speak(turn.prompt, turn.sample)

    def beside(self) -> Speaking:
        """What the other one says to the same."""
        turn = self._last()
        return self.require_other().speak(turn.prompt, turn.sample)

    def require_other(self) -> Speaker:
        """The other one, loaded when first asked for; an error says why there is none."""
        if self.other is None:
            self.other = self.load_other()
            if self.temperature is not None:
                self.other.set_temperature(self.temperature)
        return self.other

    def heard(self, speech: Speaking) -> None:
        """Keep what was said. What was stopped before its first word was not asked for."""
        turn = self.turns[-1]
        if speech.text or speech.stopped:
            before = {} if speech.name == self.voice.name else turn.answers
            turn.answers = before | {speech.name: speech.text}
            turn.ended = time.monotonic()
        elif not turn.answers:
            self.turns.pop()

    def undo(self) -> str:
        """Take the last question back with its answer; returns it."""
        turn = self._last()
        self.turns.pop()
        return turn.prompt.messages[-1].content

    def reset(self) -> None:
        """Begin a new conversation; the system message stays."""
        self.turns.clear()

    def set_temperature(self, temperature: float) -> None:
        """For all that is said from now on."""
        self.temperature = temperature
        for speaker in (self.voice, self.other):
            if speaker is not None:
                speaker.set_temperature(temperature)

    def like(self, liked: bool) -> str:
        """Keep a thumb on the last answer; returns what became of it."""
        turn = self._last()
        name = self.voice.name
        seconds = time.monotonic() - turn.ended
        return self.votes.thumb(turn.prompt, turn.answers[name], name, liked, seconds)

    def prefer(self, choice: str) -> str:
        """Keep which of the last two answers is better: first, second, tie or both_bad."""
        turn = self._last()
        if len(turn.answers) < 2:
            raise NothingSaid("there is one answer to compare; /other asks for the other one")
        seconds = time.monotonic() - turn.ended
        return self.votes.pair(turn.prompt, turn.answers, choice, seconds)

    def _last(self) -> Turn:
        if not self.turns:
            raise NothingSaid("nothing was asked yet")
        return self.turns[-1]
