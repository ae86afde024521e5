"""Every warning where it is due, and none where it is not."""

import pytest

from harness.comparison.cautions import cautions
from harness.comparison.grouping import configurations
from harness.comparison.reading import collect
from tests.harness.comparison.synthetic_runs import write_run


@pytest.fixture
def warned(tmp_path):
    """warned(*changes): warnings on a fair comparison of two betas, run i changed by changes[i]."""

    def make(*changes):
        for i in range(6):
            options = {"seed": i % 3, "algo__beta": (0.1, 0.2)[i // 3]}
            options |= changes[i] if i < len(changes) else {}
            write_run(tmp_path / f"{i}", **options)
        return cautions(configurations(collect([str(tmp_path)])[0]))

    return make


def test_a_fair_comparison_has_no_warnings(warned):
    assert warned() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scores": (0.1, 0.2, 0.3)}, ["unequal", "128, 192"]),
        ({"summary": {"stages/sft/path": "/cache/sft/cccc"}}, ["reference policies", "cccc, aaaa"]),
        ({"summary": {"commit": "decaf"}}, ["different commits", "decaf, c0ffee"]),
        ({"summary": {"commit": None}}, ["different commits", "unknown"]),
        ({"summary": {"versions/torch": "2.12"}}, ["different versions of torch: 2.12, 2.13"]),
        ({"kl": 50.5}, ["algo.beta=0.1", "50.5 nats"]),
        ({"kl": -9.0}, ["algo.beta=0.1", "negative (-2.33)"]),
    ],
)
def test_one_odd_run_is_one_warning(warned, change, words):
    (warning,) = warned(change)
    assert all(word in warning for word in words), warning


def test_runs_from_another_cache_are_of_the_same_stages(warned):
    assert warned({"summary": {"stages/sft/path": "/moved/sft/aaaa"}}) == []


def test_different_rewards_have_different_scales(warned):
    other = {"summary": {"stages/reward_model/path": "/cache/rm/dddd"}}
    models, scales = warned(other)
    assert "different reward models" in models
    assert "different scales" in scales


def test_options_of_the_reward_change_its_scale_too(warned):
    (scales,) = warned(*[{}] * 3, *[{"reward__normalise": False}] * 3)
    assert "different scales" in scales
    assert "reward.normalise" in scales


def test_other_held_out_prompts_are_a_warning(warned):
    (warning,) = warned(*[{}] * 3, *[{"data__val_pairs": 50}] * 3)
    assert "Held-out prompts" in warning
    assert "data.val_pairs" in warning


def test_missing_and_few_seeds_are_named(warned):
    different, *few = warned({"seed": 9})
    assert "algo.beta=0.1 lacks 0" in different
    assert "algo.beta=0.2 lacks 9" in different
    assert not few


def test_few_seeds_and_a_lone_configuration(tmp_path):
    write_run(tmp_path / "0", seed=1)
    write_run(tmp_path / "1", seed=2)
    alone, few = cautions(configurations(collect([str(tmp_path)])[0]))
    assert "one configuration" in alone
    assert "algo=ppo has 2" in few


def test_a_run_that_went_on_with_other_inputs_is_named(warned):
    found = warned({"summary": {"resume_anyway": "data: sha256 changed"}})
    assert len(found) == 1
    assert "went on with other inputs than it began with: data: sha256 changed" in found[0]


@pytest.mark.parametrize(("now", "warnings"), [("a", 0), ("b", 1)])
def test_other_data_behind_the_same_options_are_told(now, warnings, warned):
    inputs = [{"inputs": {"data": {"sha256": content}}} for content in ("a", now)]
    found = warned(*[inputs[0]] * 3, *[inputs[1]] * 3)
    assert ["Held-out prompts may differ" in text for text in found] == [True] * warnings
