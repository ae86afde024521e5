"""Bugs of models as they come: what is loaded, which ids it knows, what is exported of it."""

from tests.mutations.mutation import Mutation

FAMILIES = "lightning_modules/models/test_families.py"
REFUSALS = "lightning_modules/models/test_refusals.py"
LANGUAGE_MODEL = "lightning_modules/models/test_language_model.py"
PARTS = "lightning_modules/models/test_parts_trained.py"
ONE_BASE = "lightning_modules/models/test_one_base.py"
MODEL_FOLDER = "harness/pipeline/test_model_folder.py"

MERGED = "lightning_modules/rollouts/test_merged_adapters.py"

ROWS = (
    Mutation(
        bug="adapters are taken out of the weights by subtraction, which rounds",
        target="lightning_modules.rollouts.merged_adapters:adapters_merged",
        old="parameter.data = data",
        new="parameter.data = parameter.data * (1 + 2**-20) / (1 + 2**-20)",
        tests=(f"{MERGED}::test_weights_come_back_to_the_bit_and_the_model_says_the_same",),
    ),
    Mutation(
        bug="ids that the tokenizer has no token for are sampled",
        target="lightning_modules.models.vocabulary:forbid_ids_without_text",
        old="model.register_forward_hook(WithoutText(torch.tensor(unknown)))",
        new="pass",
        tests=(f"{FAMILIES}::test_ids_without_text_are_never_sampled[llama]",),
    ),
    Mutation(
        bug="logits of ids without text are infinite, so that entropies are NaN",
        target="lightning_modules.models.vocabulary:WithoutText.__call__",
        old="IMPOSSIBLE_IN_HALF if logits.dtype == torch.float16 else IMPOSSIBLE",
        new="-torch.inf",
        tests=(f"{FAMILIES}::test_what_has_no_text_has_no_probability_in_updates_either",),
    ),
    Mutation(
        bug="a value head is as wide as the layers, not as what it reads",
        target="lightning_modules.models.actor_critic:new_value_head",
        old="plain(lm).get_output_embeddings().weight.shape[-1]",
        new="lm.config.get_text_config().hidden_size",
        tests=(
            f"{FAMILIES}::test_values_are_the_same_with_and_without_log_probabilities[opt_350m]",
        ),
    ),
    Mutation(
        bug="a value head reads the states before the last layer",
        target="lightning_modules.forward.token_outputs:response_outputs",
        old="outputs.hidden_states[-1]",
        new="outputs.hidden_states[-2]",
        tests=(f"{FAMILIES}::test_values_are_the_same_with_and_without_log_probabilities[llama]",),
    ),
    Mutation(
        bug="weights that are not in the files are drawn anew",
        target="lightning_modules.models.weights:load_weights",
        old="if any(wrong):",
        new="if False:",
        tests=(f"{REFUSALS}::test_a_layer_that_is_missing_or_left_over",),
    ),
    Mutation(
        bug="weights that no part of the model takes are left out in silence",
        target="lightning_modules.models.weights:load_weights",
        old='set(found["unexpected_keys"]) - set(unused)',
        new="set()",
        tests=(f"{REFUSALS}::test_a_layer_that_is_missing_or_left_over",),
    ),
    Mutation(
        bug="models that see what comes after a token are trained",
        target="lightning_modules.models.usable:refuse_kind",
        old="if both_ways:",
        new="if False:",
        tests=(f"{REFUSALS}::test_what_does_not_write_from_left_to_right",),
    ),
    Mutation(
        bug="a reward model's padding is a stop token, so that its score is read before it",
        target="lightning_modules.models.scorers:_serves",
        old="and pad_id not in ends",
        new="",
        tests=(f"{LANGUAGE_MODEL}::test_a_scorer_is_padded_with_what_ends_no_conversation",),
    ),
    Mutation(
        bug="LoRA goes into towers that text never passes",
        target="lightning_modules.models.adapters:add_adapter",
        old="if towers := towers_without_text(model):",
        new="if towers := []:",
        tests=(f"{PARTS}::test_a_tower_of_pictures_is_left_out_and_named",),
    ),
    Mutation(
        bug="an exported policy samples from its 50 likeliest tokens",
        target="harness.pipeline.model_folder:export",
        old="top_k=0,",
        new="",
        tests=(f"{MODEL_FOLDER}::test_plain_transformers_samples_what_was_trained",),
    ),
    Mutation(
        bug="an exported policy samples at temperature 1, whatever it was trained at",
        target="harness.pipeline.model_folder:export",
        old="temperature=temperature,",
        new="",
        tests=(f"{MODEL_FOLDER}::test_plain_transformers_samples_what_was_trained",),
    ),
    Mutation(
        bug="a reward model's adapter is put on other weights than it was trained on",
        target="lightning_modules.models.one_base:reward_on",
        old="about[BASE] != base_digest(lm)",
        new="False",
        tests=(f"{ONE_BASE}::test_weights_that_are_not_the_same_bytes_are_not_shared[llama]",),
    ),
    Mutation(
        bug="a critic on the policy's weights begins without the reward model's adapter",
        target="lightning_modules.models.one_base:critic_on",
        old="[*reward.adapters, VALUE_ADAPTER]",
        new="[VALUE_ADAPTER]",
        tests=(
            f"{ONE_BASE}::test_a_critic_has_the_values_and_gradients_of_one_with_weights_of_its_own"
            "[llama]",
        ),
    ),
    Mutation(
        bug="a frozen reward model's adapter is trained once it was switched on",
        target="lightning_modules.models.adapters:_kept_trainable",
        old="if parameter.requires_grad != trained:",
        new="if trained:",
        tests=(
            f"{ONE_BASE}::test_policy_and_reference_say_the_same_with_a_reward_model_beside_them"
            "[llama]",
        ),
    ),
    Mutation(
        bug="adapters are trained at the rates of full fine-tuning",
        target="lightning_modules.options.learning_rates:suited_rates",
        old="table = LORA if lora else FULL",
        new="table = FULL",
        tests=(
            "lightning_modules/options/test_learning_rates.py::test_adapters_take_more_than_whole_models",
        ),
    ),
)
