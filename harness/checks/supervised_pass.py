"""A model before it is fitted: a padded batch must say what each of its rows says alone.

Where it does not (positions of its own, a mask that it does not heed) it would be trained on what
it never says when it is used.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from datamodules.tokenization.encoder import Encoder
from harness.checks.plain_pass import row_logits
from lightning_modules.errors import ModelError
from lightning_modules.forward.passes import last_hidden, plain, rounding_in
from lightning_modules.forward.shared_prompts import SharedPrompt, continues_prompts
from lightning_modules.forward.token_outputs import response_outputs
from lightning_modules.models.scalar import ScalarModel

LONGEST = 16


def rows_like(ids: Sequence[int], longest: int) -> list[list[int]]:
    """Three short rows of different lengths made of a prompt's ids; the second begins the first."""
    whole = (list(ids) * LONGEST)[: max(3, min(LONGEST, longest))]
    return [whole, whole[: len(whole) // 2], whole[::-1][: len(whole) // 3 + 1]]


@torch.no_grad()
def check_log_probabilities(lm: nn.Module, encoder: Encoder, rows: list[list[int]]) -> None:
    """ModelError unless `lm`, a causal LM in evaluation mode, gives the tokens of a padded batch
    the log-probabilities that they have in each row alone, and whatever comes after them.
    """

    def together(ids: Tensor, mask: Tensor) -> Tensor:
        outputs, _ = response_outputs(lm, ids, mask[:, :1], mask[:, 1:], temperature=1.0)
        return outputs.logprobs

    def alone(ids: Tensor) -> Tensor:
        logprobs = row_logits(lm, ids)[:-1].log_softmax(-1)
        return logprobs.gather(-1, ids[1:, None]).squeeze(-1)

    _check(lm, encoder, rows, together, alone, lambda found, said: (found - said).abs().mean())


@torch.no_grad()
def check_hidden_states(model: nn.Module, encoder: Encoder, rows: list[list[int]]) -> None:
    """ModelError unless hidden states of `model`, a scorer in evaluation mode, are those of each
    row alone, and depend on nothing that comes after them.
    """

    def alone(ids: Tensor) -> Tensor:
        return plain(model).base_model(input_ids=ids[None], use_cache=False).last_hidden_state[0]

    def together(ids: Tensor, mask: Tensor) -> Tensor:
        return last_hidden(model, ids, mask)

    _check(model, encoder, rows, together, alone, lambda a, b: (a - b).norm() / b.norm())


def choose_shared_prompts(model: ScalarModel, encoder: Encoder, rows: list[list[int]]) -> list[str]:
    """Let `model` read prompts once for all their responses if it can; a line to say if not."""
    device = next(model.model.parameters()).device  # packed layers are on theirs already
    prompts, responses = [rows[0], rows[1]], [rows[2], rows[1], rows[0][:2]]
    prompt_ids, prompt_mask = (x.to(device) for x in encoder.pad(prompts, "left"))
    ids, mask = (x.to(device) for x in encoder.pad(responses, "right"))
    prompt = SharedPrompt(prompt_ids, prompt_mask, torch.tensor([0, 0, 1], device=device))
    gap = continues_prompts(model.model, prompt, ids, mask)
    model.shares_prompts = gap <= rounding_in(model)
    if model.shares_prompts:
        return []
    return [
        f"{_kind(model.model)} cannot go on from a cache of keys and values: prompts are read once"
        " for each response, which takes longer and changes no result"
    ]


def _check(
    model: nn.Module,
    encoder: Encoder,
    rows: list[list[int]],
    together: Callable[[Tensor, Tensor], Tensor],
    alone: Callable[[Tensor], Tensor],
    gap: Callable[[Tensor, Tensor], Tensor],
) -> None:
    device = next(model.parameters()).device
    ids, mask = (x.to(device) for x in encoder.pad(rows, "right"))
    try:
        batch = together(ids, mask)
        said = [alone(torch.tensor(row, device=device)) for row in rows]
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise ModelError(
            f"{_kind(model)} cannot be read in padded batches as training does"
            f" ({type(error).__name__}: {error!s:.200}), so it cannot be trained here with this"
            " version of transformers"
        ) from error
    limit = rounding_in(model)
    found = [batch[i, : len(x)] for i, x in enumerate(said)]
    far = max(float(gap(a, b)) for a, b in zip(found, said, strict=True))
    if not far <= limit:
        raise ModelError(
            f"{_kind(model)} says something else in a padded batch than of each row alone (by"
            f" {far:.2g}, where {limit:g} is rounding): its positions are not those of the tokens,"
            " or it does not heed the mask. It cannot be trained here with this version of"
            " transformers"
        )
    far = float(gap(said[0][: len(said[1])], said[1]))
    if not far <= limit:
        raise ModelError(
            f"{_kind(model)} reads in both directions: what follows a token changes what is said of"
            f" it, by {far:.2g}; give a causal LM"
        )


def _kind(model: nn.Module) -> str:
    return type(plain(model)).__name__
