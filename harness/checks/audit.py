"""The audit of sequences at start-up: padding, template, stop tokens; and one of them shown."""

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
    """A small rollout, not weighed, with its responses, their scores and the noise (B, T_max) that
    they were sampled with.
    """

    rollout: Rollout | None  # None: the model alone was asked
    responses: Responses
    prompts: list[Prompt]
    uniforms: Tensor


def check_sequences(sample: Sample, encoder: Encoder) -> list[str]:
    """Padding, template and stop tokens of each sequence; returns what is to be said."""
    responses = sample.responses
    width = responses.prompt_mask.shape[1]
    before = list(zip(responses.sequences[:, :width], responses.prompt_mask, strict=True))
    after = list(zip(responses.sequences[:, width:], responses.response_mask, strict=True))
    for row, (record, (ids, mask)) in enumerate(zip(responses.prompts, before, strict=True)):
        _check_prompt_padding(row, mask)
        _check_template(row, ids[mask].tolist(), record, encoder)
    for row, (ids, mask) in enumerate(after):
        _check_response(row, ids, mask, bool(responses.stopped[row]), encoder)
    if encoder.pad_id in encoder.stop_ids:
        token = encoder.tokenizer.convert_ids_to_tokens(encoder.pad_id)
        return [f"padding and stop token are both {token!r}: allowed, masks tell them apart"]
    return []


def _check_prompt_padding(row: int, mask: Tensor) -> None:
    meaning = "a response must follow its prompt without a gap; pad prompts on the left"
    if not mask[-1]:
        raise CheckError(f"prompt {row} is padded on the right: its mask is {_bits(mask)}", meaning)
    if (mask[:-1] & ~mask[1:]).any():
        raise CheckError(f"prompt {row} has gaps: its mask is {_bits(mask)}", meaning)


def _check_template(row: int, ids: list[int], record: Prompt, encoder: Encoder) -> None:
    """By the template itself: whatever it writes is right, padding and BOS tokens included."""
    kept = encoder.cut_prompts.get(record, record)
    expected = rendered_ids(kept, encoder)
    if ids == expected:
        return
    text = encoder.tokenizer.decode
    at = next(
        (i for i, (a, b) in enumerate(zip(ids, expected, strict=False)) if a != b),
        min(len(ids), len(expected)),
    )
    raise CheckError(
        f"prompt {row} is not what its chat template writes: from token {at + 1} on it is"
        f" {text(ids[at : at + 8])!r}, the template writes {text(expected[at : at + 8])!r}"
        f" ({len(ids)} tokens, {len(expected)} by the template)",
        "the policy would see something else than it was taught; encode rendered templates with"
        " add_special_tokens=False and add_generation_prompt=True, pad on the left and mask it",
    )


def rendered_ids(prompt: Prompt, encoder: Encoder) -> list[int]:
    """A prompt as the tokenizer itself encodes what the template writes; words in it that spell
    special tokens are text.
    """
    chat = encoder.format
    text = chat.template.render(prompt.messages, generation_prompt=True)
    hidden = chat.template.render(chat.hidden(prompt.messages), generation_prompt=True)
    if text == hidden:
        ids = encoder.tokenizer(text, add_special_tokens=False)["input_ids"]
    else:
        (ids,) = chat.control.encode([hidden])
    return ids if ids[: len(chat.prefix)] == chat.prefix else chat.prefix + ids


def _check_response(row: int, ids: Tensor, mask: Tensor, stopped: bool, encoder: Encoder) -> None:
    length = int(mask.sum())
    meaning = "tokens that the policy never chose would be trained on; the mask ends with the stop"
    if not mask[:length].all():
        raise CheckError(f"response {row} has gaps: its mask is {_bits(mask)}", meaning)
    ends = torch.isin(ids[:length], torch.tensor(encoder.stop_ids, device=ids.device))
    stops = ends.nonzero().flatten().tolist()
    if stops and stops[0] != length - 1:
        raise CheckError(
            f"response {row} stops at token {stops[0] + 1}, and its mask goes on to token {length}",
            meaning,
        )
    if stopped != bool(stops):
        raise CheckError(
            f"response {row} counts as {'ended' if stopped else 'cut off'}, and it"
            f" {'ends' if stops else 'does not end'} with a stop token",
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
