"""run.log: what was on the terminal, without bars and colours, in the run's folder."""

import contextlib
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig

from harness import printable
from harness.disk.files import LOG, user_error
from harness.ranks import this_rank
from harness.runs.command import typed_overrides
from harness.runs.secrets import secrets_of, without
from harness.typed import word


class RunLog:
    """Keeps what is printed until the run has a folder, and then adds it to the log there.

    What the disk refuses is left out; it ends nothing.
    """

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._file: Path | None = None

    def add(self, text: str) -> None:
        """Add whole lines."""
        self._waiting.append(text if text.endswith("\n") else f"{text}\n")
        self._write()

    @contextlib.contextmanager
    def kept_in(self, folder: Path, cfg: DictConfig, resumed: bool = False) -> Iterator[None]:
        """While this lasts the log is written into `folder`, without the secrets of `cfg`; warnings
        that go past the console too, and at last the error that ends the run.
        """
        if this_rank() > 0:
            yield
            return
        typed = " ".join(map(word, typed_overrides()))
        what = "resumed" if resumed else "began"
        self._waiting.insert(0, f"# {what} {time.strftime('%Y-%m-%d %H:%M:%S')}: {typed}\n")
        self._file, self._secrets = folder / LOG, secrets_of(cfg)
        printable.listeners.append(self.add)
        try:
            self._write()
            yield
        except Exception as error:
            known = user_error(error, folder)
            self.add(f"error: {known}" if known else "".join(traceback.format_exception(error)))
            raise
        finally:
            printable.listeners.remove(self.add)
            self._file = None

    def _write(self) -> None:
        if self._file is None:
            return
        text = printable.printable(without("".join(self._waiting), self._secrets))
        self._waiting.clear()
        with (
            contextlib.suppress(OSError),
            open(self._file, "a", encoding="utf-8", errors="backslashreplace") as file,
        ):
            file.write(text)
