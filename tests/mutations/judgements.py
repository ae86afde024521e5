"""Bugs of what is made of a judge's verdicts."""

from tests.mutations.mutation import Mutation

LENGTHS = "exact/test_length_control.py"
CONTROL = "lightning_modules.metrics.length_control"
BY_HAND = "lightning_modules/metrics/test_judgements.py"
JUDGEMENTS = "lightning_modules.metrics.judgements"
PAIRS = "harness/judging/test_pairs.py"

ROWS = (
    Mutation(
        bug="the length-controlled win rate is the plain one",
        target=f"{CONTROL}:length_controlled",
        old="_theta(won, x, 0.0, 1.0)",
        new="_theta(won, 0 * x, 0.0, 1.0)",
        tests=(f"{LENGTHS}::test_many_comparisons_come_to_the_planted_rate",),
    ),
    Mutation(
        bug="lengths are equal where their difference is the mean one",
        target=f"{CONTROL}:standardised",
        old="(difference / spread)",
        new="((difference - difference.mean()) / spread)",
        tests=(f"{LENGTHS}::test_differences_are_standardised_around_their_mean_and_read_at_zero",),
    ),
    Mutation(
        bug="the penalty on the effect of length is twice what it says",
        target=f"{CONTROL}:_phi",
        old="- PULL * phi",
        new="- 2 * PULL * phi",
        tests=(f"{LENGTHS}::test_it_is_the_ridge_regression_of_others",),
    ),
    Mutation(
        bug="the interval takes the effect of length for known",
        target=f"{CONTROL}:_theta",
        old="of_theta - both**2 / (of_phi + PULL)",
        new="of_theta",
        tests=(f"{LENGTHS}::test_one_policy_always_longer_leaves_what_the_penalty_allows",),
    ),
    Mutation(
        bug="comparisons of one prompt are as many independent ones",
        target=f"{CONTROL}:length_controlled",
        old="weight = _independent_share(won, x, cluster, theta, phi)",
        new="weight = 1.0",
        tests=(f"{LENGTHS}::test_repeated_comparisons_of_a_prompt_do_not_make_it_surer",),
    ),
    Mutation(
        bug="a response wins that one order alone prefers",
        target=f"{JUDGEMENTS}:BothOrders.won",
        old="(self.read_first > 0.5) & (self.read_second > 0.5)",
        new="(self.read_first > 0.5)",
        tests=(f"{BY_HAND}::test_a_response_wins_if_both_orders_prefer_it",),
    ),
    Mutation(
        bug="a leaning to what is read first is one to the first response",
        target=f"{JUDGEMENTS}:BothOrders.for_what_is_read_first",
        old="(0.5 - second)",
        new="(second - 0.5)",
        tests=(
            f"{BY_HAND}::test_the_leaning_to_a_place_is_that_of_the_verdicts_whoever_is_better",
        ),
    ),
    Mutation(
        bug="Cohen's kappa leaves chance in",
        target=f"{JUDGEMENTS}:agreement",
        old="2 * x - 1",
        new="x",
        tests=(
            f"{BY_HAND}::test_kappa_is_cohens_of_the_table_in_which_either_response_comes_first",
        ),
    ),
    Mutation(
        bug="a pair without a verdict in one order is a tie",
        target=f"{JUDGEMENTS}:judged_metrics",
        old="pairs.where(pairs.scored)",
        new="pairs",
        tests=(f"{BY_HAND}::test_the_numbers_of_a_handful",),
    ),
    Mutation(
        bug="what the second order says is of the wrong response",
        target="harness.judging.both_orders:_judged",
        old="1 - second.value",
        new="second.value",
        tests=(f"{PAIRS}::test_both_orders_are_asked_and_turned_back",),
    ),
)
