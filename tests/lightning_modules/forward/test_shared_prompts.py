"""Prompts that are read once for all their responses, and batches that need no mask."""

import pytest
import torch
from peft import LoraConfig, TaskType

from lightning_modules.forward.passes import last_hidden, position_ids
from lightning_modules.forward.shared_prompts import SharedPrompt, can_share_prompts
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.adapters import VALUE_ADAPTER, add_adapter, add_value_adapter
from lightning_modules.models.scalar import ScalarModel
from tests.lightning_modules.supervised_parts import DTYPE, exact_lm, exact_scorer

EQUAL = 1e-10
PROMPTS = ([5, 6, 7, 8, 9, 10, 11], [12, 13], [14, 15, 16, 17])
RESPONSES = ([20, 21, 22], [23], [24, 25, 26, 27, 28], [29, 30], [31, 32, 33])
OWNER = torch.tensor([0, 0, 1, 2, 2])


@pytest.fixture(params=[False, True], ids=["plain", "lora"])
def model(request, architecture, encoder):
    """Three heads; with adapters that say something."""
    scorer = exact_scorer(architecture, encoder, heads=3)
    if request.param:
        config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
        scorer = add_adapter(scorer, config, TaskType.SEQ_CLS, seed=0).eval()
    return ScalarModel(scorer).to(DTYPE)


def gradients(model, scores):
    """Of a sum that tells heads and responses apart."""
    weights = torch.arange(1.0, scores.numel() + 1).view_as(scores).sin().to(scores)
    trained = [p for p in model.parameters() if p.requires_grad]
    return torch.cat(
        [
            (torch.zeros_like(p) if g is None else g).flatten()
            for g, p in zip(
                torch.autograd.grad((weights * scores).sum(), trained, allow_unused=True),
                trained,
                strict=True,
            )
        ]
    )


def test_a_shared_prompt_is_the_whole_conversation(model, encoder):
    whole = [[*PROMPTS[g], *a] for g, a in zip(OWNER.tolist(), RESPONSES, strict=True)]
    ids, mask = encoder.pad(whole, "right")
    prompt = SharedPrompt(*encoder.pad(PROMPTS, "left"), OWNER)
    expected = model.heads(ids, mask)
    scores = model.heads(*encoder.pad(RESPONSES, "right"), prompt)
    assert scores.shape == (5, 3)
    assert (scores - expected).abs().max() < EQUAL
    assert expected.std(0).min() > 1e-3
    slopes = gradients(model, expected)
    assert slopes.abs().max() > 0.01
    assert (gradients(model, scores) - slopes).abs().max() < EQUAL * slopes.abs().max()


def test_one_row_alone_says_the_same_as_in_a_batch(model, encoder):
    prompt = SharedPrompt(*encoder.pad(PROMPTS, "left"), OWNER)
    scores = model.heads(*encoder.pad(RESPONSES, "right"), prompt)
    for i, (g, response) in enumerate(zip(OWNER.tolist(), RESPONSES, strict=True)):
        alone = SharedPrompt(*encoder.pad([PROMPTS[g]], "left"), torch.tensor([0]))
        said = model.heads(*encoder.pad([response], "right"), alone)
        assert (said[0] - scores[i]).abs().max() < EQUAL


def test_padding_on_the_right_needs_no_mask(model, encoder):
    """Hidden states of real tokens, against those of a model that is given the mask."""
    rows = [[*PROMPTS[g], *a] for g, a in zip(OWNER, RESPONSES, strict=True)]
    ids, mask = encoder.pad(rows, "right")
    assert not mask.all()
    base = model.model.get_base_model() if hasattr(model.model, "peft_config") else model.model
    given = base.base_model(
        input_ids=ids, attention_mask=mask, position_ids=position_ids(mask), use_cache=False
    ).last_hidden_state
    found = last_hidden(model.model, ids, mask)
    assert (found - given)[mask].abs().max() < EQUAL
    # Whatever the padding holds.
    other = last_hidden(model.model, ids.masked_fill(~mask, 40), mask)
    assert (other - found)[mask].abs().max() == 0


def test_padding_on_the_left_is_masked(model, encoder):
    rows = [[*PROMPTS[g], *a] for g, a in zip(OWNER, RESPONSES, strict=True)]
    left, right = (model.heads(*encoder.pad(rows, side)) for side in ("left", "right"))
    assert (left - right).abs().max() < EQUAL


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_score_is_the_value_at_the_last_real_token(model, encoder, side):
    ids, mask = encoder.pad([[5, 6, 7, 8], [9, 10], [11]], side)
    values, scores = model(ids, mask), model.score(ids, mask)
    last = [int(m.nonzero().max()) for m in mask]
    assert (values[range(3), last] - scores).abs().max() < EQUAL
    assert (model.heads(ids, mask).mean(-1) - scores).abs().max() < EQUAL


# -- policies and critics -------------------------------------------------------------------------

TO_1E_12 = 1e-12


@pytest.fixture(params=["head", "copy", "adapter"])
def policy(request, architecture, encoder):
    """A policy with this critic; weights of heads and adapters that say something."""
    lm, critic = exact_lm(architecture, encoder), None
    head = torch.nn.Linear(16, 1).to(DTYPE)
    if request.param == "copy":
        return ActorCritic(lm, critic=ScalarModel(exact_scorer(architecture, encoder)).to(DTYPE))
    if request.param == "adapter":
        config = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
        lm = add_adapter(lm, config, TaskType.CAUSAL_LM, seed=0).eval()
        add_value_adapter(lm, config, seed=1)
        critic = VALUE_ADAPTER
    return ActorCritic(lm.to(DTYPE), head, value_adapter=critic)


def responses(encoder):
    """(sequences, prompt_mask, response_mask), a response without a real token, and OWNER."""
    prompt_ids, prompt_mask = encoder.pad([PROMPTS[g] for g in OWNER.tolist()], "left")
    ids, mask = encoder.pad(RESPONSES, "right")
    mask[3] = False
    return (torch.cat([prompt_ids, ids], 1), prompt_mask, mask), OWNER


def said(policy, encoder, prompt_of, rows=slice(None)):
    """Log-probabilities, entropies and values, (3, B, T), and the gradient of a sum that tells them
    apart.
    """
    batch, _ = responses(encoder)
    outputs = policy(*(x[rows] for x in batch), 0.7, entropy=True, prompt_of=prompt_of)
    found = torch.stack(outputs)
    return found, gradients(policy, found)


def test_a_policy_reads_a_shared_prompt_once_and_says_the_same(policy, encoder):
    expected, slopes = said(policy, encoder, None)
    seen = []
    embeddings = policy.lm.get_input_embeddings()
    hook = embeddings.register_forward_hook(lambda _, args, __: seen.append(args[0].numel()))
    found, slopes_of_found = said(policy, encoder, OWNER)
    hook.remove()
    assert seen[:2] == [3 * 6, 5 * 5]  # three prompts but for a token; that token and the responses
    assert (found - expected).abs().max() < TO_1E_12 * expected.abs().max()
    assert slopes.abs().max() > 0.01
    assert (slopes_of_found - slopes).abs().max() < TO_1E_12 * slopes.abs().max()
    values = policy.values(*responses(encoder)[0], OWNER)
    assert (values - expected[2]).abs().max() < TO_1E_12 * expected.abs().max()


def test_rows_of_different_prompts_are_read_as_they_were_to_the_bit(policy, encoder):
    rows = torch.tensor([1, 2, 4])
    plain_pass, slopes = said(policy, encoder, None, rows)
    found, others = said(policy, encoder, OWNER[rows], rows)
    assert torch.equal(found, plain_pass)
    assert torch.equal(others, slopes)


def test_a_model_is_asked_whether_it_goes_on_from_prompts(policy, monkeypatch):
    assert can_share_prompts(policy.lm)
    # As one does that has no cache of keys and values.
    monkeypatch.setattr("transformers.DynamicCache.update", lambda self, k, v, *_, **__: (k, v))
    assert not can_share_prompts(policy.lm)
