"""PPO iterations at real shapes through the project's own module and Trainer: seconds and memory by
phase, the estimate against the peak, and the share of the card's arithmetic that the update gets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from peft import LoraConfig, TaskType
from pytorch_lightning.callbacks import Callback as LightningCallback
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.gpu_common import Bench
from datamodules.records import Prompt
from harness.checks.memory import Sizes, estimate, free_bytes, size
from harness.parts.hardware import make_trainer
from harness.quiet import quiet_transformers
from lightning_modules.models.actor_critic import ActorCritic, new_value_head
from lightning_modules.models.adapters import add_adapter
from lightning_modules.models.parameters import frozen
from lightning_modules.models.reference import Reference
from lightning_modules.policy import PolicyModule
from lightning_modules.ppo import PPO
from lightning_modules.rewards.reward import Responses, Reward
from lightning_modules.rollouts.collection import Vocabulary

LORA = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear")
ITERATIONS = 3  # the first one warms up
MINIBATCHES = 2


@dataclass(frozen=True)
class Work:
    """One iteration: so many prompts of so many tokens, and as many tokens of responses."""

    shape: str
    lora: bool
    prompts: int
    tokens: int
    micro_batch: int

    @property
    def flops_per_weight(self) -> int:
        """Of a token's forward and backward pass; frozen weights have no gradients of their own."""
        return 4 if self.lora else 6


CASES = {
    "1b, full": Work("1b", False, prompts=64, tokens=128, micro_batch=8),
    "1b, LoRA": Work("1b", True, prompts=64, tokens=128, micro_batch=8),
    "8b, LoRA": Work("8b", True, prompts=16, tokens=128, micro_batch=4),
    "1b, full, micro-batches of 32": Work("1b", False, prompts=64, tokens=128, micro_batch=32),
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
        if bench.wants(name):
            with bench.case(name):
                if bench.tiny:
                    work = Work(work.shape, work.lora, prompts=4, tokens=6, micro_batch=2)
                iterate(bench, name, work, peak)


def iterate(bench: Bench, case: str, work: Work, peak_tflops: float) -> "Watch":
    """A few iterations; returns what was seen of the last one."""
    left = _gib(torch.cuda.memory_allocated)  # of the case before: no part of this one
    module = _module(bench, work)
    lm = module.model.lm
    weights = sum(p.numel() for p in lm.parameters())
    head = lm.get_output_embeddings().weight
    tables = {id(x): x.numel() for x in (head, lm.get_input_embeddings().weight)}
    trained = sum(p.numel() for p in module.trained_parameters())
    bench.say(
        case=case,
        weights=weights,
        trained=trained,
        held_gib=_gib(torch.cuda.memory_allocated) - left,
    )
    # Layers see every token, the head the responses' alone, and looking up embeddings is no
    # product.
    flops = (weights - sum(tables.values())) * 2 * work.tokens + head.numel() * work.tokens
    flops *= work.prompts * work.flops_per_weight
    watch = Watch(bench, case, work, flops, peak_tflops, left)
    watch.attach(module)
    hardware = OmegaConf.create(
        {
            "name": "bench",
            "accelerator": "gpu" if bench.device.type == "cuda" else "cpu",
            "devices": 1,
            "strategy": "auto",
            "precision": "bf16-mixed",
        }
    )
    trainer = make_trainer(
        hardware,
        max_epochs=ITERATIONS,
        limit_train_batches=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        callbacks=[watch],
    )
    # Moving the weights to the host at the end would cost seconds and tell nothing.
    trainer.strategy.teardown = lambda: None
    batch = bench.prompts(module.model.lm, work.prompts, work.tokens)
    batch["prompts"] = [Prompt.from_text("?")] * work.prompts
    loader = DataLoader([0], collate_fn=lambda _: batch)
    trainer.fit(module, loader)
    watch.release(module)
    return watch


def _module(bench: Bench, work: Work) -> PolicyModule:
    """PPO with a value head, bound to models as the pipeline would: a frozen copy in bfloat16 as
    the reference, or adapters on a base in bfloat16.
    """
    module = PPO(
        name="ppo",
        lam=0.95,
        clip_range=0.2,
        value_coef=0.25,
        whiten_advantages=True,
        iterations=ITERATIONS,
        prompts_per_iteration=work.prompts,
        samples_per_prompt=1,
        epochs=1,
        minibatches=MINIBATCHES,
        micro_batch_size=work.micro_batch,
        temperature=1.0,
        beta=0.05,
        gamma=1.0,
        critic="head",
        normalise="sequences",
        max_grad_norm=1.0,
        optimizer=partial(torch.optim.AdamW, lr=1e-6, weight_decay=0.01),
        value_lr=None,
        lr_decay="none",
        evaluate_every=ITERATIONS,
        val_prompts=1,
        seed=0,
    )
    if work.lora:
        lm = bench.model(work.shape, torch.bfloat16)
        lm = add_adapter(lm, LORA, TaskType.CAUSAL_LM, seed=1)
        reference = Reference(lm, shares_policy=True)
    else:
        lm = bench.model(work.shape, torch.float32)
        reference = Reference(frozen(bench.model(work.shape, torch.bfloat16)), shares_policy=False)
    return module.bind(
        model=ActorCritic(lm, new_value_head(lm)),
        reference=reference,
        reward=EvenTokens(),
        vocabulary=Vocabulary(-1, 0, work.tokens, lambda ids: ""),
        gold=None,
    )


class Watch(LightningCallback):
    """Peaks of memory of collecting and updating, apart; and what each iteration took."""

    def __init__(
        self, bench: Bench, case: str, work: Work, flops: int, peak_tflops: float, left: float
    ):
        self.bench, self.case, self.work = bench, case, work
        self.left = left
        self.flops = flops
        self.peak_tflops = peak_tflops
        self.peaks: dict[str, float] = {}
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

    def _around(self, verb: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*given: Any) -> Any:
            if self.bench.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            result = work(*given)
            self.bench.synchronize()
            self.peaks[verb] = _gib(torch.cuda.max_memory_allocated) - self.left
            return result

        return watched

    def on_train_start(self, trainer: pl.Trainer, pl_module: PolicyModule) -> None:
        work = self.work
        sizes = Sizes(work.prompts, work.micro_batch, work.tokens, work.tokens)
        with trainer.precision_plugin.train_step_context():
            found = estimate(pl_module, sizes)
        self.expected = (found.weights + found.to_come) / 2**30
        free = free_bytes(pl_module.device, 1)
        self.bench.say(case=self.case, estimate=found.line(), free=free and size(free))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: PolicyModule) -> None:
        m = {k: float(v) for k, v in trainer.callback_metrics.items()}
        work = self.work
        tflops = self.flops / m["time/update"] / 1e12
        peak = max(self.peaks.values())
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
            measured_over_estimate=peak / self.expected if peak else None,
            kl=m["rollout/kl"],
            kl_k3=m["rollout/kl_k3"],
            first_ratio_max=m["train/ratio_max"],
            grad_norm=m["train/grad_norm"],
        )


def _gib(count: Callable[[], int]) -> float:
    return count() / 2**30 if torch.cuda.is_available() else 0.0
