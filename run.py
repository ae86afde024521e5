"""rlhf-ladder, from a checkout `python run.py algo=ppo model=llama`. See `python run.py --help`."""

import os
import signal
from types import FrameType


def main() -> None:
    """The command line. While all is imported and the config composed, a signal ends it here."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)
    from harness.program import main

    main()


def _stop(number: int, frame: FrameType | None) -> None:
    # No exception: in a library that is half imported it could be lost, or cause another one.
    os.write(1, b"stopped before anything was begun\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
