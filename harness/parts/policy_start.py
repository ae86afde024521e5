"""`algo.policy_from`: what a policy begins as, found to fit before anything is trained."""

from peft import LoraConfig
from transformers import PretrainedConfig, PreTrainedModel

from harness.parts.adapter_shapes import new_shapes, shapes_in
from lightning_modules.errors import ModelError
from lightning_modules.models.loading import check_causal_lm
from lightning_modules.options.paths import policy_adapter
from lightning_modules.options.require import require

READS = "a run that has trained a policy, or the folder of a language model"


def start_config(policy_from: str) -> PretrainedConfig:
    """The config of what a policy begins as; ModelError if it is no language model."""
    try:
        return check_causal_lm(policy_from)
    except ModelError as error:
        raise ModelError(f"algo.policy_from: {error}; give {READS}") from error


def check_adapter_start(policy_from: str, lm: PreTrainedModel, lora: LoraConfig) -> None:
    """OptionError unless the adapter that is trained can begin as that of the run `policy_from`.
    `lm` is the policy without weights, of no use any more then.
    """
    folder = policy_adapter(policy_from)
    there = shapes_in(folder)

    def fits(ok: bool, rule: str) -> None:
        require(ok, "algo.policy_from", policy_from, rule)

    fits(
        there is not None,
        f"has no adapter (there is none in {folder}), and with an adapter the reference is the"
        " policy without it; train all weights (adapter=none), or give a run that has one",
    )
    fits(
        there == new_shapes(lm, lora),
        "has an adapter on other layers, or of another rank, than adapter.config says; see"
        f" {folder}",
    )
