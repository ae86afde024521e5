"""A proxy that spoils a share of what goes through it, as networks and busy endpoints do."""

import asyncio
import random
from collections import Counter

from tests.lightning_modules.judges.server import closing, read_request, written

FAULTS = ("429", "500", "hang", "cut", "nonsense", "not_json", "reset")


class FaultProxy:
    """Between a client and the server at `port`: of all requests a `share` is spoilt, by turns in
    each of the ways of `faults`.
    """

    def __init__(self, port: int, share: float, faults=FAULTS, seed: int = 0):
        self.port, self.share, self.faults = port, share, faults
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()

    async def handle(self, reader, writer) -> None:
        with closing(writer):
            while request := await read_request(reader):
                self.done["requests"] += 1
                if self.random.random() < self.share:
                    fault = self.faults[self.done["faults"] % len(self.faults)]
                    self.done["faults"] += 1
                    self.done[fault] += 1
                    await getattr(self, f"do_{fault}")(request, writer)
                    if fault in ("cut", "reset", "hang"):
                        return
                else:
                    writer.write(await self.forwarded(request))
                await writer.drain()

    async def forwarded(self, request) -> bytes:
        path, headers, body = request
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        lines = [f"POST {path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        answer = head + await reader.readexactly(length)
        writer.close()
        return answer

    async def do_429(self, request, writer):
        writer.write(written(429, b'{"error": {"message": "slow down"}}', "Retry-After: 0"))

    async def do_500(self, request, writer):
        writer.write(written(500, b"<html>oops</html>"))

    async def do_hang(self, request, writer):
        await asyncio.sleep(5)

    async def do_cut(self, request, writer):
        answer = await self.forwarded(request)
        writer.write(answer[:-20])
        await writer.drain()

    async def do_nonsense(self, request, writer):
        writer.write(written(200, b'{"choices": []}'))

    async def do_not_json(self, request, writer):
        writer.write(written(200, b"\x00\xff<html>"))

    async def do_reset(self, request, writer):
        writer.transport.abort()
