import io

import pytest

from harness.progress.costs import Cost
from harness.progress.plan import Part, Plan
from harness.reports.plain_console import PlainConsole


class Watch:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def plan_of(*costs: Cost | None) -> tuple[Plan, Watch]:
    watch = Watch()
    console = PlainConsole(file=io.StringIO(), width=100)
    parts = [Part(f"part_{i}", f"part {i}", cost) for i, cost in enumerate(costs)]
    return Plan(console, parts, watch), watch


def said(plan: Plan) -> str:
    return plan.console.file.getvalue()


def train(plan: Plan, watch: Watch, share: float, pace: float) -> None:
    """Do the part in hand up to `share`, at so many seconds a token."""
    train = plan.part.train
    cost = plan.part.cost.train
    seconds = train.seconds + (share - train.done) * cost * pace
    watch.now += seconds - train.seconds
    train.reach(share, seconds)
    plan.part.steps += 1
    plan.note()


def test_the_first_steps_tell_how_long_all_parts_take():
    costs = [Cost(100.0, evaluate=20.0, after=30.0), Cost(400.0, evaluate=40.0, before=10.0)]
    plan, watch = plan_of(*costs)
    plan.show()
    watch.now += 7  # until the first part begins
    plan.begin("part_0")
    assert plan.in_all() is None
    train(plan, watch, 0.1, pace=0.5)
    tokens = sum(c.train + c.evaluate + c.before + c.after for c in costs)
    assert plan.in_all() == pytest.approx(7 + 0.5 * tokens)
    assert said(plan).startswith("1/2 part 0, 2/2 part 1\n1/2 part 0\nabout 5 min in all: ")


def test_what_is_measured_replaces_what_was_counted():
    plan, watch = plan_of(Cost(100.0, evaluate=100.0))
    plan.begin("part_0")
    train(plan, watch, 0.5, pace=1.0)
    assert plan.left() == pytest.approx(50 + 100)
    watch.now += 200
    plan.part.evaluate.reach(0.5, 200.0)  # four times slower than counted
    assert plan.left() == pytest.approx(50 + 200)
    assert plan.in_all() == pytest.approx(50 + 200 + 50 + 200)


def test_a_later_part_is_told_by_the_pace_of_the_latest_one():
    plan, watch = plan_of(Cost(100.0), Cost(100.0), Cost(100.0))
    plan.begin("part_0")
    train(plan, watch, 1.0, pace=1.0)
    plan.begin("part_1")
    assert plan.in_all() is None, "a new part is measured anew"
    train(plan, watch, 0.5, pace=2.0)
    assert plan.in_all() == pytest.approx(100 + 200 + 200)


def test_an_estimate_is_said_again_only_if_it_has_changed_much():
    plan, watch = plan_of(Cost(1000.0))
    plan.begin("part_0")
    for share in (0.1, 0.2, 0.3):
        train(plan, watch, share, pace=1.0)
    assert said(plan).count("in all") == 1
    train(plan, watch, 0.5, pace=3.0)
    assert said(plan).count("in all") == 2


def test_what_is_in_the_cache_costs_nothing_and_a_resumed_part_what_is_left_of_it():
    plan, watch = plan_of(None, Cost(100.0))
    plan.show()
    plan.begin("part_1").train.start(0.75)
    train(plan, watch, 0.8, pace=1.0)
    assert plan.in_all() == pytest.approx(25)
    train(plan, watch, 1.0, pace=1.0)
    plan.finish()
    assert said(plan).startswith("1/2 part 0 (reused), 2/2 part 1\n2/2 part 1\n")
    assert said(plan).endswith("finished in 25 s: part 0 reused, part 1 25 s\n")


def test_a_plan_without_parts_says_nothing():
    plan, watch = plan_of()
    plan.show()
    plan.begin("sft")
    train(plan, watch, 0.5, pace=100.0)
    assert said(plan) == ""
    assert plan.left() == pytest.approx(50)
