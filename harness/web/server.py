"""A page on this machine, served by a thread while a block lasts."""

import errno
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from harness.errors import RunError
from harness.web.doors import Doors, is_this_machine

SHUT_DOWN = 3  # seconds that answers in hand have to end
ANYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True)
class Site:
    """What is served: `address` opens it, with the token if it needs one."""

    address: str
    ended: threading.Event

    def wait(self) -> None:
        """Return when the server has ended, which it does not by itself; a signal raises Stopped
        meanwhile.
        """
        while not self.ended.wait(1.0):  # without a limit a signal would wait as well
            pass


@contextmanager
def serving(app: ASGIApp, host: str, port: int) -> Iterator[Site]:
    """Serve `app` at this host and port (0: any that is free) while the block lasts.

    For other machines, any host but this one's own names, a token is needed, which is part of the
    address. RunError if the host or port cannot be had.
    """
    listening = _bound(host, port)
    token = None if is_this_machine(host) else secrets.token_urlsafe(24)
    config = uvicorn.Config(
        Doors(app, token),
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUT_DOWN,
    )
    server = uvicorn.Server(config)
    # Not by the thread's own `join`: a signal there makes Python 3.11 take it for ended.
    ended = threading.Event()

    def serve() -> None:
        try:
            server.run([listening])
        finally:
            ended.set()

    threading.Thread(target=serve, daemon=True).start()
    try:
        while not server.started and not ended.wait(0.01):
            pass
        yield Site(_address(host, listening.getsockname()[1], token), ended)
    finally:
        server.should_exit = True
        ended.wait(2 * SHUT_DOWN)
        listening.close()


def require_free(host: str, port: int) -> None:
    """Raise RunError unless this host and port can be had, before what takes long is done."""
    _bound(host, port).close()


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind)
        # One that was just stopped may be followed at once; one that listens is not pushed aside.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(128)
    except OSError as error:
        raise RunError(_why_not(host, port, error)) from error
    return listening


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port={port}: another program is listening there, perhaps this one; give another port,"
            " or port=0 for any that is free"
        )
    if error.errno == errno.EACCES:
        return f"port={port}: may not be used ({error.strerror}); give one above 1023"
    return f"host={host}: this machine cannot be reached there ({error.strerror or error})"


def _address(host: str, port: int, token: str | None) -> str:
    name = _own_address() if host in ANYWHERE else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{port}/" + (f"?token={token}" if token else "")


def _own_address() -> str:
    """An address by which others reach this machine; nothing is sent to find it."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # of no machine (RFC 5737)
            return probe.getsockname()[0]
    except OSError:
        return socket.gethostname()
