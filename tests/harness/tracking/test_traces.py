"""The trace against what a rollout says, in the world of 121 responses."""

import csv
import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from PIL import Image

from harness.pictures.trace import CHARACTER, DPI, LINE_HEIGHT, MARGIN, TOP, draw, lay_out
from harness.tracking.traces import TokenTrace, first_response, trace
from lightning_modules.errors import OptionError
from lightning_modules.objectives.losses import ppo_clip
from tests.lightning_modules.tiny_runs import ALGORITHMS, fit, make, ready, run


@pytest.fixture
def traced(tmp_path, encoder):
    """traced(algorithm, **options): (module, lines of traces.jsonl, rollouts)."""

    def start(algorithm, every=1, **options):
        parts = {k: options.pop(k) for k in ("lora",) if k in options}
        module, rollouts = ready(make(algorithm, **options), **parts)
        callback = TokenTrace(tmp_path, every, encoder.tokenizer)
        fit(module, tmp_path, callbacks=[callback])
        lines = (tmp_path / "traces.jsonl").read_text(encoding="utf-8").splitlines()
        return module, [json.loads(line) for line in lines], rollouts

    return start


def column(rows, name):
    return torch.tensor([row[name] for row in rows], dtype=torch.float64)


def test_the_numbers_are_those_of_the_rollout_and_of_its_definitions(traced, encoder):
    module, rows, rollouts = traced("ppo")
    for iteration, rollout in enumerate(rollouts, start=1):
        mine = [row for row in rows if row["iteration"] == iteration]
        mask = rollout.response_mask[0]
        assert [row["position"] for row in mine] == list(range(int(mask.sum())))
        ids = rollout.sequences[0, rollout.prompt_mask.shape[1] :][mask].tolist()
        assert [row["token"] for row in mine] == [encoder.tokenizer.decode([i]) for i in ids]
        for name, x in (
            ("logprob", rollout.old_logprobs),
            ("ref_logprob", rollout.ref_logprobs),
            ("value", rollout.values),
            ("advantage", rollout.advantages),
        ):
            assert column(mine, name).equal(x[0][mask]), name
        kl = column(mine, "logprob") - column(mine, "ref_logprob")
        torch.testing.assert_close(column(mine, "kl"), kl)
        penalised = float(rollout.scores[0]) - module.beta * float(kl.sum())
        assert float(column(mine, "reward").sum()) == pytest.approx(penalised)
        returns = column(mine, "advantage") + column(mine, "value")
        torch.testing.assert_close(column(mine, "return"), returns)


def test_ratios_are_one_where_nothing_was_learned(traced):
    _, rows, _ = traced("ppo", optimizer=partial(torch.optim.SGD, lr=0.0))
    torch.testing.assert_close(column(rows, "ratio"), torch.ones(len(rows)).double())
    assert not any(row["clipped"] for row in rows)


def test_the_ratio_is_of_the_policy_after_its_updates_and_clipping_is_the_losss(traced):
    module, rows, rollouts = traced("ppo", iterations=1, clip_range=0.01)
    rollout = first_response(rollouts[0])
    with torch.no_grad():
        new = module.model(rollout.sequences, rollout.prompt_mask, rollout.response_mask, 1.0)
    ratio = (new.logprobs - rollout.old_logprobs).exp()[0]
    torch.testing.assert_close(column(rows, "ratio"), ratio)
    assert float((ratio - 1).abs().max()) > 0.01
    _, stats = ppo_clip(new.logprobs, rollout.old_logprobs, rollout.advantages, (0.01, 0.01))
    assert [row["clipped"] for row in rows] == stats["clip_fraction"][0].bool().tolist()


def test_flags_of_all_responses_average_to_the_clip_fraction(tmp_path, encoder):
    """On a rollout of which some tokens are clipped after the updates and others are not."""
    module, _ = ready(make("ppo", iterations=1, clip_range=0.05))
    fit(module, tmp_path)
    rollout = module.rollout
    responses = [rollout.select(torch.tensor([i])) for i in range(len(rollout))]
    flags = [row["clipped"] for a in responses for row in trace(module, a, encoder.tokenizer)]
    with torch.no_grad():
        new = module.model(rollout.sequences, rollout.prompt_mask, rollout.response_mask, 1.0)
    _, stats = module.token_loss(rollout, new)
    share = float(stats["clip_fraction"][rollout.response_mask].mean())
    assert 0 < share < 1
    assert sum(flags) / len(flags) == pytest.approx(share)


WITHOUT_CLOCK = ("time/", "throughput/")


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_looking_changes_nothing(algorithm, lora, traced, tmp_path):
    """For every algorithm; with and without a critic, a reference, adapters."""
    options = {"lora": lora, "beta": 0.0 if algorithm == "rloo" else 0.2}
    (tmp_path / "unseen").mkdir()
    torch.manual_seed(0)
    plain, expected, _ = run(algorithm, tmp_path / "unseen", **options)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    module, rows, _ = traced(algorithm, **options)
    assert torch.get_rng_state().equal(state)
    with open(tmp_path / "metrics.csv", newline="", encoding="utf-8") as file:
        logged = list(csv.DictReader(file))
    for row, same in zip(logged, expected, strict=True):
        for name, value in same.items():
            assert name.startswith(WITHOUT_CLOCK) or row[name] == str(value), name
    for p, q in zip(plain.model.parameters(), module.model.parameters(), strict=True):
        assert p.equal(q)
        assert p.requires_grad == q.requires_grad
    critic, reference = module.options.critic is not None, algorithm != "rloo"
    assert all((row["value"] is not None) == critic for row in rows)
    assert all((row["kl"] is not None) == reference for row in rows)
    assert all(row["clipped"] is False for row in rows if algorithm != "ppo")


@pytest.mark.parametrize(
    ("every", "expected"), [(0, []), (1, [1, 2, 3, 4, 5]), (2, [1, 2, 4, 5]), (9, [1, 5])]
)
def test_the_first_and_the_last_iteration_are_always_traced(every, expected, tmp_path, encoder):
    callback = TokenTrace(tmp_path, every, encoder.tokenizer)
    assert [i for i in range(1, 6) if callback.is_due(i, last=5)] == expected


def test_a_period_below_zero_is_refused(tmp_path, encoder):
    with pytest.raises(OptionError, match=r"callbacks\.trace_every=-1"):
        TokenTrace(tmp_path, -1, encoder.tokenizer)


def test_a_resumed_trace_forgets_what_came_after_the_checkpoint(traced, tmp_path, encoder):
    _, rows, _ = traced("ppo")
    assert {p.name for p in (tmp_path / "traces").iterdir()} == {"1.png", "2.png", "3.png"}
    with open(tmp_path / "traces.jsonl", "a", encoding="utf-8") as file:
        file.write('{"iteration": 4, "half a li')
    resumed = TokenTrace(tmp_path, 1, encoder.tokenizer, keep_iterations=2)
    kept = [row for row in rows if row["iteration"] <= 2]
    assert resumed.rows == kept
    lines = (tmp_path / "traces.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == kept
    assert {p.name for p in (tmp_path / "traces").iterdir()} == {"1.png", "2.png"}


def test_responses_that_could_not_be_scored_are_not_shown(tmp_path, encoder):
    module, _ = ready(make("ppo", iterations=1))
    fit(module, tmp_path)
    rollout = module.rollout
    mask = rollout.response_mask.clone()
    mask[:2] = False
    shown = first_response(replace(rollout, response_mask=mask))
    assert shown.scores.equal(rollout.scores[2:3])
    assert trace(module, first_response(replace(rollout, response_mask=mask & False)), None) == []


def test_tokens_follow_each_other_and_lines_are_full():
    assert lay_out(["abc", "de", "f", "ghijklm", "n"], width=5) == [
        (0, 0),
        (0, 3),
        (1, 0),
        (2, 0),
        (3, 0),
    ]


def test_colour_is_the_advantage(tmp_path):
    """A good token is blue and a bad one red; a dollar sign is no formula."""
    rows = [{"token": " " * 20, "advantage": a} for a in (2.0, -2.0, 0.0)]
    draw([*rows, {"token": "$x_", "advantage": 0.0}], "a $title", tmp_path / "picture.png")
    picture = Image.open(tmp_path / "picture.png").convert("RGB")
    first = (MARGIN + 10 * CHARACTER, TOP + LINE_HEIGHT / 2)
    good, bad, neutral = (
        picture.getpixel((int((first[0] + i * 20 * CHARACTER) * DPI), int(first[1] * DPI)))
        for i in range(3)
    )
    assert good[2] > 2 * good[0]
    assert bad[0] > 2 * bad[2]
    assert min(neutral) > 230
