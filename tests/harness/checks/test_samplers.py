"""Buckets are used where they say what the model says, and the plain loop is where they do not."""

from types import SimpleNamespace

import pytest
import torch

from harness.checks import samplers
from harness.checks.samplers import ChooseSampler, candidates, choose, keeps_all, why_not
from lightning_modules.rollouts.generation import generate
from lightning_modules.rollouts.sampler import Sampler
from lightning_modules.rollouts.static_cache import EXACT, FIXED
from tests.harness.checks.test_selfcheck import Bench
from tests.lightning_modules.models.families import FAMILIES, family_model

CHOSEN = ("llama", "gpt2", "qwen2", "qwen3_moe", "phi3", "gpt_neox")
WINDOWS = ("gemma2", "gemma3", "mistral")


@pytest.fixture
def batch(encoder, world):
    prompts = world.prompts("train")[:3]
    ids, mask = encoder.pad(encoder.prompts(prompts), "left")
    return {"prompt_ids": ids, "prompt_mask": mask, "places": [0, 1, 2]}


@pytest.fixture
def bench(world, encoder, tmp_path) -> Bench:
    return Bench(world, encoder, tmp_path)


COLLECTOR = SimpleNamespace(vocabulary=SimpleNamespace(max_response_tokens=16), temperature=1.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_refused_or_gives_the_plain_loop_s_tokens(family, encoder, batch):
    lm = family_model(family, encoder.tokenizer, 0).eval()
    refused = [why_not(lm, COLLECTOR, Sampler(s), batch, 32, 1e-3) for s in (EXACT, FIXED)]
    if family in CHOSEN:
        assert refused == [None, None]
    if family in WINDOWS:
        assert all("does not keep the keys and values of" in why for why in refused)
    noise = torch.rand(6, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    given = (lm, batch["prompt_ids"], batch["prompt_mask"], noise)
    options = {"temperature": 1.0, "stop_id": encoder.stop_ids, "pad_id": encoder.pad_id}
    for sizes, why in zip((EXACT, FIXED), refused, strict=True):
        if why is None:
            found = Sampler(sizes)(*given, **options)
            assert torch.equal(found.sequences, generate(*given, **options).sequences)


def test_a_window_that_holds_every_sequence_is_none(encoder):
    lm = family_model("mistral", encoder.tokenizer, 0)
    window = lm.config.sliding_window
    assert keeps_all(lm, window)
    assert not keeps_all(lm, window + 1)


def chosen_before(option, bench):
    return lambda module: ChooseSampler(option, bench.console).on_train_start(
        module.trainer, module
    )


def test_a_run_in_buckets_is_the_plain_one_but_for_rounding(bench):
    rows, chosen = {}, {}
    for option in ("auto", "plain", "bucketed"):
        module = bench.module(lora=True, iterations=2)
        rows[option] = bench.run(module, before=chosen_before(option, bench), check=False)
        chosen[option] = module.collector.sampler
    assert chosen == {"auto": Sampler(), "plain": Sampler(), "bucketed": Sampler(EXACT)}
    assert rows["auto"] == rows["plain"]
    for usual, found in zip(rows["plain"], rows["bucketed"], strict=True):
        assert found == pytest.approx(usual, rel=1e-3, abs=1e-4)
        assert found["rollout/sampler_gap_max"] < 1e-4
    assert "sampling by" not in bench.said()


def test_a_model_that_cannot_is_told_of_before_the_first_iteration(bench, monkeypatch):
    monkeypatch.setattr(samplers, "keeps_all", lambda lm, tokens: False)
    module = bench.module()
    bench.run(module, before=chosen_before("bucketed", bench), check=False)
    assert module.collector.sampler == Sampler()
    (line,) = [x for x in bench.said().splitlines() if "sampling" in x]
    assert "sampling by the plain loop: the cache of LlamaForCausalLM does not keep" in line


def test_graphs_come_first_on_a_gpu_and_the_plain_loop_last():
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    ways = candidates("auto", gpu)
    assert ways == candidates("bucketed", gpu) == [Sampler(FIXED, graphs=True), Sampler(FIXED)]
    assert candidates("auto", cpu) == candidates("plain", cpu) == candidates("plain", gpu) == []
    for refused, expected, said in (
        ([0.0, 0.0], ways[0], []),
        ([1.0, 0.0], ways[1], ["sampling in buckets, without graphs: no capture"]),
        ([2.0, 1.0], Sampler(), ["sampling by the plain loop: another rank could not"]),
    ):
        collector = SimpleNamespace()
        assert choose(collector, ways, ["no capture", None], torch.tensor(refused)) == said
        assert collector.sampler == expected
