"""The models of a policy run: policy, value function and reference, started from the reference."""

import functools
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from peft import PeftModel, TaskType
from torch import nn
from transformers import PreTrainedModel

from datamodules.prompts import batch_of
from datamodules.tokenization.encoder import Encoder
from harness.pipeline.pipeline import Pipeline
from lightning_modules.forward.passes import plain
from lightning_modules.models.actor_critic import ActorCritic, new_value_head
from lightning_modules.models.adapters import (
    VALUE_ADAPTER,
    add_adapter,
    add_value_adapter,
    frozen_embeddings,
    load_adapter,
)
from lightning_modules.models.loading import fetch_config, load_causal_lm
from lightning_modules.models.one_base import critic_on
from lightning_modules.models.parameters import frozen
from lightning_modules.models.reference import Reference
from lightning_modules.models.scalar import AdapterScalar, ScalarModel, score_scale, value_kind
from lightning_modules.models.scorers import head_in_files, load_scorer, new_scorer
from lightning_modules.models.usable import require_positions
from lightning_modules.models.weights import tensor_in_files
from lightning_modules.options.paths import (
    critic_folder,
    model_folder,
    policy_adapter,
    value_adapter,
)
from lightning_modules.options.require import require
from lightning_modules.policy import PolicyModule
from lightning_modules.rewards.learned import LearnedReward
from lightning_modules.rollouts.collection import Vocabulary
from lightning_modules.rollouts.reference_responses import ReferenceResponses


def bind_policy(pipeline: Pipeline, algorithm: PolicyModule) -> Encoder:
    """Give the algorithm its models, making the stages that it needs; returns its tokenizer."""
    path, revision = pipeline.reference()
    adapted = bind_reward(pipeline)
    pipeline.plan.begin(algorithm.name)
    encoder = pipeline.load_encoder(path, revision)
    model, reference = actor_critic(
        pipeline,
        algorithm.options.critic,
        pipeline.cfg.seed,
        adapted,
        policy_from=algorithm.options.policy_from,
        critic_from=algorithm.options.critic_from,
    )
    algorithm.bind(
        model=model,
        reference=reference,
        reward=pipeline.reward,
        vocabulary=Vocabulary(
            encoder.stop_ids, encoder.pad_id, encoder.max_response_tokens, encoder.decode
        ),
        gold=pipeline.source.gold,
    )
    pipeline.reference_responses = ReferenceResponses(
        algorithm.collector,
        partial(batch_of, encoder.within(*pipeline.limits.tokens)),
        pipeline.cfg.seed,
        pipeline.run.folder,
    )
    return encoder


def bind_reward(pipeline: Pipeline) -> Callable[[], PeftModel]:
    """Give the reward its models; returns what loads a policy with LoRA, once, on whose weights
    those of the reward may be.
    """
    adapted = functools.cache(partial(adapted_policy, pipeline, pipeline.cfg.seed))
    context = pipeline.reward_context()
    if pipeline.one_base:
        context = replace(context, policy=adapted)
    pipeline.reward.bind(context)
    return adapted


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
    policy_from: str | None = None,
    critic_from: str | None = None,
) -> tuple[ActorCritic, Reference]:
    """The policy, which begins as `policy_from` or else as the reference, with the critic that the
    algorithm wants.

    `adapted` gives a policy with LoRA that may be loaded already.
    """
    if pipeline.lora:
        lm = adapted() if adapted else adapted_policy(pipeline, seed)
        if policy_from:
            begin_adapter_as(lm, policy_from)
        reference = Reference(lm, shares_policy=True)
    else:
        path, revision = pipeline.reference()
        load = partial(load_causal_lm, path, revision=revision)
        lm = other_start(pipeline, policy_from) if policy_from else load(how=pipeline.base)
        reference = Reference(frozen(load(how=pipeline.frozen)), shares_policy=False)
    if critic == "adapter":
        add_value_adapter(lm, pipeline.lora, seed + 1)
        model = ActorCritic(lm, critic_head(lm, critic_from), value_adapter=VALUE_ADAPTER)
        if critic_from:
            load_adapter(lm, VALUE_ADAPTER, value_adapter(critic_folder(critic_from)))
    elif critic == "head":
        model = ActorCritic(lm, critic_head(lm, critic_from))
    elif critic == "copy":
        model = _with_copy(pipeline, lm, seed, critic_from)
    else:
        model = ActorCritic(lm)
    return model, reference


def other_start(pipeline: Pipeline, policy_from: str) -> PreTrainedModel:
    """The policy `policy_from` (a run, or a folder), all of whose weights are trained on."""
    lm = load_causal_lm(policy_from, how=pipeline.base)
    require_positions(lm.config, sum(pipeline.limits.tokens), policy_from)
    return lm


def begin_adapter_as(lm: PeftModel, policy_from: str) -> None:
    """Put the adapter of the run `policy_from` into the policy's; OptionError if that was trained
    on other weights, as far as its embeddings tell.
    """
    if known := frozen_embeddings(lm):
        name, ours = known
        theirs = tensor_in_files(model_folder(policy_from), name)
        require(
            theirs is None or torch.equal(theirs.to(ours), ours),
            "algo.policy_from",
            policy_from,
            "has an adapter on another reference than this run's: here it would be another policy",
        )
    load_adapter(lm, lm.active_adapter, policy_adapter(policy_from))


def critic_head(lm: nn.Module, critic_from: str | None) -> nn.Linear:
    """A new head, or that of an exported value function."""
    head = new_value_head(lm)
    if critic_from:
        path = critic_folder(critic_from)
        (mean,), (std,) = score_scale(fetch_config(path))
        head.weight.data.copy_(head_in_files(path) / std)
        head.bias.data.fill_(-mean / std)
    return head


def _with_copy(
    pipeline: Pipeline, lm: nn.Module, seed: int, critic_from: str | None
) -> ActorCritic:
    """A value function that begins as `critic_from`, else as the reward model if there is one, else
    as the reference: on the policy's weights where these are the same, or a network of its own.
    """
    reward = pipeline.reward
    # In the units of the reward, whose weights it may start from; values have no others.
    normalised = getattr(reward, "normalise", True)
    if pipeline.one_base and not critic_from:
        start = reward.scorer.model if isinstance(reward, LearnedReward) else None
        if start is None or isinstance(start, AdapterScalar):
            critic = critic_on(lm, pipeline.lora, seed, start, normalised=normalised)
            return ActorCritic(lm, critic=critic, value_adapter=VALUE_ADAPTER)
    model = _critic_copy(pipeline, seed, critic_from)
    normalised = normalised or value_kind(plain(model).config) is not None
    return ActorCritic(lm, critic=ScalarModel(model, normalised=normalised))


def _critic_copy(pipeline: Pipeline, seed: int, critic_from: str | None) -> nn.Module:
    """A value network of its own: the weights of `critic_from`, of the reward model if there is
    one, or the reference's, and then every state is worth 0 to begin with.
    """
    if critic_from:
        model = load_scorer(critic_folder(critic_from), how=pipeline.base)
        require_positions(model.config, sum(pipeline.limits.tokens), critic_from)
    elif isinstance(pipeline.reward, LearnedReward):
        model = load_scorer(pipeline.reward_model() / "model", how=pipeline.base)
    else:
        path, revision = pipeline.reference()
        tokenizer = pipeline.load_encoder(path, revision).tokenizer
        model = new_scorer(path, tokenizer, seed=seed, revision=revision, how=pipeline.base)
        # Random values would be noise of the size of scores, for which the policy pays at first.
        nn.init.zeros_(model.score.weight)
    return add_adapter(model, pipeline.lora, TaskType.SEQ_CLS, seed) if pipeline.lora else model
