"""What scores mean: ensembles, pessimism, and a scale that the config of a reward model tells."""

from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, TaskType
from transformers import AutoModelForSequenceClassification

from harness.parts.score_scale import describe_scores, scoring_encoder
from harness.pipeline.model_folder import export
from harness.pipeline.policy_models import actor_critic
from lightning_modules.errors import ModelError, OptionError
from lightning_modules.forward.passes import plain
from lightning_modules.models.adapters import add_adapter
from lightning_modules.models.loading import FLOAT32
from lightning_modules.models.scalar import REWARD_CONFIG, ScalarModel
from lightning_modules.models.scorers import check_scorer, new_scorer
from lightning_modules.rewards.learned import CheckpointReward, LearnedReward, Scorer
from lightning_modules.rewards.reward import Responses, RewardContext
from tests.tolerances import of_model

HEADS = 3


@pytest.fixture
def said(world):
    """Demonstrations: what a scale is fitted on."""
    rows = world.demonstrations("val")
    return [row.prompt for row in rows], [row.response for row in rows]


@pytest.fixture
def saved(lm, encoder, world, tmp_path):
    """saved(heads, adapter): the folder of a reward model that says what its scores mean."""

    def save(heads=HEADS, adapter=False):
        lm.save_pretrained(tmp_path / "lm")
        model = new_scorer(tmp_path / "lm", encoder.tokenizer, seed=1, heads=heads)
        if adapter:
            config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
            model = add_adapter(model, config, TaskType.SEQ_CLS, seed=0).eval()
        scorer = Scorer(ScalarModel(model), encoder)
        plain(model).config.update({REWARD_CONFIG: describe_scores(scorer, world)})
        export(model, encoder, tmp_path)
        return tmp_path / "model", scorer

    return save


def context_of(folder, how=FLOAT32):
    return RewardContext(
        reward_model=lambda: folder, gold=None, encoder=scoring_encoder, frozen=how
    )


def bound(folder, kind=LearnedReward, **options):
    reward = kind(**options | ({"path": str(folder)} if kind is CheckpointReward else {}))
    reward.bind(context_of(folder))
    return reward


def responses_of(encoder, said):
    prompts, texts = said
    prompt_ids, prompt_mask = encoder.pad(encoder.prompts(prompts), "left")
    ids, mask = encoder.pad(encoder.responses(texts), "right")
    stopped = torch.tensor([row[-1] == encoder.stop_id for row in encoder.responses(texts)])
    sequences = torch.cat([prompt_ids, ids], dim=1)
    return Responses(prompts, sequences, prompt_mask, mask, stopped, encoder.decode)


def close(actual, expected, scorer, pessimism=0.0):
    """Equal, but for rounding in the scorer's model: of scores in the smallest unit of its heads,
    of which the deviation is off by half more than they are at most.
    """
    unit = min(1.0, float(scorer.model.std.abs().min()))
    tolerance = of_model(scorer.model.model) / unit * (1 + 1.5 * pessimism)
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("heads", [1, HEADS])
def test_scores_of_the_reference_responses_have_mean_0_and_deviation_1(saved, said, heads):
    folder, _ = saved(heads)
    reward = bound(folder, ensemble=heads)
    scores = reward.scorer.heads(*said)
    assert scores.shape == (len(said[0]), heads)
    close(scores.mean(0), torch.zeros(heads), reward.scorer)
    close(scores.std(0, correction=0), torch.ones(heads), reward.scorer)


def test_without_normalising_scores_are_those_of_the_heads(saved, said, encoder):
    folder, trained = saved()
    expected = trained.heads(*said)
    reward = bound(folder, ensemble=HEADS, normalise=False)
    close(reward.scorer.heads(*said), expected, trained)
    normal = bound(folder, ensemble=HEADS)
    about = check_scorer(folder).rlhf_ladder
    mean, std = torch.tensor(about["score_mean"]), torch.tensor(about["score_std"])
    close(normal.scorer.heads(*said), (expected - mean) / std, normal.scorer)
    by_ids = reward.score(responses_of(encoder, said))
    close(by_ids, expected.mean(-1), trained)


@pytest.mark.parametrize("kind", [LearnedReward, CheckpointReward])
@pytest.mark.parametrize("normalise", [True, False])
def test_raw_scores_are_raw_whatever_normalise_says(saved, said, kind, normalise):
    folder, trained = saved()
    raw = bound(folder, kind, normalise=normalise).raw_scores(*said)
    close(raw, trained.raw_heads(*said), trained)


def test_a_model_that_says_nothing_of_its_scale_is_used_as_it_is(lm, encoder, said, tmp_path):
    lm.save_pretrained(tmp_path / "lm")
    model = new_scorer(tmp_path / "lm", encoder.tokenizer, seed=1)
    export(model, encoder, tmp_path)
    scorer = Scorer(ScalarModel(model), scoring_encoder(tmp_path / "model"))
    scores = bound(tmp_path / "model", CheckpointReward).scorer.heads(*said)
    close(scores, scorer.heads(*said), scorer)


def test_a_copy_of_the_reward_model_values_in_its_units(saved, encoder, said):
    """A critic that starts from it: the score is its value at the last token."""
    folder, _ = saved()
    responses = responses_of(encoder, (said[0][:6], said[1][:6]))
    mask = torch.cat([responses.prompt_mask, responses.response_mask], dim=1)
    last = (torch.arange(mask.shape[1]) * mask).argmax(-1)
    for normalise in (True, False):
        critic = ScalarModel(
            AutoModelForSequenceClassification.from_pretrained(folder).eval(), normalised=normalise
        )
        with torch.no_grad():
            values = critic(responses.sequences, mask)[torch.arange(6), last]
        reward = bound(folder, ensemble=HEADS, normalise=normalise)
        close(values, reward.score(responses), reward.scorer)


def test_a_critic_that_starts_from_the_reward_model_has_its_weights_and_its_units(saved, encoder):
    folder, _ = saved(heads=1)
    for normalise in (True, False):
        here = SimpleNamespace(
            reference=lambda: (folder.parent / "lm", None),
            reward_model=lambda: folder.parent,
            reward=LearnedReward(normalise=normalise),
            lora=None,
            one_base=False,
            base=FLOAT32,
            frozen=FLOAT32,
        )
        model, _ = actor_critic(here, "copy", seed=0)
        scorer = bound(folder, normalise=normalise).scorer
        ids, mask = encoder.pad([[5, 6, 7, 8], [9, 10]], "right")
        with torch.no_grad():
            close(model.critic(ids, mask), scorer.model(ids, mask), scorer)
        assert (float(model.critic.std) != 1.0) == normalise
        assert all(p.requires_grad for p in model.critic.parameters())


# -- ensembles --------------------------------------------------------------------------------


def test_each_head_is_born_by_a_seed_of_its_own_the_first_as_if_alone(lm, encoder, tmp_path):
    lm.save_pretrained(tmp_path)
    one, three, other = (
        new_scorer(tmp_path, encoder.tokenizer, seed=seed, heads=heads).score.weight
        for seed, heads in ((0, 1), (0, 3), (1, 3))
    )
    assert torch.equal(three[:1], one)
    assert torch.pdist(torch.cat([three, other])).min() > 0.1


@pytest.mark.parametrize("kind", [LearnedReward, CheckpointReward])
def test_the_score_is_the_mean_of_the_heads_less_what_they_disagree(saved, encoder, said, kind):
    folder, _ = saved()
    responses = responses_of(encoder, said)
    heads = bound(folder, kind).scorer.heads(*said, responses.stopped.tolist())
    assert heads.std(-1).min() > 1e-3
    for k in (0.0, 0.5, 2.0):
        reward = bound(folder, kind, **_ensemble(kind), pessimism=k)
        close(reward.score(responses), heads.mean(-1) - k * heads.std(-1), reward.scorer, k)


@pytest.mark.parametrize("kind", [LearnedReward, CheckpointReward])
def test_a_held_out_head_watches_and_has_no_say(saved, encoder, said, kind):
    folder, _ = saved()
    responses = responses_of(encoder, said)
    heads = bound(folder, kind).scorer.heads(*said, responses.stopped.tolist())
    assert bound(folder, kind, **_ensemble(kind)).watch(responses) is None
    reward = bound(folder, kind, **_ensemble(kind), held_out_head=True, pessimism=1.0)
    scoring = heads[:, :-1]
    expected = scoring.mean(-1) - scoring.std(-1)
    close(reward.score(responses), expected, reward.scorer, 1.0)
    close(reward.watch(responses), heads[:, -1], reward.scorer)
    assert (heads.mean(-1) - scoring.mean(-1)).abs().max() > 1e-2


def _ensemble(kind):
    return {"ensemble": HEADS} if kind is LearnedReward else {}


@pytest.mark.parametrize("kind", [LearnedReward, CheckpointReward])
def test_texts_are_worth_what_the_responses_of_a_rollout_are(saved, encoder, said, kind):
    folder, _ = saved()
    reward = bound(folder, kind, **_ensemble(kind), pessimism=0.5)
    responses = responses_of(encoder, said)
    # By ids, whose text would be the same ids.
    found = reward.score_texts(*said, responses.stopped.tolist())
    assert found.shape == (len(said[0]),)
    close(found, reward.score(responses), reward.scorer, 0.5)
    assert not responses.stopped.all()
    as_if = reward.score_texts(*said, [False] * len(said[0]))
    assert (as_if - found)[responses.stopped].abs().max() > 1e-3


@pytest.mark.parametrize("adapter", [False, True])
def test_an_exported_ensemble_says_the_same_in_plain_transformers(saved, encoder, said, adapter):
    folder, trained = saved(adapter=adapter)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    rows = encoder.conversations(said[0][:5], said[1][:5])
    model.config.pad_token_id = None
    with torch.no_grad():
        logits = torch.cat([model(torch.tensor([row])).logits for row in rows])
    expected = trained.raw_heads(said[0][:5], said[1][:5])
    assert logits.shape == (5, HEADS)
    close(logits, expected, trained)


def test_several_outputs_are_an_ensemble_only_if_they_say_so(saved):
    folder, _ = saved()
    assert check_scorer(folder).num_labels == HEADS
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    delattr(model.config, REWARD_CONFIG)
    model.save_pretrained(folder)
    with pytest.raises(ModelError, match="not a reward model"):
        check_scorer(folder)


def test_one_head_cannot_be_pessimistic(saved):
    with pytest.raises(OptionError, match=r"reward\.pessimism=0\.5: one head cannot disagree"):
        LearnedReward(pessimism=0.5)
    folder, _ = saved(heads=1)
    reward = CheckpointReward(path=str(folder), pessimism=0.5)
    with pytest.raises(OptionError, match=r"reward\.pessimism=0\.5: one head cannot disagree"):
        reward.check(context_of(folder))


@pytest.mark.parametrize("kind", [LearnedReward, CheckpointReward])
def test_optimism_is_refused(kind):
    options = {"ensemble": 2} if kind is LearnedReward else {"path": "x"}
    with pytest.raises(OptionError, match=r"reward\.pessimism=-1"):
        kind(**options, pessimism=-1)
