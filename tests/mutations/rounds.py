"""Bugs of labels from elsewhere and of rounds: who learns from what, who is asked about what."""

from tests.mutations.mutation import Mutation

ADDED = "datamodules/test_added.py"
LABELS = "harness/rounds/test_labels.py"
ACCURACY = "harness/rounds/test_accuracy.py"
POLICY_FROM = "harness/tasks/test_policy_from.py"

ROWS = (
    Mutation(
        bug="labels of held-out prompts are learned from",
        target="datamodules.added:add_feedback",
        old="if told.prompt not in held_out",
        new="if True",
        tests=(f"{ADDED}::test_no_prompt_that_is_held_out_is_learned_from",),
    ),
    Mutation(
        bug="a reward model is measured on the labels that were added",
        target="datamodules.sources.source:Source.taught",
        old=' and split == "train"',
        new="",
        tests=(f"{ADDED}::test_reward_models_learn_from_them_and_nothing_else_does",),
    ),
    Mutation(
        bug="labels that were added are not learned from",
        target="datamodules.preferences:PreferenceDataModule.encode",
        old="source.taught(split)",
        new="source.feedback(split)",
        tests=(f"{ADDED}::test_reward_models_learn_from_them_and_nothing_else_does",),
    ),
    Mutation(
        bug="annotators of a round make no mistakes",
        target="datamodules.sources.landmarks:Landmarks.annotate",
        old="rng.random() < prefers_a",
        new="prefers_a > 0.5",
        tests=(f"{LABELS}::test_annotators_of_the_world_are_as_noisy_as_those_of_its_data",),
    ),
    Mutation(
        bug="annotators of every round draw the same noise",
        target="harness.rounds.labels:by_gold",
        old="[seed, number, Stream.LABELS]",
        new="[seed, Stream.LABELS]",
        tests=(
            f"{LABELS}::test_each_seed_and_each_round_has_annotators_of_its_own_who_repeat"
            "_themselves",
        ),
    ),
    Mutation(
        bug="a judge that contradicts itself prefers whom it is surer of",
        target="harness.judging.pairs:label_rows",
        old='0.0 if each.winner == "tie" else ',
        new="",
        tests=(f"{LABELS}::test_a_judge_reads_both_orders_and_contradicting_itself_is_a_tie",),
    ),
    Mutation(
        bug="a reward model is right when the first answer scores higher",
        target="harness.rounds.accuracy:in_order",
        old="torch.where(golds[:, 0] > golds[:, 1], won, 1 - won)",
        new="won",
        tests=(
            f"{ACCURACY}::test_a_pair_counts_if_the_better_answer_scores_higher_and_half_if_they"
            "_score_the_same",
        ),
    ),
    Mutation(
        bug="the KL of a policy that goes on is measured from where it went on",
        target="harness.pipeline.policy_models:actor_critic",
        old="Reference(frozen(load(how=pipeline.frozen)), shares_policy=False)",
        new="Reference(frozen(load_causal_lm(policy_from or path, how=pipeline.frozen)),"
        " shares_policy=False)",
        tests=(
            f"{POLICY_FROM}::test_it_begins_as_the_earlier_one_ended_and_its_reference_is_the"
            "_first_one[full]",
        ),
    ),
)
