"""A judge and what it is asked, without what takes seconds to import."""

from datamodules.records import Prompt
from lightning_modules.judges.judge import Judge

NAME = "toy"


def judge_at(folder, port: int, **options) -> Judge:
    """A judge at a port of this machine, with its cache in a folder, whose waits are short."""
    given = {
        "name": "helpful",
        "criteria": "How good is it?",
        "scale": [1, 9],
        "base_url": f"http://127.0.0.1:{port}/v1",
        "model": NAME,
        "cache": f"{folder}/judge.sqlite",
        "concurrency": 16,
        "backoff": [0.005, 0.05],
    }
    return Judge(**given | options)


def questions(number: int) -> tuple[list[Prompt], list[str]]:
    """So many prompts, and a response to each."""
    prompts = [Prompt.from_text(f"What is {i} squared?") for i in range(number)]
    return prompts, [f"It is {i * i}." for i in range(number)]


def values(verdicts) -> list[float | None]:
    return [verdict.value for verdict in verdicts]
