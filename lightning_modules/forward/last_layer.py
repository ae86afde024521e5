"""The last layer of a model, computed only where somebody looks.

Of a prompt a policy's update reads no state but the last one. All layers below need its tokens, and
so do keys and values of the last layer; its queries, its feed-forward layer and their gradients
serve nobody. With three layers and prompts as long as responses that is a seventh of all products.

For any model whose layers take a cache of keys and values: the last layer begins with the first
places, and ends as soon as it has handed over their keys and values; then it goes on from there.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from lightning_modules.forward.checkpointing import stacks
from lightning_modules.forward.passes import cache_name, plain, position_ids, rounding_in

# Weights of a layer below which two calls of it take what they save.
FEW_WEIGHTS = 2**18
# What of a layer's arguments speaks of each place, and along which dimension.
PLACES = {"attention_mask": -2, "position_ids": -1, "position_embeddings": -2}

_able: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@contextmanager
def last_layer_from(model: nn.Module, start: int) -> Iterator[int]:
    """Within, the last hidden states of `model`, a language model or its backbone, are those of the
    places from `start` on, if it can do that and it is worth it.

    Yields how many places are left out: `start`, or 0.
    """
    layer = _last_layer(getattr(plain(model), "base_model", None))
    if start == 0 or layer is None or not _worth(layer) or not _can(model, layer):
        yield 0
        return
    with _from(layer, start):
        yield start


def read_until(skipped: int) -> int | None:
    """Where sequences end whose last token is only an action, and no state of it is read.

    Where the last layer is whole it is read too: for small models, whose recorded figures are those
    of gradients that were added up with it.
    """
    return -1 if skipped else None


def _last_layer(backbone: object) -> nn.Module | None:
    """None where it is not clear which it is."""
    found = list(stacks(backbone)) if isinstance(backbone, nn.Module) else []
    return found[0][-1] if len(found) == 1 else None


def _worth(layer: nn.Module) -> bool:
    return sum(p.numel() for p in layer.parameters()) >= FEW_WEIGHTS


@contextmanager
def _from(layer: nn.Module, start: int) -> Iterator[None]:
    layer.forward = partial(_in_two, layer.forward, cache_name(layer), start)
    try:
        yield
    finally:
        del layer.forward


class _Taken(Exception):
    """Keys and values are in the cache."""


class _Takes:
    """A cache whose layer ends where it has taken keys and values."""

    def __init__(self, cache: Any):
        self.cache = cache

    def update(self, *args: Any, **kwargs: Any) -> None:
        self.cache.update(*args, **kwargs)
        raise _Taken

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)


def _in_two(forward: Any, cache_is: str, start: int, states: Tensor, **given: Any) -> Tensor:
    """A layer's forward on states (B, S, D), of the places from `start` on."""
    cache, count = given.pop(cache_is, None), states.shape[1]
    if cache is None:
        cache = DynamicCache()
    if given.get("attention_mask") is None:
        causal = torch.ones(count, count, dtype=torch.bool, device=states.device).tril()
        given["attention_mask"] = causal[None, None]
    first, rest = slice(0, start), slice(start, count)
    with suppress(_Taken):
        forward(states[:, first], **_at(first, given), **{cache_is: _Takes(cache)})
    if start == count:
        return states[:, rest]
    return forward(states[:, rest], **_at(rest, given), **{cache_is: cache})


def _at(places: slice, given: dict[str, Any]) -> dict[str, Any]:
    """The same arguments for some places."""

    def cut(x: Any, dimension: int) -> Any:
        if isinstance(x, tuple | list):
            return type(x)(cut(part, dimension) for part in x)
        return x.movedim(dimension, 0)[places].movedim(0, dimension)

    return {k: x if x is None or k not in PLACES else cut(x, PLACES[k]) for k, x in given.items()}


def _can(model: nn.Module, layer: nn.Module) -> bool:
    """Whether the states are those of the whole layer; tried on the model once."""
    if layer not in _able:
        limit = rounding_in(model)
        _able[layer] = all(_gap(model, layer, padding) <= limit for padding in (0, 5))
    return _able[layer]


@torch.no_grad()
def _gap(model: nn.Module, layer: nn.Module, padding: int, start: int = 8) -> float:
    """How far they are from them on two rows, as a share of them, with `padding` on the left."""
    backbone, device = plain(model).base_model, next(layer.parameters()).device
    count = backbone.get_input_embeddings().weight.shape[0]
    ids = (torch.arange(24, device=device) * 7 % count).view(2, 12)
    mask = torch.arange(12, device=device) >= torch.tensor([[0], [padding]], device=device)
    given = {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": position_ids(mask),
        "use_cache": False,
    }
    try:
        whole = backbone(**given).last_hidden_state[:, start:]
        with _from(layer, start):
            late = backbone(**given).last_hidden_state
        return float((late - whole).norm() / whole.norm())
    except torch.OutOfMemoryError:
        raise
    except Exception:  # each architecture has its own
        return float("inf")
