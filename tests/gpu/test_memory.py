"""The estimate of a run's memory against what the allocator saw."""

import pytest
import torch

from benchmarks.parts.bench import SHAPES, Bench
from benchmarks.parts.iterations import Work, iterate

pytestmark = pytest.mark.gpu

MEDIUM = {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "vocab_size": 32000,
    "tie_word_embeddings": True,
}


@pytest.mark.parametrize(("lora", "micro_batch"), [(False, 4), (False, 16), (True, 8)])
def test_the_estimate_is_within_a_factor_of_the_peak(monkeypatch, device, lora, micro_batch):
    monkeypatch.setitem(SHAPES, "medium", MEDIUM)
    bench = Bench("memory", tiny=device.type == "cpu")
    prompts, tokens = (32, 64) if device.type == "cuda" else (4, 4)
    adapter = "lora" if lora else "none"
    work = Work("medium", adapter, prompts, tokens, min(micro_batch, prompts // 2))
    watch = iterate(bench, f"{lora=}, {micro_batch=}", work, peak_tflops=1.0)
    assert watch.expected > 0
    if device.type == "cuda":
        assert 0.6 < watch.measured_over_estimate < 1.6
        # Nothing else is held when the next test begins.
        del watch
        torch.cuda.empty_cache()
