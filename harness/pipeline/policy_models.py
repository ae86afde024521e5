"""The models of a policy run: policy, value function and reference, started from the reference."""

import functools
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from peft import PeftModel, TaskType
from torch import nn

from datamodules.tokenization.encoder import Encoder
from harness.pipeline.pipeline import Pipeline
from lightning_modules.models.actor_critic import ActorCritic, new_value_head
from lightning_modules.models.adapters import VALUE_ADAPTER, add_adapter, add_value_adapter
from lightning_modules.models.loading import load_causal_lm
from lightning_modules.models.one_base import critic_on
from lightning_modules.models.parameters import frozen
from lightning_modules.models.reference import Reference
from lightning_modules.models.scalar import AdapterScalar, ScalarModel
from lightning_modules.models.scorers import load_scorer, new_scorer
from lightning_modules.policy import PolicyModule
from lightning_modules.rewards.learned import LearnedReward
from lightning_modules.rollouts.collection import Vocabulary


def bind_policy(pipeline: Pipeline, algorithm: PolicyModule) -> Encoder:
    """Give the algorithm its models, making the stages that it needs; returns its tokenizer."""
    path, revision = pipeline.reference()
    adapted = functools.cache(partial(adapted_policy, pipeline, pipeline.cfg.seed))
    context = pipeline.reward_context()
    if pipeline.one_base:
        context = replace(context, policy=adapted)
    pipeline.reward.bind(context)
    pipeline.plan.begin(algorithm.name)
    encoder = pipeline.load_encoder(path, revision)
    model, reference = actor_critic(pipeline, algorithm.options.critic, pipeline.cfg.seed, adapted)
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


def adapted_policy(pipeline: Pipeline, seed: int) -> PeftModel:
    """The reference with the adapter that is trained."""
    path, revision = pipeline.reference()
    base = load_causal_lm(path, revision=revision, how=pipeline.base)
    return add_adapter(base, pipeline.lora, TaskType.CAUSAL_LM, seed)


def actor_critic(
    pipeline: Pipeline,
    critic: str | None,
    seed: int,
    adapted: Callable[[], PeftModel] | None = None,
) -> tuple[ActorCritic, Reference]:
    """The policy, started from the reference, with the critic that the algorithm wants.

    `adapted` gives a policy with LoRA that may be loaded already.
    """
    if pipeline.lora:
        lm = adapted() if adapted else adapted_policy(pipeline, seed)
        reference = Reference(lm, shares_policy=True)
    else:
        path, revision = pipeline.reference()
        load = partial(load_causal_lm, path, revision=revision)
        lm = load(how=pipeline.base)
        reference = Reference(frozen(load(how=pipeline.frozen)), shares_policy=False)
    if critic == "adapter":
        add_value_adapter(lm, pipeline.lora, seed + 1)
        model = ActorCritic(lm, new_value_head(lm), value_adapter=VALUE_ADAPTER)
    elif critic == "head":
        model = ActorCritic(lm, new_value_head(lm))
    elif critic == "copy":
        model = _with_copy(pipeline, lm, seed)
    else:
        model = ActorCritic(lm)
    return model, reference


def _with_copy(pipeline: Pipeline, lm: nn.Module, seed: int) -> ActorCritic:
    """A value function that begins as the reward model if there is one, else as the reference: on
    the policy's weights where these are the same, or a network of its own.
    """
    reward = pipeline.reward
    # In the units of the reward, whose weights it may start from.
    normalised = getattr(reward, "normalise", True)
    if pipeline.one_base:
        start = reward.scorer.model if isinstance(reward, LearnedReward) else None
        if start is None or isinstance(start, AdapterScalar):
            critic = critic_on(lm, pipeline.lora, seed, start, normalised=normalised)
            return ActorCritic(lm, critic=critic, value_adapter=VALUE_ADAPTER)
    critic = ScalarModel(_critic_copy(pipeline, seed), normalised=normalised)
    return ActorCritic(lm, critic=critic)


def _critic_copy(pipeline: Pipeline, seed: int) -> nn.Module:
    """A value network of its own: the reward model's weights if there is one, else the
    reference's.
    """
    if isinstance(pipeline.reward, LearnedReward):
        model = load_scorer(pipeline.reward_model() / "model", how=pipeline.base)
    else:
        path, revision = pipeline.reference()
        tokenizer = pipeline.load_encoder(path, revision).tokenizer
        model = new_scorer(path, tokenizer, seed=seed, revision=revision, how=pipeline.base)
    return add_adapter(model, pipeline.lora, TaskType.SEQ_CLS, seed) if pipeline.lora else model
