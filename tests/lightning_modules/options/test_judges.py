"""What a judge's options refuse, and that none of its messages repeats what may be a key."""

import pytest

from lightning_modules.errors import OptionError
from lightning_modules.options.judges import JudgeOptions

SECRET = "sk-4242abcd"
GIVEN = {
    "name": "helpful",
    "criteria": "How good?",
    "scale": [1, 9],
    "base_url": "http://127.0.0.1:8000/v1/",
    "model": "toy",
    "cache": "judge.sqlite",
}


def test_an_address_is_read_without_its_last_slash_and_a_key_from_its_variable(monkeypatch):
    monkeypatch.setenv("SOME_KEY", f" {SECRET}\n")
    options = JudgeOptions(**GIVEN, key_from="SOME_KEY")
    assert options.base_url == "http://127.0.0.1:8000/v1"
    assert options.key() == SECRET
    assert SECRET not in repr(options)
    assert JudgeOptions(**GIVEN).key() is None


@pytest.mark.parametrize(
    "secret",
    [
        {"key_from": SECRET},
        {"key_from": SECRET.replace("-", "_")},
        {"key_from": "BAD_KEY"},
        {"base_url": f"http://me:{SECRET}@host/v1"},
        {"base_url": f"http://{SECRET}@host/v1"},
        {"base_url": f"http://host/v1?api_key={SECRET}"},
        {"base_url": f"http://host/v1#{SECRET}"},
        {"base_url": f"http://{SECRET}:port/v1"},
        {"base_url": f"http:{SECRET}"},
        {"base_url": SECRET},
    ],
)
def test_a_key_among_the_options_is_refused_and_not_repeated(secret, monkeypatch):
    monkeypatch.setenv("BAD_KEY", f"{SECRET} {SECRET}")
    (option,) = secret
    with pytest.raises(OptionError) as error:
        JudgeOptions(**GIVEN | secret)
    assert str(error.value).startswith(f"judge.{option}")
    assert "4242" not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"model": None}, "judge.model"),
        ({"criteria": " "}, "judge.criteria"),
        ({"scale": [9, 1]}, "judge.scale"),
        ({"scale": [1.5, 3]}, "judge.scale"),
        ({"scale": "19"}, "judge.scale"),
        ({"scale": [1, 10], "verdicts": "tokens"}, "judge.scale"),
        ({"scale": [1, 10], "base_url": None}, "judge.scale"),
        ({"verdicts": "words"}, "judge.verdicts"),
        ({"concurrency": 0}, "judge.concurrency"),
        ({"timeout": 0}, "judge.timeout"),
        ({"retries": -1}, "judge.retries"),
        ({"backoff": [2, 1]}, "judge.backoff"),
        ({"backoff": [0, 1]}, "judge.backoff"),
        ({"max_requests": 0}, "judge.max_requests"),
        ({"extra": {"messages": []}}, "judge.extra.messages"),
        ({"extra": [1]}, "judge.extra"),
        ({"base_url": None, "key_from": "PATH"}, "judge.key_from"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(wrong, named):
    with pytest.raises(OptionError) as error:
        JudgeOptions(**GIVEN | wrong)
    assert str(error.value).startswith(named)
