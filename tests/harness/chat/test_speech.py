"""An answer that is spoken is the one that is sampled, piece by piece."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from datamodules.records import Message, Prompt
from harness.chat.speech import Speech, Voice
from harness.generation.answering import answer
from lightning_modules.rollouts.collection import Collector, Vocabulary
from lightning_modules.rollouts.micro_batches import MicroBatches


@pytest.fixture
def player(lm, encoder):
    """A policy of a random model, which rarely stops."""

    def batch(prompts):
        ids, mask = encoder.pad(encoder.prompts(prompts), "left")
        return {"prompt_ids": ids, "prompt_mask": mask, "prompts": prompts}

    words = Vocabulary(encoder.stop_ids, encoder.pad_id, 16, encoder.decode)
    collector = Collector(
        model=lm,
        reference=None,
        reward=None,
        vocabulary=words,
        temperature=0.7,
        micro_batches=MicroBatches(),
    )
    device = torch.device("cpu")
    return SimpleNamespace(lm=lm, encoder=encoder, batch=batch, collector=collector, device=device)


def test_it_says_what_stands_in_a_file_of_answers(player, world):
    prompts = world.prompts("val")[:6]
    rows = answer({"a": player, "b": player}, prompts, samples=3, seed=5, at_once=7)
    spoken = {"a": Voice("a", player, 0, 5), "b": Voice("b", player, 1, 5)}
    texts = set()
    for row in rows:
        for told in row.answers:
            speech = spoken[told.policy].speak(row.prompt, told.sample)
            assert "".join(speech) == speech.text == told.text
            assert (len(speech.ids), speech.stopped) == (told.tokens, told.stopped)
            texts.add(told.text)
    assert len(texts) > 30


def test_what_was_answered_before_is_left_out_and_changes_no_batch(player, world, monkeypatch):
    prompts, batches, batch = world.prompts("val")[:8], [], player.batch

    def noted(part):
        batches.append(part)
        return batch(part)

    monkeypatch.setattr(player, "batch", noted)
    how = {"samples": 2, "seed": 0, "at_once": 6}
    whole = list(answer({"a": player}, prompts, **how))
    whole_batches = [*batches]
    batches.clear()
    assert list(answer({"a": player}, prompts, **how, skip=4)) == whole[4:]
    assert batches == whole_batches[1:] == [prompts[3:6], prompts[6:]]


def test_it_comes_token_by_token_and_stops_when_nobody_listens(player):
    read = []
    hook = player.lm.register_forward_pre_hook(lambda *_: read.append(1))
    speech = Voice("a", player, 0, 0).speak(Prompt.from_text("Where?"), 0)
    pieces = iter(speech)
    first = next(pieces)
    before = len(read)
    assert before < 5
    assert first == speech.text
    pieces.close()
    assert len(read) == before
    assert speech.text == first
    hook.remove()


def test_letters_come_when_all_their_bytes_are_there(player, encoder):
    ids = encoder.responses(["héllo 👩 Kraków"], [False])[0]
    assert any("\ufffd" in encoder.decode(ids[:n]) for n in range(1, len(ids)))
    speech = Speech("a", player, Prompt.from_text("x"), [torch.Generator()])
    told = []
    for token in ids:
        speech.ids.append(token)
        told.append(speech._certain())
    assert not any("\ufffd" in text for text in told)
    assert all(after.startswith(before) for before, after in pairwise(told))
    assert told[-1] == encoder.decode(ids)


def test_a_conversation_that_is_too_long_loses_its_earliest_turns(player):
    long = [Message("user", "Where is the Louvre?"), Message("assistant", "In Paris.")] * 6
    prompt = Prompt((*long, Message("user", "And the Prado?")))
    speech = Voice("a", player, 0, 0).speak(prompt, 0)
    assert speech.is_cut
    assert speech.left_out > 0
    assert speech.batch["prompt_ids"].shape[1] <= player.encoder.max_prompt_tokens
    assert not Voice("a", player, 0, 0).speak(Prompt.from_text("Where?"), 0).is_cut
