"""Small inputs for each comparison: plain numbers from a seed, with few digits."""

import random


class Draw:
    """Plain lists of numbers with three decimals."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)

    def normal(self, *shape: int, scale: float = 1.0):
        if not shape:
            return round(self.random.gauss(0, scale), 3)
        return [self.normal(*shape[1:], scale=scale) for _ in range(shape[0])]

    def integers(self, limit: int, *shape: int):
        if not shape:
            return self.random.randrange(limit)
        return [self.integers(limit, *shape[1:]) for _ in range(shape[0])]


# Responses of B = 4 sequences, T = 7; 5 words.
LENGTHS = (7, 1, 4, 6)
SHAPE = (len(LENGTHS), max(LENGTHS))
WORDS = 5
GAMMAS_AND_LAMBDAS = ((1.0, 1.0), (1.0, 0.95), (0.97, 0.9), (0.9, 0.5), (1.0, 0.0))


def gae(draw: Draw) -> dict:
    return {
        "lengths": LENGTHS,
        "rewards": draw.normal(*SHAPE),
        "values": draw.normal(*SHAPE),
        "gammas_and_lambdas": GAMMAS_AND_LAMBDAS,
    }


def rewards_to_go(draw: Draw) -> dict:
    return {"lengths": LENGTHS, "rewards": draw.normal(*SHAPE), "gammas": (1.0, 0.97, 0.5)}


def log_probabilities(draw: Draw) -> dict:
    return {
        "logits": draw.normal(*SHAPE, WORDS, scale=3.0),
        "actions": draw.integers(WORDS, *SHAPE),
        "temperatures": (1.0, 0.7, 2.0),
    }


def kl(draw: Draw) -> dict:
    return {"logits": draw.normal(6, WORDS, scale=2.0), "others": draw.normal(6, WORDS, scale=2.0)}


def policy_gradient(draw: Draw) -> dict:
    return {
        "logits": draw.normal(*SHAPE, WORDS),
        "actions": draw.integers(WORDS, *SHAPE),
        "advantages": draw.normal(*SHAPE),
    }


def ppo_clip(draw: Draw) -> dict:
    """Ratios are around 1, so that clipping is felt on both sides.

    The ranges are powers of 1/2: an oracle keeps them in float32.
    """
    inputs = policy_gradient(draw)
    return inputs | {
        "log_ratios": draw.normal(*SHAPE, scale=0.4),
        "clip_ranges": ((0.25, 0.25), (0.125, 0.375)),
    }


def value_errors(draw: Draw) -> dict:
    return {
        "values": draw.normal(*SHAPE),
        "old_values": draw.normal(*SHAPE, scale=0.8),
        "returns": draw.normal(*SHAPE),
        "clip_range": 0.25,
    }


def explained_variance(draw: Draw) -> dict:
    returns = draw.normal(*SHAPE)
    near = [[round(r + draw.normal(scale=0.5), 3) for r in row] for row in returns]
    return {"lengths": LENGTHS, "returns": returns, "values": near}


def running_moments(draw: Draw) -> dict:
    return {"batches": [draw.normal(n, scale=4.0) for n in (3, 1, 5, 2)]}


def bradley_terry(draw: Draw) -> dict:
    """Each of 5 has beaten the next, in a ring, so that the best scores are finite."""
    ring = [(i, (i + 1) % 5) for i in range(5)]
    more = [(i, (i + 1 + draw.integers(4)) % 5) for i in draw.integers(5, 25)]
    return {"pairs": ring + more, "scores": draw.normal(5), "penalty": 0.125}


def plackett_luce(draw: Draw) -> dict:
    """Rankings of all 5, best first, with each of them first, and last, once at least."""
    ring = [[(i + j) % 5 for j in range(5)] for i in range(5)]
    more = [draw.random.sample(range(5), 5) for _ in range(15)]
    return {"rankings": ring + more, "scores": draw.normal(5)}


def partial_rankings(draw: Draw) -> dict:
    """Rankings of 2 to 5 of the 5, best first, with each of them before and behind the next."""
    ring = [[i, (i + 1) % 5] for i in range(5)]
    more = [draw.random.sample(range(5), 2 + i % 4) for i in range(16)]
    return {"rankings": ring + more, "scores": draw.normal(5)}


def calibration(draw: Draw) -> dict:
    """Margins, three of them 0."""
    return {"margins": [*draw.normal(60, scale=2.0), 0.0, 0.0, 0.0], "bins": (15, 5, 1)}


INPUTS = (
    gae,
    rewards_to_go,
    log_probabilities,
    kl,
    policy_gradient,
    ppo_clip,
    value_errors,
    explained_variance,
    running_moments,
    bradley_terry,
    plackett_luce,
    partial_rankings,
    calibration,
)


def inputs_of(seed: int) -> dict[str, dict]:
    """The inputs of every comparison, by its name."""
    return {make.__name__: make(Draw(seed)) for make in INPUTS}
