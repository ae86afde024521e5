"""What measurements share: how results are said, shapes of real models, prompts, the ceilings."""

import gc
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from lightning_modules.forward.on_cpu.products import has_onednn, product
from lightning_modules.models.loading import LoadOptions, load_causal_lm

# Public shapes; the weights are random, which speed and memory do not see.
SHAPES = {
    "135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "vocab_size": 128256,
        "tie_word_embeddings": True,
    },
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
    },
}
TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 512,
    "tie_word_embeddings": True,
}
# Of the last norm: logits then spread as those of a trained model, where random ones are flat.
SHARPNESS = 8.0


@dataclass(frozen=True)
class Bench:
    """Where a phase runs, whether at toy size, and how it tells what it finds."""

    phase: str
    tiny: bool
    cases: list[str] | None = None  # those asked for; None: all

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def say(self, **found: Any) -> None:
        """One JSON line, at once: what was found so far is kept whatever comes after."""
        line = {"phase": self.phase} | {k: _short(v) for k, v in found.items()}
        print(json.dumps(line), flush=True)

    def wants(self, case: str) -> bool:
        """Whether this part was asked for."""
        return self.cases is None or case in self.cases

    @contextmanager
    def case(self, name: str) -> Iterator[None]:
        """A part that may fail alone; its memory is given back, and its seconds are said."""
        # Here, since what a failed case held is held until its error is forgotten.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        started = time.perf_counter()
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            sys.stderr.flush()
            self.say(case=name, error=f"{type(error).__name__}: {error}"[:300])
        self.say(case=name, wall_s=time.perf_counter() - started)

    def model(self, shape: str, dtype: torch.dtype) -> PreTrainedModel:
        """A Llama of this shape, or the model of a folder of this name, where it is to be."""
        if Path(shape).is_dir():
            return load_causal_lm(shape, how=LoadOptions(dtype)).to(self.device)
        config = LlamaConfig(
            **(TINY if self.tiny else SHAPES[shape]),
            rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
            max_position_embeddings=4096,
            bos_token_id=None,
            eos_token_id=None,  # every response is as long as may be
            pad_token_id=0,
        )
        torch.manual_seed(0)
        with self.device:
            model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
        model.model.norm.weight.data.mul_(SHARPNESS)
        return model

    def prompts(self, model: PreTrainedModel, count: int, tokens: int) -> dict[str, torch.Tensor]:
        """Random prompts of 3/4 to all of `tokens` tokens, padded on the left as real ones are."""
        draws = torch.Generator().manual_seed(1)
        ids = torch.randint(3, model.config.vocab_size, (count, tokens), generator=draws)
        padding = torch.randint(0, tokens // 4 + 1, (count, 1), generator=draws)
        padding[0] = 0
        mask = torch.arange(tokens) >= padding
        return {
            "prompt_ids": (ids * mask).to(self.device),
            "prompt_mask": mask.to(self.device),
        }

    def autocast(self) -> AbstractContextManager:
        """As Lightning's bf16-mixed has it."""
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False)

    def forget_peak(self) -> None:
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()

    def peak_gib(self) -> float | None:
        """Of the GPU, since the last `forget_peak`."""
        return torch.cuda.max_memory_allocated() / 2**30 if self.on_gpu else None

    def synchronize(self) -> None:
        """Wait until the device has done what it was given."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def seconds(self, work: Callable[[], Any], repeats: int = 1, warmup: int = 0) -> float:
        """Mean seconds of `work`, all that it launched included."""
        for _ in range(warmup):
            work()
        self.synchronize()
        started = time.perf_counter()
        for _ in range(repeats):
            work()
        self.synchronize()
        return (time.perf_counter() - started) / repeats

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def matmul_tflops(self, dtype: torch.dtype = torch.bfloat16) -> float:
        """Of a product of random matrices, 8192 wide on a GPU and 2048 on a CPU, there by the
        library that layers use.
        """
        width = 256 if self.tiny else 8192 if self.on_gpu else 2048
        a, b = (torch.randn(width, width, dtype=dtype, device=self.device) for _ in "ab")
        fast = not self.on_gpu and dtype == torch.float32 and has_onednn()
        multiply = product if fast else torch.matmul
        return 2 * width**3 / self.seconds(lambda: multiply(a, b), repeats=10, warmup=3) / 1e12

    def copy_tbps(self) -> float:
        """Of a copy on the device, bytes read and bytes written."""
        # Larger than any cache.
        count = 2**20 if self.tiny else 2**30 if self.on_gpu else 2**27
        source = torch.randn(count, device=self.device)
        target = torch.empty_like(source)
        seconds = self.seconds(lambda: target.copy_(source), repeats=10, warmup=3)
        return 2 * source.nbytes / seconds / 1e12


def _short(value: Any) -> Any:
    """Four digits are enough to read."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def weight_bytes(model: torch.nn.Module, element: int) -> int:
    """What reading every weight once moves, in numbers of `element` bytes."""
    return element * sum(p.numel() for p in model.parameters())
