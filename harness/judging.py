"""What a reward model's scores are worth: their scale, and a report on held-out pairs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from datamodules.prompts import spread
from datamodules.records import DataError, Preference, Prompt
from datamodules.sources.source import Source
from datamodules.tokenization import PLAIN_TEMPLATE, Encoder, load_tokenizer
from lightning_modules.actor_critic import REWARD_CONFIG
from lightning_modules.backbone import fetch_config
from lightning_modules.rewards.learned import Scorer

REFERENCE_ANSWERS = 1000
# For a reward model whose config does not say how much it can read.
UNKNOWN_POSITIONS = 4096

Score = Callable[[Sequence[Prompt], Sequence[str]], Tensor]


def scoring_encoder(path: str | Path) -> Encoder:
    """The tokenizer of a reward model, used as it was when that was trained.

    One of ours says within which limits. Of another, the chat template (if it has one) writes the
    whole conversation, and as much of its end is read as the model has positions.
    """
    tokenizer = load_tokenizer(path)
    config = fetch_config(path)
    about = getattr(config, REWARD_CONFIG, None)
    if about:
        return Encoder(tokenizer, about["max_prompt_tokens"], about["max_response_tokens"])
    limit = getattr(config, "max_position_embeddings", None) or UNKNOWN_POSITIONS
    renders = tokenizer.chat_template != PLAIN_TEMPLATE
    return Encoder(tokenizer, limit // 2, limit - limit // 2, renders_answers=renders)


def describe_scores(scorer: Scorer, source: Source) -> dict[str, Any]:
    """What an exported reward model says of itself in its config: how many heads it has, within
    which limits of tokens it was trained, and the mean and standard deviation of each head's scores
    on reference answers: held-out ones of the kind that the policy is taught to imitate.
    """
    answers = spread(source.demonstrations("val"), REFERENCE_ANSWERS)
    scores = scorer.raw_heads([a.prompt for a in answers], [a.response for a in answers]).double()
    std = scores.std(0, correction=0)
    return {
        "ensemble": scores.shape[1],
        "max_prompt_tokens": scorer.encoder.max_prompt_tokens,
        "max_response_tokens": scorer.encoder.max_response_tokens,
        "score_mean": scores.mean(0).tolist(),
        "score_std": [x or 1.0 for x in std.tolist()],
    }


def judge(
    score: Score,
    pairs: Sequence[Preference],
    folder: Path,
    *,
    title: str,
    left_out: Mapping[str, int],
) -> dict[str, float]:
    """Score held-out pairs and write a report into `folder`; its numbers as val/*.

    `score(prompts, texts)` gives (N, n), a column for each head of an ensemble. Pairs of which an
    answer cannot be scored are left out and counted.
    """
    from harness.report import write_report  # matplotlib takes a second to import

    prompts = [pair.prompt for pair in pairs]
    heads = [score(prompts, [getattr(p, half) for p in pairs]) for half in ("chosen", "rejected")]
    chosen, rejected = (h.double().mean(-1) for h in heads)
    kept = ~(chosen.isnan() | rejected.isnan())
    if not kept.any():
        raise DataError(f"{title}: none of the {len(pairs)} held-out pairs could be scored")
    disagreement = None
    if heads[0].shape[1] > 1:
        disagreement = tuple(h.double().std(-1)[kept] for h in heads)
    left_out = dict(left_out) | {"held-out pairs that could not be scored": int((~kept).sum())}
    numbers = write_report(
        folder,
        title=title,
        pairs=[pair for pair, keep in zip(pairs, kept.tolist(), strict=True) if keep],
        chosen=chosen[kept],
        rejected=rejected[kept],
        disagreement=disagreement,
        left_out={what: count for what, count in left_out.items() if _is_loss(what) and count},
    )
    return {f"val/{name}": value for name, value in numbers.items()}


def _is_loss(what: str) -> bool:
    """Counts of what was read and kept are no losses."""
    return what not in ("rows", "kept", "prompts", "responses")
