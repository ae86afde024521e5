"""What a pass will save is told from one and two rows with most layers checkpointed."""

import pytest
import torch

from lightning_modules.forward.checkpointing import is_checkpointed, set_checkpointing
from lightning_modules.forward.saved import saved_bytes, saved_growth
from tests.exact.world import tiny_lm
from tests.lightning_modules.forward.test_checkpointing import CONFIGS, actor_critic


def forward_of(model):
    def forward(rows: int):
        ids = torch.ones(rows, 12, dtype=torch.long)
        prompt_mask = torch.ones(rows, 5, dtype=torch.bool)
        prompt_mask[:, 0] = False
        yield model(ids, prompt_mask, torch.ones(rows, 7, dtype=torch.bool), 1.0)

    return forward


@pytest.mark.parametrize("critic", ["head", "adapter", "copy"])
@pytest.mark.parametrize("kind", CONFIGS)
def test_what_is_told_of_more_rows_is_what_they_save(kind, critic):
    model = actor_critic(kind, critic)
    forward = forward_of(model)
    kept, checkpointed = saved_growth(model, forward)
    assert not is_checkpointed(model)
    # With adapters the first of three layers saves less: what comes into it takes no gradient.
    near = 0.02 if critic == "adapter" else 0.003
    assert kept.of(7) == pytest.approx(saved_bytes(model, lambda: forward(7)), rel=near)
    set_checkpointing(model, True)
    assert saved_growth(model, forward) == (kept, checkpointed)
    assert is_checkpointed(model)
    assert checkpointed.of(7) == pytest.approx(saved_bytes(model, lambda: forward(7)), rel=0.003)
    assert checkpointed.each < 0.65 * kept.each


def test_weights_that_are_cast_are_saved_whatever_the_rows():
    model = actor_critic("llama", "head").float()
    forward = forward_of(model)
    with torch.autocast("cpu", torch.bfloat16):
        kept, _ = saved_growth(model, forward)
    assert kept.fixed > 2 * sum(p.numel() for p in model.lm.model.layers.parameters()) * 0.9


def test_of_other_models_all_is_kept():
    model = tiny_lm("recurrent")

    def forward(rows: int):
        ids = torch.ones(rows, 4, dtype=torch.long)
        yield model(ids, torch.ones_like(ids), torch.arange(3))

    kept, checkpointed = saved_growth(model, forward)
    assert kept == checkpointed
    assert kept.of(5) == pytest.approx(saved_bytes(model, lambda: forward(5)), rel=0.01)
