"""Learning rates that suit a pretrained model, by its number of parameters.

Peak rates for Adam, of full fine-tuning and of LoRA (all linear layers, alpha / r = 2); what is
between two sizes of the table is interpolated, logarithm over logarithm.

Where they come from:

- Full fine-tuning by policy gradients: recipes for 1B to 8B lie between 5e-7 (OpenRLHF, Llama 3 8B)
  and 3e-6 (Huang et al. 2024, Pythia 1B). Smaller models bear more.
- LoRA: its best rates are about ten times those of full fine-tuning, and more in short runs
  (Schulman et al. 2025, "LoRA Without Regret"), at any rank; 2e-4 is usual for supervised
  fine-tuning. The runs here are short: hundreds of steps, not thousands. With SmolLM2-135M, 16
  responses an iteration and 8 iterations, 5e-5 left the policy where it was (a KL of 0.02 nats a
  response of 24 tokens) and 5e-4 moved it (2.0 nats). Long runs want less.
- One update on a rollout bears about three times the rate of several.
- At a million parameters and below: less than what the project's toys of that size take. A toy has
  just been trained here; another small model may be far more certain, and breaks at such rates.
"""

import math
from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class LearningRates:
    """Peak rates by task; `policy` for several updates on a rollout."""

    sft: float
    reward_model: float
    policy: float
    policy_one_update: float


FULL = {
    1e6: LearningRates(1e-3, 5e-4, 1e-4, 3e-4),
    135e6: LearningRates(1e-5, 1e-5, 5e-6, 1.5e-5),
    5e8: LearningRates(1e-5, 1e-5, 2e-6, 6e-6),
    1e9: LearningRates(1e-5, 1e-5, 1e-6, 3e-6),
    8e9: LearningRates(1e-5, 1e-5, 1e-6, 3e-6),
}
LORA = {
    1e6: LearningRates(5e-3, 2e-3, 1e-3, 3e-3),
    135e6: LearningRates(5e-4, 5e-4, 5e-4, 1.5e-3),
    1e9: LearningRates(2e-4, 2e-4, 2e-4, 6e-4),
    8e9: LearningRates(1e-4, 1e-4, 1e-4, 3e-4),
}


def suited_rates(parameters: int, *, lora: bool) -> LearningRates:
    """The rates for a model of so many parameters, in two digits."""
    table = LORA if lora else FULL
    smallest, *_, largest = table
    size = min(max(parameters, smallest), largest)
    below = max(anchor for anchor in table if anchor <= size)
    above = min(anchor for anchor in table if anchor >= size)
    share = math.log(size / below) / math.log(above / below) if above > below else 0.0
    pairs = zip(astuple(table[below]), astuple(table[above]), strict=True)
    return LearningRates(*(float(f"{low * (high / low) ** share:.1e}") for low, high in pairs))
