"""A value function says the same in plain Transformers, and as the start of another critic."""

from copy import deepcopy

import pytest
import torch
from peft import LoraConfig, TaskType
from transformers import AutoModelForSequenceClassification

from harness.parts.starts import critic_config
from harness.pipeline.critic_export import export_critic
from harness.pipeline.policy_models import critic_head
from lightning_modules.forward.passes import plain
from lightning_modules.models.actor_critic import ActorCritic, new_value_head
from lightning_modules.models.adapters import (
    VALUE_ADAPTER,
    add_adapter,
    add_value_adapter,
    load_adapter,
    put_beside,
)
from lightning_modules.models.one_base import critic_on
from lightning_modules.models.scalar import REWARD_CONFIG, AdapterScalar, ScalarModel, value_kind
from lightning_modules.models.scorers import load_scorer, new_scorer
from lightning_modules.options.paths import critic_folder, value_adapter
from tests.tolerances import of_model

LORA = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
PROMPT_MASK = torch.tensor([[0, 1, 1], [1, 1, 1]]).bool()
RESPONSE_MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
CRITICS = [("head", False), ("copy", False), ("head", True), ("adapter", True), ("copy", True)]


def actor_critic(critic, lora, lm, encoder, folder):
    """A policy whose critic says something of every state."""
    if critic == "copy":
        lm.save_pretrained(folder)
        scorer = new_scorer(folder, encoder.tokenizer, seed=1, heads=2)
        scorer.config.update({REWARD_CONFIG: {"score_mean": [0.3, -2.0], "score_std": [0.7, 3.0]}})
    if lora:
        lm = add_adapter(lm, LORA, TaskType.CAUSAL_LM, seed=0).eval()
    if critic == "copy":
        scorer = add_adapter(scorer, LORA, TaskType.SEQ_CLS, seed=2).eval() if lora else scorer
        return ActorCritic(lm, critic=ScalarModel(scorer))
    head = new_value_head(lm)
    torch.nn.init.normal_(head.weight, std=0.1)
    torch.nn.init.constant_(head.bias, -1.7)
    if critic == "adapter":
        add_value_adapter(lm, LORA, seed=3)
        return ActorCritic(lm.eval(), head, value_adapter=VALUE_ADAPTER)
    return ActorCritic(lm, head)


@torch.no_grad()
def test_one_on_the_policys_weights_comes_back_too(lm, encoder, sequences, tmp_path):
    """Two adapters add up, and the policy's is off."""
    lm = add_adapter(lm, LORA, TaskType.CAUSAL_LM, seed=0).eval()
    put_beside(lm, "reward", deepcopy(LORA), trained=False)
    config = deepcopy(plain(lm).config)
    config.update({REWARD_CONFIG: {"score_mean": [0.3, -2.0], "score_std": [0.7, 3.0]}})
    config.num_labels = 2
    reward = AdapterScalar(lm, ["reward"], torch.nn.Linear(32, 2, bias=False), config)
    critic = critic_on(lm, LORA, 5, reward)
    model = ActorCritic(lm.eval(), critic=critic, value_adapter=VALUE_ADAPTER)
    expected = model.values(sequences, PROMPT_MASK, RESPONSE_MASK)
    assert export_critic(model, encoder, tmp_path) == []
    loaded = ActorCritic(lm, critic=ScalarModel(load_scorer(critic_folder(tmp_path))))
    found = loaded.values(sequences, PROMPT_MASK, RESPONSE_MASK)
    torch.testing.assert_close(found, expected, rtol=0, atol=20 * of_model(lm))


@pytest.fixture
def sequences(encoder):
    return torch.randint(
        0, len(encoder.tokenizer), (2, 7), generator=torch.Generator().manual_seed(0)
    )


@pytest.mark.parametrize(("critic", "lora"), CRITICS)
@torch.no_grad()
def test_every_critic_comes_back_with_its_values(critic, lora, lm, encoder, sequences, tmp_path):
    model = actor_critic(critic, lora, lm, encoder, tmp_path / "lm")
    rows = sequences, PROMPT_MASK, RESPONSE_MASK
    expected = model.values(*rows)
    assert export_critic(model, encoder, tmp_path) == []
    path = critic_folder(tmp_path)
    assert value_kind(critic_config(tmp_path)) == critic
    close = {"rtol": 0, "atol": 20 * of_model(lm)}
    # Read by this project, and by plain Transformers at the last token of a state.
    loaded = ActorCritic(lm, critic=ScalarModel(load_scorer(path)))
    torch.testing.assert_close(loaded.values(*rows), expected, **close)
    plain = AutoModelForSequenceClassification.from_pretrained(path)
    about = plain.config.rlhf_ladder
    scores = plain(sequences[1:, :4]).logits[0]
    value = ((scores - torch.tensor(about["score_mean"])) / torch.tensor(about["score_std"])).mean()
    torch.testing.assert_close(value, expected[1, 1], **close)
    if critic == "copy":
        return
    # As the start of its own kind, on the policy as it was.
    head = critic_head(model.lm, str(tmp_path))
    if critic == "adapter":
        for parameter in (p for n, p in model.lm.named_parameters() if ".value." in n):
            parameter.zero_()
        load_adapter(model.lm, VALUE_ADAPTER, value_adapter(path))
    again = ActorCritic(model.lm, head, value_adapter=model.value_adapter)
    assert torch.equal(again.values(*rows), expected)
