"""CSV and Parquet as they come."""

import csv
import io
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.records import DataError
from datamodules.sources.reading.readers import rows_of

NAMES = ["prompt", "chosen", "rejected"]


def rows(path, content=None):
    if content is not None:
        path.write_bytes(content.encode())
    return list(rows_of(path))


def fail(path, content=None):
    with pytest.raises(DataError) as error:
        rows(path, content)
    return str(error.value).removeprefix(str(path))


def texts(rng):
    return "".join(rng.choice('ab ,;\t|"\n\r\u2028é\0') for _ in range(rng.randint(0, 8))) + "."


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("ending", [".csv", ".tsv"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_any_text_comes_back_with_the_line_where_its_row_begins(
    tmp_path, ending, separator, line_end
):
    """Against the library's writer; lines are counted as it writes them."""
    rng = random.Random(0)
    table = [[texts(rng) for _ in NAMES] for _ in range(200)]
    out, line, places = io.StringIO(newline=""), 1, []
    writer = csv.writer(out, delimiter=separator, lineterminator=line_end, quoting=csv.QUOTE_ALL)
    for fields in [NAMES, *table]:
        before = out.tell()
        places.append(line)
        writer.writerow(fields)
        written = out.getvalue()[before:].replace("\r\n", "\n").replace("\r", "\n")
        line += written.count("\n")
    path = tmp_path / f"a{ending}"
    found = rows(path, out.getvalue())
    assert [list(row.values()) for _, row in found] == table
    assert [place for place, _ in found] == [f"{path}, line {n}" for n in places[1:]]


def test_blank_lines_are_no_rows_and_count(tmp_path):
    found = rows(tmp_path / "a.csv", 'prompt,chosen,rejected\n\n"q\n\n",a,b\n\n\nr,a,b\n')
    assert [place.rsplit(" ", 1)[1] for place, _ in found] == ["3", "8"]


@pytest.mark.parametrize(
    ("header", "separator"),
    [
        ("prompt,chosen,rejected", ","),
        ("prompt\tchosen, the better\trejected", "\t"),
        ("prompt;chosen, the better;rejected", ";"),
        ('"prompt, and; so",chosen,rejected', ","),
        ('"a,b,c,d";chosen', ";"),
        ("prompt", ","),
    ],
)
def test_the_header_tells_what_parts_the_fields(tmp_path, header, separator):
    (names,) = csv.reader([header], delimiter=separator)
    fields = [f"x{i}, y; z" for i in range(len(names))]
    body = io.StringIO()
    csv.writer(body, delimiter=separator, quoting=csv.QUOTE_ALL).writerow(fields)
    ((_, row),) = rows(tmp_path / "a.csv", f"{header}\n{body.getvalue()}")
    assert row == dict(zip(names, fields, strict=True))


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "!"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_a_first_line_may_say_what_parts_the_fields(tmp_path, separator, quote):
    """As Excel has it, which counts as a line."""
    table = [NAMES, ["q", "a", "b"], ["r", "c\r\nd", "e"], ["s", "f", "g"]]
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=separator).writerows(table)
    content = f"{quote}sep={separator}{quote}\r\n{out.getvalue()}"
    assert rows(tmp_path / "a.csv", content) == [
        (f"{tmp_path}/a.csv, line {line}", dict(zip(NAMES, fields, strict=True)))
        for line, fields in zip((3, 4, 6), table[1:], strict=True)
    ]
    assert fail(tmp_path / "a.csv", content + separator).startswith(", line 7: has 2 fields")


def test_a_column_without_a_name_is_left_out(tmp_path):
    """As the index of a table is written, or what is behind the last column of a sheet."""
    ((_, row),) = rows(tmp_path / "a.csv", ", prompt ,chosen,rejected,,\n0,q,a,b,,\n")
    assert row == {"prompt": "q", "chosen": "a", "rejected": "b"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("prompt,chosen,chosen\nq,a,b\n", ", line 1: the header names 'chosen' twice"),
        ('prompt,chosen\n"a\nb",c\n\nd\n', ", line 5: has 1 fields, the header has 2"),
        ("prompt,chosen\na,b\nc,d,e\n", ", line 3: has 3 fields, the header has 2"),
        ('prompt,chosen\na,b\n"c,d\ne,f\n', ", line 3: not valid CSV (unexpected end of data)"),
        ('prompt,chosen\na,b\n"c" d,e\n', ", line 3: not valid CSV"),
    ],
)
def test_what_is_no_table_has_its_line(tmp_path, content, said):
    assert fail(tmp_path / "a.csv", content).startswith(said)


# Parquet


def table(folder, **columns):
    path = folder / "a.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_columns_of_any_arrow_type_are_plain_values(tmp_path):
    message = {"role": "user", "content": "q"}
    path = table(
        tmp_path,
        text=pa.array(["a", "b"], pa.large_string()),
        words=pa.array(["x", "x"]).dictionary_encode(),
        nothing=pa.nulls(2),
        nested=[[message], None],
        inner=[{"list": [1.5]}, {"list": []}],
        nan=[float("nan"), None],
    )
    (_, first), (place, second) = rows(path)
    assert place == f"{path}, row 2"
    assert (first["nan"] != first.pop("nan")) and second.pop("nan") is None  # noqa: PT018
    assert first == {
        "text": "a",
        "words": "x",
        "nothing": None,
        "nested": [message],
        "inner": {"list": [1.5]},
    }
    assert second == {
        "text": "b",
        "words": "x",
        "nothing": None,
        "nested": None,
        "inner": {"list": []},
    }


@pytest.mark.parametrize("before", [0, 3, 70_000])
def test_text_that_is_not_utf8_has_its_row_and_column(tmp_path, before):
    """The bytes of half a surrogate pair, as some programs write them."""
    blobs = [b"ok"] * before + [b"a\xed\xa0\xbd", b"ok"]
    chosen = pa.array(blobs, pa.binary()).view(pa.string())
    path = table(tmp_path, prompt=["q"] * len(blobs), chosen=chosen)
    assert fail(path).startswith(f", row {before + 1}, column 'chosen', byte 2: not UTF-8 text")


def test_two_columns_of_one_name_are_an_error(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, ["x", "x"]), path)
    assert fail(path).startswith(": two columns are called 'x'")
