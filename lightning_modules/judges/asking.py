"""Many questions to an endpoint at a time: each answered from the cache, or asked and read."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from lightning_modules.errors import JudgeError, OptionError
from lightning_modules.judges.cache import AnswerCache, key_of
from lightning_modules.judges.endpoint import Endpoint, NoAnswer, Refusal
from lightning_modules.judges.reading import first_token, read_json, read_tokens
from lightning_modules.judges.rubric import Question
from lightning_modules.judges.verdict import Counts, Usage, Verdict
from lightning_modules.options.judges import JudgeOptions

# The most that endpoints list of a token's alternatives.
ALTERNATIVES = 20
# A request that is too long, or that cannot be processed, among others that were answered.
OF_THIS_TEXT = (400, 413, 422)
NO_VERDICT = "the judge's answer holds no verdict"


class Asking:
    """Questions to verdicts, at most `concurrency` of them under way."""

    def __init__(
        self,
        options: JudgeOptions,
        endpoint: Endpoint,
        cache: AnswerCache,
        counts: Counts,
        say: Callable[[str], None],
    ):
        self.options = options
        self.endpoint = endpoint
        self.cache = cache
        self.counts = counts
        self.say = say
        self._answered = False  # whether the endpoint takes what it is asked in general
        self._takes_schema: bool | None = None  # None: not known yet
        self._missing = 0  # verdicts missing one after another

    async def verdicts(self, questions: Sequence[Question]) -> list[Verdict]:
        """One for each question; equal ones are asked once."""
        unique = {question.text: question for question in questions}
        self.counts.asked += len(questions)
        self.counts.from_cache += len(questions) - len(unique)
        places = asyncio.Semaphore(self.options.concurrency)
        async with self.endpoint.client() as client:

            async def one(question: Question) -> Verdict | None:
                async with places:
                    try:
                        return await self._verdict(client, question)
                    except Exception as error:
                        self.endpoint.ended = self.endpoint.ended or error
                return None

            # What is on its way when one of them ends all is waited for: it is paid for.
            found = await asyncio.gather(*map(one, unique.values()))
        if self.endpoint.ended:
            ended, self.endpoint.ended = self.endpoint.ended, None
            raise ended
        known = dict(zip(unique, found, strict=True))
        return [known[question.text] for question in questions]

    async def _verdict(self, client: httpx.AsyncClient, question: Question) -> Verdict:
        used, cached = [0, 0], True
        messages = [{"role": "user", "content": question.text}]
        try:
            for _ in range(2):
                answer, was_there = await self._answer(client, question, messages)
                cached = cached and was_there
                if not was_there:
                    used = [a + b for a, b in zip(used, answer["tokens"], strict=True)]
                value = self._read(question, answer)
                if value is not None or self.options.verdicts == "tokens":
                    break
                self.counts.malformed += 1
                messages = [
                    *messages,
                    {"role": "assistant", "content": answer["text"]},
                    {"role": "user", "content": f"That holds no verdict. {question.ending}"},
                ]
        except NoAnswer as error:
            return self._counted(Verdict(None, str(error), Usage(*used)), cached=False)
        why_not = f"{NO_VERDICT}: {answer['text']!r:.100}" if value is None else None
        verdict = Verdict(value, why_not, Usage(*used))
        self.counts.from_cache += cached
        return self._counted(verdict, cached)

    def _read(self, question: Question, answer: Mapping[str, Any]) -> float | None:
        if self.options.verdicts == "json":
            return read_json(question, answer["text"])
        tokens = first_token(answer)
        if tokens is None:
            raise OptionError(
                "judge.verdicts=tokens: the endpoint tells no probabilities of tokens; give"
                " judge.verdicts=json"
            )
        return read_tokens(question, tokens)

    def _counted(self, verdict: Verdict, cached: bool) -> Verdict:
        """JudgeError if too many verdicts are missing one after another."""
        missing = verdict.value is None
        self.counts.failed += missing
        self.counts.tokens += verdict.usage.prompt_tokens + verdict.usage.answer_tokens
        if not cached:
            self._missing = self._missing + 1 if missing else 0
        if self._missing >= self.options.failures_in_a_row:
            raise JudgeError(
                f"{self._missing} verdicts one after another are missing"
                f" (judge.failures_in_a_row={self.options.failures_in_a_row}). The last one:"
                f" {verdict.why_not}. What was answered is kept: see to the endpoint, and the same"
                " command goes on"
            )
        return verdict

    async def _answer(
        self, client: httpx.AsyncClient, question: Question, messages: list[dict[str, str]]
    ) -> tuple[dict[str, Any], bool]:
        """The answer, and whether it was known already. It is kept by what was to be asked: an
        endpoint that takes no schema is asked without.
        """
        body = self._body(question, messages)
        key = self._key(body)
        if (known := self.cache.get(key)) is not None:
            self._answered = True
            return known, True
        try:
            answer = await self._asked(client, body)
        except Refusal as refusal:
            if refusal.status in OF_THIS_TEXT and self._answered:
                raise NoAnswer(
                    f"the endpoint does not take this question ({refusal.said})"
                ) from None
            raise self.endpoint.refused(refusal) from None
        self._answered = True
        return self.cache.put(key, answer), False

    def _key(self, body: Mapping[str, Any]) -> str:
        return key_of(endpoint=self.options.base_url, body=body)

    def forget(self, question: Question) -> None:
        """Let a question be asked again: whoever answers may have been mended."""
        messages = [{"role": "user", "content": question.text}]
        self.cache.forget(self._key(self._body(question, messages)))

    async def _asked(self, client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
        """The endpoint's answer; where it takes no schema, that to the question without one."""
        if self._takes_schema is None and "response_format" in body:
            try:
                answer = await self.endpoint.answer(client, body)
                self._takes_schema = True
                return answer
            except Refusal as refusal:
                if refusal.status not in OF_THIS_TEXT:
                    raise
            answer = await self.endpoint.answer(client, _without_schema(body))
            if self._takes_schema is None:
                self._takes_schema = False
                self.say("the judge's endpoint takes no JSON schema: its answers are read as text")
            return answer
        if self._takes_schema is False:
            body = _without_schema(body)
        return await self.endpoint.answer(client, body)

    def _body(self, question: Question, messages: list[dict[str, str]]) -> dict[str, Any]:
        """All that shapes an answer."""
        options = self.options
        body: dict[str, Any] = {"model": options.model, "messages": messages}
        if options.temperature is not None:
            body["temperature"] = options.temperature
        if options.verdicts == "tokens":
            body |= {"logprobs": True, "top_logprobs": ALTERNATIVES, "max_tokens": 1}
        else:
            if options.max_tokens is not None:
                body["max_tokens"] = options.max_tokens
            schema = {
                "name": "verdict",
                "strict": True,
                "schema": question.schema(options.reasons),
            }
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body | dict(options.extra)


def _without_schema(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != "response_format"}
