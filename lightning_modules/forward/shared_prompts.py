"""Prompts that several responses continue go through a model once."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from lightning_modules.forward.last_layer import last_layer_from
from lightning_modules.forward.passes import (
    cache_name,
    last_hidden,
    plain,
    position_ids,
    rounding_in,
)


class SharedPrompt(NamedTuple):
    """Prompts that several responses continue: ids and mask (G, P), padded on the left, and the
    prompt (R,) of each response.
    """

    ids: Tensor
    mask: Tensor
    owner: Tensor


def shared_prompt(
    prompt_ids: Tensor, prompt_mask: Tensor, prompt_of: Tensor | None
) -> SharedPrompt | None:
    """The prompts (B, P) of rows, each once, where `prompt_of` (B,) numbers the prompt of each row;
    None where no two rows have the same, or where that is not known.
    """
    if prompt_of is None or prompt_ids.shape[1] < 2:
        return None
    numbers, owner, counts = prompt_of.unique(return_inverse=True, return_counts=True)
    if len(numbers) == len(prompt_of):
        return None
    first = owner.argsort(stable=True)[counts.cumsum(0) - counts]
    return SharedPrompt(prompt_ids[first], prompt_mask[first], owner)


def read_for_states(
    prompt: SharedPrompt, sequences: Tensor, response_mask: Tensor
) -> tuple[Tensor, Tensor, SharedPrompt]:
    """What each row of `sequences` (B, P+T) reads, ids and mask (B, T), after what is read once,
    so that s_0 .. s_{T-1} are its states: the last token of its prompt, and its response but for
    the last token.
    """
    width = prompt.ids.shape[1]
    before = SharedPrompt(prompt.ids[:, :-1], prompt.mask[:, :-1], prompt.owner)
    real = torch.ones_like(response_mask[:, :1])
    mask = torch.cat([real, response_mask[:, :-1]], dim=1)
    return sequences[:, width - 1 : -1], mask, before


def continuing(
    called: nn.Module, prompt: SharedPrompt, ids: Tensor, mask: Tensor
) -> dict[str, Any]:
    """What `called`, a language model or its backbone, is given so that it reads `ids` (R, T), each
    after its prompt: the prompts go through it here, once, and their keys and values are lent.
    """
    backbone, cache = plain(called).base_model, DynamicCache()
    with last_layer_from(backbone, prompt.ids.shape[1]):  # of no place: nobody reads their states
        backbone(
            input_ids=prompt.ids,
            attention_mask=prompt.mask,
            position_ids=position_ids(prompt.mask),
            use_cache=True,
            **{cache_name(backbone): cache},
        )
    cache.reorder_cache(prompt.owner)
    whole = torch.cat([prompt.mask[prompt.owner], mask], dim=1)
    return {
        "input_ids": ids,
        "attention_mask": whole,
        "position_ids": position_ids(whole)[:, prompt.ids.shape[1] :],
        "use_cache": True,
        cache_name(called): cache,
    }


def hidden_states(
    model: nn.Module, ids: Tensor, mask: Tensor, prompt: SharedPrompt | None = None
) -> Tensor:
    """The backbone's last hidden states on `ids` (R, T, D), each row after its prompt if given."""
    if prompt is None:
        return last_hidden(model, ids, mask)
    backbone = plain(model).base_model
    return backbone(**continuing(backbone, prompt, ids, mask)).last_hidden_state


def joined(
    prompt: SharedPrompt, response_ids: Tensor, response_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Each response after its prompt, ids and mask (R, S), padded on the right."""
    ids = torch.cat([prompt.ids[prompt.owner], response_ids], dim=1)
    mask = torch.cat([prompt.mask[prompt.owner], response_mask], dim=1)
    real_first = (~mask.bool()).long().argsort(dim=1, stable=True)
    width = int(mask.sum(1).max())
    return ids.gather(1, real_first)[:, :width], mask.gather(1, real_first)[:, :width]


@torch.no_grad()
def continues_prompts(
    model: nn.Module, prompt: SharedPrompt, response_ids: Tensor, response_mask: Tensor
) -> float:
    """How far hidden states after shared prompts are from those of whole sequences, as a share of
    these; infinite where the backbone cannot go on from a cache of keys and values.

    Models with states of another kind (state spaces, linear attention) and a few old ones cannot.
    """
    ids, mask = joined(prompt, response_ids, response_mask)
    last = mask.sum(1) - response_mask.sum(1)
    places = last[:, None] + torch.arange(response_ids.shape[1], device=ids.device)
    whole = last_hidden(model, ids, mask)
    rows = torch.arange(len(ids), device=ids.device)[:, None]
    expected = whole[rows, places.clamp(max=ids.shape[1] - 1)][response_mask.bool()]
    try:
        found = hidden_states(model, response_ids, response_mask, prompt)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # each architecture has its own
        return float("inf")
    return float((found[response_mask.bool()] - expected).norm() / expected.norm())


def can_share_prompts(model: nn.Module) -> bool:
    """Whether a model says the same after a shared prompt as of whole sequences: tried on a few."""
    device, count = model.device, plain(model).get_input_embeddings().weight.shape[0]
    ids = (torch.arange(24, device=device) * 7 % count).view(2, 12)
    mask = torch.arange(12, device=device) >= torch.tensor([[0], [5]], device=device)
    prompt = SharedPrompt(ids[:, :8], mask[:, :8], torch.tensor([0, 0, 1], device=device))
    responses = ids[:1, 5:].expand(3, -1)
    lengths = torch.tensor([[7], [2], [4]], device=device)
    gap = continues_prompts(model, prompt, responses, torch.arange(7, device=device) < lengths)
    return gap <= rounding_in(model)
