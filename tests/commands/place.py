"""Where a reader stands: a clone, with the files of their own that documents speak of."""

import gzip
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from datamodules.sources.landmarks import Landmarks
from datamodules.tokenization.loading import train_tokenizer
from tests.commands.documents import ROOT
from tests.commands.serving import serving
from tests.lightning_modules.models.families import family_config

NAMES = ("python", "python3", "rlhf-ladder", "pip")
# Not of the sources: what runs and tools leave.
LEFT_BEHIND = ("outputs", "wandb", "build", "dist", "multirun", ".*", "__pycache__", "*.egg-info")
ON_THE_HUB = ("HuggingFaceTB/SmolLM2-135M-Instruct", "Qwen/Qwen2.5-0.5B-Instruct")
ULTRAFEEDBACK, HH = "HuggingFaceH4/ultrafeedback_binarized", "Anthropic/hh-rlhf"
HH_SUBSETS = ("harmless-base", "helpful-base", "helpful-online", "helpful-rejection-sampled")
PAIRS = [
    {"prompt": f"What is {i}?", "chosen": f"{i} is a number.", "rejected": "I do not know."}
    for i in range(40)
]
SPLITS = {"train": PAIRS[8:], "test": PAIRS[:8]}
REWARD = "def score(prompts, responses):\n    return [-len(r) / 100 for r in responses]\n"
CONFIG = "from transformers import LlamaConfig\n\n\nclass MyConfig(LlamaConfig):\n    pass\n"


class Place:
    """A clone in `folder`, and what the hub's client has kept there."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.clone = folder / "rlhf-ladder"
        shutil.copytree(ROOT, self.clone, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
        self._write_programs()
        self._write_models()
        self._write_public_sets()

    def environment(self) -> dict[str, str]:
        """Of commands: without an account, a network or a GPU."""
        drop = ("WANDB_API_KEY", "WANDB_MODE", "HYDRA_FULL_ERROR", "PYTEST_XDIST_WORKER", "WARM")
        kept = {name: value for name, value in os.environ.items() if name not in drop}
        return kept | {
            "PATH": f"{self.clone / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.clone),
            "HF_HOME": str(self.folder / "hub"),
            "HF_HUB_OFFLINE": "1",
            "NETRC": os.devnull,
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "SCRATCH": str(self.clone),
        }

    def run(self, script: str, warm: str | None = None) -> subprocess.CompletedProcess:
        """bash on a script, in the clone; what it prints is in the order in which it is printed."""
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.clone,
            env=self.environment() | ({"WARM": warm} if warm else {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
        )

    def warm_python(self) -> AbstractContextManager[str]:
        """The socket of a server that has this clone's code loaded."""
        return serving(self.folder / "warm", self.clone, self.environment())

    def start_anew(self) -> None:
        """As if nothing had been run yet, but for stages, which another run of them would equal."""
        for folder in ("runs", "sweeps", "comparisons"):
            shutil.rmtree(self.clone / "outputs" / folder, ignore_errors=True)
        self._write_files()

    def _write_programs(self) -> None:
        programs = self.clone / ".venv" / "bin"
        programs.mkdir(parents=True)
        stand_in = shlex.join([sys.executable, "-IS", str(Path(__file__).with_name("python.py"))])
        for name in NAMES:
            script = f'#!/bin/sh\nexec {stand_in} {name} "$@"\n'
            (programs / name).write_text(script, encoding="utf-8")
            (programs / name).chmod(0o755)
        (programs / "activate").touch()
        ruff = shutil.which("ruff", path=Path(sys.executable).parent)
        if ruff:
            (programs / "ruff").symlink_to(ruff)

    def _write_models(self) -> None:
        """A tiny one of random weights, in a folder and under the names that presets give."""
        from transformers import AutoModelForCausalLM

        world = Landmarks(train_demonstrations=200, train_pairs=64, val_pairs=24)
        tokenizer = train_tokenizer(world.texts(), 512)
        config = family_config("llama", tokenizer)
        config.max_position_embeddings = 2048
        folder = self.clone / "my_model"
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        for repository in ON_THE_HUB:
            shutil.copytree(folder, self._on_the_hub("models", repository))

    def _write_files(self) -> None:
        """The reader's own: preferences and modules."""
        for name in ("pairs.jsonl", "pairs (é).jsonl"):
            (self.clone / name).write_text(_lines(PAIRS), encoding="utf-8")
        for name in ("train.jsonl.gz", "test.jsonl.gz"):
            rows = [row | {"prompt": f"{name}: {row['prompt']}"} for row in PAIRS]
            (self.clone / name).write_bytes(gzip.compress(_lines(rows).encode()))
        rankings = [
            {"prompt": row["prompt"], "responses": [row["chosen"], "No.", ""], "scores": [3, 2, 1]}
            for row in PAIRS
        ]
        (self.clone / "rankings.jsonl").write_text(_lines(rankings), encoding="utf-8")
        (self.clone / "my").mkdir(exist_ok=True)
        for name in ("my_module.py", "my/rewards.py"):
            (self.clone / name).write_text(REWARD, encoding="utf-8")
        (self.clone / "my_models.py").write_text(CONFIG, encoding="utf-8")

    def _write_public_sets(self) -> None:
        self._write_ultrafeedback()
        hh = self._on_the_hub("datasets", HH)
        for subset in HH_SUBSETS:
            for split, rows in SPLITS.items():
                file = hh / subset / f"{split}.jsonl.gz"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(gzip.compress(_lines(map(_transcripts, rows)).encode()))
        shutil.copytree(hh, self.clone / "copies" / "hh-rlhf")

    def _write_ultrafeedback(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = self._on_the_hub("datasets", ULTRAFEEDBACK) / "data"
        folder.mkdir(parents=True)
        for split, rows in SPLITS.items():
            file = folder / f"{split}_prefs-00000-of-00001.parquet"
            pq.write_table(pa.Table.from_pylist([_chats(row) for row in rows]), file)

    def _on_the_hub(self, kind: str, repository: str) -> Path:
        """Where the hub's client keeps the files of a repository that it has fetched."""
        root = self.folder / "hub" / "hub" / f"{kind}--{repository.replace('/', '--')}"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text("0" * 40, encoding="utf-8")
        return root / "snapshots" / ("0" * 40)


def _lines(rows: Iterable[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _chats(row: dict[str, str]) -> dict:
    """As UltraFeedback has a pair."""
    user = {"role": "user", "content": row["prompt"]}
    answers = {k: [user, {"role": "assistant", "content": row[k]}] for k in ("chosen", "rejected")}
    return answers | {"score_chosen": 8.0, "score_rejected": 5.0}


def _transcripts(row: dict[str, str]) -> dict[str, str]:
    """As HH-RLHF has a pair."""
    head = f"\n\nHuman: {row['prompt']}\n\nAssistant: "
    return {key: head + row[key] for key in ("chosen", "rejected")}
