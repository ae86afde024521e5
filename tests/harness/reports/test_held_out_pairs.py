"""How a reward model from elsewhere reads, and what ours says of itself."""

import json
import math
import re
from datetime import datetime

import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaConfig, PretrainedConfig

from datamodules.records import DataError, Message, Prompt
from datamodules.tokenization.loading import train_tokenizer
from datamodules.tokenization.templates import PLAIN_TEMPLATE
from harness.parts.score_scale import (
    UNKNOWN_POSITIONS,
    describe_scores,
    reward_notes,
    scoring_encoder,
)
from harness.reports.held_out_pairs import judge
from lightning_modules.models.loading import FLOAT32
from lightning_modules.rewards.combined import CombinedReward
from lightning_modules.rewards.learned import CheckpointReward
from lightning_modules.rewards.programmed import GoldReward
from lightning_modules.rewards.reward import RewardContext
from tests.lightning_modules.supervised_parts import Given, pair, ranking

OWN_TEMPLATE = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}[end]{% endfor %}"
TALK = Prompt((Message("user", "Hi"), Message("assistant", "Hello"), Message("user", "Bye")))
QUESTION = Prompt.from_text("Where is the Taj Mahal?")


@pytest.fixture
def folder(world, tmp_path):
    """folder(template, **config): a small reward model from elsewhere."""

    def save(template, **about):
        tokenizer = train_tokenizer(world.texts(), 320)
        tokenizer.chat_template = template
        config = LlamaConfig(
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            max_position_embeddings=64,
            vocab_size=len(tokenizer),
            num_labels=1,
            **about,
        )
        torch.manual_seed(0)
        AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        return tmp_path

    return save


def test_a_template_of_its_own_writes_the_whole_conversation(folder):
    encoder = scoring_encoder(folder(OWN_TEMPLATE))
    for stopped in (None, [True, False]):
        rows = encoder.conversations([TALK, QUESTION], ["So long", "In Agra."], stopped)
        assert [encoder.tokenizer.decode(row) for row in rows] == [
            "[user]Hi[end][assistant]Hello[end][user]Bye[end][assistant]So long[end]",
            "[user]Where is the Taj Mahal?[end][assistant]In Agra.[end]",
        ]


def test_without_a_template_of_its_own_the_response_is_followed_by_a_stop_token(folder):
    encoder = scoring_encoder(folder(None))
    assert encoder.tokenizer.chat_template == PLAIN_TEMPLATE
    rows = encoder.conversations([QUESTION] * 2, ["In Agra."] * 2, [True, False])
    assert rows[0] == [*rows[1], encoder.stop_id]
    text = "User:\nWhere is the Taj Mahal?\n\nAssistant:\nIn Agra."
    assert encoder.tokenizer.decode(rows[1]) == text


def test_what_is_too_long_loses_turns_then_words_and_never_markers(folder):
    encoder = scoring_encoder(folder(OWN_TEMPLATE))
    read = encoder.tokenizer.decode
    short = encoder.conversations([QUESTION], ["In Agra."])[0]
    assert read(short).startswith("[user]Where")
    turns = (Message("user", "Hi " * 20), Message("assistant", "Hello " * 20), *QUESTION.messages)
    assert encoder.conversations([Prompt(turns)], ["In Agra."]) == [short]
    (row,) = encoder.conversations([Prompt.from_text("so " * 80 + "where?")], ["In Agra."])
    assert len(row) <= 64
    assert re.fullmatch(r"\[user\][so ]+where\?\[end\]\[assistant\]In Agra\.\[end\]", read(row))
    (row,) = encoder.conversations([QUESTION], ["and so on, " * 40])
    assert len(row) <= 64
    assert re.fullmatch(r"\[user\].+\[end\]\[assistant\]and so on, [adnos, ]+\[end\]", read(row))


def test_one_of_ours_reads_within_its_limits_of_tokens(folder):
    about = {"ensemble": 1, "max_prompt_tokens": 12, "max_response_tokens": 5}
    encoder = scoring_encoder(folder(OWN_TEMPLATE, rlhf_ladder=about))
    assert (encoder.max_prompt_tokens, encoder.max_response_tokens) == (12, 5)
    (row,) = encoder.conversations([QUESTION], ["The Taj Mahal is in Agra, as I said."])
    assert len(row) <= 12 + 5
    assert not encoder.renders_responses


def test_a_model_that_does_not_say_how_far_it_reads(folder, monkeypatch):
    path = folder(OWN_TEMPLATE)
    monkeypatch.setattr("harness.parts.score_scale.fetch_config", lambda _: PretrainedConfig())
    encoder = scoring_encoder(path)
    assert encoder.max_prompt_tokens + encoder.max_response_tokens == UNKNOWN_POSITIONS


# -- descriptions and reports -----------------------------------------------------------------


class Numbers:
    """A scorer of text by its length, with two heads, and limits of tokens."""

    encoder = type("Limits", (), {"max_prompt_tokens": 7, "max_response_tokens": 9})

    def raw_heads(self, prompts, texts):
        lengths = torch.tensor([float(len(text)) for text in texts])
        return torch.stack([lengths, 3 * lengths + 1], dim=1)


def test_a_description_is_of_the_held_out_reference_responses():
    rows = [ranking(("aaaa", "b"), (1, 0)), pair("cc", "ddd", "Who?")]
    about = describe_scores(Numbers(), Given([pair("x", "y")], rows))
    assert about.pop("score_mean") == pytest.approx([3.0, 10.0], rel=1e-12)
    assert about.pop("score_std") == pytest.approx([1.0, 3.0], rel=1e-12)
    assert about == {"ensemble": 2, "max_prompt_tokens": 7, "max_response_tokens": 9}


def test_equal_scores_are_not_divided_by_nothing():
    about = describe_scores(Numbers(), Given([pair("x", "y")], [pair("aa", "b")]))
    assert about["score_std"] == [1.0, 1.0]


def test_pairs_that_cannot_be_scored_are_left_out_and_counted(tmp_path):
    def score(prompts, texts):
        return torch.tensor([[math.nan if "?" in text else float(len(text))] for text in texts])

    pairs = [pair("aaa", "b"), pair("c", "dd?", "Who?"), pair("e", "ff", "How?")]
    numbers = judge(score, pairs, tmp_path, title="T", left_out={"rows": 5, "too long": 2, "x": 0})
    assert numbers["val/accuracy"] == 0.5
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "held-out pairs that could not be scored" in report
    assert "too long" in report


def test_no_pair_that_can_be_scored_is_an_error(tmp_path):
    def score(prompts, texts):
        return torch.full((len(texts), 1), math.nan)

    with pytest.raises(DataError, match="T: none of the 1 held-out pairs could be scored"):
        judge(score, [pair()], tmp_path, title="T", left_out={})


# -- reward models from elsewhere: what is refused, what is said, where a score is read ---------


def reward_of(path, encoder=scoring_encoder):
    context = RewardContext(lambda: path, None, encoder, FLOAT32)
    return CheckpointReward(path=str(path)), context


def test_its_errors_name_the_reward_model(folder):
    with pytest.raises(DataError, match=r"reward model \S+: the chat template cannot be read"):
        scoring_encoder(folder("{% for m in"))
    encoder = scoring_encoder(folder("start " * 80 + OWN_TEMPLATE))
    with pytest.raises(DataError, match=r"reward model \S+: .*cannot be cut to the 64 tokens"):
        encoder.conversations([QUESTION], ["In Agra."])


def test_several_templates_are_refused_with_what_can_be_done(folder):
    path = folder({"a": OWN_TEMPLATE, "b": OWN_TEMPLATE})
    reward, context = reward_of(path)
    with pytest.raises(DataError, match=r"\(a, b\).*chat_template\.jinja"):
        reward.check(context)
    (path / "chat_template.jinja").write_text(OWN_TEMPLATE, encoding="utf-8")
    reward.check(context)
    (row,) = scoring_encoder(path).conversations([QUESTION], ["Yes."])
    assert scoring_encoder(path).tokenizer.decode(row).startswith("[user]Where")


def test_a_reward_model_needs_no_token_that_ends_a_response(folder):
    path = folder(OWN_TEMPLATE)
    about = json.loads((path / "tokenizer_config.json").read_text(encoding="utf-8"))
    about.pop("eos_token")
    (path / "tokenizer_config.json").write_text(json.dumps(about), encoding="utf-8")
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    (path / "config.json").write_text(json.dumps(config | {"eos_token_id": None}), encoding="utf-8")
    encoder = scoring_encoder(path)
    assert encoder.tokenizer.eos_token is None
    (row,) = encoder.conversations([QUESTION], ["In Agra."])
    assert encoder.tokenizer.decode(row).endswith("In Agra.[end]")
    encoder.pad([row, row[:-1]], "right")


def test_every_prompt_is_read_before_anything_is_loaded(folder):
    no_system = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    reward, context = reward_of(folder(no_system + OWN_TEMPLATE))
    told = Prompt((Message("system", "Be brief."), Message("user", "Why not?")))
    reward.check_prompts(context, [QUESTION, TALK] * 600)
    with pytest.raises(DataError, match=r"reward model .*no system.*Be brief\. / user: Why not\?"):
        reward.check_prompts(context, [*[QUESTION, TALK] * 600, told])


def test_who_asks_for_the_date_is_told_it_and_says_so(folder):
    day = datetime(2026, 1, 31)
    path = folder("{{ strftime_now('%Y-%m-%d') }}" + OWN_TEMPLATE)
    reward, context = reward_of(path, lambda path: scoring_encoder(path, day))
    reward.bind(context)
    both = CombinedReward(rewards={"a": reward, "b": GoldReward()}, weights={"a": 1.0, "b": 1.0})
    (line,) = reward_notes(both)
    assert str(path) in line
    assert "2026-01-31" in line
    reward, context = reward_of(folder(OWN_TEMPLATE))
    reward.bind(context)
    assert reward_notes(reward) == []


@pytest.mark.parametrize("padding", ["<|eos|>", "<|pad|>", None])
@pytest.mark.parametrize("end", ["{{ eos_token }}", "{{ eos_token }}\n", ""])
def test_a_score_is_read_where_plain_transformers_reads_it(folder, padding, end):
    vocabulary = {"<|eos|>": 2, "<|pad|>": 0, None: None}
    template = OWN_TEMPLATE.replace("[end]", end)
    path = folder(template, pad_token_id=vocabulary[padding], initializer_range=1.0)
    reward, context = reward_of(path)
    reward.bind(context)
    tokenizer = reward.scorer.encoder.tokenizer
    assert vocabulary["<|eos|>"] == tokenizer.eos_token_id
    assert vocabulary["<|pad|>"] == tokenizer.pad_token_id
    model = AutoModelForSequenceClassification.from_pretrained(path).eval()
    assert model.config.pad_token_id == vocabulary[padding]
    texts = ["In Agra.", "I do not know where it is.", "?"]
    expected = []
    for text in texts:
        turns = [{"role": "user", "content": QUESTION.text}, {"role": "assistant", "content": text}]
        ids = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            expected.append(float(model(**ids).logits))
    scores = reward.score_texts([QUESTION] * 3, texts).tolist()
    assert scores == pytest.approx(expected, abs=1e-5)
    assert len({round(x, 3) for x in scores}) == 3
