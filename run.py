"""rlhf-ladder, from a checkout `python run.py algo=ppo model=llama`. See `python run.py --help`."""

import signal
import sys
from types import FrameType


def main() -> None:
    """The command line. A signal that comes while all is imported ends it like any later one."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)
    from harness.program import main

    main()


def _stop(number: int, frame: FrameType | None) -> None:
    print("stopped before anything was begun", flush=True)
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
