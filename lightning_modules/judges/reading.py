"""Reading a judge's answer: a JSON object, or the probabilities of its first token."""

import json
import math
from collections.abc import Mapping
from typing import Any

from lightning_modules.judges.rubric import Question

# Of the first token's probability, what has to lie on verdicts; else something else is being said.
LEAST = 0.1
# How many braces are tried: an answer of a hundred thousand costs no hour.
TRIED = 50


def read_json(question: Question, answer: str) -> float | None:
    """The value of the last JSON object in an answer that holds a verdict; None if there is none.

    Reasons, or what a model calls thinking, may stand before it.
    """
    decoder = json.JSONDecoder()
    places = [i for i, sign in enumerate(answer) if sign == "{"]
    for place in reversed(places[-TRIED:]):
        try:
            found, _ = decoder.raw_decode(answer, place)
        except (ValueError, RecursionError):
            continue
        if (value := _value(question, found)) is not None:
            return value
    return None


def _value(question: Question, found: Any) -> float | None:
    said = found.get(question.key) if isinstance(found, Mapping) else None
    if isinstance(said, bool) or not isinstance(said, str | int | float):
        return None
    if isinstance(said, float):
        return question.values.get(str(int(said))) if said.is_integer() else None
    names = {name.lower(): value for name, value in question.values.items()}
    return names.get(str(said).strip().lower())


def read_tokens(question: Question, probabilities: Mapping[str, float]) -> float | None:
    """The expected value of the verdict, over those verdicts that are one token, from the
    probabilities of tokens; None if hardly any of it lies on them.
    """
    on = dict.fromkeys(question.single, 0.0)
    for token, probability in probabilities.items():
        if (name := token.strip()) in on:
            on[name] += probability
    total = sum(on.values())
    if not total >= LEAST:  # nor nan
        return None
    return sum(question.values[name] * p for name, p in on.items()) / total


def first_token(choice: Mapping[str, Any]) -> dict[str, float] | None:
    """The most probable first tokens of a chat completion's choice; None if it tells none."""
    try:
        listed = choice["logprobs"]["content"][0]["top_logprobs"]
        return {str(each["token"]): math.exp(min(each["logprob"], 0.0)) for each in listed} or None
    except (KeyError, IndexError, TypeError, ValueError):
        return None
