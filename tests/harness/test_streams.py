"""Streams and encodings that a program is started with do not decide whether it ends well."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import RunError
from harness.streams import refuse_names_without_letters

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
sys.path.insert(0, {root!r})
from harness.streams import make_streams_last, use_utf8
use_utf8()
make_streams_last()
for i in range(2000):
    print("é ─ line", i)
print("error", file=sys.stderr, flush=True)
sys.stdout.flush()
# What is opened next must not be what print writes to.
with open(sys.argv[1], "w", encoding="utf-8") as file:
    print("more")
    sys.stdout.flush()
    file.write(f"{{sys.flags.utf8_mode}} {{sys.flags.optimize}} {{sys.argv[2:]}}")
sys.exit(3)
"""
VARIABLES = ("PYTHONUTF8", "PYTHONIOENCODING", "LC_ALL", "LANG", "LC_CTYPE")


@pytest.fixture
def program(tmp_path):
    """A program whose name has a space, an accent and brackets."""
    path = tmp_path / "é [v2] x.py"
    path.write_text(PROGRAM.format(root=str(ROOT)), encoding="utf-8")
    return path


def start(program: Path, redirection: str = "", options: str = "", **variables: str):
    """Run it in a shell; returns what it printed, and what it wrote into its file."""
    environment = {k: v for k, v in os.environ.items() if k not in VARIABLES} | variables
    result = program.with_name("result")
    command = f'"$0" {options} "$1" "$2" "a é" {redirection}'
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, str(program), str(result)],
        env=environment,
        capture_output=True,
    )
    return done, result.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "redirection",
    ["", ">&-", "2>&-", ">&- 2>&- <&-", ">/dev/full", ">/dev/full 2>/dev/full", "| head -1"],
)
def test_what_cannot_be_printed_costs_nothing(program, redirection):
    done, result = start(program, redirection)
    assert result.endswith("['a é']")
    assert done.returncode == (0 if "|" in redirection else 3)
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "ascii:strict", "latin-1", "utf-8", "cp437"])
def test_what_an_encoding_lacks_is_replaced(program, encoding):
    done, _ = start(program, PYTHONIOENCODING=encoding)
    assert done.returncode == 3
    printed = done.stdout.decode(encoding.split(":")[0])
    assert len(printed.splitlines()) == 2001
    assert ("é" in printed) == (not encoding.startswith("ascii"))


def test_without_utf8_the_program_starts_itself_again_with_it(program):
    done, result = start(program, options="-O", LC_ALL="C", PYTHONUTF8="0")
    assert result == "1 1 ['a é']"
    assert done.returncode == 3
    assert done.stdout.isascii()  # the terminal's encoding is not ours to choose


@pytest.mark.parametrize("options", ["-X utf8=0", "-I", "-E"])
def test_nothing_goes_round_in_a_circle(program, options):
    done, result = start(program, options=options, LC_ALL="C", PYTHONUTF8="0")
    assert result == "1 0 ['a é']"
    assert done.returncode == 3


def test_a_utf8_locale_is_left_alone(program):
    _, result = start(program, LC_ALL="C.UTF-8", PYTHONUTF8="0")
    assert result == "0 0 ['a é']"


def test_the_process_stays_the_same_one():
    code = "import os; from harness.streams import use_utf8; print(os.getpid(), flush=True)"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}; use_utf8()"],
        cwd=ROOT,
        env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0"},
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    printed, _ = process.communicate()
    assert printed.split() == [str(process.pid)] * 2


def test_a_name_that_is_not_utf8_is_refused_by_name(tmp_path, monkeypatch):
    refuse_names_without_letters(["data.path=é [1].jsonl"])
    with pytest.raises(RunError, match="not UTF-8"):
        refuse_names_without_letters(["data.path=\udce9.jsonl"])
    folder = tmp_path / "\udce9"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(RunError, match="not UTF-8"):
        refuse_names_without_letters([])
    folder.rmdir()
    with pytest.raises(RunError, match="is gone"):
        refuse_names_without_letters([])
