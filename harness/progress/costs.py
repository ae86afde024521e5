"""What the parts of a run cost, counted before they begin.

The unit is one token that the language model reads in a forward pass. How long one takes on this
machine is measured while the run goes on (plan.py); here is only how much there is of what.
"""

from dataclasses import dataclass, replace

# A backward pass after a forward pass: gradients of activations and of weights. With LoRA weights
# take none, and the adapters take a little of their own.
BACKWARD = 2.0
LORA_BACKWARD = 1.4
# A token that is sampled: a pass for one token of each sequence uses a processor less well.
SAMPLED = 3.0
# Sequences that the self-check reads, about.
CHECKED = 130


@dataclass(frozen=True)
class Lengths:
    """Tokens of a prompt, of a response and of a comparison on average, the longest of the first
    two. A comparison's prompt is read once, its responses are padded to the longest of them.
    """

    prompt: float
    response: float
    comparison: float
    longest_prompt: int
    longest_response: int

    @property
    def sequence(self) -> float:
        return self.prompt + self.response

    @property
    def longest(self) -> int:
        """What a sequence of a rollout is padded to, about."""
        return self.longest_prompt + self.longest_response


@dataclass(frozen=True)
class Cost:
    """Tokens read: `before` the first step, in all steps, in all evaluations, and `after`.

    Of supervised training, `tokens` is how many there are in all its steps. Of a step of a policy,
    an iteration: the shares of it when all responses are `sampled`, and when they are `collected`,
    read by all models; and what one of the critic's warm-up costs, as a share of it.
    """

    train: float
    evaluate: float = 0.0
    before: float = 0.0
    after: float = 0.0
    tokens: float = 0.0
    sampled: float = 0.0
    collected: float = 0.0
    warmup: float = 1.0

    def with_tokens(self, tokens: float) -> "Cost":
        """The same where there are so many tokens: how they are padded is seen in their batches."""
        share = tokens / self.tokens if self.tokens else 1.0
        return replace(
            self, train=self.train * share, evaluate=self.evaluate * share, tokens=tokens
        )


def backward(*, lora: bool) -> float:
    return LORA_BACKWARD if lora else BACKWARD


def supervised(
    rows: int, held_out: int, tokens: float, epochs: int, *, lora: bool, after: float = 0.0
) -> Cost:
    """Of `epochs` over `rows` of so many `tokens`, each evaluated on the `held_out` rows."""
    return Cost(
        train=epochs * rows * tokens * (1 + backward(lora=lora)),
        evaluate=epochs * held_out * tokens,
        after=after,
        tokens=epochs * rows * tokens,
    )


@dataclass(frozen=True)
class Models:
    """Which models read a rollout beside the policy."""

    reference: bool
    critic: bool  # one of its own
    rewards: int
    lora: bool


@dataclass(frozen=True)
class Iteration:
    """What an iteration costs by its parts."""

    sample: float
    read: float
    update: float
    warmup: float  # the update of one in which the critic alone learns

    @property
    def all(self) -> float:
        return self.sample + self.read + self.update

    @property
    def collect(self) -> float:
        return self.sample + self.read


def iteration(
    sequences: int, epochs: int, value_updates: int, lengths: Lengths, models: Models
) -> Iteration:
    """Sampling; what policy, critic, reference and rewards say of it; then the updates."""
    tokens = sequences * lengths.longest
    trained = epochs * (1 + models.critic) + value_updates
    step = tokens * (1 + backward(lora=models.lora))
    return Iteration(
        sample=sequences * (lengths.longest_prompt + SAMPLED * lengths.response),
        read=tokens * (1 + models.reference + models.critic + models.rewards),
        update=step * trained,
        warmup=step * (epochs + value_updates),
    )


def policy(
    each: Iteration,
    iterations: int,
    warmups: int,
    evaluations: int,
    prompts: int,
    lengths: Lengths,
    models: Models,
) -> Cost:
    """Of a policy's training, whose critic is warmed up in `warmups` iterations more; before its
    first evaluation the reference answers too.
    """
    warmup = (each.collect + each.warmup) / each.all
    once = iteration(prompts, 0, 0, lengths, models)
    reference = once.sample + prompts * lengths.longest * models.rewards
    return Cost(
        train=(iterations + warmups * warmup) * each.all,
        evaluate=evaluations * once.all + reference,
        before=CHECKED * lengths.longest,
        sampled=each.sample / each.all,
        collected=each.collect / each.all,
        warmup=warmup,
    )
