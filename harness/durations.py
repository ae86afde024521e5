"""How long something took or will take, in words."""

UNITS = (("day", 86400), ("h", 3600), ("min", 60), ("s", 1))
# What an estimate is rounded to, in seconds.
STEPS = (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 21600)


def duration(seconds: float) -> str:
    """In at most two units: `0.4 s`, `40 s`, `3 min 48 s`, `2 h 5 min`, `1 day 4 h`."""
    if seconds < 1:
        return f"{max(0.0, seconds):.1f} s"
    whole = round(seconds)
    if whole >= 3600:  # seconds are no matter, nor are minutes from a day on
        whole = round(seconds / 60) * 60 if seconds < 86400 else round(seconds / 3600) * 3600
    words = []
    for unit, size in UNITS:
        count, whole = divmod(whole, size)
        if count:
            words.append(f"{count} {unit}{'s' * (unit == 'day' and count > 1)}")
    return " ".join(words[:2])


def roughly(seconds: float, share: float = 0.05) -> str:
    """The same of an estimate: rounded, to what is about `share` of it."""
    step = max((step for step in STEPS if step <= 2 * share * seconds), default=1)
    return duration(max(1, round(seconds / step) * step))


def clock(seconds: float) -> str:
    """As on a watch, for a line without room: `0:40`, `12:05`, `1:00:00`."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
