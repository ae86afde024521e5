"""Options of every policy-gradient algorithm: what is refused, and by which name."""

from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lightning_modules.errors import OptionError
from lightning_modules.options.policies import AdaptiveBeta, PolicyOptions
from tests.exact.world import OPTIONS

OF_CRITICS = ("critic", "critic_warmup", "critic_from")
POLICY_YAML = Path(__file__).parents[3] / "conf" / "algo" / "base" / "policy.yaml"


def make(**options) -> PolicyOptions:
    return PolicyOptions(**OPTIONS | options)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *((name, 0) for name in ("iterations", "prompts_per_iteration", "samples_per_prompt")),
        *((name, 0) for name in ("epochs", "minibatches", "micro_batch_size")),
        ("micro_batch_tokens", "many"),
        *((name, 0) for name in ("evaluate_every", "val_prompts")),
        ("micro_batch_tokens", 0),
        *((name, -0.1) for name in ("beta", "missing_eos_penalty", "entropy_coef")),
        *((name, 0.0) for name in ("score_clip", "target_kl", "max_grad_norm", "value_lr")),
        *((name, -1.0) for name in ("score_clip", "target_kl", "max_grad_norm", "value_lr")),
        ("temperature", 0.0),
        ("gamma", 1.1),
        ("gamma", -0.1),
        ("critic", "none"),
        ("normalise", "batch"),
        ("lr_decay", "cosine"),
        ("minibatches", 2),
    ],
)
def test_nonsense_is_refused_by_name_and_value(option, value):
    with pytest.raises(OptionError, match=rf"^algo\.{option}={value}: must"):
        make(**{option: value})


@pytest.mark.parametrize(
    "option",
    [f.name for f in fields(PolicyOptions) if f.type in (float, float | None)],
)
def test_nan_is_refused_wherever_a_number_is_wanted(option):
    with pytest.raises(OptionError, match=rf"^algo\.{option}=nan"):
        make(**{option: float("nan")})


@pytest.mark.parametrize("option", ["target", "horizon"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan")])
def test_a_controller_of_beta_needs_a_target_and_a_horizon(option, value):
    with pytest.raises(OptionError, match=rf"^algo\.adaptive_beta\.{option}={value}: must"):
        AdaptiveBeta(**{"target": 6.0, "horizon": 1000.0} | {option: value})


def test_a_controller_cannot_change_a_beta_of_0():
    adaptive = AdaptiveBeta(6.0, 1000.0)
    with pytest.raises(OptionError, match=r"^algo\.beta=0\.0: .*algo\.adaptive_beta"):
        make(beta=0.0, adaptive_beta=adaptive)
    assert make(beta=0.1, adaptive_beta=adaptive).adaptive_beta is adaptive


def test_the_bounds_themselves_are_allowed():
    make(beta=0, missing_eos_penalty=0, entropy_coef=0, gamma=0)
    make(gamma=1, score_clip=None, target_kl=None, max_grad_norm=None, value_lr=None)
    for critic in (None, "head", "adapter", "copy"):
        make(critic=critic)


def test_an_iteration_has_its_prompts_times_their_samples():
    options = make(prompts_per_iteration=6, samples_per_prompt=4, minibatches=3)
    assert options.sequences_per_iteration == 24
    with pytest.raises(OptionError, match=r"minibatches=5: .* 24 .*\(6 prompts x 4 samples\)"):
        make(prompts_per_iteration=6, samples_per_prompt=4, minibatches=5)


def test_the_config_file_lists_every_option_and_the_same_defaults():
    """But for `name`, for what only an actor-critic has, and for the tokens of a micro-batch, which
    follow from data and model.
    """
    listed = OmegaConf.to_container(OmegaConf.load(POLICY_YAML), resolve=False)
    listed.pop("defaults")
    assert listed.keys() == {f.name for f in fields(PolicyOptions)} - {"name", *OF_CRITICS}
    defaults = {f.name: f.default for f in fields(PolicyOptions) if f.default is not MISSING}
    for name in (*OF_CRITICS, "micro_batch_tokens"):
        defaults.pop(name)
    assert defaults
    assert {name: listed[name] for name in defaults} == defaults
