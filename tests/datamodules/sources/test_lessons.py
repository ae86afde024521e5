"""What rows of own files teach: the right answer, to the whole prompt, and nothing but the answer.

Each rule on files as people write them.
"""

import json
import math

import pytest

from datamodules.records import DataError, Message, Preference, Prompt, Ranking
from datamodules.sources.cleaning import (
    CONTRADICTORY,
    CUT_ENDS,
    CUT_MARKERS,
    CUT_REPEATS,
    CUT_TURNS,
    KEPT_REPEATS,
    TOLD,
    TRANSCRIPTS,
)
from datamodules.sources.files import Files

SPLITS = ("train", "val")
GOOD, BAD = "It is used at home.", "It is a kind of soup."
CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "function": {"name": "f"}}]}


def question(i):
    return f"What is thing {i} for?"


def row(i, **values):
    return {"prompt": question(i), "chosen": GOOD, "rejected": BAD} | values


def ranked(i, **values):
    return {"prompt": question(i), "responses": ["first", "second", "third"]} | values


def said(role, content):
    return {"role": role, "content": content}


@pytest.fixture
def files(tmp_path):
    """files(rows, **options): the source that reads them."""

    def read(rows, **options):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        return Files(path=str(path), **options)

    return read


def comparisons(source):
    return [c for split in SPLITS for c in source.comparisons(split)]


def pairs(source):
    """Prompt's turns, preferred and other response of every pair."""
    return {
        (pair.prompt.messages, pair.chosen, pair.rejected)
        for split in SPLITS
        for pair in source.preferences(split)
    }


def plain(count=4):
    return {((Message("user", question(i)),), GOOD, BAD) for i in range(count)}


# Which is the best


@pytest.mark.parametrize("first", [0, 1])
def test_with_the_lowest_as_the_best_ranks_teach_the_right_answer(files, first):
    rows = [ranked(i, ratings=[first + 1, first, first + 2]) for i in range(4)]
    source = files(rows, best="lowest")
    for comparison in comparisons(source):
        assert max(zip(comparison.ratings, comparison.responses, strict=True))[1] == "second"
        (pair,) = [
            p for p in comparison.preferences() if p.chosen == "second" and p.rejected == "third"
        ]
        assert pair.strength == 2
    assert {d.response for split in SPLITS for d in source.demonstrations(split)} == {"second"}
    assert not source.cautions


@pytest.mark.parametrize("best", [None, "highest"])
def test_otherwise_the_highest_is_the_best(files, best):
    source = files([ranked(i, ratings=[2, 9, 3.5]) for i in range(4)], best=best)
    assert {c.ratings for c in comparisons(source)} == {(2.0, 9.0, 3.5)}
    assert not source.cautions


def test_ratings_that_look_like_ranks_are_pointed_out_unless_it_is_said_what_they_are(files):
    rows = [
        ranked(0, ratings=[1, 2, 3]),
        ranked(1, ratings=[2, 1, 3]),
        ranked(2, ratings=[0, 2, 1]),
    ]
    (caution,) = files(rows).cautions
    assert "data.best=lowest" in caution
    assert not files(rows, best="highest").cautions
    assert not files([*rows, ranked(3, ratings=[1, 2, 5])]).cautions


@pytest.mark.parametrize("name", ["rank", "Ranks", "ranking", "human_rank", "averageRank", "Place"])
def test_a_column_of_ranks_is_not_read_before_it_is_said_which_is_the_best(files, name):
    rows = [ranked(i, **{name: [1, 2, 3]}) for i in range(4)]
    with pytest.raises(DataError, match=rf"line 1, column '{name}': .*data\.best=lowest"):
        files(rows, columns={"ratings": name})
    for best, expected in (("lowest", "first"), ("highest", "third")):
        source = files(rows, columns={"ratings": name}, best=best)
        assert {d.response for s in SPLITS for d in source.demonstrations(s)} == {expected}


@pytest.mark.parametrize("name", ["rank", "scores", "rating"])
def test_responses_are_not_best_first_where_another_column_rates_them(files, name):
    rows = [ranked(i, **{name: [3, 2, 1]}) for i in range(4)]
    with pytest.raises(DataError, match=rf"line 1: .*data\.columns\.ratings={name}"):
        files(rows)
    source = files([ranked(i, **{name: 0.5}) for i in range(4)])  # of the row, not of responses
    assert {c.ratings for c in comparisons(source)} == {(2.0, 1.0, 0.0)}


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"responses": [said("assistant", f"{n}") | {"rank": n} for n in (3, 2, 1)]}, "'rank'"),
        ({"responses": [[said("assistant", f"{n}") | {"score": n}] for n in (1, 2)]}, "'score'"),
        ({"annotations": [{"helpfulness": {"Rating": n}} for n in (1, 2, 5)]}, "'Rating'"),
        ({"model_scores": {"a": 1, "b": 2, "c": 3}}, "'model_scores' has 3"),
        ({"humanRank": [3, 1, 1]}, "data.columns.ratings=humanRank"),
        ({"best": 2}, "'best' is 2"),
        ({"chosen_idx": 1}, "'chosen_idx' is 1"),
        ({"chosen": "second"}, "'chosen' is 'second'"),
        ({"label": 1}, "'label' is 1"),
        ({"label": "2"}, "'label' is '2'"),
        ({"is_best": [False, True, False]}, "'is_best'"),
        ({"metadata": {"scores": [1, 2, 3]}}, "'metadata' has 'scores'"),
        ({"ranks": [[3, 1, 2], [2, 1, 3]]}, "'ranks'"),
    ],
)
def test_responses_are_not_best_first_where_anything_rates_them(files, values, found):
    with pytest.raises(DataError) as error:
        files([ranked(0, note="a", best=0), ranked(1, **values)])
    assert "line 2" in str(error.value)
    assert found in str(error.value)
    given = {"ratings": list(range(len(values.get("responses", "abc"))))}
    assert files([ranked(i, **values | given) for i in range(4)]).counts == {"rows": 4}


@pytest.mark.parametrize(
    "values",
    [
        {"best": 0, "label": "helpful"},
        {"chosen": "first", "order_id": 7},
        {"models": ["a", "b", "c"], "lengths": [3, 2, 1]},
        {"responses": [said("assistant", a) | {"rank": None} for a in "abc"], "best_score": 9},
    ],
)
def test_what_agrees_or_says_something_else_leaves_them_best_first(files, values):
    source = files([ranked(i, **values) for i in range(4)])
    assert {c.ratings for c in comparisons(source)} == {(2.0, 1.0, 0.0)}


def test_scores_that_say_the_rejected_response_is_better_are_pointed_out(files):
    right = [row(i, score_chosen=4, score_rejected=4) for i in range(4)]
    assert not files(right).cautions
    wrong = [row(4 + i, score_chosen=2, score_rejected=3) for i in range(3)]
    (caution,) = files([*right, *wrong]).cautions
    assert caution.startswith("in 3 rows score_chosen and score_rejected")
    assert len(files([row(i, chosen_rank=1, rejected_rank=2) for i in range(2)]).cautions) == 0
    assert len(files([row(i, chosen_rank=2, rejected_rank=1) for i in range(2)]).cautions) == 1
    turns = {
        name: [said("assistant", text) | {"rating": n}]
        for name, text, n in (("chosen", GOOD, 1), ("rejected", BAD, "2"))
    }
    assert "in 2 rows rating" in files([row(i, **turns) for i in range(2)]).cautions[0]


def test_a_few_rows_without_ranks_do_not_hide_that_the_others_have_some(files):
    rows = [ranked(i, ratings=[1, 1, 3]) for i in range(19)]
    assert len(files([*rows, ranked(20, ratings=[1, 1, 9])]).cautions) == 1


@pytest.mark.parametrize("rows", [[row(0), row(1)], [ranked(0), ranked(1)]])
def test_an_orientation_without_ratings_is_an_error(files, rows):
    with pytest.raises(DataError, match=r"data\.best=lowest: .*no ratings"):
        files(rows, best="lowest")


# Columns


def test_columns_that_are_not_read_are_named_with_their_number(files):
    rows = [row(0, source="a"), row(1, tools=[{"name": "f"}], input="b", extra=None), row(2)]
    (note,) = files(rows).notes
    assert "not read, 3 in all: 'input', 'source', 'tools'" in note
    assert not files([row(0, strength=1, extra=None), row(1, system="", more=[])]).notes


def test_of_many_columns_some_are_named(files):
    (note,) = files([row(i, **{f"c{j:02}": 1 for j in range(40)}) for i in range(2)]).notes
    assert "40 in all: 'c00'" in note
    assert note.endswith(f"and {40 - note.count(chr(39)) // 2} more")


def test_what_messages_hold_beside_their_text_is_named(files):
    prompt = [said("user", "Hi.") | {"weight": 0}]
    (note,) = files([row(0), row(1, prompt=prompt)]).notes
    assert "weight" in note


@pytest.mark.parametrize("column", ["system", "instructions"])
@pytest.mark.parametrize(
    "form",
    [
        lambda i: row(i),
        lambda i: row(i, prompt=[said("user", question(i))]),
        lambda i: row(i, prompt=[said("system", "Be brief."), said("user", question(i))]),
        lambda i: {
            name: f"\n\nHuman: {question(i)}\n\nAssistant: {text}"
            for name, text in (("chosen", GOOD), ("rejected", BAD))
        },
        lambda i: {
            name: [said("user", question(i)), said("assistant", text)]
            for name, text in (("chosen", GOOD), ("rejected", BAD))
        },
        lambda i: row(
            i,
            **{
                name: [said("user", question(i)), said("assistant", text)]
                for name, text in (("chosen", GOOD), ("rejected", BAD))
            },
        ),
    ],
)
def test_a_system_column_is_the_first_turn_of_the_prompt(files, form, column):
    rows = [form(i) | {column: "Be brief."} for i in range(4)]
    source = files(rows, columns={"system": column})
    system = Message("system", "Be brief.")
    assert pairs(source) == {((system, *turns), a, b) for turns, a, b in plain()}
    assert not source.notes


def test_messages_of_responses_may_repeat_the_system_turn_too(files):
    system = said("system", "Be brief.")
    rows = [
        row(
            i,
            chosen=[system, said("user", question(i)), said("assistant", GOOD)],
            rejected=[said("user", question(i)), said("assistant", BAD)],
            system="Be brief.",
        )
        for i in range(4)
    ]
    expected = {((Message("system", "Be brief."), *turns), a, b) for turns, a, b in plain()}
    assert pairs(files(rows)) == expected
    with pytest.raises(DataError, match="line 1: the messages before"):
        files([{k: v for k, v in r.items() if k != "system"} for r in rows])


@pytest.mark.parametrize("nothing", ["", " ", None, math.nan])
def test_a_system_column_may_be_empty(files, nothing):
    assert pairs(files([row(i, system=nothing) for i in range(4)])) == plain()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"system": "Be brief.", "prompt": [said("system", "Rhyme."), said("user", "?")]}, "Rhyme"),
        ({"system": ["Be brief."]}, "column 'system'"),
        ({"system": 7}, "column 'system'"),
    ],
)
def test_a_system_column_that_cannot_be_used_is_an_error_with_its_line(files, values, words):
    with pytest.raises(DataError, match=rf"line 2.*{words}"):
        files([row(0), row(1, **values)])


# Messages


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"prompt": [said("user", "a"), CALL, said("user", "b")]}, "'prompt', message 2"),
        ({"prompt": [said("user", "a"), said("tool", "3")]}, "'prompt', message 2"),
        ({"chosen": [CALL]}, "'chosen', message 1"),
        ({"rejected": [said("assistant", None)]}, "'rejected', message 1"),
        ({"prompt": [said("user", [{"type": "image_url"}])]}, "'prompt', message 1, part 1"),
    ],
)
def test_what_cannot_be_taught_of_messages_is_an_error_with_its_place(files, values, place):
    with pytest.raises(DataError, match=rf"line 3, column {place}"):
        files([row(0), row(1), row(2, **values)])


def test_messages_in_parts_with_other_names_and_as_text_are_the_same_messages(files):
    def table(user, assistant, write):
        return [
            {
                "prompt": write([said(user, [{"type": "text", "text": question(i)}])]),
                "chosen": write([said(assistant, GOOD)]),
                "rejected": write([said(assistant, [{"type": "text", "text": BAD}])]),
            }
            for i in range(4)
        ]

    for names in (("user", "assistant"), ("human", "gpt")):
        for write in (list, json.dumps, repr):
            assert pairs(files(table(*names, write))) == plain()


@pytest.mark.parametrize("nothing", ["", " \n", []])
@pytest.mark.parametrize("at", [0, 1])
def test_an_empty_turn_before_the_last_is_an_error_with_its_number(files, nothing, at):
    talk = [said("user", "Hi."), said("assistant", "Hello."), said("user", "Why?")]
    talk[at] = said(talk[at]["role"], nothing)
    with pytest.raises(DataError, match=rf"line 2, column 'prompt', message {at + 1}: .*nothing"):
        files([row(0), row(1, prompt=talk)])
    silent = [said("system", ""), said("user", question(1))]
    assert len(comparisons(files([row(0), row(1, prompt=silent), row(2)]))) == 3


def test_a_prompt_whose_answer_has_begun_is_an_error_with_its_line(files):
    for begun in (
        "\n\nHuman: Why?\n\nAssistant: Well,",
        "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nWell,",
        "[INST] Why? [/INST] Well,",
    ):
        for prompt in (begun, [said("user", begun)]):
            with pytest.raises(DataError, match=r"line 2, prompt: .*begun to speak \('Well,'\)"):
                files([row(0), row(1, prompt=prompt)])


def test_a_prompt_that_only_tells_a_dialogue_stays_one_turn_and_is_counted(files):
    prompt = "You are nice.\n\nHuman: Why?\n\nAssistant: Well,"
    source = files([row(0, prompt=prompt), row(1)])
    assert source.counts == {"rows": 2, TOLD: 1}
    assert ((Message("user", prompt),), GOOD, BAD) in pairs(source)


@pytest.mark.parametrize("turns", ["uu", "au", "usu"])
def test_roles_in_another_order_are_left_to_the_chat_template(files, turns):
    names = {"u": "user", "a": "assistant", "s": "system"}
    prompt = [said(names[turn], f"{i}") for i, turn in enumerate(turns)]
    source = files([row(0), row(1, prompt=prompt)])
    expected = tuple(Message(m["role"], m["content"]) for m in prompt)
    assert expected in {c.prompt.messages for c in comparisons(source)}


@pytest.mark.parametrize("unknown", [math.nan, None, "", "nan", "NaN"])
def test_an_unknown_strength_is_unknown(files, unknown):
    source = files([row(0, strength=0.5), row(1, strength=unknown)])
    assert {c.prompt.text: c.strength for c in comparisons(source)} == {
        question(0): 0.5,
        question(1): None,
    }


# Responses that repeat their prompt


@pytest.mark.parametrize("between", [" ", "", "\n", "\n\nAssistant: ", "\n### Response:\n"])
def test_a_prompt_that_all_responses_repeat_is_cut_and_counted(files, between):
    rows = [
        row(i, chosen=f"{question(i)}{between}{GOOD}", rejected=f" {question(i)}{between}{BAD}")
        for i in range(4)
    ]
    source = files(rows)
    assert pairs(source) == plain()
    assert source.counts == {"rows": 4, CUT_REPEATS: 8}
    messages = [r | {"prompt": [said("user", r["prompt"])]} for r in rows]
    assert pairs(files(messages)) == plain()
    rankings = [{"prompt": r["prompt"], "responses": [r["chosen"], r["rejected"]]} for r in rows]
    assert pairs(files(rankings)) == plain()


def test_in_a_file_of_that_layout_a_single_response_that_repeats_is_cut_too(files):
    repeated = [row(i, chosen=question(i) + GOOD, rejected=question(i) + BAD) for i in range(3)]
    source = files([*repeated, row(3, rejected=question(3) + BAD)])
    assert pairs(source) == plain()
    assert source.counts[CUT_REPEATS] == 7


def test_nothing_but_the_prompt_is_an_empty_response(files):
    repeated = [row(i, chosen=question(i) + GOOD, rejected=question(i) + BAD) for i in range(4)]
    source = files([*repeated, row(4, chosen=question(4), rejected=question(4) + BAD)])
    assert pairs(source) == plain()
    assert source.counts["empty"] == 1


def test_one_row_that_happens_to_repeat_its_prompt_is_kept_and_counted(files):
    """Answers to a beginning of a sentence may begin with it."""
    start = "The capital of France"
    odd = row(0, prompt=start, chosen=f"{start} is Paris.", rejected=f"{start} is Rome.")
    source = files([odd, *(row(i) for i in range(1, 12))])
    assert ((Message("user", start),), odd["chosen"], odd["rejected"]) in pairs(source)
    assert source.counts == {"rows": 12, KEPT_REPEATS: 2}


def test_a_response_alone_that_repeats_its_prompt_is_kept_and_counted(files):
    rows = [row(i, rejected=question(i) + " " + BAD) for i in range(4)]
    source = files(rows)
    assert {b for _, _, b in pairs(source)} == {r["rejected"] for r in rows}
    assert source.counts[KEPT_REPEATS] == 4


def test_a_response_that_is_a_transcript_of_its_prompt_is_cut(files):
    def whole(i, text):
        return f"\n\nHuman: {question(i)}\n\nAssistant: {text}"

    source = files([row(i, chosen=whole(i, GOOD), rejected=whole(i, BAD)) for i in range(4)])
    assert pairs(source) == plain()
    assert source.counts[CUT_REPEATS] == 8


@pytest.mark.parametrize("as_turns", [True, False])
def test_a_last_turn_that_the_responses_repeat_is_cut_and_counted(files, as_turns):
    def talk(i):
        if as_turns:
            return [said("user", "Hi"), said("assistant", "Yes?"), said("user", question(i))]
        return f"Human: Hi\n\nAssistant: Yes?\n\nHuman: {question(i)}\n\nAssistant:"

    rows = [
        row(i, prompt=talk(i), chosen=f"{question(i)} {GOOD}", rejected=f"{question(i)}\n{BAD}")
        for i in range(4)
    ]
    source = files(rows)
    assert {(a, b) for _, a, b in pairs(source)} == {(GOOD, BAD)}
    assert source.counts[CUT_REPEATS] == 8
    short = [said("user", "Hi"), said("assistant", "Yes?"), said("user", "I")]
    odd = [row(i, prompt=short, chosen="In it.", rejected=f"It is {i}.") for i in range(3)]
    source = files([*odd, row(3)])
    assert {a for _, a, _ in pairs(source)} == {"In it.", GOOD}
    assert source.counts[CUT_REPEATS] == source.counts[KEPT_REPEATS] == 0


@pytest.mark.parametrize(
    "token",
    ["<|im_end|>", "</s>", "<|endoftext|>", "<|eot_id|>\n", " <end_of_turn>", "</s><|im_end|>"],
)
def test_tokens_that_end_most_answers_of_a_file_are_cut_and_counted(files, token):
    ended = [row(i, chosen=GOOD + token, rejected=BAD + token) for i in range(3)]
    source = files([*ended, row(3)])
    assert pairs(source) == plain()
    assert source.counts == {"rows": 4, CUT_ENDS: 6}
    source = files([ended[0], *(row(i) for i in range(1, 4))])
    assert GOOD + token in {a for _, a, _ in pairs(source)}
    assert CUT_ENDS not in source.counts


@pytest.mark.parametrize(
    "marker",
    [
        *(
            "Assistant: ",
            "\n\nAssistant: ",
            "### Response:\n",
            "<|im_start|>assistant\n",
            "[/INST] ",
        ),
        *("**Assistant:** ", "assistant: ", "<s> ", "<s>Assistant:"),
    ],
)
def test_a_marker_with_which_most_answers_of_a_file_begin_is_cut_and_counted(files, marker):
    begun = [row(i, chosen=marker + GOOD, rejected=marker + BAD) for i in range(3)]
    source = files([*begun, row(3)])
    assert pairs(source) == plain()
    assert source.counts == {"rows": 4, CUT_MARKERS: 6}
    source = files([begun[0], *(row(i) for i in range(1, 4))])
    assert marker + GOOD in {a for _, a, _ in pairs(source)}
    assert CUT_MARKERS not in source.counts


def test_a_token_that_ends_a_repeated_transcript_is_cut_too(files):
    form = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>"
    rows = [row(i) for i in range(3)]
    rows += [row(3, chosen=form.format(question(3), GOOD), rejected=form.format(question(3), BAD))]
    assert pairs(files(rows)) == plain()


# Transcripts


@pytest.mark.parametrize("end", ["\n\nAssistant:", ""])
def test_a_transcript_as_prompt_becomes_its_turns(files, end):
    start = "\n\nHuman: Hi\n\nAssistant: Hello"
    rows = [row(i, prompt=f"{start}\n\nHuman: {question(i)}{end}") for i in range(4)]
    source = files(rows)
    before = (Message("user", "Hi"), Message("assistant", "Hello"))
    assert pairs(source) == {((*before, *turns), a, b) for turns, a, b in plain()}
    assert source.counts == {"rows": 4, TRANSCRIPTS: 4}
    rows = [r | {"prompt": [said("user", r["prompt"])]} for r in rows]
    assert pairs(files(rows)) == pairs(source)


def test_messages_of_responses_may_repeat_a_prompt_that_is_a_transcript(files):
    def told(i, text):
        return [said("user", question(i)), said("assistant", text)]

    rows = [
        {"prompt": f"Human: {question(i)}\n\nAssistant:", "chosen": told(i, GOOD), "rejected": BAD}
        for i in range(4)
    ]
    assert pairs(files(rows)) == plain()


def test_a_transcript_as_prompt_that_the_responses_repeat(files):
    def asked(i):
        return f"\n\nHuman: {question(i)}\n\nAssistant:"

    rows = [
        row(i, prompt=asked(i), chosen=f"{asked(i)} {GOOD}", rejected=f"{asked(i)} {BAD}")
        for i in range(4)
    ]
    assert pairs(files(rows)) == plain()


def test_responses_end_where_another_turn_begins_and_are_counted(files):
    more = "\n\nHuman: And?\n\nAssistant: So."
    source = files([row(i, chosen=GOOD + more) for i in range(3)] + [row(3, rejected=BAD + more)])
    assert pairs(source) == plain()
    assert source.counts == {"rows": 4, CUT_TURNS: 4}


def test_dialogues_that_part_early_teach_the_first_response_in_which_they_differ(files):
    head = "\n\nHuman: {}\n\nAssistant: "
    rows = [
        {
            "chosen": head.format(question(i))
            + GOOD
            + "\n\nHuman: And?\n\nAssistant: Put it away.",
            "rejected": head.format(question(i)) + BAD + "\n\nHuman: Really?\n\nAssistant: Yes.",
        }
        for i in range(4)
    ]
    same = {name: head.format("?") + f"So.\n\nHuman: {name}" for name in ("chosen", "rejected")}
    source = files([*rows, same])
    assert pairs(source) == plain()
    assert source.counts == {"rows": 5, CUT_TURNS: 8, "identical": 1}


def test_what_is_empty_after_cutting_is_left_out_and_counted(files):
    rows = [row(i) for i in range(4)] + [row(4, chosen="\n\nHuman: And?\n\nAssistant: So.")]
    source = files(rows)
    assert pairs(source) == plain()
    assert source.counts == {"rows": 5, CUT_TURNS: 1, "empty": 1}


# Agreement, and rows that come to nothing later


def test_contradictory_pairs_are_counted_and_kept(files):
    turned = row(0, chosen=BAD, rejected=GOOD)
    source = files([row(0), turned, row(1), row(2), row(2)])
    assert len(comparisons(source)) == 5
    assert source.counts == {"rows": 5, CONTRADICTORY: 1, "repeated pairs": 1}


def test_a_refused_prompt_names_the_line_of_its_first_row(files):
    rows = [row(0), row(1), row(2, chosen="a"), row(2, chosen="b"), row(3)]
    source = files(rows)
    with pytest.raises(DataError, match=r"rows\.jsonl, line 3: no system turns"):
        source.refuse({Prompt.from_text(question(2)): "no system turns"})


def test_rows_without_any_of_it_are_what_they_say(files):
    """Nothing is stripped, joined or reordered where there is nothing to mend."""
    texts = ["  spaces  ", "User: root\nPassword: x", "\n\n### Human rights", "[INST] </s> <|eos|>"]
    rows = [
        row(i, prompt=f" {text} {i} ", chosen=text, rejected=f"{text}!")
        for i, text in enumerate(texts)
    ]
    assert set(comparisons(files(rows))) == {
        Preference(Prompt.from_text(r["prompt"]), r["chosen"], r["rejected"]) for r in rows
    }
    rankings = [ranked(i, ratings=[0.5, 2, 2]) for i in range(3)]
    assert set(comparisons(files(rankings))) == {
        Ranking(Prompt.from_text(question(i)), ("first", "second", "third"), (0.5, 2.0, 2.0))
        for i in range(3)
    }
