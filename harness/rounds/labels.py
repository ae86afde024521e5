"""Who says which answer of a pair is better, as rows of a file that `data.more` reads."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from datamodules.sources.source import Source
from harness.errors import RunError
from harness.feedback.export import rows_by_kind
from harness.feedback.items import Item
from harness.feedback.pairs import Row, pair_row
from harness.feedback.store import Store
from harness.judging.both_orders import Pair as Compared
from harness.judging.both_orders import in_both_orders
from harness.judging.pairs import label_rows
from harness.rounds.pairs import Pair
from lightning_modules.judges.judge import Judge
from lightning_modules.rollouts.seeding import Stream


def by_gold(source: Source, pairs: Sequence[Pair], seed: int, number: int) -> list[Row]:
    """What the annotators say who make a world's own data, with their noise; another one in every
    round (`number`) and for every seed.
    """
    rng = np.random.default_rng([seed, number, Stream.LABELS])
    said = (source.annotate(pair.prompt, *pair.texts, rng) for pair in pairs)
    return [pair_row(a.prompt, a.chosen, a.rejected, annotators=["gold"]) for a in said]


def by_judge(judge: Judge, pairs: Sequence[Pair]) -> list[Row]:
    """What a judge says who reads each pair in both orders. Where these disagree it is a tie, with
    a strength of 0; a pair without a verdict has no row.
    """
    asked = [Compared(pair.prompt, *pair.texts) for pair in pairs]
    return list(label_rows(in_both_orders(judge, asked), judge.words))


def by_people(
    pairs: Sequence[Pair], place: Path, cfg: DictConfig, tell: Callable[[str], None]
) -> list[Row]:
    """What people say on a page, whose address is told, once they have been asked about every pair.
    Their votes are kept in the store `place`, from where it goes on.
    """
    from harness.web.labelling import Labelling
    from harness.web.server import serving

    place.parent.mkdir(parents=True, exist_ok=True)
    with Store(place, overlap=cfg.overlap) as store:
        store.add(Item.of("pair", pair.prompt, pair.texts) for pair in pairs)
        with serving(Labelling(store, cfg.instructions).app(), cfg.host, cfg.port) as site:
            tell(site.address)
            while not _is_done(store):
                if site.ended.wait(1.0):
                    raise RunError("the page for labels has ended; the same command goes on")
        return rows_by_kind(store.items(), store.votes()).get("pair", [])


def teaches(file: Path) -> bool:
    """Whether one of the labels in a file is no tie."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return any(json.loads(line).get("strength") != 0 for line in lines)


def _is_done(store: Store) -> bool:
    """Whether as many people as are wanted have said something of every pair, if only `skip`."""
    said = Counter(vote.item for vote in store.votes())
    return all(said[item] >= store.overlap for item in store.items())
