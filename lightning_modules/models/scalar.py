"""Models with one number per position: reward models, and critics with a network of their own."""

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from lightning_modules.forward.passes import at_least_float32, plain
from lightning_modules.forward.shared_prompts import SharedPrompt, hidden_states, joined

# Where the config of an exported reward model says what its scores mean.
REWARD_CONFIG = "rlhf_ladder"


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
        scale = score_scale(plain(model).config) if normalised else None
        mean, std = scale or ([0.0], [1.0])
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, prompt: SharedPrompt | None = None
    ) -> Tensor:
        """Scalars, at least float32, shape (B, S); with `prompt`, of what is read after it."""
        return self._heads(hidden_states(self.model, input_ids, attention_mask, prompt)).mean(-1)

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
        hidden = hidden_states(self.model, input_ids, attention_mask, prompt)
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        last = (places * attention_mask).argmax(-1)
        return self._heads(hidden[torch.arange(len(hidden), device=hidden.device), last])

    @property
    def heads_count(self) -> int:
        return plain(self.model).config.num_labels

    def _heads(self, hidden: Tensor) -> Tensor:
        score = plain(self.model).score
        if not torch.is_autocast_enabled(hidden.device.type):
            hidden = hidden.to(score.weight.dtype)  # a trained head is finer than a frozen backbone
        return (at_least_float32(score(hidden)) - self.mean) / self.std


def score_scale(config: PretrainedConfig) -> tuple[list[float], list[float]] | None:
    """Mean and standard deviation of each head's scores over held-out demonstrations, if fitted."""
    about = getattr(config, REWARD_CONFIG, None) or {}
    return (about["score_mean"], about["score_std"]) if "score_mean" in about else None
