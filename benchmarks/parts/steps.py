"""What both sides of a comparison note alike; torch alone is imported here."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Steps:
    """Seconds, and seconds of all CPUs, from the end of each step to the end of the next."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    def begin(self) -> None:
        self.now = time.perf_counter(), time.process_time()

    def end(self) -> None:
        before = self.now
        self.begin()
        self.seconds.append(self.now[0] - before[0])
        self.cpu_seconds.append(self.now[1] - before[1])


def mark(outputs: Callable[[Tensor], Tensor], vocabulary: int) -> float:
    """One number that says which weights these are: what they make of a fixed row of ids."""
    ids = (torch.arange(24)[None] * 7 + 5) % vocabulary
    made = outputs(ids).double()
    return float((made * torch.linspace(-1, 1, made.numel()).view_as(made)).mean())
