"""A language model in this process that judges: the probabilities of the token after a question."""

from dataclasses import dataclass, field

import pytest
import torch

from datamodules.records import Prompt
from lightning_modules.errors import ModelError
from lightning_modules.judges.judge import Judge, JudgeContext
from lightning_modules.judges.local import LocalModel
from tests.tolerances import of_model

TEXTS = ["Where is it?", "Where is the Taj Mahal, and who built it?", "Why?"]
VERDICTS = ("1", "2", "3")


@dataclass
class Spaced:
    """An encoder whose tokenizer writes a space, as a token of its own, before an answer."""

    encoder: object
    space: int
    asked: list[int] = field(default_factory=list)

    def __getattr__(self, name):
        return getattr(self.encoder, name)

    def responses(self, texts, stopped):
        return [[self.space, *ids] for ids in self.encoder.responses(texts, stopped)]


@pytest.fixture
def reading(encoder):
    """The encoder of the small models, for all that they have positions for."""
    return encoder.within(100, 16)


def expected(lm, encoder, text, before=()):
    """By a plain forward pass over the question alone."""
    ids = [*encoder.prompts([Prompt.from_text(text)])[0], *before]
    tokens = [encoder.tokenizer.encode(verdict, add_special_tokens=False) for verdict in VERDICTS]
    with torch.no_grad():
        next_token = lm(torch.tensor([ids])).logits[0, -1].softmax(-1)
    return [float(next_token[token]) for (token,) in tokens]


@pytest.mark.parametrize("spaced", [False, True])
def test_a_verdict_is_the_token_that_comes_next_whatever_is_beside_it(lm, reading, spaced):
    space = reading.tokenizer.convert_tokens_to_ids("Where")
    encoder = Spaced(reading, space) if spaced else reading
    said = LocalModel(lm, encoder, "toy").probabilities(TEXTS, VERDICTS)
    for text, (shares, mass) in zip(TEXTS, said, strict=True):
        by_hand = expected(lm, reading, text, [space] * spaced)
        tolerance = of_model(lm)
        assert mass == pytest.approx(sum(by_hand), rel=tolerance)
        assert list(shares.values()) == pytest.approx(
            [p / sum(by_hand) for p in by_hand], rel=tolerance
        )


def test_a_question_with_more_tokens_than_positions_has_no_verdict(lm, encoder):
    model = LocalModel(lm, encoder.within(1000, 16), "toy")
    long, short = model.probabilities(["Where " * 200, "Where?"], VERDICTS)
    assert long is None
    assert sum(short[0].values()) == pytest.approx(1.0)


def test_verdicts_that_are_no_tokens_are_refused(lm, reading):
    with pytest.raises(ModelError, match="one token"):
        LocalModel(lm, reading, "toy").verdict_tokens(["1", "12345"])


def test_the_same_model_gives_the_same_from_the_cache(lm, reading, tmp_path):
    lm.save_pretrained(tmp_path / "model")
    reading.tokenizer.save_pretrained(tmp_path / "model")

    def judge():
        made = Judge(
            name="helpful",
            criteria="Is it right?",
            scale=[1, 3],
            model=str(tmp_path / "model"),
            cache=str(tmp_path / "judge.sqlite"),
        )
        made._local = LocalModel(lm, encoder, "toy")
        return made

    encoder = Short(reading)
    prompts = [Prompt.from_text(text) for text in TEXTS]
    first = judge()
    ratings = [verdict.value for verdict in first.rate(prompts, ["a", "b", "c"])]
    assert all(1 <= rating <= 3 for rating in ratings)
    again = judge()
    assert [verdict.value for verdict in again.rate(prompts, ["a", "b", "c"])] == ratings
    assert again.counts.from_cache == 3
    (better,) = again.compare(prompts[:1], ["a"], ["b"])
    assert 0 < better.value < 1
    assert JudgeContext().folder is None


@dataclass
class Short:
    """An encoder that reads the last hundred tokens: the small models have no more positions."""

    encoder: object

    def __getattr__(self, name):
        return getattr(self.encoder, name)

    def prompts(self, prompts):
        return [ids[-100:] for ids in self.encoder.within(10_000, 16).prompts(prompts)]
