"""The options of judges, checked as soon as they are read. No message repeats what may be a key."""

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from lightning_modules.errors import OptionError
from lightning_modules.options.paths import model_folder
from lightning_modules.options.require import one_of, require, require_at_least

VERDICTS = ("json", "tokens")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What a request says by options of its own, or must not be changed behind its back.
TAKEN = ("model", "messages", "response_format", "logprobs", "top_logprobs", "stream", "n")


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """What conf/judge/base/judge.yaml and a rubric set; the comments there say what each means."""

    name: str
    criteria: str
    scale: Any = None
    base_url: str | None = None
    model: str | None = None
    key_from: str | None = None
    verdicts: str = "json"
    reasons: bool = False
    temperature: float | None = 0.0
    max_tokens: int | None = 300
    extra: Any = field(default_factory=dict)
    concurrency: int = 8
    timeout: float = 60.0
    retries: int = 6
    backoff: Any = (0.5, 60.0)
    max_requests: int | None = None
    failures_in_a_row: int = 20
    cache: str

    def __post_init__(self):
        self._check_place()
        self._check_rubric()
        require(isinstance(self.extra, Mapping), "judge.extra", self.extra, "must be {name: value}")
        for name in TAKEN:
            rule = "is set by other options"
            require(name not in self.extra, f"judge.extra.{name}", self.extra.get(name), rule)
        require_at_least(
            1, "judge", concurrency=self.concurrency, failures_in_a_row=self.failures_in_a_row
        )
        require_at_least(0, "judge", retries=self.retries)
        require(self.timeout > 0, "judge.timeout", self.timeout, "must be above 0 seconds")
        for name in ("max_tokens", "max_requests"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"judge.{name}", value, "must be at least 1")
        object.__setattr__(self, "backoff", _pair("judge.backoff", self.backoff, "seconds"))
        require(self.backoff[0] > 0, "judge.backoff", list(self.backoff), "must be above 0 seconds")
        if self.local:
            object.__setattr__(self, "model", model_folder(self.model))

    @property
    def local(self) -> bool:
        """Whether the judge is a model in this process."""
        return self.base_url is None

    def key(self) -> str | None:
        """The key that requests carry; None if the endpoint wants none."""
        return os.environ[self.key_from].strip() if self.key_from else None

    def _check_place(self) -> None:
        require(bool(self.model), "judge.model", self.model, _WHICH)
        if self.base_url is not None:
            check_url(self.base_url)
            object.__setattr__(self, "base_url", self.base_url.rstrip("/"))
        if self.key_from is not None:
            check_key_name(self.key_from)
            rule = "is for an endpoint: give judge.base_url"
            require(not self.local, "judge.key_from", self.key_from, rule)

    def _check_rubric(self) -> None:
        require(
            bool(self.criteria.strip()), "judge.criteria", self.criteria, "say what to judge by"
        )
        require(self.verdicts in VERDICTS, "judge.verdicts", self.verdicts, one_of(VERDICTS))
        if self.scale is not None:
            low, high = _pair("judge.scale", self.scale, "whole numbers")
            whole = all(isinstance(x, int) for x in (low, high)) and low < high
            rule = "must be two whole numbers, the worst and the best: [1, 9]"
            require(whole, "judge.scale", self.scale, rule)
            object.__setattr__(self, "scale", (low, high))
            by_tokens = self.local or self.verdicts == "tokens"
            rule = "needs a rating that is one token: judge.scale=[1, 9], or [0, 9]"
            require(not by_tokens or (low >= 0 and high <= 9), "judge.scale", [low, high], rule)


# How the keys of services begin.
LIKE_A_KEY = re.compile(
    r"\b(sk|pk|rk|gsk|xai|nvapi)[-_](?=[A-Za-z_-]*\d)[\w-]{20,}|\bhf_[A-Za-z0-9]{30,}|\bAIza[\w-]{20,}"
)

_WHICH = (
    "say which model judges: a folder, or with judge.base_url=http://... the name that the endpoint"
    " there gives it"
)


def check_key_name(name: str) -> None:
    """OptionError unless the environment holds a key by this name; it is not repeated, as it may be
    the key itself.
    """
    key = os.environ.get(str(name), "").strip() if VARIABLE.fullmatch(str(name)) else ""
    if not key:
        raise OptionError(
            "judge.key_from: must be the name of an environment variable that holds the key, as in"
            " judge.key_from=OPENAI_API_KEY, and what is given is the name of none that is set. A"
            " key itself is never written into options"
        )
    if not re.fullmatch(r"[!-~]+", key):
        raise OptionError(
            f"judge.key_from={name}: what this variable holds is no key: it has spaces or"
            " characters that are not ASCII"
        )


def check_url(url: str) -> None:
    """OptionError, without the URL, if it cannot be one or says more than a place."""
    try:
        parts = urlsplit(url)
        place = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        place = False
    if not place:
        raise OptionError(
            "judge.base_url: must be the address of an OpenAI-compatible endpoint, such as"
            " http://127.0.0.1:8000/v1"
        )
    refuse_key("judge.base_url", url)
    if parts.username is not None or parts.query or parts.fragment:
        raise OptionError(
            "judge.base_url: an address holds no names, passwords, keys or questions (what stands"
            " before @ or after ?); put the key into an environment variable and give its name,"
            " judge.key_from=..."
        )


def refuse_key(option: str, value: Any) -> None:
    """OptionError, without the value, if it holds what looks like a service's key."""
    if LIKE_A_KEY.search(str(value)):
        raise OptionError(
            f"{option}: holds what looks like a key, which would be written into files; put it into"
            " an environment variable and give its name, judge.key_from=..."
        )


def _pair(option: str, value: Any, of: str) -> tuple[Any, Any]:
    """Two numbers, the smaller first."""
    rule = f"must be two {of}, the smaller first"
    ok = isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2
    require(ok, option, value, rule)
    ok = all(isinstance(x, int | float) and not isinstance(x, bool) for x in value)
    require(ok and all(map(math.isfinite, value)) and value[0] <= value[1], option, value, rule)
    return tuple(value)
