"""Padding on either side says nothing: not to the policy, the critic, the scorer or the sampler."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.rollouts.generation import generate
from lightning_modules.rollouts.rollout import Rollout
from tests.exact.world import DTYPE, STOP, VOCABULARY, tiny_lm
from tests.properties.drawing import (
    ALGORITHMS,
    actor_critic,
    attach,
    collected,
    make,
    per_token,
    property_of,
    real_tokens,
    rollouts,
    scalar_model,
    seeds,
)
from tests.tolerances import WHITENING

KINDS = ("gpt2", "llama")
EQUAL = 1e-12
columns = st.integers(0, 4)


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return actor_critic(request.param)


@pytest.fixture(scope="module", params=KINDS)
def scorer(request):
    return scalar_model(request.param)


def padded(rollout: Rollout, left: int, right: int, pad: int) -> Rollout:
    """The same rollout between columns of padding that hold the id `pad`."""
    return replace(
        rollout,
        prompt_mask=F.pad(rollout.prompt_mask, (left, 0), value=False),
        sequences=F.pad(rollout.sequences, (left, right), value=pad),
        response_mask=F.pad(rollout.response_mask, (0, right), value=False),
        **{name: F.pad(x, (0, right)) for name, x in per_token(rollout).items()},
    )


def outputs(model, rollout):
    parts = (rollout.sequences, rollout.prompt_mask, rollout.response_mask)
    with torch.no_grad():
        return torch.stack([*model(*parts, 0.7, entropy=True), model.values(*parts)])


@given(rollout=rollouts(samples=1), left=columns, right=columns, pad=st.integers(0, 3))
@property_of(25)
def test_padding_changes_no_logprob_entropy_or_value(model, rollout, left, right, pad):
    plain = outputs(model, rollout)
    wide = outputs(model, padded(rollout, left, right, pad))
    width = plain.shape[-1]
    assert torch.allclose(wide[..., :width], plain, rtol=0, atol=EQUAL)
    assert not wide[..., width:].any()


@given(rollout=rollouts(samples=1), pad=st.integers(0, 3))
@property_of(10)
def test_a_row_is_what_it_is_alone(model, rollout, pad):
    together = outputs(model, padded(rollout, 0, 0, pad))
    for row in range(len(rollout)):
        # `select` takes the padding off.
        single = outputs(model, rollout.select(torch.tensor([row])))
        width = single.shape[-1]
        assert torch.allclose(together[:, row, :width], single[:, 0], rtol=0, atol=EQUAL)


@given(rollout=rollouts(samples=1), left=columns, right=columns, pad=st.integers(0, 3))
@property_of(25)
def test_padding_changes_no_score(scorer, rollout, left, right, pad):
    wide = padded(rollout, left, right, pad)
    masks = [torch.cat([r.prompt_mask, r.response_mask], dim=1) for r in (rollout, wide)]
    with torch.no_grad():
        plain = scorer.score(rollout.sequences, masks[0])
        assert torch.allclose(scorer.score(wide.sequences, masks[1]), plain, rtol=0, atol=EQUAL)


@pytest.mark.parametrize("kind", KINDS)
@given(
    prompts=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    left=columns,
    samples=st.integers(1, 3),
    seed=seeds,
)
@property_of(8)
def test_padding_and_company_change_no_sample(kind, prompts, left, samples, seed):
    generator = torch.Generator().manual_seed(seed)
    prompt_mask = torch.arange(4) >= 4 - torch.tensor(prompts)[:, None]
    prompt_ids = torch.randint(VOCABULARY, (len(prompts), 4), generator=generator)
    uniforms = torch.rand(len(prompts) * samples, 5, generator=generator, dtype=DTYPE)
    lm = tiny_lm(kind)

    def sample(ids, mask, noise):
        sequences, real, _ = generate(lm, ids, mask, noise, temperature=0.7, stop_id=STOP, pad_id=0)
        responses = sequences[:, ids.shape[1] :]
        return [row[kept].tolist() for row, kept in zip(responses, real, strict=True)]

    wide = sample(F.pad(prompt_ids, (left, 0)), F.pad(prompt_mask, (left, 0)), uniforms)
    alone = [
        response
        for i, n in enumerate(prompts)
        for response in sample(
            prompt_ids[i : i + 1, 4 - n :],
            prompt_mask[i : i + 1, 4 - n :],
            uniforms[i * samples : (i + 1) * samples],
        )
    ]
    assert wide == alone


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(rollout=rollouts(), right=columns)
@property_of(15)
def test_padding_changes_no_reward_weight_or_return(algorithm, rollout, right):
    module = make(algorithm)
    attach(module, actor_critic("recurrent", algorithm))
    plain = real_tokens(collected(module, rollout))
    wide = real_tokens(collected(module, padded(rollout, 0, right, 0)))
    assert plain.keys() == wide.keys()
    for name, x in plain.items():
        tolerance = EQUAL * (WHITENING if name == "advantages" else 1.0)
        assert torch.allclose(wide[name], x, rtol=0, atol=tolerance), name
