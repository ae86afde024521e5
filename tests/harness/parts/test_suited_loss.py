"""Thumbs are learned from by their own loss, and a loss is not given data that it cannot use."""

import json

import pytest

from harness.parts.choices import Choices
from lightning_modules.errors import OptionError

THUMBS = [{"prompt": f"{i}?", "response": "A.", "label": i % 2 == 0} for i in range(20)]
PAIRS = [{"prompt": f"{i}?", "chosen": "A.", "rejected": "B."} for i in range(20)]
RUNS = {"algo": ("algo=reward_model",), "stages.reward_model": ("algo=ppo",)}


@pytest.fixture
def chosen(configure, tmp_path):
    """chosen(rows, *overrides): what a run on these rows begins with."""

    def make(rows, *overrides):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return Choices(configure(tmp_path / "run", "data=files", f"data.path={path}", *overrides))

    return make


@pytest.mark.parametrize("place", RUNS)
def test_thumbs_need_their_loss(place, chosen):
    with pytest.raises(OptionError) as error:
        chosen(THUMBS, *RUNS[place])
    told = f"^{place}.loss=bradley_terry: learns from comparisons alone"
    assert str(error.value).startswith(told[1:])
    assert "20 thumbs and no comparisons" in str(error.value)
    assert str(error.value).endswith(f"set {place}.loss=thumbs")
    chosen(THUMBS, *RUNS[place], f"{place}.loss=thumbs")


@pytest.mark.parametrize("loss", ["bradley_terry", "plackett_luce"])
def test_thumbs_beside_pairs_are_not_passed_over_in_silence(loss, chosen):
    with pytest.raises(OptionError, match=r"20 thumbs beside \d+ comparisons: .*learns from both"):
        chosen(THUMBS + PAIRS, "algo=reward_model", f"algo.loss={loss}")
    chosen(THUMBS + PAIRS, "algo=reward_model", "algo.loss=thumbs")


@pytest.mark.parametrize("place", RUNS)
def test_the_loss_of_thumbs_needs_thumbs(place, chosen):
    with pytest.raises(OptionError, match=rf"^{place}\.loss=thumbs: .*no thumbs.*=bradley_terry$"):
        chosen(PAIRS, *RUNS[place], f"{place}.loss=thumbs")


def test_thumbs_of_one_kind_tell_nothing_apart(chosen):
    rows = [row | {"label": True} for row in THUMBS]
    with pytest.raises(OptionError, match=r"all 18 thumbs of the training split are up"):
        chosen(rows, "algo=reward_model", "algo.loss=thumbs")
    chosen(rows + PAIRS, "algo=reward_model", "algo.loss=thumbs")


@pytest.mark.parametrize(
    "overrides", [("algo=sft",), ("algo=ppo", "reward=function", "reward.path=builtins:len")]
)
def test_what_needs_no_reward_model_takes_thumbs_as_they_are(overrides, chosen):
    assert chosen(THUMBS, *overrides).source.demonstrations("train")
