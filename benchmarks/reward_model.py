"""Reward-model training here and in TRL's RewardTrainer, side by side in one run.

    python benchmarks/reward_model.py speed --data pairs.jsonl          # pairs per second, memory
    python benchmarks/reward_model.py accuracy --data train.jsonl --val test.jsonl

Both train the same initial model on the same token ids in batches of the same number of pairs, each
in processes of its own, in turns. TRL needs an environment of its own: by default one is made under
outputs/benchmarks (that needs a network or a package index); --peer-python names another.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.parts.processes import (  # noqa: E402
    OUTPUTS,
    compared,
    here,
    make_environment,
    measured,
)
from datamodules.preferences import PreferenceDataModule  # noqa: E402
from datamodules.sources.files import Files  # noqa: E402
from datamodules.tokenization.encoder import Encoder  # noqa: E402
from datamodules.tokenization.loading import load_tokenizer, train_tokenizer  # noqa: E402
from harness.reports.held_out_pairs import judge  # noqa: E402
from lightning_modules.metrics.intervals import Z_95  # noqa: E402
from lightning_modules.metrics.preferences import mean_interval  # noqa: E402
from lightning_modules.models.parameters import frozen  # noqa: E402
from lightning_modules.models.scalar import ScalarModel  # noqa: E402
from lightning_modules.models.scorers import load_scorer, new_scorer  # noqa: E402
from lightning_modules.rewards.learned import Scorer  # noqa: E402

PEER = ROOT / "benchmarks" / "peers" / "trl_reward_model.py"
WEIGHT_DECAY, WARMUP, MAX_GRAD_NORM = 0.01, 0.05, 1.0
PEER_PACKAGES = ("torch==2.13.0", "trl==1.16.0")
TOY = {
    "hidden_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "intermediate_size": 768,
}


def main() -> None:
    options = parse()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    work, source = prepare(options, folder)
    peer = options.peer_python or make_environment(folder / "trl-environment", PEER_PACKAGES)
    commands = {
        "here": here("parts/reward_training.py"),
        "trl": [str(peer), str(PEER)],
    }
    if options.what == "speed":
        speed(options, work, commands)
    else:
        accuracy(options, work, source, commands)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "accuracy"))
    parser.add_argument("--data", type=Path, required=True, help="pairs, as data=files reads them")
    parser.add_argument("--val", type=Path, help="held-out pairs; default: a tenth of the prompts")
    parser.add_argument("--model", help="folder of a causal LM to start from; default: a toy Llama")
    parser.add_argument("--pairs", type=int, default=256, help="of them for speed")
    parser.add_argument("--batch", type=int, help="pairs a step; default 16 (speed), 64 (accuracy)")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--rounds", type=int, default=3, help="of speed, in turns")
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--max-prompt-tokens", type=int, default=512)
    parser.add_argument("--max-response-tokens", type=int, default=512)
    parser.add_argument("--micro-batch-tokens", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=OUTPUTS)
    parser.add_argument("--peer-python", type=Path, help="of an environment with trl and torch")
    options = parser.parse_args()
    options.batch = options.batch or (16 if options.what == "speed" else 64)
    return options


def prepare(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], Files]:
    """Write the initial model and the pairs as token ids; return the work that both get, and where
    the pairs are from.
    """
    source = Files(
        path=str(options.data),
        val_path=str(options.val) if options.val else None,
        max_prompt_tokens=options.max_prompt_tokens,
        max_response_tokens=options.max_response_tokens,
    )
    if options.model:
        start, tokenizer = options.model, load_tokenizer(options.model)
    else:
        start = folder / "start"
        tokenizer = train_tokenizer(source.texts(), 2048)
        toy(tokenizer).save_pretrained(start)
        tokenizer.save_pretrained(start)
    encoder = Encoder(tokenizer, options.max_prompt_tokens, options.max_response_tokens)
    initial = folder / "initial"
    new_scorer(start, tokenizer, seed=options.seed).save_pretrained(initial)
    tokenizer.save_pretrained(initial)
    data = PreferenceDataModule(source, encoder, options.batch, options.micro_batch_tokens, 0)
    rows = data.rows["train"]
    if options.what == "speed":
        rows = rows[:: max(1, len(rows) // options.pairs)][: options.pairs]
    pairs = [[row.prompt, *row.responses] for row in rows]
    (folder / "pairs.json").write_text(json.dumps(pairs), encoding="utf-8")
    lengths = [
        len(prompt) + len(response) for prompt, *responses in pairs for response in responses
    ]
    print(
        f"{len(pairs)} pairs of {options.data.name}; tokens a sequence: median"
        f" {statistics.median(lengths):.0f}, longest {max(lengths)}; batches of {options.batch}"
        f" pairs, {options.threads} threads, torch {torch.__version__}"
    )
    work = {
        "folder": str(folder),
        "initial": str(initial),
        "pairs": str(folder / "pairs.json"),
        "batch": options.batch,
        "epochs": options.epochs,
        "lr": options.lr,
        "seed": options.seed,
        "threads": options.threads,
        "micro_batch_tokens": options.micro_batch_tokens,
        "weight_decay": WEIGHT_DECAY,
        "warmup": WARMUP,
        "max_grad_norm": MAX_GRAD_NORM,
    }
    return work, source


def toy(tokenizer: Any) -> LlamaForCausalLM:
    """A small Llama with random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        **TOY,
        vocab_size=len(tokenizer),
        max_position_embeddings=2048,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return LlamaForCausalLM(config)


def speed(options: argparse.Namespace, work: dict, commands: dict[str, list[str]]) -> None:
    """Pairs per second and peak memory of both, in turns, and their ratios."""
    for precision in options.precision:
        results = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, command in commands.items():
                results[name].append(measured(command, work | {"precision": precision}))
        print(f"\n{precision}: {options.rounds} rounds in turns, {options.epochs} epoch(s)")
        print(f"  {'':6}{'pairs/s':>10}{'pairs/CPU-s':>14}{'peak MiB of training':>24}{'loss':>10}")
        for name, runs in results.items():
            wall, cpu, peak, loss = (
                statistics.median(r[key] for r in runs)
                for key in ("pairs_per_s", "pairs_per_cpu_s", "peak_mib", "loss")
            )
            print(f"  {name:6}{wall:10.2f}{cpu:14.2f}{peak:24.0f}{loss:10.4f}")
        for what, key in (
            ("speed", "pairs_per_s"),
            ("speed by CPU time, which other jobs disturb less", "pairs_per_cpu_s"),
            ("memory", "peak_mib"),
        ):
            ours, theirs = ([run[key] for run in runs] for runs in results.values())
            print(f"  {compared(f'{what}, here / trl', ours, theirs)}")


def accuracy(
    options: argparse.Namespace, work: dict, source: Files, commands: dict[str, list[str]]
) -> None:
    """Held-out accuracy after the same epochs, and the difference in its standard errors."""
    pairs = source.preferences("val")
    right = {}
    for name, command in commands.items():
        folder = Path(work["folder"], name)
        result = measured(command, work | {"precision": "fp32", "export": str(folder / "model")})
        tokenizer = load_tokenizer(work["initial"])
        encoder = Encoder(tokenizer, options.max_prompt_tokens, options.max_response_tokens)
        scorer = Scorer(frozen(ScalarModel(load_scorer(folder / "model"))), encoder)
        title = f"{name}: {options.data.name}, {options.epochs} epoch(s)"
        numbers = judge(scorer.raw_heads, pairs, folder, title=title, left_out={})
        prompts = [p.prompt for p in pairs]
        margins = scorer.raw_heads(prompts, [p.chosen for p in pairs])
        margins = margins - scorer.raw_heads(prompts, [p.rejected for p in pairs])
        right[name] = 0.5 + 0.5 * margins[:, 0].double().sign()
        print(
            f"  {name:6} accuracy {numbers['val/accuracy']:.4f}"
            f" [{numbers['val/accuracy_ci_low']:.4f}, {numbers['val/accuracy_ci_high']:.4f}]"
            f"  loss {numbers['val/loss']:.4f}  ece {numbers['val/ece']:.4f}"
            f"  longer wins {numbers['val/accuracy_longer']:.4f}  length within pairs"
            f" {numbers['val/score_length_correlation_within']:.3f}"
            f"  {result['pairs_per_s']:.1f} pairs/s; {folder / 'report.md'}"
        )
    clusters = {p: i for i, p in enumerate(dict.fromkeys(pair.prompt for pair in pairs))}
    cluster = torch.tensor([clusters[pair.prompt] for pair in pairs])
    difference = right["here"] - right["trl"]
    low, high = mean_interval(difference, cluster)
    error = (high - low) / (2 * Z_95)
    off = float(difference.mean()) / error if error else 0.0
    print(
        f"  here - trl: {float(difference.mean()):+.4f}, 95% interval {low:+.4f} to {high:+.4f},"
        f" {off:+.2f} standard errors, over {len(clusters)} prompts"
    )


if __name__ == "__main__":
    main()
