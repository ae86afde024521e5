"""What an ensemble disagrees about most is asked first."""

import statistics
from itertools import combinations
from math import exp, sqrt

import pytest

from harness.evaluation.disagreement import disagreements
from harness.feedback.items import Item
from harness.feedback.store import FILE, Store
from harness.parts.score_scale import describe_scores
from harness.pipeline.model_folder import export
from harness.tasks.label import _prioritise
from lightning_modules.errors import OptionError
from lightning_modules.models.scalar import REWARD_CONFIG, ScalarModel
from lightning_modules.models.scorers import new_scorer
from lightning_modules.rewards.learned import Scorer


@pytest.fixture
def architecture() -> str:
    return "llama"


@pytest.fixture
def saved(lm, encoder, world, tmp_path):
    """saved(heads): the folder of a reward model, and what gives the scores of its heads."""

    def save(heads: int):
        lm.save_pretrained(tmp_path / "lm")
        model = new_scorer(tmp_path / "lm", encoder.tokenizer, seed=1, heads=heads)
        scorer = Scorer(ScalarModel(model), encoder)
        model.config.update({REWARD_CONFIG: describe_scores(scorer, world)})
        export(model, encoder, tmp_path)
        return str(tmp_path / "model"), scorer

    return save


def pairs(world, count: int) -> list[Item]:
    return [
        Item.of("pair", pair.prompt, pair.responses) for pair in world.preferences("val")[:count]
    ]


def test_disagreement_is_the_spread_of_what_the_heads_prefer(saved, world, tmp_path):
    folder, scorer = saved(3)
    texts = list(dict.fromkeys(r for p in world.preferences("val")[:9] for r in p.responses))[:4]
    ranking = Item.of("ranking", world.preferences("val")[0].prompt, texts)
    items = [*pairs(world, 6), ranking]
    expected = []
    for item in items:
        heads = scorer.heads([item.prompt] * len(item.responses), item.responses).tolist()
        spreads = []
        for first, second in combinations(heads, 2):
            preferred = [1 / (1 + exp(b - a)) for a, b in zip(first, second, strict=True)]
            spreads.append(statistics.pvariance(preferred))
        expected.append(sqrt(statistics.mean(spreads)))
    found = disagreements(folder, items)
    assert found == pytest.approx(expected, abs=1e-5)
    assert max(found) > 1.5 * min(found)
    with Store(tmp_path / FILE) as store:
        store.add(items)
        _prioritise(store, folder)
        order = []
        while (showing := store.next("ann")) is not None:
            order.append(showing.item)
            store.vote(showing.item.id, "ann", "skip")
    assert order == sorted(items, key=lambda item: -found[items.index(item)])


def test_single_answers_are_ordered_by_the_spread_of_their_scores(saved, world):
    folder, scorer = saved(2)
    thumbs = [Item.of("thumb", i.prompt, i.responses[:1]) for i in pairs(world, 5)]
    heads = scorer.heads([i.prompt for i in thumbs], [i.responses[0] for i in thumbs])
    first, second = (heads - heads.mean(0)).unbind(-1)
    assert disagreements(folder, thumbs) == pytest.approx(
        ((first - second).abs() / sqrt(2)).tolist(), abs=1e-5
    )


def test_one_head_cannot_disagree(saved, world):
    folder, _ = saved(1)
    with pytest.raises(OptionError, match=r"has one head, .* algo\.ensemble=4"):
        disagreements(folder, pairs(world, 2))
