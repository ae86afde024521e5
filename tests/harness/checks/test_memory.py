"""The estimate of a run's memory: its parts by hand, and the whole against a measured peak."""

import ctypes
import multiprocessing
import sys
from functools import partial
from multiprocessing import Queue
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from datamodules.tokenization.encoder import Encoder
from harness.checks import memory
from harness.checks.forward_passes import check_repeats
from harness.checks.memory import Sizes, estimate, sampling_bytes, states_per_weight, update_bytes
from lightning_modules.forward import free_memory
from lightning_modules.forward.saved import saved_bytes
from lightning_modules.models.parameters import frozen
from lightning_modules.models.scalar import ScalarModel
from lightning_modules.models.scorers import new_scorer
from lightning_modules.rewards.combined import CombinedReward
from lightning_modules.rewards.learned import LearnedReward, Scorer
from lightning_modules.rollouts.sampler import Sampler
from lightning_modules.rollouts.static_cache import FIXED
from tests.harness.checks.test_selfcheck import Bench, Length

# Of glibc's mallopt.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
SIZES = Sizes(sequences=8, micro_batch=4, prompt_tokens=10, response_tokens=16)


@pytest.fixture
def bench(world, encoder, tmp_path) -> Bench:
    return Bench(world, encoder, tmp_path)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_weights_gradients_and_states_are_counted_by_their_dtypes(bench):
    module = bench.module()
    found = estimate(module, SIZES)
    count = parameters(module.model)
    # Frequencies of the rotary embedding are buffers, here far below 1 KiB.
    assert 4 * count <= found.policy < 4 * count + 1024
    assert found.gradients == 4 * count
    assert found.optimizer == 2 * 4 * count
    with module.collector.reference.active() as reference:
        assert 4 * parameters(reference) <= found.reference < 4 * parameters(reference) + 1024
        reference.to(torch.bfloat16)
    assert estimate(module, SIZES).reference == pytest.approx(found.reference / 2, rel=0.01)


def test_adapters_share_their_base_with_the_reference_and_alone_have_gradients(bench):
    module = bench.module(lora=True, critic="adapter")
    found = estimate(module, SIZES)
    trained = sum(p.numel() for p in module.model.parameters() if p.requires_grad)
    assert found.reference == 0
    assert found.gradients == 4 * trained < found.policy / 5


def test_reward_models_are_counted_wherever_they_are(bench):
    bench.module()  # leaves a language model in the folder
    scorer = new_scorer(bench.folder / "lm", bench.encoder.tokenizer, seed=0)
    scorer = ScalarModel(frozen(scorer))
    reward = LearnedReward()
    reward.scorer = Scorer(scorer, bench.encoder)
    both = CombinedReward(
        rewards={"model": reward, "length": Length()}, weights={"model": 1.0, "length": 1.0}
    )
    found = estimate(bench.module(reward=both), SIZES)
    assert 4 * parameters(scorer) <= found.reward < 4 * parameters(scorer) + 1024
    assert found.scoring > 0
    assert estimate(bench.module(), SIZES).reward == 0


@pytest.mark.parametrize(
    ("optimizer", "states"),
    [(partial(Adam, lr=1.0), 2), (partial(SGD, lr=1.0), 0), (partial(SGD, lr=1, momentum=0.9), 1)],
)
def test_an_optimisers_states_are_those_that_it_keeps(optimizer, states):
    assert states_per_weight(optimizer) == states


def test_the_cache_is_keys_and_values_of_every_layer(bench):
    # 2 layers, keys and values, 2 heads of 8 numbers; gpt2 has 4 heads.
    vocabulary = len(bench.encoder.tokenizer)
    logits = vocabulary * memory.SAMPLING_LOGITS
    for kind, numbers in (("llama", 2 * 2 * 2 * 8), ("gpt2", 2 * 2 * 4 * 8)):
        assert sampling_bytes(bench.module(kind=kind), SIZES) == 8 * (26 * numbers * 4 + logits)


def test_buckets_have_room_to_spare_and_weights_with_adapters_in_them(bench):
    module = bench.module(lora=True)
    usual = sampling_bytes(module, SIZES)
    module.collector.sampler = Sampler(FIXED)
    # 64 columns for 26 tokens; 7 linear layers in each of 2.
    room = 8 * (64 - 26) * 2 * 2 * 2 * 8 * 4
    layers = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48) * 4
    assert sampling_bytes(module, SIZES) == usual + room + layers


def test_an_update_grows_with_the_micro_batch_and_with_the_length(bench):
    module = bench.module()
    small = update_bytes(module, SIZES)
    assert small > 4 * 16 * len(bench.encoder.tokenizer) * 4
    large = Sizes(8, 8, 10, 16)
    assert update_bytes(module, large) == pytest.approx(2 * small, rel=0.01)
    longer = Sizes(8, 4, 20, 32)
    assert 1.9 * small < update_bytes(module, longer) < 3 * small


def test_a_prompt_that_is_read_once_counts_once(bench):
    """Against what is saved of 16 responses to 4 prompts."""
    module = bench.module("rloo", samples_per_prompt=4, micro_batch_size=16)
    sizes = Sizes(sequences=16, micro_batch=16, prompt_tokens=60, response_tokens=8)
    apart = update_bytes(module, sizes)
    module.collector.share_prompts()
    assert module.collector.shares_prompts
    together = update_bytes(module, sizes)
    prompt_mask = torch.ones(16, 60, dtype=torch.bool)
    prompt_mask[:, 0] = False
    rows = torch.zeros(16, 68, dtype=torch.long), prompt_mask, torch.ones(16, 8, dtype=torch.bool)
    held = saved_bytes(module.model, lambda: module.passes(*rows, torch.arange(16) // 4))
    held += 16 * 8 * len(bench.encoder.tokenizer) * memory.WHOLE_LOGIT
    # A part may end within a prompt: there is one more than 4.
    assert held < together < 1.25 * held < apart


class Saved:
    """What a graph holds of one tensor; `now` and `most` are of all."""

    now = most = 0

    def __init__(self, x):
        self.x = x.detach()  # itself would be a circle
        Saved.now += x.nbytes
        Saved.most = max(Saved.most, Saved.now)

    def __del__(self):
        Saved.now -= self.x.nbytes


def most_saved(passes) -> int:
    Saved.now = Saved.most = 0
    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.x):
        passes()
    return Saved.most


@pytest.mark.parametrize("critic", ["head", "copy"])
def test_the_check_of_passes_holds_one_graph_at_a_time_as_an_update_does(critic, bench):
    module = bench.module(critic=critic, micro_batch_size=4, minibatches=1)
    prompts = bench.world.prompts("train")[:8]
    ids, mask = bench.encoder.pad(bench.encoder.prompts(prompts), "left")
    batch = {"prompt_ids": ids, "prompt_mask": mask, "prompts": prompts}
    noise = torch.Generator().manual_seed(0)
    rollout, _, _ = module.collector.collect(batch, noise, 1, with_reference=False)
    part = rollout.select(torch.arange(4))

    def update() -> None:
        for new in module.passes(part.sequences, part.prompt_mask, part.response_mask):
            del new

    assert 0 < most_saved(lambda: check_repeats(module, rollout)) <= 1.1 * most_saved(update)


def test_half_precision_halves_what_most_layers_keep(bench, monkeypatch):
    """Of a response more: weights that are cast are kept whatever their number. With attention as
    Transformers has it: another test may have prepared that of short sequences, which keeps more.
    """
    mapping = dict(AttentionInterface._global_mapping) | {"sdpa": sdpa_attention_forward}
    monkeypatch.setattr(AttentionInterface, "_global_mapping", mapping)
    module = bench.module()

    def of_a_response() -> int:
        return update_bytes(module, Sizes(8, 5, 10, 16)) - update_bytes(module, SIZES)

    full = of_a_response()
    with torch.autocast("cpu", torch.bfloat16):
        half = of_a_response()
    # Norms, softmax and logits stay in float32.
    assert 0.4 * full < half < 0.95 * full


def test_the_remedy_names_the_largest_part_first(bench):
    found = estimate(bench.module(), SIZES)
    assert found.remedy("algo.micro_batch_size").startswith("algo.micro_batch_size")
    many = estimate(bench.module(), Sizes(5000, 1, 10, 16))
    assert many.remedy("algo.micro_batch_size").startswith("algo.prompts_per_iteration")


def test_free_memory_is_the_least_of_what_machine_and_container_leave(tmp_path, monkeypatch):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n", encoding="utf-8")
    for name, text in {
        "max": "3000000",
        "current": "2500000",
        "stat": "anon 1\nfile 500000",
    }.items():
        (tmp_path / f"memory.{name}").write_text(text + "\n", encoding="utf-8")
    assert free_memory._available(meminfo) == 4000 * 1024
    assert free_memory._left_in_container(tmp_path) == 1_000_000
    (tmp_path / "memory.max").write_text("max\n", encoding="utf-8")
    assert free_memory._left_in_container(tmp_path) is None
    assert free_memory._available(tmp_path / "none") is None
    monkeypatch.setattr(free_memory, "_available", lambda: 4_000_000)
    monkeypatch.setattr(free_memory, "_left_in_container", lambda: 1_000_000)
    assert free_memory.free_bytes(torch.device("cpu"), 2) == 500_000
    for name in ("_available", "_left_in_container"):
        monkeypatch.setattr(free_memory, name, lambda: None)
    assert free_memory.free_bytes(torch.device("cpu"), 1) is None


def status(name: str) -> int:
    """Bytes that Linux counts for this process: VmRSS of now, VmHWM at most."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text(encoding="utf-8").splitlines())
    return int(lines[name].split()[0]) * 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc and /proc")
def test_what_this_process_has_freed_is_free():
    pieces = [torch.ones(16_000) for _ in range(3000)]  # 192 MB, too small to be mapped each
    last = pieces[-1]  # what is below it stays with the heap
    del pieces
    before = status("VmRSS")
    free_memory.free_bytes(torch.device("cpu"), 1)
    assert before - status("VmRSS") > 100 * 2**20
    assert last.sum() == 16_000


def measure(bench: Bench, result: Queue) -> None:
    """Puts the estimate beside the weights, and how far an iteration went beyond what was held."""
    torch.set_num_threads(1)
    libc = ctypes.CDLL(None)
    # What is freed goes back to the system, so that the peak is of what is held.
    for threshold in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
        libc.mallopt(threshold, 2**16)
    # A small run first, since libraries load much of their code when it is needed.
    bench.run(bench.module(prompts_per_iteration=2), check=False)
    sizes = {"prompts_per_iteration": 16, "micro_batch_size": 16}
    sizes |= {"epochs": 1, "minibatches": 1}
    module = bench.module(kind="wide", **sizes)
    longest = max(map(len, bench.encoder.prompts(bench.world.prompts("train"))))
    found = estimate(module, Sizes(16, 16, longest, bench.encoder.max_response_tokens))
    libc.malloc_trim(0)
    before = status("VmRSS")
    RESET.write_text("5", encoding="utf-8")  # VmHWM begins anew
    bench.run(module, check=False)
    result.put((found.to_come, status("VmHWM") - before))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc, fork and /proc")
def test_the_estimate_is_within_a_factor_of_two_of_the_peak(world, encoder, tmp_path):
    bench = Bench(world, Encoder(encoder.tokenizer, 32, 48), tmp_path)
    context = multiprocessing.get_context("fork")
    result = context.Queue()
    process = context.Process(target=measure, args=(bench, result))
    process.start()
    estimated, measured = result.get(timeout=100)
    process.join()
    assert measured > 50 * 2**20
    assert 0.5 < estimated / measured < 2
