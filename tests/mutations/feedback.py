"""Bugs of labels: who is asked what, which votes count, and what becomes of them."""

from tests.mutations.mutation import Mutation

STORE = "harness/feedback/test_store.py"
ITEMS = "harness/feedback/test_items.py"
EXPORT = "harness/feedback/test_export.py"
AGREEMENT = "harness/feedback/test_agreement.py"
DOORS = "harness/web/test_doors.py"
PREFERENCES = "lightning_modules/objectives/test_preference_losses.py"

ROWS = (
    Mutation(
        bug="a vote that comes after the item was given to another is kept",
        target="harness.feedback.store:Store.vote",
        old='row["taken"] >= self.overlap',
        new="False",
        tests=(f"{STORE}::test_an_item_goes_to_another_after_a_while_and_is_labelled_once",),
    ),
    Mutation(
        bug="who undoes a skip is asked for an item that others have done",
        target="harness.feedback.store:Store.undo",
        old='row["taken"] >= self.overlap',
        new="False",
        tests=(f"{STORE}::test_who_undoes_a_skip_too_late_is_not_asked_again",),
    ),
    Mutation(
        bug="a pair is always shown in one order",
        target="harness.feedback.store:Store._show",
        old="random.SystemRandom().sample(item.numbers, len(item.responses))",
        new="list(item.numbers)",
        tests=(f"{STORE}::test_the_order_of_a_pair_is_drawn_once_for_each_annotator_and_kept",),
    ),
    Mutation(
        bug="what was said of the order that was shown is kept as if it were the item's own",
        target="harness.feedback.items:Item.in_own_order",
        old="MIRRORED.get(choice, choice)",
        new="choice",
        tests=(f"{ITEMS}::test_a_pair_shown_the_other_way_round_is_read_back",),
    ),
    Mutation(
        bug="the responses of a ranking are read back by the wrong way through the order",
        target="harness.feedback.items:Item.in_own_order",
        old="sorted(order[place] for place in tied)",
        new="sorted(list(order).index(place) for place in tied)",
        tests=(f"{ITEMS}::test_a_ranking_shown_in_any_order_is_read_back_as_the_same_texts",),
    ),
    Mutation(
        bug="a pair that fewer have preferred is written as the chosen one",
        target="harness.feedback.export:_pair",
        old="if lead >= 0",
        new="if lead < 0",
        tests=(f"{EXPORT}::test_votes_on_a_pair_are_one_row_with_its_strength",),
    ),
    Mutation(
        bug="a tie is taught as a win of the first one",
        target="datamodules.sources.lessons:RowReader.lesson",
        old="ratings = [0.0, 0.0]",
        new="pass",
        tests=(f"{EXPORT}::test_each_kind_has_a_file_that_is_read_as_it_was_meant",),
    ),
    Mutation(
        bug="Krippendorff's alpha does not weigh things by how many labels they have",
        target="harness.feedback.agreement:krippendorff_alpha",
        old="/ (len(labels) - 1)",
        new="",
        tests=(f"{AGREEMENT}::test_alpha_is_that_of_the_published_example",),
    ),
    Mutation(
        bug="Krippendorff's alpha is without the correction for few labels",
        target="harness.feedback.agreement:krippendorff_alpha",
        old="(n - 1) * observed",
        new="n * observed",
        tests=(f"{AGREEMENT}::test_alpha_and_percent_of_a_small_example_worked_by_hand",),
    ),
    Mutation(
        bug="the heads of an ensemble are compared by the score of the first response alone",
        target="lightning_modules.objectives.preference:disagreement",
        old="heads[first] - heads[second]",
        new="heads[first]",
        tests=(f"{PREFERENCES}::test_heads_disagree_by_the_spread_of_their_preferences",),
    ),
    Mutation(
        bug="a page that is for this machine alone answers to foreign names",
        target="harness.web.doors:Doors._refusal",
        old='not is_this_machine(host.hostname or "")',
        new="False",
        tests=(f"{DOORS}::test_a_foreign_name_that_leads_here_shows_nothing",),
    ),
    Mutation(
        bug="votes that another page sends are heard",
        target="harness.web.doors:Doors._refusal",
        old="urlsplit(origin).netloc != host.netloc",
        new="False",
        tests=(f"{DOORS}::test_what_another_page_sends_is_not_heard",),
    ),
    Mutation(
        bug="any token opens the page",
        target="harness.web.doors:Doors._is_token",
        old='secrets.compare_digest(given.encode(), (self.token or "").encode())',
        new="bool(given)",
        tests=(f"{DOORS}::test_other_machines_need_the_token_that_is_in_the_address",),
    ),
)
