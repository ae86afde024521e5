"""How sure one can be of a share."""

from math import sqrt

# How many standard errors a 95% interval of a normal mean reaches to either side.
Z_95 = 1.959964


def wilson_interval(share: float, count: float) -> tuple[float, float]:
    """95% interval of a share seen in `count` independent trials (Wilson 1927). Ties counted as
    half make it a little wider than it need be.
    """
    if count == 0:
        return 0.0, 1.0
    z2 = Z_95**2 / count
    centre = (share + z2 / 2) / (1 + z2)
    half = Z_95 / (1 + z2) * sqrt(share * (1 - share) / count + z2 / (4 * count))
    return max(0.0, centre - half), min(1.0, centre + half)
