"""How far annotators agree: in percent, and beyond chance."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import chain

Labels = Sequence[Hashable]  # of one thing, by as many annotators


def percent_agreement(units: Iterable[Labels]) -> float | None:
    """The share of pairs of labels of one thing that are the same, in [0, 1]; None if nothing has
    two labels.
    """
    same = total = 0
    for labels in units:
        same += sum(count * (count - 1) for count in Counter(labels).values())
        total += len(labels) * (len(labels) - 1)
    return same / total if total else None


def krippendorff_alpha(units: Iterable[Labels]) -> float | None:
    """Krippendorff's alpha of nominal labels: 1 - D_o / D_e, 1 where all agree and 0 at chance.

    D_o is the share of pairs of labels within a thing that differ, those of a thing with m labels
    weighing 1 / (m - 1); D_e the same share of pairs from all n labels, whatever they are of.
    Things with one label do not count. None if nothing has two, or all labels are the same.
    (Krippendorff 2011, Computing Krippendorff's Alpha-Reliability.)
    """
    several = [labels for labels in units if len(labels) > 1]
    counts = Counter(chain.from_iterable(several))
    n = counts.total()
    expected = n * n - sum(count * count for count in counts.values())
    if not expected:
        return None
    observed = sum(
        (len(labels) ** 2 - sum(count * count for count in Counter(labels).values()))
        / (len(labels) - 1)
        for labels in several
    )
    return 1 - (n - 1) * observed / expected
