"""The base through a real Trainer, on models small enough to see everything."""

from copy import deepcopy
from functools import partial

import pytest
import pytorch_lightning as pl
import torch

from datamodules.prompts import PromptDataModule
from lightning_modules.actor_critic import ActorCritic, Reference
from lightning_modules.backbone import frozen, new_value_head
from lightning_modules.collection import Vocabulary
from lightning_modules.options import OptionError
from lightning_modules.policy import TrainingError
from lightning_modules.ppo import PPO
from lightning_modules.rewards.reward import Reward


class Length(Reward):
    """Longer is better, and no model is needed to say so."""

    def score(self, answers):
        return answers.response_mask.sum(-1).float()


class Broken(Reward):
    def score(self, answers):
        return torch.full((len(answers.prompts),), float("nan"))


OPTIONS = {
    "name": "ppo",
    "iterations": 2,
    "prompts_per_iteration": 8,
    "samples_per_prompt": 2,
    "epochs": 2,
    "minibatches": 2,
    "micro_batch_size": 3,
    "temperature": 0.9,
    "beta": 0.1,
    "gamma": 1.0,
    "lam": 0.95,
    "missing_eos_penalty": 0.0,
    "critic": "head",
    "normalise": "sequences",
    "max_grad_norm": 1.0,
    "optimizer": partial(torch.optim.SGD, lr=1e-2),
    "value_lr": None,
    "lr_decay": "none",
    "evaluate_every": 1,
    "val_prompts": 4,
    "seed": 0,
    "clip_range": 0.2,
    "value_clip_range": None,
    "value_coef": 0.1,
    "whiten_advantages": True,
}


@pytest.fixture
def fit(lm, encoder, world):
    """fit(**options) trains a fresh copy of the model and returns (module, metrics)."""

    def run(reward: Reward | None = None, **options) -> tuple[PPO, dict[str, float]]:
        torch.manual_seed(0)
        policy = deepcopy(lm)
        module = PPO(**OPTIONS | options).bind(
            model=ActorCritic(policy, new_value_head(policy), None),
            reference=Reference(frozen(deepcopy(lm)), shares_policy=False),
            reward=reward or Length(),
            vocabulary=Vocabulary(encoder.stop_id, encoder.pad_id, 8, encoder.decode),
            gold=None,
        )
        data = PromptDataModule(
            world, encoder, module.options.prompts_per_iteration, 4, 4, module.options.seed
        )
        trainer = pl.Trainer(
            max_epochs=module.options.iterations,
            limit_train_batches=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            log_every_n_steps=1,
            num_sanity_val_steps=0,
            inference_mode=False,
        )
        trainer.fit(module, datamodule=data)
        return module, {k: float(v) for k, v in trainer.callback_metrics.items()}

    return run


def weights(module: PPO) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.model.parameters()])


def test_micro_batches_and_their_size_change_no_result(fit):
    (a, metrics), (b, others) = (fit(micro_batch_size=size) for size in (3, 1000))
    assert torch.allclose(weights(a), weights(b), atol=2e-5)
    for name, value in metrics.items():
        if not name.startswith(("time/", "throughput/")):
            assert others[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


def test_one_step_on_a_rollout_is_on_policy(fit):
    """Dropout in the config, a temperature, ragged answers: the first ratio is 1 all the same."""
    _, metrics = fit(iterations=1, epochs=1, minibatches=1)
    assert metrics["train/ratio_max"] == pytest.approx(1, abs=1e-6)
    assert metrics["train/clip_fraction"] == metrics["train/ratio_outside"] == 0
    assert metrics["train/approx_kl"] == pytest.approx(0, abs=1e-9)
    assert metrics["rollout/kl"] == pytest.approx(0, abs=1e-4)


def test_several_steps_are_not(fit):
    _, metrics = fit(iterations=1)
    assert metrics["train/ratio_max"] > 1.0001
    assert metrics["train/approx_kl"] > 0


def test_nothing_is_ever_in_train_mode(fit):
    module, _ = fit()
    assert not any(m.training for m in module.modules())
    with module.collector.reference.active() as lm:
        assert not any(m.training for m in lm.modules())
        assert not any(p.requires_grad for p in lm.parameters())


def test_the_reference_does_not_move_and_the_policy_does(fit, lm):
    module, _ = fit()
    with module.collector.reference.active() as reference:
        for before, after in zip(lm.parameters(), reference.parameters(), strict=True):
            assert torch.equal(before, after)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(lm.parameters(), module.model.lm.parameters(), strict=True)
    )


def test_episodes_and_tokens_are_counted(fit):
    module, metrics = fit(iterations=3)
    assert module.episodes == 3 * 16 == metrics["rollout/episodes"]
    assert metrics["rollout/tokens"] <= 3 * 16 * 8


def test_the_penalty_of_answers_that_do_not_end_is_in_the_reward_and_not_in_the_score(fit):
    plain, _ = fit(iterations=1, beta=0.0)
    module, metrics = fit(iterations=1, beta=0.0, missing_eos_penalty=5.0)
    assert metrics["rollout/eos_rate"] < 1, "nothing was cut off, so nothing is tested"
    assert metrics["rollout/score"] == metrics["rollout/length"]
    assert not torch.allclose(weights(plain), weights(module))


def test_the_learning_rate_falls_to_its_last_share(fit):
    _, metrics = fit(iterations=4, lr_decay="linear")
    assert metrics["train/lr"] == pytest.approx(1e-2 / 4)


def test_gradients_are_clipped_to_the_norm_and_logged_before(fit):
    """One step of SGD moves the weights by lr times the clipped norm."""
    once = {"iterations": 1, "epochs": 1, "minibatches": 1}
    start, _ = fit(**once, optimizer=partial(torch.optim.SGD, lr=0.0))
    moved, metrics = fit(**once, max_grad_norm=0.01)
    assert metrics["train/grad_norm"] > 0.01
    distance = (weights(moved) - weights(start)).norm()
    assert float(distance) == pytest.approx(1e-2 * 0.01, rel=1e-2)


def test_a_gradient_that_is_not_finite_stops_the_run_with_the_reason(fit):
    with pytest.raises(TrainingError, match="iteration 1: the gradient is not finite"):
        fit(reward=Broken())


def test_minibatches_must_divide_what_a_device_has(fit):
    with pytest.raises(OptionError, match=r"algo\.minibatches=5"):
        fit(minibatches=5)
