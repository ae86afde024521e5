"""All rows, in the order of the table, and the bugs that there is no place for."""

from tests.mutations import (
    aggregation,
    chats,
    feedback,
    judgements,
    judges,
    log_probabilities,
    losses,
    masks_and_positions,
    models,
    reward_models,
    rounds,
)
from tests.mutations.mutation import Mutation

SECTIONS: dict[str, tuple[Mutation, ...]] = {
    "Masks and positions": masks_and_positions.ROWS,
    "Log-probabilities": log_probabilities.ROWS,
    "Rewards, advantages and losses": losses.ROWS,
    "Preferences, reward models and what they score": reward_models.ROWS,
    "Verdicts of a judge, and what is made of them": judgements.ROWS,
    "Judges: what they are asked, how they are read, what is kept": judges.ROWS,
    "Chats: what ends, what is text, what is cut": chats.ROWS,
    "Labels of people": feedback.ROWS,
    "Models as they come": models.ROWS,
    "Labels from elsewhere, and rounds": rounds.ROWS,
    "Micro-batches, ranks, noise, checkpoints and frozen models": aggregation.ROWS,
}
ROWS = tuple(row for rows in SECTIONS.values() for row in rows)

NOT_APPLICABLE = {
    "Lightning's DistributedSampler repeats rows to make ranks equal (Lightning #12862)": (
        "it is never used; the samplers that stand in its place have rows of their own above"
    ),
    "`gradient_clip_val` or `accumulate_grad_batches` of the Trainer besides the algorithm's own": (
        "Lightning refuses both where optimisation is manual"
    ),
    "a KL loss with the gradient of another divergence": (
        "there is no KL loss; what the estimators would do as one is measured in"
        " tests/exact/test_gradients.py"
    ),
    "log-probabilities of a separate inference engine that differ from those of training": (
        "there is none; old log-probabilities come from the forward pass that updates use"
    ),
    "a stop token that is the padding token is lost in a reward model's padding": (
        "scores are read by the mask alone; the rows above put every other reading in"
    ),
}
