"""A reward model on thumbs: its loss by hand, beside pairs, with several heads, held out."""

import pytest
import torch

from datamodules.preferences import PreferenceDataModule
from datamodules.records import Prompt, Thumb
from lightning_modules.errors import OptionError
from lightning_modules.objectives.preference import bradley_terry
from tests.exact.world import DTYPE
from tests.lightning_modules.supervised_parts import (
    MIXED,
    ROOM,
    THUMBS,
    Given,
    attach,
    batch_of,
    exact_scalar,
    make_reward_model,
    pair,
)

ROWS = (*MIXED, *THUMBS)


def data_of(encoder, rows, budget=ROOM, ensemble=1, val=()):
    return PreferenceDataModule(Given(rows, val), encoder, 64, budget, 0, ensemble)


def whole(encoder, rows, ensemble=1):
    ((part,),) = data_of(encoder, rows, ensemble=ensemble).val_dataloader()
    return part


def with_bias(scalar, *biases):
    scalar.learn_thumbs_bias(0.0)
    scalar.thumbs_bias.data = torch.tensor(biases, dtype=DTYPE)
    return scalar


def loss_of(part, scores, biases=(0.3,), **options):
    """The summed losses of a micro-batch whose responses are scored like this, (R,) or (R, n)."""
    module = make_reward_model(loss="thumbs", ensemble=len(biases), **options)
    module.scores = lambda _: scores if scores.ndim == 2 else scores[:, None]
    module.model = torch.nn.Module()
    module.model.thumbs_bias = torch.nn.Parameter(torch.tensor(biases, dtype=DTYPE))
    return module.losses(part)


def drawn(part, heads=None):
    count, generator = len(part["input_ids"]), torch.Generator().manual_seed(0)
    return torch.randn((count, heads) if heads else count, generator=generator, dtype=DTYPE)


def thumb(liked, response="Yes.", prompt="Why?"):
    return Thumb(Prompt.from_text(prompt), response, liked)


def test_a_thumb_is_a_sequence_of_its_own_with_its_label(encoder):
    part = whole(encoder, ROWS)
    texts = [encoder.decode(part["input_ids"][i][part["attention_mask"][i]]) for i in part["thumb"]]
    if "prompt_ids" not in part:
        texts = [text.rpartition(":\n")[2] for text in texts]
    found = sorted(zip(texts, part["liked"].tolist(), strict=True))
    assert found == sorted((t.response, t.liked) for t in THUMBS)
    lengths = dict(zip(part["thumb"].tolist(), part["thumb_length"].tolist(), strict=True))
    for place, text in zip(part["thumb"].tolist(), texts, strict=True):
        assert lengths[place] == len(text)
    assert not set(part["thumb"].tolist()) & set(part["chosen"].tolist())
    assert not set(part["group"].tolist()) & set(part["comparison"].tolist())
    assert len(part["resampled"]) == len(ROWS)


def test_pairs_alone_are_read_as_if_there_were_no_thumbs(encoder):
    part = whole(encoder, MIXED)
    assert len(part["thumb"]) == len(part["liked"]) == 0
    assert part["chosen"].dtype == part["thumb"].dtype == torch.long


def test_thumbs_alone_have_no_pairs(encoder):
    part = whole(encoder, THUMBS)
    assert len(part["chosen"]) == 0
    loss, _ = loss_of(part, drawn(part))
    assert loss.isfinite()


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_the_loss_is_that_of_pairs_and_of_thumbs(encoder, weight):
    part = whole(encoder, [pair("yes", "no"), thumb(True), thumb(False, "No.")])
    scores = drawn(part)
    loss, averages = loss_of(part, scores, thumb_weight=weight)
    loss = loss.detach()
    gaps = scores[part["thumb"]] - 0.3
    p = torch.sigmoid(gaps)
    of_thumbs = -torch.where(part["liked"], p, 1 - p).log().sum()
    of_pairs = bradley_terry(scores[part["chosen"]], scores[part["rejected"]]).sum()
    assert abs(loss - (of_pairs + weight * of_thumbs)) < 1e-12
    means = averages.means(torch.clone)
    assert means["loss"] == pytest.approx(float(loss) / 3)
    right = (gaps > 0) == part["liked"]
    assert means["thumbs_accuracy"] == pytest.approx(float(right.double().mean()))
    assert means["thumbs_up"] == 0.5
    assert means["thumbs_predicted"] == pytest.approx(float(p.detach().mean()))


def test_labels_that_may_be_wrong_are_expected_to_be(encoder):
    part = whole(encoder, [thumb(True)])
    scores = drawn(part)
    p = torch.sigmoid(scores[0] - 0.3)
    loss, _ = loss_of(part, scores, label_smoothing=0.1)
    assert abs(loss + 0.9 * p.log() + 0.1 * (1 - p).log()) < 1e-12


def test_every_head_has_a_bias_and_a_sample_of_its_own(encoder):
    part = whole(encoder, [thumb(True), thumb(False, "No."), pair("a", "b c")], 2)
    part["resampled"] = torch.tensor([[0, 1], [2, 1], [1, 0]])
    scores = drawn(part, 2)
    loss, _ = loss_of(part, scores, (0.3, -1.0))
    expected = 0.0
    for head, bias in enumerate((0.3, -1.0)):
        said = scores[:, head]
        p = torch.sigmoid(said[part["thumb"]] - bias)
        losses = -torch.where(part["liked"], p, 1 - p).log()
        counts = part["resampled"][part["group"], head]
        of_pair = bradley_terry(said[part["chosen"]], said[part["rejected"]])
        counted = part["resampled"][part["comparison"], head]
        expected = expected + ((losses * counts).sum() + (of_pair * counted).sum()) / 2
    assert abs(loss - expected) < 1e-12


def test_the_bias_is_trained_and_a_step_without_thumbs_leaves_its_slope_at_zero(encoder):
    data = data_of(encoder, ROWS)
    module = make_reward_model(loss="thumbs")
    logged = attach(module, with_bias(exact_scalar("llama", encoder), 0.3))
    pairs = [row for row in data.rows["train"] if row.thumb is None]
    module.training_step(batch_of(data, pairs), 0)
    assert float(module.model.thumbs_bias.detach()) == 0.3
    assert "train/thumbs_accuracy" not in logged
    module.training_step(batch_of(data, data.rows["train"]), 0)
    assert float(module.model.thumbs_bias.detach()) != 0.3
    assert logged["train/thumbs_up"] == pytest.approx(sum(t.liked for t in THUMBS) / len(THUMBS))


def validated(encoder, rows, budget=ROOM, **options):
    data = data_of(encoder, MIXED[:1], budget, val=rows)
    module = make_reward_model(loss="thumbs", **options)
    logged = attach(module, with_bias(exact_scalar("gpt2", encoder), 0.3))
    module.on_validation_epoch_start()
    with torch.no_grad():
        for i, batch in enumerate(data.val_dataloader()):
            module.validation_step(batch, i)
        module.on_validation_epoch_end()
    return logged


@pytest.mark.parametrize("budget", [1, 300, ROOM])
def test_held_out_loss_is_the_mean_over_pairs_and_weighted_thumbs(encoder, budget):
    of_both = validated(encoder, ROWS, budget, thumb_weight=0.5)
    of_thumbs = validated(encoder, THUMBS, budget, thumb_weight=0.5)
    of_pairs = validated(encoder, MIXED, budget)
    assert of_thumbs["val/loss"] == pytest.approx(of_thumbs["val/thumbs_loss"])
    assert not {"val/accuracy", "val/margin"} & of_thumbs.keys()
    assert not any("thumbs" in name for name in of_pairs)
    part = whole(encoder, MIXED)
    pairs, thumbs = int((~part["tied"]).sum()), 0.5 * len(THUMBS)
    expected = pairs * of_pairs["val/loss"] + thumbs * of_thumbs["val/loss"]
    assert of_both["val/loss"] == pytest.approx(expected / (pairs + thumbs))
    for name, value in (of_pairs | of_thumbs).items():
        if name != "val/loss":
            assert of_both[name] == pytest.approx(value, nan_ok=True)


def test_a_weight_that_counts_nothing_is_refused():
    with pytest.raises(OptionError, match=r"algo\.thumb_weight=0"):
        make_reward_model(loss="thumbs", thumb_weight=0.0)
