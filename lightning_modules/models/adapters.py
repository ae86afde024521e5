"""LoRA adapters on a model: added, one put in the place of another, switched off, merged."""

import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from peft.tuners.lora import Linear
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.save_and_load import load_peft_weights, set_peft_model_state_dict
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lightning_modules.errors import OptionError
from lightning_modules.forward.on_cpu.products import use_onednn
from lightning_modules.forward.packed_parameters import is_packed, stands_for
from lightning_modules.forward.passes import plain
from lightning_modules.models.packed import unpacked
from lightning_modules.options.require import require

VALUE_ADAPTER = "value"
# The options that say which parts of a model are trained; NAMES hold ends of names, one each.
NAMES = ("target_modules", "target_parameters", "modules_to_save")
# A word of PEFT's, and the head of the reward models that are made of the model.
NOT_OF_THE_MODEL = ("all-linear", "score")
PLACES = (*NAMES, "exclude_modules", "layers_to_transform", "layers_pattern")


@contextmanager
def adapters_off(lm: PeftModel) -> Iterator[PeftModel]:
    """The model without its adapters: what it was before training."""
    with _kept_trainable(lm), lm.disable_adapter():
        yield lm


@contextmanager
def active_adapters(lm: PeftModel, *names: str) -> Iterator[PeftModel]:
    """The model with these adapters, which add up, in the place of what is on."""
    usual = lm.active_adapters
    with _kept_trainable(lm):
        lm.base_model.set_adapter(list(names))
    try:
        yield lm
    finally:
        with _kept_trainable(lm):
            lm.base_model.set_adapter(usual)


@contextmanager
def _kept_trainable(lm: nn.Module) -> Iterator[None]:
    """PEFT freezes the adapters that it switches off, and gradients of what was computed before
    would no longer find their parameters; those that it switches on it trains, frozen ones too.
    Here all stay as they were.
    """
    were = [(p, p.requires_grad) for p in lm.parameters()]
    try:
        yield
    finally:
        for parameter, trained in were:
            if parameter.requires_grad != trained:
                parameter.requires_grad_(trained)


def adapter_parameters(lm: PeftModel, name: str) -> list[nn.Parameter]:
    """The parameters of one of the model's LoRA adapters."""
    own = re.compile(rf"\.lora_\w+\.{re.escape(name)}(\.|$)")
    return [p for key, p in lm.named_parameters() if own.search(key)]


def add_adapter(model: PreTrainedModel, lora: LoraConfig, task: TaskType, seed: int) -> PeftModel:
    """`model` with LoRA adapters in its layers; all else is frozen.

    Towers that text never passes (of pictures, of sound) get none: they would never be trained.
    For a scorer, PEFT trains the scalar head as well and saves it with the adapter.
    """
    config = deepcopy(lora)
    config.task_type = task
    if towers := towers_without_text(model):
        config.exclude_modules = _excluding(config.exclude_modules, towers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with _clear_errors(model):
            adapted = get_peft_model(model, config)
    for parameter in adapted.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            # PEFT leaves the head in the base's bfloat16, in which small updates are lost.
            parameter.data = parameter.data.float()
    use_onednn(adapted)
    return adapted


def check_adapter(skeleton: PreTrainedModel, lora: LoraConfig, task: TaskType) -> None:
    """OptionError unless LoRA finds layers in a model, given as one on the meta device, which is
    of no use any more then. Of a causal LM, every name that the options give must be in it.
    """
    wanted = {name: deepcopy(getattr(lora, name)) for name in PLACES}  # PEFT adds to its lists
    if task == TaskType.CAUSAL_LM:
        modules = [name for name, _ in skeleton.named_modules()]
        parameters = [name for name, _ in skeleton.named_parameters()]
        for option, names in wanted.items():
            there = parameters if option == "target_parameters" else modules
            if isinstance(names, list | set) and option in NAMES:
                _require_all(option, names, there, skeleton)
    with torch.device("meta"), _clear_errors(skeleton):
        get_peft_model(skeleton, LoraConfig(task_type=task, r=lora.r, **wanted))


def _require_all(option: str, names: Iterable[str], there: list[str], model: nn.Module) -> None:
    for name in sorted(names):
        found = any(each == name or each.endswith(f".{name}") for each in there)
        known = sorted({each.rsplit(".", 1)[-1] for each in linear_layers(model)})
        require(
            found or name in NOT_OF_THE_MODEL,
            f"adapter.config.{option}",
            name,
            f"{type(model).__name__} has nothing of this name; its linear layers are"
            f" {', '.join(known)}",
        )


@contextmanager
def _clear_errors(model: nn.Module) -> Iterator[None]:
    """What PEFT says of options that do not suit a model, as an OptionError."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        kind = type(model).__name__
        raise OptionError(f"adapter.config: LoRA cannot be put on {kind}: {said:.300}") from error


def add_value_adapter(model: PeftModel, lora: LoraConfig, seed: int) -> None:
    """A second adapter on the policy's backbone, VALUE_ADAPTER, for a value head to read."""
    usual = model.active_adapter
    config = deepcopy(lora)
    config.task_type = TaskType.CAUSAL_LM
    config.exclude_modules = model.peft_config[usual].exclude_modules
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        put_beside(model, VALUE_ADAPTER, config, trained=True)


def put_beside(model: PeftModel, name: str, lora: LoraConfig, *, trained: bool) -> None:
    """One more adapter on the model, which is off until it is asked for by `active_adapters`."""
    with _kept_trainable(model):
        model.add_adapter(name, lora)
    use_onednn(model)
    for parameter in adapter_parameters(model, name):
        parameter.requires_grad_(trained)


def load_adapter(model: PeftModel, name: str, folder: Path) -> None:
    """Put the weights of an adapter in a folder, as PEFT writes it, into the one of this name."""
    set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"), name)


def frozen_embeddings(model: PeftModel) -> tuple[str, torch.Tensor] | None:
    """The weights of the tokens' embeddings and what a model without adapters calls them; None
    where an adapter changes them.
    """
    base = plain(model)
    weight = base.get_input_embeddings().weight
    names = [name for name, p in base.named_parameters() if p is weight and not p.requires_grad]
    return (names[0], weight) if names and "base_layer" not in names[0] else None


@torch.no_grad()
def merged(model: nn.Module, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A plain Hugging Face model with the adapters that are on folded into a copy of its weights,
    in the host's memory; without adapters, the model itself.

    Sums are float32 (float64 of such weights): in 16 bits much of what was learnt would be rounded
    away. With a `dtype` of 16 bits they are rounded then, each layer before the next is copied.
    """
    if not isinstance(model, PeftModel):
        return model if dtype == torch.float32 else _rounded(_copied(model, {}), dtype)
    packed = any(map(is_packed, model.parameters()))
    copies: dict[int, Any] = {}
    for layer in model.modules():  # one that holds others comes before them
        if isinstance(layer, BaseTunerLayer) and id(layer) not in copies:
            folded = _copied(layer, copies)
            _fold_in(folded, packed)
            _rounded(folded, dtype)
    whole = _copied(model, copies)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All adapters are already merged")
        plain = whole.merge_and_unload()
    return _rounded(unpacked(plain, dtype) if packed else plain, dtype)


def _copied(model: nn.Module, copies: dict[int, Any]) -> nn.Module:
    """A deep copy in the host's memory, its weights in float32 or more; `copies`, by the ids of
    what they are copies of, are taken where they are there, and it adds to them.
    """
    for x in (*model.parameters(), *model.buffers()):
        if id(x) not in copies:
            held = stands_for(x)
            wide = torch.promote_types(held.dtype, torch.float32)
            copy = held.to("cpu", wide if held.is_floating_point() else held.dtype, copy=True)
            of_weights = isinstance(x, nn.Parameter)
            copies[id(x)] = nn.Parameter(copy, requires_grad=False) if of_weights else copy
    return deepcopy(model, copies)


def _fold_in(layer: nn.Module, packed: bool) -> None:
    """Merge the adapters of a layer, and of those in it; `packed`: its weights were."""
    for part in layer.modules():
        if isinstance(part, BaseTunerLayer) and not part.merged:
            # What PEFT has for packed layers would pack the sum again.
            merge = Linear.merge if packed else type(part).merge
            merge(part)


def _rounded(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    return model if dtype == torch.float32 else model.to(dtype)


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that LoRA can go into, by name."""
    return {n: m for n, m in plain(model).named_modules() if isinstance(m, nn.Linear | Conv1D)}


@torch.no_grad()
def towers_without_text(model: PreTrainedModel) -> list[str]:
    """The parts of a model of text and more, none of whose layers sees a token of text; each by the
    shortest name that has no other layers below it.

    Layers that differ in a number are one part: a token need not see every expert.
    """
    if model.config.get_text_config() is model.config:
        return []
    layers, seen = linear_layers(model), set()
    hooks = [
        layer.register_forward_pre_hook(lambda *_, name=name: seen.update(_places(name)))
        for name, layer in layers.items()
    ]
    try:
        model(input_ids=torch.zeros(1, 1, dtype=torch.long, device=model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    unseen = ([place for place in _places(name) if place not in seen] for name in layers)
    return sorted({places[0] for places in unseen if places})


def _places(name: str) -> list[str]:
    """What a layer is in, from the outside in, as far as the first number in its name."""
    parts = re.split(r"\.\d+(?=\.|$)", name)[0].split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _excluding(given: str | list[str] | None, towers: list[str]) -> str:
    """PEFT's pattern of names that get no adapter: what was given already, and the towers."""
    if not isinstance(given, str):  # names, or their ends
        given = "|".join(rf"(.*\.)?{re.escape(name)}" for name in given or ())
    inside = "|".join(rf"{re.escape(tower)}(\..*)?" for tower in towers)
    return f"{given}|{inside}" if given else inside


def training_notes(model: nn.Module) -> list[str]:
    """What a person should know of which parts of a model are trained; a line each."""
    notes = []
    if isinstance(model, PeftModel) and (towers := towers_without_text(plain(model))):
        notes.append(f"LoRA leaves out what text never passes: {', '.join(towers)}")
    experts = [
        re.sub(r"(\.base_layer)+$", "", name)
        for name, module in plain(model).named_modules()
        if "Experts" in type(module).__name__ or name.endswith(".experts")
    ]
    if experts:
        trained = [name for name, p in plain(model).named_parameters() if p.requires_grad]
        kinds = {
            "experts": any(name.startswith(f"{e}.") for name in trained for e in experts),
            "routers": any(re.search(r"\.(\w+_)?(gate|router)\.", name) for name in trained),
        }
        said = " and ".join(f"its {k} are{'' if on else ' not'} trained" for k, on in kinds.items())
        notes.append(f"a mixture of experts: {said}")
    return notes
