"""Bugs of preferences, reward models and of what they score."""

from tests.mutations.mutation import Mutation

PREFERENCES = "lightning_modules/objectives/test_preference_losses.py"
ADVANTAGES = "lightning_modules/objectives/test_advantages.py"
RANKINGS = "datamodules/test_rankings.py"
MODEL = "lightning_modules/test_reward_model.py"
SCALES = "lightning_modules/rewards/test_scales.py"
LEARNED = "lightning_modules/rewards/test_learned.py"
UNSCORED = "lightning_modules/test_unscored.py"
MICRO_BATCHES = "lightning_modules/test_micro_batches.py"
SHARED = "lightning_modules/forward/test_shared_prompts.py"
LOSSES = "lightning_modules.objectives.preference"
THUMBS = "lightning_modules/test_thumbs.py"
EXACT_THUMBS = "exact/test_thumbs.py"
OF_THUMBS = "lightning_modules/metrics/test_thumbs.py"

ROWS = (
    Mutation(
        bug="ties of a ranking are trained on as wins",
        target="datamodules.preferences:_pairs",
        old="tied=gap == 0",
        new="tied=False",
        tests=(f"{RANKINGS}::test_a_ranking_is_all_its_pairs_the_better_one_first",),
    ),
    Mutation(
        bug="a ranking of K responses counts K (K - 1) / 2 times",
        target=f"{LOSSES}:equal_shares",
        old="used / counts.clamp(min=1)[group]",
        new="used",
        tests=(f"{MODEL}::test_a_rankings_pairs_weigh_like_one_pair",),
    ),
    Mutation(
        bug="the margin has the wrong sign",
        target=f"{LOSSES}:bradley_terry",
        old="- margin",
        new="+ margin",
        tests=(f"{PREFERENCES}::test_a_margin_asks_for_that_much_more",),
    ),
    Mutation(
        bug="label smoothing is the wrong way round",
        target=f"{LOSSES}:label_smoothed",
        old="(1 - smoothing) * as_labelled + smoothing * flipped",
        new="smoothing * as_labelled + (1 - smoothing) * flipped",
        tests=(f"{PREFERENCES}::test_smoothing_is_the_expected_loss_of_labels_that_may_be_wrong",),
    ),
    Mutation(
        bug="wins, losses and ties have more than probability 1 together",
        target=f"{LOSSES}:rao_kupper_tie",
        old="2 * threshold",
        new="3 * threshold",
        tests=(f"{PREFERENCES}::test_two_wins_and_the_tie_are_all_there_is",),
    ),
    Mutation(
        bug="of the orders that a tie leaves open the likeliest alone counts",
        target=f"{LOSSES}:plackett_luce_with_ties",
        old=".logsumexp(-1)",
        new=".amax(-1)",
        tests=(f"{PREFERENCES}::test_ties_leave_the_sum_over_the_orders_that_are_open",),
    ),
    Mutation(
        bug="padding behind a shorter ranking competes with its responses",
        target=f"{LOSSES}:plackett_luce",
        old="scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min / 2)",
        new="pass",
        tests=(f"{PREFERENCES}::test_what_is_behind_a_ranking_changes_nothing",),
    ),
    Mutation(
        bug="thumbs are read upside down",
        target="lightning_modules.objectives.thumbs:thumb",
        old="torch.where(liked,",
        new="torch.where(~liked,",
        tests=(f"{EXACT_THUMBS}::test_the_gradient_is_what_was_predicted_less_what_happened",),
    ),
    Mutation(
        bug="the bias of thumbs is not learned: scores take up how often things are liked",
        target="lightning_modules.objectives.thumbs:thumb",
        old="bradley_terry(score, bias), bradley_terry(bias, score)",
        new="bradley_terry(score, bias * 0), bradley_terry(bias * 0, score)",
        tests=(f"{EXACT_THUMBS}::test_thumbs_recover_the_worth_of_every_response",),
    ),
    Mutation(
        bug="of an ensemble every thumb is judged by the first head's bias",
        target="lightning_modules.reward_model:RewardModel._row_losses",
        old="self.model.thumbs_bias[head]",
        new="self.model.thumbs_bias[0]",
        tests=(f"{THUMBS}::test_every_head_has_a_bias_and_a_sample_of_its_own",),
    ),
    Mutation(
        bug="the order of responses is judged over prompts, where knowing the prompt is enough",
        target="lightning_modules.metrics.thumbs:auc_within",
        old="score[here & ~liked]",
        new="score[~liked]",
        tests=(
            f"{OF_THUMBS}::test_knowing_which_prompts_are_liked_is_no_order_of_their_responses",
        ),
    ),
    Mutation(
        bug="thumbs of one prompt count as independent evidence",
        target="lightning_modules.metrics.thumbs:variance_of_sum",
        old="cluster.unique(return_inverse=True)",
        new="(None, torch.arange(len(cluster)))",
        tests=(
            f"{OF_THUMBS}::test_what_is_said_of_one_prompt_again_and_again_is_no_further_evidence",
        ),
    ),
    Mutation(
        bug="a response that nobody judged in time is worth 0",
        target="harness.web.people_reward:PeopleReward.score_texts",
        old="math.nan if score is None else score",
        new="score or 0.0",
        tests=(
            "harness/web/test_people_reward.py::test_what_nobody_judges_in_time_is_unscored_for_good",
        ),
    ),
    Mutation(
        bug="all heads of an ensemble see the same sample of the data",
        target="datamodules.preferences:PreferenceDataModule._resampled",
        old=".poisson(1.0, (count, self.ensemble))",
        new=".poisson(1.0, (count, 1)).repeat(self.ensemble, 1)",
        tests=(f"{RANKINGS}::test_each_head_of_an_ensemble_sees_a_bootstrap_sample_of_its_own",),
    ),
    Mutation(
        bug="all heads of an ensemble are born equal",
        target="lightning_modules.models.scorers:draw_heads",
        old="torch.manual_seed(seed + 1000 * i)",
        new="torch.manual_seed(seed)",
        tests=(f"{SCALES}::test_each_head_is_born_by_a_seed_of_its_own_the_first_as_if_alone",),
    ),
    Mutation(
        bug="what an ensemble disagrees about pays more",
        target="lightning_modules.rewards.learned:ModelReward.combined",
        old="score - self.options.pessimism",
        new="score + self.options.pessimism",
        tests=(f"{SCALES}::test_the_score_is_the_mean_of_the_heads_less_what_they_disagree",),
    ),
    Mutation(
        bug="scores are normalised with mean and deviation swapped",
        target="lightning_modules.models.scalar:score_scale",
        old='(about["score_mean"], about["score_std"])',
        new='(about["score_std"], about["score_mean"])',
        tests=(f"{SCALES}::test_scores_of_the_reference_responses_have_mean_0_and_deviation_1",),
    ),
    Mutation(
        bug="a report's calibration is of normalised scores",
        target="lightning_modules.rewards.learned:Scorer.raw_heads",
        old=" * self.model.std.cpu() + self.model.mean.cpu()",
        new="",
        tests=(f"{SCALES}::test_raw_scores_are_raw_whatever_normalise_says",),
    ),
    Mutation(
        bug="mean of the means of micro-batches, in SFT and the reward model",
        seen="TRL #3021",
        target="lightning_modules.supervised:SupervisedModule.training_step",
        old="loss / divisor",
        new="loss / self.weight(part) / len(batch)",
        tests=(
            f"{MICRO_BATCHES}::test_any_budget_makes_the_same_step_and_the_same_metrics"
            "[llama-bradley_terry]",
        ),
    ),
    Mutation(
        bug="padding of a shared prompt is attended to",
        target="lightning_modules.forward.shared_prompts:continuing",
        old='"attention_mask": whole,',
        new='"attention_mask": torch.ones_like(whole),',
        tests=(f"{SHARED}::test_a_shared_prompt_is_the_whole_conversation",),
    ),
    Mutation(
        bug="responses after a shared prompt count their positions from 0",
        target="lightning_modules.forward.shared_prompts:continuing",
        old="position_ids(whole)[:, prompt.ids.shape[1] :]",
        new="position_ids(mask)",
        tests=(f"{SHARED}::test_a_shared_prompt_is_the_whole_conversation",),
    ),
    Mutation(
        bug="a cut response gets a stop token before it is scored",
        target="datamodules.tokenization.encoder:Encoder.responses",
        old="ends = stopped or [True] * len(texts)",
        new="ends = [True] * len(texts)",
        tests=(f"{LEARNED}::test_checkpoint_scores_the_decoded_text_by_its_own_tokenizer",),
    ),
    Mutation(
        bug="scores come back in the order of length",
        target="lightning_modules.rewards.learned:Scorer.heads",
        old="return result",
        new="return result[order]",
        tests=(f"{LEARNED}::test_text_is_scored_alike_alone_in_a_batch_and_in_any_order",),
    ),
    Mutation(
        bug="a reward model from elsewhere is not read by its own template",
        target="harness.parts.score_scale:scoring_encoder",
        old="renders = tokenizer.chat_template != PLAIN_TEMPLATE",
        new="renders = False",
        tests=(
            "harness/reports/test_held_out_pairs.py::test_a_template_of_its_own_writes_the_whole_conversation",
        ),
    ),
    Mutation(
        bug="a classifier with a pooler is taken for a reward model",
        target="lightning_modules.models.scorers:_scorer_config",
        old="if not _has_score(path, config):",
        new="if False:",
        tests=(f"{LEARNED}::test_a_classifier_that_does_not_read_from_left_to_right_is_refused",),
    ),
    Mutation(
        bug="a missing score counts as a tie",
        target="lightning_modules.metrics.evaluation:outcomes",
        old="won.where(~difference.isnan(), torch.nan)",
        new="won",
        tests=(
            "lightning_modules/metrics/test_evaluation.py::test_a_missing_score_is_neither_a_win_nor_a_loss",
        ),
    ),
    Mutation(
        bug="responses that cannot be scored are worth 0",
        target="lightning_modules.rollouts.collection:Collector.collect",
        old="mask = responses.response_mask & ~scores.isnan()[:, None]",
        new="scores = scores.nan_to_num(0.0)\n    mask = responses.response_mask",
        tests=(f"{UNSCORED}::test_the_update_is_that_of_the_scored_responses_alone",),
    ),
    Mutation(
        bug="responses that cannot be scored are counted by what losses are divided by",
        target="lightning_modules.updates:UpdatingModule._count",
        old="batch.scored",
        new="torch.ones(len(batch))",
        tests=(f"{UNSCORED}::test_the_update_is_that_of_the_scored_responses_alone",),
    ),
    Mutation(
        bug="responses that cannot be scored are 0 in the baselines of others",
        target="lightning_modules.objectives.advantages:leave_one_out",
        old="others = counted.sum(-1, keepdim=True) - counted.to(x.dtype)",
        new="others = torch.full_like(groups, samples - 1)",
        tests=(f"{ADVANTAGES}::test_what_is_not_kept_is_in_nobodys_baseline_whatever_it_is",),
    ),
)
