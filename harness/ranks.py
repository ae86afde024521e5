"""Which of several processes of a run this one is."""

import os

from lightning_utilities.core.rank_zero import rank_zero_only

# Where Lightning's launchers, and the schedulers that it knows, say so.
VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def this_rank() -> int:
    """What Lightning says or, before it is imported, what it would say; 0 for a single process."""
    known = getattr(rank_zero_only, "rank", None)
    if known is not None:
        return known
    return next((int(os.environ[v]) for v in VARIABLES if v in os.environ), 0)
