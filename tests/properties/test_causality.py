"""What is decided at t is not known before: no logit or value of s_0 .. s_t changes with it."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.models.actor_critic import ActorCritic
from tests.exact.world import VOCABULARY, tiny_lm
from tests.properties.drawing import actor_critic, property_of, rollouts, scalar_model

EQUAL = 1e-12


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def kind(request):
    return request.param


@pytest.fixture(scope="module", params=["head", "copy"])
def model(kind, request):
    if request.param == "head":
        return actor_critic(kind)
    return ActorCritic(tiny_lm(kind), critic=scalar_model(kind))


@given(rollout=rollouts(st.just(5), samples=1), t=st.integers(0, 4))
@property_of(15)
def test_a_token_changes_nothing_up_to_the_state_it_was_taken_in(model, rollout, t):
    place = rollout.prompt_mask.shape[1] + t

    def outputs(token):
        sequences = rollout.sequences.clone()
        sequences[:, place] = token
        with torch.no_grad():
            return model(sequences, rollout.prompt_mask, rollout.response_mask, 1.0, entropy=True)

    every = [outputs(token) for token in range(VOCABULARY)]
    first, others = every[0], every[1:]
    for other in others:
        assert torch.allclose(other.logprobs[:, :t], first.logprobs[:, :t], rtol=0, atol=EQUAL)
        for name in ("entropy", "values"):
            before, after = getattr(first, name), getattr(other, name)
            assert torch.allclose(after[:, : t + 1], before[:, : t + 1], rtol=0, atol=EQUAL)
            # It is not for want of influence.
            assert t == 4 or (after[:, t + 1] - before[:, t + 1]).abs().max() > 1e-6
    # The logits of s_t are the same whatever was taken: together the four are a distribution.
    total = torch.stack([x.logprobs[:, t] for x in every]).logsumexp(0)
    assert torch.allclose(total, torch.zeros(len(rollout), dtype=total.dtype), rtol=0, atol=EQUAL)


@given(rollout=rollouts(samples=1), column=st.integers(0, 8))
@property_of(20)
def test_a_score_is_of_all_tokens_and_of_no_padding(kind, rollout, column):
    scorer, sequences = scalar_model(kind), rollout.sequences
    mask = torch.cat([rollout.prompt_mask, rollout.response_mask], dim=1)
    column %= sequences.shape[1]
    changed = replace(rollout, sequences=sequences.clone()).sequences
    changed[:, column] = (changed[:, column] + 1) % VOCABULARY
    with torch.no_grad():
        difference = (scorer.score(changed, mask) - scorer.score(sequences, mask)).abs()
    assert ((difference > 1e-9) == mask[:, column]).all()
