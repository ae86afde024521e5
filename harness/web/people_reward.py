"""People as the reward: responses are put on a page, and training waits for their thumbs."""

import math
import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.durations import duration
from harness.errors import RunError
from harness.feedback.items import Item
from harness.feedback.settled import FILE as SCORES
from harness.feedback.settled import Settled
from harness.feedback.store import FILE, Store
from harness.ranks import this_rank
from harness.typed import from_here, option
from harness.web import PACKAGES
from lightning_modules.options.require import require_package
from lightning_modules.options.rewards import PeopleRewardOptions
from lightning_modules.rewards.reward import Reward, RewardContext

FOLDER = "people"  # in the folder of a run
POLL = 0.5  # seconds from one look at the votes to the next
SPACING = 15.0  # seconds from one line about them to the next, at least
WORTH = {"up": 1.0, "down": 0.0}


class PeopleReward(Reward):
    """The share of thumbs up that a response gets, in [0, 1]; NaN where nobody gave one in time.

    A response to a prompt is asked for once in a run, and its score then holds. Votes are kept as
    they come, so that a run which goes on after a kill asks only for what is missing. Each of
    several processes asks for its own responses; the first one serves the page for all.
    """

    costly = True

    def __init__(self, **options: Any):
        self.options = PeopleRewardOptions(**options)
        self.name = self.options.name
        self.words = "people, the share of thumbs up that a response gets on a page"
        self._open = ExitStack()
        self.address: str | None = None  # of the page, of the process that serves it

    def check(self, context: RewardContext) -> None:
        for package in PACKAGES:
            require_package(package, "label", "reward", "people")

    def bind(self, context: RewardContext) -> None:
        options, given = self.options, self.options.store
        self.run = context.folder()
        folder = Path(given).expanduser() if given else self.run / FOLDER
        store = Store(folder / FILE, overlap=options.overlap, lease=60 * options.lease)
        self.store = self._open.enter_context(store)
        self.settled = Settled(folder / SCORES)
        self._open.callback(self.settled.close)
        self.store.retire(self.settled.scores())
        self.say = context.say
        self._serve()

    def release(self) -> None:
        self._open.close()
        self.address = None

    def raw_scores(self, prompts: Sequence[Any], texts: Sequence[str]) -> Tensor:
        return self.score_texts(prompts, texts)[:, None]

    def score_texts(
        self,
        prompts: Sequence[Any],
        texts: Sequence[str],
        stopped: Sequence[bool] | None = None,
    ) -> Tensor:
        pairs = zip(prompts, texts, strict=True)
        items = [Item.of("thumb", prompt, [text]) for prompt, text in pairs]
        scores = self.settled.scores(item.id for item in items)
        asked = {item.id: item for item in items if item.id not in scores}
        if asked:
            self.store.add(asked.values())
            worth = self._ask(asked)
            if not scores and all(score is None for score in worth.values()):
                raise RunError(
                    f"people: none of {len(asked)} responses was judged in time; nothing is lost,"
                    f" and {option('resume', from_here(self.run))} asks for them again"
                )
            scores |= self.settled.settle(worth)
            self.store.retire(asked)
        found = [scores[item.id] for item in items]
        return torch.tensor([math.nan if score is None else score for score in found])

    def _ask(self, items: Collection[str]) -> dict[str, float | None]:
        """Wait until all items have their votes or the time is over; what each is worth."""
        limit, began, told = 60 * self.options.minutes, time.monotonic(), 0.0
        count, answers = len(items), f"{len(items)} response{'s' * (len(items) != 1)}"
        self.say(f"people: {answers} to judge at {self.address}, for {duration(limit)} at most")
        before = 0
        while True:
            votes = self._votes(items)
            done = sum(len(of_item) >= self.options.overlap for of_item in votes.values())
            passed = time.monotonic() - began
            if done == count or passed >= limit:
                break
            if done != before and passed - told >= SPACING:
                before, told = done, passed
                self.say(f"people: {done} of {answers} judged")
            time.sleep(POLL)
        left = count - len(votes)
        end = f"; time is up, {left} without a thumb stay unscored" if left else ""
        self.say(f"people: {done} of {answers} judged in {duration(passed)}{end}")
        worth = {item: sum(of_item) / len(of_item) for item, of_item in votes.items()}
        return {item: worth.get(item) for item in items}

    def _votes(self, items: Collection[str]) -> dict[str, list[float]]:
        """What was said of those items of which anything was."""
        found: defaultdict[str, list[float]] = defaultdict(list)
        for vote in self.store.votes():
            if vote.item in items and vote.choice in WORTH:
                found[vote.item].append(WORTH[vote.choice])
        return found

    def _serve(self) -> None:
        """The page, until the run ends."""
        if this_rank() > 0:
            return
        from harness.web.labelling import Labelling
        from harness.web.server import serving

        app = Labelling(self.store, self.options.instructions).app()
        site = self._open.enter_context(serving(app, self.options.host, self.options.port))
        self.address = site.address
        self.say(f"people: open {site.address} to judge responses; ctrl-c keeps all votes")
