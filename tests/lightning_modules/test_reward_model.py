"""The reward model: options, what its losses are of whole comparisons, ensembles, validation."""

import math
from itertools import combinations

import pytest
import torch

from datamodules.preferences import PreferenceDataModule
from lightning_modules.errors import OptionError
from lightning_modules.objectives.preference import bradley_terry, rao_kupper_tie
from tests.lightning_modules.supervised_parts import (
    DTYPE,
    MIXED,
    ROOM,
    Given,
    attach,
    batch_of,
    exact_scalar,
    make_reward_model,
    pair,
    ranking,
)

EQUAL = 1e-12


def whole(encoder, rows, heads=1):
    """All rows as one micro-batch, in their order, and the rows."""
    data = PreferenceDataModule(Given(rows), encoder, len(rows), ROOM, 0, heads)
    return data.collate(data.rows["train"])


def loss_of(part, scores, **options):
    """The sum of the losses of comparisons whose responses are scored like this, (R,) or (R, n)."""
    module = make_reward_model(ensemble=part["resampled"].shape[1], **options)
    module.scores = lambda _: scores if scores.ndim == 2 else scores[:, None]
    return module.losses(part)


def drawn(part, heads=None):
    """Scores of the responses of a micro-batch, (R,) or (R, heads)."""
    count = len(part["input_ids"])
    generator = torch.Generator().manual_seed(0)
    return torch.randn((count, heads) if heads else count, generator=generator, dtype=DTYPE)


# -- losses of comparisons --------------------------------------------------------------------


def test_responses_are_scored_in_one_pass_as_they_would_be_alone(architecture, encoder):
    part = whole(encoder, MIXED)
    module = make_reward_model()
    model = exact_scalar(architecture, encoder)
    attach(module, model)
    data = PreferenceDataModule(Given(MIXED), encoder, 4, ROOM, 0)
    alone = [
        model.score(torch.tensor([row.prompt + response]), torch.ones(1, 1).bool().expand(1, n))
        for row in data.rows["train"]
        for response in row.responses
        for n in [len(row.prompt) + len(response)]
    ]
    assert (module.scores(part)[:, 0] - torch.cat(alone)).abs().max() < 1e-10


def test_a_pairs_loss_is_bradley_terry(encoder):
    part = whole(encoder, [pair("yes", "no"), pair("a", "b c", "Who?")])
    scores = torch.tensor([1.0, -0.5, 0.3, 2.0], dtype=DTYPE)
    loss, averages = loss_of(part, scores)
    expected = bradley_terry(scores[[0, 2]], scores[[1, 3]]).sum()
    assert abs(loss - expected) < EQUAL
    metrics = averages.means(torch.clone)
    assert metrics == pytest.approx(
        {
            "loss": float(expected) / 2,
            "accuracy": 0.5,
            "margin": (1.5 - 1.7) / 2,
            "score_chosen": 1.3 / 2,
            "score_rejected": 1.5 / 2,
        }
    )


@pytest.mark.parametrize("options", [{}, {"centring_coef": 0.3}, {"margin_coef": 0.2}])
def test_a_rankings_pairs_weigh_like_one_pair(encoder, options):
    """Their mean and not their sum: K (K - 1) / 2 pairs are not so much evidence."""
    rows = [ranking("abcd", (4, 3, 2, 1)), pair("yes", "no")]
    part = whole(encoder, rows)
    scores = drawn(part)
    loss, _ = loss_of(part, scores, **options)
    first = [
        loss_of(whole(encoder, [pair("x", "y", strength=float(j - i))]), scores[[i, j]], **options)[
            0
        ]
        for i, j in combinations(range(4), 2)
    ]
    last, _ = loss_of(whole(encoder, [rows[1]]), scores[4:], **options)
    assert abs(loss - (torch.stack(first).mean() + last)) < 1e-6


def test_ties_teach_nothing_and_do_not_dilute_the_other_pairs(encoder):
    part = whole(encoder, [ranking("abc", (2, 2, 1))])
    scores = drawn(part)
    loss, _ = loss_of(part, scores)
    expected = bradley_terry(scores[:2], scores[2]).mean()
    assert abs(loss - expected) < 1e-6


@pytest.mark.parametrize("heads", [1, 3])
def test_plackett_luce_and_bradley_terry_agree_on_pairs(encoder, heads):
    rows = [pair(f"yes {i}", "no", f"Is it {i}?") for i in range(5)]
    part = whole(encoder, rows, heads)
    scores = drawn(part, heads).requires_grad_()
    losses = [loss_of(part, scores, loss=loss)[0] for loss in ("bradley_terry", "plackett_luce")]
    assert abs(losses[0] - losses[1]) < EQUAL
    slopes = [torch.autograd.grad(loss, scores)[0] for loss in losses]
    assert (slopes[0] - slopes[1]).abs().max() < EQUAL


def test_with_a_threshold_ties_are_pairs_like_others(encoder):
    part = whole(encoder, [ranking("abc", (2, 2, 1))])
    near = torch.tensor([0.5, 0.4, -1.0], dtype=DTYPE)
    threshold = 0.7
    loss, _ = loss_of(part, near, tie_threshold=threshold)
    expected = [
        rao_kupper_tie(near[0], near[1], threshold),
        bradley_terry(near[0], near[2], threshold),
        bradley_terry(near[1], near[2], threshold),
    ]
    assert abs(loss - torch.stack(expected).mean()) < 1e-6


def test_a_strength_that_is_unknown_asks_for_no_margin(encoder):
    part = whole(encoder, [pair("yes", "no"), pair("a", "b", strength=2.0)])
    scores = drawn(part)
    loss, _ = loss_of(part, scores, margin_coef=0.5)
    expected = bradley_terry(scores[0], scores[1]) + bradley_terry(scores[2], scores[3], 1.0)
    assert abs(loss - expected) < EQUAL


def test_centring_is_counted_by_comparison_and_leaves_out_ties(encoder):
    part = whole(encoder, [ranking("abc", (2, 2, 1)), pair("yes", "no")])
    scores = drawn(part)
    plain, _ = loss_of(part, scores)
    centred, _ = loss_of(part, scores, centring_coef=0.5)
    squares = (scores[[0, 1]] + scores[2]).square().mean() + (scores[3] + scores[4]).square()
    assert abs(centred - plain - 0.5 * squares) < 1e-6


def test_a_ranking_with_too_many_ties_is_left_out_of_plackett_luce(encoder):
    part = whole(encoder, [ranking("abcdefg", (0, 0, 0, 0, 0, 0, 1)), pair("yes", "no")])
    scores = drawn(part).requires_grad_()
    loss, _ = loss_of(part, scores, loss="plackett_luce")
    assert abs(loss - bradley_terry(scores[7], scores[8])) < EQUAL
    (slope,) = torch.autograd.grad(loss, scores)
    assert slope.isfinite().all()
    assert not slope[:7].any()


def test_a_comparison_weighs_for_a_head_as_often_as_it_was_resampled(encoder):
    part = whole(encoder, [pair("yes", "no"), pair("a", "b"), pair("c", "d e")], 2)
    part["resampled"] = torch.tensor([[0, 1], [2, 1], [1, 0]])
    scores = drawn(part, 2)
    loss, _ = loss_of(part, scores)
    each = bradley_terry(scores[::2], scores[1::2])
    # The mean over heads, so that the backbone's step does not grow with their number.
    assert abs(loss - (each * part["resampled"]).sum() / 2) < EQUAL


# -- ensembles --------------------------------------------------------------------------------


def test_heads_of_an_ensemble_go_their_own_ways(encoder):
    rows = [pair(f"yes {i}", f"no {i}", f"Is it {i}?") for i in range(8)]
    data = PreferenceDataModule(Given(rows), encoder, 8, ROOM, 0, 3)
    model = exact_scalar("llama", encoder, 3)
    with torch.no_grad():
        model.model.score.weight[:] = model.model.score.weight[:1]
    module = make_reward_model(ensemble=3)
    attach(module, model)
    module.training_step(batch_of(data, data.rows["train"]), 0)
    heads = module.model.model.score.weight.detach()
    distances = torch.pdist(heads)
    assert distances.min() > 1e-4 * (heads - model.model.score.weight).norm()


# -- validation -------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"loss": "plackett_luce"}, {"label_smoothing": 0.2}])
@pytest.mark.parametrize("budget", [1, 300])
def test_held_out_metrics_are_of_all_pairs_and_the_loss_is_plain(encoder, options, budget):
    data = PreferenceDataModule(Given(MIXED), encoder, 4, budget, 0)
    module = make_reward_model(**options)
    logged = attach(module, exact_scalar("gpt2", encoder))
    module.on_validation_epoch_start()
    with torch.no_grad():
        for i, batch in enumerate(data.val_dataloader()):
            module.validation_step(batch, i)
        module.on_validation_epoch_end()
        part = whole(encoder, MIXED)
        scores = module.scores(part)[:, 0]
    kept = ~part["tied"]
    margins = (scores[part["chosen"]] - scores[part["rejected"]])[kept]
    assert logged["val/margin"] == pytest.approx(float(margins.mean()), rel=1e-10)
    expected = float(bradley_terry(margins, torch.zeros_like(margins)).mean())
    assert logged["val/loss"] == pytest.approx(expected, rel=1e-10)
    assert logged["val/accuracy"] == pytest.approx(float((margins > 0).double().mean()))
    assert not any(math.isinf(x) for x in logged.values())


def test_the_score_of_an_ensemble_is_the_mean_of_its_heads_in_every_metric(encoder):
    part = whole(encoder, MIXED, 3)
    scores = drawn(part, 3)
    _, averages = loss_of(part, scores)
    metrics = averages.means(torch.clone)
    mean = scores.mean(-1)
    kept = ~part["tied"]
    margins = (mean[part["chosen"]] - mean[part["rejected"]])[kept]
    assert metrics["margin"] == pytest.approx(float(margins.mean()), rel=1e-10)
    assert metrics["accuracy"] == pytest.approx(float((margins > 0).double().mean()))


# -- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("loss", "hinge"),
        ("margin_coef", -0.1),
        ("label_smoothing", 0.5),
        ("label_smoothing", -0.1),
        ("tie_threshold", 0.0),
        ("tie_threshold", -1.0),
        ("centring_coef", -0.1),
    ],
)
def test_nonsense_is_refused_by_name(option, value):
    with pytest.raises(OptionError, match=rf"algo\.{option}={value}"):
        make_reward_model(**{option: value})


def test_an_ensemble_of_no_heads_is_refused():
    with pytest.raises(OptionError, match=r"reward\.ensemble=0"):
        make_reward_model(ensemble=0)


@pytest.mark.parametrize("option", ["margin_coef", "label_smoothing", "tie_threshold"])
def test_what_belongs_to_pairs_is_refused_with_rankings(option):
    with pytest.raises(OptionError, match=rf"algo\.{option}=0\.1: belongs to .*bradley_terry"):
        make_reward_model(loss="plackett_luce", **{option: 0.1})
