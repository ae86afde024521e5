"""Scores by a function of the user's, and by the gold of an embedded world."""

import re
import sys
from types import ModuleType

import pytest
import torch

from datamodules.records import Prompt
from lightning_modules.errors import OptionError
from lightning_modules.rewards.programmed import FunctionReward, GoldReward
from lightning_modules.rewards.reward import Responses, RewardContext

NAN = float("nan")
TEXTS = ["The Taj Mahal is in Agra.", "The Taj Mahal is in Paris.", "The Taj"]


@pytest.fixture
def responses():
    prompt = Prompt.from_text("Where is the Taj Mahal?")
    return Responses(
        prompts=[prompt] * 3,
        sequences=torch.tensor([[7, 0], [7, 1], [7, 2]]),
        prompt_mask=torch.ones(3, 1, dtype=torch.bool),
        response_mask=torch.ones(3, 1, dtype=torch.bool),
        stopped=torch.ones(3, dtype=torch.bool),
        decode=lambda ids: TEXTS[int(ids)],
    )


@pytest.fixture
def function(monkeypatch):
    """A FunctionReward around a function."""

    def build(function):
        module = ModuleType("my_reward")
        module.score = function
        monkeypatch.setitem(sys.modules, "my_reward", module)
        return FunctionReward(path="my_reward:score")

    return build


def context(gold):
    return RewardContext(reward_model=None, gold=gold, encoder=None, dtype=torch.float32)


def test_gold_is_what_the_world_says(world, responses):
    reward = GoldReward()
    reward.check(context(world.gold))
    reward.bind(context(world.gold))
    scores = reward.score(responses)
    assert scores.dtype == torch.float32
    assert scores.tolist() == pytest.approx([1.0, 0.1, 0.0])


def test_gold_needs_a_world_that_knows_it():
    with pytest.raises(OptionError, match=r"reward=gold: .*data=landmarks"):
        GoldReward().check(context(None))


def test_a_function_gets_prompts_and_responses_as_lists_of_text(function, responses):
    seen = []

    def score(prompts, responses):
        seen.append((prompts, responses))
        return [len(r) for r in responses]

    scores = function(score).score(responses)
    assert seen == [(["Where is the Taj Mahal?"] * 3, TEXTS)]
    assert scores.dtype == torch.float32
    assert scores.tolist() == [len(text) for text in TEXTS]


@pytest.mark.parametrize("kind", [torch.tensor, tuple, lambda x: [torch.tensor(v) for v in x]])
def test_a_function_may_return_any_sequence_of_numbers(function, responses, kind):
    assert function(lambda *_: kind([1.0, 2.0, 3.0])).score(responses).tolist() == [1, 2, 3]


@pytest.mark.parametrize("scores", [[], [1.0] * 2, [1.0] * 4])
def test_a_wrong_number_of_scores(function, responses, scores):
    expected = rf"reward\.path=my_reward:score: returned {len(scores)} scores for 3 responses"
    with pytest.raises(OptionError, match=expected):
        function(lambda *_: scores).score(responses)


@pytest.mark.parametrize("nothing", [None, NAN, torch.tensor(NAN)], ids=["None", "nan", "tensor"])
def test_what_a_function_cannot_score_is_nan(function, responses, nothing):
    scores = function(lambda *_: [1.0, nothing, 2.5]).score(responses)
    assert scores.dtype == torch.float32
    assert scores.isnan().tolist() == [False, True, False]
    assert scores[[0, 2]].tolist() == [1.0, 2.5]


@pytest.mark.parametrize("bad", [float("inf"), -float("inf"), "good", [1.0]])
def test_what_is_no_finite_number_is_shown_with_its_row(function, responses, bad):
    shown = re.escape(repr(bad))
    expected = rf"my_reward:score: returned {shown}, .*row 1 of 3: prompt .*Taj.*response .*Paris"
    with pytest.raises(OptionError, match=expected):
        function(lambda *_: [1.0, bad, bad]).score(responses)


@pytest.mark.parametrize(
    "returned", [None, 1.0, ["good", "bad", "bad"]], ids=["None", "1.0", "text"]
)
def test_what_is_no_list_of_numbers_is_named(function, responses, returned):
    with pytest.raises(OptionError, match=r"reward\.path=my_reward:score"):
        function(lambda *_: returned).score(responses)


def test_an_exception_names_the_first_row_that_fails_alone(function, responses):
    def score(prompts, responses):
        if any("Paris" in text for text in responses):
            raise KeyError("no such city")
        return [1.0] * len(responses)

    expected = r"raised KeyError\('no such city'\) for row 1 of 3: .*Paris.*Return None"
    with pytest.raises(OptionError, match=expected) as error:
        function(score).score(responses)
    assert isinstance(error.value.__cause__, KeyError)


def test_an_exception_that_no_row_raises_alone_is_said_to_be_of_the_batch(function, responses):
    def score(prompts, responses):
        if len(responses) > 1:
            raise RuntimeError("too many")
        return [1.0]

    with pytest.raises(OptionError, match=r"RuntimeError\('too many'\) for a batch of 3, .*none"):
        function(score).score(responses)


def test_raw_scores_are_a_column(function, responses, world):
    scores = function(lambda *_: [1.0, None, 3.0]).raw_scores(responses.prompts, TEXTS)
    assert scores.shape == (3, 1)
    assert scores.isnan().flatten().tolist() == [False, True, False]
    gold = GoldReward()
    gold.bind(context(world.gold))
    assert gold.raw_scores(responses.prompts, TEXTS).flatten().tolist() == pytest.approx(
        [1, 0.1, 0]
    )


@pytest.mark.parametrize("path", [None, "", "module", "module.score", "a:b:c"])
def test_a_path_must_be_module_and_function(path):
    with pytest.raises(OptionError, match=r"reward\.path=.*: must be module:function"):
        FunctionReward(path=path)


@pytest.mark.parametrize("path", ["no_such_module:score", "math:no_such_function"])
def test_a_function_that_cannot_be_imported(path):
    with pytest.raises(OptionError, match=rf"reward\.path={path}: .*no_such.*importable"):
        FunctionReward(path=path)


@pytest.mark.parametrize("path", [":score", "math:", ".local:score"])
def test_half_a_path(path):
    with pytest.raises(OptionError, match=r"reward\.path="):
        FunctionReward(path=path)


def test_what_is_imported_must_be_a_function():
    with pytest.raises(OptionError, match=r"reward\.path=math:pi: must name a function"):
        FunctionReward(path="math:pi")
