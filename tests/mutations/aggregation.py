"""Bugs of micro-batches, ranks, noise, checkpoints and models that are frozen."""

from tests.mutations.mutation import Change, Mutation

MASKED = "lightning_modules/objectives/test_masked.py"
LANGUAGE_MODEL = "lightning_modules/models/test_language_model.py"
EVALUATION = "lightning_modules/metrics/test_evaluation.py"
SAMPLING = "datamodules/test_row_order.py"
POLICY = "lightning_modules/test_policy.py"
PEERS = "lightning_modules/test_peer_bugs.py"
SHORT = "lightning_modules/test_out_of_memory.py::test_a_step_that_ran_out_of_memory_is_begun_anew"
GROUPED = "lightning_modules/rollouts/test_micro_batches.py"
MODEL_FOLDER = "harness/pipeline/test_model_folder.py"
SPEECH = "harness/chat/test_speech.py"
COLLECTION = "lightning_modules/rollouts/test_collection.py"
CHECKPOINTING = "lightning_modules/forward/test_checkpointing.py"
ROLLOUT = "lightning_modules/rollouts/test_rollout.py"
RESUMED = f"{POLICY}::test_a_run_that_goes_on_from_a_checkpoint_is_the_unbroken_one[rloo-{{}}]"
BY_HAND = f"{PEERS}::test_an_update_is_the_formulas_applied_minibatch_after_minibatch"
RANKS = "properties/test_splits.py::test_any_ranks_make_the_same_step"
ACCUMULATE = "lightning_modules.updates:UpdatingModule._accumulate"
GRADIENT = "lightning_modules.updates:UpdatingModule._gradient"
BACKWARD = "lightning_modules.manual:ManualModule.accumulate"

ROWS = (
    Mutation(
        bug="mean of the means of micro-batches",
        seen="SkyRL PR 925, TRL #3021",
        target=GRADIENT,
        old="part.response_mask, divisor)",
        new="part.response_mask, self._count(part)) / len(parts)",
        tests=(BY_HAND,),
    ),
    Mutation(
        bug="mean of the means of ranks",
        seen="SkyRL PR 925",
        target=ACCUMULATE,
        old="divisor = self.sum_over_ranks(self._count(minibatch))",
        new="divisor = self._count(minibatch)",
        also=(Change(BACKWARD, "loss * self.trainer.world_size", "loss"),),
        tests=(f"{RANKS}[ppo]",),
    ),
    Mutation(
        bug="gradients are divided by the number of ranks twice",
        target=BACKWARD,
        old="loss * self.trainer.world_size",
        new="loss",
        tests=(f"{RANKS}[ppo]",),
    ),
    Mutation(
        bug="steps of the value function use the gradient of one rank",
        target="lightning_modules.updates:UpdatingModule.fit_values",
        old="self.sum_over_ranks(parameter.grad)",
        new="parameter.grad",
        tests=(f"{RANKS}[a2c]",),
    ),
    Mutation(
        bug="each rank decides for itself whether the policy has moved too far",
        target="lightning_modules.metrics.update_statistics:UpdateStatistics.approx_kl",
        old="self._minibatch.means(self.all_reduce)",
        new="self._minibatch.means(lambda x: x)",
        tests=(f"{PEERS}::test_all_ranks_agree_on_how_far_the_policy_has_moved",),
    ),
    Mutation(
        bug="the last bits of equal returns are a variance that values should explain",
        target="lightning_modules.metrics.rollout_statistics:explained_variance",
        old="0.0 if total <= rounding**2 + spread else ",
        new="",
        tests=(f"{ROLLOUT}::test_constant_returns_leave_nothing_to_explain",),
    ),
    Mutation(
        bug="what rounding is goes by the sums alone, which are small where large terms cancel",
        target="lightning_modules.metrics.rollout_statistics:_rounding",
        old="terms = terms + beta *",
        new="terms = terms + 0 *",
        tests=(
            f"{ROLLOUT}::test_returns_of_log_ratios_that_are_rounding_leave_nothing_to_explain",
        ),
    ),
    Mutation(
        bug="metrics are those of one rank",
        target="lightning_modules.metrics.update_statistics:UpdateStatistics.means",
        old="self._averages.means(self.all_reduce)",
        new="self._averages.means(lambda x: x)",
        tests=(f"{RANKS}[ppo]",),
    ),
    Mutation(
        bug="metrics are means of means of micro-batches",
        target="lightning_modules.metrics.averages:Averages.add",
        old="for x in (total, count)",
        new="for x in (total / count, 1.0)",
        tests=(
            "lightning_modules/metrics/test_averages.py"
            "::test_parts_of_unequal_size_give_the_mean_of_the_whole",
        ),
    ),
    Mutation(
        bug="a step that is begun anew keeps the gradient of before it ran out of memory",
        target=GRADIENT,
        old="self.optimizers().zero_grad()",
        new="pass",
        tests=(f"{SHORT}[gradient]",),
    ),
    Mutation(
        bug="a step of the values that is begun anew keeps the gradient of before",
        target="lightning_modules.updates:UpdatingModule.fit_values",
        old="optimizer.zero_grad()",
        new="pass",
        tests=(f"{SHORT}[values]",),
    ),
    Mutation(
        bug="the padding of a micro-batch takes no room",
        target="lightning_modules.rollouts.micro_batches:_filled",
        old="more * sum(wider) > tokens",
        new="sum(sum(pairs[i]) for i in [*parts[-1], row]) > tokens",
        tests=(f"{GROUPED}::test_every_row_goes_once_and_within_the_limits[None-300]",),
    ),
    Mutation(
        bug="the rows of a micro-batch come back in another order",
        target="lightning_modules.rollouts.micro_batches:MicroBatches.of_all",
        old="all_rows[rows, :end] = x",
        new="all_rows[rows.flip(0), :end] = x",
        tests=(f"{COLLECTION}::test_micro_batches_change_nothing",),
    ),
    Mutation(
        bug="a layer is computed again with the adapter that is on by then",
        target="lightning_modules.forward.checkpointing:_AdaptersAsNow.__enter__",
        old="self._exchange()",
        new="self.states = self._read()",
        tests=(f"{CHECKPOINTING}::test_gradients_are_the_same_to_the_bit_and_less_is_kept",),
    ),
    Mutation(
        bug="a layer is computed again with other dropout",
        target="lightning_modules.forward.checkpointing:_checkpointed",
        old="preserve_rng_state=layer.training",
        new="preserve_rng_state=False",
        tests=(f"{CHECKPOINTING}::test_dropout_is_drawn_again_as_it_was[gpt2]",),
    ),
    Mutation(
        bug="the gradient is clipped in each micro-batch",
        target=GRADIENT,
        old="stats = stats |",
        new="torch.nn.utils.clip_grad_norm_(\n"
        "            self.trained_parameters(), self.options.max_grad_norm\n"
        "        )\n"
        "        stats = stats |",
        tests=(f"{BY_HAND}[tokens-0.3]",),
    ),
    Mutation(
        bug="gradients of one step are left for the next",
        target="lightning_modules.manual:ManualModule.clipped_step",
        old="optimizer.step()\n    optimizer.zero_grad()",
        new="optimizer.step()",
        also=(
            Change(
                "lightning_modules.updates:UpdatingModule._gradient",
                "self.optimizers().zero_grad()",
                "pass",
            ),
        ),
        tests=(BY_HAND,),
    ),
    Mutation(
        bug="whitening on each rank alone",
        seen="slime PR 2235",
        target="lightning_modules.objectives.masked:whiten",
        old="moments(x, mask, all_reduce)",
        new="moments(x, mask)",
        tests=(f"{MASKED}::test_whitening_over_two_ranks_is_whitening_of_the_whole",),
    ),
    Mutation(
        bug="PPO whitens on each rank alone",
        seen="slime PR 2235",
        target="lightning_modules.ppo:PPO.weigh",
        old="whiten(advantages, mask, self.sum_over_ranks)",
        new="whiten(advantages, mask)",
        tests=(
            "lightning_modules/test_ppo.py::test_on_two_ranks_advantages_are_whitened_together",
        ),
    ),
    Mutation(
        bug="A2C whitens on each rank alone",
        seen="slime PR 2235",
        target="lightning_modules.a2c:A2C.weigh",
        old="whiten(advantages, mask, self.sum_over_ranks)",
        new="whiten(advantages, mask)",
        tests=(
            "lightning_modules/test_a2c.py::test_whitening_is_over_all_ranks_and_leaves_the_targets",
        ),
    ),
    Mutation(
        bug="the mean baseline is that of one rank",
        target="lightning_modules.reinforce:Reinforce.weigh",
        old="self.sum_over_ranks(total_and_count)",
        new="total_and_count",
        tests=("lightning_modules/test_reinforce.py::test_the_mean_baseline_is_that_of_all_ranks",),
    ),
    Mutation(
        bug="scores are normalised on each rank alone",
        target="lightning_modules.rewards.shaping:ScoreShaping._update",
        old="all_reduce(torch.stack([scores.new_tensor(len(scores)), scores.sum()]))",
        new="torch.stack([scores.new_tensor(len(scores)), scores.sum()])",
        tests=(
            "lightning_modules/rewards/test_shaping.py"
            "::test_on_two_ranks_scores_are_normalised_by_those_of_both",
        ),
    ),
    Mutation(
        bug="ranks share rows of an epoch, so that some count twice",
        seen="Lightning #12862",
        target="datamodules.row_order:EpochSampler._order",
        old="[self.rank :: self.world_size]",
        new="[self.rank :]",
        tests=(f"{SAMPLING}::test_an_epoch_is_every_row_once_shared_equally",),
    ),
    Mutation(
        bug="every rank evaluates all held-out prompts",
        seen="Lightning #12862",
        target="datamodules.prompts:PromptDataModule.val_dataloader",
        old="[rank::world_size]",
        new="",
        tests=("datamodules/test_prompts.py::test_ranks_share_the_prompts",),
    ),
    Mutation(
        bug="all ranks response the same prompts",
        target="datamodules.row_order:IterationSampler.__iter__",
        old="places[self.rank :: self.world_size]",
        new="places[: len(self)]",
        tests=(f"{SAMPLING}::test_the_shares_of_the_ranks_are_the_draw_of_one",),
    ),
    Mutation(
        bug="all ranks sample the same noise",
        target="lightning_modules.policy:PolicyModule.collect",
        old="self.current_epoch, self.global_rank)",
        new="self.current_epoch, 0)",
        tests=(
            f"{PEERS}::test_every_iteration_on_every_rank_has_noise_of_its_own_whatever_came_before",
        ),
    ),
    Mutation(
        bug="all iterations sample the same noise",
        target="lightning_modules.policy:PolicyModule.collect",
        old="self.current_epoch, self.global_rank)",
        new="0, self.global_rank)",
        tests=(
            f"{PEERS}::test_every_iteration_on_every_rank_has_noise_of_its_own_whatever_came_before",
        ),
    ),
    Mutation(
        bug="all samples of a prompt have the same noise",
        target="lightning_modules.rollouts.seeding:uniforms",
        old="return torch.rand(",
        new="return (lambda *size, **how: torch.rand(1, size[1], **how).expand(size))(",
        tests=(
            "lightning_modules/rollouts/test_collection.py::test_every_prompt_gets_its_samples_side_by_side",
        ),
    ),
    Mutation(
        bug="held-out noise is that of the batch",
        target="lightning_modules.metrics.evaluation:Evaluation.step",
        old='prompt_noise(self.seed, Stream.EVALUATION, batch["places"])',
        new='prompt_noise(self.seed, Stream.EVALUATION, range(len(batch["places"])))',
        tests=(f"{EVALUATION}::test_neither_batches_nor_their_order_change_what_is_found",),
    ),
    Mutation(
        bug="the reference's noise is that of the batch",
        target="lightning_modules.metrics.evaluation:Evaluation._reference",
        old='prompt_noise(self.seed, Stream.REFERENCE_RESPONSES, batch["places"])',
        new='prompt_noise(self.seed, Stream.REFERENCE_RESPONSES, range(len(batch["places"])))',
        tests=(f"{EVALUATION}::test_neither_batches_nor_their_order_change_what_is_found",),
    ),
    Mutation(
        bug="two policies answer a prompt with the same noise",
        target="harness.generation.answering:answer_noise",
        old="place, player, sample)",
        new="place, 0, sample)",
        tests=(f"{SPEECH}::test_it_says_what_stands_in_a_file_of_answers[llama]",),
    ),
    Mutation(
        bug="the noise of an answer is that of the batch",
        target="harness.generation.answering:answer",
        old="answer_noise(seed, p, number, samples)",
        new="answer_noise(seed, part[0], number, samples)",
        tests=(f"{SPEECH}::test_it_says_what_stands_in_a_file_of_answers[llama]",),
    ),
    Mutation(
        bug="answers that go on after a kill are batched anew",
        target="harness.generation.answering:answer",
        old="range(skip - skip % size, ",
        new="range(skip, ",
        tests=(f"{SPEECH}::test_what_was_answered_before_is_left_out_and_changes_no_batch[llama]",),
    ),
    Mutation(
        bug="an answer without its line's end counts as kept",
        target="harness.feedback.answers:keep_whole",
        old='not line.endswith(b"\\n") or ',
        new="",
        tests=(
            "harness/feedback/test_answers.py::test_what_a_kill_has_left_is_kept_as_far_as_it_is_whole[whole but for its end]",
        ),
    ),
    Mutation(
        bug="policy and reference are compared on the same noise",
        target="lightning_modules.metrics.evaluation:Evaluation._reference",
        old="Stream.REFERENCE_RESPONSES",
        new="Stream.EVALUATION",
        tests=(f"{EVALUATION}::test_policy_and_reference_do_not_share_their_noise",),
    ),
    Mutation(
        bug="noise comes from a generator that a resumed run has lost",
        target="lightning_modules.policy:PolicyModule.collect",
        old="noise = generator(self.options.seed, Stream.SAMPLING,"
        " self.current_epoch, self.global_rank)",
        new="noise = self.__dict__.setdefault(\n"
        '        "_noise", generator(self.options.seed, Stream.SAMPLING, 0, self.global_rank)\n'
        "    )",
        tests=(
            f"{PEERS}::test_every_iteration_on_every_rank_has_noise_of_its_own_whatever_came_before",
        ),
    ),
    Mutation(
        bug="a resumed run draws the prompts from the beginning",
        target="datamodules.row_order:IterationSampler.set_epoch",
        old="self.iteration = epoch",
        new="self.iteration += 1",
        tests=(f"{SAMPLING}::test_an_iteration_is_the_same_wherever_a_run_resumes",),
    ),
    Mutation(
        bug="a resumed run forgets beta",
        target="lightning_modules.policy:PolicyModule.go_on_from",
        old='self.beta = progress["beta"]',
        new="pass",
        tests=(RESUMED,),
    ),
    Mutation(
        bug="a resumed run forgets the moments of the scores",
        target="lightning_modules.policy:PolicyModule.go_on_from",
        old='self.shaping.load(progress["shaping"])',
        new="pass",
        tests=(RESUMED,),
    ),
    Mutation(
        bug="a resumed run forgets the moments of the optimiser",
        target="lightning_modules.trained_weights:TrainedWeightsOnly.on_load_checkpoint",
        old='self.go_on_from(checkpoint.get("progress", {}))',
        new='checkpoint["optimizer_states"][0]["state"] = {}\n'
        '    self.go_on_from(checkpoint["progress"])',
        tests=(RESUMED,),
    ),
    Mutation(
        bug="a resumed run counts from 0",
        target="lightning_modules.policy:PolicyModule.go_on_from",
        old='self.episodes, self.tokens = progress["episodes"], progress["tokens"]',
        new="pass",
        tests=(RESUMED,),
    ),
    Mutation(
        bug="frozen models are in train mode",
        target="lightning_modules.models.parameters:frozen",
        old="model.eval().requires_grad_(False)",
        new="model.train().requires_grad_(False)",
        tests=(f"{LANGUAGE_MODEL}::test_frozen_models_neither_learn_nor_drop_out",),
    ),
    Mutation(
        bug="the reward model is in train mode",
        target="lightning_modules.rewards.learned:ModelReward.use",
        old="frozen(model)",
        new="model.train()",
        tests=(
            "lightning_modules/rewards/test_learned.py"
            "::test_the_frozen_model_neither_learns_nor_drops_out",
        ),
    ),
    Mutation(
        bug="frozen weights are in the checkpoint",
        target="lightning_modules.trained_weights:TrainedWeightsOnly.on_save_checkpoint",
        old="for name, x in state.items() if name in trained}",
        new="for name, x in state.items()}",
        tests=(f"{POLICY}::test_a_checkpoint_holds_all_that_moves_and_nothing_else",),
    ),
    Mutation(
        bug="a copied reference is part of the module, and of its checkpoint",
        target="lightning_modules.policy:PolicyModule.bind",
        old="self.model = model\n",
        new="self.model, self.reference = model, reference._lm\n",
        tests=(f"{PEERS}::test_a_copied_reference_does_not_go_into_a_checkpoint",),
    ),
    Mutation(
        bug="pairs that truncation has made identical are trained on",
        seen="OpenRLHF #1311",
        target="datamodules.preferences:_pairs",
        old="if ids[i] == ids[j]:",
        new="if False:",
        tests=(
            "datamodules/test_preferences.py"
            "::test_pairs_that_truncation_makes_equal_are_dropped_and_counted",
        ),
    ),
    Mutation(
        bug="the reward head is not trained with LoRA",
        seen="TRL #1379",
        target="lightning_modules.models.adapters:add_adapter",
        old="config.task_type = task",
        new="config.task_type = None",
        tests=(f"{LANGUAGE_MODEL}::test_only_adapters_and_a_scalar_head_are_trained",),
    ),
    Mutation(
        bug="the reward head is lost when LoRA is merged",
        seen="TRL #1379",
        target="lightning_modules.models.adapters:merged",
        old="plain = whole.merge_and_unload()",
        new="plain = whole.merge_and_unload()\n"
        "        plain.apply(\n"
        "            lambda m: m.reset_parameters() if m is getattr(plain, 'score', 0) else None\n"
        "        )",
        tests=(f"{LANGUAGE_MODEL}::test_a_merged_scorer_keeps_its_trained_head_through_a_folder",),
    ),
    Mutation(
        bug="a reward head that is missing is drawn at random",
        seen="TRL #1379",
        target="lightning_modules.models.scorers:_load_scorer",
        old="unused=unused, **options",
        new="unused=unused, fresh=FRESH_HEAD, **options",
        tests=(f"{LANGUAGE_MODEL}::test_a_scalar_head_that_would_be_random_is_refused",),
    ),
    Mutation(
        bug="the adapters are lost when a policy is exported",
        target="lightning_modules.models.adapters:merged",
        old="merge_and_unload()",
        new="unload()",
        also=(Change("lightning_modules.models.adapters:_fold_in", "merge(part)", "continue"),),
        tests=(f"{LANGUAGE_MODEL}::test_a_merged_policy_says_what_the_adapted_one_says",),
    ),
    Mutation(
        bug="what an adapter adds is rounded to the base's bfloat16 when a policy is exported",
        target="lightning_modules.models.adapters:_copied",
        old="torch.promote_types(held.dtype, torch.float32)",
        new="held.dtype",
        tests=(f"{MODEL_FOLDER}::test_what_was_learnt_on_a_base_in_16_bits_is_exported_whole",),
    ),
)
