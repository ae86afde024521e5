"""Bugs of log-probabilities: whose they are, and of which distribution."""

from tests.mutations.mutation import Change, Mutation

ACTOR_CRITIC = "lightning_modules/models/test_actor_critic.py"
TOKENS = "lightning_modules/rollouts/test_tokens.py"
POLICY = "lightning_modules/test_policy.py"
CHUNKS = "lightning_modules/forward/test_log_probs.py"
GRADIENTS = f"{CHUNKS}::test_values_and_gradients_are_those_of_whole_logits"
PRODUCTS = "lightning_modules/forward/on_cpu/test_products.py"
PEERS = "lightning_modules/test_peer_bugs.py"

ROWS = (
    Mutation(
        bug="dropout is on, so that ratios are not 1 at the first step",
        seen="TRL #4, #454; trlx #107",
        target="lightning_modules.policy:PolicyModule.train",
        old="super().train(False)",
        new="super().train(mode)",
        tests=(f"{POLICY}::test_one_step_on_a_rollout_is_on_policy",),
    ),
    Mutation(
        bug="temperature omitted in log-probabilities",
        seen="TRL #3029",
        target="lightning_modules.forward.token_outputs:_of_logits",
        old="logits = logits / temperature",
        new="pass",
        tests=(f"{ACTOR_CRITIC}::test_logprobs_and_entropies_are_those_of_a_plain_forward",),
    ),
    Mutation(
        bug="temperature divides log-probabilities instead of logits",
        target="lightning_modules.forward.token_outputs:_of_logits",
        old="logits = logits / temperature",
        new="pass",
        also=(
            Change(
                "lightning_modules.forward.token_outputs:_of_logits",
                "logits.gather(-1, actions[..., None]).squeeze(-1) - normaliser",
                "(logits.gather(-1, actions[..., None]).squeeze(-1) - normaliser) / temperature",
            ),
        ),
        tests=(f"{ACTOR_CRITIC}::test_logprobs_and_entropies_are_those_of_a_plain_forward",),
    ),
    Mutation(
        bug="temperature omitted in the update",
        seen="TRL #3029",
        target="lightning_modules.updates:UpdatingModule.passes",
        old="response_mask, self.options.temperature)",
        new="response_mask, 1.0)",
        tests=(f"{POLICY}::test_one_step_on_a_rollout_is_on_policy",),
    ),
    Mutation(
        bug="temperature omitted in the sampler",
        target="lightning_modules.rollouts.tokens:_from_the_whole",
        old="logits.double() / temperature",
        new="logits.double()",
        tests=(f"{TOKENS}::test_temperature_divides_the_logits",),
    ),
    Mutation(
        bug="temperature omitted in the sampler of large vocabularies",
        target="lightning_modules.rollouts.tokens:_from_blocks",
        old="logits.float() / temperature",
        new="logits.float()",
        tests=(f"{TOKENS}::test_temperature_divides_the_logits",),
    ),
    Mutation(
        bug="temperature omitted in the reference",
        target="lightning_modules.models.reference:Reference.logprobs",
        old="response_mask, temperature, prompt=prompt",
        new="response_mask, 1.0, prompt=prompt",
        tests=(
            "lightning_modules/rollouts/test_collection.py::test_a_policy_that_is_its_reference_has_no_kl",
        ),
    ),
    Mutation(
        bug="top-k in the sampler only",
        target="lightning_modules.rollouts.tokens:_from_the_whole",
        old="logits.double() / temperature",
        new="logits.double().where(logits >= logits.topk(2)[0][:, 1:], -torch.inf) / temperature",
        tests=(f"{TOKENS}::test_sampling_inverts_the_distribution_function_exactly",),
    ),
    Mutation(
        bug="log-softmax in bfloat16",
        target="lightning_modules.forward.token_outputs:_of_logits",
        old="at_least_float32(logits)",
        new="logits.bfloat16()",
        tests=(f"{ACTOR_CRITIC}::test_logprobs_and_entropies_are_those_of_a_plain_forward",),
    ),
    Mutation(
        bug="the old policy is an alias of the new one, so that no ratio leaves 1",
        target="lightning_modules.ppo:PPO.token_loss",
        old="batch.old_logprobs,",
        new="new.logprobs.detach(),",
        tests=("lightning_modules/test_ppo.py::test_one_number_is_both_sides_of_the_range",),
    ),
    Mutation(
        bug="old log-probabilities are computed again after an update",
        target="lightning_modules.updates:UpdatingModule._gradient",
        old="token_losses, stats = self.token_loss(part, new)",
        new="import dataclasses\n"
        "            part = dataclasses.replace(part, old_logprobs=new.logprobs.detach())\n"
        "            token_losses, stats = self.token_loss(part, new)",
        tests=(
            f"{PEERS}::test_an_update_is_the_formulas_applied_minibatch_after_minibatch",
            f"{POLICY}::test_several_steps_are_not",
        ),
    ),
    Mutation(
        bug="the reference is an alias of the policy: adapters stay on",
        target="lightning_modules.models.reference:Reference.active",
        old="return adapters_off(self._lm)",
        new="return nullcontext(self._lm)",
        tests=(f"{ACTOR_CRITIC}::test_with_its_adapters_off_the_policy_is_its_reference",),
    ),
    Mutation(
        bug="the reference is an alias of the policy: no copy",
        target="harness.pipeline.policy_models:actor_critic",
        old="Reference(frozen(load(how=pipeline.frozen)), shares_policy=False)",
        new="Reference(lm, shares_policy=False)",
        tests=(f"{PEERS}::test_a_policy_and_the_copy_it_is_held_against_share_no_weight",),
    ),
    Mutation(
        bug="looking at the reference freezes adapters for good",
        target="lightning_modules.models.adapters:adapters_off",
        old="with _kept_trainable(lm), lm.disable_adapter():",
        new="with lm.disable_adapter():",
        tests=(
            f"{ACTOR_CRITIC}::test_the_base_stays_frozen_and_both_adapters_trained_whatever_was_run",
        ),
    ),
    Mutation(
        bug="in chunks, the slope of a soft cap is left out of gradients",
        target="lightning_modules.forward.log_probs:_How.slope",
        old="if self.finish.cap is not None:",
        new="if False:",
        tests=(f"{GRADIENTS}[gemma2--trained head]",),
    ),
    Mutation(
        bug="in chunks, the gradient of an entropy lacks the entropy",
        target="lightning_modules.forward.log_probs:_Head.by_products",
        old="logprobs.add_(seen.entropies[:, None])",
        new="logprobs",
        tests=(f"{GRADIENTS}[llama-entropy-frozen head]",),
    ),
    Mutation(
        bug="in chunks, the temperature is left out of gradients",
        target="lightning_modules.forward.log_probs:_How.slope",
        old="self.finish.factor / self.temperature",
        new="self.finish.factor",
        tests=(f"{GRADIENTS}[llama--trained head]",),
    ),
    Mutation(
        bug="by the fast products, gradients of chunks of logits take each other's place",
        target="lightning_modules.forward.log_probs:_Head.add_by_weight",
        old="to += product_of_rows(gradient, states)",
        new="to.copy_(product_of_rows(gradient, states))",
        tests=(f"{PRODUCTS}::test_chunks_of_logits_too",),
    ),
    Mutation(
        bug="by the fast products, the gradient of a wide layer's weights is transposed",
        target="lightning_modules.forward.on_cpu.products:product_of_rows",
        old="product(b.t(), a.t()).t().contiguous()",
        new="product(b.t(), a.t()).view(a.shape[1], b.shape[1])",
        tests=(f"{PRODUCTS}::test_values_and_gradients_are_those_of_float64",),
    ),
    Mutation(
        bug="by the fast products, autocast is overheard",
        target="lightning_modules.forward.on_cpu.products:linear",
        old='not _are_plain(*given) or torch.is_autocast_enabled("cpu")',
        new="not _are_plain(*given)",
        tests=(f"{PRODUCTS}::test_autocast_has_its_way",),
    ),
)
