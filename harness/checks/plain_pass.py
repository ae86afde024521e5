"""The check of the sampler against the plainest way to use a model: one row, no padding, no cache.

It is part of the start-up check, and comes by itself before a stage is trained for a policy whose
model could not be used in the end.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from datamodules.prompts import spread
from datamodules.records import Prompt
from datamodules.tokenization.encoder import Encoder
from harness.checks.audit import CheckError, Sample
from lightning_modules.forward.passes import at_least_float32, plain
from lightning_modules.rewards.reward import Responses
from lightning_modules.rollouts.generation import generate
from lightning_modules.rollouts.rollout import Rollout
from lightning_modules.rollouts.seeding import Stream, prompt_noise, uniforms
from lightning_modules.rollouts.tokens import sample_tokens

# A token changes where rounding moves the distribution past the number that it was drawn with, so
# that it stands beside it: how far, as a share of the distribution. In bfloat16 a fifth of the
# tokens of SmolLM2-135M are others, all within 0.03; without its cache three of four, half of them
# farther than 0.1.
FLOAT32_ROUNDING, BFLOAT16_ROUNDING = 1e-3, 0.1
# How many may be farther away.
SHARE, FEW = 0.01, 1
# Of the check before a stage: enough for a cache that is not used to show.
FEW_TOKENS = 16
PROMPTS = 3
LONG_CANDIDATES = 16
NO_STOP = (-1,)  # an id of no token
# Rotations that depend on how long a text is: a cache keeps keys as they were when it was shorter.
LENGTH_ROPE = ("longrope", "dynamic")


@torch.no_grad()
def check_drawn_again(
    lm: nn.Module, sample: Sample, temperature: float, tolerance: float, coarse: bool
) -> float:
    """Every sampled token comes out again, but for rounding, when it is drawn with the same noise
    from one forward pass of its sequence alone; and an update sees the same log-probabilities,
    within `tolerance` on average. Returns the share of the tokens that are equal. `coarse`: the
    model computes in 16 bits.
    """
    width = sample.responses.prompt_mask.shape[1]
    rounding = BFLOAT16_ROUNDING if coarse else FLOAT32_ROUNDING
    equal, wrong, total, gaps = 0, [], 0, []
    for row, drawn in enumerate(sample.uniforms):
        prompt = sample.responses.sequences[row, :width][sample.responses.prompt_mask[row]]
        response = sample.responses.sequences[row, width:][sample.responses.response_mask[row]]
        logits = row_logits(lm, torch.cat([prompt, response]))[len(prompt) - 1 : -1]
        require_finite(lm, of_tokens(logits / temperature, response))
        again = sample_tokens(logits, temperature, drawn[: len(response)]).tokens
        equal, total = equal + int((again == response).sum()), total + len(response)
        far = distance(logits / temperature, response, drawn[: len(response)]) > rounding
        wrong += far.nonzero().flatten().tolist()
        if sample.rollout is not None and sample.rollout.scored[row]:
            gaps.append(_gaps(logits / temperature, response, sample.rollout, row))
    if len(wrong) > max(FEW, SHARE * total):
        raise CheckError(
            f"{len(wrong)} of {total} sampled tokens (the first at token {min(wrong) + 1} of a"
            " response) are others than one plain forward pass draws from the same noise",
            f"{_kind(lm)} does not use the sampler's cache of keys and values, or its positions"
            " depend on the other rows of a batch: the policy would be trained on what it does not"
            f" say. {_remedy(lm)}",
        )
    gap = float(torch.cat(gaps).mean()) if gaps else 0.0
    if not gap <= tolerance:
        raise CheckError(
            f"the log-probabilities of a padded batch differ from those of each row alone by"
            f" {gap:.2g} a token on average, where {tolerance:g} is rounding",
            f"{_kind(lm)} lets padding or other rows change what it says, so updates would depend"
            " on the batch. It cannot be used with this version of transformers",
        )
    return equal / max(total, 1)


def distance(logits: Tensor, tokens: Tensor, noise: Tensor) -> Tensor:
    """How far each number of `noise` (T,) is from where its token stands in the distribution
    function of `logits` (T, V); 0 where it would draw the token.
    """
    probabilities = logits.double().softmax(-1)
    above = probabilities.cumsum(-1).gather(1, tokens[:, None]).squeeze(1)
    below = above - probabilities.gather(1, tokens[:, None]).squeeze(1)
    return torch.maximum(below - noise, noise - above).clamp(min=0)


def _gaps(logits: Tensor, response: Tensor, rollout: Rollout, row: int) -> Tensor:
    """How far a rollout's log-probabilities of a response are from those of its row alone."""
    alone = of_tokens(logits, response)
    return (alone - rollout.old_logprobs[row][rollout.response_mask[row]]).abs()


def of_tokens(logits: Tensor, tokens: Tensor) -> Tensor:
    """Log-probabilities (T,) of `tokens` (T,) by `logits` (T, V)."""
    return logits.log_softmax(-1).gather(1, tokens[:, None]).squeeze(1)


def require_finite(lm: nn.Module, logprobs: Tensor) -> None:
    """CheckError unless all these log-probabilities of sampled tokens are numbers."""
    wrong = int((~logprobs.isfinite()).sum())
    if wrong:
        raise CheckError(
            f"{wrong} of {logprobs.numel()} log-probabilities of a response are not finite",
            f"weights of {_kind(lm)} are NaN or infinite, or it overflows in this precision; look"
            " at its files, or use another hardware.precision",
        )


@torch.no_grad()
def check_causality(lm: nn.Module, sample: Sample, tolerance: float) -> None:
    """Another last token changes nothing that the model says before it."""
    responses = sample.responses
    mask = torch.cat([responses.prompt_mask, responses.response_mask], dim=1)
    row = int(mask.sum(1).argmax())
    ids = responses.sequences[row][mask[row]]
    other = ids.clone()
    other[-1] = ids[0] if ids[0] != ids[-1] else ids[len(ids) // 2]
    before, after = (row_logits(lm, x)[:-1].log_softmax(-1) for x in (ids, other))
    gap = float((before - after).abs().mean())
    if not gap <= tolerance:
        raise CheckError(
            f"another last token changes log-probabilities before it, by {gap:.2g} on average",
            f"{_kind(lm)} reads in both directions, and a policy writes from left to right; use a"
            " causal language model",
        )


def check_model(
    lm: nn.Module, encoder: Encoder, prompts: Sequence[Prompt], tolerance: float, coarse: bool
) -> None:
    """Both checks of a model by itself, on a few tokens after each of a few of these prompts; and
    that it is sampled from as well at the greatest length that they can lead to.
    """
    sample = sample_alone(lm, encoder, spread(prompts, PROMPTS))
    check_drawn_again(lm, sample, 1.0, tolerance, coarse)
    check_causality(lm, sample, tolerance)
    check_full_length(lm, encoder, longest(encoder, prompts), tolerance, coarse)


def check_full_length(
    lm: nn.Module, encoder: Encoder, prompt: Prompt, tolerance: float, coarse: bool
) -> None:
    """One response to `prompt` is drawn again, up to the limit of tokens: it does not stop.

    For models whose positions depend on the length alone, as it takes a token at a time.
    """
    if not depends_on_length(lm):
        return
    sample = sample_alone(lm, encoder, [prompt], encoder.max_response_tokens, NO_STOP)
    check_drawn_again(lm, sample, 1.0, tolerance, coarse)


def longest(encoder: Encoder, prompts: Sequence[Prompt]) -> Prompt:
    """The prompt of most tokens among those of most characters."""
    candidates = sorted(prompts, key=lambda prompt: len(prompt.text))[-LONG_CANDIDATES:]
    lengths = [len(ids) for ids in encoder.prompts(candidates)]
    return candidates[lengths.index(max(lengths))]


def sample_alone(
    lm: nn.Module,
    encoder: Encoder,
    prompts: Sequence[Prompt],
    tokens: int = FEW_TOKENS,
    stop_ids: Sequence[int] | None = None,
) -> Sample:
    """At most `tokens` after each of these prompts, up to one of `stop_ids` (None: those of the
    encoder); CheckError if the model cannot be sampled from.
    """
    device = next(lm.parameters()).device
    ids, mask = (x.to(device) for x in encoder.pad(encoder.prompts(prompts), "left"))
    noise = prompt_noise(0, Stream.SELFCHECK, range(len(prompts)))
    drawn = uniforms(noise, len(prompts), 1, tokens).to(device)
    stops = {"stop_id": stop_ids or encoder.stop_ids, "pad_id": encoder.pad_id}
    try:
        sequences, real, _ = generate(lm, ids, mask, drawn, temperature=1.0, **stops)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise CheckError(
            f"nothing can be sampled from {_kind(lm)} ({type(error).__name__}: {error!s:.200})",
            "its cache is not one of keys and values, which can be repeated for several samples; it"
            " cannot be used with this version of transformers",
        ) from error
    responses = Responses(prompts, sequences, mask, real, real.any(1), encoder.decode)
    return Sample(None, responses, list(prompts), drawn)


def row_logits(lm: nn.Module, ids: Tensor) -> Tensor:
    """Logits (S, V), at least float32, of one sequence (S,) by the plainest forward pass."""
    return at_least_float32(lm(input_ids=ids[None], use_cache=False).logits[0])


def depends_on_length(lm: nn.Module) -> bool:
    """Whether a model's rotary positions change with the length of a text."""
    text = plain(lm).config.get_text_config(decoder=True)
    return (getattr(text, "rope_parameters", None) or {}).get("rope_type") in LENGTH_ROPE


def _remedy(lm: nn.Module) -> str:
    """What can be done about a model that the sampler's cache does not serve."""
    if not depends_on_length(lm):
        return "It cannot be used with this version of transformers"
    text = plain(lm).config.get_text_config(decoder=True)
    rope = text.rope_parameters
    known = rope.get("original_max_position_embeddings") or text.max_position_embeddings
    return (
        f"Its rotary positions ({rope['rope_type']}) change for texts of more than {known} tokens,"
        " those before included; keep data.max_prompt_tokens + data.max_response_tokens within that"
    )


def _kind(lm: nn.Module) -> str:
    return type(plain(lm)).__name__
