"""What a policy or its critic begins as (`algo.policy_from`, `algo.critic_from`): found to fit
before anything is trained.
"""

from pathlib import Path

import torch
from peft import LoraConfig, TaskType, get_peft_model
from peft.utils.save_and_load import get_peft_model_state_dict
from safetensors import safe_open
from transformers import (
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lightning_modules.errors import ModelError
from lightning_modules.models.adapters import check_adapter
from lightning_modules.models.loading import check_attention, check_causal_lm
from lightning_modules.models.scalar import value_kind
from lightning_modules.models.scorers import check_scorer, head_in_files
from lightning_modules.models.usable import require_positions
from lightning_modules.options.paths import critic_folder, policy_adapter, value_adapter
from lightning_modules.options.policies import PolicyOptions
from lightning_modules.options.require import require

WEIGHTS = "adapter_model.safetensors"
POLICIES = "a run that has trained a policy, or the folder of a language model"
CRITICS = "a run of algo=ppo or algo=a2c, the folder of its critic/, or a reward model"
OTHER_ADAPTER = "has an adapter on other layers, or of another rank, than adapter.config says; see"


def check_policy(policy_from: str, tokens: int, attention: str | None) -> None:
    """ModelError or OptionError unless a policy can begin as `policy_from`: a language model that
    reads so many tokens, by this attention.
    """
    try:
        config = check_causal_lm(policy_from)
    except ModelError as error:
        raise ModelError(f"algo.policy_from: {error}; give {POLICIES}") from error
    require_positions(config, tokens, f"algo.policy_from={policy_from}")
    check_attention(config, attention, policy_from)


def critic_config(critic_from: str) -> PretrainedConfig:
    """The config of what a critic begins as; ModelError if it is no value function."""
    try:
        return check_scorer(critic_folder(critic_from))
    except ModelError as error:
        raise ModelError(f"algo.critic_from: {error}; give {CRITICS}") from error


def require_same_tokens(
    option: str, value: str, policys: PreTrainedTokenizerBase, its: PreTrainedTokenizerBase
) -> None:
    """OptionError unless every token of the policy has the same id for what it or its critic begins
    as, which may have a padding token more; `option` gave that.
    """
    others = its.get_vocab()
    differing = [token for token, i in policys.get_vocab().items() if others.get(token) != i]
    require(
        not differing,
        option,
        value,
        f"has another tokenizer than the policy: {len(differing):,} of the policy's tokens have no"
        " or another id there",
    )


def check_policy_adapter(policy_from: str, lm: PreTrainedModel, lora: LoraConfig) -> None:
    """OptionError unless the adapter that is trained can begin as that of the run `policy_from`.
    `lm` is the policy without weights, of no use any more then.
    """
    folder = policy_adapter(policy_from)
    there = _shapes_in(folder)

    def fits(ok: bool, rule: str) -> None:
        require(ok, "algo.policy_from", policy_from, rule)

    fits(
        there is not None,
        f"has no adapter (there is none in {folder}), and with an adapter the reference is the"
        " policy without it; train all weights (adapter=none), or give a run that has one",
    )
    fits(there == _new_shapes(lm, lora), f"{OTHER_ADAPTER} {folder}")


def check_critic(
    options: PolicyOptions, config: PretrainedConfig, lm: PreTrainedModel, lora: LoraConfig | None
) -> None:
    """OptionError unless the critic of `options` can begin as its `critic_from`, whose config is
    given. `lm` is the policy without weights, of no use any more then.
    """
    if options.critic == "copy":
        if lora:
            with torch.device("meta"):
                scorer = AutoModelForSequenceClassification.from_config(config)
            check_adapter(scorer, lora, TaskType.SEQ_CLS)
        return
    path, kind = critic_folder(options.critic_from), value_kind(config)

    def fits(ok: bool, rule: str) -> None:
        require(ok, "algo.critic_from", options.critic_from, rule)

    what = f"a value function of algo.critic={kind}" if kind else "a reward model"
    fits(
        kind == options.critic,
        f"is {what}, and algo.critic={options.critic} reads other hidden states;"
        " algo.critic=copy may begin as any",
    )
    width, own = head_in_files(path).shape[-1], lm.get_output_embeddings().weight.shape[-1]
    fits(width == own, f"reads hidden states of size {width}, and the policy's have {own}")
    if options.critic == "adapter":
        folder = value_adapter(path)
        fits(_shapes_in(folder) == _new_shapes(lm, lora), f"{OTHER_ADAPTER} {folder}")


def _shapes_in(folder: Path) -> dict[str, list[int]] | None:
    if not (folder / WEIGHTS).is_file():
        return None
    with safe_open(folder / WEIGHTS, "pt") as weights:
        return {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118


def _new_shapes(lm: PreTrainedModel, lora: LoraConfig) -> dict[str, list[int]]:
    with torch.device("meta"):
        state = get_peft_model_state_dict(get_peft_model(lm, lora))
    return {name: list(x.shape) for name, x in state.items()}
