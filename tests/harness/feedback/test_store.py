"""The store: nothing is lost, nothing is counted twice, nobody is asked in vain."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from datamodules.records import Message, Prompt
from harness.errors import DiskError, RunError
from harness.feedback import store as module
from harness.feedback.items import ChoiceError, Item
from harness.feedback.store import FILE, Store

ROOT = Path(__file__).parents[3]


def items(count: int, kind: str = "pair") -> list[Item]:
    responses = {"pair": ("good", "bad"), "thumb": ("good",), "ranking": tuple("abcd")}[kind]
    return [Item.of(kind, Prompt.from_text(f"question {i}"), responses) for i in range(count)]


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""
    now = [1_000_000.0]
    monkeypatch.setattr(module.time, "time", lambda: now[0])
    return now


@pytest.fixture
def make(tmp_path):
    """make(count, overlap=1): a store with so many pairs."""
    made = []

    def build(count: int = 3, **options) -> Store:
        made.append(Store(tmp_path / FILE, **options))
        made[-1].add(items(count))
        return made[-1]

    yield build
    for store in made:
        store.close()


def asked(store: Store, annotator: str) -> str | None:
    showing = store.next(annotator)
    return showing and showing.item.prompt.text


def test_items_come_back_whole_and_are_added_once(make):
    store = make(2)
    talk = Prompt((Message("system", "Be brief."), Message("user", "\u202eعربي 👩‍👩‍👧 \x00")))
    said = Item.of("pair", talk, ["", "<b>\n"], ["a policy", "another"])
    assert store.add([said, *items(3)]) == 2
    assert store.add([said]) == 0
    assert list(store.items().values()) == [*items(2), said, items(3)[2]]


def test_one_item_is_shown_to_one_annotator_and_stays_after_a_reload(make):
    store = make(2)
    first = store.next("ann")
    assert store.next("ann") == first
    assert asked(store, "bob") == "question 1"
    assert asked(store, "eve") is None
    assert store.showing(first.item.id, "ann") == first
    assert store.showing(first.item.id, "bob") is None


def test_with_overlap_each_item_has_so_many_annotators_and_no_more(make):
    store = make(1, overlap=2)
    item = store.next("ann").item
    assert store.next("bob").item == item
    assert store.next("eve") is None
    for name in ("ann", "bob"):
        assert store.vote(item.id, name, "first") == "kept"
    assert store.next("eve") is None
    assert store.vote(item.id, "eve", "first") == "late"
    assert store.progress().labels == store.progress().wanted == 2


def test_the_urgent_ones_come_first_then_those_that_were_first(make):
    store = make(4)
    store.prioritise({items(4)[1].id: 2.0, items(4)[3].id: 1.0})
    seen = []
    while (showing := store.next("ann")) is not None:
        seen.append(showing.item.prompt.text[-1])
        store.vote(showing.item.id, "ann", "tie")
    assert seen == ["1", "3", "0", "2"]


def test_a_vote_sent_again_counts_once_and_the_first_one_stays(make):
    store = make(2)
    item = store.next("ann").item.id
    assert [store.vote(item, "ann", said) for said in ("first", "first", "second")] == [
        *("kept", "again", "again")
    ]
    assert [(vote.choice, vote.annotator) for vote in store.votes()] == [("first", "ann")]
    assert asked(store, "ann") == "question 1"


def test_a_skipped_item_is_for_the_others(make):
    store = make(1)
    item = store.next("ann").item.id
    store.vote(item, "ann", "skip")
    assert store.next("ann") is None
    assert store.progress("ann").labels == store.progress("ann").mine == 0
    assert asked(store, "bob") == "question 0"


def test_undo_takes_the_last_vote_back_and_shows_that_item(make):
    store = make(3)
    first, second = (vote_next(store, "ann") for _ in range(2))
    assert asked(store, "ann") == "question 2"
    assert store.undo("ann") == "held"
    assert asked(store, "ann") == "question 1"
    # What was shown meanwhile is for anybody again.
    assert asked(store, "bob") == "question 2"
    assert [vote.item for vote in store.votes()] == [first]
    assert store.undo("ann") == "held"
    assert asked(store, "ann") == "question 0"
    assert store.vote(first, "ann", "second") == "kept"
    assert [(vote.item, vote.choice) for vote in store.votes()] == [(first, "second")]
    assert store.undo("bob") == "nothing"
    assert asked(store, "eve") == "question 1"
    assert second not in {vote.item for vote in store.votes()}


def test_who_undoes_a_skip_too_late_is_not_asked_again(make):
    store = make(1)
    item = store.next("ann").item.id
    store.vote(item, "ann", "skip")
    vote_next(store, "bob")
    assert store.undo("ann") == "taken"
    assert store.next("ann") is None
    assert store.vote(item, "ann", "first") == "late"


def vote_next(store: Store, annotator: str, choice: str = "first") -> str:
    item = store.next(annotator).item.id
    assert store.vote(item, annotator, choice, 1.0) == "kept"
    return item


def test_an_item_goes_to_another_after_a_while_and_is_labelled_once(make, clock):
    store = make(1, lease=60)
    item = store.next("ann").item.id
    clock[0] += 59
    assert store.next("bob") is None
    clock[0] += 2
    assert store.next("bob").item.id == item
    assert store.vote(item, "ann", "first") == "late"
    assert store.vote(item, "bob", "second") == "kept"
    assert [vote.annotator for vote in store.votes()] == ["bob"]


def test_who_is_slow_is_heard_if_nobody_else_was_asked(make, clock):
    store = make(1, lease=60)
    item = store.next("ann").item.id
    clock[0] += 10_000
    assert store.vote(item, "ann", "first", 9_999.0) == "kept"


def test_no_vote_took_longer_than_the_item_was_there(make, clock):
    store = make(2)
    item = store.next("ann").item.id
    clock[0] += 5
    store.next("ann")  # a reload does not begin anew
    store.vote(item, "ann", "first", 3600.0)
    assert [vote.seconds for vote in store.votes()] == [5.0]


def test_the_time_that_is_left_follows_from_ones_own_pace_and_who_is_there(make, clock):
    store = make(10)
    for seconds in (2.0, 4.0, 30.0):
        item = store.next("ann").item.id
        clock[0] += seconds
        store.vote(item, "ann", "tie", seconds)
    assert store.progress("ann").seconds_left == 7 * 4.0
    item = store.next("bob").item.id
    store.vote(item, "bob", "tie", 0.0)
    assert store.progress("ann").seconds_left == 6 * 4.0 / 2


def test_the_order_of_a_pair_is_drawn_once_for_each_annotator_and_kept(make):
    store = make(64, overlap=2)
    orders = {"ann": [], "bob": []}
    for name in ("ann", "bob"):
        while (showing := store.next(name)) is not None:
            orders[name].append(showing.order)
            assert [showing.item.responses[number] for number in showing.order] == [
                *showing.responses
            ]
            store.vote(showing.item.id, name, "first")
    alike = [a == b for a, b in zip(*orders.values(), strict=True)].count(True)
    for count in (*(mine.count((0, 1)) for mine in orders.values()), alike):
        assert abs(count - 32) < 5 * 4  # standard deviations of 64 fair coins
    assert [vote.order for vote in store.votes()] == orders["ann"] + orders["bob"]


def test_what_cannot_be_said_is_refused_and_nothing_is_kept(make):
    store = make(1)
    with pytest.raises(ChoiceError):
        store.vote(items(1)[0].id, "ann", "up")
    with pytest.raises(KeyError):
        store.vote("no such item", "ann", "first")
    assert store.votes() == []


def test_a_retired_item_is_shown_to_nobody_and_its_votes_stay(make):
    store = make(2)
    held = store.next("ann").item.id
    store.retire([held])
    assert asked(store, "ann") == "question 1"
    assert store.vote(held, "ann", "first") == "kept"
    assert store.progress().items == 1
    assert len(store.votes()) == 1


@pytest.mark.parametrize("seed", range(3))
def test_whatever_annotators_do_no_item_has_more_labels_than_overlap(make, clock, seed):
    """Votes late, early and again, undone, skipped, through two connections, in any order."""
    dice = random.Random(seed)
    overlap = dice.choice([1, 2, 3])
    stores = [make(6, overlap=overlap, lease=60), make(6, overlap=overlap, lease=60)]
    seen: defaultdict[str, list[str]] = defaultdict(list)
    for _ in range(300):
        store, name = dice.choice(stores), dice.choice("abcd")
        act = dice.random()
        if act < 0.35 and (showing := store.next(name)):
            seen[name].append(showing.item.id)
        elif act < 0.75 and seen[name]:
            recent = dice.choice(seen[name][-4:])
            store.vote(recent, name, dice.choice(["first", "second", "tie", "skip"]))
        elif act < 0.85:
            store.undo(name)
        else:
            clock[0] += dice.choice([1, 20, 61])
        votes = stores[0].votes()
        assert len({(vote.item, vote.annotator) for vote in votes}) == len(votes)
        labels = Counter(vote.item for vote in votes if vote.choice != "skip")
        assert max(labels.values(), default=0) <= overlap
    assert sum(labels.values()) > 0


VOTER = """
import sys
from harness.feedback.store import Store
store = Store(sys.argv[1])
while showing := store.next("ann"):
    store.vote(showing.item.id, "ann", "first", 1.0)
    print(showing.item.id, flush=True)
"""


def test_a_vote_that_was_kept_is_there_after_a_kill(make, tmp_path):
    store = make(5000)
    voter = subprocess.Popen(
        [sys.executable, "-c", VOTER, str(tmp_path / FILE)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    told = [voter.stdout.readline().strip() for _ in range(40)]
    voter.send_signal(signal.SIGKILL)
    told += voter.stdout.read().split()
    voter.wait()
    kept = [vote.item for vote in store.votes()]
    assert len(told) <= len(kept) <= len(told) + 1  # it may be killed between the two
    assert kept[: len(told)] == told


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes").write_text("These are notes, and no votes at all. " * 30, encoding="utf-8")
    with pytest.raises(RunError, match="no store of labels"):
        Store(tmp_path / "notes")
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE recipes (name)")
    with pytest.raises(RunError, match="something else"):
        Store(tmp_path / "other.sqlite")
    assert sqlite3.connect(tmp_path / "other.sqlite").execute("SELECT * FROM recipes")


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self").exists(), reason="needs /proc")
def test_a_place_that_cannot_be_written_is_named():
    with pytest.raises(DiskError, match="/proc/labels"):
        Store(f"/proc/labels/{FILE}")
