"""`algo.critic_from`: what a critic begins as, found to fit before anything is trained."""

import torch
from peft import LoraConfig, TaskType
from transformers import (
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from harness.parts.adapter_shapes import new_shapes, shapes_in
from lightning_modules.errors import ModelError
from lightning_modules.models.adapters import check_adapter
from lightning_modules.models.scalar import value_kind
from lightning_modules.models.scorers import check_scorer, head_in_files
from lightning_modules.options.paths import critic_folder, value_adapter
from lightning_modules.options.policies import PolicyOptions
from lightning_modules.options.require import require

READS = "a run of algo=ppo or algo=a2c, the folder of its critic/, or a reward model"


def start_config(critic_from: str) -> PretrainedConfig:
    """The config of what a critic begins as; ModelError if it is no value function."""
    try:
        return check_scorer(critic_folder(critic_from))
    except ModelError as error:
        raise ModelError(f"algo.critic_from: {error}; give {READS}") from error


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


def check_start(
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
        fits(
            shapes_in(value_adapter(path)) == new_shapes(lm, lora),
            "has an adapter on other layers, or of another rank, than adapter.config says;"
            f" see {value_adapter(path)}",
        )
