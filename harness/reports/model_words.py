"""The models of a run in words: what each is, how large, and what of it is trained."""

from collections import Counter
from collections.abc import Iterable, Mapping

from peft import PeftModel
from torch import nn

from harness.runs.stages import Stage
from lightning_modules.forward.packed_parameters import is_packed, numbers
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.adapters import adapter_parameters
from lightning_modules.models.reference import Reference
from lightning_modules.models.scalar import AdapterScalar
from lightning_modules.rewards.combined import CombinedReward
from lightning_modules.rewards.learned import LearnedReward, ModelReward
from lightning_modules.rewards.reward import Reward


def short(count: int) -> str:
    """960, 1.1M, 8.0B."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= 0.99995 * size:
            return f"{count / size:.1f}{letter}"
    return str(count)


def counted(count: int, what: str) -> str:
    """`1 step`, `2 minibatches`."""
    ending = "es" if what.endswith("batch") else "s"
    return f"{count:,} {what}{'' if count == 1 else ending}"


def model_words(model: nn.Module, name: str) -> str:
    """`SmolLM2-135M, 134.5M parameters, LoRA r=16: 4.9M trained, bfloat16, in float32`, and so on;
    the parameters of adapters are not among the model's.
    """
    adapters = next((m for m in model.modules() if isinstance(m, PeftModel)), None)
    return _words(name, dict(model.named_parameters()), adapters)


def policy_words(model: ActorCritic, name: str) -> str:
    """The same of a policy, whose weights may have an adapter of the value function."""
    of_values = {id(parameter) for parameter in model.value_parameters()}
    own = {k: p for k, p in model.lm.named_parameters() if id(p) not in of_values}
    return _words(name, own, model.lm if isinstance(model.lm, PeftModel) else None)


def _words(name: str, parameters: Mapping[str, nn.Parameter], adapters: PeftModel | None) -> str:
    total = sum(numbers(p) for key, p in parameters.items() if ".lora_" not in key)
    trained = sum(p.numel() for p in parameters.values() if p.requires_grad)
    parts = [name, f"{short(total)} parameters"]
    if adapters is not None:
        parts.append(f"LoRA r={adapters.active_peft_config.r}: {short(trained)} trained")
    elif trained == total:
        parts.append("all trained")
    elif trained:
        parts.append(f"{short(trained)} of them trained")
    return ", ".join([*parts, _dtypes(parameters.values())])


def _dtypes(parameters: Iterable[nn.Parameter]) -> str:
    """`float32`, or that of what is frozen and that of what is trained; each that of most numbers,
    as norms, heads and other roles' adapters may be kept in more digits than the rest.
    """
    kinds: dict[bool, Counter[str]] = {}
    for parameter in parameters:
        name = "4 bits" if is_packed(parameter) else str(parameter.dtype).removeprefix("torch.")
        kinds.setdefault(parameter.requires_grad, Counter())[name] += numbers(parameter)
    names = {trained: counts.most_common(1)[0][0] for trained, counts in kinds.items()}
    if len(set(names.values())) > 1:
        return f"{names[False]}, what is trained {names[True]}"
    return next(iter(names.values()), "no parameters")


def reference_words(reference: Reference, start: str, begun: str | None = None) -> str:
    """`start`: where the reference comes from; `begun`: where the policy does, if not there."""
    if reference.shares_policy:
        return f"the same with its adapters off: {start}"
    with reference.active() as lm:
        held = _dtypes(lm.parameters())
    what = "a frozen model" if begun else "a frozen copy of what the policy begins as"
    return f"{what}: {start}, {held}"


def critic_words(model: ActorCritic, start: str, begun: str | None) -> str | None:
    """What the value function is; None if there is none. `start`: from what a copy is made;
    `begun`: the value function that it begins as in the place of that, or of a new head.
    """
    if isinstance(model.critic, AdapterScalar):
        return f"{_on_the_policy(model.critic)}, begun as {start}, {_own(model)} trained"
    if model.critic is not None:
        return model_words(model.critic, f"a network of its own, made of {begun or start}")
    if model.value_head is None:
        return None
    as_ = f", begun as {begun}" if begun else ""
    if model.value_adapter is None:
        return f"a linear head on the policy's hidden states{as_}"
    own = f"an adapter of its own, {_own(model)} trained"
    return f"a linear head on the policy's weights with {own}{as_}"


def _own(model: ActorCritic) -> str:
    """How many parameters the value function's adapter has."""
    return short(sum(p.numel() for p in adapter_parameters(model.lm, model.value_adapter)))


def _on_the_policy(model: AdapterScalar) -> str:
    return f"a head on the policy's weights with {counted(len(model.adapters), 'adapter')}"


def reward_words(reward: Reward, data: str, stages: Mapping[str, Stage]) -> str:
    """What gives the score, once its models are loaded; `data` is what they were trained on."""
    if isinstance(reward, CombinedReward):
        parts = reward.rewards.items()
        return " + ".join(
            f"{reward.weights[name]:g} x {reward_words(part, data, stages)}" for name, part in parts
        )
    if reward.words:
        return reward.words
    if not isinstance(reward, ModelReward):
        return f"{reward.name}, which {data} knows"
    name = getattr(reward.options, "path", None) or f"a reward model trained here on {data}"
    model = reward.scorer.model
    on_policy = isinstance(model, AdapterScalar)
    words = f"{name}, {_on_the_policy(model)}" if on_policy else model_words(model, name)
    heads = model.heads_count
    if heads > 1:
        words += f", {heads} heads"
    stage = stages.get("reward_model")
    if isinstance(reward, LearnedReward) and stage and "val/accuracy" in stage.summary:
        words += f", held-out accuracy {stage.summary['val/accuracy']:.3f}"
    if isinstance(reward, LearnedReward) and stage and "val/thumbs_auc" in stage.summary:
        words += f", held-out AUC of thumbs {stage.summary['val/thumbs_auc']:.3f}"
    return words
