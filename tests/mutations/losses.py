"""Bugs of rewards, advantages and losses."""

from tests.mutations.mutation import Change, Mutation

ADVANTAGES = "lightning_modules/objectives/test_advantages.py"
LOSSES = "lightning_modules/objectives/test_losses.py"
PREFERENCE = "lightning_modules/objectives/test_preference.py"
DIVERGENCES = "lightning_modules/objectives/test_divergences.py"
SHAPING = "lightning_modules/rewards/test_shaping.py"
POLICY = "lightning_modules/test_policy.py"
REINFORCE = "lightning_modules/test_reinforce.py"
A2C = "lightning_modules/test_a2c.py"
WARMUP = "lightning_modules/test_critic_warmup.py"
WARMUP_EXACT = "exact/test_critic_warmup.py"
EXPORTED = "harness/pipeline/test_critic_export.py"
GRADIENTS = "exact/test_gradients.py"
PEERS = "lightning_modules/test_peer_bugs.py"
BY_HAND = f"{PEERS}::test_an_update_is_the_formulas_applied_minibatch_after_minibatch"
CASES = f"{LOSSES}::test_ppo_clip_is_the_lectures_cases"
PENALISED = "lightning_modules.objectives.advantages:penalised_rewards"
CLIP = "lightning_modules.objectives.losses:ppo_clip"

ROWS = (
    Mutation(
        bug="max where PPO-CLIP has min",
        target=CLIP,
        old="objective = torch.minimum(",
        new="objective = torch.maximum(",
        tests=(CASES,),
    ),
    Mutation(
        bug="the sign of the objective",
        target=CLIP,
        old="return -objective",
        new="return objective",
        tests=(CASES,),
    ),
    Mutation(
        bug="clipped only, without the min",
        target=CLIP,
        old="torch.minimum(plain, ratio.clamp(1 - low, 1 + high) * advantages)",
        new="ratio.clamp(1 - low, 1 + high) * advantages",
        tests=(CASES,),
    ),
    Mutation(
        bug="min(w, 1 + eps) A for both signs of A",
        target=CLIP,
        old="torch.minimum(plain, ratio.clamp(1 - low, 1 + high) * advantages)",
        new="ratio.clamp(max=1 + high) * advantages",
        tests=(CASES,),
    ),
    Mutation(
        bug="dual clip for both signs of A",
        target=CLIP,
        old="torch.where(advantages < 0, bounded, objective)",
        new="bounded",
        tests=(f"{LOSSES}::test_dual_clip_bounds_the_loss_where_the_advantage_is_negative",),
    ),
    Mutation(
        bug="a clip range of 0 is accepted",
        target="lightning_modules.options.policies:PPOOptions.__post_init__",
        old="and x > 0 for x in low_high",
        new="and x >= 0 for x in low_high",
        tests=("lightning_modules/test_ppo.py::test_nonsense_is_refused_by_name[clip_range-0.0]",),
    ),
    Mutation(
        bug="the importance weight of PPO is detached, which leaves no gradient",
        target=CLIP,
        old="ratio = torch.exp(logprobs - old_logprobs)",
        new="ratio = torch.exp(logprobs - old_logprobs).detach()",
        tests=(BY_HAND,),
    ),
    Mutation(
        bug="the importance weight of REINFORCE is not detached, which turns the gradient round",
        target="lightning_modules.reinforce:Reinforce.token_loss",
        old="(new.logprobs - batch.old_logprobs).detach()",
        new="(new.logprobs - batch.old_logprobs)",
        also=(
            Change(
                "lightning_modules.objectives.losses:policy_gradient",
                "-advantages.detach()",
                "-advantages",
            ),
        ),
        tests=(f"{REINFORCE}::test_a_token_importance_weight_is_the_ratio_of_that_token",),
    ),
    Mutation(
        bug="the reward of a token in the place of its return (REINFORCE)",
        target="lightning_modules.reinforce:Reinforce._returns",
        old="to_go = rewards_to_go(rewards, mask, self.options.gamma)",
        new="to_go = rewards",
        tests=(f"{GRADIENTS}::test_reinforce_on_padded_rows_at_another_temperature",),
    ),
    Mutation(
        bug="the reward of a token in the place of its return (A2C)",
        target="lightning_modules.a2c:A2C.weigh",
        old="returns = rewards_to_go(rollout.rewards, mask, gamma)",
        new="returns = rollout.rewards",
        tests=(f"{GRADIENTS}::test_lam_1_with_any_value_function",),
    ),
    Mutation(
        bug="the sign of the KL",
        target=PENALISED,
        old="rewards - beta *",
        new="rewards + beta *",
        tests=(f"{ADVANTAGES}::test_the_further_from_the_reference_the_lower",),
    ),
    Mutation(
        bug="the KL is a mean over tokens instead of a sum",
        target=PENALISED,
        old="(logprobs - ref_logprobs)",
        new="(logprobs - ref_logprobs) / mask.sum(-1, keepdim=True)",
        tests=(f"{ADVANTAGES}::test_rewards_sum_to_score_minus_beta_kl",),
    ),
    Mutation(
        bug="k3 in the reward",
        target=PENALISED,
        old="(logprobs - ref_logprobs)",
        new="(torch.expm1(ref_logprobs - logprobs) + logprobs - ref_logprobs)",
        tests=(f"{ADVANTAGES}::test_rewards_sum_to_score_minus_beta_kl",),
    ),
    Mutation(
        bug="the absolute KL in the reward",
        target=PENALISED,
        old="(logprobs - ref_logprobs)",
        new="(logprobs - ref_logprobs).abs()",
        tests=(f"{ADVANTAGES}::test_rewards_sum_to_score_minus_beta_kl",),
    ),
    Mutation(
        bug="the score is given to every token",
        target=PENALISED,
        old="* last_token(mask)",
        new="* mask",
        tests=(f"{ADVANTAGES}::test_score_comes_at_the_last_real_token",),
    ),
    Mutation(
        bug="the reference is run where nothing asks for its KL",
        target="lightning_modules.policy:PolicyModule.collect",
        old="with_reference=self.beta > 0",
        new="with_reference=True",
        tests=("properties/test_reference.py::test_without_beta_the_reference_is_never_touched",),
    ),
    Mutation(
        bug="rewards carry a gradient of log pi",
        target=PENALISED,
        old=".detach()",
        new="",
        tests=(f"{ADVANTAGES}::test_rewards_are_constants",),
    ),
    Mutation(
        bug="advantages are not detached",
        target="lightning_modules.objectives.losses:policy_gradient",
        old="-advantages.detach()",
        new="-advantages",
        tests=(f"{LOSSES}::test_advantages_get_no_gradient",),
    ),
    Mutation(
        bug="targets of the value function are not detached",
        target="lightning_modules.objectives.losses:value_error",
        old="returns.detach()",
        new="returns",
        tests=(f"{LOSSES}::test_value_error_pulls_towards_returns_that_are_constants",),
    ),
    Mutation(
        bug="the baseline includes the response's own score",
        target="lightning_modules.objectives.advantages:leave_one_out",
        old="(groups.sum(-1, keepdim=True) - groups) / others.clamp(min=1)",
        new="groups.mean(-1, keepdim=True).expand_as(groups)",
        tests=(f"{ADVANTAGES}::test_a_baseline_is_the_mean_of_the_others_of_the_group",),
    ),
    Mutation(
        bug="GAE bootstraps past the end of the response",
        target="lightning_modules.objectives.advantages:gae",
        old="next_values = torch.zeros_like(values)",
        new="next_values = values.clone()",
        tests=(f"{ADVANTAGES}::test_gae_is_the_double_loop",),
    ),
    Mutation(
        bug="GAE takes the value of the padding after the end",
        target="lightning_modules.objectives.advantages:gae",
        old="    values = masked(values, mask)\n",
        new="",
        tests=(f"{ADVANTAGES}::test_gae_is_the_double_loop",),
    ),
    Mutation(
        bug="GAE discounts by gamma alone, without lambda",
        target="lightning_modules.objectives.advantages:gae",
        old="gamma * lam)",
        new="gamma)",
        tests=(f"{ADVANTAGES}::test_gae_is_the_double_loop",),
    ),
    Mutation(
        bug="targets are computed again each epoch, from the values of then",
        target="lightning_modules.updates:UpdatingModule._gradient",
        old="token_losses, stats = self.token_loss(part, new)",
        new="import dataclasses\n"
        "            part = self.weigh(dataclasses.replace(part, values=new.values.detach()))\n"
        "            token_losses, stats = self.token_loss(part, new)",
        tests=(BY_HAND,),
    ),
    Mutation(
        bug="advantages are whitened again in each minibatch",
        target="lightning_modules.ppo:PPO.token_loss",
        old="batch.advantages,",
        new="whiten(batch.advantages, batch.response_mask),",
        tests=(BY_HAND,),
    ),
    Mutation(
        bug="steps of the value function move the policy",
        target="lightning_modules.models.actor_critic:ActorCritic._states_valued",
        old="with torch.no_grad():",
        new="with torch.enable_grad():",
        tests=(f"{A2C}::test_further_updates_leave_the_policy_to_the_bit",),
    ),
    Mutation(
        bug="the value is clipped around the new value",
        target="lightning_modules.objectives.losses:clipped_value_error",
        old="near = old_values +",
        new="near = values.detach() +",
        tests=(f"{LOSSES}::test_clipped_value_error_around_the_old_value",),
    ),
    Mutation(
        bug="the clipped value error is the smaller of the two",
        target="lightning_modules.objectives.losses:clipped_value_error",
        old="torch.maximum(",
        new="torch.minimum(",
        tests=(f"{LOSSES}::test_clipped_value_error_around_the_old_value",),
    ),
    Mutation(
        bug="the sequence weight leaves the KL of the old policy in the reward",
        target="lightning_modules.reinforce:Reinforce.token_loss",
        old="weights = weights - self._returns(self.beta * moved, batch.response_mask)",
        new="pass",
        tests=(f"{GRADIENTS}::test_sequence_weights_on_responses_of_another_policy",),
    ),
    Mutation(
        bug="the sequence weight is that of one token",
        target="lightning_modules.reinforce:Reinforce.token_loss",
        old="masked_sum(moved, batch.response_mask).exp()[:, None]",
        new="moved.exp()",
        tests=(f"{GRADIENTS}::test_sequence_weights_on_responses_of_another_policy",),
    ),
    Mutation(
        bug="responses count by their mean over tokens",
        target="lightning_modules.objectives.masked:aggregate",
        old="masked(token_losses, mask).sum() / divisor",
        new="(masked(token_losses, mask).sum(-1) / mask.sum(-1)).sum() / divisor",
        tests=(f"{GRADIENTS}::test_reinforce_on_padded_rows_at_another_temperature",),
    ),
    Mutation(
        bug="sequences and tokens are confused as what losses are divided by",
        target="lightning_modules.updates:UpdatingModule._count",
        old='== "sequences"',
        new='!= "sequences"',
        tests=(BY_HAND,),
    ),
    Mutation(
        bug="the entropy bonus is a penalty",
        target="lightning_modules.updates:UpdatingModule._gradient",
        old="token_losses - self.options.entropy_coef",
        new="token_losses + self.options.entropy_coef",
        tests=(BY_HAND,),
    ),
    Mutation(
        bug="the fine for responses without a stop goes to those with one",
        target="lightning_modules.rewards.shaping:ScoreShaping.__call__",
        old="(~stopped)",
        new="stopped",
        tests=(f"{SHAPING}::test_responses_that_were_cut_off_pay_and_the_others_do_not",),
    ),
    Mutation(
        bug="adaptive KL: per token, where the target is per sequence",
        target="lightning_modules.policy:PolicyModule.training_step",
        old='metrics["rollout/kl"],',
        new='metrics["rollout/kl"] / metrics["rollout/length"],',
        tests=(
            f"{POLICY}::test_beta_follows_the_kl_of_each_iteration_and_is_the_coefficient_of_the_next",
        ),
    ),
    Mutation(
        bug="adaptive KL: counts iterations, where the horizon is in episodes",
        target="lightning_modules.policy:PolicyModule.training_step",
        old="self.options.sequences_per_iteration,",
        new="1,",
        tests=(
            f"{POLICY}::test_beta_follows_the_kl_of_each_iteration_and_is_the_coefficient_of_the_next",
        ),
    ),
    Mutation(
        bug="adaptive KL: the error is absolute, not relative to the target",
        target="lightning_modules.objectives.divergences:adapted_beta",
        old="kl / target - 1",
        new="kl - target",
        tests=(f"{DIVERGENCES}::test_beta_follows_the_relative_error_of_the_kl",),
    ),
    Mutation(
        bug="Bradley-Terry overflows",
        target="lightning_modules.objectives.preference:bradley_terry",
        old="-F.logsigmoid(chosen - rejected - margin)",
        new="torch.log(1 + torch.exp(rejected - chosen + margin))",
        tests=(f"{PREFERENCE}::test_no_overflow_far_from_zero",),
    ),
    Mutation(
        bug="chosen and rejected are swapped",
        target="lightning_modules.reward_model:RewardModel._comparison_losses",
        old="chosen, rejected = scores",
        new="rejected, chosen = scores",
        tests=("lightning_modules/test_reward_model.py::test_a_pairs_loss_is_bradley_terry",),
    ),
    Mutation(
        bug="in a ranking each response competes with those already chosen",
        target="lightning_modules.objectives.preference:plackett_luce",
        old="scores.flip(-1).logcumsumexp(-1).flip(-1)",
        new="scores.logcumsumexp(-1)",
        tests=(f"{PREFERENCE}::test_the_best_one_is_chosen_by_a_softmax_over_all",),
    ),
    Mutation(
        bug="ties count as wins",
        target="lightning_modules.metrics.evaluation:outcomes",
        old="0.5 + 0.5 * difference.sign() * (difference.abs() > SAME_SCORE)",
        new="(difference >= 0).float()",
        tests=("lightning_modules/metrics/test_evaluation.py::test_outcomes",),
    ),
    Mutation(
        bug="a warm-up's targets keep a share of untrained values",
        target="lightning_modules.ppo:PPO.weigh",
        old="1.0 if self.warming_up else options.lam",
        new="options.lam",
        tests=(
            f"{WARMUP_EXACT}::test_its_targets_are_the_values_of_the_policy_whatever_lambda_is",
        ),
    ),
    Mutation(
        bug="the policy learns in the critic's warm-up",
        target="lightning_modules.policy:PolicyModule.training_step",
        old="self.warm_up(rollout) if self.warming_up else self.update(rollout)",
        new="self.update(rollout)",
        tests=(f"{WARMUP}::test_the_value_function_learns_and_all_else_stays_to_the_bit",),
    ),
    Mutation(
        bug="a warm-up takes its share of the learning rate's decay",
        target="lightning_modules.updates:UpdatingModule._set_learning_rates",
        old="max(0, self.current_epoch - self.options.critic_warmup)",
        new="self.current_epoch",
        tests=(
            f"{WARMUP}::test_learning_rates_and_evaluations_are_those_of_the_iterations_after_it",
        ),
    ),
    Mutation(
        bug="a value function is exported without its head's bias",
        target="harness.pipeline.critic_export:export_critic",
        old="-model.value_head.bias",
        new="0 * model.value_head.bias",
        tests=(f"{EXPORTED}::test_every_critic_comes_back_with_its_values",),
    ),
)
