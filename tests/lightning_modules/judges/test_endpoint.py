"""A judge behind a real server, with a real proxy in between that spoils requests."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datamodules.records import Prompt
from lightning_modules.errors import JudgeError, OptionError
from lightning_modules.judges.judge import JudgeContext
from tests.lightning_modules.judges.asked import questions, values
from tests.lightning_modules.judges.proxy import FaultProxy
from tests.lightning_modules.judges.server import Server, serving, written

KEY = "sk-" + "s3cret" * 6


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def port(server):
    with serving(server.handle) as port:
        yield port


def test_a_thousand_requests_with_a_fifth_spoilt_end_as_without(server, port, judge_at, tmp_path):
    asked = questions(1000)
    plain = judge_at(port, cache=str(tmp_path / "plain.sqlite"))
    expected = values(plain.rate(*asked))
    assert len(set(expected)) == 9
    assert plain.counts.requests == 1000
    assert server.most_at_once <= 16

    server.asked.clear()
    proxy = FaultProxy(port, share=0.2)
    with serving(proxy.handle) as spoilt:
        judge = judge_at(spoilt, timeout=0.4, retries=12)
        assert values(judge.rate(*asked)) == expected
        assert judge.counts.failed == 0
        assert all(proxy.done[fault] for fault in proxy.faults)
        # More where this machine is so busy that it is out of time itself.
        assert judge.counts.retried >= proxy.done["faults"] > 150
        assert judge.counts.requests == 1000 + judge.counts.retried

        again = judge_at(spoilt)
        assert values(again.rate(*asked)) == expected
        assert (again.counts.requests, again.counts.from_cache) == (0, 1000)


def test_equal_questions_are_asked_once(server, port, judge_at):
    (prompt,), (text,) = questions(1)
    judge = judge_at(port)
    assert len(set(values(judge.rate([prompt] * 5, [text] * 5)))) == 1
    assert (judge.counts.requests, judge.counts.asked, judge.counts.from_cache) == (1, 5, 4)


@pytest.mark.parametrize(
    "other",
    [
        {"criteria": "How short is it?"},
        {"scale": [0, 9]},
        {"temperature": 0.5},
        {"reasons": True},
        {"verdicts": "tokens"},
        {"extra": {"seed": 1}},
        {"max_tokens": 20},
    ],
)
def test_what_shapes_an_answer_is_asked_anew(other, server, port, judge_at):
    judge_at(port).rate(*questions(1))
    judge_at(port, **other).rate(*questions(1))
    judge_at(port, timeout=9, concurrency=1, retries=0, max_requests=7).rate(*questions(1))
    assert len(server.asked) == 2


def test_of_two_responses_each_is_read_in_its_place(server, port, judge_at):
    judge = judge_at(port)
    prompts, texts = questions(60)
    others = [text[::-1] for text in texts]
    assert set(values(judge.compare(prompts, texts, others))) == {0.0, 0.5, 1.0}
    judge.compare(prompts, others, texts)
    assert len(server.asked) == 120
    tokens = values(judge_at(port, verdicts="tokens").compare(prompts[:1], texts[:1], others[:1]))
    next_word = server.toy.next(server.bodies[-1]["messages"][0]["content"])
    (odds,) = [2.718281828459045 ** (next_word["A"] - next_word["B"])]
    assert tokens == [pytest.approx(odds / (1 + odds))]


def test_a_malformed_verdict_is_asked_for_once_more_and_then_missing(server, port, judge_at):
    server.says = lambda messages, answer: answer if messages > 1 else "A fine answer!"
    judge = judge_at(port)
    assert None not in values(judge.rate(*questions(3)))
    assert (judge.counts.malformed, judge.counts.requests, judge.counts.failed) == (3, 6, 0)
    assert server.bodies[-1]["messages"][1] == {"role": "assistant", "content": "A fine answer!"}

    server.says = lambda messages, answer: '{"rating": 11}'
    lost = judge_at(port, criteria="Another one")
    (verdict,) = lost.rate(*questions(1))
    assert verdict.value is None
    assert "no verdict" in verdict.why_not
    assert (lost.counts.malformed, lost.counts.failed) == (2, 1)
    again = judge_at(port, criteria="Another one")
    assert values(again.rate(*questions(1))) == [None]
    assert again.counts.requests == 0  # it was paid for


def test_an_endpoint_without_schemas_is_asked_without_and_told_once(server, port, judge_at):
    server.schema = False
    told = []
    judge = judge_at(port, concurrency=1)
    judge.bind(JudgeContext(say=told.append))
    assert None not in values(judge.rate(*questions(5)))
    assert len(told) == 1
    assert judge.counts.requests == 6  # one was refused
    assert all("response_format" not in body for body in server.bodies)


def test_what_the_endpoint_cannot_read_is_missing_and_nothing_else_is(server, port, judge_at):
    prompts, texts = questions(3)
    texts[1] = "long " * 5000
    judge = judge_at(port)
    judge.check(JudgeContext())
    first, second, third = judge.rate(prompts, texts)
    assert None not in (first.value, third.value)
    assert "maximum context length" in second.why_not


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model": "other"}, "judge.model=other"),
        ({"key_from": "WRONG_KEY"}, "judge.key_from"),
        ({"key_from": None}, "judge.key_from"),
        ({"verdicts": "tokens"}, "judge.verdicts=tokens"),
    ],
)
def test_what_no_second_try_would_change_ends_at_once_and_names_the_option(
    options, named, monkeypatch, tmp_path, judge_at
):
    monkeypatch.setenv("A_KEY", KEY)
    monkeypatch.setenv("WRONG_KEY", KEY[:-1])
    server = Server(key=KEY, logprobs=False)
    with serving(server.handle) as port:
        judge = judge_at(port, **{"key_from": "A_KEY"} | options)
        with pytest.raises(OptionError) as error:
            judge.check(JudgeContext())
    assert str(error.value).startswith(named)
    assert KEY[:-1] not in str(error.value)
    assert judge.counts.requests == 1


def test_a_refusal_among_many_lets_no_more_be_sent(monkeypatch, judge_at):
    monkeypatch.setenv("A_KEY", KEY)
    with serving(Server(key="another").handle) as port:
        judge = judge_at(port, key_from="A_KEY", concurrency=4)
        with pytest.raises(OptionError, match=r"judge\.key_from"):
            judge.rate(*questions(100))
    assert judge.counts.requests <= 8


def test_too_many_failures_in_a_row_end_it_with_the_last_reason(port, judge_at):
    with serving(FaultProxy(port, 1.0, ["500"]).handle) as broken:
        judge = judge_at(broken, failures_in_a_row=5, retries=1, concurrency=2)
        with pytest.raises(JudgeError, match=r"5 verdicts one after another .* status 500"):
            judge.rate(*questions(100))
        assert judge.counts.requests <= 14
        some = judge_at(broken, failures_in_a_row=5, retries=0)
        assert values(some.rate(*questions(4))) == [None] * 4  # unscored, and not 0
        with pytest.raises(JudgeError):
            some.rate(*questions(1))


def test_nothing_listens(judge_at):
    with pytest.raises(JudgeError, match=r"nothing can be reached at judge\.base_url"):
        judge_at(9, retries=1).check(JudgeContext())


def test_an_endpoint_that_asks_to_wait_is_waited_for_by_all(judge_at):
    server, times = Server(), []

    async def slow(reader, writer):
        """The first request is told to come back in 0.4 s."""
        times.append(time.monotonic())
        if len(times) == 1:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(written(429, b"{}", "Retry-After: 0.4", "Connection: close"))
            await writer.drain()
            writer.close()
        else:
            await server.handle(reader, writer)

    with serving(slow) as port:
        judge = judge_at(port, concurrency=1, backoff=[0.001, 1.0])
        assert None not in values(judge.rate(*questions(3)))
        assert times[1] - times[0] >= 0.4
        times.clear()
        (verdict,) = judge_at(port, backoff=[0.001, 0.3], criteria="New").rate(*questions(1))
    assert verdict.value is None
    assert "asks to wait" in verdict.why_not


def test_a_budget_counts_every_request_over_restarts_and_says_what_to_do(
    server, port, judge_at, tmp_path
):
    context = JudgeContext(folder=tmp_path)

    def spending(limit):
        judge = judge_at(port, max_requests=limit, concurrency=4)
        judge.bind(context)
        return judge

    for limit in (10, 10):  # the second finds nothing left
        with pytest.raises(JudgeError, match=r"judge\.max_requests=10.* a larger"):
            spending(limit).rate(*questions(30))
        assert sum(server.asked.values()) == 10
    judge = spending(30)
    assert None not in values(judge.rate(*questions(30)))
    # What was on its way when the budget ended is kept.
    assert (judge.counts.requests, judge.counts.from_cache) == (20, 10)
    assert max(server.asked.values()) == 1


def test_no_file_and_no_message_holds_the_key(monkeypatch, capfd, judge_at, tmp_path):
    monkeypatch.setenv("A_KEY", KEY)
    server = Server(key=KEY, says=lambda messages, answer: f'{{"rating": 5, "key": "{KEY}"}}')
    with serving(server.handle) as port:
        judge = judge_at(port, key_from="A_KEY")
        assert values(judge.rate(*questions(2))) == [5.0, 5.0]
        told = repr(vars(judge)) + repr(judge.options) + judge.words
        assert KEY not in told + "".join(capfd.readouterr())
        assert all(KEY.encode() not in f.read_bytes() for f in tmp_path.glob("judge.sqlite*"))


def test_a_killed_process_loses_no_answer_and_several_share_a_cache(server, port, tmp_path):
    code = f"""
from tests.lightning_modules.judges.asked import judge_at, questions
judge = judge_at({str(tmp_path)!r}, {port}, concurrency=2)
judge.rate(*questions(150))
print(judge.counts.requests, judge.counts.from_cache)
"""
    pipe = {"stdout": subprocess.PIPE, "text": True, "encoding": "utf-8"}

    def started():
        return subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[3], **pipe)

    first = started()
    while sum(server.asked.values()) < 30:
        time.sleep(0.002)
    first.kill()
    first.wait()
    done = sum(server.asked.values())
    assert done < 150
    for process in [started(), started()]:
        requests, cached = map(int, process.communicate()[0].split())
        assert requests + cached == 150
        assert cached >= done - 2  # but for what was on its way


def test_it_can_be_asked_where_a_loop_is_running(port, judge_at):
    async def in_a_notebook():
        return judge_at(port).rate(*questions(2))

    assert None not in values(asyncio.run(in_a_notebook()))


def test_nothing_is_asked_of_nobody(judge_at):
    assert judge_at(9).rate([], []) == []
    with pytest.raises(OptionError, match="rates none"):
        judge_at(9, scale=None).rate([Prompt.from_text("?")], ["!"])
