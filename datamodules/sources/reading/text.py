"""The text of a file: UTF-8, packed with gzip or not, a byte order mark in front or not."""

import codecs
import contextlib
import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from datamodules.records import DataError

BOM = codecs.BOM_UTF8
# How files in other encodings begin: with a mark, or with a bracket of JSON in two bytes. UTF-32
# before UTF-16: one mark begins with the other.
OTHERS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
    *((bracket.encode(code), code) for bracket in "{[" for code in ("UTF-16LE", "UTF-16BE")),
)
# Latin-1 and the quotes and dashes of Windows, which have their place where Latin-1 has nothing.
WESTERN = "WINDOWS-1252"
GZIP = b"\x1f\x8b"
# What begins with these is no text, whatever its name says.
NO_TEXT = (
    (b"PAR1", "a Parquet file; give it a name that ends in .parquet"),
    (b"PK\x03\x04", "a zip archive or a workbook; unpack it, or save the sheet as CSV"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd; unpack it, or pack it with gzip"),
    (b"BZh", "packed with bzip2; unpack it, or pack it with gzip"),
    (b"\xfd7zXZ\x00", "packed with xz; unpack it, or pack it with gzip"),
)
POINTER = b"version https://git-lfs.github.com/"
HALF = re.compile("[\ud800-\udfff]")


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file as they were before they were packed. Raises DataError for UTF-16, for a
    pointer, and for what cannot be read while the file is open.
    """
    with reading(path):
        refuse_pointer(path)
        with open(path, "rb") as file:
            packed = file.read(2) == GZIP
        opener = gzip.open if packed or path.name.lower().endswith(".gz") else open
        with opener(path, "rb") as file:
            head = file.read(8)
        for beginning, what in NO_TEXT:
            if head.startswith(beginning):
                raise DataError(f"{path}: is {what}")
        for beginning, encoding in OTHERS:
            if head.startswith(beginning):
                raise DataError(f"{path}: is {encoding} text; {_convert(encoding, path)}")
        with opener(path, "rb") as file:
            yield file


def refuse_pointer(path: Path) -> None:
    """Raise DataError for what git keeps in the place of a large file until that is fetched."""
    with open(path, "rb") as file:
        if file.read(len(POINTER)) == POINTER:
            raise DataError(
                f"{path}: is a pointer of Git LFS and not the file itself; fetch that with"
                " `git lfs pull` in its repository, or download it"
            )


@contextlib.contextmanager
def reading(place: Path | str) -> Iterator[None]:
    """A missing permission, a damaged or torn archive, as a DataError that names the place."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{place}: cannot be read ({reason})") from error


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that hold something, with their numbers from 1. A line ends with a line feed and
    with nothing else: U+2028 and the like are text. Raises DataError for what is not UTF-8.
    """
    number = 0
    with open_bytes(path) as file:
        while True:
            with reading(f"{path}, after line {number}" if number else path):
                raw = file.readline()
            if not raw:
                return
            number += 1
            try:
                # Files that were joined have marks within.
                text = raw.removeprefix(BOM).decode()
            except UnicodeDecodeError as error:
                at, byte = raw.find(error.object) + error.start, error.object[error.start]
                raise DataError(
                    f"{path}, line {number}, byte {at + 1}: not UTF-8 text (byte 0x{byte:02x});"
                    f" if it is Western European text, {_convert(WESTERN, path)}"
                ) from error
            if text.strip():
                yield number, text


def whole_text(path: Path) -> str:
    """All of it. Raises DataError with the line of what is not UTF-8."""
    try:
        with open_bytes(path) as file:
            return file.read().removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error


def not_utf8(path: Path) -> DataError:
    """The error for a file of which some byte is not UTF-8, with the place of the first."""
    try:
        for _ in lines_of(path):
            pass
    except DataError as error:
        return error
    return DataError(f"{path}: not UTF-8 text")


def _convert(encoding: str, path: Path) -> str:
    command = f"iconv -f {encoding} -t UTF-8"
    is_packed = path.name.lower().endswith(".gz")
    return "convert it: " + (
        f"gzip -dc <file> | {command} > <new file>"
        if is_packed
        else f"{command} <file> > <new file>"
    )


def refuse_halves(value: Any, where: str) -> None:
    """Raise DataError for half of a surrogate pair anywhere in a row: it stands for no character
    and cannot be written. The message says in which column, number of a list and character.
    """
    if isinstance(value, str):
        if half := HALF.search(value):
            raise DataError(
                f"{where}, character {half.start() + 1}: \\u{ord(half[0]):04x} is half of a"
                " surrogate pair and stands for no character; remove it, or write the whole pair"
            )
    elif isinstance(value, dict):
        for key, content in value.items():
            refuse_halves(key, f"{where}, a name")
            # Fields of a row are columns; those of what is within have a name alone.
            place = repr(key) if ", column " in where else f"column {key!r}"
            refuse_halves(content, f"{where}, {place}")
    elif isinstance(value, list):
        for number, content in enumerate(value, start=1):
            refuse_halves(content, f"{where}, number {number}")
