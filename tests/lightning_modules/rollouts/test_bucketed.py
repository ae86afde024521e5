"""Sampling in buckets gives what the plain loop gives, of every family and size of bucket."""

from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, TaskType
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    Qwen2Config,
)
from transformers.integrations import sdpa_attention

from lightning_modules.models.adapters import add_adapter
from lightning_modules.rollouts.generation import generate
from lightning_modules.rollouts.graphs import Graphs
from lightning_modules.rollouts.sampler import Sampler
from lightning_modules.rollouts.static_cache import EXACT, FIXED, Sizes
from tests.exact.world import norms_in_float64
from tests.tolerances import of_model

VOCABULARY = 48
USUAL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
}
CONFIGS = {
    "llama": LlamaConfig(**USUAL),
    "grouped": LlamaConfig(**USUAL, num_key_value_heads=1),
    "qwen2": Qwen2Config(**USUAL, num_key_value_heads=2),
    "gemma2": Gemma2Config(**USUAL, num_key_value_heads=2, head_dim=8, sliding_window=64),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=128),
}
SIZES = {"exact": EXACT, "fixed": FIXED, "small": Sizes(powers=True, columns=4)}
STOPS = (5, 9, 11)
LIMIT = 14
IDS = torch.randint(12, VOCABULARY, (5, 6), generator=torch.Generator().manual_seed(0))
MASK = torch.arange(6) >= torch.tensor([0, 3, 1, 5, 2])[:, None]


def toy(name, dtype=torch.float32, adapted=False):
    """A random model whose adapters, if it has any, change what it says."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name])
    for parameter in model.parameters():
        parameter.data.mul_(3.0)
    if adapted:
        lora = LoraConfig(r=2, target_modules="all-linear")
        model = add_adapter(model, lora, TaskType.CAUSAL_LM, seed=1)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data.normal_(std=0.2)
    if dtype == torch.float64:
        norms_in_float64(model)
    return model.to(dtype).eval()


def noise(rows, limit=LIMIT):
    generator = torch.Generator().manual_seed(rows)
    return torch.rand(rows, limit, generator=generator, dtype=torch.float64)


def both(model, sizes, uniforms, stops=STOPS, mask=MASK, temperature=0.8):
    """What the plain loop and the buckets give, shown to be the same tokens."""
    options = {"temperature": temperature, "stop_id": stops, "pad_id": 9}
    usual = generate(model, IDS, mask, uniforms, **options)
    found = Sampler(sizes)(model, IDS, mask, uniforms, **options)
    assert torch.equal(found.sequences, usual.sequences)
    assert torch.equal(found.response_mask, usual.response_mask)
    return usual, found


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CONFIGS)
def test_tokens_are_those_of_the_plain_loop(name, dtype, adapted):
    """With samples of a prompt beside each other, stop tokens, padding, and rows that leave."""
    model = toy(name, dtype, adapted)
    # Eager attention makes NaN of the padding of prompts in float64, whichever way it is sampled.
    eager = name == "gemma2"
    mask = MASK | (eager and dtype == torch.float64)
    # Nor is its softmax in another dtype than float32.
    rounding = of_model(toy(name, torch.float32, adapted) if eager else model)
    for sizes in SIZES.values():
        usual, found = both(model, sizes, noise(15), mask=mask)
        lengths = usual.response_mask.sum(1)
        assert len(set(lengths.tolist())) > 4
        assert LIMIT in lengths
        torch.testing.assert_close(found.logprobs, usual.logprobs, rtol=0, atol=10 * rounding)


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_limits_and_stops_at_their_edges(sizes):
    model = toy("llama")
    free, _ = both(model, sizes, noise(5), stops=-1)
    assert free.response_mask.all()
    first = free.sequences[:, 6].tolist()
    at_once, _ = both(model, sizes, noise(5), stops=first)
    assert at_once.response_mask.shape == (5, 1)
    later, _ = both(model, sizes, noise(5), stops=free.sequences[:, 8].tolist() + first[:1])
    assert 1 < later.response_mask.shape[1] <= 3
    both(model, sizes, noise(5, limit=1), stops=-1)
    both(model, sizes, noise(5, limit=1), stops=first[:2])
    both(model, sizes, noise(5), temperature=1.7)


def test_tokens_do_not_depend_on_company():
    model, uniforms = toy("grouped"), noise(5)
    options = {"temperature": 1.0, "stop_id": STOPS, "pad_id": 0}
    together = Sampler(FIXED)(model, IDS, MASK, uniforms, **options)
    for row in range(5):
        one = slice(row, row + 1)
        alone = Sampler(FIXED)(model, IDS[one], MASK[one], uniforms[one], **options)
        width = alone.response_mask.shape[1]
        assert torch.equal(alone.sequences[0], together.sequences[row, : 6 + width])
        assert int(together.response_mask[row].sum()) == width


def test_keys_are_not_copied_by_older_versions_of_the_library_either(monkeypatch):
    model, uniforms = toy("qwen2"), noise(15)
    options = {"temperature": 0.8, "stop_id": STOPS, "pad_id": 9}
    usual = generate(model, IDS, MASK, uniforms, **options)
    monkeypatch.delattr(sdpa_attention, "pack_gqa")  # by which it is told
    found = Sampler(FIXED)(model, IDS, MASK, uniforms, **options)
    assert torch.equal(found.sequences, usual.sequences)
    torch.testing.assert_close(found.logprobs, usual.logprobs, rtol=0, atol=10 * of_model(model))
    with pytest.raises(NameError):  # of the library, whose own way is back
        generate(model, IDS, MASK, uniforms, **options)


def test_sizes_hold_what_they_are_for_and_are_few():
    for sizes in SIZES.values():
        columns = [sizes.columns_for(n) for n in range(1, 3000)]
        assert columns == sorted(columns)
        assert all(c >= n for n, c in enumerate(columns, 1))
        assert all(n <= sizes.rows_for(n, 100) <= 100 for n in range(1, 101))
    fixed = {FIXED.columns_for(n) for n in range(1, 3000)}
    assert len(fixed) < 30
    assert all(c < n * 9 / 8 + 64 for n, c in ((n, FIXED.columns_for(n)) for n in range(1, 3000)))
    assert {FIXED.rows_for(n, 100) for n in range(1, 101)} == {1, 2, 4, 8, 16, 32, 64, 100}
    assert [EXACT.columns_for(n) for n in (1, 77, 2048)] == [1, 77, 2048]
    assert [EXACT.rows_for(n, 100) for n in (1, 77, 100)] == [1, 77, 100]


def test_a_bucket_s_step_is_run_then_captured_then_replayed(monkeypatch):
    """A capture writes down and does nothing, so that it is followed by a replay."""
    did = []
    monkeypatch.setattr(
        Graphs,
        "_captured",
        lambda self, step: did.append("captured") or SimpleNamespace(replay=step),
    )
    graphs = Graphs()
    for shape in [(4, 64)] * 3 + [(2, 64), (4, 64), (2, 64)]:
        graphs.run(shape, lambda made: lambda: did.append(made))
    large, small = (4, 64), (2, 64)
    assert did == [large, "captured", large, large, small, large, "captured", small]
