"""A Python that has its libraries loaded, and forks for each command: honest processes without the
seconds that imports take.

    python -m tests.commands.warm <socket>
"""

import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import traceback

LIBRARIES = (
    "harness.program",
    "harness.pipeline.rungs",
    "harness.reports.reward_report",
    "harness.comparison.writing",
    "harness.evaluation.match",
    "transformers.models.llama.modeling_llama",
    "peft",
    "datasets",
)


def serve(path: str) -> None:
    """Commands as they come, each in a process, until the standard input is closed."""
    for name in LIBRARIES:
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)  # threads do not survive a fork
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        print("ready", flush=True)
        while select.select([server, sys.stdin], [], [])[0] == [server]:
            client, _ = server.accept()
            if not os.fork():
                server.close()
                _answer(client)
            client.close()


def _answer(client: socket.socket) -> None:
    """Run what a client asks for in a child of this process, and tell its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    message, descriptors, _, _ = socket.recv_fds(client, 1 << 20, 3)
    while not message.endswith(b"\n"):
        message += client.recv(1 << 20)
    pid = os.fork()
    if not pid:
        client.close()
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os._exit(_run(**json.loads(message)))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    client.sendall(str(code if code >= 0 else 128 - code).encode())
    os._exit(0)


def _run(arguments: list[str], folder: str, environment: dict[str, str]) -> int:
    """`python <arguments>`, and the exit code that it would have."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    option, *rest = arguments
    status: object = 0
    try:
        if option == "-c":
            sys.path[0], sys.argv = "", ["-c", *rest[1:]]
            exec(compile(rest[0], "-c", "exec"), {"__name__": "__main__"})
        elif option == "-m":
            sys.path[0], sys.argv = folder, rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        else:
            sys.path[0], sys.argv = os.path.dirname(os.path.abspath(option)), arguments
            runpy.run_path(option, run_name="__main__")
    except SystemExit as ended:
        status = ended.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    return status if isinstance(status, int) else int(status is not None)


if __name__ == "__main__":
    serve(sys.argv[1])
