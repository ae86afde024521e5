"""People as the reward: real pages, scripted people, time limits, kills and what stays the same."""

import json
import math
import re
import threading
import time
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

import pytest
import torch

pytest.importorskip("uvicorn", reason="the extra [label] is not installed")

from datamodules.records import Prompt
from harness.errors import RunError
from harness.feedback.items import Item
from harness.feedback.store import FILE, Store
from harness.tasks.train import train
from harness.web import people_reward
from harness.web.people_reward import PeopleReward
from lightning_modules.errors import OptionError
from lightning_modules.models.loading import FLOAT32
from lightning_modules.rewards.reward import RewardContext

WHY = Prompt.from_text("Why?")
TEXTS = ["Because.", "So it is.", "Who knows?", "42"]


def likes(item: str) -> bool:
    """What everybody thinks of an item: known from its texts alone."""
    return int(item[:8], 16) % 2 == 0


def worth(texts, prompt=WHY):
    return [float(likes(Item.of("thumb", prompt, [text]).id)) for text in texts]


class Person(threading.Thread):
    """Votes on what the page shows, as its script does, until told to leave."""

    def __init__(self, address, name="Ann", thinks=likes, most=math.inf):
        super().__init__(daemon=True)
        self.host = urlsplit(address).netloc
        self.name, self.thinks, self.most = name, thinks, most
        self.votes = 0
        self.leaving = threading.Event()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.leaving.set()
        self.join()

    def run(self):
        while not self.leaving.wait(0.02) and self.votes < self.most:
            try:
                shown = re.search(r'data-item="(\w+)"', self.send("/next", {})["card"])
                if shown:
                    choice = "up" if self.thinks(shown[1]) else "down"
                    self.send("/vote", {"item": shown[1], "choice": choice, "seconds": 0.1})
                    self.votes += 1
            except (OSError, HTTPException):  # there is no page just now
                continue

    def send(self, path, body):
        connection = HTTPConnection(self.host, timeout=10)
        cookie = f"rlhf_ladder_annotator={self.name}"
        headers = {"Content-Type": "application/json", "Cookie": cookie}
        connection.request("POST", path, json.dumps(body), headers)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(people_reward, "POLL", 0.02)


@pytest.fixture
def people(tmp_path):
    """people(**options): a reward whose page is served; `said` of it is what it told."""
    made = []

    def make(**options):
        reward = PeopleReward(**{"port": 0, "minutes": 1.0, **options})
        reward.said = []
        context = RewardContext(
            reward_model=None,
            gold=None,
            encoder=None,
            frozen=FLOAT32,
            folder=lambda: tmp_path,
            say=reward.said.append,
        )
        reward.check(context)
        reward.bind(context)
        made.append(reward)
        return reward

    yield make
    for reward in made:
        reward.release()


def scores(reward, texts=TEXTS):
    return reward.score_texts([WHY] * len(texts), texts).tolist()


def test_a_score_is_the_thumb_that_a_response_got(people):
    reward = people()
    with Person(reward.address) as ann:
        assert scores(reward, [*TEXTS, TEXTS[0]]) == worth([*TEXTS, TEXTS[0]])
    assert ann.votes == 4  # the same response is one question
    assert any("4 responses to judge at http://127.0.0.1:" in line for line in reward.said)
    assert any("4 of 4 responses judged in" in line for line in reward.said)
    assert scores(reward) == worth(TEXTS)  # nobody is asked again, and nobody is there
    assert reward.raw_scores([WHY], TEXTS[:1]).shape == (1, 1)


def test_of_several_people_it_is_the_share_of_thumbs_up(people):
    reward = people(overlap=2)
    always, never = (lambda item: True), (lambda item: False)
    with (
        Person(reward.address, "Ann", always),
        Person(reward.address, "Ben", never),
        Person(reward.address, "Cem", always, most=0),
    ):
        assert scores(reward) == [0.5] * 4


def test_what_nobody_judges_in_time_is_unscored_for_good(people):
    reward = people(minutes=0.03)
    with Person(reward.address, most=3) as ann:
        found = scores(reward)
    assert ann.votes == 3
    assert sum(map(math.isnan, found)) == 1
    expected = zip(found, worth(TEXTS), strict=True)
    assert all(math.isnan(score) or score == right for score, right in expected)
    assert "time is up, 1 without a thumb stay unscored" in reward.said[-1]
    with Person(reward.address) as late:
        again = scores(reward)
        time.sleep(0.2)
    assert late.votes == 0
    assert [str(x) for x in again] == [str(x) for x in found]


def test_at_the_end_of_the_time_the_votes_that_are_there_count(people):
    reward = people(overlap=2, minutes=0.02)
    with Person(reward.address):
        assert scores(reward) == worth(TEXTS)


def test_votes_that_a_kill_has_left_are_taken_and_the_rest_is_asked(people, tmp_path):
    with Store(tmp_path / "people" / FILE) as store:
        items = [Item.of("thumb", WHY, [text]) for text in TEXTS]
        store.add(items)
        for item in items[:3]:
            store.vote(item.id, "Ann", "up" if likes(item.id) else "down")
    reward = people()
    with Person(reward.address, "Ben") as ben:
        assert scores(reward) == worth(TEXTS)
    assert ben.votes == 1


def test_what_a_score_was_it_stays_whatever_is_said_later(people, tmp_path):
    reward = people()
    with Person(reward.address):
        before = scores(reward)
    reward.store.undo("Ann")
    for text in TEXTS:
        reward.store.vote(Item.of("thumb", WHY, [text]).id, "Ben", "up")
    reward.release()
    assert scores(people()) == before


def test_a_signal_while_waiting_goes_through_and_the_votes_stay(people, tmp_path, monkeypatch):
    reward = people()

    def stop(seconds):
        if len(reward.store.votes()) == 2:
            raise SystemExit(130)
        time.sleep(seconds)

    clock = type("Clock", (), {"sleep": staticmethod(stop), "monotonic": time.monotonic})
    with monkeypatch.context() as patch:
        patch.setattr(people_reward, "time", clock)
        with Person(reward.address, most=2), pytest.raises(SystemExit):
            scores(reward)
    reward.release()
    reward = people()
    with Person(reward.address) as ann:  # who holds the third
        assert scores(reward) == worth(TEXTS)
    assert ann.votes == 2


def test_processes_besides_the_first_ask_and_do_not_serve(people, monkeypatch):
    first = people()
    with monkeypatch.context() as patch:
        patch.setattr(people_reward, "this_rank", lambda: 1)
        second = people()
    assert second.address is None
    with Person(first.address):
        assert scores(second) == worth(TEXTS)


def test_a_port_that_is_taken_and_a_wrong_option_are_told(people):
    port = urlsplit(people().address).port
    with pytest.raises(RunError, match=f"port={port}: another program is listening"):
        people(port=port)
    for option, value in (("overlap", 0), ("minutes", 0.0), ("port", -1)):
        with pytest.raises(OptionError, match=rf"reward\.{option}={value}"):
            PeopleReward(**{option: value})


RUN = ("algo=reinforce", "reward=people", "reward.minutes=1", "algo.beta=0", "algo.iterations=3")
RUN += ("algo.prompts_per_iteration=2", "algo.val_prompts=2", "algo.evaluate_every=3")


def test_a_run_that_is_cut_while_it_waits_goes_on_as_if_it_had_not_been(
    configure, tmp_path, metrics_of, monkeypatch
):
    addresses = []
    bind = PeopleReward.bind

    def noted(self, context):
        bind(self, context)
        addresses.append(self.address)

    monkeypatch.setattr(PeopleReward, "bind", noted)

    def run(folder, most, *more):
        """A run with a person who leaves after some votes."""
        cfg = configure(folder, *RUN, "reward.port=0", *more)
        del addresses[:]
        person = Person("//", most=most)

        def come():
            while not addresses:
                time.sleep(0.02)
            person.host = urlsplit(addresses[0]).netloc
            person.run()

        visit = threading.Thread(target=come, daemon=True)
        visit.start()
        try:
            return train(cfg), person.votes
        finally:
            person.leaving.set()
            addresses.append("//")
            visit.join()

    summary, votes = run(tmp_path / "whole", math.inf)
    assert votes >= 8
    rows = metrics_of(tmp_path / "whole")
    assert summary["rollout/unscored"] == 0

    def gone(seconds):
        if len(asked.votes()) == 6:
            raise RuntimeError("power cut")
        time.sleep(seconds)

    clock = type("Clock", (), {"sleep": staticmethod(gone), "monotonic": time.monotonic})
    monkeypatch.setattr(people_reward, "time", clock)
    with (
        Store(tmp_path / "broken" / "people" / FILE) as asked,
        pytest.raises(RuntimeError, match="power cut"),
    ):
        run(tmp_path / "broken", 6)
    monkeypatch.setattr(people_reward, "time", time)
    _, more = run(tmp_path / "broken", math.inf, "resume=auto")
    assert metrics_of(tmp_path / "broken") == rows
    assert more == votes - 6


def test_scores_are_numbers_for_training(people):
    reward = people()
    with Person(reward.address):
        assert reward.score_texts([WHY], TEXTS[:1]).dtype == torch.float32
