"""Other names for columns: a message says where they stand, which there are, and what to say."""

import json
import re
import shlex

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.records import DataError
from datamodules.sources.files import Files

COLUMNS = ("prompt", "chosen", "rejected")
TEXTS = [(f"Question {i}?", f"A good answer {i}.", f"A bad one {i}.") for i in range(4)]


def written(folder, names, ending):
    path = folder / f"pairs.{ending}"
    rows = [dict(zip(names, texts, strict=True)) for texts in TEXTS]
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    else:
        lines = ["sep=;"] * (ending == "tsv") + [";".join(names), *map(";".join, TEXTS)]
        path.write_text("\n".join(lines), encoding="utf-8")
    return path


def refusal(path, **options):
    with pytest.raises(DataError) as error:
        Files(path=str(path), **options)
    return str(error.value)


def options_in(message):
    """The columns that a message names, as a shell and a person take them."""
    words = shlex.split(message.partition("; say ")[2].partition(". ")[0])
    return dict(re.fullmatch(r"data\.columns\.(\w+)=(.+)", word).groups() for word in words)


@pytest.mark.parametrize(
    ("ending", "place"),
    [("csv", ", line 1"), ("tsv", ", line 2"), ("jsonl", ", line 1"), ("parquet", "")],
)
@pytest.mark.parametrize(
    "names",
    [
        ("question", "good", "bad"),
        ("Prompt", "Chosen", "Rejected"),
        ("prompt", "response_chosen", "response_rejected"),
        ("user query", "preferredAnswer", "worse answer"),
        ("promt", "chosn", "rejcted"),
    ],
)
def test_what_a_message_says_reads_the_file(tmp_path, ending, place, names):
    path = written(tmp_path, names, ending)
    message = refusal(path)
    assert message.startswith(f"{path}{place}")
    assert [name for name in names if repr(name) not in message] == []
    source = Files(path=str(path), columns=options_in(message), held_out=0.5)
    read = {
        (c.prompt.messages[-1].content, c.chosen, c.rejected)
        for split in ("train", "val")
        for c in source.comparisons(split)
    }
    assert read == set(TEXTS)


def test_prompts_of_another_name_are_found_where_the_responses_are_right(tmp_path):
    path = written(tmp_path, ("question", "chosen", "rejected"), "csv")
    message = refusal(path)
    assert message.startswith(f"{path}, line 1: no column 'prompt'")
    assert options_in(message) == {"prompt": "question"}


def test_what_cannot_be_guessed_is_left_to_the_user(tmp_path):
    path = written(tmp_path, ("eins", "zwei", "drei"), "csv")
    assert refusal(path).endswith("; say data.columns.chosen=<name>")


def test_two_answers_side_by_side_are_no_pair_yet(tmp_path):
    path = written(tmp_path, ("question", "response_a", "response_b"), "csv")
    assert "Of 'response_a' and 'response_b' write the better one into 'chosen'" in refusal(path)
