"""The table at the start of a policy run: what it is made of, and what its numbers mean."""

from collections.abc import Iterator, Mapping

from peft import PeftModel

from datamodules.sources.source import Source
from harness.reports.model_words import (
    counted,
    critic_words,
    model_words,
    policy_words,
    reference_words,
    reward_words,
)
from harness.reports.word_table import WordTable
from harness.runs.stages import Stage
from lightning_modules.forward.checkpointing import is_checkpointed
from lightning_modules.options.policies import (
    AUTO,
    A2COptions,
    ActorCriticOptions,
    PolicyOptions,
    PPOOptions,
    ReinforceOptions,
)
from lightning_modules.options.supervised import RewardModelOptions
from lightning_modules.policy import PolicyModule
from lightning_modules.supervised import SupervisedModule

Row = tuple[str, str]
CUTS = {"sequence": "the whole return", "to_go": "the return to go"}
BASELINES = {
    "none": "no baseline",
    "mean": "baseline: the mean of the iteration's returns",
    "leave_one_out": "baseline: the mean of the prompt's other samples",
}


def start_table(
    algorithm: PolicyModule,
    *,
    model: str,
    start: str,
    data: str,
    prompts: tuple[int, int],
    devices: int,
    precision: str,
    stages: Mapping[str, Stage],
    changed: list[str],
) -> WordTable:
    """`model` and `data` by their names, `start`: what the policy begins as, `prompts`: to train on
    and held out, `precision` as the Trainer has it, `stages` of this run by name, `changed`: the
    options that are not default.
    """
    options = algorithm.options
    table = WordTable(show_header=False, title=f"{algorithm.name}: what the numbers mean")
    rows = [
        *_models(algorithm, model, start, data, stages),
        ("prompts", f"{prompts[0]:,} to train on, {prompts[1]:,} held out"),
        *_amounts(algorithm, devices),
        ("peak learning rate", _learning_rates(algorithm)),
        ("KL coefficient", _beta(options)),
        *_formula(options),
        ("temperature", f"{options.temperature:g}"),
        *_precision(precision),
        (
            "a response",
            f"at most {algorithm.collector.vocabulary.max_response_tokens} tokens",
        ),
        ("not default", ", ".join(changed) or "nothing"),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def _models(
    algorithm: PolicyModule, model: str, start: str, data: str, stages: Mapping[str, Stage]
) -> Iterator[Row]:
    learned = "the reward model" if "reward_model" in stages else "the reference"
    actor, collector = algorithm.model, algorithm.collector
    begun = algorithm.options.policy_from
    yield "policy", policy_words(actor, model) + (f", begun as {begun}" if begun else "")
    yield "reference", reference_words(collector.reference, start, begun)
    if critic := critic_words(actor, learned, algorithm.options.critic_from):
        yield "critic", critic
    yield "reward", reward_words(collector.reward, data, stages)


def _precision(precision: str) -> Iterator[Row]:
    if precision == "bf16-mixed":
        yield "precision", "products in bfloat16; trained weights and log-probabilities in float32"
    elif precision != "32-true":
        yield "precision", precision


def _amounts(algorithm: PolicyModule, devices: int) -> Iterator[Row]:
    """An iteration, and all of them, in responses and optimiser steps."""
    options = algorithm.options
    sequences = options.sequences_per_iteration
    minibatch = sequences // options.minibatches
    on = f", on {devices} devices" if devices > 1 else ""
    yield (
        "an iteration",
        f"{sequences} responses: {counted(options.prompts_per_iteration, 'prompt')} x"
        f" {counted(options.samples_per_prompt, 'sample')}{on}",
    )
    yield (
        "and its updates",
        f"{counted(options.updates, 'optimiser step')}: {counted(options.epochs, 'epoch')} x"
        f" {counted(options.minibatches, 'minibatch')} of {minibatch} responses, each in"
        f" {_micro_batches(algorithm, minibatch // devices)}"
        f"{' a device' if devices > 1 else ''}",
    )
    if is_checkpointed(algorithm.model):
        yield "activations", "computed again in the backward pass, for memory's sake"
    warmup = options.critic_warmup
    if warmup:
        yield (
            "critic warm-up",
            f"{counted(warmup, 'iteration')} before the policy learns: {warmup * sequences:,}"
            " episodes, on which the value function alone is fitted",
        )
    yield (
        "in all",
        f"{counted(options.iterations, 'iteration')}: {options.iterations * sequences:,} episodes,"
        f" {counted(options.iterations * options.updates, 'optimiser step')}"
        + ", after the warm-up"
        * (warmup > 0),
    )


def _micro_batches(algorithm: PolicyModule, minibatch: int) -> str:
    """Into which parts a minibatch is cut on a device."""
    limits = algorithm.micro_batches
    if limits.tokens is None:
        micro = min(limits.sequences or minibatch, minibatch)
        return f"{counted(-(-minibatch // micro), 'micro-batch')} of up to {micro}"
    chosen = ", as fit into memory" if algorithm.options.micro_batch_tokens == AUTO else ""
    return f"micro-batches of up to {limits.words()}{chosen}"


def _learning_rates(algorithm: PolicyModule) -> str:
    """Of the policy, and of the value function's own parameters if it has any."""
    options, model = algorithm.options, algorithm.model
    rate = options.optimizer.keywords["lr"]
    told = f"{rate:g}" + (" (LoRA)" if isinstance(model.lm, PeftModel) else "")
    if model.value_parameters():
        told += f", of the value function {options.value_lr or rate:g}"
    decay = "falling to 0 in a line" if options.lr_decay == "linear" else "constant"
    return f"{told}; {decay}, {options.optimizer.func.__name__}"


def _beta(options: PolicyOptions) -> str:
    told = f"{options.beta:g} off the score for a nat of KL to the reference"
    if adaptive := options.adaptive_beta:
        told += (
            f" to begin with; adapted to a KL of {adaptive.target:g} nats, over"
            f" {adaptive.horizon:g} episodes"
        )
    return told


def _formula(options: PolicyOptions) -> Iterator[Row]:
    """What belongs to one algorithm."""
    if isinstance(options, PPOOptions):
        low, high = options.clip_bounds
        yield "clip range", f"{low:g}" if low == high else f"{low:g} below 1, {high:g} above"
    if isinstance(options, ActorCriticOptions):
        yield "gamma, lambda", f"{options.gamma:g}, {options.lam:g}"
    else:
        yield "gamma", f"{options.gamma:g}"
    if isinstance(options, A2COptions):
        yield "value function", f"{counted(options.value_updates, 'step')} an iteration"
    if isinstance(options, ReinforceOptions):
        yield "weight", f"{CUTS[options.returns]}; {BASELINES[options.baseline]}"


def start_lines(module: SupervisedModule, model: str, source: Source) -> list[str]:
    """The same of SFT or of a reward model, once the model is handed over."""
    options = module.options
    rate = f"{options.optimizer.keywords['lr']:g}"
    if any(isinstance(part, PeftModel) for part in module.model.modules()):
        rate += " (LoRA)"
    of_pairs = isinstance(options, RewardModelOptions)
    of_thumbs = of_pairs and options.loss == "thumbs"
    what = "comparisons" if of_pairs else "demonstrations"
    if of_thumbs:
        what = "comparisons and thumbs" if source.comparisons("train") else "thumbs"
    heads = f", {options.ensemble} heads" if of_pairs and options.ensemble > 1 else ""
    return [
        f"{module.name}: {model_words(module.model, model)}{heads}",
        f"  {counted(options.epochs, 'epoch')}, {options.batch_size} {what} a step;"
        f" peak learning rate {rate}, {options.optimizer.func.__name__}",
        *([f"  {thumbs_line(source, options.thumb_weight)}"] if of_thumbs else []),
    ]


def thumbs_line(source: Source, weight: float) -> str:
    """How many thumbs there are to learn from, how many of them are up, and what they count."""
    told = []
    for split, name in (("train", "thumbs"), ("val", "held out")):
        thumbs = source.thumbs(split)
        up = sum(thumb.liked for thumb in thumbs)
        share = f", {up / len(thumbs):.0%} of them up" if thumbs else ""
        told.append(f"{len(thumbs):,} {name}{share}")
    line = f"{'; '.join(told)}; how often they are up is the bias's to learn, not the scores'"
    if pairs := len(source.comparisons("train")):
        line += f"; {counted(pairs, 'comparison')} beside them; a thumb weighs {weight:g} of one"
    return line
