"""One document after the other: its commands, in their order, as a reader would type them."""

import re
from collections.abc import Iterator
from pathlib import Path

from tests.commands.documents import Script, python_blocks, scripts, typed, without
from tests.commands.place import Place
from tests.commands.table import BEFORE, EXCEPTIONS, PLACEHOLDERS, Long

# Before a document's Python: what it calls is as small as what it types.
SMALL_CALLS = """
import harness.program
from tests.commands.budget import budget
call = harness.program.run
harness.program.run = lambda *overrides: call(*overrides, *budget(list(overrides)))
"""
FIRST_HOUR_ENDS = "\n## What is in the box"  # in the README; up to here a reader has no warm Python


def failures(document: Path, place: Place, warm: str, long: bool = False) -> Iterator[str]:
    """What ended with another exit code than 0, each with what it printed."""
    text = document.read_text(encoding="utf-8")
    place.start_anew()
    write_modules(text, place.clone)
    quickstarts = text[: text.find(FIRST_HOUR_ENDS)].count("\n") if "README" in document.name else 0
    before = [Script(0, BEFORE[document.name])] if document.name in BEFORE else []
    has_calls = (place.clone / "calls.py").is_file()
    calls = [Script(0, "python calls.py\n")] if has_calls else []
    for script in [*before, *scripts(text), *calls]:
        excepted = {c for c in typed(script.text) if not runs_here(document.name, c, long)}
        words = filled_in(document.name, without(script.text, excepted))
        if not words.strip():
            continue
        done = place.run(words, None if script.line < quickstarts else warm)
        if done.returncode:
            yield f"{document.name}, line {script.line}:\n{words}\n{done.stdout}"


def write_modules(text: str, folder: Path) -> None:
    """A block of Python is a file, where its first line says which, or else a part of calls.py."""
    calls = SMALL_CALLS
    for block in python_blocks(text):
        if named := re.match(r"# (\w+\.py)\n", block):
            (folder / named[1]).write_text(block, encoding="utf-8")
        else:
            calls += block
    (folder / "calls.py").unlink(missing_ok=True)  # another document's
    if calls != SMALL_CALLS:
        (folder / "calls.py").write_text(calls, encoding="utf-8")


def runs_here(document: str, command: str, long: bool) -> bool:
    exception = EXCEPTIONS.get((document, command))
    if exception is None or isinstance(exception, Long):
        return long or exception is None
    return exception.met()


def filled_in(document: str, words: str) -> str:
    """The words with a name in the place of each placeholder."""
    for (of, placeholder), name in PLACEHOLDERS.items():
        if of == document:
            words = words.replace(placeholder, name)
    left = re.search(r"<[a-z][^<>\n]*>", words)
    assert not left, f"{document}: {left[0]} in {words!r} is in no table of tests/commands"
    return words
