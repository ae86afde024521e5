"""Bytes as text: marks, encodings, damage."""

import bz2
import codecs
import gzip
import json
import lzma
import os
import subprocess
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.records import DataError
from datamodules.sources.reading.readers import rows_of

ROWS = [{"prompt": f"Où? 中 🙂 {i}", "chosen": "a", "rejected": "b"} for i in range(40)]
LINES = [json.dumps(row, ensure_ascii=False) for row in ROWS]
TABLE = ["prompt,chosen,rejected", *(f"{r['prompt']},a,b" for r in ROWS)]
TEXTS = {
    ".jsonl": "\n".join(LINES),
    ".json": "[" + ",\n".join(LINES) + "]",
    ".csv": "\n".join(TABLE),
    ".tsv": "\n".join(TABLE).replace(",", "\t"),
}


def written(folder, name, content):
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def read(path):
    return [row for _, row in rows_of(path)]


def fail(path):
    with pytest.raises(DataError) as error:
        read(path)
    message = str(error.value)
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8], ids=["plain", "mark"])
@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("ending", TEXTS)
def test_a_byte_order_mark_is_not_there_for_the_reader(tmp_path, ending, packed, mark):
    path = written(tmp_path, f"a{ending}{packed}", mark + TEXTS[ending].encode())
    assert read(path) == ROWS


def test_files_that_were_joined_have_marks_within(tmp_path):
    halves = ("\n".join(part) + "\n" for part in (LINES[:20], LINES[20:]))
    path = written(tmp_path, "a.jsonl", b"".join(codecs.BOM_UTF8 + h.encode() for h in halves))
    assert read(path) == ROWS


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le", "utf-32"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json"])
def test_another_encoding_of_unicode_is_named(tmp_path, name, encoding):
    ending = "." + name.split(".")[1]
    message = fail(written(tmp_path, name, TEXTS[ending].encode(encoding)))
    assert f"is {encoding[:6].upper()}" in message
    assert f"iconv -f {encoding[:6].upper()}" in message


def test_another_encoding_of_a_table_is_named_by_its_mark(tmp_path):
    assert "is UTF-16 text" in fail(written(tmp_path, "a.csv", TEXTS[".csv"].encode("utf-16")))


@pytest.mark.parametrize("line", [1, 9, 30])
@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("ending", TEXTS)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_what_is_not_utf8_has_its_line_and_byte(tmp_path, ending, packed, line, end):
    """A line that ends with a byte of Latin-1, many characters of several bytes before it."""
    lines = [text.encode() for text in TEXTS[ending].split("\n")]
    at = len(lines[line - 1]) + 1
    lines[line - 1] += "é".encode("latin-1")
    # Blank lines count, as an editor counts them.
    lines.insert(0, b"")
    message = fail(written(tmp_path, f"a{ending}{packed}", end.join(lines)))
    assert message.startswith(f", line {line + 1}, byte {at}: not UTF-8 text (byte 0xe9)")


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_the_advice_for_western_text_brings_back_its_letters(tmp_path, packed):
    """Quotes and dashes of Windows are where Latin-1 has control characters."""
    row = {"prompt": "“Où?” – 5 €", "chosen": "a", "rejected": "b"}
    encoded = json.dumps(row, ensure_ascii=False).encode("cp1252")
    path = written(tmp_path, f"a.jsonl{packed}", encoded)
    message = fail(path)
    assert "if it is Western European text, convert it: " in message
    command = message.split("convert it: ")[1]
    command = command.replace("<new file>", "new.jsonl").replace("<file>", path.name)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert read(tmp_path / "new.jsonl") == [row]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.jsonl.gz", "a.parquet"])
def test_a_pointer_in_the_place_of_a_file_is_named(tmp_path, name):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12345\n"
    (tmp_path / name).write_bytes(pointer)
    assert "is a pointer of Git LFS" in fail(tmp_path / name)


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".jsonl.gz"])
@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_what_is_packed_otherwise_is_named(tmp_path, ending, pack):
    path = written(tmp_path, f"a{ending}", pack(TEXTS[".jsonl"].encode()))
    assert f"is packed with {'bzip2' if pack is bz2.compress else 'xz'}; unpack it" in fail(path)


@pytest.mark.parametrize("ending", [".jsonl", ".csv"])
def test_tables_and_archives_under_names_of_text_are_named(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    assert "is a Parquet file; give it a name that ends in .parquet" in fail(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jsonl", TEXTS[".jsonl"])
    assert "is a zip archive" in fail(path)


def test_the_line_is_right_far_into_a_file(tmp_path):
    """Beyond what is decoded at a time."""
    table = "prompt,chosen,rejected\n" + "q,a,b\n" * 30_000
    message = fail(written(tmp_path, "a.csv", table.encode() + b"q,\xff,b\n"))
    assert message.startswith(", line 30002, byte 3:")


def test_nothing_but_a_line_feed_ends_a_line(tmp_path):
    odd = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\rh\r\ni"
    rows = [{"prompt": odd, "chosen": "\0", "rejected": "\ufeff"}] * 2
    text = "\r\n".join(
        json.dumps(row, ensure_ascii=False).replace("\x0b", "\\u000b") for row in rows
    )
    assert "\u2028" in text
    assert "\x85" in text
    assert read(written(tmp_path, "a.jsonl", text.encode())) == rows


def test_a_file_that_is_packed_is_read_whatever_it_is_called(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(gzip.compress(TEXTS[".jsonl"].encode()))
    assert read(path) == ROWS


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json.gz", "a.csv.gz"])
def test_a_torn_archive_is_an_error(tmp_path, name):
    path = written(tmp_path, name, os.urandom(4096).hex().encode())
    path.write_bytes(path.read_bytes()[:-50])
    assert "cannot be read (Compressed file ended" in fail(path)


HALF = "\\ud83d"


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ({"chosen": f"ab{HALF}c"}, "column 'chosen', character 3"),
        ({"prompt": "\\udca9"}, "column 'prompt', character 1"),
        ({"responses": ["x", f"{HALF} "]}, "column 'responses', number 2, character 1"),
        (
            {"prompt": [{"role": "user", "content": f"Hi {HALF}"}]},
            "column 'prompt', number 1, 'content', character 4",
        ),
        ({f"x{HALF}": 1}, "a name, character 2"),
        # Two first halves, and the halves the wrong way round.
        ({"chosen": f"{HALF}{HALF}\\ude00"}, "column 'chosen', character 1"),
        ({"chosen": "\\ude00\\ud83d"}, "column 'chosen', character 1"),
    ],
)
@pytest.mark.parametrize("ending", [".jsonl", ".json"])
def test_half_of_a_surrogate_pair_has_its_place(tmp_path, ending, row, place):
    broken = json.dumps(row).replace("\\\\u", "\\u")
    lines = [*LINES[:12], broken]
    text = "\n".join(lines) if ending == ".jsonl" else "[" + ",\n".join(lines) + "]"
    message = fail(written(tmp_path, f"a{ending}", text.encode()))
    assert message.startswith(", line 13")
    assert f", {place}: " in message
    assert "half of a surrogate pair" in message


def test_whole_pairs_and_words_about_halves_are_text(tmp_path):
    text = '{"prompt": "\\ud83d\\ude00", "chosen": "\\\\ud83d", "rejected": "\\uD7FF\\uE000"}'
    assert read(written(tmp_path, "a.jsonl", text.encode())) == [
        {"prompt": "😀", "chosen": "\\ud83d", "rejected": "\ud7ff\ue000"}
    ]
