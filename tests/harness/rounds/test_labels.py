"""Labels by the annotators of a world, by a judge, and by people on a real page."""

import json
import re
import threading
from dataclasses import dataclass
from math import sqrt
from types import SimpleNamespace
from urllib.request import Request, urlopen

import numpy as np
import pytest
from omegaconf import OmegaConf

from datamodules.records import Prompt
from datamodules.sources.files import Files
from datamodules.sources.landmarks import Landmarks
from harness.feedback.pairs import write_rows
from harness.rounds.labels import by_gold, by_judge, by_people
from harness.rounds.pairs import Pair
from lightning_modules.judges.verdict import Verdict

QUESTION = Prompt.from_text("Where is the Taj Mahal?")
BEST, VAGUE = "The Taj Mahal is in Agra.", "The Taj Mahal is in India."


def pair(first, second, prompt=QUESTION):
    return Pair(prompt, (first, second), (True, True))


def test_annotators_of_the_world_are_as_noisy_as_those_of_its_data():
    world = Landmarks(decisiveness=3.0)
    # Of the data: how often the best answer is preferred to the vague one, gold 1 and 0.5.
    expected = 1 / (1 + np.exp(-3.0 * 0.5))
    known = [p for p in world.comparisons("train") if set(p.responses) == {BEST, VAGUE}]
    of_best = [p.probability for p in known if p.chosen == BEST]
    assert of_best == pytest.approx([expected] * len(of_best))
    assert of_best
    count = 4000
    for order in ((BEST, VAGUE), (VAGUE, BEST)):
        rows = by_gold(world, [pair(*order)] * count, seed=0, number=1)
        share = np.mean([row["chosen"] == BEST for row in rows])
        assert abs(share - expected) < 4 * sqrt(expected * (1 - expected) / count)
        assert {row["annotator"] for row in rows} == {"gold"}


def test_each_seed_and_each_round_has_annotators_of_its_own_who_repeat_themselves():
    world, asked = Landmarks(decisiveness=1.0), [pair(BEST, VAGUE)] * 60
    said = {(s, n): by_gold(world, asked, s, n) for s in (0, 1) for n in (1, 2)}
    assert said[0, 1] == by_gold(world, asked, 0, 1)
    assert len({str(rows) for rows in said.values()}) == 4


@dataclass
class Judge:
    """Says of two texts what `read` has of them in this order."""

    read: dict
    words: str = "a judge"
    options = SimpleNamespace(local=True)

    def compare(self, prompts, firsts, seconds):
        return [Verdict(self.read[a, b]) for a, b in zip(firsts, seconds, strict=True)]


def test_a_judge_reads_both_orders_and_contradicting_itself_is_a_tie(tmp_path):
    read = {
        **{("a", "b"): 0.9, ("b", "a"): 0.3},  # a in both orders, by 0.9 and 0.7
        **{("c", "d"): 0.2, ("d", "c"): 0.8},  # d
        **{("e", "f"): 0.9, ("f", "e"): 0.8},  # whichever is first
        **{("g", "h"): 0.9, ("h", "g"): None},  # no verdict in one order
    }
    rows = by_judge(Judge(read), [pair("a", "b"), pair("c", "d"), pair("e", "f"), pair("g", "h")])
    assert [(r["chosen"], r["rejected"], r["strength"]) for r in rows] == [
        ("a", "b", pytest.approx(0.9 + 0.7 - 1)),
        ("d", "c", pytest.approx(0.6)),
        ("e", "f", 0.0),
    ]
    # What is read of them: a tie teaches nothing.
    more = [{"prompt": str(k), "chosen": "x", "rejected": "y"} for k in range(9)]
    write_rows(tmp_path / "labels.jsonl", [*rows, *more])
    source = Files(path=str(tmp_path / "labels.jsonl"))
    taught = {c.chosen for split in ("train", "val") for c in source.comparisons(split)}
    assert taught == {"a", "d", "x"}
    assert source.counts["tie"] == 1


def post(address, act, **said):
    """What the page's script sends, and what it gets."""
    headers = {"Content-Type": "application/json", "Cookie": "rlhf_ladder_annotator=ann"}
    request = Request(f"{address}{act}", json.dumps(said).encode(), headers)
    with urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_people_label_on_a_page_and_it_goes_on_where_they_were(tmp_path):
    pairs = [pair(f"sound {k}", f"silly {k}", Prompt.from_text(f"{k}?")) for k in range(4)]
    pytest.importorskip("uvicorn")
    cfg = OmegaConf.create({"overlap": 1, "instructions": None, "host": "127.0.0.1", "port": 0})

    def work(address):
        """Somebody who prefers what is sound, and skips the last pair."""
        card = post(address, "next")["card"]
        for number in range(len(pairs)):
            (item,) = re.findall(r'data-item="(\w+)"', card)
            better = "first" if card.index("sound") < card.index("silly") else "second"
            choice = "skip" if number == len(pairs) - 1 else better
            card = post(address, "vote", item=item, choice=choice, seconds=1)["card"]

    def tell(address):
        threading.Thread(target=work, args=(address,), daemon=True).start()

    rows = by_people(pairs, tmp_path / "labels" / "round-1.sqlite", cfg, tell)
    assert len(rows) == 3
    assert all(row["chosen"].startswith("sound") for row in rows)
    # All have been asked about: nobody is asked again.
    assert by_people(pairs, tmp_path / "labels" / "round-1.sqlite", cfg, lambda _: None) == rows
