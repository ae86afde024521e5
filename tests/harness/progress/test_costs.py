from dataclasses import replace

import pytest

from harness.progress.costs import (
    SAMPLED,
    Lengths,
    Models,
    backward,
    iteration,
    policy,
    supervised,
)

LENGTHS = Lengths(prompt=10, response=5, comparison=21, longest_prompt=12, longest_response=8)
ALONE = Models(reference=False, critic=False, rewards=0, lora=False)


def test_a_supervised_part_costs_its_tokens_once_forward_and_its_training_backward_too():
    cost = supervised(100, 10, 15.0, 3, lora=False)
    assert cost.train == pytest.approx(3 * 100 * 15 * (1 + backward(lora=False)))
    assert cost.evaluate == 3 * 10 * 15
    assert supervised(100, 10, 15.0, 3, lora=True).train < cost.train


def test_each_model_reads_a_rollout_once_more():
    alone = iteration(4, 1, 0, LENGTHS, ALONE)
    tokens = 4 * (12 + 8)
    for more in ({"reference": True}, {"rewards": 1}):
        assert iteration(4, 1, 0, LENGTHS, replace(ALONE, **more)).read == alone.read + tokens
    with_critic = iteration(4, 1, 0, LENGTHS, replace(ALONE, critic=True))
    assert with_critic.update == 2 * alone.update
    assert iteration(4, 1, 3, LENGTHS, ALONE).update == 4 * alone.update
    assert alone.sample == 4 * (12 + SAMPLED * 5)


def test_an_evaluation_is_an_iteration_without_updates_and_the_reference_answers_once():
    models = replace(ALONE, rewards=2)
    once = iteration(6, 0, 0, LENGTHS, models)
    assert once.update == 0
    each = iteration(4, 2, 0, LENGTHS, models)
    costs = [policy(each, 10, 0, count, 6, LENGTHS, models) for count in (1, 3)]
    assert costs[1].evaluate - costs[0].evaluate == pytest.approx(2 * once.all)
    assert costs[0].evaluate > once.all
    assert costs[0].train == pytest.approx(10 * each.all)
    assert costs[0].sampled * each.all == pytest.approx(each.sample)
    assert (1 - costs[0].collected) * each.all == pytest.approx(each.update)


def test_a_warm_up_costs_the_rollout_and_the_critics_part_of_the_updates():
    models = replace(ALONE, critic=True)
    each = iteration(4, 2, 3, LENGTHS, models)
    plain, warmed = (policy(each, 10, count, 1, 6, LENGTHS, models) for count in (0, 5))
    of_critic = each.update - iteration(4, 2, 3, LENGTHS, ALONE).update  # in its epochs
    of_critic += (
        iteration(4, 1, 3, LENGTHS, ALONE).update - iteration(4, 1, 0, LENGTHS, ALONE).update
    )
    once = each.sample + each.read + of_critic
    assert warmed.train - plain.train == pytest.approx(5 * once)
    assert warmed.warmup == pytest.approx(once / each.all)
