"""Rankings as micro-batches: pairs, ties, the orders that they leave open, resampling."""

from itertools import combinations

import pytest
import torch

from datamodules.preferences import MAX_ORDERS, PreferenceDataModule
from datamodules.records import DataError
from datamodules.tokenization.encoder import Encoder
from tests.lightning_modules.supervised_parts import MIXED, ROOM, Given, pair, ranking

TEXTS = ("a", "b b", "c c c", "d", "e", "f")


def make(encoder, rows, **options):
    return PreferenceDataModule(Given(rows), encoder, 16, ROOM, 0, **options)


def only_part(data):
    ((part,),) = data.val_dataloader()
    return part


@pytest.mark.parametrize("ratings", [(3, 1, 2), (1, 1, 0, 2), (0, 5), (2, 2, 1, 1, 3)])
def test_a_ranking_is_all_its_pairs_the_better_one_first(encoder, ratings):
    part = only_part(make(encoder, [ranking(TEXTS[: len(ratings)], ratings)]))
    pairs = list(zip(part["chosen"].tolist(), part["rejected"].tolist(), strict=True))
    assert sorted(map(sorted, pairs)) == [[i, j] for i, j in combinations(range(len(ratings)), 2)]
    for (i, j), tied, strength in zip(pairs, part["tied"], part["strength"], strict=True):
        assert ratings[i] >= ratings[j]
        assert bool(tied) == (ratings[i] == ratings[j])
        assert float(strength) == ratings[i] - ratings[j]
    assert part["probability"].isnan().all()
    assert part["comparison"].unique().tolist() == [0]


def test_rankings_of_all_sizes_keep_their_rows_apart(encoder):
    data = make(encoder, MIXED)
    part = only_part(data)
    rows = sorted(data.rows["val"], key=data.length)
    first = 0
    for g, row in enumerate(rows):
        own = part["comparison"] == g
        inside = range(first, first + len(row.responses))
        for name in ("chosen", "rejected"):
            assert set(part[name][own].tolist()) <= set(inside)
        places = part["orders"][g][part["orders"][g] >= 0]
        assert set(places.tolist()) == set(inside)
        assert part["chosen_length"][own].tolist() == [row.characters[p.chosen] for p in row.pairs]
        first += len(row.responses)
    assert first == len(part["input_ids"])


@pytest.mark.parametrize(
    ("ratings", "count"), [((3, 2, 1), 1), ((1, 1, 1, 0), 6), ((2, 1, 2, 1), 4), ((0, 1, 1), 2)]
)
def test_orders_are_those_that_the_ratings_allow(encoder, ratings, count):
    orders = only_part(make(encoder, [ranking(TEXTS[: len(ratings)], ratings)]))["orders"][0]
    assert len({tuple(order) for order in orders.tolist()}) == len(orders) == count
    for order in orders.tolist():
        assert sorted(order) == list(range(len(ratings)))
        rated = [ratings[i] for i in order]
        assert rated == sorted(rated, reverse=True)


def test_orders_are_padded_behind_what_is_there(encoder):
    rows = [ranking(TEXTS[:4], (1, 1, 1, 0)), pair("yes", "no"), ranking(TEXTS[:3], (3, 2, 1))]
    data = make(encoder, rows)
    orders = only_part(data)["orders"]
    assert orders.shape == (3, 6, 4)
    sizes = sorted((int((each[:, 0] >= 0).sum()), int((each[0] >= 0).sum())) for each in orders)
    assert sizes == [(1, 2), (1, 3), (6, 4)]
    real = orders >= 0
    assert (real.long().diff(dim=-1) <= 0).all()
    assert (real[..., 0].long().diff(dim=-1) <= 0).all()


def test_a_pair_is_a_ranking_of_two(encoder):
    as_pair = only_part(make(encoder, [pair("yes", "no no")]))
    ranked = only_part(make(encoder, [ranking(("no no", "yes"), (0, 1))]))
    assert as_pair["orders"].tolist() == [[[0, 1]]]
    assert ranked["orders"].tolist() == [[[1, 0]]]
    assert ranked["chosen_length"].tolist() == as_pair["chosen_length"].tolist() == [3]


@pytest.mark.parametrize(("ties", "known"), [(5, True), (6, False)])
def test_more_orders_than_are_counted_are_left_to_bradley_terry(encoder, ties, known):
    """5! = MAX_ORDERS."""
    assert MAX_ORDERS == 120
    texts = [*TEXTS[:ties], "the best one"]
    data = make(encoder, [ranking(texts, [0] * ties + [1]), pair("yes", "no")])
    part = only_part(data)
    assert len(data.rows["val"]) == 2
    assert sorted((each[0, 0] >= 0).item() for each in part["orders"]) == [known, True]
    counted = (
        {}
        if known
        else {
            f"{split} rankings with too many ties for plackett_luce": 1
            for split in ("train", "val")
        }
    )
    assert data.counts == counted


def test_responses_that_truncation_makes_equal_are_no_pair(encoder):
    stem = "The Taj Mahal is in"
    short = Encoder(encoder.tokenizer, 32, len(encoder.tokenizer(stem)["input_ids"]))
    data = make(short, [ranking((f"{stem} Agra.", f"{stem} Rome.", "No."), (2, 1, 0))])
    part = only_part(data)
    pairs = zip(part["chosen"].tolist(), part["rejected"].tolist(), strict=True)
    assert sorted(pairs) == [(0, 2), (1, 2)]


def test_a_ranking_of_equals_teaches_nothing(encoder):
    with pytest.raises(DataError, match="no train pair whose responses differ"):
        make(encoder, [ranking(TEXTS[:3], (1, 1, 1))])


def test_one_head_sees_the_data_as_it_is(encoder):
    assert (only_part(make(encoder, MIXED))["resampled"] == 1).all()
    assert only_part(make(encoder, MIXED))["resampled"].shape == (len(MIXED), 1)


def test_each_head_of_an_ensemble_sees_a_bootstrap_sample_of_its_own(encoder):
    rows = [pair(f"yes {i}", f"no {i}", f"Is it {i}?") for i in range(400)]

    def drawn(seed):
        data = PreferenceDataModule(Given(rows), encoder, 16, ROOM, seed, 3)
        return torch.tensor([row.resampled for row in data.rows["train"]]).double()

    sample = drawn(0)
    assert torch.equal(sample, drawn(0))
    assert not torch.equal(sample, drawn(1))
    # Poisson(1): mean and variance 1, whose standard errors are sqrt(1/n) and sqrt(3/n).
    assert (sample.mean(0) - 1).abs().max() < 4 / 400**0.5
    assert (sample.var(0) - 1).abs().max() < 4 * (3 / 400) ** 0.5
    assert torch.corrcoef(sample.T).triu(1).abs().max() < 4 / 400**0.5
