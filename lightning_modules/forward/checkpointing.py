"""Activation checkpointing (Chen et al. 2016): what a layer computes on the way is not kept for the
backward pass but computed again in it, from the layer's input.

The switch of Transformers does nothing in evaluation mode, in which policies are trained, and says
so to nobody. Here it holds wherever gradients are computed. The last layer of a stack is left as it
is: the backward pass begins there, so that nothing would be gained by computing it twice.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from copy import copy
from functools import partial
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer
from transformers.modeling_layers import GradientCheckpointingLayer

from lightning_modules.errors import ModelError


def can_checkpoint(model: nn.Module) -> bool:
    """Whether a model, or one of the models in it, has layers that can be computed again."""
    return depth(model) > 0


def set_checkpointing(model: nn.Module, on: bool, kept: int = 1) -> None:
    """Let the layers of all models in `model` be computed again in the backward pass, but for the
    last `kept` ones of each stack, or no more.

    Names of weights stay as they are, and copies of the model do the same. ModelError if there is
    no such layer.
    """
    if on and not can_checkpoint(model):
        kinds = {type(m).__name__ for m in model.modules() if hasattr(m, "config")}
        raise ModelError(
            f"hardware.checkpointing=true: {', '.join(sorted(kinds)) or type(model).__name__} has"
            " no layers that Transformers can compute again; use hardware.checkpointing=false"
        )
    for stack in stacks(model):
        for i, layer in enumerate(stack):
            layer.__dict__.pop("forward", None)
            if on and i < len(stack) - kept:
                layer.forward = partial(_checkpointed, layer)


def depth(model: nn.Module) -> int:
    """How many layers that can be computed again the longest stack has."""
    return max(map(len, stacks(model)), default=0)


def is_checkpointed(model: nn.Module) -> bool:
    """Whether layers are computed again."""
    return any("forward" in layer.__dict__ for stack in stacks(model) for layer in stack)


def stacks(module: nn.Module) -> Iterator[list[nn.Module]]:
    """The layers below a module that stand beside each other; not those within a layer."""
    layers = [child for child in module.children() if isinstance(child, GradientCheckpointingLayer)]
    if layers:
        yield layers
    for child in module.children():
        if not isinstance(child, GradientCheckpointingLayer):
            yield from stacks(child)


def _checkpointed(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """A layer's forward in whose backward pass it is computed once more."""
    forward = partial(type(layer).forward, layer)
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    cache = next((x for x in (*args, *kwargs.values()) if isinstance(x, Cache)), None)
    if cache is not None:
        index = _place_in(cache, layer)
        if index is None:
            return forward(*args, **kwargs)
        forward = _with_cache_as_it_was(forward, cache, index)
        args = [_CACHE if x is cache else x for x in args]
        kwargs = {name: _CACHE if x is cache else x for name, x in kwargs.items()}
    return checkpoint(
        forward,
        *args,
        use_reentrant=False,
        preserve_rng_state=layer.training,  # of dropout
        context_fn=lambda: (nullcontext(), _AdaptersAsNow(layer)),
        **kwargs,
    )


# -- adapters -------------------------------------------------------------------------------------


class _AdaptersAsNow:
    """A context in which those adapters of a layer are on that are on now.

    Another one may be on when the backward pass comes: the value function's adapter is put in the
    place of the policy's for one forward pass. PEFT's own way to switch them would also freeze
    parameters.
    """

    def __init__(self, layer: nn.Module):
        self.modules = [
            module
            for module in layer.modules()
            if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)
        ]
        self.states = self._read()

    def _read(self) -> list[tuple[Any, bool]]:
        return [(module._active_adapter, module._disable_adapters) for module in self.modules]

    def _exchange(self) -> None:
        now = self._read()
        for module, state in zip(self.modules, self.states, strict=True):
            module._active_adapter, module._disable_adapters = state
        self.states = now

    def __enter__(self) -> None:
        self._exchange()

    def __exit__(self, *_: Any) -> None:
        self._exchange()


# -- caches ---------------------------------------------------------------------------------------

_CACHE = object()  # stands for it in arguments, which are kept


def _place_in(cache: Cache, layer: nn.Module) -> int | None:
    """Which layer of the cache a layer of the model writes; None where a cache cannot be put back:
    it has other states than keys and values, or layers read those of others.
    """
    plain = type(cache) is DynamicCache and vars(cache).keys() == vars(DynamicCache()).keys()
    places = {module.layer_idx for module in layer.modules() if hasattr(module, "layer_idx")}
    if not plain or len(places) != 1 or any(type(x) is not DynamicLayer for x in cache.layers):
        return None
    return places.pop()


def _with_cache_as_it_was(
    forward: Callable[..., Any], cache: Cache, index: int
) -> Callable[..., Any]:
    """`forward` with the cache the first time, which grows by it; after that, with copies of what
    this layer of the cache was before.

    Of the other layers nothing is kept, which would hold the memory that is to be saved.
    """
    before = copy(cache.layers[index]) if index < len(cache.layers) else DynamicLayer()
    first = [cache]

    def run(*args: Any, **kwargs: Any) -> Any:
        if first:
            given = first.pop()
        else:
            given = DynamicCache()
            given.layers = [None] * index + [copy(before)]
        return forward(
            *(given if x is _CACHE else x for x in args),
            **{name: given if x is _CACHE else x for name, x in kwargs.items()},
        )

    return run
