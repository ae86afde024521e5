"""A real server of the OpenAI API on this machine: a toy language model behind chat completions."""

import asyncio
import functools
import json
import math
import random
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager

import torch
from transformers import LlamaConfig

from lightning_modules.models.loading import random_causal_lm
from tests.lightning_modules.judges.asked import NAME

WORDS = [*"0123456789", "A", "B", "tie", "{", "}", " "]


class Toy:
    """A model of 16 tokens that reads the bytes of a text; its answer depends on all of them."""

    def __init__(self):
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
        config = LlamaConfig(vocab_size=len(WORDS), max_position_embeddings=8192, **sizes, **heads)
        self.lm = random_causal_lm(config, seed=0)
        self.next = functools.cache(self._next)

    @torch.no_grad()
    def _next(self, text: str) -> dict[str, float]:
        """Log-probabilities of the next word."""
        ids = torch.tensor([[byte % len(WORDS) for byte in text.encode()[-400:]]])
        logprobs = self.lm(ids).logits[0, -1].log_softmax(-1)
        return dict(zip(WORDS, logprobs.tolist(), strict=True))


class Server:
    """Chat completions of a toy; `schema` and `logprobs` say what it takes, `key` what it wants,
    `says` (of the verdict) what it answers in the place of a verdict's JSON.
    """

    def __init__(self, *, schema=True, logprobs=True, key=None, says=None):
        self.toy, self.schema, self.logprobs, self.key, self.says = (
            Toy(),
            schema,
            logprobs,
            key,
            says,
        )
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict] = []
        self.most_at_once = self.now = 0

    def respond(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict]:
        if self.key and headers.get("authorization") != f"Bearer {self.key}":
            sent = headers.get("authorization")
            return 401, {"error": {"message": f"Incorrect API key provided: {sent}"}}
        given = json.loads(body)
        if path != "/v1/chat/completions" or given["model"] != NAME:
            return 404, {"error": {"message": f"The model {given['model']} does not exist"}}
        if "response_format" in given and not self.schema:
            return 400, {"error": {"message": "response_format is not supported"}}
        text = "".join(message["content"] for message in given["messages"])
        if len(text) > 20_000:
            return 400, {"error": {"message": "maximum context length is 20000 characters"}}
        self.asked[body.decode()] += 1
        self.bodies.append(given)
        return 200, self.completion(given, text)

    def completion(self, given: dict, text: str) -> dict:
        next_word = self.toy.next(text)
        best = max(next_word, key=next_word.get)
        logprobs = None
        if given.get("logprobs") and self.logprobs:
            top = [{"token": word, "logprob": p} for word, p in next_word.items()]
            logprobs = {
                "content": [{"token": best, "logprob": next_word[best], "top_logprobs": top}]
            }
        else:
            best = self.verdict(given, text, next_word)
        choice = {"message": {"role": "assistant", "content": best}, "logprobs": logprobs}
        usage = {"prompt_tokens": len(text), "completion_tokens": len(best)}
        return {"choices": [choice], "usage": usage}

    def verdict(self, given: dict, text: str, next_word: dict[str, float]) -> str:
        key = "rating" if '"rating"' in text else "better"
        values = [*"123456789"] if key == "rating" else ["A", "B", "tie"]
        # Drawn by noise that the text decides: the same question has the same answer.
        weights = [math.exp(next_word[value]) for value in values]
        (best,) = random.Random(text).choices(values, weights)
        answer = json.dumps({key: int(best) if key == "rating" else best})
        return self.says(len(given["messages"]), answer) if self.says else answer

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            while request := await read_request(reader):
                self.now += 1
                self.most_at_once = max(self.most_at_once, self.now)
                await asyncio.sleep(0)
                status, answer = self.respond(*request)
                self.now -= 1
                writer.write(written(status, json.dumps(answer).encode()))
                await writer.drain()


async def read_request(reader: asyncio.StreamReader):
    """Path, headers and body; None at the end."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        pairs = (line.split(":", 1) for line in lines[1:] if ":" in line)
        headers = {name.lower(): value.strip() for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        return lines[0].split()[1], headers, body
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def written(status: int, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, "Content-Type: application/json", *headers, "", ""]).encode() + body


@contextmanager
def closing(writer):
    try:
        yield
    except (ConnectionError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


@contextmanager
def serving(handle: Callable):
    """The port of a server that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(handle, "127.0.0.1", 0, limit=2**24))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        asyncio.run_coroutine_threadsafe(_ended(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _ended(server: asyncio.Server) -> None:
    server.close()
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
