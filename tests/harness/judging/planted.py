"""A real server of the OpenAI API whose judge is known: what it prefers is planted."""

import hashlib
import json
import re
from contextlib import contextmanager

from tests.lightning_modules.judges.server import NAME, Server, serving

ANSWERS = re.compile(r"<answer-([AB])-\w+>\n(.*?)\n</answer-", re.DOTALL)


class PlantedJudge(Server):
    """Prefers by `prefers(a, b)`, the first of the two, second or None, but what is read first in
    `leaning` of all questions, by their hash; to what is in `silent` it says nothing of use.
    """

    def __init__(self, prefers, leaning=0.0, silent=(), **options):
        super().__init__(**options)
        self.prefers, self.leaning, self.silent = prefers, leaning, silent

    def verdict(self, given, text, next_word):
        texts = dict(ANSWERS.findall(text))
        if "A" not in texts:
            return super().verdict(given, text, next_word)
        if {*texts.values()} & {*self.silent}:
            return "I would rather not say."
        draw = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 1000
        if draw < 1000 * self.leaning:
            return json.dumps({"better": "A"})
        better = {True: "A", False: "B", None: "tie"}[self.prefers(texts["A"], texts["B"])]
        return json.dumps({"better": better})


@contextmanager
def judging(prefers, **options):
    """The judge, and the options by which a command asks it."""
    judge = PlantedJudge(prefers, **options)
    with serving(judge.handle) as port:
        yield judge, (f"judge.base_url=http://127.0.0.1:{port}/v1", f"judge.model={NAME}")
