"""How much memory a device needs for a policy run, estimated before the first iteration.

Counted rather than looked up in tables, so that it holds for any architecture, adapter, optimiser
and precision: the bytes of weights that exist, of what one small optimiser step keeps, and of what
the forward pass of one and of two responses of full length saves for the backward pass.

Left out: the libraries themselves, what kernels hold while they compute, the buffers that
gradients are gathered in over devices, and the gaps that an allocator leaves. On a toy the peak was
1.15 times the estimate (1.3 with LoRA) without gaps; those of glibc's heap can double what a
process on a CPU holds. A stage trained before, such as a reward model, needs memory of its own.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from lightning_modules.forward.checkpointing import is_checkpointed
from lightning_modules.forward.log_probs import (
    are_kept,
    chunk_tokens,
    chunked_head,
    whole_up_to,
)
from lightning_modules.forward.packed_parameters import held
from lightning_modules.forward.passes import cache_name
from lightning_modules.forward.saved import Growth, saved_growth
from lightning_modules.models.scalar import ScalarModel
from lightning_modules.policy import PolicyModule
from lightning_modules.rewards.combined import CombinedReward
from lightning_modules.rewards.learned import BATCH_TOKENS, ModelReward
from lightning_modules.rewards.reward import Reward
from lightning_modules.rollouts.merged_adapters import merged_bytes
from lightning_modules.rollouts.tokens import WHOLE

UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
# Bytes a logit, beside what autograd saves: the gradients of the log-softmax and of the logits, in
# float32. Where logits are made in chunks, of a chunk: its probabilities besides.
WHOLE_LOGIT, CHUNKED_LOGIT = 2 * 4, 3 * 4
KEPT_LOGIT = 4
# Sampling holds its logits, and in float64 what they are divided by, softmax and its sums.
SAMPLING_LOGITS = 4 + 3 * 8
# Of a large vocabulary in float32 what they are divided by, and the softmax.
SAMPLING_LOGITS_IN_BLOCKS = 4 + 2 * 4


@dataclass(frozen=True)
class Sizes:
    """What a device works on: responses at a time, tokens of the longest prompt and response."""

    sequences: int
    micro_batch: int
    prompt_tokens: int
    response_tokens: int

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.response_tokens


def sizes_of(module: PolicyModule, prompts: Iterable[Sequence[int]], devices: int) -> Sizes:
    """Of a run on so many devices, whose `prompts` are ids; a micro-batch is of full length."""
    share = module.options.sequences_per_iteration // devices
    prompt_tokens = max(map(len, prompts))
    response_tokens = module.collector.vocabulary.max_response_tokens
    minibatch = share // module.options.minibatches
    most = module.micro_batches.sequences_of(prompt_tokens + response_tokens) or minibatch
    return Sizes(share, min(minibatch, most), prompt_tokens, response_tokens)


@dataclass(frozen=True)
class Estimate:
    """Bytes of one device. Weights are there already; of the last three one is held at a time."""

    policy: int
    reference: int
    reward: int
    gradients: int
    optimizer: int
    update: int
    sampling: int
    scoring: int

    @property
    def weights(self) -> int:
        return self.policy + self.reference + self.reward

    @property
    def to_come(self) -> int:
        """What training needs beside the weights, at its peak."""
        busy = max(self.gradients + self.update, self.sampling, self.scoring)
        return self.optimizer + busy

    def line(self) -> str:
        """The whole and its parts, for a person."""
        parts = {
            "policy and critic": self.policy,
            "reference": self.reference,
            "reward": self.reward,
            "gradients": self.gradients,
            "optimiser": self.optimizer,
            "an update's micro-batch": self.update,
            "or sampling": self.sampling,
            "or scoring": self.scoring,
        }
        said = ", ".join(f"{name} {size(n)}" for name, n in parts.items() if n)
        return f"about {size(self.weights + self.to_come)} a device: {said}"

    def remedy(self, limit: str) -> str:
        """What to lower, the largest part first; `limit`: the option that limits micro-batches."""
        ways = {
            limit: self.update,
            "algo.prompts_per_iteration or algo.samples_per_prompt": self.sampling,
            "the weights that are trained (adapter=lora)": self.gradients + self.optimizer,
        }
        return ", then ".join(sorted(ways, key=ways.get, reverse=True))


def size(count: int) -> str:
    """Bytes in a unit that suits their number."""
    unit, name = next((u for u in UNITS if count >= u[0]), UNITS[-1])
    return f"{count / unit:.1f} {name}"


def estimate(module: PolicyModule, sizes: Sizes) -> Estimate:
    """What this run will need on one device. To be called in the precision's context."""
    trained = module.trained_parameters()
    rewards = reward_models(module.collector.reward)
    reference = module.collector.reference
    with reference.active() as lm:
        of_reference = 0 if reference.shares_policy else weight_bytes([lm])
    states = states_per_weight(module.options.optimizer)
    return Estimate(
        policy=weight_bytes([module.model]),
        reference=of_reference,
        reward=weight_bytes(rewards),
        gradients=tensor_bytes(trained),
        optimizer=int(states * tensor_bytes(trained)),
        update=update_bytes(module, sizes),
        sampling=sampling_bytes(module, sizes),
        scoring=sum(scoring_bytes(model, sizes) for model in rewards),
    )


def reward_models(reward: Reward) -> list[nn.Module]:
    """The models that a reward consists of; none if it is a function."""
    if isinstance(reward, CombinedReward):
        return [model for part in reward.rewards.values() for model in reward_models(part)]
    if isinstance(reward, ModelReward):
        return [reward.scorer.model]
    return [part for part in vars(reward).values() if isinstance(part, nn.Module)]


def weight_bytes(models: Iterable[nn.Module]) -> int:
    """Of parameters and buffers, each counted once and by its own dtype."""
    kept = {id(x): x for m in models for x in (*m.parameters(), *m.buffers())}
    return tensor_bytes(part for x in kept.values() for part in held(x))


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(x.numel() * x.element_size() for x in tensors)


def states_per_weight(optimizer: Callable[..., torch.optim.Optimizer]) -> float:
    """How many bytes an optimiser keeps for each byte of a matrix of weights: Adam 2, SGD 0, Adam
    in 8 bits a half.
    """
    weight = nn.Parameter(torch.zeros(256, 256))
    weight.grad = torch.zeros_like(weight)
    made = optimizer([weight])
    made.step()
    states = [x for x in made.state[weight].values() if isinstance(x, Tensor) and x.ndim]
    return tensor_bytes(states) / tensor_bytes([weight])


def update_bytes(module: PolicyModule, sizes: Sizes) -> int:
    """What one micro-batch of an update holds at its peak."""
    kept, checkpointed = update_growth(module, sizes)
    return (checkpointed if is_checkpointed(module.model) else kept).of(sizes.micro_batch)


def update_growth(module: PolicyModule, sizes: Sizes) -> tuple[Growth, Growth]:
    """What a micro-batch of an update holds at its peak, with activations kept and with
    checkpointing: all that autograd saves, and the gradients of the logits.

    With checkpointing the peak is where a layer is computed again: its activations take the place
    of those of the last layer, which are counted as they are kept. Where samples read their prompt
    once, a response has its share of it.
    """
    lm = module.model.lm
    vocabulary = vocabulary_size(lm)
    tokens = sizes.micro_batch * sizes.response_tokens
    chunked = chunked_head(lm, tokens)

    def forward(rows: int, prompt_of: Tensor | None = None) -> Iterator[object]:
        device = next(module.model.parameters()).device
        sequences = torch.zeros(rows, sizes.tokens, dtype=torch.long, device=device)
        prompt_mask = torch.ones(rows, sizes.prompt_tokens, dtype=torch.bool, device=device)
        # Padding, as batches have it: without any, attention takes another way.
        prompt_mask[:, 0] = sizes.prompt_tokens == 1
        response_mask = torch.ones(rows, sizes.response_tokens, dtype=torch.bool, device=device)
        yield from module.passes(sequences, prompt_mask, response_mask, prompt_of)

    def of_one_prompt(rows: int) -> Iterator[object]:
        yield from forward(rows + 1, torch.zeros(rows + 1, dtype=torch.long, device=lm.device))

    with whole_up_to(sys.maxsize if chunked is None else 0):
        kept, checkpointed = saved_growth(module.model, forward)
        if module.collector.shares_prompts:
            more = saved_growth(module.model, of_one_prompt)
            samples = module.options.samples_per_prompt
            kept = with_prompts(kept, more[0].each, samples)
            checkpointed = with_prompts(checkpointed, more[1].each, samples)
    if chunked is None:
        fixed, each = 0, vocabulary * sizes.response_tokens * WHOLE_LOGIT
    else:
        fixed, each = vocabulary * chunk_tokens(vocabulary, lm.device) * CHUNKED_LOGIT, 0
        if chunked.linear.weight.requires_grad and are_kept(tokens, vocabulary, lm.device):
            fixed += vocabulary * tokens * KEPT_LOGIT
    return (
        Growth(kept.fixed + fixed, kept.each + each),
        Growth(checkpointed.fixed + fixed, checkpointed.each + each),
    )


def with_prompts(whole: Growth, response: int, samples: int) -> Growth:
    """What rows of a prompt need that is read once for so many `samples`, where another response
    needs `response` bytes: of one prompt more than their number says, as parts end within one.
    """
    prompt = max(whole.each - response, 0)
    return Growth(whole.fixed + prompt, response + prompt // samples)


@torch.no_grad()
def sampling_bytes(module: PolicyModule, sizes: Sizes) -> int:
    """The KV cache of all responses at full length, the logits of one token of each, and weights
    that are cast, or that adapters are merged into.
    """
    lm = module.model.lm
    ids = torch.zeros(1, 2, dtype=torch.long, device=next(lm.parameters()).device)
    cache = DynamicCache()
    lm(input_ids=ids, use_cache=True, **{cache_name(lm): cache})
    per_token = tensor_bytes(x for layer in cache.layers for x in (layer.keys, layer.values)) // 2
    buckets, columns, merged = module.collector.sampler.sizes, sizes.tokens, 0
    if buckets is not None:
        columns, merged = buckets.columns_for(columns), merged_bytes(lm)
    vocabulary = vocabulary_size(lm)
    per_logit = SAMPLING_LOGITS if vocabulary <= WHOLE else SAMPLING_LOGITS_IN_BLOCKS
    per_response = columns * per_token + vocabulary * per_logit
    return sizes.sequences * per_response + _kept_casts(lm) + merged


def _kept_casts(lm: nn.Module) -> int:
    """Bytes of the 16-bit casts of trained float32 weights, kept while responses are sampled."""
    trained = [p for p in lm.parameters() if p.requires_grad and p.dtype == torch.float32]
    on = trained and torch.is_autocast_enabled(trained[0].device.type)
    return tensor_bytes(trained) // 2 if on else 0


def scoring_bytes(model: nn.Module, sizes: Sizes) -> int:
    """A layer's activations of a reward model's batch: its input and output, and a feed-forward
    layer's, in the dtype of its weights.
    """
    with model.reading() if isinstance(model, ScalarModel) else nullcontext(model) as read:
        weights = list(read.parameters())
    hidden = max(p.shape[-1] for p in weights if p.ndim == 2)
    tokens = min(BATCH_TOKENS, sizes.sequences * sizes.tokens)
    return tokens * 4 * hidden * weights[0].element_size()


def vocabulary_size(lm: nn.Module) -> int:
    """How many logits a position has."""
    return lm.config.get_text_config().vocab_size
