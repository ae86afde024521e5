"""A judge: prompts and responses in, verdicts out. Bounded, cached, budgeted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_modules.judges.verdict import Counts, Verdict
from lightning_modules.options.judges import JudgeOptions


@dataclass(frozen=True)
class JudgeContext:
    """What a judge may use: `folder`, where its budget is counted (None: nowhere that lasts);
    `encoder(path)`, a language model's tokenizer with its chat template and without limits, `how`
    its model is loaded (`LoadOptions`) and the `device` that it goes to; `say`, told once what a
    person should know.
    """

    folder: Path | None = None
    encoder: Callable[[str], Any] | None = None
    how: Any = None
    device: Any = "cpu"
    say: Callable[[str], None] = print


class Judge:
    """A constructor checks options; `check` asks the endpoint once, before anything expensive;
    `bind` gives it the run's folder, and loads a model that judges in this process.
    """

    def __init__(self, **options: Any):
        self.options = JudgeOptions(**options)
        self.name = self.options.name
        self.counts = Counts()

    @property
    def words(self) -> str:
        """Who judges by what, for people."""
        raise NotImplementedError

    def check(self, context: JudgeContext) -> None:
        """Raise OptionError, ModelError or JudgeError unless it gives verdicts."""
        raise NotImplementedError

    def bind(self, context: JudgeContext) -> None:
        """Make ready for many questions."""
        raise NotImplementedError

    def rate(self, prompts: Sequence[Any], responses: Sequence[str]) -> list[Verdict]:
        """A rating of each response, in the rubric's scale."""
        raise NotImplementedError

    def compare(
        self, prompts: Sequence[Any], firsts: Sequence[str], seconds: Sequence[str]
    ) -> list[Verdict]:
        """The probability that the first response is better, read in this order."""
        raise NotImplementedError
