"""task=chat on a real terminal: what is shown, ctrl-c, and that votes are kept."""

import os
import pty
import select
import struct
import sys
import termios
import time
from fcntl import ioctl
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from harness.feedback.store import FILE, Store

RUN = Path(__file__).parents[3] / "run.py"
ROWS, COLUMNS = 100, 80


class Session:
    """A program on a terminal that pyte emulates."""

    def __init__(self, *overrides: str):
        pyte = pytest.importorskip("pyte")
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self.stream = pyte.ByteStream(self.screen)
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            variables = os.environ | {"TERM": "xterm", "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"}
            os.execve(sys.executable, [sys.executable, str(RUN), *overrides], variables)
        ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.terminal, text.encode())

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def wait(self, seen, seconds: float = 120) -> None:
        """Until `seen` of the lines on the screen."""
        end = time.monotonic() + seconds
        while not seen(self.lines):
            assert time.monotonic() < end, self.lines
            if select.select([self.terminal], [], [], 0.1)[0]:
                self.stream.feed(os.read(self.terminal, 65536))

    def asks(self, after: str) -> None:
        """Wait for the next question, below something that was said before."""
        self.wait(lambda lines: lines[-1:] == ["you>"] and after in "\n".join(lines))

    def end(self) -> int:
        try:
            while os.read(self.terminal, 65536):
                pass
        except OSError:  # closed at the other end
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])


@pytest.fixture
def policy(encoder, tmp_path):
    """A folder with a random model that hardly ever stops."""
    tokenizer = encoder.tokenizer
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=20_000,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    lm = AutoModelForCausalLM.from_config(config)
    lm.lm_head.weight.data[tokenizer.eos_token_id] = 0.0
    lm.model.norm.weight.data.mul_(20.0)
    lm.save_pretrained(tmp_path / "talker")
    tokenizer.save_pretrained(tmp_path / "talker")
    return tmp_path / "talker"


def test_a_conversation_on_a_terminal(policy, tmp_path):
    places = (f"store={tmp_path / 'labels'}", f"cache_dir={tmp_path / 'cache'}")
    places += (f"hydra.run.dir={tmp_path / 'run'}", "annotator=ada", "hardware=cpu")
    chat = Session("task=chat", f"policy={policy}", "max_tokens=9000", *places)
    chat.asks("talker, temperature 1, up to 9000 tokens")
    chat.type("Where is the Lou\x7fuvre?\n")  # a line can be edited
    chat.wait(lambda lines: len(lines) > 6)  # it comes as it is spoken
    chat.type("\x03")
    chat.asks("  (stopped)")
    lines = chat.lines
    assert any(line.startswith("you> Where is the Louvre?") for line in lines)
    assert any(line.startswith("talker> ") for line in lines)
    assert lines[-2] == "  (stopped)"
    chat.type("half a line\x03")
    chat.asks("(ctrl-d or /quit ends)")
    chat.type("/bad\n")
    chat.asks("(kept in")
    with Store(tmp_path / "labels" / FILE) as store:  # while it goes on
        (vote,) = store.votes()
        (item,) = store.items().values()
    assert (vote.annotator, vote.choice) == ("ada", "down")
    assert item.prompt.text == "Where is the Louvre?"
    assert len(item.responses[0]) > 80
    chat.type("/quit\n")
    assert chat.end() == 0
    assert not (tmp_path / "run").exists()  # nothing was written
