"""SIGTERM and ctrl-c as an orderly end of the program: exit code 143 or 130, and one line.

A signal raises Stopped where the program stands. What must not be cut in two is done between
`finish_first` and `may_stop`. Imported before anything else, so nothing heavy is imported here.
"""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn

from harness.printable import say
from harness.ranks import this_rank

NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "ctrl-c"}
# Seconds within which a signal is the same one again: `timeout` and some schedulers send it to a
# process, and to the group in which it is.
ECHO = 0.2
AGAIN = 0.05  # seconds
SHOW_CURSOR = "\x1b[?25h"


class Stopped(SystemExit):
    """A signal has ended the program. No error, so whoever handles errors lets it through."""

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.told = False  # to the user
        self.name = NAMES[signal.Signals(number)]

    def line(self) -> str:
        """What has happened, and what is left of the training that was in hand."""
        kept = f"; kept: {_state.kept}" if _state.kept else ""
        return f"stopped by {self.name}{kept}"


@dataclass
class _State:
    asked: int | None = None  # the signal that was received
    at: float = 0.0  # when
    kept: str | None = None  # of what is in hand: what is on the disk
    finishing: str | None = None  # what is done before the program stops
    companions: list[subprocess.Popen] = field(default_factory=list)  # processes of other ranks
    has_workers: bool = False  # they run the jobs of a sweep


_state = _State()


def listen() -> None:
    """Have both signals end this process so; called again, it only makes sure of that.

    One that is ignored stays so, as nohup and a shell's `&` want it. Processes of other ranks leave
    both to the first one, which ends them, and end when it is gone.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for number in NAMES:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_IGN if this_rank() else _received)
    sys.unraisablehook = _ignored
    if this_rank():
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


@contextlib.contextmanager
def on_ctrl_c(act: Callable[[], None]) -> Iterator[None]:
    """While this lasts, ctrl-c does something else than to end the program."""
    before = signal.signal(signal.SIGINT, lambda number, frame: act())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def remember(kept: str | None) -> None:
    """What of the training in hand is on the disk, for who stops it; None: there is none."""
    _state.kept = kept


def finish_first(what: str | None) -> None:
    """From here on a signal waits for `may_stop`, and the user is told that `what` is being
    finished; None: it does not wait any more.
    """
    _state.finishing = what


def may_stop() -> None:
    """Raise Stopped if a signal has come meanwhile; the next one need not wait."""
    _state.finishing = None
    if _state.asked is not None:
        raise Stopped(_state.asked)


def stop_behind(error: BaseException | None) -> Stopped | None:
    """The Stopped that an error is or came of: where a signal cuts a library's work in two, the
    library's own clean-up may fail. None: no signal caused it.
    """
    while error is not None and not isinstance(error, Stopped):
        error = error.__context__
    return error


def stop_workers_first() -> None:
    """From here on a signal is passed on to the worker processes of this one, which end their jobs
    in order; `may_stop` says that they have.
    """
    listen()
    _state.has_workers = True
    finish_first("the jobs in hand, whose states are kept")


def is_stopping() -> bool:
    """Whether a signal has come."""
    return _state.asked is not None


def end_with_this(processes: list[subprocess.Popen]) -> None:
    """Processes of other ranks, which a signal to this one ends as well."""
    _state.companions = processes


def end_companions() -> None:
    """End the processes of other ranks; they may be waiting for this one in the middle of a step.

    Lightning watches them, and would kill this process for one that did not return 0.
    """
    for process in _state.companions:
        process.kill()
        process.wait()
        process.returncode = 0


def _received(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if _state.asked is None:
        _state.asked, _state.at = number, now
        _pass_on(number)
        if _state.finishing is None:
            raise Stopped(number)
        _say(f"{NAMES[signal.Signals(number)]}: finishing {_state.finishing}; again: stop at once")
    elif now - _state.at > ECHO:
        _stop_at_once(number)


def _ignored(unraisable: "sys.UnraisableHookArgs") -> None:
    """Python drops what is raised in a callback of a weak reference (imports have such) or in a
    destructor. A signal that came there is sent once more, a moment later.
    """
    if isinstance(unraisable.exc_value, Stopped):
        number, _state.asked = _state.asked, None
        threading.Timer(AGAIN, os.kill, (os.getpid(), number)).start()
    else:
        sys.__unraisablehook__(unraisable)


def _pass_on(number: int) -> None:
    for worker in multiprocessing.active_children() if _state.has_workers else ():
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, number)


def _stop_at_once(number: int) -> NoReturn:
    end_companions()
    _pass_on(signal.SIGKILL)
    if sys.stdout.isatty():
        _say(SHOW_CURSOR, plain=True)  # progress bars hide it
    _say(f"stopped at once by {NAMES[signal.Signals(number)]}; what was kept before is there")
    os._exit(128 + number)


def _say(text: str, plain: bool = False) -> None:
    with contextlib.suppress(RuntimeError):  # in the middle of another line's writing
        if plain:
            print(text, end="", flush=True)
        else:
            say(text)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)
