"""Models with one number per position: reward models, and critics that are like them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PretrainedConfig

from lightning_modules.forward.last_layer import last_layer_from
from lightning_modules.forward.passes import at_least_float32, plain
from lightning_modules.forward.shared_prompts import SharedPrompt, hidden_states, joined
from lightning_modules.models.adapters import active_adapters

# Where the config of an exported reward model says what its scores mean; under VALUES that they are
# those of states, and of which kind of critic (algo.critic).
REWARD_CONFIG = "rlhf_ladder"
VALUES = "values"
# And the score at which a thumb is as likely up as down, of each head.
THUMBS_BIAS = "thumbs_bias"


class ScalarModel(nn.Module):
    """One number per position from a Hugging Face sequence-classification model.

    A reward model reads it at the last real token, a critic at every state. Of an ensemble the
    number is the mean of its heads. With `normalised`, each head's outputs are first brought to
    mean 0 and standard deviation 1 over held-out demonstrations, if the model's config says how.

    Without `shares_prompts`, prompts are read once for each of their responses: for models that
    cannot go on from a cache of keys and values.
    """

    shares_prompts = True

    def __init__(self, model: nn.Module, *, normalised: bool = True):
        super().__init__()
        self.model = model
        self._keep_scale(normalised)

    def _keep_scale(self, normalised: bool) -> None:
        mean, std = (score_scale(self.config) if normalised else None) or ([0.0], [1.0])
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)
        self.register_parameter("thumbs_bias", None)

    def learn_thumbs_bias(self, start: Tensor | float) -> None:
        """A score for each head at which a thumb is as likely up as down, to be trained; `start`
        is one for all, or (n,).
        """
        place = self.head.weight.device
        self.thumbs_bias = nn.Parameter(torch.zeros(self.heads_count, device=place) + start)

    @property
    def config(self) -> PretrainedConfig:
        return plain(self.model).config

    @property
    def head(self) -> nn.Module:
        """What makes scores of hidden states, (D) to (n)."""
        return plain(self.model).score

    @property
    def network(self) -> nn.Module:
        """The Hugging Face model, adapters included."""
        return self.model

    def reading(self) -> AbstractContextManager[nn.Module]:
        """A context in which `network`, which it returns, has the hidden states that the head
        reads.
        """
        return nullcontext(self.network)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, prompt: SharedPrompt | None = None
    ) -> Tensor:
        """Scalars, at least float32, shape (B, S); with `prompt`, of what is read after it."""
        with self.reading() as model:
            hidden = hidden_states(model, input_ids, attention_mask, prompt)
        return self._said(hidden).mean(-1)

    def score(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The scalar at the last real token, shape (B,), whatever side the padding is on."""
        return self.heads(input_ids, attention_mask).mean(-1)

    def heads(
        self, input_ids: Tensor, attention_mask: Tensor, prompt: SharedPrompt | None = None
    ) -> Tensor:
        """What each of n heads says at the last real token, (B, n).

        With `prompt`, `input_ids` are responses alone, and their prompts go through the model once.
        """
        if prompt is not None and not self.shares_prompts:
            input_ids, attention_mask = joined(prompt, input_ids, attention_mask)
            prompt = None
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        last = (places * attention_mask).argmax(-1)
        start = int(last.min()) if prompt is None else 0
        with self.reading() as model, last_layer_from(model, start) as skipped:
            hidden = hidden_states(model, input_ids, attention_mask, prompt)
        return self._said(hidden[torch.arange(len(hidden), device=hidden.device), last - skipped])

    @property
    def heads_count(self) -> int:
        return self.config.num_labels

    def _said(self, hidden: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(hidden.device.type):
            # A trained head is finer than a frozen backbone.
            hidden = hidden.to(self.head.weight.dtype)
        return (at_least_float32(self.head(hidden)) - self.mean) / self.std


class AdapterScalar(ScalarModel):
    """The same on the weights of another model, `lm`: LoRA adapters in it that add up, and a head.

    `lm` is no part of this module: who trains it moves and saves it, adapters included. `config` is
    that of the sequence-classification model that this would be with weights of its own.
    """

    def __init__(
        self,
        lm: PeftModel,
        adapters: Sequence[str],
        head: nn.Linear,
        config: PretrainedConfig,
        *,
        normalised: bool = True,
    ):
        nn.Module.__init__(self)
        self._lm = (lm,)  # in a tuple, where torch does not take it for a child
        self.adapters = tuple(adapters)
        self.own_head = head
        self._config = config
        self._keep_scale(normalised)

    @property
    def config(self) -> PretrainedConfig:
        return self._config

    @property
    def head(self) -> nn.Module:
        return self.own_head

    @property
    def network(self) -> nn.Module:
        return self._lm[0]

    def reading(self) -> AbstractContextManager[nn.Module]:
        return active_adapters(self.network, *self.adapters)


def score_scale(config: PretrainedConfig) -> tuple[list[float], list[float]] | None:
    """Mean and standard deviation of each head's scores over held-out demonstrations, if fitted."""
    about = getattr(config, REWARD_CONFIG, None) or {}
    return (about["score_mean"], about["score_std"]) if "score_mean" in about else None


def thumbs_bias(config: PretrainedConfig) -> list[float] | None:
    """Of each head the score, as it gives them, at which a thumb is as likely up as down, if it
    was trained on thumbs.
    """
    return (getattr(config, REWARD_CONFIG, None) or {}).get(THUMBS_BIAS)


def value_kind(config: PretrainedConfig) -> str | None:
    """Of an exported value function, which kind of critic it was; None of a reward model."""
    return (getattr(config, REWARD_CONFIG, None) or {}).get(VALUES)
