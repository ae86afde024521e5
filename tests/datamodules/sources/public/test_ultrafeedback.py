import json
import math

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra.errors import InstantiationException

from datamodules.records import DataError, Message, Preference, Prompt, Ranking
from datamodules.sources.public.ultrafeedback import UltraFeedback

SPLITS = ("train", "val")


def turn(role, content):
    return {"role": role, "content": content}


def binarized(prompt, chosen="good", rejected="bad", scores=(8.0, 6.5)):
    """A row of HuggingFaceH4/ultrafeedback_binarized."""
    user = turn("user", prompt)
    return {
        "prompt": prompt,
        "prompt_id": f"id of {prompt}",
        "chosen": [user, turn("assistant", chosen)],
        "rejected": [user, turn("assistant", rejected)],
        "messages": [user, turn("assistant", chosen)],
        "score_chosen": scores[0],
        "score_rejected": scores[1],
    }


def completion(response, overall, fine=3.25):
    aspect = {"Rating": "4", "Rationale": "None."}
    typed = aspect | {"Type": ["1"], "Rationale For Rating": "None."}
    return {
        "annotations": {
            "helpfulness": typed,
            "honesty": aspect,
            "instruction_following": aspect,
            "truthfulness": typed,
        },
        "custom_system_prompt": "You are helpful.",
        "critique": "None.",
        "fine-grained_score": fine,
        "model": "llama-2-7b-chat",
        "overall_score": overall,
        "principle": "helpfulness",
        "response": response,
    }


def rated(instruction, *completions):
    """A row of openbmb/UltraFeedback."""
    return {
        "source": "evol_instruct",
        "instruction": instruction,
        "models": ["llama-2-7b-chat"] * len(completions),
        "completions": list(completions),
        "correct_answers": ["None"],
        "incorrect_answers": ["None"],
    }


def to_parquet(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(table), path)
    return path


def to_jsonl(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")
    return path


def repository(folder, train, val):
    """Laid out as HuggingFaceH4/ultrafeedback_binarized is, with splits that are for other ends."""
    names = {"train_prefs": train, "test_prefs": val, "train_sft": val, "test_gen": train}
    for name, table in names.items():
        to_parquet(folder / f"data/{name}-00000-of-00001.parquet", table)
    return folder


def read(path, **options):
    return UltraFeedback(path=str(path), **options)


def everything(source):
    return [c for split in SPLITS for c in source.comparisons(split)]


@pytest.mark.parametrize("streaming", [False, True])
def test_binarized_pairs_have_the_difference_of_their_scores(tmp_path, streaming):
    train = [binarized(f"question {i}") for i in range(3)]
    val = [binarized("held out", "yes", "no", (7.0, 7.5))]
    source = read(repository(tmp_path, train, val), streaming=streaming)
    assert source.comparisons("train") == [
        Preference(Prompt.from_text(f"question {i}"), "good", "bad", strength=1.5) for i in range(3)
    ]
    # The scores decide which response is the better one.
    assert source.comparisons("val") == [
        Preference(Prompt.from_text("held out"), "no", "yes", strength=0.5)
    ]
    assert source.counts == {"rows": 4, "kept": 4, "prompt also in held-out split": 0}


def test_the_form_without_a_prompt_has_it_in_its_conversations(tmp_path):
    before = [turn("user", "Hi."), turn("assistant", "Hello."), turn("user", "Why?")]
    row = binarized("", "good", "bad")
    row |= {c: before + row[c][-1:] for c in ("chosen", "rejected")}
    for column in ("prompt", "prompt_id", "messages"):
        del row[column]
    to_parquet(tmp_path / "data/train-00000-of-00001.parquet", [row])
    other = row | {"chosen": row["chosen"][2:], "rejected": row["rejected"][2:]}
    to_parquet(tmp_path / "data/test-00000-of-00001.parquet", [other])
    source = read(tmp_path)
    talk = Prompt(tuple(Message(m["role"], m["content"]) for m in before))
    assert source.comparisons("train") == [Preference(talk, "good", "bad", strength=1.5)]
    assert source.comparisons("val")[0].prompt == Prompt.from_text("Why?")


def test_binarized_rows_that_say_nothing_are_counted_by_reason(tmp_path):
    broken = binarized("broken")
    broken["rejected"] = [turn("user", "another"), turn("assistant", "bad")]
    train = [
        binarized("one"),
        binarized("tie", scores=(5.0, 5.0)),
        binarized("empty", "good", " \n"),
        binarized(" "),
        binarized("identical", "good", "good"),
        binarized("no score", scores=(math.nan, 5.0)),
        broken,
        binarized("held out"),
    ]
    source = read(repository(tmp_path, train, [binarized("held out")]))
    assert [c.prompt.text for c in everything(source)] == ["one", "held out"]
    assert source.counts == {
        "rows": 9,
        "kept": 2,
        "tie": 1,
        "empty": 2,
        "identical": 1,
        "malformed": 2,
        "prompt also in held-out split": 1,
    }


FOUR = (
    completion("a", 7.5, 3.0),
    completion("b", 9.0, 2.0),
    completion("c", 7.5, 1.0),
    completion("d", 1.0, 4.5),
)


def rated_table():
    return [rated(f"question {i}", *FOUR) for i in range(10)]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_rated_responses_are_a_ranking_and_a_tenth_of_the_prompts_is_held_out(
    tmp_path, ending, streaming
):
    write = {"jsonl": to_jsonl, "parquet": to_parquet}[ending]
    write(tmp_path / f"evol_instruct.{ending}", rated_table()[:5])
    write(tmp_path / f"flan.{ending}", rated_table()[5:])
    source = read(tmp_path, form="rated", streaming=streaming)
    assert [len(source.comparisons(split)) for split in SPLITS] == [9, 1]
    assert {c.prompt.text for c in everything(source)} == {f"question {i}" for i in range(10)}
    for comparison in everything(source):
        assert comparison == Ranking(comparison.prompt, ("a", "b", "c", "d"), (7.5, 9.0, 7.5, 1.0))


def test_the_rating_is_an_option(tmp_path):
    path = to_jsonl(tmp_path / "all.jsonl", rated_table())
    source = read(path, rating="fine-grained_score")
    assert {c.ratings for c in everything(source)} == {(3.0, 2.0, 1.0, 4.5)}
    assert source.identity() != read(path).identity()


def test_responses_without_a_rating_leave_the_ranking(tmp_path):
    table = [
        *rated_table(),
        rated("three", *FOUR[:2], completion("e", None), completion("f", 2.0)),
        rated("text", *FOUR[:2], completion("e", "N/A"), completion("f", "6")),
        rated("two", *FOUR[:2], completion("e", math.nan)),
        rated("one", FOUR[0], completion("e", None)),
        rated("none"),
        rated("same", completion("a", 1.0), completion("a", 2.0), completion("a", 3.0)),
        rated("repeated", *FOUR[:2], completion("b", 1.0), completion(" ", 9.5)),
        rated("tie", *(completion(response, 5.0) for response in "abcd")),
    ]
    source = read(to_jsonl(tmp_path / "all.jsonl", table))
    found = {c.prompt.text: c for c in everything(source)}
    assert (found["three"].responses, found["three"].ratings) == (("a", "b", "f"), (7.5, 9.0, 2.0))
    assert (found["text"].responses, found["text"].ratings) == (("a", "b", "f"), (7.5, 9.0, 6.0))
    for name in ("two", "repeated"):
        assert found[name] == Preference(Prompt.from_text(name), "b", "a", strength=1.5)
    assert len(found) == 14
    assert source.counts == {"rows": 18, "kept": 14, "empty": 2, "identical": 1, "tie": 1}


def test_the_columns_of_a_local_copy_decide_its_form(tmp_path):
    path = to_jsonl(tmp_path / "all.jsonl", rated_table())
    assert read(path, form="binarized").identity() == read(path, form="rated").identity()


@pytest.mark.parametrize("dict_of_splits", [True, False])
def test_a_folder_of_save_to_disk_is_read(tmp_path, dict_of_splits):
    tables = {
        "train_prefs": [binarized(f"question {i}") for i in range(4)],
        "train_sft": [binarized("for another end")],
        "test_prefs": [binarized("held out")],
    }
    saved = datasets.DatasetDict({k: datasets.Dataset.from_list(v) for k, v in tables.items()})
    (saved if dict_of_splits else saved["train_prefs"]).save_to_disk(tmp_path / "saved")
    source = read(tmp_path / "saved")
    assert [len(source.comparisons(s)) for s in SPLITS] == ([4, 1] if dict_of_splits else [3, 1])
    streamed = read(tmp_path / "saved", streaming=True)
    assert streamed.identity() == source.identity()


@pytest.mark.parametrize(("option", "value"), [("form", "other"), ("rating", "score")])
def test_an_unknown_form_or_rating_is_an_error_that_names_those_there_are(option, value):
    with pytest.raises(DataError, match=rf"data\.{option}={value}: must be one of"):
        UltraFeedback(**{option: value})


def test_another_schema_is_an_error_that_says_what_was_found(tmp_path):
    path = to_jsonl(tmp_path / "a.jsonl", [{"question": "q", "answer": "a"}])
    with pytest.raises(DataError, match=r"a\.jsonl.*score_chosen.*columns question, answer"):
        read(path)


def test_the_option_makes_the_source(tmp_path, composed):
    folder = repository(tmp_path, [binarized("one")], [binarized("two")])
    source = composed("data=ultrafeedback", f"data.path={folder}")
    assert (source.name, source.max_response_tokens) == ("ultrafeedback", None)
    assert source.identity() == read(folder).identity()
    with pytest.raises(InstantiationException, match="openbmb/UltraFeedback"):
        composed("data=ultrafeedback", "data.form=rated")
