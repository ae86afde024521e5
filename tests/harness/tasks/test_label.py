"""task=label as a user starts it: the page, kills, and what is trained on its file."""

import json
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from http.client import HTTPException
from pathlib import Path

import pytest

from harness.errors import RunError
from harness.feedback.store import FILE, Store
from harness.tasks.label import label
from harness.tasks.train import train
from lightning_modules.errors import OptionError
from tests.harness.web.conftest import Person

ROOT = Path(__file__).parents[3]
ITEM = re.compile(r'data-item="(\w+)"')
FIRST = re.compile(r'class="rendered"><p>(good|bad) \d+</p>')


def write_pairs(path: Path, count: int) -> Path:
    rows = (
        {"prompt": f"question {i}", "chosen": f"good {i}", "rejected": f"bad {i}"}
        for i in range(count)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class Page:
    """`python run.py task=label ...`, which can be killed."""

    def __init__(self, folder: Path, *options: str):
        self.output = folder / "output.txt"
        self.command = [sys.executable, str(ROOT / "run.py"), "task=label", f"store={folder / 's'}"]
        self.command += [
            f"cache_dir={folder / 'cache'}",
            f"hydra.run.dir={folder / 'run'}",
            *options,
        ]
        self.folder = folder

    def start(self, *more: str) -> str:
        """The address, once it answers."""
        with open(self.output, "w", encoding="utf-8") as output:
            self.process = subprocess.Popen(
                [*self.command, *more], cwd=self.folder, stdout=output, stderr=subprocess.STDOUT
            )
        for _ in range(600):
            if found := re.search(r"open (http://\S+) ", self.said()):
                return found[1]
            assert self.process.poll() is None, self.said()
            time.sleep(0.05)
        raise AssertionError(self.said())

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def said(self) -> str:
        return self.output.read_text(encoding="utf-8")


@pytest.fixture
def page(tmp_path):
    """page(*options): a process of task=label, which is gone at the end."""
    pytest.importorskip("uvicorn", reason="the extra [label] is not installed")
    pages = []

    def make(*options: str) -> Page:
        pages.append(Page(tmp_path, *options))
        return pages[-1]

    yield make
    for each in pages:
        if each.process.poll() is None:
            each.process.kill()
            each.process.wait()


def vote_until_nothing_is_left(person: Person, told: list[tuple[str, str]], seed: int) -> None:
    """Vote as the page does: what was not answered is sent again. `told`: what the server has."""
    dice = random.Random(seed)

    def ask(path: str, body: dict) -> dict:
        for _ in range(600):
            try:
                status, answer = person.post(path, body)
            except (OSError, HTTPException):
                time.sleep(0.05)
                continue
            assert status == 200, answer
            return answer
        raise AssertionError("the server does not come back")

    card = ask("/next", {})["card"]
    while item := ITEM.search(card):
        choice = dice.choice(["first", "second", "tie", "both_bad"])
        body = {"item": item[1], "choice": choice, "seconds": 0.5}
        if dice.random() < 0.05:  # a second window sends the same
            ask("/vote", body)
        answer = ask("/vote", body)
        assert answer["said"] == ""
        told.append((item[1], choice))
        card = answer["card"]


def test_500_votes_by_four_at_once_and_two_kills_lose_none_and_double_none(page, tmp_path):
    """And the second start brings more items, which are added."""
    write_pairs(tmp_path / "200.jsonl", 200)
    write_pairs(tmp_path / "250.jsonl", 250)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = page("overlap=2", f"port={port}")
    address = server.start("items=200.jsonl")
    told: dict[str, list[tuple[str, str]]] = {name: [] for name in ("ann", "bob", "eve", "zoë")}
    people = [
        threading.Thread(
            target=vote_until_nothing_is_left, args=(Person(address, name), mine, seed)
        )
        for seed, (name, mine) in enumerate(told.items())
    ]
    for person in people:
        person.start()
    for limit, more in ((150, "items=250.jsonl"), (350, "items=null")):
        while sum(map(len, told.values())) < limit:
            time.sleep(0.01)
            assert any(person.is_alive() for person in people)
        server.end(signal.SIGKILL)
        server.start(more)
        if more == "items=250.jsonl":
            assert f"50 of 250 items added to {Path('s', FILE)}, 200 were there" in server.said()
    for person in people:
        person.join(120)
    assert server.end(signal.SIGINT) == 130
    assert server.said().splitlines()[-1] == (
        f"stopped by ctrl-c; kept: 500 votes in {Path('s', FILE)}"
    )
    with Store(tmp_path / "s" / FILE) as store:
        votes = store.votes()
    assert Counter(Counter(vote.item for vote in votes).values()) == {2: 250}
    assert len({(vote.item, vote.annotator) for vote in votes}) == 500
    for name, mine in told.items():
        shown = {vote.item: vote for vote in votes if vote.annotator == name}
        assert [vote.item for vote in shown.values()] == [item for item, _ in mine]
        for item, choice in mine:  # which was said of the order that was shown
            mirrored = {"first": "second", "second": "first"}.get(choice, choice)
            assert shown[item].choice == (mirrored if shown[item].order == (1, 0) else choice)


def test_a_model_is_trained_on_what_was_exported(configure, tmp_path, capsys):
    """Votes of two on 30 pairs, two of them ties, become a file on which data=files trains."""
    with Store(tmp_path / "s" / FILE, overlap=2) as store:
        from harness.feedback.item_files import read_items

        items = read_items(str(write_pairs(tmp_path / "items.jsonl", 30)), "pair", Counter())
        store.add(items)
        for name in ("ann", "bob"):
            for i, item in enumerate(items):
                store.vote(item.id, name, "first" if i % 15 else "tie", 1.0)
    to = tmp_path / "pairs.jsonl"
    cfg = configure(tmp_path / "x", "task=label", f"store={tmp_path / 's'}", f"export={to}")
    assert label(cfg) == {"items": 30, "labels": 60}
    said = capsys.readouterr().out
    assert "60 labels of 30 items by 2 annotators" in said
    assert "agreement: 100.0% of the labels of 30 items with several" in said
    assert "30 rows in" in said
    chosen = ("algo=reward_model", "data=files", f"data.path={to}", "budget=smoke", "logger=none")
    summary = train(configure(tmp_path / "run", *chosen, "hardware=cpu"))
    assert (summary["data/rows"], summary["data/tie"]) == (30, 2)
    assert (tmp_path / "run" / "model").is_dir()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("kind=pairs", "kind=pairs: must be one of pair, thumb, ranking"),
        ("order=random", "order=random: must be one of given, disagreement"),
        ("overlap=0", "overlap=0: must be at least 1"),
        ("lease=0", "lease=0: must be above 0"),
        ("port=70000", "port=70000: must lie in"),
        ("policies=x", "samples=1: makes 1 answer to a prompt, and a pair needs 2"),
        ("order=disagreement", "reward_model=None: order=disagreement needs the folder"),
    ],
)
def test_a_wrong_option_is_named(configure, tmp_path, option, message):
    with pytest.raises(OptionError, match=re.escape(message)):
        label(configure(tmp_path, "task=label", f"store={tmp_path / 's'}", option))


def test_what_is_missing_is_said_with_what_to_do(configure, tmp_path):
    store = f"store={tmp_path / 's'}"
    with pytest.raises(RunError, match="give items=<a file of answers>"):
        label(configure(tmp_path, "task=label", store))
    with pytest.raises(RunError, match="no such store"):
        label(configure(tmp_path, "task=label", store, "export=pairs.jsonl"))
    Store(tmp_path / "s" / FILE).close()
    with pytest.raises(RunError, match="has no labels yet"):
        label(configure(tmp_path, "task=label", store, "export=pairs.jsonl"))
    shutil.rmtree(tmp_path / "s")
