"""What a model says about sampled tokens: log-probabilities, entropies, values, scores.

Index convention: s_t is the prompt and the first t response tokens; its logits and its value sit at
position P-1+t of the sequence. Only these T positions get logits.
"""

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import DynamicCache, PretrainedConfig

from lightning_modules.objectives.masked import masked

# Where the config of an exported reward model says what its scores mean.
REWARD_CONFIG = "rlhf_ladder"


class TokenOutputs(NamedTuple):
    """Per response token, (B, T), at least float32, 0 where the response mask is False."""

    logprobs: Tensor
    entropy: Tensor | None
    values: Tensor | None


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 if it is that already."""
    return x if x.dtype == torch.float64 else x.float()


def position_ids(attention_mask: Tensor) -> Tensor:
    """Positions that count real tokens only, (B, S), so that padding on the left shifts nothing."""
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)


def response_outputs(
    lm: nn.Module,
    sequences: Tensor,
    prompt_mask: Tensor,
    response_mask: Tensor,
    temperature: float,
    *,
    entropy: bool = False,
    hidden: bool = False,
) -> tuple[TokenOutputs, Tensor | None]:
    """Log-probabilities of the response tokens of `sequences` (B, P+T), and entropies if asked.

    The distribution is that of the sampler: logits / temperature, log-softmax in float32. With
    `hidden`, also the last hidden states of s_0 .. s_{T-1}, shape (B, T, D).
    """
    prompt_length = prompt_mask.shape[1]
    attention_mask = torch.cat([prompt_mask, response_mask], dim=1)
    states = torch.arange(prompt_length - 1, sequences.shape[1] - 1, device=sequences.device)
    outputs = lm(
        input_ids=sequences,
        attention_mask=attention_mask,
        position_ids=position_ids(attention_mask),
        logits_to_keep=states,
        output_hidden_states=hidden,
        use_cache=False,
    )
    logits = at_least_float32(outputs.logits) / temperature
    normaliser = logits.logsumexp(-1)
    actions = sequences[:, prompt_length:, None]
    logprobs = logits.gather(-1, actions).squeeze(-1) - normaliser
    entropies = None
    if entropy:
        expected_logit = (torch.softmax(logits, dim=-1) * logits).sum(-1)
        entropies = masked(normaliser - expected_logit, response_mask)
    last_hidden = outputs.hidden_states[-1][:, states] if hidden else None
    return TokenOutputs(masked(logprobs, response_mask), entropies, None), last_hidden


def last_hidden(model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """The trunk's last hidden states, (B, S, D), without a head's outputs."""
    # Where padding is on the right alone, causality keeps it from every real token: without a mask
    # attention is faster, and none of size S x S is held.
    right_padded = bool(attention_mask[:, 0].all())
    return (
        plain(model)
        .base_model(
            input_ids=input_ids,
            attention_mask=None if right_padded else attention_mask,
            position_ids=position_ids(attention_mask),
            use_cache=False,
        )
        .last_hidden_state
    )


def plain(model: nn.Module) -> nn.Module:
    """The Hugging Face model; adapters, if any, live in its layers."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


class SharedPrompt(NamedTuple):
    """Prompts that several answers continue: ids and mask (G, P), padded on the left, and the
    prompt (R,) of each answer.
    """

    ids: Tensor
    mask: Tensor
    owner: Tensor


class ScalarModel(nn.Module):
    """One number per position from a Hugging Face sequence-classification model.

    A reward model reads it at the last real token, a critic at every state. Of an ensemble the
    number is the mean of its heads. With `normalised`, each head's outputs are first brought to
    mean 0 and standard deviation 1 on reference answers, if the model's config says how.
    """

    def __init__(self, model: nn.Module, *, normalised: bool = True):
        super().__init__()
        self.model = model
        scale = score_scale(plain(model).config) if normalised else None
        mean, std = scale or ([0.0], [1.0])
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Scalars, at least float32, shape (B, S)."""
        return self._heads(last_hidden(self.model, input_ids, attention_mask)).mean(-1)

    def score(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The scalar at the last real token, shape (B,), whatever side the padding is on."""
        return self.heads(input_ids, attention_mask).mean(-1)

    def heads(
        self, input_ids: Tensor, attention_mask: Tensor, prompt: SharedPrompt | None = None
    ) -> Tensor:
        """What each of n heads says at the last real token, (B, n).

        With `prompt`, `input_ids` are answers alone, and their prompts go through the model once.
        """
        if prompt is None:
            hidden = last_hidden(self.model, input_ids, attention_mask)
        else:
            hidden = continued_hidden(self.model, prompt, input_ids, attention_mask)
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        last = (places * attention_mask).argmax(-1)
        return self._heads(hidden[torch.arange(len(hidden), device=hidden.device), last])

    @property
    def heads_count(self) -> int:
        return plain(self.model).config.num_labels

    def _heads(self, hidden: Tensor) -> Tensor:
        return (at_least_float32(plain(self.model).score(hidden)) - self.mean) / self.std


def continued_hidden(
    model: nn.Module, prompt: SharedPrompt, answer_ids: Tensor, answer_mask: Tensor
) -> Tensor:
    """The trunk's last hidden states on answers (R, T, D), each after its prompt.

    The prompts' keys and values are computed once and lent to every answer.
    """
    trunk = plain(model).base_model
    cache = DynamicCache()
    trunk(
        input_ids=prompt.ids,
        attention_mask=prompt.mask,
        position_ids=position_ids(prompt.mask),
        past_key_values=cache,
        use_cache=True,
    )
    cache.batch_select_indices(prompt.owner)
    mask = torch.cat([prompt.mask[prompt.owner], answer_mask], dim=1)
    return trunk(
        input_ids=answer_ids,
        attention_mask=mask,
        position_ids=position_ids(mask)[:, prompt.ids.shape[1] :],
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state


def score_scale(config: PretrainedConfig) -> tuple[list[float], list[float]] | None:
    """Mean and standard deviation of each head's scores on reference answers, if fitted."""
    about = getattr(config, REWARD_CONFIG, None) or {}
    return (about["score_mean"], about["score_std"]) if "score_mean" in about else None


class ActorCritic(nn.Module):
    """The policy, and the value function if the algorithm has one.

    `value_head` reads the policy's own hidden states or, with `value_adapter`, those of the same
    trunk with that adapter in the place of the policy's; `critic` is a network of its own. At most
    one of head and critic is there.
    """

    def __init__(
        self,
        lm: nn.Module,
        value_head: nn.Linear | None = None,
        critic: ScalarModel | None = None,
        value_adapter: str | None = None,
    ):
        super().__init__()
        self.lm = lm
        self.value_head = value_head
        self.critic = critic
        self.value_adapter = value_adapter

    def forward(
        self,
        sequences: Tensor,
        prompt_mask: Tensor,
        response_mask: Tensor,
        temperature: float,
        entropy: bool = False,
    ) -> TokenOutputs:
        shares_states = self.value_head is not None and self.value_adapter is None
        outputs, hidden = response_outputs(
            self.lm,
            sequences,
            prompt_mask,
            response_mask,
            temperature,
            entropy=entropy,
            hidden=shares_states,
        )
        if shares_states:
            values = masked(self._head(hidden), response_mask)
        else:
            values = self.values(sequences, prompt_mask, response_mask)
        return outputs._replace(values=values)

    def values(
        self, sequences: Tensor, prompt_mask: Tensor, response_mask: Tensor
    ) -> Tensor | None:
        """V(s_0) .. V(s_{T-1}), (B, T), or None; only `value_parameters` get gradients from it."""
        attention_mask = torch.cat([prompt_mask, response_mask], dim=1)
        if self.critic is not None:
            values = self.critic(sequences, attention_mask)
        elif self.value_adapter is not None:
            with active_adapter(self.lm, self.value_adapter):
                values = self._head(last_hidden(self.lm, sequences, attention_mask))
        elif self.value_head is not None:
            with torch.no_grad():
                hidden = last_hidden(self.lm, sequences, attention_mask)
            values = self._head(hidden)
        else:
            return None
        return masked(values[:, prompt_mask.shape[1] - 1 : -1], response_mask)

    def _head(self, hidden: Tensor) -> Tensor:
        # Returns are small differences of numbers: the head works in float32 under autocast.
        with torch.autocast(hidden.device.type, enabled=False):
            return self.value_head(hidden.to(self.value_head.weight.dtype)).squeeze(-1)

    def value_parameters(self) -> list[nn.Parameter]:
        """The trained parameters that only the value function uses."""
        own = [m for m in (self.value_head, self.critic) if m is not None]
        parameters = [p for module in own for p in module.parameters() if p.requires_grad]
        if self.value_adapter is not None:
            parameters += adapter_parameters(self.lm, self.value_adapter)
        return parameters


class Reference:
    """The frozen policy from which KL is measured: the policy's base with its adapters off, or a
    copy. It is no nn.Module, so it is not trained, not checkpointed and never put in train mode.
    """

    def __init__(self, lm: nn.Module, *, shares_policy: bool):
        self._lm = lm
        self.shares_policy = shares_policy

    def to(self, device: torch.device) -> None:
        if not self.shares_policy:
            self._lm.to(device)

    def active(self) -> AbstractContextManager[nn.Module]:
        """A context in which the returned model is the reference."""
        if self.shares_policy:
            return _adapters_off(self._lm)
        return nullcontext(self._lm)

    @torch.no_grad()
    def logprobs(
        self, sequences: Tensor, prompt_mask: Tensor, response_mask: Tensor, temperature: float
    ) -> Tensor:
        """Log-probabilities (B, T) of the response tokens under the reference."""
        with self.active() as lm:
            outputs, _ = response_outputs(lm, sequences, prompt_mask, response_mask, temperature)
        return outputs.logprobs


@contextmanager
def _adapters_off(lm: PeftModel) -> Iterator[PeftModel]:
    with _kept_trainable(lm), lm.disable_adapter():
        yield lm


@contextmanager
def active_adapter(lm: PeftModel, name: str) -> Iterator[PeftModel]:
    """The model with the adapter `name` in the place of the one that is on."""
    usual = lm.active_adapter
    with _kept_trainable(lm):
        lm.set_adapter(name)
    try:
        yield lm
    finally:
        with _kept_trainable(lm):
            lm.set_adapter(usual)


@contextmanager
def _kept_trainable(lm: nn.Module) -> Iterator[None]:
    """PEFT freezes the adapters that it switches off, and gradients of what was computed before
    would no longer find their parameters; here all stay as they were.
    """
    trained = [p for p in lm.parameters() if p.requires_grad]
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)


def adapter_parameters(lm: PeftModel, name: str) -> list[nn.Parameter]:
    """The parameters of one of the model's LoRA adapters."""
    own = re.compile(rf"\.lora_\w+\.{re.escape(name)}(\.|$)")
    return [p for key, p in lm.named_parameters() if own.search(key)]
