"""Rows as other frameworks have them, turned into rows of ours before they are read.

LLaMA-Factory's (`conversations` or `instruction`, `input` and `history` as the prompt; `chosen` and
`rejected` as single messages, or both in `output`, best first), `messages` with a
`rejected_response`, and OpenAI's (`preferred_output`). Of thumbs TRL's (`completion`) and
LLaMA-Factory's (`kto_tag`; the response in `output`, or as the last message).
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from datamodules.records import DataError
from datamodules.sources.reading.columns import two_beside
from datamodules.sources.reading.readers import header_place

CONVERSATIONS = ("conversations", "conversation", "messages")
PAIR = ("chosen", "rejected")
RANKED = ("completions", "outputs", "answers", "candidates", "generations")
COMPLETIONS = ("completion", "output", "answer")  # of one response with a thumb
LABELS = ("kto_tag",)
OPENAI = ("preferred_output", "non_preferred_output")
Row = dict[str, Any]


def in_our_form(
    rows: Iterable[tuple[str, Any]], columns: Mapping[str, str]
) -> Iterator[tuple[str, Any]]:
    """The rows with their places; `columns` says what the file calls our columns. Raises DataError
    for a row that says how one response is, and compares it with none, and for an empty one.
    """
    for where, row in rows:
        if row == {}:
            raise DataError(f"{where}: the row is empty, no columns at all")
        yield where, _translated(dict(row), columns, where) if isinstance(row, Mapping) else row


def _translated(row: Row, columns: Mapping[str, str], where: str) -> Row:
    if not _has_responses(row, columns):
        _add_responses(row, columns)
    if not _has_responses(row, columns) and not _is_thumb(row, columns):
        _refuse_single(row, columns, where)
        return row
    for name in (*PAIR, "response"):
        if columns[name] in row:
            row[columns[name]] = _listed(row[columns[name]])
    if isinstance(ranked := row.get(columns["responses"]), list):
        row[columns["responses"]] = [_listed(response) for response in ranked]
    if "prompt" not in row and columns["prompt"] == "prompt" and not _tells_prompt(row, columns):
        _add_prompt(row)
    return row


def _has_responses(row: Row, columns: Mapping[str, str]) -> bool:
    return all(columns[name] in row for name in PAIR) or columns["responses"] in row


def _is_thumb(row: Row, columns: Mapping[str, str]) -> bool:
    """Whether the row is a response with what was said of it; both are put under our names."""
    response, label = columns["response"], columns["label"]
    if found := [name for name in LABELS if name in row and label not in row]:
        row[label] = row.pop(found[0])
    if label in row and response not in row:
        if found := [name for name in COMPLETIONS if row.get(name) is not None]:
            row[response] = row.pop(found[0])
        elif found := [name for name in CONVERSATIONS if isinstance(row.get(name), list)]:
            row[response] = row.pop(found[0])  # a whole conversation, which holds its prompt
    return label in row and response in row


def _add_responses(row: Row, columns: Mapping[str, str]) -> None:
    chosen, rejected = (columns[name] for name in PAIR)
    output = row.get("output")
    if isinstance(output, list) and len(output) == 2:
        row[chosen], row[rejected] = row.pop("output")
    elif isinstance(output, list) and len(output) > 2:
        row[columns["responses"]] = row.pop("output")
    elif all(name in row for name in OPENAI):
        row[chosen], row[rejected] = (row.pop(name) for name in OPENAI)
    elif "rejected_response" in row and isinstance(row.get("messages"), list) and row["messages"]:
        *row["messages"], row[chosen] = row["messages"]
        row[rejected] = row.pop("rejected_response")


def _refuse_single(row: Row, columns: Mapping[str, str], where: str) -> None:
    """Raise DataError if the row is a demonstration, a response that was liked or disliked, or has
    what it is compared with under another name.
    """
    prompt = [name for name in (*CONVERSATIONS, "instruction") if name in row]
    if not prompt or any(columns[name] in row for name in PAIR):
        return
    where = header_place(where)
    missing = f"{where}: has {', '.join(map(repr, row))}, and neither "
    missing += f"{columns['chosen']!r} and {columns['rejected']!r} nor {columns['responses']!r}; "
    if worse := [name for name in row if "reject" in str(name).lower()]:
        raise DataError(
            f"{missing}name what they are called: data.columns.rejected={worse[0]} and"
            " data.columns.chosen=<name of the better one>"
        )
    if ranked := [n for n in RANKED if isinstance(row.get(n), list) and len(row[n]) > 1]:
        if all(isinstance(each, Mapping) and "response" in each for each in row[ranked[0]]):
            raise DataError(
                f"{missing}{ranked[0]!r} as UltraFeedback has them are read by"
                " data=ultrafeedback data.path=<this file>"
            )
        raise DataError(f"{missing}{ranked[0]!r} is read with data.columns.responses={ranked[0]}")
    if told := two_beside(row):
        raise DataError(f"{where}: has {', '.join(map(repr, row))}. {told}")
    raise DataError(
        f"{where}: has one response to {prompt[0]!r} and none that is worse; a comparison needs"
        f" two ('chosen' and 'rejected', or a list 'responses'), a thumb a 'label' (true or false)."
        f" It has {', '.join(map(repr, row))}"
    )


def _tells_prompt(row: Row, columns: Mapping[str, str]) -> bool:
    """Whether the responses are whole conversations, or transcripts, which hold their prompt."""
    chosen = row.get(columns["chosen"], row.get(columns["response"]))
    if isinstance(chosen, str):
        return chosen.lstrip().startswith("Human:")
    return isinstance(chosen, list) and len(chosen) > 1


def _add_prompt(row: Row) -> None:
    inner = row.get("input")
    if isinstance(inner, Mapping) and "messages" in inner:  # OpenAI's
        row["prompt"] = row.pop("input")["messages"]
    elif found := [name for name in CONVERSATIONS if name in row]:
        row["prompt"] = row.pop(found[0])
    elif isinstance(row.get("instruction"), str):
        words = [row.pop("instruction"), row.pop("input", None)]
        asked = "\n".join(text for text in words if text)
        earlier = [
            {"role": role, "content": text}
            for pair in row.pop("history", None) or []
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
        row["prompt"] = [*earlier, {"role": "user", "content": asked}] if earlier else asked


def _listed(value: Any) -> Any:
    """A message alone as a list of one; anything else as it is."""
    return [value] if isinstance(value, Mapping) else value
