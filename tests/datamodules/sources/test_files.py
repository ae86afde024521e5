import csv
import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.records import DataError, Message, Preference, Prompt, Ranking
from datamodules.sources.files import Files

SHARED = Path(__file__).parents[3] / "../shared/data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no folder {SHARED}")
SPLITS = ("train", "val")
TALK = (Message("user", "Hi."), Message("assistant", "Hello."), Message("user", "Why so?"))


def row(prompt, chosen="good", rejected="bad"):
    return {"prompt": str(prompt), "chosen": chosen, "rejected": rejected}


def rows(count, each=1):
    return [row(f"question {i}", f"good {j}") for i in range(count) for j in range(each)]


def to_jsonl(path, table):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(r) + "\n" for r in table)
    return path


def to_csv(path, table):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return path


def to_parquet(path, table):
    pq.write_table(pa.Table.from_pylist(table), path)
    return path


WRITERS = {".jsonl": to_jsonl, ".jsonl.gz": to_jsonl, ".csv": to_csv, ".parquet": to_parquet}


def read(path, **options):
    source = Files(path=str(path), **options)
    return {split: source.preferences(split) for split in SPLITS}


def everything(source):
    return {pair for split in SPLITS for pair in source.preferences(split)}


def prompts(pairs):
    return {pair.prompt for pair in pairs}


def fail(path, **options):
    with pytest.raises(DataError) as error:
        Files(path=str(path), **options)
    return str(error.value)


# Formats


@pytest.mark.parametrize("ending", WRITERS)
def test_every_format_gives_the_same_pairs(tmp_path, ending):
    hard = 'Ünï, "quoted"\nlines;\r\n你好 🙂\n\n  indented'
    table = [*rows(20, 2), row(hard, hard + ".", "no"), row("x", "long " * 50_000)]
    pairs = read(WRITERS[ending](tmp_path / f"pairs{ending}", table))
    expected = [
        Preference(Prompt.from_text(r["prompt"]), r["chosen"], r["rejected"]) for r in table
    ]
    assert sorted(pairs["train"] + pairs["val"], key=str) == sorted(expected, key=str)
    assert pairs == read(to_jsonl(tmp_path / "same.jsonl", table))


def test_blank_lines_and_further_columns_do_not_matter(tmp_path):
    table = rows(5)
    path, spaced = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    spaced.write_text(
        "\n\n".join(json.dumps({**r, "source": 0.5}) for r in table) + "\n\n", encoding="utf-8"
    )
    assert read(spaced) == read(to_jsonl(path, table))


# Rows


def chat(*messages):
    return [m._asdict() for m in messages]


def transcript(*messages):
    names = {"user": "Human", "assistant": "Assistant"}
    return "".join(f"\n\n{names[m.role]}: {m.content}" for m in messages)


def with_response(form, turns, response):
    return form(*turns, Message("assistant", response))


FORMS = {
    "messages, text": lambda t, a: (chat(*t), a),
    "messages, response": lambda t, a: (chat(*t), with_response(chat, (), a)),
    "messages, response with its prompt": lambda t, a: (chat(*t), with_response(chat, t, a)),
    "no prompt, messages": lambda t, a: (None, with_response(chat, t, a)),
    "no prompt, transcripts": lambda t, a: (None, with_response(transcript, t, a)),
}
ONE_TURN_FORMS = FORMS | {
    "text, text": lambda t, a: (t[0].content, a),
    "text, response with its prompt": lambda t, a: (t[0].content, with_response(chat, t, a)),
}
RESPONSES = ("It is good.", "It is bad.")


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("form", "turns"),
    [(form, TALK) for form in FORMS] + [(form, TALK[:1]) for form in ONE_TURN_FORMS],
)
def test_every_form_of_a_row_gives_the_same_pair(tmp_path, form, turns, ending):
    table = []
    for first in ("One?", "Two?"):
        turns = (Message("user", first), *turns[1:])
        (prompt, chosen), (_, rejected) = (ONE_TURN_FORMS[form](turns, a) for a in RESPONSES)
        record = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        table.append({k: v for k, v in record.items() if v is not None})
    source = Files(path=str(WRITERS[ending](tmp_path / f"pairs{ending}", table)))
    assert everything(source) == {
        Preference(Prompt((Message("user", first), *turns[1:])), *RESPONSES)
        for first in ("One?", "Two?")
    }


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ("Yes.", "No."),
        ("I think it is.", "I think it is not."),
        ("Yes", "Yes, but no"),
        ("A list:\n\n1. one", "A list:\n\n2. two"),
    ],
)
def test_transcripts_are_split_where_the_last_shared_response_begins(tmp_path, chosen, rejected):
    head = transcript(*TALK) + "\n\nAssistant: "
    table = [
        {"chosen": start + head + chosen, "rejected": start + head + rejected}
        for start in ("", "\n\nHuman: So?\n\nAssistant: So.")
    ]
    before = (Message("user", "So?"), Message("assistant", "So."))
    assert everything(Files(path=str(to_jsonl(tmp_path / "hh.jsonl", table)))) == {
        Preference(Prompt(TALK), chosen, rejected),
        Preference(Prompt(before + TALK), chosen, rejected),
    }


def test_mapped_columns_give_the_same_pairs(tmp_path):
    names = {"prompt": "instruction", "chosen": "output_1", "rejected": "output_2"}
    table = rows(8)
    mapped = [{names[k]: v for k, v in r.items()} | {"prompt": "a trap"} for r in table]
    path = to_csv(tmp_path / "mapped.csv", mapped)
    assert read(path, columns=names) == read(to_csv(tmp_path / "plain.csv", table))


def test_mapping_chosen_and_rejected_the_other_way_swaps_them(tmp_path):
    path = to_jsonl(tmp_path / "a.jsonl", rows(4))
    swapped = Files(path=str(path), columns={"chosen": "rejected", "rejected": "chosen"})
    assert {(p.chosen, p.rejected) for p in everything(swapped)} == {("bad", "good 0")}


# Strengths and rankings


def ranked(prompt, responses=("a", "b", "c"), ratings=(1.5, 4, 1.5)):
    record = {"prompt": str(prompt), "responses": list(responses), "ratings": ratings}
    return {k: v if k != "ratings" else list(v) for k, v in record.items() if v is not None}


def comparisons(source):
    return {c.prompt.text: c for split in SPLITS for c in source.comparisons(split)}


@pytest.mark.parametrize("ending", WRITERS)
def test_a_column_of_strengths_is_read(tmp_path, ending):
    table = [row(i) | {"strength": s} for i, s in enumerate((0.25, 3.0, 0.0, None))]
    source = Files(path=str(WRITERS[ending](tmp_path / f"pairs{ending}", table)))
    assert {name: c.strength for name, c in comparisons(source).items()} == {
        "0": 0.25,
        "1": 3.0,
        "3": None,
    }
    assert source.counts["tie"] == 1  # of which neither is better


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".parquet"])
def test_responses_with_ratings_are_rankings_and_ties_stay(tmp_path, ending):
    table = [ranked(i) for i in range(4)]
    source = Files(path=str(WRITERS[ending](tmp_path / f"rankings{ending}", table)))
    assert comparisons(source) == {
        str(i): Ranking(Prompt.from_text(str(i)), ("a", "b", "c"), (1.5, 4.0, 1.5))
        for i in range(4)
    }


def test_responses_without_ratings_are_best_first(tmp_path):
    path = to_jsonl(tmp_path / "a.jsonl", [ranked(i, ratings=None) for i in range(2)])
    for ranking in comparisons(Files(path=str(path))).values():
        pairs = [(p.chosen, p.rejected) for p in ranking.preferences()]
        assert pairs == [("a", "b"), ("a", "c"), ("b", "c")]


@pytest.mark.parametrize("with_prompt", [True, False])
def test_the_responses_of_a_ranking_may_be_messages(tmp_path, with_prompt):
    table = []
    for first in ("One?", "Two?"):
        turns = (Message("user", first), *TALK[1:])
        prompt = {"prompt": chat(*turns)} if with_prompt else {}
        responses = [with_response(chat, turns, response) for response in "abc"]
        table.append(prompt | {"responses": responses, "ratings": [2, 1, 3]})
    source = Files(path=str(to_jsonl(tmp_path / "a.jsonl", table)))
    assert {c for s in SPLITS for c in source.comparisons(s)} == {
        Ranking(Prompt((Message("user", first), *TALK[1:])), ("a", "b", "c"), (2, 1, 3))
        for first in ("One?", "Two?")
    }


def test_columns_of_strengths_and_rankings_can_be_mapped(tmp_path):
    pairs = [row(i) | {"margin": 0.5} for i in range(2)]
    source = Files(path=str(to_jsonl(tmp_path / "a.jsonl", pairs)), columns={"strength": "margin"})
    assert {c.strength for c in comparisons(source).values()} == {0.5}
    table = [row(i) | {"texts": ["x", "y"], "scores": [1, 2]} for i in range(2)]
    columns = {"responses": "texts", "ratings": "scores"}
    source = Files(path=str(to_jsonl(tmp_path / "b.jsonl", table)), columns=columns)
    assert {c.responses for c in comparisons(source).values()} == {("x", "y")}


def test_rankings_that_say_nothing_are_counted_by_reason(tmp_path):
    table = [
        *(ranked(i) for i in range(4)),
        ranked("tie", ratings=(2, 2, 2)),
        ranked("empty", ("a", " ", "")),
        ranked("same", ("a", "a", "a")),
        ranked(" "),
        ranked("repeated", ("a", "b", "a", " "), (1, 2, 3, 4)),
    ]
    source = Files(path=str(to_jsonl(tmp_path / "a.jsonl", table)))
    assert source.counts == {"rows": 9, "tie": 1, "empty": 2, "identical": 1}
    assert (comparisons(source)["repeated"].responses, comparisons(source)["repeated"].ratings) == (
        ("a", "b"),
        (1, 2),
    )


def test_rankings_are_split_by_prompt_as_pairs_are(tmp_path):
    rankings = Files(path=str(to_jsonl(tmp_path / "a.jsonl", [ranked(i) for i in range(20)])))
    pairs = Files(path=str(to_jsonl(tmp_path / "b.jsonl", [row(i) for i in range(20)])))
    for split in SPLITS:
        assert rankings.prompts(split) == pairs.prompts(split)


@pytest.mark.parametrize("tables", [(ranked, row), (row, ranked)])
def test_pairs_and_rankings_in_one_file_are_an_error(tmp_path, tables):
    path = to_jsonl(tmp_path / "a.jsonl", [tables[0](1), tables[0](2), tables[1](3)])
    message = fail(path)
    assert "line 3" in message
    assert "keep pairs and rankings in files of their own" in message


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (row(1) | {"strength": "strong"}, ["'strength'", "number", "'strong'"]),
        (row(1) | {"strength": True}, ["'strength'", "True"]),
        (row(1) | {"strength": float("inf")}, ["'strength'", "inf"]),
        (row(1) | {"strength": -1}, ["'strength'", "-1", "swap"]),
        (ranked(1, "ab", (1, "x")), ["'ratings'", "number", "'x'"]),
        (ranked(1, "ab", (1, 2, 3)), ["'ratings'", "list of 2 numbers"]),
        (ranked(1) | {"ratings": 3}, ["'ratings'", "list of 3 numbers"]),
        (ranked(1, "a", (1,)), ["'responses'", "at least two"]),
        (ranked(1) | {"responses": "a"}, ["'responses'", "at least two"]),
        (ranked(1, ("a", 7), (1, 2)), ["'responses', number 2", "7"]),
        ({"responses": ["a", "b"], "ratings": [1, 2]}, ["data.columns.prompt"]),
    ],
)
def test_a_bad_strength_or_ranking_is_an_error_with_its_place(tmp_path, record, words):
    good = row(0) if "chosen" in record else ranked(0)
    message = fail(to_jsonl(tmp_path / "a.jsonl", [good, record]))
    assert "line 2" in message
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("column", ["strength", "responses", "ratings"])
def test_a_column_that_was_named_must_be_there(tmp_path, column):
    table = [(ranked if column == "ratings" else row)(i) for i in range(2)]
    message = fail(to_jsonl(tmp_path / "a.jsonl", table), columns={column: "other"})
    assert "no column 'other'" in message
    assert f"data.columns.{column}" in message


# Splits


def test_the_split_is_by_prompt(tmp_path):
    pairs = read(to_jsonl(tmp_path / "a.jsonl", rows(20, 3)), held_out=0.25)
    held_out = prompts(pairs["val"])
    assert not prompts(pairs["train"]) & held_out
    assert len(held_out) == 5
    assert len(pairs["val"]) == 15
    assert len(pairs["train"]) == 45


def test_the_split_does_not_depend_on_the_order_of_the_rows(tmp_path):
    table = rows(30, 2)
    pairs = read(to_jsonl(tmp_path / "a.jsonl", table))
    random.Random(0).shuffle(table)
    shuffled = read(to_jsonl(tmp_path / "b.jsonl", table))
    for split in SPLITS:
        assert set(shuffled[split]) == set(pairs[split])
        assert shuffled[split] != pairs[split]
    kept = [r["prompt"] for r in table if Prompt.from_text(r["prompt"]) in prompts(pairs["train"])]
    assert [p.prompt.text for p in shuffled["train"]] == kept


def test_held_out_prompts_are_not_the_first_in_any_natural_order(tmp_path):
    held_out = prompts(read(to_jsonl(tmp_path / "a.jsonl", rows(40)), held_out=0.25)["val"])
    in_file = [f"question {i}" for i in range(40)]
    for order in (in_file, sorted(in_file)):
        places = sorted(order.index(prompt.text) for prompt in held_out)
        assert places[0] < 20 <= places[-1]
        assert places[-1] - places[0] > len(places)


def test_a_larger_share_holds_out_more_of_the_same(tmp_path):
    path = to_jsonl(tmp_path / "a.jsonl", rows(20))
    small, large = (prompts(read(path, held_out=share)["val"]) for share in (0.01, 0.5))
    assert (len(small), len(large)) == (1, 10)
    assert small < large


@pytest.mark.parametrize("held_out", [0.01, 0.5, 0.9, 0.99])
def test_two_prompts_are_enough_for_both_splits(tmp_path, held_out):
    pairs = read(to_jsonl(tmp_path / "a.jsonl", rows(2)), held_out=held_out)
    assert {split: len(pairs[split]) for split in SPLITS} == {"train": 1, "val": 1}


def test_a_second_file_is_held_out_and_its_prompts_leave_the_training_set(tmp_path):
    path = to_jsonl(tmp_path / "train.jsonl", rows(6, 2))
    held_out = to_csv(tmp_path / "val.csv", [row("question 0", "other"), row("new")])
    source = Files(path=str(path), val_path=str(held_out))
    assert [p.prompt.text for p in source.preferences("val")] == ["question 0", "new"]
    train = source.preferences("train")
    assert prompts(train) == {Prompt.from_text(f"question {i}") for i in range(1, 6)}
    assert len(train) == 10
    assert source.counts["prompt also in val_path"] == 2
    assert source.counts["rows"] == 14


def test_pairs_of_identical_responses_are_dropped_and_counted(tmp_path):
    table = [row("same", "good", "good"), *rows(4), row("question 1", "x", "x")]
    source = Files(path=str(to_jsonl(tmp_path / "a.jsonl", table)))
    assert len(everything(source)) == 4
    assert Prompt.from_text("same") not in prompts(everything(source))
    assert source.counts["identical"] == 2
    assert source.counts["rows"] == 6


@pytest.mark.parametrize(
    "nothing",
    [
        row("  "),
        row("q", ""),
        row("q", "a", " \n"),
        row("q", [{"role": "assistant", "content": " "}]),
        {"chosen": "\n\nHuman: q\n\nAssistant: ", "rejected": "\n\nHuman: q\n\nAssistant: a"},
    ],
)
def test_rows_without_words_are_dropped_and_counted(tmp_path, nothing):
    source = Files(path=str(to_jsonl(tmp_path / "a.jsonl", [nothing, *rows(4)])))
    assert everything(source) == everything(
        Files(path=str(to_jsonl(tmp_path / "b.jsonl", rows(4))))
    )
    assert source.counts == {"rows": 5, "empty": 1}


def test_the_limit_counts_pairs_and_nothing_after_it_is_read(tmp_path):
    path = to_jsonl(tmp_path / "a.jsonl", [row("same", "x", "x"), *rows(9)])
    with open(path, "a", encoding="utf-8") as file:
        file.write("not JSON\n")
    source = Files(path=str(path), limit=9)
    assert len(everything(source)) == 9
    first = {Prompt.from_text(f"question {i}") for i in range(3)}
    assert prompts(everything(Files(path=str(path), limit=3))) == first
    assert "line 11" in fail(path, limit=10)


# Identity


def test_the_identity_changes_with_the_records_and_not_with_the_place(tmp_path):
    path, moved = (to_jsonl(tmp_path / n, rows(6)) for n in ("a.jsonl", "b.jsonl"))
    identity = Files(path=str(path)).identity()
    assert json.loads(json.dumps(identity)) == identity
    assert Files(path=str(moved)).identity() == identity
    val = to_jsonl(tmp_path / "val.jsonl", [row("new")])
    others = [
        Files(path=str(to_jsonl(moved, rows(7)))).identity(),
        Files(path=str(path), val_path=str(val)).identity(),
        Files(path=str(path), val_path=str(to_jsonl(val, [row("newer")]))).identity(),
        Files(path=str(path), held_out=0.5).identity(),
        Files(path=str(path), limit=3).identity(),
        Files(path=str(path), columns={"chosen": "rejected", "rejected": "chosen"}).identity(),
        Files(path=str(path), columns={"system": "prompt"}).identity(),
    ]
    distinct = {json.dumps(i, sort_keys=True) for i in (identity, *others)}
    assert len(distinct) == 8


def test_the_identity_says_which_rating_is_the_best(tmp_path):
    path = to_jsonl(tmp_path / "a.jsonl", [ranked(i) for i in range(2)])
    unsaid, highest, lowest = (
        Files(path=str(path), best=best).identity() for best in (None, "highest", "lowest")
    )
    assert unsaid == highest != lowest


# Errors

GOOD = json.dumps(row("question"))
HEADER = "prompt,chosen,rejected\nq,a,b\n"
HH = "\n\nHuman: q\n\nAssistant:"
USER, ASSISTANT = ({"role": role, "content": "x"} for role in ("user", "assistant"))


def second(**values):
    """A JSONL file whose second line has other values (None: no such column)."""
    return f"{GOOD}\n{json.dumps({k: v for k, v in (row('q') | values).items() if v is not None})}"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.jsonl", f'{GOOD}\n\n{{"prompt": "q"\n{GOOD}\n', ["line 3", "JSON"]),
        ("a.jsonl", f"{GOOD}\n[1, 2]\n", ["line 2", "object"]),
        ("a.jsonl", second(rejected=None), ["line 2", "'rejected'", "before it have"]),
        ("a.jsonl", second(prompt=None), ["line 2", "'prompt'", "data.columns.prompt"]),
        ("a.jsonl", second(prompt=[]), ["line 2", "'prompt'", "messages"]),
        ("a.jsonl", second(chosen=7), ["line 2", "'chosen'", "7"]),
        ("a.jsonl", second(prompt=["a"]), ["line 2", "'prompt'", "messages"]),
        ("a.jsonl", second(prompt=[{"role": "user"}]), ["line 2", "'prompt'", "messages"]),
        ("a.jsonl", second(chosen=[USER]), ["line 2", "assistant"]),
        (
            "a.jsonl",
            second(prompt=None, chosen=[USER, ASSISTANT], rejected="b"),
            ["line 2", "messages"],
        ),
        (
            "a.jsonl",
            second(prompt=None, chosen=[USER, ASSISTANT], rejected=[ASSISTANT]),
            ["line 2", "'prompt'"],
        ),
        (
            "a.jsonl",
            second(prompt=None, chosen=HH + "a", rejected="\n\nHuman: p\n\nAssistant: b"),
            ["line 2", "transcripts"],
        ),
        ("a.jsonl", f"{GOOD}\n".encode() + b'{"prompt": "\xe9"}', ["line 2, byte 13", "UTF-8"]),
        ("a.jsonl", "", ["no comparisons in it"]),
        ("a.jsonl", json.dumps(row("q", "a", "a")), ["no comparisons in it", "1 identical"]),
        ("a.jsonl", json.dumps(row("q", "")), ["no comparisons in it", "1 empty"]),
        ("a.jsonl", f"{GOOD}\n{GOOD}\n", ["two different prompts"]),
        ("a.jsonl.gz", f"{GOOD}\n", ["cannot be read", "zip"]),
        ("a.csv", "", ["no comparisons in it"]),
        ("a.csv", HEADER + "q,a\n", ["line 3", "fields"]),
        ("a.csv", HEADER + "q,a,b,c\n", ["line 3", "fields"]),
        ("a.csv", "prompt,chosen\nq,a\n", ["line 1", "'rejected'", "data.columns.rejected"]),
        ("a.csv", HEADER.encode() + b"\xe9,a,b\n", ["line 3, byte 1", "UTF-8"]),
        ("a.parquet", GOOD, ["Parquet"]),
        ("a.parquet", "", ["Parquet"]),
        ("a.txt", GOOD, [".jsonl", ".csv", ".parquet"]),
        ("pairs", GOOD, [".jsonl", ".csv", ".parquet"]),
    ],
)
def test_what_cannot_be_read_is_an_error_with_its_place(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    message = fail(path)
    assert str(path) in message
    assert [word for word in words if word not in message] == []


def test_errors_of_a_parquet_row_name_the_row(tmp_path):
    path = to_parquet(tmp_path / "a.parquet", [*rows(2), row("q", None)])
    message = fail(path)
    assert f"{path}, row 3, column 'chosen'" in message


def test_errors_use_the_names_of_the_file(tmp_path):
    path = to_jsonl(tmp_path / "a.jsonl", [{"q": "x", "chosen": 7, "rejected": "b"}])
    assert "line 1, column 'chosen'" in fail(path, columns={"prompt": "q"})
    assert "no column 'other'" in fail(path, columns={"prompt": "other"})


def test_a_gzip_file_that_ends_too_early_is_an_error(tmp_path):
    path = to_jsonl(tmp_path / "a.jsonl.gz", rows(500))
    path.write_bytes(path.read_bytes()[:-100])
    assert f"{path}, after line" in fail(path)


def test_a_gzip_file_with_damaged_content_is_an_error(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    header, reserved_block_type = gzip.compress(b"")[:10], b"\x07"
    path.write_bytes(header + reserved_block_type * 20)
    assert f"{path}: cannot be read" in fail(path)


def test_a_parquet_file_with_damaged_content_is_an_error(tmp_path):
    path = to_parquet(tmp_path / "a.parquet", rows(99))
    content = path.read_bytes()
    path.write_bytes(content[:4] + b"\xff" * 99 + content[103:])
    assert str(path) in fail(path)


@pytest.mark.parametrize("option", ["path", "val_path"])
def test_a_missing_file_is_an_error(tmp_path, option):
    path = to_jsonl(tmp_path / "a.jsonl", rows(4))
    missing = tmp_path / "missing.jsonl"
    message = fail(**{"path": path, option: str(missing)})
    assert str(missing) in message
    assert "no such file" in message


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("path", None),
        ("path", ""),
        ("held_out", 0),
        ("held_out", 1),
        ("held_out", -0.1),
        ("limit", 0),
        ("limit", 1),
        ("max_prompt_tokens", 0),
        ("max_response_tokens", 0),
        ("columns", {"promt": "q"}),
    ],
)
def test_a_bad_option_is_an_error_that_names_it(tmp_path, option, value):
    options = {"path": str(to_jsonl(tmp_path / "a.jsonl", rows(4))), option: value}
    with pytest.raises(DataError, match=rf"data\.{option}"):
        Files(**options)


@pytest.mark.parametrize("cause", ["val_path", "limit"])
def test_an_empty_split_is_blamed_on_the_option_that_emptied_it(tmp_path, cause):
    path = to_jsonl(tmp_path / "a.jsonl", rows(4, 2))
    assert cause in fail(path, **{cause: {"val_path": str(path), "limit": 2}[cause]})


@pytest.mark.parametrize(
    "prompt",
    [[{"role": "robot", "content": "q"}], [USER, ASSISTANT]],
    ids=["unknown role", "ends with the assistant"],
)
def test_a_prompt_that_no_chat_template_can_continue_is_an_error(tmp_path, prompt):
    table = [*rows(2), row("q") | {"prompt": prompt}]
    assert "line 3" in fail(to_jsonl(tmp_path / "a.jsonl", table))


def test_a_response_to_other_messages_than_its_prompt_is_an_error(tmp_path):
    response = chat(*TALK, Message("assistant", "Because."))
    table = [*rows(2), row("Hi.") | {"chosen": response}]
    assert "line 3" in fail(to_jsonl(tmp_path / "a.jsonl", table))


# Real files


@needs_shared
def test_alpaca_eval_is_read_whole():
    source = Files(path=str(SHARED / "alpaca_eval_train.jsonl.gz"))
    train, val = (source.preferences(split) for split in SPLITS)
    assert len(train) + len(val) == 6760
    assert len(prompts(train)) + len(prompts(val)) == 685
    assert len(prompts(val)) == round(685 * 0.1)
    # The set's README: the longer response wins 87% of the time.
    longer = sum(len(pair.chosen) > len(pair.rejected) for pair in train + val) / 6760
    assert longer == pytest.approx(0.87, abs=0.005)
    assert all(0 < pair.strength <= 1 for pair in train + val)


@needs_shared
def test_hh_is_read_but_for_what_is_counted_as_left_out():
    source = Files(path=str(SHARED / "hh_harmless.jsonl.gz"))
    pairs = [pair for split in SPLITS for pair in source.preferences(split)]
    assert source.counts["rows"] == 1700
    left_out = sum(source.counts[why] for why in ("empty", "identical", "tie"))
    assert len(pairs) + left_out == 1700
    assert left_out < 10
    for pair in pairs:
        roles = [message.role for message in pair.prompt.messages]
        assert set(roles) <= {"user", "assistant"}
        assert roles[0] == roles[-1] == "user"
