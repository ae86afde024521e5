"""One rollout: what is sampled, what is said of it, and in which order."""

from dataclasses import fields

import pytest
import torch

from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.reference import Reference
from lightning_modules.objectives.advantages import last_token
from lightning_modules.objectives.masked import masked_sum
from lightning_modules.rewards.reward import Reward
from lightning_modules.rollouts.collection import Collector, Vocabulary
from lightning_modules.rollouts.micro_batches import MicroBatches
from tests.tolerances import of_model

SAMPLES, LIMIT = 6, 8


class ByLength(Reward):
    """The number of characters."""

    def score(self, responses):
        return torch.tensor([float(len(text)) for text in responses.texts])


@pytest.fixture
def batch(world, encoder):
    prompts = world.prompts("train")[::60]
    ids, mask = encoder.pad(encoder.prompts(prompts), "left")
    assert not mask.all()
    return {"prompts": prompts, "prompt_ids": ids, "prompt_mask": mask}


@pytest.fixture
def critic(lm):
    head = torch.nn.Linear(32, 1)
    torch.nn.init.normal_(head.weight, std=0.1)
    return ActorCritic(lm, head, None)


@pytest.fixture
def reference(architecture, request):
    """Another model of the same kind."""
    lm = request.getfixturevalue("lm")
    other = type(lm)(lm.config).eval()
    other.load_state_dict({k: 0.9 * x for k, x in lm.state_dict().items()})
    return Reference(other, shares_policy=False)


@pytest.fixture
def build(critic, reference, encoder, batch):
    """A collector whose stop token the model likes."""

    def build(stop_id, **options):
        words = Vocabulary((stop_id,), encoder.pad_id, LIMIT, encoder.decode)
        return Collector(
            model=critic,
            reference=options.pop("reference", reference),
            reward=ByLength(),
            vocabulary=words,
            micro_batches=options.pop("micro_batches", MicroBatches()),
            **{"temperature": 0.9} | options,
        )

    free = build(-1).respond(critic.lm, batch, noise(), SAMPLES)
    later = free.sequences[:, free.prompt_mask.shape[1] + 2 :].flatten()
    stop_id = int(later.mode().values)
    return lambda **options: build(stop_id, **options)


def noise():
    return torch.Generator().manual_seed(0)


def test_every_prompt_gets_its_samples_side_by_side(build, batch):
    collector = build()
    responses = collector.respond(collector.model.lm, batch, noise(), SAMPLES)
    assert list(responses.prompts) == [p for p in batch["prompts"] for _ in range(SAMPLES)]
    prompts = responses.sequences[:, : batch["prompt_ids"].shape[1]]
    assert torch.equal(prompts, batch["prompt_ids"].repeat_interleave(SAMPLES, 0))
    assert torch.equal(responses.prompt_mask, batch["prompt_mask"].repeat_interleave(SAMPLES, 0))
    assert len(set(responses.texts[:SAMPLES])) > 1


def test_scores_are_raw_and_belong_to_their_responses(build, batch):
    rollout, responses, _ = build().collect(batch, noise(), SAMPLES, with_reference=True)
    assert 0 < int(rollout.stopped.sum()) < len(rollout)
    assert rollout.scores.tolist() == [len(text) for text in responses.texts]
    kl = masked_sum(rollout.old_logprobs - rollout.ref_logprobs, rollout.response_mask)
    assert kl.abs().max() > 0.01


def test_stopped_is_where_the_last_real_token_is_the_stop_token(build, batch):
    collector = build()
    rollout, _, _ = collector.collect(batch, noise(), SAMPLES, with_reference=True)
    responses = rollout.sequences[:, batch["prompt_ids"].shape[1] :]
    (stop_id,) = collector.vocabulary.stop_ids
    for ids, mask, stopped in zip(responses, rollout.response_mask, rollout.stopped, strict=True):
        assert (stop_id in ids[mask].tolist()) == (ids[mask][-1] == stop_id) == bool(stopped)
        assert stopped or mask.sum() == LIMIT


def test_every_stop_token_counts_as_an_end(build, batch):
    collector = build()
    (stop_id,) = collector.vocabulary.stop_ids
    rollout, _, _ = collector.collect(batch, noise(), SAMPLES, with_reference=True)
    said = rollout.sequences[:, batch["prompt_ids"].shape[1] :][rollout.response_mask]
    other = int(said[said != stop_id].mode().values)
    for stops in ((stop_id, other), (other, stop_id)):
        collector.vocabulary = Vocabulary(stops, collector.vocabulary.pad_id, LIMIT, str)
        again, _, _ = collector.collect(batch, noise(), SAMPLES, with_reference=True)
        responses = again.sequences[:, batch["prompt_ids"].shape[1] :]
        last = responses[last_token(again.response_mask)]
        assert set(last[again.stopped].tolist()) == {stop_id, other}
        assert not torch.isin(last[~again.stopped], torch.tensor(stops)).any()


def test_stop_tokens_in_prompts_and_padding_are_not_looked_at(build, batch):
    collector = build()
    (stop_id,) = collector.vocabulary.stop_ids
    collector.vocabulary = Vocabulary((stop_id,), stop_id, LIMIT, lambda ids: "")
    batch["prompt_ids"][:] = stop_id
    rollout, _, _ = collector.collect(batch, noise(), SAMPLES, with_reference=True)
    ends = rollout.sequences[:, batch["prompt_ids"].shape[1] :][last_token(rollout.response_mask)]
    assert torch.equal(rollout.stopped, ends == stop_id)
    assert torch.equal(~rollout.stopped, (rollout.sequences[:, -LIMIT:] != stop_id).all(-1))


@pytest.mark.parametrize("limits", [(1, None), (5, None), (None, 40), (2, 40), (None, 1)])
def test_micro_batches_change_nothing(build, batch, limits, lm):
    whole, _, _ = build().collect(batch, noise(), SAMPLES, with_reference=True)
    parts, _, _ = build(micro_batches=MicroBatches(*limits)).collect(
        batch, noise(), SAMPLES, with_reference=True
    )
    for f in fields(whole):
        a, b = getattr(parts, f.name), getattr(whole, f.name)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=0, atol=of_model(lm))


def test_the_first_importance_weight_is_1(build, batch, critic, lm):
    rollout, _, _ = build().collect(batch, noise(), SAMPLES, with_reference=True)
    assert not any(
        getattr(rollout, f.name).requires_grad
        for f in fields(rollout)
        if getattr(rollout, f.name) is not None
    )
    new = critic(rollout.sequences, rollout.prompt_mask, rollout.response_mask, 0.9, entropy=True)
    for name, then in (("logprobs", "old_logprobs"), ("values", "values"), ("entropy", "entropy")):
        a, b = getattr(new, name), getattr(rollout, then)
        torch.testing.assert_close(a, b, rtol=0, atol=of_model(lm))


def test_same_noise_same_rollout(build, batch):
    collect = build().collect
    first, again = (collect(batch, noise(), 2, with_reference=True)[0] for _ in range(2))
    assert torch.equal(first.sequences, again.sequences)
    other, _, _ = collect(batch, torch.Generator().manual_seed(1), 2, with_reference=True)
    assert not torch.equal(first.sequences[:, -1], other.sequences[:, -1])


def test_a_policy_that_is_its_reference_has_no_kl(build, batch, lm):
    collector = build(reference=Reference(lm, shares_policy=False))
    rollout, _, _ = collector.collect(batch, noise(), SAMPLES, with_reference=True)
    torch.testing.assert_close(
        rollout.ref_logprobs, rollout.old_logprobs, rtol=0, atol=of_model(lm)
    )


def test_without_a_penalty_the_reference_is_not_run(build, batch):
    collector = build(reference=None)
    rollout, _, _ = collector.collect(batch, noise(), SAMPLES, with_reference=False)
    assert rollout.ref_logprobs is None


def test_an_algorithm_without_a_critic_has_no_values(build, batch, lm):
    collector = build()
    collector.model = ActorCritic(lm, None, None)
    rollout, _, seconds = collector.collect(batch, noise(), 1, with_reference=True)
    assert rollout.values is None
    assert seconds.keys() == {"time/collect", "time/score"}
