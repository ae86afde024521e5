"""The command line from folders, locales and terminals as they come."""

import json
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
import unicodedata
from fcntl import ioctl
from pathlib import Path

import pytest

from harness.typed import option

RUN = Path(__file__).parents[1] / "run.py"
FOLDER = "dossier é [v2] x"
DATA = "données [1], it's.jsonl"
# Each would do something to a terminal, to markup, to Markdown or to a formula.
ODD = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\u202eback\x9b2J",
    "nul \0 \r bell",
    r"\[x\] \[/INST] [/bold]",
    "👩\u200d👩\u200d👧 سلام :smile: $x^{$",
)
TINY = (
    "data=files",
    option("data.path", DATA),
    "data.max_prompt_tokens=96",
    "data.held_out=0.4",
    "stages.sft.epochs=1",
    "stages.reward_model.epochs=1",
    "model.vocab_size=400",
    "hardware=cpu",
    "algo.iterations=2",
    "algo.prompts_per_iteration=8",
    "algo.micro_batch_size=8",
    "algo.val_prompts=10",
    "callbacks.trace_every=1",
    "callbacks.checkpoint.every_n_epochs=1",
)
# What rich writes on a terminal: styles, the cursor's line, and whether it is seen.
OWN = re.compile(rb"\x1b\[(?:[0-9;]*m|2K|1A|\?25[lh])")


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a name of all sorts, and preferences in it."""
    place = tmp_path / FOLDER
    place.mkdir()
    rows = [
        {"prompt": f"Say {i}: {text}", "chosen": f"{text} yes", "rejected": f"no {text}"}
        for i in range(4)
        for text in ODD
    ]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (place / DATA).write_text(lines, encoding="utf-8")
    return place


def command(*overrides: str) -> list[str]:
    """The words of a command that was pasted into a shell."""
    words = [word for override in overrides for word in shlex.split(override)]
    return [sys.executable, str(RUN), *words]


def environment(**variables: str) -> dict[str, str]:
    drop = ("PYTHONUTF8", "PYTHONIOENCODING", "LC_ALL", "LANG", "WANDB_API_KEY", "NO_COLOR")
    kept = {k: v for k, v in os.environ.items() if k not in drop}
    return kept | {"NETRC": os.devnull, "WANDB_MODE": "offline", "TERM": "xterm"} | variables


@pytest.mark.slow
def test_the_main_job_in_a_folder_of_any_name_without_utf8(folder):
    def run(*overrides: str) -> str:
        done = subprocess.run(
            command(*overrides),
            cwd=folder,
            env=environment(LC_ALL="C", PYTHONUTF8="0"),
            capture_output=True,
            encoding="ascii",  # all that this terminal can show
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    name = "läuft [1], it's"
    printed = run(*TINY, option("hydra.run.dir", name))
    place = folder / name
    assert json.loads((place / "run.json").read_text(encoding="utf-8"))["finished"]
    assert r"\x1b[31mred" in printed
    # The command is pasted into a shell that stands in this folder.
    (sync,) = re.findall(r"wandb sync (.*)", printed)
    found = subprocess.run(
        ["bash", "-c", f"cd {shlex.quote(str(folder))} && ls -d {sync}"],
        capture_output=True,
        check=True,
    )
    assert len(found.stdout.splitlines()) == len(list(place.glob("wandb/offline-run-*")))
    run(*TINY, option("resume", name), "algo.iterations=3")
    last = max((place / "checkpoints").glob("*.ckpt"))  # beside the one that it resumed from
    run("task=export", option("run", name), f"checkpoint={last.stem}")
    assert (place / "exports").is_dir()
    run(*TINY, "task=evaluate", option("policy", name), "logger=none")
    run("task=compare", option("runs", "läuft*"), "hydra.run.dir=compared")
    assert (folder / "compared" / "comparison.html").is_file()


def test_nothing_in_a_text_steers_the_terminal(folder, tmp_path):
    """On a terminal of 80 columns, the bytes that reach it."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        variables = environment(PYTHONUTF8="1")
        os.execve(sys.executable, command(*TINY, "logger=none", "hydra.run.dir=run"), variables)
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    printed = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # closed at the other end
            break
        if not part:
            break
        printed += part
    assert os.waitpid(process, 0)[1] == 0, printed.decode()
    rest = OWN.sub(b"", printed).decode().replace("\r\n", "\n").replace("\r", "\n")
    assert rest.isascii() is False
    assert not {c for c in rest if unicodedata.category(c) == "Cc"} - {"\n"}
    assert "\u202e" not in rest
    assert r"\u202e" in rest
    samples = (folder / "run" / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    assert any("\x1b" in json.loads(line)["prompt"] for line in samples)  # files keep the texts


@pytest.mark.parametrize("redirection", ["| head -1", ">&- 2>&-", ">/dev/full"])
def test_who_does_not_listen_costs_no_results(redirection, folder):
    policy = ("algo.", "callbacks.", "stages.")
    options = [o for o in TINY if not o.startswith(policy)]
    words = shlex.join(command(*options, "algo=sft", "logger=none", "hydra.run.dir=run"))
    subprocess.run(["bash", "-c", f"{words} {redirection}"], cwd=folder, env=environment())
    assert json.loads((folder / "run" / "run.json").read_text(encoding="utf-8"))["finished"]
    assert (folder / "run" / "summary.json").is_file()
