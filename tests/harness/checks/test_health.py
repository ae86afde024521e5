"""Each warning comes once, when it should, in the glossary's words; and never in a healthy run."""

import re
from functools import partial
from io import StringIO
from math import isnan, nan
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from harness.checks.health import WARNINGS, WINDOW, Health, glossary
from harness.reports.plain_console import PlainConsole
from harness.tasks.train import train
from lightning_modules.metrics.averages import Averages
from lightning_modules.metrics.rollout_statistics import add_statistics, finish_statistics
from lightning_modules.rollouts.rollout import Rollout
from tests.lightning_modules.tiny_runs import fit, make, ready

GLOSSARY = Path(__file__).parents[3] / "docs" / "metrics.md"
HEALTHY = {
    "rollout/kl": 0.5,
    "train/clip_fraction": 0.1,
    "rollout/entropy": 1.0,
    "rollout/score_length_correlation": 0.2,
    "train/explained_variance": 0.4,
    "rollout/eos_rate": 0.9,
    "rollout/unscored": 0.0,
    "rollout/sampler_gap_mean": 0.01,
}


def watch(*rows: dict[str, float], health: Health | None = None) -> list[str]:
    """The lines that are said of iterations of a healthy run but for what `rows` give."""
    health = health or Health(PlainConsole(file=StringIO(), width=1000), GLOSSARY)
    for row in rows:
        health.look(HEALTHY | row)
    return health.console.file.getvalue().splitlines()


def noisy(name: str, *values: float, times: int) -> list[dict[str, float]]:
    return [{name: values[i % len(values)]} for i in range(times)]


ILL = {
    "negative_kl": noisy("rollout/kl", -0.2, -0.1, times=30),
    "clipped": noisy("train/clip_fraction", 0.31, times=3),
    "collapsed": [{"rollout/entropy": 2.0}, {"rollout/entropy": 0.09}, {"rollout/entropy": 0.05}],
    "counts_length": noisy("rollout/score_length_correlation", -0.85, times=5),
    "worse_than_none": noisy("train/explained_variance", -0.1, -2.0, times=30),
    "cut_off": noisy("rollout/eos_rate", 0.4, times=3),
    "unscored": noisy("rollout/unscored", 0.11, times=3),
    "sampler_disagrees": noisy("rollout/sampler_gap_mean", 0.05, 0.11, times=4),
}
FIRST = dict(zip(ILL, (10, 1, 2, 3, 20, 1, 1, 2), strict=True))


def test_every_kind_is_tried():
    assert list(ILL) == list(WARNINGS)


@pytest.mark.parametrize("kind", ILL)
def test_a_warning_comes_once_with_iteration_value_and_glossary(kind):
    (line,) = watch(*ILL[kind])
    _, metric, what = WARNINGS[kind]
    value = ILL[kind][FIRST[kind] - 1][metric]
    assert line.startswith(f"  warning: iteration {FIRST[kind]}: {what}: {metric} {value:.3g}.")
    entry = glossary(GLOSSARY)[metric]
    assert line.endswith(f"The glossary: {entry.what}; {entry.reading}")
    assert entry.reading


@pytest.mark.parametrize(
    "rows",
    [
        # A mean below 0 that its noise explains; one that is negative by rounding; too few.
        noisy("rollout/kl", -1.0, 0.8, times=30),
        noisy("rollout/kl", -0.001, times=30),
        noisy("rollout/kl", -0.2, -0.1, times=WINDOW - 1),
        noisy("train/clip_fraction", 0.3, times=30),
        [{"rollout/entropy": 0.15}, {"rollout/entropy": 0.0101}],
        noisy("rollout/score_length_correlation", 0.9, 0.9, 0.7, times=30),
        # Early, and now and then.
        noisy("train/explained_variance", -1.0, times=19),
        noisy("train/explained_variance", *[-1.0] * 9, 0.1, times=40),
        noisy("rollout/eos_rate", 0.5, times=3),
        noisy("rollout/unscored", 0.1, times=3),
        [dict.fromkeys(HEALTHY, nan)] * 30,
    ],
)
def test_what_is_not_ill_is_not_warned_of(rows):
    assert watch(*rows) == []


def test_a_low_entropy_is_a_collapse_whatever_it_began_with():
    assert len(watch({"rollout/entropy": 0.1}, {"rollout/entropy": 0.0099})) == 1


def test_metrics_that_an_algorithm_does_not_log_are_not_missed():
    health = Health(PlainConsole(file=StringIO()), GLOSSARY)
    for _ in range(30):
        health.look({"rollout/entropy": 1.0})
    assert health.console.file.getvalue() == ""


def test_a_resumed_run_neither_repeats_nor_forgets():
    rows = [a | b for a, b in zip(ILL["negative_kl"], ILL["clipped"] * 10, strict=True)]
    unbroken = watch(*rows)
    first = Health(PlainConsole(file=StringIO(), width=1000), GLOSSARY)
    before = watch(*rows[:6], health=first)
    second = Health(PlainConsole(file=StringIO(), width=1000), GLOSSARY)
    second.load_state_dict(first.state_dict())
    assert before + watch(*rows[6:], health=second) == unbroken
    assert len(unbroken) == 2


def test_its_state_is_plain_numbers_that_a_checkpoint_may_hold(tmp_path):
    health = Health(PlainConsole(file=StringIO()), GLOSSARY)
    watch(*ILL["clipped"], health=health)
    torch.save(health.state_dict(), tmp_path / "state")
    assert torch.load(tmp_path / "state", weights_only=True) == health.state_dict()


def test_only_one_of_several_processes_speaks():
    health = Health(PlainConsole(file=StringIO()), GLOSSARY)
    metrics = {name: torch.tensor(x) for name, x in (HEALTHY | ILL["clipped"][0]).items()}
    for first in (False, True):
        assert health.console.file.getvalue() == ""
        trainer = SimpleNamespace(is_global_zero=first, callback_metrics=metrics)
        health.on_train_batch_end(trainer, None, None, None, 0)
    assert "clip_fraction" in health.console.file.getvalue()


def run(module, folder: Path) -> tuple[set[str], str]:
    """What a run logged, and what was warned of."""
    health = Health(PlainConsole(file=StringIO(), width=1000), GLOSSARY)
    rows = fit(module, folder, callbacks=[health])
    assert health.seen.count == module.options.iterations
    return {name for row in rows for name in row} - {"step"}, health.console.file.getvalue()


@pytest.mark.parametrize("algorithm", ["rloo", "ppo"])
def test_a_healthy_run_is_not_warned_of(algorithm, tmp_path):
    sizes = {"iterations": 25, "evaluate_every": 25, "prompts_per_iteration": 64}
    sizes["optimizer"] = partial(torch.optim.Adam, lr=1e-3)
    module, _ = ready(make(algorithm, **sizes), kind="llama")
    logged, said = run(module, tmp_path / "run")
    assert said == ""
    assert logged >= HEALTHY.keys()


def test_a_sick_run_is_warned_of_by_its_iteration(tmp_path):
    module, rollouts = ready(make("ppo", clip_range=0.01))
    said = run(module, tmp_path / "run")[1]
    assert len(rollouts) == 3
    assert re.search(r"iteration [123]: much is clipped: train/clip_fraction 0\.[3-9]", said)
    assert said.count("much is clipped") == 1


def test_the_correlation_of_scores_and_lengths_adds_up_over_micro_batches(tmp_path):
    module, rollouts = ready(make("rloo", iterations=1))
    run(module, tmp_path / "run")
    averages = Averages()
    for part in rollouts[0].micro_batches(3):
        add_statistics(averages, part, "x", 0.1)
    found = finish_statistics(averages.means(lambda x: x), "x")["x/score_length_correlation"]
    lengths = rollouts[0].response_mask.sum(-1).double()
    pair = torch.stack([rollouts[0].scores.double(), lengths])
    assert found == pytest.approx(float(torch.corrcoef(pair)[0, 1]), rel=1e-9)
    assert abs(found) > 0.01


@pytest.mark.parametrize("score", [0.1, None])
def test_where_all_scores_are_equal_or_unknown_there_is_no_correlation(score):
    averages = Averages()
    scores = torch.full((30,), nan if score is None else score)
    mask = (torch.arange(4) < 1 + torch.arange(30)[:, None] % 4) & ~scores.isnan()[:, None]
    zeros = torch.zeros(30, 4)
    nothing = {"ref_logprobs": None, "values": None, "sequences": zeros, "prompt_mask": mask}
    rollout = Rollout(
        response_mask=mask,
        stopped=mask[:, 0],
        old_logprobs=zeros,
        entropy=zeros,
        scores=scores,
        **nothing,
    )
    add_statistics(averages, rollout, "x", 0.0)
    found = finish_statistics(averages.means(lambda x: x), "x")
    if score is None:
        assert isnan(found["x/score_length_correlation"])
    else:
        assert found["x/score_length_correlation"] == found["x/score_std"] == 0


def test_the_glossary_is_read_by_metric():
    entries = glossary(GLOSSARY)
    assert entries["rollout/score_std"] is entries["rollout/score"]
    assert entries["rollout/kl"].what.startswith("per response, Σₜ (log π - log π_ref)")
    assert entries["val/margin"].what == entries["train/margin"].what == "mean of r⁺ - r⁻"
    assert "margin" not in entries
    assert not any(name.endswith("/") for name in entries)


def of_other_runs() -> set[str]:
    """What runs with thumbs, judges or rounds log, by the sections and names of the glossary."""
    sections = re.split(r"^##+ ", GLOSSARY.read_text(encoding="utf-8"), flags=re.MULTILINE)
    others = ("Judges\n", "Pairs that a judge has compared\n", "Rounds\n")
    text = "".join(section for section in sections if section.startswith(others))
    names = {name for name in glossary(GLOSSARY) if "thumbs_" in name}
    return names | set(re.findall(r"`([\w/]+)`", text))


def test_logged_metrics_and_rows_of_the_glossary_are_the_same(configure, tmp_path, metrics_of):
    module, _ = ready(make("ppo"))
    module.evaluation.gold = lambda prompt, text: 0.5
    module.collector.reward.watch = lambda responses: torch.zeros(len(responses.texts))
    logged = run(module, tmp_path / "ppo")[0]
    folder = tmp_path / "reward_model"
    summary = train(configure(folder, "algo=reward_model", "algo.ensemble=2"))
    trained = {name for row in metrics_of(folder) for name in row} - {"step"}
    known = glossary(GLOSSARY)
    metrics = logged | trained | {name for name in summary if name.startswith("val/")}
    # Of a bucket the glossary has the name without its number and what is said of it.
    metrics = {re.sub(r"/\d+/\w+$", "/i/…", name) for name in metrics}
    assert metrics <= known.keys()
    # These pairs have no strengths; rows on reward models do not say train/ or val/.
    known = {name for name in known if not name.endswith("by_strength/i/…")}
    known -= of_other_runs()
    assert {re.sub("^(train|val)/", "", name) for name in known - metrics} <= {
        re.sub("^(train|val)/", "", name) for name in metrics
    }
