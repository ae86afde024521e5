"""What the properties are tried on: rollouts of every shape, algorithms without a Trainer, ranks.

Hypothesis draws shapes, and a seed for the numbers in them.
"""

from collections.abc import Callable
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields, replace
from functools import partial
from threading import Barrier, BrokenBarrierError, Thread
from types import SimpleNamespace
from typing import Any

import torch
from hypothesis import Phase, settings
from hypothesis import strategies as st
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification

from lightning_modules.a2c import A2C
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.scalar import ScalarModel
from lightning_modules.policy import PolicyModule
from lightning_modules.ppo import PPO
from lightning_modules.reinforce import Reinforce
from lightning_modules.rollouts.rollout import Rollout
from tests.exact.world import DTYPE, OPTIONS, VOCABULARY, tiny_lm

seeds = st.integers(0, 2**32 - 1)
ONE_TO_FIVE = st.integers(1, 5)
# What padding may hold.
poisons = st.sampled_from([float("nan"), float("inf"), -1e30, 7.0])


def property_of(examples: int = 50):
    """The settings of a property: the same examples in every run.

    They are small as they are drawn, and shrinking through models would take minutes.
    """
    return settings(
        derandomize=True, deadline=None, max_examples=examples, phases=(Phase.generate,)
    )


def numbers(seed: int):
    """normal(*shape) in float64, from a seed."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=DTYPE)


def rollout_of_lengths(prompts: list[int], responses: list[int], seed: int, width: int) -> Rollout:
    """Random ids and numbers; 0 where there is padding, of which the last columns may be full."""
    normal = numbers(seed)
    count, longest = len(prompts), max(prompts)
    prompt_mask = torch.arange(longest) >= longest - torch.tensor(prompts)[:, None]
    response_mask = torch.arange(width) < torch.tensor(responses)[:, None]
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(VOCABULARY, (count, longest + width), generator=generator)

    def draw():
        return normal(count, width).masked_fill(~response_mask, 0.0)

    old_logprobs = -draw().abs()
    return Rollout(
        prompt_mask=prompt_mask,
        sequences=ids * torch.cat([prompt_mask, response_mask], dim=1),
        response_mask=response_mask,
        stopped=torch.rand(count, generator=generator) < 0.5,
        old_logprobs=old_logprobs,
        entropy=draw().abs(),
        ref_logprobs=old_logprobs + 0.3 * draw(),
        values=draw(),
        scores=normal(count),
    )


@st.composite
def rollouts(draw, lengths=ONE_TO_FIVE, samples: int = 2, min_prompts: int = 1) -> Rollout:
    """1 to 4 prompts of 1 to 4 tokens, each with `samples` responses beside each other."""
    prompts = draw(st.lists(st.integers(1, 4), min_size=min_prompts, max_size=4))
    prompts = [n for n in prompts for _ in range(samples)]
    responses = draw(st.lists(lengths, min_size=len(prompts), max_size=len(prompts)))
    extra = draw(st.integers(0, 2))
    return rollout_of_lengths(prompts, responses, draw(seeds), max(responses) + extra)


def per_token(rollout: Rollout) -> dict[str, Tensor]:
    """The numbers (B, T) of a rollout, by name."""
    shape = rollout.response_mask.shape
    named = {f.name: getattr(rollout, f.name) for f in fields(rollout)}
    return {
        name: x
        for name, x in named.items()
        if x is not None and x.shape == shape and x.is_floating_point()
    }


def poisoned(rollout: Rollout, poison: float) -> Rollout:
    """The same rollout with `poison` for numbers, and other ids, wherever there is padding."""
    mask = rollout.response_mask
    numbers = {name: x.masked_fill(~mask, poison) for name, x in per_token(rollout).items()}
    real = torch.cat([rollout.prompt_mask, mask], dim=1)
    ids = torch.where(real, rollout.sequences, VOCABULARY - 1 - rollout.sequences)
    return replace(rollout, sequences=ids, **numbers)


def real_tokens(rollout: Rollout) -> dict[str, Tensor]:
    """The numbers of real tokens alone, by name, whatever the padding."""
    return {name: x[rollout.response_mask] for name, x in per_token(rollout).items()}


# -- algorithms -----------------------------------------------------------------------------------


def _reinforce(returns, baseline, importance):
    return partial(Reinforce, returns=returns, baseline=baseline, importance=importance)


_A2C = partial(A2C, critic="head", value_updates=3, value_coef=0.5)
_PPO = partial(PPO, critic="head", clip_range=0.2, value_coef=0.5)

ALGORITHMS = {
    "reinforce": _reinforce("sequence", "none", "none"),
    "reinforce to go, mean": _reinforce("to_go", "mean", "none"),
    "rloo": _reinforce("sequence", "leave_one_out", "none"),
    "reinforce, sequence weights": _reinforce("to_go", "leave_one_out", "sequence"),
    "reinforce, token weights": _reinforce("sequence", "mean", "token"),
    "a2c": partial(_A2C, lam=0.9, whiten_advantages=False),
    "a2c, whitened": partial(_A2C, lam=1.0, whiten_advantages=True),
    "ppo": partial(_PPO, lam=0.95, whiten_advantages=True),
    "ppo, all bounds": partial(
        _PPO, lam=0.0, whiten_advantages=False, dual_clip=2.0, value_clip_range=0.3
    ),
}

# One of each kind, with all that it can do, for what needs a model's gradients.
FULLEST = ("reinforce, sequence weights", "a2c, whitened", "ppo, all bounds")


def make(algorithm: str, **options) -> PolicyModule:
    """The algorithm by plain gradient descent, with a step of 1 so that it shows the gradient.

    Steps of the value function are shorter: several of 1 would go astray.
    """
    descent = partial(torch.optim.SGD, lr=1.0)
    own = ALGORITHMS[algorithm].keywords
    defaults = OPTIONS | {
        "gamma": 0.97,
        "samples_per_prompt": 2,
        "optimizer": descent,
        "value_lr": 0.05,
    }
    return ALGORITHMS[algorithm](
        **{k: v for k, v in defaults.items() if k not in own and k != "critic"} | options
    )


def actor_critic(kind: str, algorithm: str = "ppo") -> ActorCritic:
    """A tiny language model, with a value head that says something if the algorithm has one."""
    lm = tiny_lm(kind)
    critic = "critic" in ALGORITHMS[algorithm].keywords
    return ActorCritic(lm, random_linear(lm.config.hidden_size) if critic else None)


def random_linear(size: int) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Linear(size, 1).to(DTYPE)


def scalar_model(kind: str) -> ScalarModel:
    """A classifier with one output on the backbone of a tiny language model."""
    lm = tiny_lm(kind)
    lm.config.num_labels = 1
    model = AutoModelForSequenceClassification.from_config(lm.config)
    setattr(model, model.base_model_prefix, lm.base_model)
    model.score = random_linear(lm.config.hidden_size)
    return ScalarModel(model.to(DTYPE).eval())


class OneProcess:
    """As much of a strategy as an update asks for."""

    def backward(self, loss, optimizer):
        loss.backward()

    def reduce(self, x, group=None, reduce_op="mean"):
        return x


def attach(module: PolicyModule, model: ActorCritic, strategy=None, rank=0, ranks=1) -> None:
    """Give a module its model, and what it asks of a Trainer."""
    module.bind(model=model, reference=None, reward=None, vocabulary=None, gold=None)
    module._trainer = SimpleNamespace(
        strategy=strategy or OneProcess(), world_size=ranks, global_rank=rank, current_epoch=0
    )
    optimizer = module.configure_optimizers()
    module.optimizers = lambda: optimizer


def collected(module: PolicyModule, rollout: Rollout) -> Rollout:
    """The rollout as the module's `collect` rewards and weighs it; values only for a critic."""
    if module.options.critic is None:
        rollout = replace(rollout, values=None)
    module.collector = SimpleNamespace(
        collect=lambda *_, **__: (rollout, None, {}), begun_on=lambda _: []
    )
    return module.collect({})[0]


def near_policy(model: ActorCritic, rollout: Rollout, seed: int) -> Rollout:
    """The rollout of a policy near `model`, so that some ratios are clipped and others are not."""
    with torch.no_grad():
        now = model(rollout.sequences, rollout.prompt_mask, rollout.response_mask, 1.0)
    moved = now.logprobs + 0.2 * numbers(seed)(*now.logprobs.shape)
    return replace(rollout, old_logprobs=moved.masked_fill(~rollout.response_mask, 0.0))


def stepped(module: PolicyModule, rollout: Rollout) -> tuple[Tensor, dict[str, float]]:
    """How far an update moves the parameters, as one vector, and its metrics."""
    before = [p.detach().clone() for p in module.model.parameters()]
    metrics = module.update(rollout)
    pairs = zip(module.model.parameters(), before, strict=True)
    return torch.cat([(p.detach() - old).flatten() for p, old in pairs]), metrics


# -- ranks ----------------------------------------------------------------------------------------


class Rank(DDPStrategy):
    """One of several ranks that are threads: sums are written by hand, gradients are averaged."""

    def __init__(self, rank: int, slots: list, barrier: Barrier):
        super().__init__()
        self.rank, self.slots, self.barrier = rank, slots, barrier
        self.blocked = False

    def sum(self, x: Tensor) -> Tensor:
        return self.reduce(x, reduce_op="sum")

    def reduce(self, tensor, group=None, reduce_op="mean"):
        self.slots[self.rank] = tensor.clone()
        self.barrier.wait()
        table = torch.stack(self.slots)
        self.barrier.wait()
        return table.amax(0) if reduce_op == "max" else getattr(table, reduce_op)(0)

    def backward(self, loss, optimizer):
        loss.backward()
        if not self.blocked:
            for parameter in self.module.parameters():
                parameter.grad = self.reduce(parameter.grad)

    @contextmanager
    def block_backward_sync(self):
        self.blocked = True
        yield
        self.blocked = False


def in_parallel(ranks: int, work: Callable[[Rank], Any]) -> list:
    """What `work` gives on each rank, where the ranks can sum what they have."""
    barrier, slots = Barrier(ranks, timeout=60), [None] * ranks
    results = [None] * ranks

    def run(rank: int) -> None:
        try:
            results[rank] = work(Rank(rank, slots, barrier))
        except BaseException as error:
            results[rank] = error
            barrier.abort()

    threads = [Thread(target=run, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Who waits for a rank that failed has only a broken barrier to tell of: show the cause.
    errors = [x for x in results if isinstance(x, BaseException)]
    for error in sorted(errors, key=lambda e: isinstance(e, BrokenBarrierError)):
        raise error
    return results


def on_ranks(algorithm: str, model: ActorCritic, parts: list[Rollout], **options) -> list:
    """Of each rank: its weighed rollout, how its update moved its parameters, and the metrics."""

    def work(strategy: Rank):
        module, strategy.module = make(algorithm, **options), deepcopy(model)
        attach(module, strategy.module, strategy, strategy.rank, len(parts))
        rollout = collected(module, parts[strategy.rank])
        return rollout, *stepped(module, rollout)

    return in_parallel(len(parts), work)
