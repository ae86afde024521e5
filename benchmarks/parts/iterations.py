"""PPO iterations at real shapes through the project's own module and Trainer: seconds and memory by
phase, the estimate against the peak, and the share of the peak's arithmetic that the update gets.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import pytorch_lightning as pl
import torch
from peft import LoraConfig, TaskType
from pytorch_lightning.callbacks import Callback as LightningCallback
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from benchmarks.parts.bench import Bench
from benchmarks.parts.composed import (
    algorithm,
    bind,
    hardware,
    parameters,
    samplers,
    trainer_for,
)
from benchmarks.parts.processes import forget_peak, peak_mib
from datamodules.records import Prompt
from harness.checks.memory import estimate, size, sizes_of
from harness.parts.hardware import frozen_dtype
from harness.quiet import quiet_transformers
from lightning_modules.forward.checkpointing import is_checkpointed
from lightning_modules.forward.free_memory import free_bytes
from lightning_modules.models.actor_critic import ActorCritic, new_value_head
from lightning_modules.models.adapters import add_adapter
from lightning_modules.models.packed import use_one_kernel
from lightning_modules.models.parameters import frozen
from lightning_modules.models.reference import Reference
from lightning_modules.policy import PolicyModule
from lightning_modules.rewards.reward import Responses, Reward

LORA = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear")
ITERATIONS = 3  # the first one warms up
MINIBATCHES = 2


@dataclass(frozen=True)
class Work:
    """One iteration: so many prompts of so many tokens, and as many tokens of responses.

    `adapter`: none, lora, or qlora: LoRA on a base in 4 bits. `micro_batch` None: as many responses
    at a time as a run would choose.
    """

    shape: str
    adapter: str
    prompts: int
    tokens: int
    micro_batch: int | None = None
    precision: str = "bf16-mixed"

    @property
    def flops_per_weight(self) -> int:
        """Of a token's forward and backward pass; frozen weights have no gradients of their own."""
        return 6 if self.adapter == "none" else 4


CASES = {
    "1b, full": Work("1b", "none", prompts=64, tokens=128),
    "1b, LoRA": Work("1b", "lora", prompts=64, tokens=128),
    "8b, LoRA": Work("8b", "lora", prompts=16, tokens=128),
    "8b, qlora": Work("8b", "qlora", prompts=16, tokens=128),
    "1b, full, micro-batches of 8": Work("1b", "none", prompts=64, tokens=128, micro_batch=8),
}


class EvenTokens(Reward):
    """The share of tokens with even numbers: nothing to load, and something to learn."""

    name = "even"

    def score(self, responses: Responses) -> Tensor:
        tokens = responses.sequences[:, responses.prompt_mask.shape[1] :]
        return (tokens % 2 == 0).double().mean(-1)


def update(bench: Bench) -> None:
    """Each case in turn; what one finds is said before the next begins."""
    quiet_transformers()
    peak = bench.matmul_tflops()
    bench.say(matmul_tflops=peak)
    for name, work in CASES.items():
        if work.adapter == "qlora" and not find_spec("bitsandbytes"):
            bench.say(case=name, skipped="bitsandbytes is not installed")
        elif bench.wants(name):
            with bench.case(name):
                if bench.tiny:
                    work = replace(work, prompts=4, tokens=6)
                iterate(bench, name, work, peak)


def iterate(bench: Bench, case: str, work: Work, peak_tflops: float) -> "Watch":
    """A few iterations; returns what was seen of the last one."""
    left = forget_peak() / 2**10  # of the case before, and of libraries: no part of this one
    device = hardware(work.precision)
    module = ready(bench, work, frozen_dtype(device))
    lm = module.model.lm
    layers, head = parameters(lm)
    bench.say(
        case=case,
        weights=sum(p.numel() for p in lm.parameters()),
        trained=sum(p.numel() for p in module.trained_parameters()),
    )
    flops = layers * 2 * work.tokens + head * work.tokens
    flops *= work.prompts * work.flops_per_weight
    watch = Watch(bench, case, work, flops, peak_tflops, left)
    watch.attach(module)
    batch = bench.prompts(lm, work.prompts, work.tokens)
    batch["prompts"] = [Prompt.from_text("?")] * work.prompts
    trainer = trainer_for(module, device, ITERATIONS, batch["prompt_ids"].tolist(), [watch])
    # Moving the weights to the host at the end would cost seconds and tell nothing.
    trainer.strategy.teardown = lambda: None
    loader = DataLoader([0], collate_fn=lambda _: batch)
    trainer.fit(module, loader)
    watch.release(module)
    return watch


def ready(bench: Bench, work: Work, dtype: torch.dtype) -> PolicyModule:
    """PPO with a value head, bound to models as the pipeline would: a frozen copy as the reference,
    or adapters on a frozen base.
    """
    limits = {}
    if work.micro_batch:
        limits = {"micro_batch_size": work.micro_batch, "micro_batch_tokens": "null"}
    module = algorithm(
        "ppo",
        iterations=ITERATIONS,
        evaluate_every=ITERATIONS,
        prompts_per_iteration=work.prompts,
        epochs=1,
        minibatches=MINIBATCHES,
        critic="head",
        **limits,
    )
    if work.adapter == "none":
        lm = bench.model(work.shape, torch.float32)
        reference = Reference(frozen(bench.model(work.shape, dtype)), shares_policy=False)
    else:
        base = bench.model(work.shape, dtype)
        if work.adapter == "qlora":
            pack(base)
        lm = add_adapter(base, LORA, TaskType.CAUSAL_LM, seed=1)
        reference = Reference(lm, shares_policy=True)
    model = ActorCritic(lm, new_value_head(lm))
    bind(module, model, reference, EvenTokens(), work.tokens)
    module.collector.sampler = next(iter(samplers(bench.device, "auto").values()))
    return module


def pack(base: PreTrainedModel) -> None:
    """Put the layers of a base in 4 bits, as adapter=qlora has them when it reads a folder."""
    from bitsandbytes.nn import Linear4bit, Params4bit

    how = {"compress_statistics": True, "quant_type": "nf4"}
    layers = [
        (name, layer)
        for name, layer in base.base_model.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    for name, layer in layers:
        sizes = (layer.in_features, layer.out_features)
        packed = Linear4bit(*sizes, bias=False, compute_dtype=base.dtype, device="meta", **how)
        packed.weight = Params4bit(layer.weight.data, requires_grad=False, **how)
        base.base_model.set_submodule(name, packed.to(layer.weight.device))
        layer.weight = None
    base.is_loaded_in_4bit = True  # for PEFT
    use_one_kernel(base)


class Watch(LightningCallback):
    """Peaks of memory of collecting and updating, apart; and what each iteration took."""

    def __init__(
        self, bench: Bench, case: str, work: Work, flops: int, peak_tflops: float, left: float
    ):
        self.bench, self.case, self.work = bench, case, work
        self.prompts = [range(work.tokens)]  # of the longest one all that counts is its length
        self.left = left
        self.flops = flops
        self.peak_tflops = peak_tflops
        self.peaks: dict[str, float] = {}  # GiB beside what there was before
        self.expected: float | None = None

    def attach(self, module: PolicyModule) -> None:
        """Stand around the two verbs."""
        for verb in ("collect", "update"):
            setattr(module, verb, self._around(verb, getattr(module, verb)))

    def release(self, module: PolicyModule) -> None:
        """Leave no way back to the models, so that their memory is free for the next case."""
        for verb in ("collect", "update"):
            delattr(module, verb)
        module.trainer = None

    @property
    def measured_over_estimate(self) -> float:
        return max(self.peaks.values()) / self.expected

    def _around(self, verb: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*given: Any) -> Any:
            forget_peak()
            result = work(*given)
            self.bench.synchronize()
            self.peaks[verb] = peak_mib() / 2**10 - self.left
            return result

        return watched

    def on_train_start(self, trainer: pl.Trainer, pl_module: PolicyModule) -> None:
        sizes = sizes_of(pl_module, self.prompts, 1)
        with trainer.precision_plugin.train_step_context():
            found = estimate(pl_module, sizes)
        self.expected = (found.weights + found.to_come) / 2**30
        free = free_bytes(pl_module.device, 1)
        self.bench.say(
            case=self.case,
            estimate=found.line(),
            free=free and size(free),
            micro_batch=sizes.micro_batch,
            checkpointing=is_checkpointed(pl_module.model),
        )

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: PolicyModule) -> None:
        m = {k: float(v) for k, v in trainer.callback_metrics.items()}
        work = self.work
        tflops = self.flops / m["time/update"] / 1e12
        self.bench.say(
            case=self.case,
            iteration=trainer.current_epoch + 1,
            **{f"{k}_s": m[f"time/{k}"] for k in ("collect", "score", "update", "iteration")},
            sampled_tokens_per_s=work.prompts * work.tokens / m["time/collect"],
            update_tflops=tflops,
            update_share_of_peak=tflops / self.peak_tflops,
            collect_peak_gib=self.peaks["collect"],
            update_peak_gib=self.peaks["update"],
            estimate_gib=self.expected,
            measured_over_estimate=self.measured_over_estimate,
            kl=m["rollout/kl"],
            kl_k3=m["rollout/kl_k3"],
            first_ratio_max=m["train/ratio_max"],
            grad_norm=m["train/grad_norm"],
        )
