"""Bugs of chats: what ends a response, what of a text is text, what a template writes."""

from tests.mutations.mutation import Mutation

TOKENS = "datamodules/tokenization"
FAMILIES = f"{TOKENS}/test_families.py"
FORMAT = "datamodules.tokenization.chat_format:ChatFormat"
CONTROL = "datamodules.tokenization.control_tokens:ControlTokens"
PLAIN = "harness/checks/test_plain_pass.py"

ROWS = (
    Mutation(
        bug="a response stops at the tokenizer's EOS token alone",
        target=f"{FORMAT}.__init__",
        old="known = {self.stop_id, eos, *stops} - {None}",
        new="known = {eos} - {None}",
        tests=(f"{FAMILIES}::test_what_ends_a_response",),
    ),
    Mutation(
        bug="the sampler stops at the first of several stop tokens alone",
        target="lightning_modules.rollouts.generation:token_by_token",
        old="stopped = torch.isin(tokens, stops)",
        new="stopped = tokens == stops.flatten()[0]",
        tests=(
            "lightning_modules/rollouts/test_generation.py::test_a_response_ends_with_the_first_of_several_stop_tokens",
        ),
    ),
    Mutation(
        bug="of several stop tokens one counts as an end",
        target="lightning_modules.rollouts.collection:Collector.respond",
        old="torch.isin(last, torch.tensor(words.stop_ids, device=last.device))",
        new="last == words.stop_ids[0]",
        tests=(
            "lightning_modules/rollouts/test_collection.py::test_every_stop_token_counts_as_an_end",
        ),
    ),
    Mutation(
        bug="responses are taught to end with EOS, whatever the template writes",
        target=f"{FORMAT}._end",
        old="return self.frame.after[: run.start() + ends[last].start()], ids[last]",
        new='return "", self.tokenizer.eos_token_id',
        tests=(f"{FAMILIES}::test_what_ends_a_response",),
    ),
    Mutation(
        bug="what the template writes before a response is not taught",
        target=f"{FORMAT}._written",
        old="start = self.frame.prompt if self.frame.continues else self.frame.before",
        new="start = self.frame.before",
        tests=(f"{FAMILIES}::test_prompt_and_response_are_the_conversation_of_the_template",),
    ),
    Mutation(
        bug="a special token that a user spells is one",
        target=f"{CONTROL}.hide",
        old="hidden = self._spelled.sub(lambda match: self._placeholder(match[0]), text)",
        new="hidden = text",
        tests=(f"{FAMILIES}::test_contents_make_no_control_tokens",),
    ),
    Mutation(
        bug="the template's own tokens are taken as text where a user spells one",
        target=f"{CONTROL}._encode_guarded",
        old="written = self._own.sub(lambda match: names[match[0]], text)",
        new="written = text",
        tests=(f"{FAMILIES}::test_contents_make_no_control_tokens",),
    ),
    Mutation(
        bug="BOS is put first where the template writes it already",
        target=f"{FORMAT}.conversations",
        old="ids if ids[:size] == self.prefix else self.prefix + ids",
        new="self.prefix + ids",
        tests=(
            f"{FAMILIES}::test_a_bos_is_there_as_often_as_the_template_and_the_tokenizer_put_it",
        ),
    ),
    Mutation(
        bug="base models get no BOS",
        target=f"{FORMAT}.conversations",
        old="ids if ids[:size] == self.prefix else self.prefix + ids",
        new="ids",
        tests=(
            f"{FAMILIES}::test_a_bos_is_there_as_often_as_the_template_and_the_tokenizer_put_it",
        ),
    ),
    Mutation(
        bug="a prompt that is too long loses its system turn",
        target="datamodules.tokenization.truncation:shortened",
        old="system = list(messages[:turns])",
        new="system = []",
        tests=(f"{FAMILIES}::test_truncation_at_every_limit",),
    ),
    Mutation(
        bug="the template asks the clock and not the run",
        target="datamodules.tokenization.templates:ChatTemplate.__init__",
        old="{CLOCK: options.date.strftime}",
        new="{}",
        tests=(f"{TOKENS}/test_templates.py::test_the_clock_is_that_of_the_run",),
    ),
    Mutation(
        bug="positions of a cached token count from the longest row",
        target="lightning_modules.rollouts.generation:token_by_token",
        old="prompt_mask.long().sum(-1, keepdim=True)",
        new="torch.full((len(prompt_mask), 1), prompt_mask.shape[1])",
        tests=(f"{PLAIN}::test_every_sampled_token_is_drawn_again",),
    ),
    Mutation(
        bug="a private character of a text comes back as what another one stands for",
        target=f"{CONTROL}.show",
        old="self._literals.get(match[0], match[0])",
        new="match[0]",
        tests=(f"{TOKENS}/test_control_tokens.py::test_private_characters_are_text",),
    ),
    Mutation(
        bug="what spells a token once it is normalised is one",
        target=f"{CONTROL}._spells_normalised",
        old="bool(self._own.search(self._normaliser.normalize_str(text)))",
        new="False",
        tests=(f"{TOKENS}/test_control_tokens.py::test_normalised_spellings_are_text",),
    ),
    Mutation(
        bug="nobody looks at whether sampled tokens are drawn again",
        target="harness.checks.plain_pass:check_drawn_again",
        old="if len(wrong) > max(FEW, SHARE * total):",
        new="if False:",
        tests=("harness/checks/test_selfcheck.py::test_a_cache_that_is_not_used_is_found",),
    ),
    Mutation(
        bug="a model that reads in both directions passes",
        target="harness.checks.plain_pass:check_causality",
        old="if not gap <= tolerance:",
        new="if False:",
        tests=("harness/checks/test_plain_pass.py::test_a_model_that_sees_what_comes_is_refused",),
    ),
)
