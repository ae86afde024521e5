"""The base through a real Trainer, on models small enough to see everything."""

from copy import deepcopy
from functools import partial

import pytest
import pytorch_lightning as pl
import torch

from datamodules.prompts import PromptDataModule
from lightning_modules.errors import OptionError, TrainingError
from lightning_modules.models.actor_critic import ActorCritic, new_value_head
from lightning_modules.models.parameters import frozen
from lightning_modules.models.reference import Reference
from lightning_modules.objectives.divergences import adapted_beta
from lightning_modules.objectives.masked import masked_sum, one_process
from lightning_modules.ppo import PPO
from lightning_modules.rewards.reward import Reward
from lightning_modules.rewards.shaping import ScoreShaping
from lightning_modules.rollouts.collection import Vocabulary
from lightning_modules.rollouts.sampler import Sampler
from lightning_modules.rollouts.static_cache import EXACT, FIXED
from tests.exact.world import log_probabilities, tiny_lm
from tests.lightning_modules import tiny_runs
from tests.lightning_modules.tiny_runs import Constant, make, policy_and_values, ready
from tests.tolerances import of_model


class Length(Reward):
    """Longer is better, and no model is needed to say so."""

    def score(self, responses):
        return responses.response_mask.sum(-1).float()


class Broken(Reward):
    def score(self, responses):
        return torch.full((len(responses.prompts),), float("inf"))


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
            vocabulary=Vocabulary(encoder.stop_ids, encoder.pad_id, 8, encoder.decode),
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


def test_micro_batches_and_their_size_change_no_result(fit, lm):
    """Rounding aside: what a log-probability is off by is also the share its gradient is off by."""
    (a, metrics), (b, others) = (fit(micro_batch_size=size) for size in (3, 1000))
    start, _ = fit(iterations=1, optimizer=partial(torch.optim.SGD, lr=0.0))
    tolerance = 3 * of_model(lm)  # forwards, backwards to what came in, and to the weights
    assert (weights(a) - weights(b)).norm() <= tolerance * (weights(a) - weights(start)).norm()
    for name, value in metrics.items():
        if not name.startswith(("time/", "throughput/")):
            assert others[name] == pytest.approx(value, rel=tolerance, abs=tolerance), name


def test_one_step_on_a_rollout_is_on_policy(fit, lm):
    """Dropout in the config, a temperature, ragged responses: the first ratio is 1 all the same."""
    _, metrics = fit(iterations=1, epochs=1, minibatches=1)
    tolerance = of_model(lm)  # of a log-ratio d; k3 is d^2 / 2
    assert metrics["train/ratio_max"] == pytest.approx(1, abs=tolerance)
    assert metrics["train/clip_fraction"] == metrics["train/ratio_outside"] == 0
    assert metrics["train/approx_kl"] == pytest.approx(0, abs=tolerance**2)
    assert metrics["rollout/kl"] == pytest.approx(0, abs=metrics["rollout/length"] * tolerance)


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


def test_the_penalty_of_responses_that_do_not_end_is_in_the_reward_and_not_in_the_score(fit):
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


# -- options of the base, in the world of 121 responses -------------------------------------------

BETA = 0.3
SHAPING = {"normalise_scores": True, "score_clip": 0.8, "missing_eos_penalty": 2.0}
CRITICS = [(None, False), ("head", False), ("copy", False)]
CRITICS += [(None, True), ("head", True), ("adapter", True), ("copy", True)]
# Every algorithm, every critic, every option that has a state.
COMBINATIONS = [
    ("reinforce", {"importance": "token", "epochs": 2, "minibatches": 2}),
    ("reinforce", {"importance": "sequence", "epochs": 2, "lora": True}),
    ("rloo", {}),
    ("a2c", {"critic": "head"}),
    ("a2c", {"critic": "copy", "lora": True}),
    ("ppo", {"critic": "copy", "lora": True, "one_base": True}),
    ("a2c", {"critic": "adapter", "lora": True}),
    ("ppo", {"critic": "head", "whiten_advantages": True, "target_kl": 0.01}),
    ("ppo", {"critic": "copy", "clip_range": [0.1, 0.3], "dual_clip": 3.0}),
    ("ppo", {"critic": "adapter", "lora": True, "entropy_coef": 0.01}),
]


def kl_of(rollout) -> torch.Tensor:
    return masked_sum(rollout.old_logprobs - rollout.ref_logprobs, rollout.response_mask)


def untimed(rows: list[dict]) -> list[dict]:
    clock = ("time/", "throughput/")
    return [{k: v for k, v in row.items() if not k.startswith(clock)} for row in rows]


def algorithm_of(critic: str | None) -> str:
    return "a2c" if critic else "reinforce"


@pytest.mark.parametrize(
    "options", [{}, *({name: value} for name, value in SHAPING.items()), SHAPING], ids=str
)
def test_rewards_are_the_shaped_scores_less_beta_times_the_kl(options, tmp_path):
    _, rows, rollouts = tiny_runs.run("reinforce", tmp_path, beta=BETA, **options)
    off = {"normalise_scores": False, "score_clip": None, "missing_eos_penalty": 0.0} | options
    shaping = ScoreShaping(
        normalise=off["normalise_scores"],
        clip=off["score_clip"],
        missing_eos_penalty=off["missing_eos_penalty"],
    )
    for row, rollout in zip(rows, rollouts, strict=True):
        shaped = shaping(rollout.scores, rollout.stopped, one_process)
        # Scores are in float32.
        torch.testing.assert_close(
            rollout.rewards.sum(-1), shaped - BETA * kl_of(rollout), rtol=0, atol=1e-6
        )
        # What is logged is what the reward source said.
        assert row["rollout/score"] == pytest.approx(float(rollout.scores.mean()), abs=1e-6)
    assert kl_of(rollouts[-1]).abs().max() > 0.1


def test_only_responses_that_were_cut_off_pay_and_at_their_last_token(tmp_path):
    options = {"iterations": 1, "missing_eos_penalty": 5.0, "beta": 0.0}
    _, _, (rollout,) = tiny_runs.run("reinforce", tmp_path, **options)
    assert 0 < int(rollout.stopped.sum()) < len(rollout)
    ends = rollout.response_mask.sum(-1) - 1
    last = rollout.rewards[torch.arange(len(rollout)), ends]
    assert torch.equal(last, rollout.scores - torch.where(rollout.stopped, 0.0, 5.0))
    assert torch.equal(rollout.rewards.sum(-1), last)


# -- beta that follows the KL ---------------------------------------------------------------------


def test_beta_follows_the_kl_of_each_iteration_and_is_the_coefficient_of_the_next(tmp_path):
    options = {"iterations": 5, "beta": BETA, "adaptive_beta": {"target": 9.0, "horizon": 20.0}}
    _, _, rollouts = tiny_runs.run("reinforce", tmp_path / "0", **options)
    # A target that the second KL is 10 % above: an error that is not cut. The first KL is 0.
    adaptive = {"target": float(kl_of(rollouts[1]).mean()) / 1.1, "horizon": 20.0}
    options["adaptive_beta"] = adaptive
    module, rows, rollouts = tiny_runs.run("reinforce", tmp_path / "1", **options)
    beta, course = BETA, []
    for row, rollout in zip(rows, rollouts, strict=True):
        course.append(beta)
        assert row["rollout/beta"] == pytest.approx(beta, rel=1e-6)
        kl = kl_of(rollout)
        torch.testing.assert_close(
            rollout.rewards.sum(-1), rollout.scores - beta * kl, rtol=0, atol=1e-12
        )
        expected = float((rollout.scores - beta * kl).mean())
        assert row["rollout/reward"] == pytest.approx(expected, abs=1e-6)
        beta = adapted_beta(beta, float(kl.mean()), **adaptive, episodes=len(rollout))
    assert module.beta == pytest.approx(beta, rel=1e-12)
    assert course[1:3] == pytest.approx([0.92 * BETA, 0.92 * BETA * 1.04], rel=1e-9)


def test_beta_stays_as_it_is_unless_it_is_told_to_follow(tmp_path):
    module, rows, _ = tiny_runs.run("reinforce", tmp_path, beta=BETA)
    assert module.beta == BETA
    assert [row["rollout/beta"] for row in rows] == pytest.approx([BETA] * 3)


# -- stopping at target_kl ------------------------------------------------------------------------


def test_steps_on_a_rollout_stop_when_the_policy_has_moved_too_far(tmp_path):
    """One minibatch an epoch: a run of n epochs is the beginning of a run of more."""
    options = {"iterations": 1, "minibatches": 1, "micro_batch_size": 3}
    plain = {
        n: tiny_runs.run("ppo", tmp_path / str(n), epochs=n, **options)[:2] for n in range(1, 6)
    }
    # The mean over n minibatches of equal size, the last of which has seen n - 1 steps.
    means = [0.0] + [rows[0]["train/approx_kl"] for _, rows in plain.values()]
    seen = [n * means[n] - (n - 1) * means[n - 1] for n in range(1, 6)]
    assert seen == sorted(seen)
    assert seen[0] == pytest.approx(0, abs=1e-12)
    target = (seen[2] + seen[3]) / 2  # after three steps it is above
    module, (row,), _ = tiny_runs.run(
        "ppo", tmp_path / "stopped", epochs=8, target_kl=target, **options
    )
    assert row["train/steps"] == 3
    assert torch.equal(weights(module), weights(plain[3][0]))
    # The minibatch that said so is in the metrics, though it made no step.
    assert row["train/approx_kl"] == pytest.approx(means[4], rel=1e-6)
    assert row["train/grad_norm"] == plain[3][1][0]["train/grad_norm"]


class Gradients(pl.Callback):
    """Whether any were left behind by an iteration."""

    def __init__(self):
        self.left = []

    def on_train_batch_end(self, trainer, module, *_):
        self.left.append(any(p.grad is not None for p in module.model.parameters()))


def test_a_stop_ends_the_steps_on_this_rollout_and_leaves_nothing_to_the_next(tmp_path):
    """A gradient that was not used would be added to that of the next step."""
    options = {"epochs": 8, "minibatches": 1, "iterations": 3, "target_kl": 1e-3}
    module, _ = ready(make("ppo", **options))
    gradients = Gradients()
    rows = tiny_runs.fit(module, tmp_path, callbacks=[gradients])
    assert all(1 <= row["train/steps"] < 8 for row in rows)
    assert gradients.left == [False] * 3


def test_a_target_out_of_reach_changes_nothing(tmp_path):
    (a, rows), (b, others) = (
        tiny_runs.run("ppo", tmp_path / str(target), target_kl=target)[:2] for target in (None, 1e9)
    )
    assert torch.equal(weights(a), weights(b))
    assert untimed(rows) == untimed(others)
    assert [row["train/steps"] for row in rows] == [4, 4, 4]


# -- the entropy bonus ----------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_bonus_adds_the_gradient_of_the_exact_entropy(temperature, tmp_path):
    """One step of SGD with and without it, and autograd through a plain forward pass."""
    lr, coefficient = 0.01, 0.3
    options = {"iterations": 1, "temperature": temperature, "micro_batch_size": 3}
    options["optimizer"] = partial(torch.optim.SGD, lr=lr)
    plain, _, (rollout,) = tiny_runs.run("reinforce", tmp_path / "0", **options)
    module, rows, _ = tiny_runs.run(
        "reinforce", tmp_path / "1", entropy_coef=coefficient, **options
    )
    lm = tiny_lm("gpt2")
    start, total = rollout.prompt_mask.shape[1], 0.0
    for ids, prompt, response in zip(
        rollout.sequences, rollout.prompt_mask, rollout.response_mask, strict=True
    ):
        real = torch.cat([ids[:start][prompt], ids[start:][response]])
        states = lm(real[None]).logits[0, int(prompt.sum()) - 1 : -1] / temperature
        total = total - (states.softmax(-1) * states.log_softmax(-1)).sum()
    bonus = coefficient * total / len(rollout)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(bonus, list(lm.parameters()))])
    torch.testing.assert_close(weights(module) - weights(plain), lr * gradient, rtol=0, atol=1e-12)
    row = rows[0]
    assert row["train/loss"] == pytest.approx(row["train/policy_loss"] - float(bonus), abs=1e-6)


def test_the_bonus_raises_the_entropy_and_nothing_else_does(tmp_path):
    """All responses are equally good, and there is no penalty: without it nothing moves."""
    options = {"iterations": 6, "reward": Constant(), "beta": 0.0}

    def entropy(lm) -> float:
        logp = log_probabilities(lm).detach()
        return -float((logp.exp() * logp).sum())

    still, _, _ = tiny_runs.run("reinforce", tmp_path / "0", **options)
    moved, rows, _ = tiny_runs.run("reinforce", tmp_path / "1", entropy_coef=0.1, **options)
    before = tiny_lm("gpt2")
    assert torch.equal(weights(still), torch.cat([p.flatten() for p in before.parameters()]))
    assert entropy(moved.model.lm) > entropy(before) + 0.1
    assert rows[-1]["rollout/entropy"] > rows[0]["rollout/entropy"]


# -- learning rates -------------------------------------------------------------------------------


@pytest.mark.parametrize(("critic", "lora"), [c for c in CRITICS if c[0]])
def test_the_value_functions_own_parameters_may_have_a_learning_rate_of_their_own(
    critic, lora, tmp_path
):
    options = {"critic": critic, "lora": lora, "iterations": 1, "value_updates": 1}
    options["optimizer"] = partial(torch.optim.SGD, lr=0.01)
    start = policy_and_values(ready(make("a2c", critic=critic), lora=lora)[0])
    usual, fast = (
        policy_and_values(tiny_runs.run("a2c", tmp_path / str(lr), value_lr=lr, **options)[0])
        for lr in (None, 0.03)
    )
    assert torch.equal(usual[0], fast[0])
    assert (fast[1] - start[1]).abs().max() > 1e-4
    torch.testing.assert_close(fast[1] - start[1], 3 * (usual[1] - start[1]), rtol=0, atol=1e-12)


# -- one set of names -----------------------------------------------------------------------------


def test_every_algorithm_logs_the_same_names(tmp_path):
    """Also where there is no value function, no clipping, or no score but a raw one."""
    everything = {"target_kl": 0.01, "entropy_coef": 0.01, "value_clip_range": 0.2, **SHAPING}
    everything["adaptive_beta"] = {"target": 0.1, "horizon": 30.0}
    kinds = [(name, {}) for name in tiny_runs.ALGORITHMS] + [("ppo", everything)]
    named = []
    for i, (algorithm, options) in enumerate(kinds):
        _, rows, _ = tiny_runs.run(algorithm, tmp_path / str(i), iterations=2, **options)
        named.append([set(row) for row in rows])
    assert all(names == named[0] for names in named)
    # Only the second iteration is evaluated.
    evaluation = {n for n in named[0][1] if n.startswith(("val/", "reference/"))}
    assert evaluation
    assert named[0][0] == named[0][1] - evaluation


# -- checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "options"), COMBINATIONS, ids=str)
def test_a_run_that_goes_on_from_a_checkpoint_is_the_unbroken_one(algorithm, options, tmp_path):
    """Moments of the optimiser, beta, moments of the scores, counts, and all noise."""
    stateful = {"adaptive_beta": {"target": 0.1, "horizon": 30.0}, "normalise_scores": True}
    parts = {name: options.get(name, False) for name in ("lora", "one_base")}
    options = {k: v for k, v in options.items() if k not in parts}
    whole, again = (
        ready(make(algorithm, iterations=4, **stateful, **options), **parts)[0] for _ in range(2)
    )
    rows = tiny_runs.fit(whole, tmp_path / "whole")
    resumed = tiny_runs.fit(again, tmp_path / "again", resume=tmp_path / "whole" / "epoch=1.ckpt")
    assert untimed(resumed) == untimed(rows[2:])
    assert torch.equal(weights(again), weights(whole))
    assert again.beta == whole.beta != BETA
    assert again.shaping.state() == whole.shaping.state()
    assert (again.episodes, again.tokens) == (whole.episodes, whole.tokens)


@pytest.mark.parametrize("sizes", [EXACT, FIXED], ids=["exact", "fixed"])
def test_a_run_that_samples_in_buckets_goes_on_as_the_unbroken_one(sizes, tmp_path):
    """Adapters are in the weights while responses are sampled, and in no checkpoint."""
    modules = [ready(make("ppo", iterations=4, critic="adapter"), lora=True)[0] for _ in range(3)]
    for module in modules[:2]:
        module.collector.sampler = Sampler(sizes)
    whole, again, plain = modules
    rows = tiny_runs.fit(whole, tmp_path / "whole")
    resumed = tiny_runs.fit(again, tmp_path / "again", resume=tmp_path / "whole" / "epoch=1.ckpt")
    assert untimed(resumed) == untimed(rows[2:])
    assert torch.equal(weights(again), weights(whole))
    tiny_runs.fit(plain, tmp_path / "plain")
    torch.testing.assert_close(weights(whole), weights(plain), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("critic", "lora"), CRITICS)
def test_a_checkpoint_holds_all_that_moves_and_nothing_else(critic, lora, tmp_path):
    algorithm = algorithm_of(critic)
    options = {"critic": critic} if critic else {}
    module, _ = ready(make(algorithm, iterations=3, **options), lora=lora)
    before = {name: x.clone() for name, x in module.state_dict().items()}
    tiny_runs.fit(module, tmp_path)
    after = module.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    checkpoint = torch.load(tmp_path / "epoch=2.ckpt", weights_only=True)
    state = checkpoint["state_dict"]
    assert state.keys() == moved
    assert all(torch.equal(x, after[name]) for name, x in state.items())
    if lora:
        assert all("lora_" in n or "value_head" in n or "modules_to_save" in n for n in state)
    assert any("value_head" in n for n in state) == (critic in ("head", "adapter"))
    assert any(".value." in n for n in state) == (critic == "adapter")


@pytest.mark.parametrize(
    ("saved", "loaded", "missing"),
    [("copy", "head", r"model\.value_head"), ("head", "copy", r"model\.critic")],
)
def test_a_checkpoint_without_trained_weights_is_refused_by_their_names(
    saved, loaded, missing, tmp_path
):
    tiny_runs.run("a2c", tmp_path, critic=saved, iterations=1)
    module, _ = ready(make("a2c", critic=loaded, iterations=2))
    with pytest.raises(TrainingError, match=rf"lacks trained weights: .*{missing}"):
        tiny_runs.fit(module, tmp_path, resume=tmp_path / "epoch=0.ckpt")
