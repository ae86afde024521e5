"""The audit passes every family of chat templates, and finds what is wrong in each."""

import pytest
import torch

from datamodules.records import Message, Prompt
from datamodules.tokenization.encoder import Encoder
from harness.checks.audit import CheckError, Sample, check_sequences
from lightning_modules.rewards.reward import Responses
from tests.datamodules.tokenization.families import FAMILIES
from tests.datamodules.tokenization.test_families import of_date

TALK = (
    Message("user", "Where is it? "),
    Message("assistant", " Far.\n"),
    Message("user", "\nHow?"),
)


def sample_of(encoder: Encoder, prompts: list[Prompt], texts: list[str]) -> Sample:
    """As a rollout would be, of a policy that says these texts."""
    ids, mask = encoder.pad(encoder.prompts(prompts), "left")
    said, real = encoder.pad(encoder.responses(texts), "right")
    stopped = torch.tensor(
        [row[m][-1] in encoder.stop_ids for row, m in zip(said, real, strict=True)]
    )
    whole = torch.cat([ids, said], dim=1)
    responses = Responses(prompts, whole, mask, real, stopped, encoder.decode)
    return Sample(None, responses, prompts, None)


def prompts_of(family) -> list[Prompt]:
    """Short, long, and with words in it that spell the family's control tokens."""
    spelled = " ".join(w for w in family.controls if w not in family.unsplittable)
    prompts = [Prompt(TALK[:1]), Prompt(TALK), Prompt.from_text(f"What is {spelled} or <s> </s>?")]
    if family.system:
        prompts.append(Prompt((Message("system", f"Say {spelled}."), *TALK)))
    return prompts


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_every_family_passes_cut_or_whole(family):
    for limit in (9999, 150):
        encoder = of_date(family, limit, 12)
        prompts = prompts_of(family)
        sample = sample_of(encoder, prompts, ["Paris.", " a\n", "", "far " * 99][: len(prompts)])
        said = check_sequences(sample, encoder)
        assert all("allowed" in line for line in said)


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_one_id_too_few_or_too_many_is_found_in_every_family(family):
    encoder = of_date(family, 9999, 12)
    sample = sample_of(encoder, prompts_of(family), ["Paris."] * len(prompts_of(family)))
    responses = sample.responses
    row = int(responses.prompt_mask.sum(1).argmax())
    place = responses.prompt_mask.shape[1] - 2
    before = int(responses.sequences[row, place])
    other = encoder.pad_id if before != encoder.pad_id else encoder.tokenizer.eos_token_id
    responses.sequences[row, place] = other if other != before else before - 1
    with pytest.raises(CheckError, match=f"prompt {row} is not what its chat template writes"):
        check_sequences(sample, encoder)
    responses.sequences[row, place] = before
    responses.prompt_mask[row, int(responses.prompt_mask[row].long().argmax())] = False
    with pytest.raises(CheckError, match=f"prompt {row} is not what its chat template writes"):
        check_sequences(sample, encoder)
