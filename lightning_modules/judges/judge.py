"""A judge: prompts and responses in, verdicts out. Bounded, cached, budgeted."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from datamodules.records import Prompt
from lightning_modules.errors import JudgeError, ModelError, OptionError
from lightning_modules.judges.budget import Budget
from lightning_modules.judges.cache import AnswerCache, key_of
from lightning_modules.judges.reading import LEAST, read_tokens
from lightning_modules.judges.rubric import Question, Rubric
from lightning_modules.judges.verdict import Counts, Verdict
from lightning_modules.options.identities import pretrained_identity
from lightning_modules.options.judges import JudgeOptions

TOO_LONG = "the question has more tokens than the judge has positions"
TRIED = (Prompt.from_text("What is 2 + 3?"), "5", "It is a number.")


@dataclass(frozen=True)
class JudgeContext:
    """What a judge may use: `folder`, where its requests are counted (None: nowhere that lasts);
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
    """A constructor checks options; `check` asks once, before anything expensive; `bind` gives it
    the run's folder, and loads a model that judges in this process.
    """

    def __init__(self, **options: Any):
        self.options = JudgeOptions(**options)
        self.name = self.options.name
        self.counts = Counts()
        form = "tokens" if self.options.local else self.options.verdicts
        reasons = self.options.reasons and form == "json"
        self.rubric = Rubric(self.options.criteria, self.options.scale, form, reasons)
        self._budget = Budget(self.options.max_requests)
        self._say: Callable[[str], None] = print
        self._local: Any = None
        self._told: dict[str, int] = {}

    @property
    def words(self) -> str:
        """Who judges by what, for people."""
        where = f" at {self.options.base_url}" if self.options.base_url else ""
        return f"{self.options.model}{where}, by judge={self.name}"

    @cached_property
    def cache(self) -> AnswerCache:
        """What was answered before."""
        return AnswerCache(self.options.cache)

    def check(self, context: JudgeContext) -> None:
        """Raise OptionError, ModelError or JudgeError unless it gives verdicts: one question is
        asked of an endpoint; of a model in this process only files are looked at.
        """
        self._say = context.say
        if self.options.local:
            from lightning_modules.judges.local import LocalModel
            from lightning_modules.models.loading import check_causal_lm

            check_causal_lm(self.options.model)
            judge = LocalModel(None, context.encoder(self.options.model), self.options.model)
            judge.verdict_tokens(self._question(*TRIED).single)
            return
        question = self._question(*TRIED)
        verdict = self._verdicts([question])[0]
        if verdict.value is None:
            self._asking.forget(question)
            hint = "; a larger model may give one, or judge.verdicts=tokens"
            hint *= self.counts.malformed > 0
            raise JudgeError(f"judge={self.name}: {self.words}: {verdict.why_not}{hint}")

    def bind(self, context: JudgeContext) -> None:
        """Make ready for many questions."""
        self._say = context.say
        if context.folder is not None:
            self._budget.begin(context.folder)
        if self.options.local:
            from lightning_modules.judges.local import LocalModel
            from lightning_modules.models.loading import load_causal_lm
            from lightning_modules.models.parameters import frozen

            path = self.options.model
            lm = frozen(load_causal_lm(path, how=context.how)).to(context.device)
            self._local = LocalModel(lm, context.encoder(path), path)
            question = self._question(*TRIED)
            (said,) = self._local.probabilities([question.text], question.single)
            if said is None:
                raise ModelError(f"judge.model={path}: has too few positions to read {self.name}")
            if (mass := said[1]) < LEAST:
                context.say(
                    f"judge.model={path}: asked for a verdict, it gives {100 * mass:.2g}% of its"
                    " probability to verdicts; how these compare may mean little"
                )

    def counted(self) -> dict[str, int]:
        """The counts since this was called last, by the names of metrics."""
        now = self.counts.as_dict()
        new = {f"judge/{name}": now[name] - self._told.get(name, 0) for name in now}
        self._told = now
        return new

    def rate(self, prompts: Sequence[Any], responses: Sequence[str]) -> list[Verdict]:
        """A rating of each response, in the rubric's scale."""
        self.require_scale()
        pairs = zip(prompts, responses, strict=True)
        return self._verdicts([self.rubric.rating(*pair) for pair in pairs])

    def compare(
        self, prompts: Sequence[Any], firsts: Sequence[str], seconds: Sequence[str]
    ) -> list[Verdict]:
        """The probability that the first response is better, read in this order."""
        triples = zip(prompts, firsts, seconds, strict=True)
        return self._verdicts([self.rubric.comparison(*triple) for triple in triples])

    def require_scale(self) -> None:
        """OptionError if this judge gives no ratings."""
        if self.options.scale is None:
            raise OptionError(
                f"judge={self.name}: compares two answers and rates none; give a rubric with a"
                " scale, such as judge=helpful, or judge.scale=[1,9]"
            )

    def _question(self, prompt: Prompt, good: str, bad: str) -> Question:
        """One of the kind that this rubric is for."""
        if self.options.scale is None:
            return self.rubric.comparison(prompt, good, bad)
        return self.rubric.rating(prompt, good)

    def _verdicts(self, questions: Sequence[Question]) -> list[Verdict]:
        if not questions:
            return []
        if self.options.local:
            return self._of_local(questions)
        return finished(self._asking.verdicts(questions))

    @cached_property
    def _asking(self) -> Any:
        from lightning_modules.judges.asking import Asking  # and httpx, for endpoints alone
        from lightning_modules.judges.endpoint import Endpoint

        endpoint = Endpoint(self.options, self.counts, self._budget)
        return Asking(self.options, endpoint, self.cache, self.counts, lambda x: self._say(x))

    def _of_local(self, questions: Sequence[Question]) -> list[Verdict]:
        """Verdicts of the model in this process, which is asked what is not known yet. What it says
        depends, by rounding, on what else is in a batch: only the cache makes it the same again.
        """
        keys = [key_of(model=self._identity, question=q.text) for q in questions]
        known = {key: self.cache.get(key) for key in keys}
        new = {k: q for k, q in zip(keys, questions, strict=True) if known[k] is None}
        self.counts.asked += len(questions)
        self.counts.from_cache += len(questions) - len(new)
        if new:
            texts, verdicts = [q.text for q in new.values()], questions[0].single
            said = self._local.probabilities(texts, verdicts)
            for key, found in zip(new, said, strict=True):
                known[key] = found and self.cache.put(key, found)
        return [self._verdict(q, known[k]) for k, q in zip(keys, questions, strict=True)]

    def _verdict(self, question: Question, said: Any) -> Verdict:
        value = said and read_tokens(question, said[0])
        self.counts.failed += value is None
        return Verdict(value, TOO_LONG if value is None else None)

    @cached_property
    def _identity(self) -> Any:
        return pretrained_identity(self.options.model)


def finished(work: Coroutine[Any, Any, Any]) -> Any:
    """What asynchronous work comes to; in a thread of its own where a loop is running already, as
    in a notebook.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()
