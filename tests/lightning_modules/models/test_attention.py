"""One way to compute attention for every role, refused at once where a model does not have it."""

import pytest
import torch
from transformers import MptConfig

from lightning_modules.errors import OptionError
from lightning_modules.models.loading import LoadOptions, check_attention, load_causal_lm
from lightning_modules.models.scorers import load_scorer, new_scorer
from tests.tolerances import of_model

IDS = torch.tensor([[5, 6, 7, 8]])


def test_every_model_that_is_loaded_computes_it_as_asked(lm, encoder, tmp_path):
    lm.save_pretrained(tmp_path / "lm")
    how = LoadOptions(attention="eager")
    policy = load_causal_lm(tmp_path / "lm", how=how)
    critic = new_scorer(tmp_path / "lm", encoder.tokenizer, seed=0, how=how)
    critic.save_pretrained(tmp_path / "rm")
    encoder.tokenizer.save_pretrained(tmp_path / "rm")
    reward = load_scorer(tmp_path / "rm", how=how)
    assert {m.config._attn_implementation for m in (policy, critic, reward)} == {"eager"}
    usual = load_causal_lm(tmp_path / "lm")
    assert usual.config._attn_implementation == "sdpa"
    with torch.no_grad():
        found, expected = (model(input_ids=IDS).logits for model in (policy, usual))
    torch.testing.assert_close(found, expected, rtol=0, atol=of_model(policy))
    # It is no property of the model: what is exported says nothing of it.
    policy.save_pretrained(tmp_path / "again")
    assert load_causal_lm(tmp_path / "again").config._attn_implementation == "sdpa"


def test_a_way_that_is_not_there_is_refused_with_its_name(lm):
    check_attention(lm.config, "eager", "tiny")
    for unknown in ("no_such_attention", "flash_attention_2"):  # the package is not installed
        with pytest.raises(OptionError, match=f"^model.attn_implementation={unknown}: tiny cannot"):
            check_attention(lm.config, unknown, "tiny")
    with pytest.raises(OptionError, match=r"^model\.attn_implementation=sdpa: mpt"):
        check_attention(MptConfig(d_model=32, n_heads=2, n_layers=1), "sdpa", "mpt")
