"""Responses: ids on one side, text on the other."""

import torch

from lightning_modules.rewards.reward import Responses


def test_only_real_response_tokens_are_decoded_and_only_once():
    seen = []

    def decode(ids):
        seen.append(ids.tolist())
        return str(ids.tolist())

    responses = Responses(
        prompts=["a", "b"],
        sequences=torch.tensor([[0, 1, 2, 3, 9], [4, 5, 9, 9, 9]]),
        prompt_mask=torch.tensor([[False, True], [True, True]]),
        response_mask=torch.tensor([[True, True, True], [True, False, False]]),
        stopped=torch.tensor([True, True]),
        decode=decode,
    )
    assert seen == []
    assert responses.texts == responses.texts == ["[2, 3, 9]", "[9]"]
    assert seen == [[2, 3, 9], [9]]
