"""Scores by a function of the user's, and by the gold of an embedded world."""

import re
import sys
from decimal import Decimal
from fractions import Fraction
from types import ModuleType

import numpy as np
import pytest
import torch

from datamodules.records import Prompt
from lightning_modules.errors import OptionError
from lightning_modules.models.loading import FLOAT32
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
    return RewardContext(reward_model=None, gold=gold, encoder=None, frozen=FLOAT32)


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


@pytest.mark.parametrize(
    "bad", [float("inf"), -float("inf"), "good", [1.0], 1e39, -1e300, 1j, Decimal("1e999"), "1.0"]
)
def test_what_is_no_finite_number_is_shown_with_its_row(function, responses, bad):
    shown = re.escape(repr(bad))
    expected = rf"my_reward:score: returned {shown}, .*row 1 of 3: prompt .*Taj.*response .*Paris"
    with pytest.raises(OptionError, match=expected):
        function(lambda *_: [1.0, bad, bad]).score(responses)


@pytest.mark.parametrize("digits", [400, 10_000])
def test_a_number_too_large_for_any_float_is_no_finite_number(function, responses, digits):
    with pytest.raises(OptionError, match=r"which is no finite number.*row 2 of 3"):
        function(lambda *_: [1, 2, 10**digits]).score(responses)


@pytest.mark.parametrize(
    "kind", [Decimal, Fraction, int, np.float64, np.float16, np.int8, torch.tensor, np.array]
)
def test_numbers_of_other_kinds_are_numbers(function, responses, kind):
    scores = function(lambda *_: [kind(3), True, kind(-2)]).score(responses)
    assert scores.tolist() == [3, 1, -2]


def test_a_function_may_make_its_scores_while_they_are_read(function, responses):
    def score(prompts, responses):
        for text in responses:
            yield 1 / text.count("Agra")

    of_row = r"ZeroDivisionError.*test_programmed\.py, line \d+\) for row 1"
    with pytest.raises(OptionError, match=of_row):
        function(score).score(responses)
    assert function(lambda p, r: (len(t) for t in r)).score(responses)[2] == len("The Taj")


def test_a_function_that_changes_its_lists_changes_nothing_here(function, responses):
    def score(prompts, responses):
        prompts.clear()
        responses.pop()
        return [1.0, "bad", 1.0]

    with pytest.raises(OptionError, match=r"row 1 of 3: prompt 'Where.*Paris"):
        function(score).score(responses)


@pytest.mark.parametrize(
    "returned",
    [None, 1.0, torch.tensor(1.0), ["good", "bad", "bad"]],
    ids=["None", "1.0", "tensor", "text"],
)
def test_what_is_no_list_of_numbers_is_named(function, responses, returned):
    with pytest.raises(OptionError, match=r"reward\.path=my_reward:score"):
        function(lambda *_: returned).score(responses)


def test_an_exception_names_the_first_row_that_fails_alone(function, responses):
    def score(prompts, responses):
        if any("Paris" in text for text in responses):
            raise KeyError("no such city")
        return [1.0] * len(responses)

    expected = (
        r"raised KeyError\('no such city'\) \(.*, line \d+\) for row 1 of 3: .*Paris.*Return None"
    )
    with pytest.raises(OptionError, match=expected) as error:
        function(score).score(responses)
    assert isinstance(error.value.__cause__, KeyError)


def test_a_function_that_ends_the_program_is_an_error_like_any_other(function, responses):
    """An exit code of 0 would look like a run that came to its end."""
    with pytest.raises(OptionError, match=r"raised SystemExit\(0\).* for row 0 of 3"):
        function(lambda *_: sys.exit(0)).score(responses)


def test_an_exception_that_no_row_raises_alone_is_said_to_be_of_the_batch(function, responses):
    def score(prompts, responses):
        if len(responses) > 1:
            raise RuntimeError("too many")
        return [1.0]

    with pytest.raises(OptionError, match=r"RuntimeError\('too many'\) .*for a batch of 3, .*none"):
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


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("no_such_module:score", "there is no module no_such_module, neither in the folder where"),
        ("no.such.module:score", "there is no module no, neither"),
        ("math.no_such:score", r"there is no module math.no_such|'math' is not a package"),
        ("math:no_such_function", "has no no_such_function"),
        ("no/such/file.py:score", "there is no such file"),
        ("syntax.py:score", r"SyntaxError.*syntax\.py, line 2\)"),
        ("raises:score", r"ZeroDivisionError.*raises\.py, line 3\)"),
        ("exits:score", r"SystemExit.*exits\.py, line 2\)"),
        ("needs:score", "there is no module no_such_library|importing it raised ModuleNotFound"),
    ],
)
def test_a_function_that_cannot_be_imported(path, why, tmp_path, monkeypatch):
    (tmp_path / "syntax.py").write_text("def score(p, r):\n    return [\n", encoding="utf-8")
    (tmp_path / "raises.py").write_text("def score(p, r): ...\n\n1 / 0\n", encoding="utf-8")
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(3)\n", encoding="utf-8")
    (tmp_path / "needs.py").write_text("import no_such_library\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OptionError, match=rf"reward\.path={path}: .*({why})"):
        FunctionReward(path=path)


@pytest.mark.parametrize("path", [":score", "math:", ".local:score"])
def test_half_a_path(path):
    with pytest.raises(OptionError, match=r"reward\.path="):
        FunctionReward(path=path)


def test_what_is_imported_must_be_a_function():
    with pytest.raises(OptionError, match=r"reward\.path=math:pi: must name a function"):
        FunctionReward(path="math:pi")
