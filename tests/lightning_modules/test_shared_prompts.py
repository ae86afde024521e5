"""Samples that share their prompt make the iterations that each of them makes by itself."""

from functools import partial

import pytest
import torch

from lightning_modules.forward.shared_prompts import shared_prompt
from lightning_modules.rollouts.collection import Collector
from tests.lightning_modules.tiny_runs import run, weights

EQUAL = 1e-12
# Adam would make much of the rounding of gradients that are next to 0.
COMMON = {
    "samples_per_prompt": 4,
    "iterations": 2,
    "optimizer": partial(torch.optim.SGD, lr=0.1),
}
RLOO = COMMON | {"epochs": 2, "minibatches": 2, "importance": "token"}


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        ("rloo", RLOO),
        ("rloo", RLOO | {"lora": True, "micro_batch_tokens": 40, "kind": "llama"}),
        ("ppo", COMMON | {"critic": "head"}),
        ("ppo", COMMON | {"critic": "copy", "micro_batch_size": 5}),
        ("a2c", COMMON | {"critic": "adapter", "lora": True}),
    ],
    ids=["rloo", "rloo-lora-tokens", "ppo-head", "ppo-copy", "a2c-adapter"],
)
def test_a_run_is_the_same_with_and_without_it(algorithm, options, tmp_path, monkeypatch):
    def trained(name):
        module, rows, rollouts = run(algorithm, tmp_path / name, **options)
        return weights(*module.model.parameters()), rows, rollouts

    shared, rows, rollouts = trained("shared")
    assert {x.shape[0] for x in (r.prompt_of.unique() for r in rollouts)} == {8}
    monkeypatch.setattr(Collector, "share_prompts", lambda self: None)
    plain, others, rollouts_of_others = trained("plain")
    assert rollouts_of_others[0].prompt_of is None
    assert (shared - plain).abs().max() < EQUAL
    for row, other in zip(rows, others, strict=True):
        same = {k: x for k, x in row.items() if not k.startswith(("time/", "throughput/"))}
        assert {k: other[k] for k in same} == pytest.approx(same, rel=1e-6, abs=1e-9)


def test_with_one_sample_a_prompt_nothing_is_shared(tmp_path):
    _, _, rollouts = run("reinforce", tmp_path)
    assert all(rollout.prompt_of is None for rollout in rollouts)


def test_prompts_are_taken_once_each_in_the_order_of_their_numbers():
    ids = torch.tensor([[0, 5], [1, 6], [0, 5], [2, 7]])
    prompt = shared_prompt(ids, ids > 0, torch.tensor([9, 3, 9, 4]))
    assert prompt.ids.tolist() == [[1, 6], [2, 7], [0, 5]]
    assert prompt.owner.tolist() == [2, 0, 2, 1]
    assert torch.equal(prompt.mask[prompt.owner], ids > 0)
