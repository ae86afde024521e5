"""Scores of reward models: by ids for the run's own, by text for any other."""

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig

from datamodules.tokenization.encoder import Encoder
from datamodules.tokenization.loading import train_tokenizer
from lightning_modules.errors import ModelError, OptionError
from lightning_modules.models.loading import FLOAT32
from lightning_modules.models.scalar import ScalarModel
from lightning_modules.models.scorers import new_scorer
from lightning_modules.rewards.learned import CheckpointReward, LearnedReward
from lightning_modules.rewards.reward import Responses, RewardContext
from tests.tolerances import of_model

TEXTS = ["The Taj Mahal is in Agra.", "I do not know.", "Paris", ""]


@pytest.fixture(scope="module")
def other(world):
    """An encoder with a tokenizer that is not the policy's."""
    return Encoder(train_tokenizer([t[::-1] for t in world.texts()], 320), 64, 64)


@pytest.fixture
def folder(lm, encoder, other, tmp_path):
    """A reward model whose vocabulary both encoders fit into."""
    lm.save_pretrained(tmp_path / "lm")
    scorer = new_scorer(tmp_path / "lm", encoder.tokenizer, seed=0)
    scorer.save_pretrained(tmp_path / "rm")
    other.tokenizer.save_pretrained(tmp_path / "rm")
    return tmp_path / "rm"


@pytest.fixture
def responses(world, encoder):
    """Responses as the policy's ids: one of them cut, so it has no stop token."""
    prompts = world.prompts("val")[::25]
    prompt_ids, prompt_mask = encoder.pad(encoder.prompts(prompts), "left")
    rows = encoder.responses(TEXTS)
    rows[1] = rows[1][:-1]
    ids, mask = encoder.pad(rows, "right")
    sequences = torch.cat([prompt_ids, ids], 1)
    stopped = torch.tensor([True, False, True, True])
    return Responses(prompts, sequences, prompt_mask, mask, stopped, encoder.decode)


@pytest.fixture
def context(folder, other):
    encoders = {str(folder): other}
    return RewardContext(
        reward_model=lambda: folder,
        gold=None,
        encoder=lambda path: encoders[str(path)],
        frozen=FLOAT32,
    )


@torch.no_grad()
def transformers_says(folder, rows):
    """One row at a time, unpadded."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    model.config.pad_token_id = None
    return torch.cat([model(torch.tensor([row])).logits[:, 0] for row in rows])


def close(scores, expected, reward):
    """Equal, but for rounding in the reward's model."""
    tolerance = of_model(reward.scorer.model.model)
    torch.testing.assert_close(scores, expected, rtol=0, atol=tolerance)


def test_learned_scores_the_very_ids_that_were_sampled(context, folder, responses):
    reward = LearnedReward()
    reward.bind(context)
    mask = torch.cat([responses.prompt_mask, responses.response_mask], dim=1)
    rows = [ids[m].tolist() for ids, m in zip(responses.sequences, mask, strict=True)]
    scores = reward.score(responses)
    close(scores, transformers_says(folder, rows), reward)
    assert len(set(scores.tolist())) == len(TEXTS)


def test_checkpoint_scores_the_decoded_text_by_its_own_tokenizer(
    context, folder, responses, other, encoder
):
    reward = CheckpointReward(path=str(folder))
    reward.check(context)
    reward.bind(context)
    reward.to(torch.device("cpu"))
    prompts, texts = other.prompts(responses.prompts), other.responses(TEXTS)
    # The one that was cut gets no stop token.
    texts[1] = texts[1][:-1]
    rows = [p + r for p, r in zip(prompts, texts, strict=True)]
    assert rows[0] != encoder.prompts(responses.prompts)[0] + encoder.responses(TEXTS)[0]
    assert other.tokenizer.decode(rows[0]).endswith(f"<|assistant|>{TEXTS[0]}<|eos|>")
    expected = transformers_says(folder, rows)
    close(reward.score(responses), expected, reward)


@pytest.mark.parametrize("kind", ["learned", "checkpoint"])
def test_where_memory_runs_out_fewer_responses_are_read_at_a_time(
    context, folder, responses, kind, monkeypatch
):
    said = []
    reward = LearnedReward() if kind == "learned" else CheckpointReward(path=str(folder))
    reward.bind(replace(context, say=said.append))
    whole = reward.score(responses)
    heads, read = ScalarModel.heads, []

    def with_room_for_two(self, ids, *given):
        read.append(len(ids))
        if len(ids) > 2 or len(read) == 3:  # once more when some have been read
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return heads(self, ids, *given)

    monkeypatch.setattr(ScalarModel, "heads", with_room_for_two)
    reward.scorer.at_a_time.tokens = 4 * 64
    close(reward.score(responses), whole, reward)
    assert read[0] == 4
    assert read[-1] <= 2
    assert said[0] == "out of memory: from here on the reward model takes 128 tokens with padding"


@pytest.mark.parametrize("kind", ["learned", "checkpoint"])
def test_the_frozen_model_neither_learns_nor_drops_out(context, folder, responses, kind):
    reward = LearnedReward() if kind == "learned" else CheckpointReward(path=str(folder))
    reward.bind(context)
    reward.to(torch.device("cpu"))
    assert not any(m.training for m in reward.scorer.model.modules())
    scores = reward.score(responses)
    assert not scores.requires_grad
    assert torch.equal(scores, reward.score(responses))


def test_text_is_scored_alike_alone_in_a_batch_and_in_any_order(context, folder, responses):
    reward = CheckpointReward(path=str(folder))
    reward.bind(context)
    whole = reward.score(responses)
    for order in ([3, 1, 0, 2], [2], [0], [1], [3]):
        rows = torch.tensor(order)
        prompts = [responses.prompts[i] for i in order]
        tensors = (
            responses.sequences,
            responses.prompt_mask,
            responses.response_mask,
            responses.stopped,
        )
        part = Responses(prompts, *(x[rows] for x in tensors), responses.decode)
        close(reward.score(part), whole[rows], reward)


def test_long_batches_are_scored_in_parts_without_a_difference(
    context, folder, responses, monkeypatch
):
    rewards = [LearnedReward(), CheckpointReward(path=str(folder))]
    for reward in rewards:
        reward.bind(context)
    whole = [reward.score(responses) for reward in rewards]
    monkeypatch.setattr("lightning_modules.rewards.learned.BATCH_TOKENS", 1)
    for reward, expected in zip(rewards, whole, strict=True):
        close(reward.score(responses), expected, reward)


@pytest.mark.parametrize("path", [None, ""])
def test_checkpoint_needs_a_path(path):
    with pytest.raises(OptionError, match=r"reward\.path=.*reward model"):
        CheckpointReward(path=path)


def test_a_checkpoint_that_is_not_there_is_found_out_by_the_check(context):
    with pytest.raises(ModelError, match=r"^/no/such/folder: no such folder"):
        CheckpointReward(path="/no/such/folder").check(context)


def test_a_checkpoint_without_a_scalar_head_is_refused(context, folder):
    path = str(folder.parent / "lm")
    with pytest.raises(ModelError, match="not a reward model"):
        CheckpointReward(path=path).check(context)


def test_a_classifier_that_does_not_read_from_left_to_right_is_refused(context, encoder, tmp_path):
    """Those with a pooler have no score at every token, so there is none of a response."""
    config = BertConfig(
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        vocab_size=len(encoder.tokenizer),
        num_labels=1,
    )
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "bert")
    encoder.tokenizer.save_pretrained(tmp_path / "bert")
    with pytest.raises(ModelError, match="not a reward model"):
        CheckpointReward(path=str(tmp_path / "bert")).check(context)
