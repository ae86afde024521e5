"""Votes on what one reads in a chat, kept where those of task=label are."""

from collections.abc import Mapping
from pathlib import Path

from datamodules.records import Prompt
from harness.feedback.items import Item
from harness.feedback.store import Store
from harness.typed import from_here

# Whoever chats has seen the answers, however many others have labelled them.
ANY_NUMBER = 2**31
SAID = {"again": "you have said that already", "kept": "kept in {place}"}


class Votes:
    """Those of one annotator. The file is made with the first vote."""

    def __init__(self, file: Path, annotator: str):
        self.file = file
        self.annotator = annotator
        self._store: Store | None = None

    def thumb(self, prompt: Prompt, text: str, name: str, liked: bool, seconds: float) -> str:
        """Keep whether an answer was liked; returns what became of the vote."""
        item = Item.of("thumb", prompt, [text], [name])
        return self._vote(item, "up" if liked else "down", seconds)

    def pair(self, prompt: Prompt, answers: Mapping[str, str], choice: str, seconds: float) -> str:
        """Keep which of two answers, by who gave them, is the better one."""
        texts = list(answers.values())
        if texts[0] == texts[1]:
            return "both answers are the same; nothing to choose"
        return self._vote(Item.of("pair", prompt, texts, list(answers)), choice, seconds)

    def _vote(self, item: Item, choice: str, seconds: float) -> str:
        if self._store is None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self._store = Store(self.file, overlap=ANY_NUMBER)
        store = self._store
        store.add([item])
        # It may be there from elsewhere, with its answers in another order.
        there = store.items()[item.id].responses
        choice = item.in_own_order(choice, [there.index(text) for text in item.responses])
        votes = [vote for vote in store.votes() if vote.annotator == self.annotator]
        if votes and votes[-1].item == item.id and votes[-1].choice != choice:
            store.undo(self.annotator)  # who changes their mind
        outcome = store.vote(item.id, self.annotator, choice, seconds)
        return SAID[outcome].format(place=from_here(self.file))
