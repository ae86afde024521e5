"""Bugs of masks, padding and positions."""

from tests.mutations.mutation import Change, Mutation

ADVANTAGES = "lightning_modules/objectives/test_advantages.py"
MASKED = "lightning_modules/objectives/test_masked.py"
ACTOR_CRITIC = "lightning_modules/models/test_actor_critic.py"
GENERATION = "lightning_modules/rollouts/test_generation.py"
BUCKETED = "lightning_modules/rollouts/test_bucketed.py"
LAST_LAYER = "lightning_modules/forward/test_last_layer.py"
BEGUN = "lightning_modules/test_begun.py"
SHARED = "lightning_modules/forward/test_shared_prompts.py"
COLLECTION = "lightning_modules/rollouts/test_collection.py"
PEERS = "lightning_modules/test_peer_bugs.py"

ROWS = (
    Mutation(
        bug="the stop token is masked out, so that nobody learns to stop",
        target="lightning_modules.rollouts.generation:generate",
        old="lengths[rows[stopped]] = t + 1",
        new="lengths[rows[stopped]] = max(t, 1)",
        tests=(f"{GENERATION}::test_responses_end_with_their_first_stop_token_or_are_cut",),
    ),
    Mutation(
        bug="response mask from `ids != pad`, where pad is the stop token",
        seen="TRL PR 5303",
        target="lightning_modules.rollouts.generation:generate",
        old="response_mask = torch.arange(longest, device=lengths.device) < lengths[:, None]",
        new="response_mask = responses[:, :longest] != pad_id",
        tests=(f"{COLLECTION}::test_stop_tokens_in_prompts_and_padding_are_not_looked_at",),
    ),
    Mutation(
        bug="attention mask from `ids != pad`",
        target="datamodules.tokenization.padding:padded",
        old="return ids, mask",
        new="return ids, ids != pad_id",
        tests=("datamodules/tokenization/test_encoder.py::test_padding_is_on_its_side_and_masked",),
    ),
    Mutation(
        bug="tokens after the stop token are trained on",
        target="lightning_modules.rollouts.generation:generate",
        old="< lengths[:, None]",
        new="< lengths[:, None].clamp(min=longest)",
        tests=(f"{GENERATION}::test_responses_end_with_their_first_stop_token_or_are_cut",),
    ),
    Mutation(
        bug="a stop token is written into responses that were cut",
        target="lightning_modules.rollouts.generation:generate",
        old="longest = int(lengths.max())",
        new="longest = int(lengths.max())\n    responses[lengths == limit, -1] = stops.max()",
        tests=(f"{GENERATION}::test_samples_follow_the_exact_distribution_of_responses",),
    ),
    Mutation(
        bug="a stop token is written into demonstrations that were cut",
        target="datamodules.tokenization.truncation:cut_response",
        old="else ids[:limit]",
        new="else [*ids[: limit - 1], stop_id]",
        tests=(
            "datamodules/tokenization/test_encoder.py::test_responses_stop_unless_they_are_cut",
        ),
    ),
    Mutation(
        bug="the missing-stop test looks at prompt and response",
        seen="TRL #6805",
        target="lightning_modules.rollouts.collection:Collector.respond",
        old="torch.isin(last, torch.tensor(words.stop_ids, device=last.device))",
        new="torch.isin(sequences, torch.tensor(words.stop_ids)).any(-1)",
        tests=(f"{COLLECTION}::test_stop_tokens_in_prompts_and_padding_are_not_looked_at",),
    ),
    Mutation(
        bug="score on the last column",
        seen="TRL #3750",
        target="lightning_modules.objectives.advantages:penalised_rewards",
        old="* last_token(mask)",
        new="* (torch.arange(mask.shape[1]) == mask.shape[1] - 1)",
        tests=(f"{ADVANTAGES}::test_score_comes_at_the_last_real_token",),
    ),
    Mutation(
        bug="score on the first padding token",
        seen="TRL #3750; hides at lam=1",
        target="lightning_modules.objectives.advantages:penalised_rewards",
        old="* last_token(mask)",
        new="* last_token(mask).roll(1, -1)",
        also=(
            Change(
                "lightning_modules.objectives.advantages:penalised_rewards",
                "return masked(rewards, mask)",
                "return rewards",
            ),
        ),
        tests=(f"{ADVANTAGES}::test_score_comes_at_the_last_real_token",),
    ),
    Mutation(
        bug="the KL of padding is in the rewards",
        seen="AReaL PR 1346",
        target="lightning_modules.objectives.advantages:penalised_rewards",
        old="return masked(rewards, mask)",
        new="return rewards",
        tests=(f"{ADVANTAGES}::test_rewards_sum_to_score_minus_beta_kl",),
    ),
    Mutation(
        bug="the KL of padding is in the returns",
        seen="AReaL PR 1346",
        target="lightning_modules.objectives.advantages:rewards_to_go",
        old="result = masked(rewards, mask)",
        new="result = rewards.clone()",
        tests=(f"{ADVANTAGES}::test_rewards_to_go_are_discounted_sums",),
    ),
    Mutation(
        bug="metrics are averaged over padding",
        seen="TRL #2281",
        target="lightning_modules.metrics.averages:Averages.add_tokens",
        old="masked(x, mask).sum(), mask.sum()",
        new="x.sum(), x.numel()",
        tests=(
            "lightning_modules/metrics/test_averages.py"
            "::test_parts_of_unequal_size_give_the_mean_of_the_whole",
        ),
    ),
    Mutation(
        bug="the KL that is logged is a mean over tokens",
        target="lightning_modules.metrics.rollout_statistics:add_statistics",
        old='"{prefix}/kl", kl)',
        new='"{prefix}/kl", kl / mask.sum(-1))',
        tests=("lightning_modules/rollouts/test_rollout.py::test_statistics_by_hand",),
    ),
    Mutation(
        bug="losses of padding count",
        target="lightning_modules.objectives.masked:aggregate",
        old="masked(token_losses, mask).sum()",
        new="token_losses.sum()",
        tests=(f"{MASKED}::test_aggregate_weighs_every_token_alike",),
    ),
    Mutation(
        bug="whitening with the mean of padding too",
        seen="SkyRL #1305",
        target="lightning_modules.objectives.masked:whiten",
        old="moments(x, mask, all_reduce)",
        new="moments(x, mask.new_ones(mask.shape), all_reduce)",
        tests=(f"{MASKED}::test_whitened_has_mean_0_and_variance_1",),
    ),
    Mutation(
        bug="whitening adds the mean back",
        seen="torchtune",
        target="lightning_modules.objectives.masked:whiten",
        old="(variance + eps).rsqrt()",
        new="(variance + eps).rsqrt() + mean",
        tests=(f"{MASKED}::test_whitened_has_mean_0_and_variance_1",),
    ),
    Mutation(
        bug="log-probabilities one position late",
        target="lightning_modules.forward.token_outputs:response_outputs",
        old="+ start - skipped",
        new="+ start - skipped + 1",
        tests=(f"{ACTOR_CRITIC}::test_logprobs_and_entropies_are_those_of_a_plain_forward",),
    ),
    Mutation(
        bug="values of a critic one position late",
        target="lightning_modules.models.actor_critic:ActorCritic._values",
        old="values[:, start - skipped :]",
        new="values[:, start - skipped + 1 :]",
        tests=(f"{ACTOR_CRITIC}::test_values_are_the_heads_number_at_the_state_before_the_action",),
    ),
    Mutation(
        bug="values of a head one position late",
        target="lightning_modules.forward.token_outputs:response_outputs",
        old="outputs.hidden_states[-1][:, places]",
        new="outputs.hidden_states[-1][:, places + 1]",
        tests=(f"{ACTOR_CRITIC}::test_values_are_the_heads_number_at_the_state_before_the_action",),
    ),
    Mutation(
        bug="advantages shifted by one token (PPO)",
        target="lightning_modules.ppo:PPO.token_loss",
        old="batch.advantages,",
        new="batch.advantages.roll(1, -1),",
        tests=(f"{PEERS}::test_an_update_is_the_formulas_applied_minibatch_after_minibatch",),
    ),
    Mutation(
        bug="advantages shifted by one token (A2C)",
        target="lightning_modules.a2c:A2C.token_loss",
        old="batch.advantages)",
        new="batch.advantages.roll(1, -1))",
        tests=("exact/test_gradients.py::test_lam_1_with_any_value_function",),
    ),
    Mutation(
        bug="the reward model reads the padding token",
        seen="transformers #35352",
        target="lightning_modules.models.scalar:ScalarModel.heads",
        old="(places * attention_mask).argmax(-1)",
        new="places[-1].expand(len(input_ids))",
        tests=(f"{ACTOR_CRITIC}::test_score_is_what_transformers_says",),
    ),
    Mutation(
        bug="the reward model reads the first stop token, which the prompt has",
        seen="TRL PR 6952",
        target="lightning_modules.models.scalar:ScalarModel.heads",
        old="(places * attention_mask).argmax(-1)",
        new="(input_ids == self.model.config.eos_token_id).long().argmax(-1)",
        tests=(f"{ACTOR_CRITIC}::test_score_is_what_transformers_says",),
    ),
    Mutation(
        bug="no position ids under left padding, in training",
        seen="TRL #6800; only absolute positions show it",
        target="lightning_modules.forward.token_outputs:_reading",
        old='"position_ids": position_ids(attention_mask),',
        new="",
        tests=(f"{ACTOR_CRITIC}::test_padding_changes_nothing[head-gpt2-float32-{{'left': 6}}]",),
    ),
    Mutation(
        bug="no position ids under left padding, in the critic and the reward model",
        seen="TRL #6800",
        target="lightning_modules.forward.passes:last_hidden",
        old="position_ids=position_ids(attention_mask),",
        new="",
        tests=(f"{ACTOR_CRITIC}::test_score_of_a_padded_batch_is_what_transformers_says",),
    ),
    Mutation(
        bug="no position ids under left padding, in the sampler's prefill",
        seen="TRL #6800",
        target="lightning_modules.rollouts.generation:read_prompts",
        old="position_ids(mask), cache)",
        new="torch.arange(ids.shape[1])[None], cache)",
        tests=(f"{GENERATION}::test_company_and_padding_change_no_response",),
    ),
    Mutation(
        bug="positions of sampled tokens count the padding",
        target="lightning_modules.rollouts.generation:token_by_token",
        old="attention_mask, positions + t, cache)",
        new="attention_mask, 0 * positions + attention_mask.shape[1] - 1, cache)",
        tests=(f"{GENERATION}::test_company_and_padding_change_no_response",),
    ),
    Mutation(
        bug="padding of the prompt is attended to",
        target="lightning_modules.forward.token_outputs:_reading",
        old="torch.cat([prompt_mask, response_mask], dim=1)",
        new="torch.ones_like(sequences).bool()",
        tests=(f"{ACTOR_CRITIC}::test_padding_changes_nothing",),
    ),
    Mutation(
        bug="a minibatch loses its last column",
        target="lightning_modules.rollouts.micro_batches:real_columns",
        old=".sum(-1).max())",
        new=".sum(-1).max()) - 1",
        tests=(
            "lightning_modules/rollouts/test_rollout.py"
            "::test_micro_batches_keep_the_order_and_trim_only_padding",
        ),
    ),
    Mutation(
        bug="the samples of a prompt stand beside other prompts",
        target="lightning_modules.rollouts.collection:Collector.respond",
        old='[p for p in batch["prompts"] for _ in range(samples)]',
        new='list(batch["prompts"]) * samples',
        tests=(f"{COLLECTION}::test_every_prompt_gets_its_samples_side_by_side",),
    ),
    Mutation(
        bug="finished rows leave the cache in another order",
        target="lightning_modules.rollouts.generation:token_by_token",
        old="cache.batch_select_indices(going)",
        new="cache.batch_select_indices(going.flip(0))",
        tests=(f"{GENERATION}::test_responses_end_with_their_first_stop_token_or_are_cut",),
    ),
    Mutation(
        bug="a row of a smaller bucket has the keys and values of one that has finished",
        target="lightning_modules.rollouts.static_cache:FixedCache.move",
        old="x[target, :, :columns] = x[source, :, :columns]",
        new="pass",
        tests=(f"{BUCKETED}::test_tokens_are_those_of_the_plain_loop",),
    ),
    Mutation(
        bug="places of the cache that are not yet written are attended to",
        target="lightning_modules.rollouts.static_cache:FixedCache.__init__",
        old="torch.finfo(first.dtype).min",
        new="0.0",
        tests=(f"{BUCKETED}::test_tokens_are_those_of_the_plain_loop",),
    ),
    Mutation(
        bug="the policy is trained on responses decoded and encoded again",
        target="lightning_modules.rollouts.collection:Collector.respond",
        old="return Responses(",
        new=(
            "encoder = words.decode.__self__\n"
            "    texts = Responses(\n"
            "        prompts, sequences, prompt_mask, response_mask, last, words.decode\n"
            "    ).texts\n"
            "    ids, response_mask = encoder.pad(encoder.responses(texts), 'right')\n"
            "    sequences = torch.cat([sequences[:, :prompt_mask.shape[1]], ids], dim=1)\n"
            "    logprobs = None\n"
            "    return Responses("
        ),
        tests=(f"{PEERS}::test_the_ids_of_a_rollout_are_those_that_were_sampled",),
    ),
    Mutation(
        bug="the reward model scores responses decoded and encoded again",
        target="lightning_modules.rewards.learned:LearnedReward.score",
        old="masks = responses.prompt_mask, responses.response_mask",
        new=(
            "encoder = responses.decode.__self__\n"
            "    ids, mask = encoder.pad(encoder.responses(responses.texts), 'right')\n"
            "    start = responses.prompt_mask.shape[1]\n"
            "    ids = torch.cat([responses.sequences[:, :start], ids], dim=1)\n"
            "    masks = responses.prompt_mask, mask"
        ),
        also=(
            Change(
                "lightning_modules.rewards.learned:LearnedReward.score",
                "heads_of_ids(responses.sequences, ",
                "heads_of_ids(ids, ",
            ),
        ),
        tests=(f"{PEERS}::test_the_learned_reward_reads_ids_and_not_their_text",),
    ),
    Mutation(
        bug="responses after a shared prompt are read one token late",
        target="lightning_modules.forward.shared_prompts:read_for_states",
        old="return sequences[:, width - 1 : -1], mask, before",
        new="return sequences[:, width:], response_mask, before",
        tests=(f"{SHARED}::test_a_policy_reads_a_shared_prompt_once_and_says_the_same",),
    ),
    Mutation(
        bug="a response goes on from the prompt of another",
        target="lightning_modules.forward.shared_prompts:continuing",
        old="cache.reorder_cache(prompt.owner)",
        new="cache.reorder_cache(prompt.owner.flip(0))",
        tests=(f"{SHARED}::test_a_policy_reads_a_shared_prompt_once_and_says_the_same",),
    ),
    Mutation(
        bug="the keys and values of shared prompts are constants",
        target="lightning_modules.forward.shared_prompts:continuing",
        old="with last_layer_from(",
        new="with torch.no_grad(), last_layer_from(",
        tests=(f"{SHARED}::test_a_policy_reads_a_shared_prompt_once_and_says_the_same",),
    ),
    Mutation(
        bug="without a mask the last layer sees what comes later",
        target="lightning_modules.forward.last_layer:_in_two",
        old=".tril()",
        new="",
        tests=(f"{LAST_LAYER}::test_families_say_the_same_with_the_same_gradients",),
    ),
    Mutation(
        bug="the last layer's first positions are those of the prompt",
        target="lightning_modules.forward.last_layer:_in_two",
        old="_at(rest, given)",
        new="_at(slice(0, count - start), given)",
        tests=(f"{LAST_LAYER}::test_families_say_the_same_with_the_same_gradients",),
    ),
    Mutation(
        bug="a first step that was begun has the rows in another order",
        target="lightning_modules.rollouts.micro_batches:MicroBatches._parts",
        old="[order[rows] for rows in grouped(",
        new="[order.flip(0)[rows] for rows in grouped(",
        tests=(f"{BEGUN}::test_a_run_is_the_same_to_the_bit_with_passes_made_anew",),
    ),
    Mutation(
        bug="SFT imitates the prompts too",
        target="lightning_modules.sft:SFT.losses",
        old='mask = part["response_mask"]',
        new='mask = part["attention_mask"]',
        tests=(
            "lightning_modules/test_sft.py"
            "::test_the_loss_is_the_sum_of_the_nll_of_the_responses_tokens_alone",
        ),
    ),
)
