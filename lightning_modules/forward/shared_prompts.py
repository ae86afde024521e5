"""Prompts that several responses continue go through a model once."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from lightning_modules.forward.passes import cache_name, last_hidden, plain, position_ids


class SharedPrompt(NamedTuple):
    """Prompts that several responses continue: ids and mask (G, P), padded on the left, and the
    prompt (R,) of each response.
    """

    ids: Tensor
    mask: Tensor
    owner: Tensor


def continued_hidden(
    model: nn.Module, prompt: SharedPrompt, response_ids: Tensor, response_mask: Tensor
) -> Tensor:
    """The backbone's last hidden states on responses (R, T, D), each after its prompt.

    The prompts' keys and values are computed once and lent to every response.
    """
    backbone = plain(model).base_model
    cache = DynamicCache()
    named = {cache_name(backbone): cache}
    backbone(
        input_ids=prompt.ids,
        attention_mask=prompt.mask,
        position_ids=position_ids(prompt.mask),
        use_cache=True,
        **named,
    )
    cache.batch_select_indices(prompt.owner)
    mask = torch.cat([prompt.mask[prompt.owner], response_mask], dim=1)
    return backbone(
        input_ids=response_ids,
        attention_mask=mask,
        position_ids=position_ids(mask)[:, prompt.ids.shape[1] :],
        use_cache=True,
        **named,
    ).last_hidden_state


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
        found = continued_hidden(model, prompt, response_ids, response_mask)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # each architecture has its own
        return float("inf")
    return float((found[response_mask.bool()] - expected).norm() / expected.norm())
