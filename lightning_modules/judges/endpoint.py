"""An OpenAI-compatible endpoint: one question in, its answer out, whatever happens in between."""

import asyncio
import json
import random
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from lightning_modules.errors import OptionError
from lightning_modules.judges.budget import Budget
from lightning_modules.judges.verdict import Counts
from lightning_modules.options.judges import JudgeOptions

# Asking again may help: time-outs, conflicts, too early, too many at once; and all of 5xx.
AGAIN = (408, 409, 425, 429)
# Of what an endpoint says of an error, characters that are repeated.
SAID = 300
# A key in what an endpoint says.
HIDDEN = "<secret>"
OPTIONS = {
    401: "judge.key_from: the endpoint does not take the key, or wants one",
    403: "judge.key_from: the endpoint does not let this key use the model",
    404: "judge.model={model}, judge.base_url={base_url}: there is no such model or place",
    405: "judge.base_url={base_url}: no chat completions are made below this address",
    402: "judge.key_from: the account has nothing left to pay with",
}


class NoAnswer(Exception):
    """A question that stays without an answer; its text says why."""


@dataclass
class Refusal(Exception):
    """What no second try would change: a status of 4xx, and what the endpoint says."""

    status: int
    said: str


class Endpoint:
    """Asks by HTTP. Every request counts in the budget, and is tried again where that may help.

    `client` exists while questions are asked.
    """

    def __init__(self, options: JudgeOptions, counts: Counts, budget: Budget):
        self.options = options
        self.counts = counts
        self.budget = budget
        self.url = f"{options.base_url}/chat/completions"
        self._key = options.key()
        self.ended: Exception | None = None  # why nothing more is asked
        self._not_before = 0.0  # monotonic seconds: no request sooner, as one was told to wait

    def client(self) -> httpx.AsyncClient:
        """Connections, for one event loop."""
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        number = self.options.concurrency
        return httpx.AsyncClient(
            headers=headers,
            timeout=self.options.timeout,
            limits=httpx.Limits(max_connections=number, max_keepalive_connections=number),
        )

    async def answer(self, client: httpx.AsyncClient, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request's body: `message` and `logprobs` of its first choice, `usage`.

        Raises NoAnswer after all tries, Refusal for what is no use to try again, JudgeError where
        the budget is spent.
        """
        for tried in range(self.options.retries + 1):
            await asyncio.sleep(max(self._not_before - time.monotonic(), 0))
            if self.ended:
                raise self.ended
            self.counts.retried += tried > 0
            asked_to_wait = None
            try:
                response = await self._send(client, body)
                if response.status_code == 200:
                    return _choice(self._without_key(response.text))
                why = self._error(response)
                asked_to_wait = retry_after(response)
            except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, TimeoutError) as error:
                why = _words(error, self.options.timeout)
            except _Nonsense as error:
                why = str(error)
            if tried < self.options.retries:
                await self._wait(tried, asked_to_wait, why)
        raise NoAnswer(f"{why}, after {_times(self.options.retries + 1)}")

    async def _send(self, client: httpx.AsyncClient, body: Mapping[str, Any]) -> httpx.Response:
        self.budget.spend()
        self.counts.requests += 1
        # The client's own limit is for each part of an exchange.
        async with asyncio.timeout(self.options.timeout):
            return await client.post(self.url, json=body)

    def _error(self, response: httpx.Response) -> str:
        """Why there is no answer in this response; Refusal if there would be none the next time."""
        status, (code, said) = response.status_code, _said(response)
        said = self._without_key(said)
        if status in (401, 403):  # some repeat a part of the key
            said = ""
        if code == "insufficient_quota":
            raise Refusal(402, said)
        if status not in AGAIN and status < 500:
            raise Refusal(status, said)
        return f"status {status}" + (f" ({said})" if said else "")

    def _without_key(self, said: str) -> str:
        """What an endpoint says, in which it may repeat the key that it was given."""
        return said.replace(self._key, HIDDEN) if self._key else said

    async def _wait(self, tried: int, asked: float | None, why: str) -> None:
        """Before the next try: as long as the endpoint asks for, and at least a time that doubles
        with every try, less a random part of it, so that not all come back at once.
        """
        first, longest = self.options.backoff
        if asked is not None:
            if asked > longest:
                raise NoAnswer(
                    f"{why}; it asks to wait {asked:.0f} s, which is more than judge.backoff"
                )
            self._not_before = max(self._not_before, time.monotonic() + asked)
        await asyncio.sleep(min(longest, first * 2**tried) * random.uniform(0.5, 1))

    def refused(self, refusal: Refusal) -> OptionError:
        """The error that names the option which a refusal speaks of."""
        status, said = refusal.status, f": {refusal.said}" if refusal.said else ""
        known = OPTIONS.get(status)
        if known:
            place = {"model": self.options.model, "base_url": self.options.base_url}
            return OptionError(f"{known.format(**place)} (status {status}{said})")
        if 300 <= status < 400:
            what = "the endpoint is somewhere else; give its own address"
            return OptionError(f"judge.base_url={self.options.base_url}: {what} (status {status})")
        return OptionError(
            f"judge.model={self.options.model}: the endpoint does not take what it is asked (status"
            f" {status}{said}). If it names a setting, change that: judge.temperature=null,"
            " judge.max_tokens=null and judge.verdicts leave it out or change it, judge.extra adds"
            " what the endpoint wants"
        )


class _Nonsense(Exception):
    """A response that claims to be an answer and is none."""


def _choice(said: str) -> dict[str, Any]:
    try:
        body = json.loads(said)
        choice = body["choices"][0]
        text = choice["message"]["content"]
        usage = body.get("usage") or {}
        tokens = [int(usage.get(f"{kind}_tokens") or 0) for kind in ("prompt", "completion")]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise _Nonsense("an answer that is no chat completion") from None
    if not isinstance(text, str | None):
        raise _Nonsense("an answer without text")
    return {"text": text or "", "logprobs": choice.get("logprobs"), "tokens": tokens}


def _said(response: httpx.Response) -> tuple[str, str]:
    """The code and the message of an error, as endpoints put them into its body."""
    try:
        body = json.loads(response.text[:100_000])
    except (ValueError, RecursionError):
        body = response.text if "html" not in response.headers.get("content-type", "") else ""
    error = body.get("error", body) if isinstance(body, dict) else body
    code = str(error.get("code") or error.get("type") or "") if isinstance(error, dict) else ""
    said = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    return code, " ".join(str(said or "").split())[:SAID]


def retry_after(response: httpx.Response) -> float | None:
    """Seconds that an endpoint asks to wait, given as seconds or as a date; None if it does not."""
    given = response.headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d+(\.\d*)?", given):
        return float(given)
    try:
        when = parsedate_to_datetime(given)
    except (ValueError, TypeError):
        return None
    return max((when.astimezone(UTC) - datetime.now(UTC)).total_seconds(), 0.0)


def _words(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return f"no answer within judge.timeout={timeout:g} s"
    if isinstance(error, httpx.ConnectError):
        return "nothing can be reached at judge.base_url"
    return f"the connection broke ({type(error).__name__})"


def _times(number: int) -> str:
    return "one try" if number == 1 else f"{number} tries"
