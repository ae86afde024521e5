import io
import re
from types import SimpleNamespace

import pytest
import torch

from harness.progress.bar import ProgressBar
from harness.progress.costs import Cost
from harness.progress.evaluations import OF_POLICIES, EvaluationLines
from harness.progress.plan import Part, Plan
from harness.progress.policy_bar import PolicyBar
from harness.progress.supervised_bar import SupervisedBar
from harness.reports.plain_console import PlainConsole
from tests.harness.progress.test_plan import Watch
from tests.lightning_modules.tiny_runs import make

METRICS = {
    "rollout/score": 1.234,
    "rollout/kl": 0.5,
    "train/clip_fraction": 0.1,
    "train/value_loss": 9.9,
    "train/loss": -12.34,
}


def trainer_at(metrics: dict[str, float], steps: int = 1000, done: int = 0) -> SimpleNamespace:
    progress = SimpleNamespace(total=SimpleNamespace(processed=done))
    return SimpleNamespace(
        is_global_zero=True,
        callback_metrics=metrics,
        current_epoch=done,
        max_epochs=steps,
        num_training_batches=1,
        num_val_batches=[5],
        check_val_every_n_epoch=10,
        train_dataloader=SimpleNamespace(sampler=range(8), batch_size=8),
        fit_loop=SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress)),
    )


def bar_on(title: str = "PPO", **options) -> tuple[ProgressBar, Watch]:
    watch = Watch()
    console = PlainConsole(file=io.StringIO(), **options)
    plan = Plan(console, [Part("ppo", title, Cost(1000.0, evaluate=10.0))], watch)
    plan.begin("ppo")
    return ProgressBar(console, plan), watch


def drawn(bar: ProgressBar) -> str:
    """The bar's line as it is at this moment."""
    page = PlainConsole(file=io.StringIO(), width=bar.console.width, force_terminal=False)
    page.print(bar)
    return page.file.getvalue()


def step(bar: ProgressBar, trainer: SimpleNamespace, watch: Watch, seconds: float) -> None:
    bar.on_train_batch_start(trainer, None, None, 0)
    watch.now += seconds
    bar.on_train_batch_end(trainer, None)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_count_and_time_left_are_there_at_every_width_and_the_line_fits(width):
    bar, watch = bar_on("reward model", width=width, force_terminal=True)
    trainer = trainer_at(METRICS)
    bar.on_train_start(trainer, None)
    step(bar, trainer, watch, 60.0)
    (line,) = drawn(bar).splitlines()
    # 999 steps and all evaluations, which cost a hundredth of them, are left.
    assert re.match(r"  reward model [━╌]+ 1/1000  1:00, 16:49:0\d left", line)
    assert len(line) <= width
    assert ("score 1.23" in line) == (width >= 80)
    assert ("loss -12.3" in line) == (width >= 120)
    bar.on_validation_start(trainer)
    bar.on_validation_batch_end(trainer)
    if width >= 80:
        assert "evaluating 1/5" in drawn(bar)
    bar.on_train_end(trainer)


def test_within_a_step_the_bar_moves_with_its_micro_batches_whose_tokens_are_counted():
    plain, _ = bar_on(width=80)
    plain.plan.part.cost = Cost(300.0, evaluate=20.0, tokens=100.0)
    bar = SupervisedBar(plain.console, plain.plan)
    trainer = trainer_at({}, steps=10)
    batch = [
        {"input_ids": torch.zeros(2, 3), "prompt_ids": torch.zeros(1, 6)},
        {"input_ids": torch.zeros(1, 8)},
    ]
    bar.on_train_start(trainer, None)
    for done in range(2):
        bar.on_train_batch_start(trainer, None, batch, 0)
        assert bar.part.train.done == pytest.approx(done / 10)
        bar.on_after_backward(trainer)
        assert bar.part.train.done == pytest.approx((done + 12 / 20) / 10)
        bar.on_train_batch_end(trainer, None)
        # Twice as many tokens as were planned, which is known as soon as a batch is there.
        assert (bar.part.cost.train, bar.part.cost.evaluate) == pytest.approx((600.0, 40.0))


def test_a_last_batch_of_few_rows_is_a_small_step():
    plain, _ = bar_on(width=80)
    plain.plan.part.cost = Cost(300.0, tokens=100.0)
    bar = SupervisedBar(plain.console, plain.plan)
    trainer = trainer_at({}, steps=2)  # epochs
    trainer.num_training_batches = 2
    trainer.train_dataloader = SimpleNamespace(sampler=range(10), batch_size=8)
    bar.on_train_start(trainer, None)
    done = []
    for rows in (8, 2, 8, 2):
        bar.on_train_batch_start(trainer, None, [{"input_ids": torch.zeros(rows, 5)}] * 2, 0)
        bar.on_after_backward(trainer)
        done.append(bar.part.train.done)
        bar.on_train_batch_end(trainer, None)
        assert bar.part.cost.tokens == pytest.approx(2 * 2 * 10 * 5)
        done.append(bar.part.train.done)
    assert done == pytest.approx([x / 20 for x in (4, 8, 9, 10, 14, 18, 19, 20)])


def test_the_first_pass_which_is_slower_than_others_says_nothing_of_the_pace():
    plain, watch = bar_on(width=80)
    plain.plan.part.cost = Cost(300.0, tokens=100.0)
    bar = SupervisedBar(plain.console, plain.plan)
    trainer = trainer_at({}, steps=1)
    bar.on_train_start(trainer, None)
    bar.on_train_batch_start(trainer, None, [{"input_ids": torch.zeros(2, 3)}] * 10, 0)
    for seconds in (100.0, 5.0, 5.0):
        watch.now += seconds
        bar.on_after_backward(trainer)
    assert bar.plan.left() == pytest.approx(7 * 5.0)


class Model(torch.nn.Module):
    """What a bar looks at of a language model: that it is called."""

    def forward(self, **options):
        return None


def policy_bar(critic_warmup: int = 0, warmup: float = 1.0):
    """The bar of a policy whose iterations are sampled after a fifth and collected after a half;
    one of its critic's warm-up costs the share `warmup`. With its module, before training.
    """
    module = SimpleNamespace(
        model=SimpleNamespace(lm=Model()),
        collector=SimpleNamespace(vocabulary=SimpleNamespace(max_response_tokens=4)),
        options=make("ppo", iterations=1, critic_warmup=critic_warmup).options,
    )
    plain, _ = bar_on(width=80)
    plain.plan.part.cost = Cost(100.0, sampled=0.2, collected=0.5, warmup=warmup)
    return PolicyBar(plain.console, plain.plan, lambda: 4), module


def test_iterations_of_a_warm_up_are_shorter():
    bar, module = policy_bar(critic_warmup=2, warmup=0.8)
    trainer = trainer_at({}, steps=3)
    bar.on_train_start(trainer, module)
    shares = []
    for _ in range(3):
        bar.on_train_batch_start(trainer, module, None, 0)
        module.model.lm(use_cache=True)
        shares.append(bar.part.train.done)
        for _ in range(2):
            bar.on_before_backward(trainer)
            bar.on_after_backward(trainer)
        shares.append(bar.part.train.done)
        bar.on_train_batch_end(trainer, module)
    # Sampling a quarter of the tokens takes 0.05; half of the updates 0.15 there, 0.25 later.
    done = [0.05, 0.65, 0.85, 1.45, 1.65, 2.35]
    assert shares == pytest.approx([x / 2.6 for x in done])
    assert bar.part.train.done == pytest.approx(1.0)
    assert bar.evaluations == 1


def test_the_bar_of_a_policy_moves_while_it_samples_and_then_with_its_updates():
    bar, module = policy_bar()
    lm, trainer = module.model.lm, trainer_at({}, steps=1)
    bar.on_train_start(trainer, module)
    bar.on_train_batch_start(trainer, module, None, 0)
    shares = []
    for _ in range(2):
        lm(use_cache=True)
        shares.append(bar.part.train.done)
    assert "sampling 2/4" in drawn(bar)
    lm(use_cache=False)
    for _ in range(4):
        bar.on_before_backward(trainer)
        shares.append(bar.part.train.done)
        bar.on_after_backward(trainer)
    assert shares == pytest.approx([0.05, 0.1, 0.5, 0.625, 0.75, 0.875])
    assert not lm._forward_pre_hooks, "the model is left as it was"


def test_evaluations_are_no_training_and_have_a_pace_of_their_own():
    bar, watch = bar_on(width=80)
    trainer = trainer_at({}, steps=100, done=20)
    bar.on_train_start(trainer, None)
    step(bar, trainer, watch, 10.0)
    bar.on_validation_start(trainer)
    watch.now += 7.0
    bar.on_validation_end(trainer)
    step(bar, trainer, watch, 10.0)
    assert bar.part.train.seconds == pytest.approx(20.0)
    assert bar.part.evaluate.seconds == pytest.approx(7.0)
    assert bar.part.evaluate.done == pytest.approx(3 / 10)
    assert bar.plan.left() == pytest.approx(78 * 10 + 7 * 7)


def test_without_a_terminal_a_line_comes_now_and_then():
    bar, watch = bar_on(width=80)
    trainer = trainer_at(METRICS, steps=40)
    bar.on_train_start(trainer, None)
    for _ in range(40):
        step(bar, trainer, watch, 5.0)
    lines = [x for x in bar.console.file.getvalue().splitlines() if x.startswith("  PPO")]
    assert 4 <= len(lines) <= 8  # 200 seconds, and 30 between two of them
    assert "score 1.23  KL 0.5  clip 0.1" in lines[0]
    assert lines[0].endswith("left")


def test_an_evaluation_is_a_line_with_a_curve_of_all_so_far():
    watch = Watch()
    console = PlainConsole(file=io.StringIO(), width=80)
    plan = Plan(console, [Part("ppo", "PPO", Cost(80.0))], watch)
    plan.begin("ppo").train.reach(0.5, 100.0)
    values = (0.1, 0.4, 0.9)
    rows = [{"step": 10 * (i + 1), "val/score": str(v)} for i, v in enumerate(values)]
    metrics = {"val/kl": 0.62, "val/score": 0.91, "val/win_rate": 0.74, "val/gold": 0.81}
    trainer = trainer_at(metrics, steps=80, done=29)
    trainer.loggers = [SimpleNamespace(rows=[{"step": 1, "rollout/score": 3.0}, *rows])]
    EvaluationLines(console, plan, "iteration", OF_POLICIES).on_validation_end(trainer)
    (line,) = console.file.getvalue().splitlines()
    assert line == (
        "  iteration 30/80  score 0.91 ▁▄█  gold 0.81  win 0.74  KL 0.62  1 min 40 s left"
    )
