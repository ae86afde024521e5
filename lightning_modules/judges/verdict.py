"""What a judge says, and what it took."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Usage:
    """Tokens that a verdict took, as the endpoint counts them; none where it was in the cache."""

    prompt_tokens: int = 0
    answer_tokens: int = 0


@dataclass(frozen=True)
class Verdict:
    """`value`: a rating in the rubric's scale or, of two responses, the probability that the first
    is better (1/2: a tie); None where there is none, and `why_not` says why.
    """

    value: float | None
    why_not: str | None = None
    usage: Usage = Usage()


@dataclass
class Counts:
    """What has happened since the judge was made, in this process."""

    asked: int = 0  # verdicts that were asked for, from wherever they came
    from_cache: int = 0  # of them, known already, or asked for twice at a time
    failed: int = 0  # without a verdict because the endpoint gave no answer
    malformed: int = 0  # without one because the answer held none
    retried: int = 0  # requests that were made again after a failure
    requests: int = 0  # that were sent
    tokens: int = 0  # of prompts and answers, as the endpoint counts them

    def as_dict(self) -> dict[str, int]:
        return asdict(self)
