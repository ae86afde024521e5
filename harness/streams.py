"""Standard streams and encodings as a run needs them, whatever it was started from.

For a program's first lines: before anything is printed or opened.
"""

import codecs
import io
import locale
import os
import select
import sys
from collections.abc import Sequence
from typing import Any, TextIO

from harness.errors import RunError

UTF8 = "PYTHONUTF8"


def use_utf8() -> None:
    """Start the program again in Python's UTF-8 mode, unless all is UTF-8 already.

    Elsewhere (LC_ALL=C with PYTHONUTF8=0, a Latin-1 locale) libraries read and write their files in
    the locale's encoding, and folders with an accent have names that those cannot open. The process
    stays the same one, and so do its number, its signals and its exit code; the streams keep the
    encoding that the terminal has. Processes that it starts inherit the mode.
    """
    names = (sys.getfilesystemencoding(), locale.getencoding())
    if sys.flags.utf8_mode or {codecs.lookup(name).name for name in names} == {"utf-8"}:
        return
    if os.environ.get(UTF8) == "1":  # asked for already, in vain: not again and again
        return
    os.environ[UTF8] = "1"
    encoding = getattr(sys.stdout or sys.stderr, "encoding", None)
    if encoding:
        os.environ.setdefault("PYTHONIOENCODING", f"{encoding}:backslashreplace")
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def make_streams_last() -> None:
    """Standard output and errors that no longer end a run.

    What their encoding lacks is written as escapes. What cannot be written (the reader of a pipe
    has gone, the terminal is closed, the log's disk is full) is dropped: the results are in files.
    A stream that was closed from the start leads nowhere, and no file of ours gets its number.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if not isinstance(getattr(getattr(stream, "buffer", None), "raw", None), _Lasting):
            lasting = _lasting(stream, number)
            setattr(sys, name, lasting)
            setattr(sys, f"__{name}__", lasting)


def refuse_names_without_letters(arguments: Sequence[str]) -> None:
    """Raise RunError if this folder, or one that was typed, has a name that is not UTF-8: those
    who write models and tokenizers cannot open it.
    """
    try:
        folder = os.getcwd()
    except OSError as error:
        raise RunError(
            "the folder that this was started in is gone; start it in another"
        ) from error
    for name in (folder, *arguments):
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise RunError(
                f"{name}: the name is not UTF-8, and libraries cannot open what is there. Rename"
                " the folder or file"
            ) from error


class _Lasting(io.FileIO):
    """A standard stream whose writes always succeed."""

    def write(self, data: Any) -> int:
        try:
            while (written := super().write(data)) is None:  # full, and not to be waited for
                select.select([], [self], [])
        except OSError:
            return memoryview(data).nbytes
        return written


def _lasting(stream: TextIO | None, number: int) -> TextIO:
    if stream is not None:
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Lasting(number, "wb", closefd=False)),
        encoding=getattr(stream, "encoding", "utf-8"),
        errors="backslashreplace",
        line_buffering=getattr(stream, "line_buffering", False),
        write_through=getattr(stream, "write_through", False),
    )
