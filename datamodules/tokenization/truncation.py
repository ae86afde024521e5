"""What is left of texts that are longer than the limits of tokens."""

from collections.abc import Callable, Sequence

from datamodules.records import Message


class CannotFit(Exception):
    """What must stay whole of a conversation takes `needed` tokens, more than there is room for."""

    def __init__(self, needed: int):
        super().__init__(needed)
        self.needed = needed


def shortened(
    messages: Sequence[Message],
    limit: int,
    length: Callable[[Sequence[Message]], int],
    starts: Callable[[str], list[int]],
) -> list[Message]:
    """A conversation that is at most `limit` long: without its earliest turns and, if one exchange
    alone is too long, without the beginning of the user's words in it.

    A system turn stays whole. `length` is that of a conversation as the template writes it, in
    tokens; `starts` says at which characters the tokens of a text begin. CannotFit with the least
    limit that would do, if none of this is enough.
    """
    turns = next((i for i, m in enumerate(messages) if m.role != "system"), len(messages))
    system = list(messages[:turns])
    users = [i for i in range(turns, len(messages)) if messages[i].role == "user"]
    for first in users:
        kept = [*system, *messages[first:]]
        if length(kept) <= limit:
            return kept
    return _without_beginning(system, messages[users[-1] :], limit, length, starts)


def _without_beginning(
    system: list[Message],
    rest: Sequence[Message],
    limit: int,
    length: Callable[[Sequence[Message]], int],
    starts: Callable[[str], list[int]],
) -> list[Message]:
    """One exchange with the end of the user's words alone."""
    words = rest[0].content

    def cut(start: int) -> list[Message]:
        return [*system, Message("user", words[start:]), *rest[1:]]

    places = sorted(set(starts(words)))[1:] or [0]
    # Tokens are cut off until it fits; what is left may be encoded a little longer than it was.
    missing = length([*system, *rest]) - limit
    place = missing - 1
    while place < len(places):
        kept = cut(places[place])
        missing = length(kept) - limit
        if missing <= 0:
            return kept
        place += missing
    needed = min(length(cut(place)) for place in places[-4:])
    if needed <= limit:  # the last words may be shorter than others
        return next(kept for place in places[-4:] if length(kept := cut(place)) <= limit)
    raise CannotFit(needed)


def cut_response(ids: list[int], limit: int, stop_id: int, ends: bool) -> list[int]:
    """A response of at most `limit` tokens, with the stop token if it `ends` and has room."""
    return [*ids, stop_id] if len(ids) < limit and ends else ids[:limit]
