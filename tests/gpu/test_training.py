"""Every algorithm samples and updates on a GPU, in float32 and in mixed precision."""

import math

import pytest
import torch

from tests.lightning_modules import tiny_runs

pytestmark = pytest.mark.gpu

ALGORITHMS = [
    ("reinforce", None, False),
    ("rloo", None, True),
    ("a2c", "head", False),
    ("a2c", "copy", True),
    ("ppo", "head", False),
    ("ppo", "head", True),
    ("ppo", "copy", False),
    ("ppo", "copy", True),
    ("ppo", "adapter", True),
]
# Of the first log-ratio: rounding of one precision.
ROUNDING = {"32-true": 1e-4, "bf16-mixed": 0.1}


@pytest.mark.parametrize("precision", ROUNDING)
@pytest.mark.parametrize(("algorithm", "critic", "lora"), ALGORITHMS)
def test_it_trains(ready, fit, tmp_path, algorithm, critic, lora, precision):
    module = ready(algorithm, lora=lora, **({"critic": critic} if critic else {}))
    before = tiny_runs.policy_and_values(module)
    rows = fit(module, tmp_path, precision=precision)
    after = tiny_runs.policy_and_values(module)
    assert len(rows) == 4
    for row in rows:
        numbers = {k: float(v) for k, v in row.items() if k != "train/explained_variance"}
        assert all(map(math.isfinite, numbers.values())), numbers
    for old, new in zip(before, after, strict=True):
        assert not len(old) or not torch.equal(old, new.cpu())
    assert "val/win_rate" in rows[-1]
    if module.options.epochs * module.options.minibatches == 1:
        assert abs(math.log(float(rows[0]["train/ratio_max"]))) < ROUNDING[precision]


@pytest.mark.parametrize("precision", ROUNDING)
def test_the_first_ratio_is_1_in_every_minibatch(ready, fit, tmp_path, precision):
    """With a learning rate of nothing, all of PPO's updates see the policy that sampled."""
    still = {"optimizer": tiny_runs.partial(torch.optim.SGD, lr=0.0)}
    module = ready("ppo", epochs=2, minibatches=2, micro_batch_size=3, **still)
    rows = fit(module, tmp_path, precision=precision)
    for row in rows:
        assert abs(math.log(float(row["train/ratio_max"]))) < ROUNDING[precision]
        assert float(row["train/clip_fraction"]) == 0


def test_adapters_learn_in_float32_on_a_bfloat16_base(ready, fit, tmp_path):
    module = ready("ppo", lora=True, critic="adapter", base=torch.bfloat16)
    base = {n: p.clone() for n, p in module.model.named_parameters() if not p.requires_grad}
    before = tiny_runs.policy_and_values(module)
    rows = fit(module, tmp_path, precision="bf16-mixed")
    assert abs(float(rows[0]["rollout/kl"])) < 0.1
    after = dict(module.model.named_parameters())
    assert all(torch.equal(after[name].cpu(), value) for name, value in base.items())
    assert {p.dtype for p in after.values() if p.requires_grad} == {torch.float32}
    for old, new in zip(before, tiny_runs.policy_and_values(module), strict=True):
        assert not torch.equal(old, new.cpu())


@pytest.mark.parametrize("deterministic", [None, "warn"])
@pytest.mark.parametrize("precision", ROUNDING)
@pytest.mark.parametrize(("critic", "lora"), [("head", False), ("adapter", True)])
def test_a_resumed_run_repeats_an_unbroken_one_to_the_bit(
    ready, fit, tmp_path, critic, lora, precision, deterministic
):
    options = {"precision": precision, "deterministic": deterministic}
    whole = fit(ready("ppo", critic=critic, lora=lora), tmp_path / "whole", **options)
    checkpoint = tmp_path / "whole" / "epoch=1.ckpt"
    again = ready("ppo", critic=critic, lora=lora)
    resumed = fit(again, tmp_path / "again", resume=checkpoint, **options)
    assert len(resumed) == 2
    assert _untimed(resumed) == _untimed(whole[2:])


def _untimed(rows: list[dict]) -> list[dict]:
    clock = ("time/", "throughput/")
    return [{k: str(v) for k, v in row.items() if not k.startswith(clock)} for row in rows]


@pytest.mark.parametrize("algorithm", ["reinforce", "ppo"])
def test_float32_runs_of_both_devices_stay_together(ready, fit, tmp_path, algorithm):
    there = fit(ready(algorithm), tmp_path / "there")
    here = tiny_runs.fit(ready(algorithm), tmp_path / "here")
    for a, b in zip(there, here, strict=True):
        for name in ("rollout/score", "rollout/kl", "rollout/entropy", "train/loss", "val/score"):
            if name in b:
                assert float(a[name]) == pytest.approx(float(b[name]), rel=1e-3, abs=1e-3), name
