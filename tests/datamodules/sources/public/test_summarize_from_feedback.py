import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hydra.errors import InstantiationException

from datamodules.records import DataError, Preference, Prompt
from datamodules.sources.public.summarize_from_feedback import SummarizeFromFeedback

SPLITS = ("train", "val")


def post(number, title=" Ice? ", **fields):
    """A row of the published JSON lines, about a post."""
    info = {"id": f"t3_{number}", "post": f"Post {number}.\n", "title": title, "subreddit": "pets"}
    return row(info) | fields


def article(number, **fields):
    text = f"Article {number}."
    return row({"id": str(number), "site": "cnn", "title": "T", "article": text}) | fields


def row(info):
    return {
        "info": info,
        "summaries": [
            {"text": " bad", "policy": "sup2", "note": None},
            {"text": " good", "policy": "ref", "note": "Clear."},
        ],
        "choice": 1,
        "worker": "w",
        "batch": "batch9",
        "split": "train",
        "extra": {"confidence": None},
    }


FEATURES = pa.schema(
    {
        "info": pa.struct(
            {k: pa.string() for k in ("id", "post", "title", "subreddit", "site", "article")}
        ),
        "summaries": pa.list_(pa.struct({k: pa.string() for k in ("text", "policy", "note")})),
        "choice": pa.int32(),
        "worker": pa.string(),
        "batch": pa.string(),
        "split": pa.string(),
        "extra": pa.struct({"confidence": pa.int32()}),
    }
)


def to_parquet(path, table):
    """As the hub has converted it: every row has all fields of `info`, null where it had none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(table, FEATURES), path)


def to_jsonl(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r) + "\n" for r in table), encoding="utf-8")
    return path


def read(path, **options):
    return SummarizeFromFeedback(path=str(path), **options)


def texts(source, split):
    return [c.prompt.text for c in source.comparisons(split)]


@pytest.mark.parametrize("streaming", [False, True])
def test_the_hubs_parquet_files_are_read_by_their_folders(tmp_path, streaming):
    to_parquet(tmp_path / "comparisons/train/0000.parquet", [post(1), post(2, choice=0)])
    to_parquet(
        tmp_path / "comparisons/validation/0000.parquet",
        [post(2, split="valid1"), article(3, split="valid2", extra={"confidence": 8})],
    )
    to_parquet(tmp_path / "axis/validation/0000.parquet", [post(9)])
    source = read(tmp_path, streaming=streaming)
    query = "SUBREDDIT: r/pets\n\nTITLE: Ice?\n\nPOST: Post {}.\n\nTL;DR:"
    assert source.comparisons("train") == [
        Preference(Prompt.from_text(query.format(1)), "good", "bad")
    ]
    assert source.comparisons("val") == [
        Preference(Prompt.from_text(query.format(2)), "good", "bad"),
        Preference(Prompt.from_text("Article:\nArticle 3.\n\nTL;DR:"), "good", "bad"),
    ]
    assert source.counts == {"rows": 4, "kept": 3, "prompt also in held-out split": 1}


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_of_the_first_publication_say_of_which_split_they_are(tmp_path, streaming):
    table = [post(0), post(1, split="valid1"), post(2, choice=0), post(3, split="valid2")]
    to_jsonl(tmp_path / "comparisons/batch3.json", table)
    del table[0]["extra"]
    to_jsonl(tmp_path / "comparisons/cnndm0.json", [article(4, split="valid2")])
    to_jsonl(tmp_path / "axis_evals/cnndm1.json", [article(5) | {"summary": {}}])
    source = read(tmp_path, streaming=streaming)
    assert [text[-16:] for text in texts(source, "train")] == [
        " Post 0.\n\nTL;DR:",
        " Post 2.\n\nTL;DR:",
    ]
    assert len(texts(source, "val")) == 3
    assert (source.comparisons("train")[1].chosen, source.comparisons("train")[1].rejected) == (
        "bad",
        "good",
    )


def test_a_file_of_one_split_is_divided(tmp_path):
    table = [post(i) for i in range(20)]
    source = read(to_jsonl(tmp_path / "batch3.json", table))
    assert [len(source.comparisons(split)) for split in SPLITS] == [18, 2]


def test_rows_that_say_nothing_are_counted_by_reason(tmp_path):
    table = [
        *(post(i) for i in range(4)),
        post(5, summaries=[{"text": " a"}, {"text": "a "}]),
        post(6, summaries=[{"text": "a"}, {"text": " "}]),
        post(7, summaries=[{"text": "a"}, {"text": None}]),
        post(8, summaries=[{"text": "a"}] * 3),
        post(9, choice=2),
        post(10, choice=None),
        row({"id": "11"}),
    ]
    source = read(to_jsonl(tmp_path / "batch3.json", table))
    assert source.counts == {"rows": 11, "kept": 4, "identical": 1, "empty": 1, "malformed": 5}


def test_ratings_of_single_summaries_are_another_schema(tmp_path):
    table = [{k: v for k, v in post(1).items() if k != "choice"} | {"summary": {}}]
    with pytest.raises(DataError, match="Expected info, summaries and choice"):
        read(to_jsonl(tmp_path / "a.json", table))


def test_the_option_makes_the_source(tmp_path, composed):
    path = to_jsonl(tmp_path / "batch3.json", [post(1), post(2, split="valid2")])
    source = composed("data=summarize_from_feedback", f"data.path={path}")
    assert (source.max_prompt_tokens, source.max_response_tokens) == (512, 53)
    assert source.identity() == read(path).identity()
    with pytest.raises(InstantiationException, match=r"revision refs/convert/parquet"):
        composed("data=summarize_from_feedback")
