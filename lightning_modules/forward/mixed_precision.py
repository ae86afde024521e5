"""Mixed precision where weights stand still."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def casts_kept(device: torch.device) -> Iterator[None]:
    """Under autocast, each trained weight is cast once for all that is computed within.

    Lightning's mixed precision casts weights anew at every use, as they change from step to step.
    Sampling uses the same weights for every token, and at a billion of them in float32 the casts
    take longer than all else (docs/performance.md). Nothing may be trained within. The result is
    the same to the bit.
    """
    if not torch.is_autocast_enabled(device.type):
        yield
        return
    dtype = torch.get_autocast_dtype(device.type)
    with torch.autocast(device.type, dtype, cache_enabled=True):
        try:
            yield
        finally:
            # The outer context would keep them beyond the next optimiser step.
            torch.clear_autocast_cache()
