"""What the server of tests/commands/warm.py is asked for.

    WARM=<socket> <python> -IS ask.py <the arguments of Python>

Ends as Python would have ended with these arguments, in this folder and environment.
"""

import json
import os
import socket
import sys
from collections.abc import Sequence


def ask(arguments: Sequence[str]) -> int:
    """The exit code of Python with these arguments, by the server at $WARM."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ["WARM"])
        request = {
            "arguments": list(arguments),
            "folder": os.getcwd(),
            "environment": dict(os.environ),
        }
        socket.send_fds(server, [json.dumps(request).encode() + b"\n"], [0, 1, 2])
        return int(server.makefile().read() or 1)


if __name__ == "__main__":
    sys.exit(ask(sys.argv[1:]))
