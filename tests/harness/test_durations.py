import pytest

from harness.durations import clock, duration, roughly


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.04, "0.0 s"),
        (0.96, "1.0 s"),
        (40, "40 s"),
        (59.6, "1 min"),
        (228, "3 min 48 s"),
        (3599.7, "1 h"),
        (7520, "2 h 5 min"),
        (86399, "1 day"),
        (28 * 3600, "1 day 4 h"),
        (50 * 3600 + 1200, "2 days 2 h"),
    ],
)
def test_a_duration_is_said_in_two_units(seconds, told):
    assert duration(seconds) == told


def test_an_estimate_is_rounded_by_less_than_a_tenth():
    units = {"s": 1, "min": 60, "h": 3600, "day": 86400, "days": 86400}
    for seconds in (3, 12, 47, 61, 100, 228, 599, 1000, 4000, 9000, 90000):
        words = roughly(seconds).split()
        said = sum(int(n) * units[u] for n, u in zip(words[::2], words[1::2], strict=True))
        assert said == pytest.approx(seconds, rel=0.1)
    assert roughly(228) == "3 min 50 s"


def test_a_clock_counts_on_from_minutes_to_hours():
    assert [clock(s) for s in (0, 59.6, 754, 3600)] == ["0:00", "1:00", "12:34", "1:00:00"]
