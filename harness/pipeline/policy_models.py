"""The models of a policy run: policy, value function and reference, started from the reference."""

from functools import partial

import torch
from peft import TaskType
from torch import nn

from datamodules.tokenization.encoder import Encoder
from harness.pipeline.pipeline import Pipeline
from lightning_modules.models.actor_critic import ActorCritic, new_value_head
from lightning_modules.models.adapters import VALUE_ADAPTER, add_adapter, add_value_adapter
from lightning_modules.models.loading import load_causal_lm
from lightning_modules.models.parameters import frozen
from lightning_modules.models.reference import Reference
from lightning_modules.models.scalar import ScalarModel
from lightning_modules.models.scorers import load_scorer, new_scorer
from lightning_modules.policy import PolicyModule
from lightning_modules.rewards.learned import LearnedReward
from lightning_modules.rollouts.collection import Vocabulary


def bind_policy(pipeline: Pipeline, algorithm: PolicyModule) -> Encoder:
    """Give the algorithm its models, making the stages that it needs; returns its tokenizer."""
    path, revision = pipeline.reference()
    pipeline.reward.bind(pipeline.reward_context())
    pipeline.plan.begin(algorithm.name)
    encoder = pipeline.load_encoder(path, revision)
    model, reference = actor_critic(pipeline, algorithm.options.critic, pipeline.cfg.seed)
    algorithm.bind(
        model=model,
        reference=reference,
        reward=pipeline.reward,
        vocabulary=Vocabulary(
            encoder.stop_ids, encoder.pad_id, encoder.max_response_tokens, encoder.decode
        ),
        gold=pipeline.source.gold,
    )
    return encoder


def actor_critic(
    pipeline: Pipeline, critic: str | None, seed: int
) -> tuple[ActorCritic, Reference]:
    """The policy, started from the reference, with the critic that the algorithm wants."""
    path, revision = pipeline.reference()
    load = partial(load_causal_lm, path, revision=revision)
    if pipeline.lora:
        base = load(dtype=pipeline.dtype)
        lm = add_adapter(base, pipeline.lora, TaskType.CAUSAL_LM, seed)
        reference = Reference(lm, shares_policy=True)
    else:
        lm = load(dtype=torch.float32)
        reference = Reference(frozen(load(dtype=pipeline.dtype)), shares_policy=False)
    if critic == "adapter":
        add_value_adapter(lm, pipeline.lora, seed + 1)
        model = ActorCritic(lm, new_value_head(lm), value_adapter=VALUE_ADAPTER)
    elif critic == "head":
        model = ActorCritic(lm, new_value_head(lm))
    elif critic == "copy":
        # In the units of the reward, whose weights it may start from.
        normalised = getattr(pipeline.reward, "normalise", True)
        model = ActorCritic(
            lm, critic=ScalarModel(_critic_copy(pipeline, seed), normalised=normalised)
        )
    else:
        model = ActorCritic(lm)
    return model, reference


def _critic_copy(pipeline: Pipeline, seed: int) -> nn.Module:
    """A value network of its own: the reward model's weights if there is one, else the
    reference's.
    """
    dtype = pipeline.dtype if pipeline.lora else torch.float32
    if isinstance(pipeline.reward, LearnedReward):
        model = load_scorer(pipeline.reward_model() / "model", dtype=dtype)
    else:
        path, revision = pipeline.reference()
        tokenizer = pipeline.load_encoder(path, revision).tokenizer
        model = new_scorer(path, tokenizer, seed=seed, revision=revision, dtype=dtype)
    return add_adapter(model, pipeline.lora, TaskType.SEQ_CLS, seed) if pipeline.lora else model
