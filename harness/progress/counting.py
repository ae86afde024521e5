"""How far a count has come: a bar on a terminal, a line now and then elsewhere."""

import time
from types import TracebackType

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from harness.durations import clock, roughly
from harness.progress.lines import bar, one_line

SPACING = 30.0  # seconds from one line to the next


class Counting:
    """Shows how many of `total` things are done: `with Counting(...) as counting: counting(12)`."""

    def __init__(self, console: Console, label: str, total: int):
        self.console = console
        self.label = label
        self.total = total
        self.done = 0
        self.live = Live(self, console=console, transient=True, refresh_per_second=4)

    def __enter__(self) -> "Counting":
        self.began = self.told = time.monotonic()
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.live.stop()

    def __call__(self, done: int) -> None:
        """So many are done."""
        self.done = done
        now = time.monotonic()
        if self.live.is_started or now - self.told < SPACING or done == self.total:
            return
        self.told = now
        left = self._left()
        end = f"{roughly(left)} left" if left else ""
        self.console.print(one_line(self.console.width, self._count(), [], end))

    def _count(self) -> str:
        return f"  {self.label} {self.done:,}/{self.total:,}"

    def _left(self) -> float | None:
        """Seconds to the end; None before anything is done."""
        if not self.done:
            return None
        return (time.monotonic() - self.began) * (self.total - self.done) / self.done

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        length = 24 if options.max_width >= 100 else 14 if options.max_width >= 72 else 6
        drawn = bar(self.done / self.total if self.total else 1.0, length, console.encoding)
        left = self._left()
        times = clock(time.monotonic() - self.began) + (f", {clock(left)} left" if left else "")
        must = f"  {self.label} {drawn} {self.done:,}/{self.total:,}  {times}"
        yield Text(one_line(options.max_width, must), no_wrap=True)
