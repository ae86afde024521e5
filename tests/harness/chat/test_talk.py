"""What a conversation keeps, and what is typed does; with voices that say what they are told to."""

import io
import sys
from dataclasses import dataclass, field

import pytest

from datamodules.records import DataError, Message
from harness.chat.talk import Talk
from harness.chat.terminal import Terminal
from harness.chat.votes import Votes
from harness.feedback.store import Store
from harness.reports.console import make_console


@dataclass
class Said:
    name: str
    pieces: list[str]
    stopped: bool = True
    left_out: int = 0
    is_cut: bool = False
    text: str = ""

    def __iter__(self):
        for piece in self.pieces:
            self.text += piece
            yield piece


@dataclass
class Parrot:
    """Repeats the last words, with its name and the number of the sample; `heard` are prompts."""

    name: str
    heard: list = field(default_factory=list)
    temperature: float = 1.0

    def speak(self, prompt, sample):
        words = prompt.messages[-1].content
        if words == "refuse":
            raise DataError("the chat template refuses it")
        self.heard.append([tuple(m) for m in prompt.messages])
        return Said(self.name, [f"{self.name}{sample}: ", words])

    def set_temperature(self, temperature):
        self.temperature = temperature


@pytest.fixture
def chat(tmp_path, monkeypatch, capsys):
    """chat(*lines): what is printed; with `.talk` and `.store`."""
    voice, other = Parrot("new"), Parrot("old")
    talk = Talk(voice, lambda: other, Votes(tmp_path / "labels.sqlite", "ada"))

    def lead(*lines):
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        Terminal(talk, make_console(alone=True)).run()
        return capsys.readouterr().out

    lead.talk, lead.voice, lead.other = talk, voice, other
    lead.store = lambda: Store(tmp_path / "labels.sqlite")
    return lead


def test_each_question_comes_with_all_that_was_said(chat):
    printed = chat("/system Be brief.", "a", "b", "/undo", "c", "/reset", "//d", "e\\", "f")
    assert printed.count("new> new0: ") == 5
    system, a = ("system", "Be brief."), [("user", "a"), ("assistant", "new0: a")]
    d = [("user", "/d"), ("assistant", "new0: /d")]
    assert chat.voice.heard == [
        [system, ("user", "a")],
        [system, *a, ("user", "b")],
        [system, *a, ("user", "c")],
        [system, ("user", "/d")],
        [system, *d, ("user", "e\nf")],
    ]


def test_another_answer_takes_the_place_of_the_last_one(chat):
    printed = chat("a", "/again", "/other", "b")
    assert "new1: a" in printed
    assert "old1: a" in printed  # to the same, and as often asked
    assert chat.voice.heard[-1][1] == ("assistant", "new1: a")


def test_votes_are_of_what_one_reads(chat):
    printed = chat("a", "/good", "/bad", "/better a", "/other", "/better b", "/again", "/good")
    assert "/other asks for the other one" in printed
    with chat.store() as store:
        items = store.items()
        votes = [(items[v.item], v.choice, v.annotator) for v in store.votes()]
    (thumb, *_), (pair, *_), (second, *_) = votes
    assert [(i.kind, i.responses, c, who) for i, c, who in votes] == [
        ("thumb", ("new0: a",), "down", "ada"),  # who changes their mind
        ("pair", ("new0: a", "old0: a"), "second", "ada"),
        ("thumb", ("new1: a",), "up", "ada"),
    ]
    assert thumb.prompt.messages == pair.prompt.messages == (Message("user", "a"),)
    assert (pair.origins, second.origins) == (("new", "old"), ("new",))


def test_a_vote_on_an_item_that_is_there_in_another_order_means_the_same(chat):
    chat("a", "/other", "/better a")
    with chat.store() as store:
        (item,) = store.items().values()
        turned = type(item)(item.id, "pair", item.prompt, item.responses[::-1], ("old", "new"))
    chat.talk.votes = Votes(chat.talk.votes.file.with_name("others.sqlite"), "ada")
    with Store(chat.talk.votes.file) as store:
        store.add([turned])
        store.vote(turned.id, "ben", "tie")
    chat("/better a")
    with Store(chat.talk.votes.file) as store:
        assert [(v.annotator, v.choice) for v in store.votes()] == [
            ("ben", "tie"),
            ("ada", "second"),
        ]


def test_what_cannot_be_done_is_said_and_changes_nothing(chat):
    printed = chat("/good", "/foo", "/temperature hot", "refuse", "a", "/temperature 0.5", "/other")
    for said in ("nothing was asked yet", "/foo: there is no such", "above 0", "template refuses"):
        assert said in printed
    assert [heard[-1][1] for heard in chat.voice.heard] == ["a"]
    assert chat.voice.temperature == chat.other.temperature == 0.5


def test_without_another_one_it_is_said_once_and_one_answers(chat):
    def no_other():
        raise DataError("there is no reference")

    chat.talk.load_other = no_other
    printed = chat("/both", "a", "b")
    assert printed.count("there is no reference") == 1
    assert len(chat.voice.heard) == 2


def test_nothing_that_is_said_steers_the_terminal(chat):
    printed = chat("\x1b[2J\x9b2J\u202e\r!")
    assert r"\x1b[2J\x9b2J\u202e" in printed
    assert not set(printed) & {"\x1b", "\x9b", "\u202e", "\r"}
    assert chat.voice.heard[0][0][1] == "\x1b[2J\x9b2J\u202e\r!"  # the model reads what was typed
