"""A run's value function as a folder that plain transformers loads, as a reward model's is."""

from contextlib import nullcontext
from copy import copy, deepcopy
from pathlib import Path

import torch
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn

from datamodules.tokenization.encoder import Encoder
from harness.pipeline.model_folder import export, whole_folder
from lightning_modules.forward.passes import plain
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.adapters import active_adapters, merged
from lightning_modules.models.scalar import REWARD_CONFIG, VALUES, AdapterScalar
from lightning_modules.models.scorers import choose_padding, scorer_on
from lightning_modules.options.paths import CRITIC, MODEL, value_adapter


@rank_zero_only
def export_critic(
    model: ActorCritic, encoder: Encoder, folder: Path, dtype: torch.dtype = torch.float32
) -> list[str]:
    """Write `folder/critic/model`, a sequence-classification model in `dtype`, and what adapter it
    has beside it; nothing where there is no critic. Returns what is to be said.

    The value of a state is (score - mean) / std, the score read at the state's last token: mean and
    std are in the model's config. Of a head on the policy's states its backbone is the policy's, of
    an adapter that with the adapter merged in. A family without such a model is said.
    """
    kind = model.kind
    if kind is None:
        return []
    if kind == "copy":
        scale, heads = (model.critic.mean, model.critic.std), model.critic.heads_count
    else:
        scale, heads = (-model.value_head.bias, torch.ones(1)), 1  # such models have no bias
    scorer = _scorer(model)
    if scorer is None:
        lm = plain(model.lm).config.model_type
        return [f"no critic/: Transformers has no model with a score for the type {lm}"]
    own = copy(encoder)
    own.tokenizer = deepcopy(encoder.tokenizer)
    rows = plain(scorer).get_input_embeddings().weight.shape[0]
    choose_padding(own.tokenizer, rows, encoder.stop_ids)
    plain(scorer).config.pad_token_id = own.tokenizer.pad_token_id
    about = {
        VALUES: kind,
        "ensemble": heads,
        "max_prompt_tokens": encoder.max_prompt_tokens,
        "max_response_tokens": encoder.max_response_tokens,
        "score_mean": _numbers(scale[0], heads),
        "score_std": _numbers(scale[1], heads),
    }
    plain(scorer).config.update({REWARD_CONFIG: about})
    export(scorer, own, folder / CRITIC, dtype=dtype)
    if kind == "adapter":
        beside = value_adapter(folder / CRITIC / MODEL)
        with whole_folder(beside.parent) as draft:
            model.lm.save_pretrained(draft, selected_adapters=[model.value_adapter])
    return []


def _scorer(model: ActorCritic) -> nn.Module | None:
    """The value function as a sequence-classification model, perhaps with LoRA."""
    critic = model.critic
    if isinstance(critic, AdapterScalar):
        head, reading = critic.head, critic.reading()
    elif critic is not None:
        return critic.model
    else:
        head, reading = model.value_head, nullcontext(model.lm)
        if model.value_adapter is not None:
            reading = active_adapters(model.lm, model.value_adapter)
    with reading as lm:
        return scorer_on(merged(lm), head)


def _numbers(x: Tensor, count: int) -> list[float]:
    return x.detach().cpu().expand(count).tolist()
