"""What is left of texts that are longer than the limits of tokens."""


def cut_prompt(ids: list[int], limit: int, bos_id: int | None) -> list[int]:
    """A prompt of at most `limit` tokens: its end, and its BOS if it begins with one."""
    if len(ids) <= limit:
        return ids
    if bos_id is not None and ids[0] == bos_id and limit > 1:
        return [bos_id, *ids[1 - limit :]]
    return ids[-limit:]


def cut_response(ids: list[int], limit: int, stop_id: int, ends: bool) -> list[int]:
    """A response of at most `limit` tokens, with the stop token if it `ends` and has room."""
    return [*ids, stop_id] if len(ids) < limit and ends else ids[:limit]
