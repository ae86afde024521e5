"""Bugs that other RLHF code has had and that the tests of single modules would not see."""

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import partial
from threading import Barrier
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from datamodules.preferences import PreferenceDataModule
from harness.pipeline import policy_models
from lightning_modules.metrics.update_statistics import UpdateStatistics
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.loading import FLOAT32
from lightning_modules.models.reference import Reference
from lightning_modules.models.scalar import ScalarModel
from lightning_modules.objectives.masked import one_process
from lightning_modules.rewards.learned import LearnedReward, Scorer
from lightning_modules.rewards.reward import Responses
from lightning_modules.rollouts.collection import Collector, Vocabulary
from lightning_modules.rollouts.generation import generate
from lightning_modules.rollouts.micro_batches import MicroBatches
from lightning_modules.rollouts.seeding import Stream, generator
from tests.lightning_modules.objectives.test_masked import on_ranks
from tests.lightning_modules.supervised_parts import ROOM, make_reward_model
from tests.lightning_modules.tiny_runs import Constant, fit, make, prompts, ready, weights
from tests.properties.drawing import (
    actor_critic,
    attach,
    collected,
    near_policy,
    rollout_of_lengths,
)
from tests.properties.drawing import make as make_without_trainer
from tests.tolerances import of_model

# -- one update, by hand --------------------------------------------------------------------------


def by_hand(model: ActorCritic, rollout, module) -> None:
    """PPO's steps on a rollout from the formulas alone: response by response, without padding."""
    options, eps = module.options, module.options.clip_bounds[0]
    optimizer = torch.optim.SGD(model.parameters(), lr=options.optimizer.keywords["lr"])
    order = generator(options.seed, Stream.MINIBATCHES, 0, 0)
    width = rollout.prompt_mask.shape[1]
    for _ in range(options.epochs):
        for rows in torch.randperm(len(rollout), generator=order).chunk(options.minibatches):
            total, tokens = 0.0, 0
            for b in rows.tolist():
                prompt = rollout.sequences[b, :width][rollout.prompt_mask[b]]
                response = rollout.sequences[b, width:][rollout.response_mask[b]]
                n = len(response)
                states = slice(len(prompt) - 1, len(prompt) - 1 + n)
                said = model.lm(torch.cat([prompt, response])[None], output_hidden_states=True)
                logp = (said.logits[0, states] / options.temperature).log_softmax(-1)
                values = model.value_head(said.hidden_states[-1][0, states]).squeeze(-1)
                ratio = (logp[range(n), response] - rollout.old_logprobs[b, :n]).exp()
                gain = rollout.advantages[b, :n]
                # The lecture's cases: cut above where the token was good, below where it was bad.
                objective = gain * ratio.clamp(max=1 + eps).where(
                    gain > 0, ratio.clamp(min=1 - eps)
                )
                entropy = -(logp.exp() * logp).sum(-1)
                error = (values - rollout.returns[b, :n]).square() / 2
                losses = options.value_coef * error - objective - options.entropy_coef * entropy
                total, tokens = total + losses.sum(), tokens + n
            optimizer.zero_grad()
            (total / (tokens if options.normalise == "tokens" else len(rows))).backward()
            if options.max_grad_norm:
                torch.nn.utils.clip_grad_norm_(model.parameters(), options.max_grad_norm)
            optimizer.step()


@pytest.mark.parametrize(
    ("normalise", "max_grad_norm"), [("sequences", None), ("tokens", None), ("tokens", 0.3)]
)
def test_an_update_is_the_formulas_applied_minibatch_after_minibatch(
    normalise, max_grad_norm, tmp_path
):
    """Micro-batches of unequal size, clipped ratios, a clipped norm: all of it on one rollout."""
    module, rollouts = ready(
        make(
            "ppo",
            iterations=1,
            epochs=3,
            minibatches=2,
            micro_batch_size=3,
            prompts_per_iteration=16,
            normalise=normalise,
            temperature=0.8,
            entropy_coef=0.05,
            clip_range=0.02,
            max_grad_norm=max_grad_norm,
            optimizer=partial(torch.optim.SGD, lr=0.1),
        )
    )
    start = deepcopy(module.model)
    (row,) = fit(module, tmp_path)
    expected = deepcopy(start)
    by_hand(expected, rollouts[0], module)
    distance = (weights(*module.model.parameters()) - weights(*expected.parameters())).norm()
    moved = (weights(*module.model.parameters()) - weights(*start.parameters())).norm()
    assert distance < 1e-10 * moved
    # All of it has happened.
    assert moved > 0.01
    assert row["train/clip_fraction"] > 0.1
    assert row["train/grad_norm"] > 0.3
    assert rollouts[0].response_mask.sum(-1).unique().numel() > 2


# -- noise ----------------------------------------------------------------------------------------


def test_every_iteration_on_every_rank_has_noise_of_its_own_whatever_came_before():
    def course(places):
        module, rollouts = ready(make("reinforce"))
        for epoch, rank in places:
            module._trainer = SimpleNamespace(current_epoch=epoch, global_rank=rank, world_size=1)
            module.collect(prompts(8))
        return {place: r.sequences.tolist() for place, r in zip(places, rollouts, strict=True)}

    places = [(epoch, rank) for epoch in range(3) for rank in range(2)]
    forth, back = course(places), course(places[::-1])
    assert forth == back
    assert len({str(ids) for ids in forth.values()}) == len(places)


# -- ids that are not the ones their text would get ---------------------------------------------


@pytest.fixture
def batch(world, encoder):
    rows = world.prompts("train")[::60]
    ids, mask = encoder.pad(encoder.prompts(rows), "left")
    places = list(range(len(rows)))
    return {"prompts": rows, "places": places, "prompt_ids": ids, "prompt_mask": mask}


def changed_by_text(encoder, responses: Responses) -> bool:
    """Whether some of the responses would be other ids if they were decoded and encoded again."""
    rows = [
        ids[mask] for ids, mask in zip(sampled(responses), responses.response_mask, strict=True)
    ]
    again = encoder.tokenizer([encoder.decode(row) for row in rows], add_special_tokens=False)
    return any(
        row.tolist() != ids for row, ids in zip(rows, again["input_ids"], strict=True) if len(ids)
    )


def sampled(responses: Responses) -> torch.Tensor:
    return responses.sequences[:, responses.prompt_mask.shape[1] :]


def test_the_ids_of_a_rollout_are_those_that_were_sampled(lm, encoder, batch):
    collector = Collector(
        model=ActorCritic(lm),
        reference=Reference(lm, shares_policy=False),
        reward=Constant(),
        vocabulary=Vocabulary(encoder.stop_ids, encoder.pad_id, 8, encoder.decode),
        temperature=1.0,
        micro_batches=MicroBatches(),
    )
    noise = torch.Generator().manual_seed(0)
    rollout, responses, _ = collector.collect(batch, noise, 1, with_reference=False)
    assert changed_by_text(encoder, responses)
    count = len(batch["prompts"])
    uniforms = torch.rand(count, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sequences, mask, _ = generate(
        lm,
        batch["prompt_ids"],
        batch["prompt_mask"],
        uniforms,
        temperature=1.0,
        stop_id=encoder.stop_id,
        pad_id=encoder.pad_id,
    )
    assert torch.equal(rollout.sequences, sequences)
    assert torch.equal(rollout.response_mask, mask)


def test_the_learned_reward_reads_ids_and_not_their_text(lm, encoder, batch):
    lm.config.num_labels = 1
    reward = LearnedReward()
    model = ScalarModel(AutoModelForSequenceClassification.from_config(lm.config).eval())
    reward.scorer = Scorer(model, encoder)
    # Letter by letter, as no tokenizer would say it.
    ids, mask = encoder.pad(
        [encoder.tokenizer.convert_tokens_to_ids(list(text)) for text in ("Agra", "Rome", "x")],
        "right",
    )
    first = {name: x[:3] for name, x in batch.items()}
    responses = Responses(
        first["prompts"],
        torch.cat([first["prompt_ids"], ids], dim=1),
        first["prompt_mask"],
        mask,
        torch.ones(3, dtype=torch.bool),
        encoder.decode,
    )
    assert changed_by_text(encoder, responses)
    whole = torch.cat([responses.prompt_mask, mask], dim=1)
    alone = [row[real][None] for row, real in zip(responses.sequences, whole, strict=True)]
    with torch.no_grad():
        expected = torch.cat([model.score(x, torch.ones_like(x)) for x in alone])
    tolerance = of_model(model.model)
    torch.testing.assert_close(reward.score(responses), expected, rtol=0, atol=tolerance)


# -- what is frozen, and what is not --------------------------------------------------------------


def test_a_policy_and_the_copy_it_is_held_against_share_no_weight(lm, tmp_path):
    lm.save_pretrained(tmp_path)
    how = {"base": FLOAT32, "frozen": FLOAT32}
    here = SimpleNamespace(reference=lambda: (tmp_path, None), lora=None, **how)
    model, reference = policy_models.actor_critic(here, None, seed=0)
    with reference.active() as copy:
        assert not {p.data_ptr() for p in copy.parameters()} & {
            p.data_ptr() for p in model.parameters()
        }
        assert not any(p.requires_grad for p in copy.parameters())


def test_a_copied_reference_does_not_go_into_a_checkpoint():
    module, _ = ready(make("ppo"))
    of_policy = {f"model.{name}" for name in module.model.state_dict()}
    assert set(module.state_dict()) == of_policy


# -- ranks ----------------------------------------------------------------------------------------


def test_all_ranks_agree_on_how_far_the_policy_has_moved():
    """By which they stop together: a rank that went on alone would wait for the others for ever."""
    model = actor_critic("gpt2")
    rollout = near_policy(model, rollout_of_lengths([1, 2, 3, 1], [4, 1, 3, 2], 0, 4), 0)

    def moved(rows, all_reduce):
        module = make_without_trainer("ppo", micro_batch_size=1)
        attach(module, deepcopy(model), ranks=2)
        module.sum_over_ranks = all_reduce
        part = collected(module, rollout.select(torch.tensor(rows)))
        statistics = UpdateStatistics(all_reduce)
        module._accumulate(part, statistics)
        return statistics.approx_kl()

    alone = moved([0, 1, 2, 3], one_process)
    assert on_ranks(moved, [([0],), ([1, 2, 3],)]) == pytest.approx([alone] * 2, rel=1e-12)


def held_out(scorer, encoder, world, ranks: int) -> list[dict[str, float]]:
    """What each of `ranks` threads logs of the held-out pairs."""
    barrier, slots = Barrier(ranks, timeout=60), [None] * ranks
    data = [PreferenceDataModule(world, encoder, 7, ROOM, seed=0) for _ in range(ranks)]

    def run(rank: int) -> dict[str, float]:
        def all_gather(x):
            slots[rank] = x
            barrier.wait()
            everything = torch.stack(slots)
            barrier.wait()
            return everything

        place = SimpleNamespace(global_rank=rank, world_size=ranks)
        data[rank].trainer = place
        module = make_reward_model(batch_size=7)
        module.model, module._trainer, logged = deepcopy(scorer), place, {}
        module.all_gather, module.log_dict = all_gather, logged.update
        with torch.no_grad():
            module.on_validation_epoch_start()
            for i, rows in enumerate(data[rank].val_dataloader()):
                module.validation_step(rows, i)
            module.on_validation_epoch_end()
        return logged

    with ThreadPoolExecutor(ranks) as pool:
        return list(pool.map(run, range(ranks)))


def test_held_out_pairs_count_once_however_many_ranks_there_are(lm, encoder, world):
    """The interval of the accuracy tells: more pairs would make it narrower."""
    lm.config.num_labels = 1
    torch.manual_seed(0)
    scorer = ScalarModel(AutoModelForSequenceClassification.from_config(lm.config).eval())
    (alone,) = held_out(scorer, encoder, world, 1)
    for logged in held_out(scorer, encoder, world, 2):
        assert logged == pytest.approx(alone, rel=1e-4, nan_ok=True)
