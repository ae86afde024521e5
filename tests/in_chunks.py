"""`python -m pytest -p tests.in_chunks`: the tests with log-probabilities in chunks of few tokens,
as large models have them.
"""

from lightning_modules.forward import log_probs

log_probs.CHUNK = 64
log_probs.whole_up_to(0).__enter__()
