"""Bugs of judges: what they are asked, how they are read, what is counted and kept."""

from tests.mutations.mutation import Mutation

READING = "lightning_modules/judges/test_reading.py"
LOCAL = "lightning_modules/judges/test_local.py"
ENDPOINT = "lightning_modules/judges/test_endpoint.py"
JUDGED = "lightning_modules/rewards/test_judged.py"

ROWS = (
    Mutation(
        bug="a response without a verdict is worth 0",
        target="lightning_modules.rewards.judged:_or_nan",
        old="math.nan if value is None",
        new="0.0 if value is None",
        tests=(f"{JUDGED}::test_a_rating_is_the_score_and_a_missing_one_is_none",),
    ),
    Mutation(
        bug="the second order of a win is read as if it were the first",
        target="lightning_modules.rewards.judged:JudgeReward._wins",
        old="(a + 1 - b) / 2",
        new="(a + b) / 2",
        tests=(
            f"{JUDGED}::test_a_win_is_the_mean_of_both_orders_and_the_references_own_words_are_a_tie",
        ),
    ),
    Mutation(
        bug="a verdict in tokens is the likeliest one's share of everything",
        target="lightning_modules.judges.reading:read_tokens",
        old="for name, p in on.items()) / total",
        new="for name, p in on.items())",
        tests=(f"{READING}::test_of_tokens_the_expected_verdict_over_what_lies_on_verdicts",),
    ),
    Mutation(
        bug="marks around what is judged can be known beforehand",
        target="lightning_modules.judges.rubric:fenced",
        old="repr(texts)",
        new="repr(list(texts))",
        tests=(f"{READING}::test_an_answer_cannot_close_the_marks_around_it_or_open_others",),
    ),
    Mutation(
        bug="a judge in this process is read before what its tokenizer puts ahead of a verdict",
        target="lightning_modules.judges.local:LocalModel.probabilities",
        old="[ids + before for ids",
        new="[ids for ids",
        tests=(
            f"{LOCAL}::test_a_verdict_is_the_token_that_comes_next_whatever_is_beside_it[llama-True]",
        ),
    ),
    Mutation(
        bug="a judge in this process counts padding among positions",
        target="lightning_modules.judges.local:LocalModel._next",
        old="position_ids=position_ids(mask)",
        new="position_ids=torch.arange(ids.shape[1], device=device)[None].expand_as(ids)",
        tests=(
            f"{LOCAL}::test_a_verdict_is_the_token_that_comes_next_whatever_is_beside_it[gpt2-False]",
        ),
    ),
    Mutation(
        bug="other settings of a judge find the answers to earlier ones",
        target="lightning_modules.judges.asking:Asking._key",
        old="body=body",
        new="body=body['messages']",
        tests=(f"{ENDPOINT}::test_what_shapes_an_answer_is_asked_anew[other2]",),
    ),
    Mutation(
        bug="a run that goes on has its whole budget again",
        target="lightning_modules.judges.budget:Budget.begin",
        old="self.spent = os.fstat(self._file).st_size",
        new="os.ftruncate(self._file, 0)",
        tests=(
            f"{ENDPOINT}::test_a_budget_counts_every_request_over_restarts_and_says_what_to_do",
        ),
    ),
    Mutation(
        bug="a key that an endpoint repeats is kept with its answer",
        target="lightning_modules.judges.endpoint:Endpoint._without_key",
        old="said.replace(self._key, HIDDEN) if self._key else said",
        new="said",
        tests=(f"{ENDPOINT}::test_no_file_and_no_message_holds_the_key",),
    ),
)
