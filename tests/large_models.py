"""`python -m pytest -p tests.large_models`: the tests with policies run as large ones are: with
log-probabilities in chunks of few tokens, and activations computed again in backward passes.
"""

from typing import Any

from lightning_modules.forward import log_probs
from lightning_modules.forward.checkpointing import can_checkpoint, set_checkpointing
from lightning_modules.models.actor_critic import ActorCritic

log_probs.CHUNK_ON_CPU = log_probs.FEWEST_TOKENS = 3
log_probs.whole_up_to(0).__enter__()

_init = ActorCritic.__init__


def _checkpointed(self: ActorCritic, *args: Any, **kwargs: Any) -> None:
    _init(self, *args, **kwargs)
    if can_checkpoint(self):
        set_checkpointing(self, True, kept=0)


ActorCritic.__init__ = _checkpointed
