"""The audit of sequences at start-up: padding, BOS, stop token, template; and one of them shown."""

from dataclasses import dataclass

import torch
from torch import Tensor

from datamodules.records import Prompt
from datamodules.tokenization.encoder import Encoder
from harness.errors import RunError
from lightning_modules.rewards.reward import Responses
from lightning_modules.rollouts.rollout import Rollout


class CheckError(RunError):
    """What was found, and what it means."""

    def __init__(self, found: str, meaning: str):
        super().__init__(f"selfcheck: {found}; {meaning}. selfcheck=false skips this")


@dataclass(frozen=True)
class Sample:
    """A small rollout, not weighed, with its responses and their scores."""

    rollout: Rollout
    responses: Responses
    prompts: list[Prompt]


def check_sequences(sample: Sample, encoder: Encoder) -> list[str]:
    """Padding, BOS, stop token and template of each sequence; returns what is to be said."""
    responses, tokenizer = sample.responses, encoder.tokenizer
    width = responses.prompt_mask.shape[1]
    before = list(zip(responses.sequences[:, :width], responses.prompt_mask, strict=True))
    after = list(zip(responses.sequences[:, width:], responses.response_mask, strict=True))
    for row, (record, (ids, mask)) in enumerate(zip(responses.prompts, before, strict=True)):
        _check_prompt_padding(row, ids, mask, encoder)
        _check_bos(row, ids[mask].tolist(), record, tokenizer.bos_token_id, encoder.stop_id)
        _check_template(row, ids[mask].tolist(), record, encoder)
    for row, (ids, mask) in enumerate(after):
        _check_response(row, ids, mask, bool(responses.stopped[row]), encoder)
    if encoder.pad_id == encoder.stop_id:
        token = tokenizer.convert_ids_to_tokens(encoder.stop_id)
        return [f"padding and stop token are both {token!r}: allowed, masks tell them apart"]
    return []


def _check_prompt_padding(row: int, ids: Tensor, mask: Tensor, encoder: Encoder) -> None:
    inside = mask & (ids == encoder.pad_id)
    meaning = "a response must follow its prompt without a gap; pad prompts on the left"
    if not mask[-1]:
        raise CheckError(f"prompt {row} is padded on the right: its mask is {_bits(mask)}", meaning)
    if (mask[:-1] & ~mask[1:]).any():
        raise CheckError(f"prompt {row} has gaps: its mask is {_bits(mask)}", meaning)
    if encoder.pad_id != encoder.stop_id and inside.any():
        raise CheckError(
            f"prompt {row} has {int(inside.sum())} padding tokens inside, which count as text",
            "the mask or the padding side is wrong; pad prompts on the left and mask the padding",
        )


def _check_bos(row: int, ids: list[int], record: Prompt, bos: int | None, stop: int) -> None:
    # Where BOS and stop token are one, the template may end every turn with it.
    if bos is None or bos == stop or bos not in ids:
        return
    turns = sum(message.role == "user" for message in record.messages)
    count = ids.count(bos)
    if count > max(turns, 1) or ids[:2] == [bos, bos]:
        raise CheckError(
            f"prompt {row} has {count} BOS tokens, for {turns} turns of the user",
            "the template writes one and the tokenizer adds another; encode rendered templates"
            " with add_special_tokens=False",
        )
    if ids[0] != bos:
        raise CheckError(
            f"prompt {row} has its first BOS token at place {ids.index(bos)}",
            "the model was trained with it at the beginning; fix the chat template",
        )


def _check_template(row: int, ids: list[int], record: Prompt, encoder: Encoder) -> None:
    """By the tokenizer's own way from a conversation to where its response begins."""
    messages = [message._asdict() for message in record.messages]
    text = encoder.tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    expected = encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
    # A long prompt keeps its end, and its BOS.
    tail = ids if ids == expected else ids[1:] if len(ids) < len(expected) else None
    if tail is None or expected[len(expected) - len(tail) :] != tail:
        raise CheckError(
            f"prompt {row} does not end where its template says that the response begins: it ends"
            f" in {encoder.tokenizer.decode(ids[-6:])!r}, the template in"
            f" {encoder.tokenizer.decode(expected[-6:])!r}",
            "the policy would say something else than it was taught to; render prompts with"
            " add_generation_prompt=True",
        )


def _check_response(row: int, ids: Tensor, mask: Tensor, stopped: bool, encoder: Encoder) -> None:
    length = int(mask.sum())
    meaning = "tokens that the policy never chose would be trained on; the mask ends with the stop"
    if not mask[:length].all():
        raise CheckError(f"response {row} has gaps: its mask is {_bits(mask)}", meaning)
    stops = (ids[:length] == encoder.stop_id).nonzero().flatten().tolist()
    if stops and stops[0] != length - 1:
        raise CheckError(
            f"response {row} stops at token {stops[0] + 1}, and its mask goes on to token {length}",
            meaning,
        )
    if stopped != bool(stops):
        raise CheckError(
            f"response {row} counts as {'ended' if stopped else 'cut off'}, and it"
            f" {'ends' if stops else 'does not end'} with the stop token",
            "rates and penalties of missing ends would be wrong",
        )


def _bits(mask: Tensor) -> str:
    return "".join("1" if real else "0" for real in mask.tolist())


def shown(sample: Sample, encoder: Encoder, limit: int = 200) -> list[str]:
    """The sequence with the most padding as the policy has it, part by part."""
    responses = sample.responses
    width = responses.prompt_mask.shape[1]
    mask = torch.cat([responses.prompt_mask, responses.response_mask], dim=1)
    row = int((~mask).sum(1).argmax())
    ids, real = responses.sequences[row], mask[row]
    left, right = int((~real[:width]).sum()), int((~real[width:]).sum())
    end = len(ids) - right
    prompt, response = (encoder.tokenizer.decode(x) for x in (ids[left:width], ids[width:end]))
    return [
        "one sequence, special tokens written out; only what is marked > is trained on:",
        f"    padding  {left:4} tokens",
        f"    prompt   {width - left:4} tokens  {prompt[-limit:]!r}",
        f"  > response {end - width:4} tokens  {response[:limit]!r}",
        f"    padding  {right:4} tokens",
    ]
