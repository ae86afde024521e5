"""What a run warns of by itself while it trains, each kind once, in the words of the glossary."""

import re
from collections import defaultdict, deque
from collections.abc import Callable
from math import isfinite, sqrt
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from rich.console import Console

# Single iterations are noisy; ten make a mean whose spread can be told.
WINDOW = 10
# One mean of normal noise in 740 lies lower.
STANDARD_ERRORS = 3.0
# Nats a response. A policy that has hardly moved has a KL of 0 and rounding in its place.
KL_NOISE = 0.01
# Above it most of a rollout's later steps are wasted; 0.2 is where the glossary's advice begins.
CLIPPED = 0.3
# Of the first iteration's entropy. What is left then is one response to each prompt.
ENTROPY_LEFT = 0.05
# Nats a token: as a coin that falls on one side once in 750 times.
ENTROPY_LOW = 0.01
# Length then explains two thirds of the score's variance.
CORRELATED = 0.8
IN_A_ROW = 3
# A value function needs some iterations before it can be judged.
VALUE_ITERATIONS = 20
# Most responses have no end, and are scored as they stand.
ENDED = 0.5
# An update that leaves out more is of chosen responses.
UNSCORED = 0.1
# Nats a token, on average. Rounding makes 1e-5 in float32 and up to 0.05 in bfloat16.
SAMPLER_GAP = 0.1
# The heading of the glossary's section on them.
REWARD_MODELS = "## Reward models"


class Entry(NamedTuple):
    """A row of the glossary: what a metric is, and how to read it."""

    what: str
    reading: str


class Seen(NamedTuple):
    """The iterations so far: how many, the first value of each metric, and the last few."""

    count: int
    first: dict[str, float]
    last: dict[str, deque[float]]


def glossary(path: Path) -> dict[str, Entry]:
    """The tables of docs/metrics.md by metric; a row of several names counts for each.

    In the section on reward models names stand without their prefixes, `train/` and `val/`. A wheel
    comes without docs/, and then there is none.
    """
    if not path.is_file():
        return {}
    entries: dict[str, Entry] = {}
    prefixes = ("",)
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            prefixes = ("train/", "val/") if line == REWARD_MODELS else ("",)
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) != 3 or not cells[0].startswith("`"):
            continue
        entry = Entry(cells[1], cells[2])
        # What ends in a slash says where the others are logged.
        names = (n for n in re.findall(r"`([^`]+)`", cells[0]) if not n.endswith("/"))
        entries |= {f"{prefix}{name}": entry for name in names for prefix in prefixes}
    return entries


def negative_kl(seen: Seen) -> bool:
    """The mean over a window lies below 0 by more than its noise."""
    values = seen.last["rollout/kl"]
    if len(values) < WINDOW or not all(map(isfinite, values)):
        return False
    noise = STANDARD_ERRORS * stdev(values) / sqrt(WINDOW)
    return mean(values) < -max(noise, KL_NOISE)


def clipped(seen: Seen) -> bool:
    """Clipping holds back much of an iteration."""
    return _now(seen, "train/clip_fraction") > CLIPPED


def collapsed(seen: Seen) -> bool:
    """Nothing is left to explore."""
    name = "rollout/entropy"
    return _now(seen, name, 1.0) < max(ENTROPY_LOW, ENTROPY_LEFT * seen.first.get(name, 0.0))


def counts_length(seen: Seen) -> bool:
    """The score follows the length, several times in a row."""
    values = list(seen.last["rollout/score_length_correlation"])[-IN_A_ROW:]
    return len(values) == IN_A_ROW and all(abs(value) > CORRELATED for value in values)


def worse_than_none(seen: Seen) -> bool:
    """The value function adds variance."""
    values = seen.last["train/explained_variance"]
    late = seen.count >= VALUE_ITERATIONS and len(values) == WINDOW
    return late and all(value < 0 for value in values)


def cut_off(seen: Seen) -> bool:
    """Most responses reach the limit."""
    return _now(seen, "rollout/eos_rate", 1.0) < ENDED


def unscored(seen: Seen) -> bool:
    """Many responses leave the update."""
    return _now(seen, "rollout/unscored") > UNSCORED


def sampler_disagrees(seen: Seen) -> bool:
    """Responses are not those of the policy that is updated."""
    return _now(seen, "rollout/sampler_gap_mean") > SAMPLER_GAP


def _now(seen: Seen, name: str, absent: float = 0.0) -> float:
    values = seen.last.get(name)
    return values[-1] if values else absent


# Its name, the metric that it looks at, and what is said.
WARNINGS: dict[str, tuple[Callable[[Seen], bool], str, str]] = {
    "negative_kl": (negative_kl, "rollout/kl", "the KL is negative beyond noise"),
    "clipped": (clipped, "train/clip_fraction", "much is clipped"),
    "collapsed": (collapsed, "rollout/entropy", "the entropy has collapsed"),
    "counts_length": (
        counts_length,
        "rollout/score_length_correlation",
        "the score follows the length",
    ),
    "worse_than_none": (
        worse_than_none,
        "train/explained_variance",
        "the value function is worse than none",
    ),
    "cut_off": (cut_off, "rollout/eos_rate", "most responses are cut off"),
    "unscored": (unscored, "rollout/unscored", "many responses have no score"),
    "sampler_disagrees": (
        sampler_disagrees,
        "rollout/sampler_gap_mean",
        "the sampler and the update disagree",
    ),
}


class Health(Callback):
    """Looks at every iteration's metrics; what it has seen and said goes into checkpoints."""

    def __init__(self, console: Console, glossary_path: Path):
        self.console = console
        self.glossary = glossary(glossary_path)
        self.seen = Seen(0, {}, defaultdict(lambda: deque(maxlen=WINDOW)))
        self.said: list[str] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        if trainer.is_global_zero:
            self.look({name: float(x) for name, x in trainer.callback_metrics.items()})

    def look(self, metrics: dict[str, float]) -> None:
        """One iteration's metrics; warns of what is new in them."""
        for name in {metric for _, metric, _ in WARNINGS.values()} & metrics.keys():
            self.seen.first.setdefault(name, metrics[name])
            self.seen.last[name].append(metrics[name])
        self.seen = self.seen._replace(count=self.seen.count + 1)
        for kind, (there, metric, what) in WARNINGS.items():
            if kind not in self.said and there(self.seen):
                self.said.append(kind)
                self._warn(metric, what)

    def _warn(self, metric: str, what: str) -> None:
        about = self.glossary.get(metric, Entry("", ""))
        line = (
            f"warning: iteration {self.seen.count}: {what}: {metric} {_now(self.seen, metric):.3g}"
        )
        says = "; ".join(part for part in about if part)
        self.console.print(f"  {line}" + (f". The glossary: {says}" if says else ""))

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers for a checkpoint."""
        last = {name: list(values) for name, values in self.seen.last.items()}
        return {
            "count": self.seen.count,
            "first": dict(self.seen.first),
            "last": last,
            "said": self.said,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from `state_dict()`."""
        last = defaultdict(lambda: deque(maxlen=WINDOW))
        for name, values in state_dict["last"].items():
            last[name].extend(values)
        self.seen = Seen(state_dict["count"], dict(state_dict["first"]), last)
        self.said = list(state_dict["said"])
