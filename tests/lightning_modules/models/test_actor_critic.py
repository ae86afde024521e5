"""What is said of a response depends on its real tokens, and of a state on what came before."""

import pytest
import torch
from peft import LoraConfig, TaskType
from transformers import AutoModelForSequenceClassification

from lightning_modules.forward.passes import position_ids
from lightning_modules.forward.token_outputs import response_outputs
from lightning_modules.models.actor_critic import ActorCritic
from lightning_modules.models.adapters import (
    VALUE_ADAPTER,
    adapter_parameters,
    add_adapter,
    add_value_adapter,
)
from lightning_modules.models.parameters import frozen
from lightning_modules.models.reference import Reference
from lightning_modules.models.scalar import ScalarModel
from tests.exact.world import norms_in_float64
from tests.tolerances import of_model

TEMPERATURE = 0.7
LENGTHS = ((5, 7), (1, 3), (9, 1), (3, 10))  # prompt, response


@pytest.fixture
def rows(encoder):
    """Prompts and responses as ids, with pad and stop tokens among them: masks decide."""
    generator = torch.Generator().manual_seed(1)
    size = len(encoder.tokenizer)
    rows = [
        [torch.randint(0, size, (n,), generator=generator).tolist() for n in pair]
        for pair in LENGTHS
    ]
    rows[0][0][2] = rows[0][1][3] = encoder.pad_id
    rows[3][0][0] = rows[3][1][-1] = encoder.stop_id
    return rows


@pytest.fixture
def classifier(lm):
    """A scalar model around a copy of the language model's backbone."""
    torch.manual_seed(1)
    lm.config.num_labels = 1
    model = AutoModelForSequenceClassification.from_config(lm.config)
    model.base_model.load_state_dict(lm.base_model.state_dict())
    model.score.weight.data.normal_()
    return model.eval()


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request):
    return request.param


def in_dtype(model, dtype):
    """The model with all that it computes in `dtype`."""
    if dtype == torch.float64:
        norms_in_float64(model)
    return model.to(dtype)


@pytest.fixture(params=["head", "critic"])
def model(request, lm, classifier, dtype):
    in_dtype(lm, dtype)
    if request.param == "critic":
        return ActorCritic(lm, None, ScalarModel(in_dtype(classifier, dtype)))
    head = torch.nn.Linear(32, 1)
    torch.nn.init.normal_(head.weight, std=0.1)
    return ActorCritic(lm, head.to(dtype), None)


def batch(rows, left=0, right=0, fill=0):
    """Padded sequences and both masks, with `left` and `right` columns of padding more."""
    before = left + max(len(p) for p, _ in rows)
    after = right + max(len(r) for _, r in rows)
    sequences = torch.full((len(rows), before + after), fill)
    mask = torch.zeros_like(sequences, dtype=torch.bool)
    for i, (prompt, response) in enumerate(rows):
        place = slice(before - len(prompt), before + len(response))
        sequences[i, place] = torch.tensor(prompt + response)
        mask[i, place] = True
    return sequences, mask[:, :before], mask[:, before:]


@torch.no_grad()
def said(model, rows, **padding):
    """For each row, (3, T): log-probabilities, entropies and values of its real tokens."""
    sequences, prompt_mask, response_mask = batch(rows, **padding)
    outputs = model(sequences, prompt_mask, response_mask, TEMPERATURE, entropy=True)
    assert all((x[~response_mask] == 0).all() for x in outputs)
    stacked = torch.stack(outputs)
    return [stacked[:, i, mask] for i, mask in enumerate(response_mask)]


def close(actual, expected, *models):
    """Equal, but for what rounding may come to in these models."""
    tolerance = max(map(of_model, models))
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)


def parts(model):
    """The language model, and the critic if it is another."""
    return [model.lm] + ([model.critic.model] if model.critic else [])


def test_position_ids_count_real_tokens():
    mask = torch.tensor([[0, 0, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]).bool()
    assert position_ids(mask).tolist() == [[0, 0, 0, 1, 2, 2], [0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    "padding", [{"left": 6}, {"right": 6}, {"left": 3, "right": 4, "fill": 9}], ids=str
)
def test_padding_changes_nothing(model, rows, padding):
    close(said(model, rows, **padding), said(model, rows), *parts(model))


def test_company_and_order_change_nothing(model, rows):
    together = said(model, rows)
    close([said(model, [row])[0] for row in rows], together, *parts(model))
    close(said(model, rows[::-1])[::-1], together, *parts(model))


def test_logprobs_and_entropies_are_those_of_a_plain_forward(model, rows, dtype):
    for (prompt, response), outputs in zip(rows, said(model, rows), strict=True):
        with torch.no_grad():
            logits = model.lm(torch.tensor([prompt + response])).logits[0]
        log_softmax = (logits.double() / TEMPERATURE).log_softmax(-1)[len(prompt) - 1 : -1]
        logprobs = log_softmax[torch.arange(len(response)), response]
        entropy = -(log_softmax.exp() * log_softmax).sum(-1)
        close(outputs[:2], torch.stack([logprobs, entropy]).to(dtype), model.lm)


def test_values_are_the_heads_number_at_the_state_before_the_action(model, rows):
    for (prompt, response), outputs in zip(rows, said(model, rows), strict=True):
        ids = torch.tensor([prompt + response])
        with torch.no_grad():
            if model.critic:
                values = model.critic.model.base_model(ids).last_hidden_state
                values = model.critic.model.score(values)
            else:
                values = model.value_head(model.lm.base_model(ids).last_hidden_state)
        close(outputs[2], values[0, len(prompt) - 1 : -1, 0], *parts(model))


@pytest.mark.parametrize("t", [0, 3, 9])
def test_a_token_changes_nothing_before_it_was_taken(model, rows, t):
    prompt, response = rows[3]
    other = [*response[:t], (response[t] + 1) % 400, *response[t + 1 :]]
    ((before,), (after,)) = said(model, [[prompt, response]]), said(model, [[prompt, other]])
    close(after[0, :t], before[0, :t], model.lm)
    close(after[1:, : t + 1], before[1:, : t + 1], *parts(model))
    assert after[0, t] != before[0, t]
    if t + 1 < len(response):
        assert (after[:, t + 1 :] - before[:, t + 1 :]).abs().amax(-1).gt(1e-3).all()


def test_gradients_reach_trunk_and_head_but_not_through_padding(model, rows):
    sequences, prompt_mask, response_mask = batch(rows, left=2, right=2)
    outputs = model(sequences, prompt_mask, response_mask, TEMPERATURE)
    (outputs.logprobs.sum() + outputs.values.sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.value_parameters())
    assert model.lm.get_input_embeddings().weight.grad.isfinite().all()


def test_entropy_and_values_are_computed_only_if_asked_for(lm, rows):
    outputs = ActorCritic(lm, None, None)(*batch(rows), TEMPERATURE)
    assert outputs.entropy is outputs.values is None


def test_value_parameters_are_the_trained_ones_of_the_value_function(lm, classifier):
    head = torch.nn.Linear(32, 1)
    assert ActorCritic(lm, head, None).value_parameters() == list(head.parameters())
    assert ActorCritic(lm, None, None).value_parameters() == []
    critic = ScalarModel(classifier)
    model = ActorCritic(lm, None, critic)
    assert len(model.value_parameters()) == len(list(classifier.parameters()))
    frozen(critic)
    assert model.value_parameters() == []


# -- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
def test_score_is_what_transformers_says(classifier, encoder, rows, dtype, side):
    """Of one row at a time and unpadded, for which transformers needs no padding token."""
    in_dtype(classifier, dtype)
    whole = [prompt + response for prompt, response in rows]
    ids, mask = encoder.pad(whole, side)
    classifier.config.pad_token_id = None
    with torch.no_grad():
        scores = ScalarModel(classifier).score(ids, mask)
        expected = torch.cat([classifier(torch.tensor([row])).logits[:, 0] for row in whole])
    close(scores, expected, classifier)


@pytest.mark.parametrize("side", ["left", "right"])
def test_score_of_a_padded_batch_is_what_transformers_says(classifier, encoder, rows, side):
    """With a padding token that no real token equals, as transformers needs it."""
    whole = [[t for t in prompt + response if t != encoder.pad_id] for prompt, response in rows]
    ids, mask = encoder.pad(whole, side)
    positions = position_ids(mask)
    with torch.no_grad():
        scores = ScalarModel(classifier).score(ids, mask)
        expected = classifier(ids, attention_mask=mask, position_ids=positions).logits[:, 0]
    close(scores, expected, classifier)


def test_score_ends_at_the_mask_even_where_pad_is_the_stop_token(classifier, encoder, rows):
    rows = [[*prompt, *response, encoder.stop_id] for prompt, response in rows]
    width = max(map(len, rows))
    ids = torch.tensor([row + [encoder.stop_id] * (width - len(row)) for row in rows])
    mask = torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]
    scorer = ScalarModel(classifier)
    with torch.no_grad():
        alone = torch.cat([scorer.score(torch.tensor([r]), torch.ones(1, len(r))) for r in rows])
        close(scorer.score(ids, mask), alone, classifier)


# -- the reference --------------------------------------------------------------------------------


@pytest.fixture
def adapted(lm):
    """The language model with adapters that change what it says."""
    lora = LoraConfig(r=4, target_modules="all-linear")
    model = add_adapter(lm, lora, TaskType.CAUSAL_LM, seed=0).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def test_with_its_adapters_off_the_policy_is_its_reference(lm, rows, request):
    sequences, *masks = batch(rows)
    before = Reference(lm, shares_policy=False).logprobs(sequences, *masks, TEMPERATURE)
    policy = request.getfixturevalue("adapted")
    reference = Reference(policy, shares_policy=True)
    close(reference.logprobs(sequences, *masks, TEMPERATURE), before, lm)
    with torch.no_grad():
        outputs, _ = response_outputs(policy, sequences, *masks, TEMPERATURE)
    assert (outputs.logprobs - before).abs().max() > 0.1
    after = Reference(policy, shares_policy=False).logprobs(sequences, *masks, TEMPERATURE)
    close(after, outputs.logprobs, lm)


def test_the_reference_records_no_gradient(lm, rows):
    sequences, *masks = batch(rows)
    assert not Reference(lm, shares_policy=False).logprobs(sequences, *masks, 1.0).requires_grad


# -- a second adapter for the value function ------------------------------------------------------

LORA = LoraConfig(r=4, target_modules="all-linear")


def shake(parameters, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


@pytest.fixture
def two_adapters(adapted):
    """A policy adapter and a value adapter, both far from 0, and a value head."""
    add_value_adapter(adapted, LORA, seed=1)
    shake(adapter_parameters(adapted, VALUE_ADAPTER), seed=2)
    head = torch.nn.Linear(32, 1)
    torch.nn.init.normal_(head.weight, std=0.1)
    return ActorCritic(adapted, head, value_adapter=VALUE_ADAPTER)


def of_adapter(model, name):
    return adapter_parameters(model.lm, name)


def trained(model):
    return [name for name, p in model.named_parameters() if p.requires_grad]


def test_the_policy_is_the_same_with_and_without_a_value_adapter(adapted, rows, request):
    sequences, *masks = batch(rows)
    with torch.no_grad():
        before, _ = response_outputs(adapted, sequences, *masks, TEMPERATURE, entropy=True)
        model = request.getfixturevalue("two_adapters")
        after = model(sequences, *masks, TEMPERATURE, entropy=True)
        again = model(sequences, *masks, TEMPERATURE, entropy=True)
    for outputs in (after, again):
        assert torch.equal(outputs.logprobs, before.logprobs)
        assert torch.equal(outputs.entropy, before.entropy)


def test_values_are_the_heads_number_on_the_trunk_with_the_value_adapter(two_adapters, rows):
    outputs = said(two_adapters, rows)
    lm = two_adapters.lm
    lm.set_adapter(VALUE_ADAPTER)
    for (prompt, response), of_row in zip(rows, outputs, strict=True):
        with torch.no_grad():
            ids = torch.tensor([prompt + response])
            hidden = lm.get_base_model().base_model(ids).last_hidden_state
            values = two_adapters.value_head(hidden)[0, len(prompt) - 1 : -1, 0]
        close(of_row[2], values, lm)


@pytest.mark.parametrize(
    ("moved", "policy_moves", "values_move"),
    [("default", True, False), (VALUE_ADAPTER, False, True), ("head", False, True)],
)
def test_each_adapter_moves_its_own_half_alone(
    two_adapters, rows, moved, policy_moves, values_move
):
    before = torch.cat(said(two_adapters, rows), dim=1)
    head = list(two_adapters.value_head.parameters())
    shake(head if moved == "head" else of_adapter(two_adapters, moved), seed=3)
    after = torch.cat(said(two_adapters, rows), dim=1)
    logprobs, entropies, values = (after - before).abs().amax(1).tolist()
    assert (logprobs > 1e-3, entropies > 1e-3) == (policy_moves, policy_moves)
    assert (values > 1e-3) == values_move
    unmoved = [x for x, moves in ((logprobs, policy_moves), (values, values_move)) if not moves]
    assert unmoved == [0.0]


@pytest.mark.parametrize("loss", ["policy", "value"])
def test_the_gradient_of_one_half_does_not_reach_the_other(two_adapters, rows, loss):
    outputs = two_adapters(*batch(rows), TEMPERATURE, entropy=True)
    total = outputs.values if loss == "value" else outputs.logprobs + outputs.entropy
    total.sum().backward()
    policy, values = of_adapter(two_adapters, "default"), two_adapters.value_parameters()
    reached, spared = (values, policy) if loss == "value" else (policy, values)
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in reached)
    assert all(p.grad is None for p in spared)


def test_both_losses_together_have_both_gradients(two_adapters, rows):
    """The adapters are switched after the policy's forward pass and before the one backward."""
    sequences = batch(rows)
    policy, values = of_adapter(two_adapters, "default"), two_adapters.value_parameters()
    apart = [
        torch.autograd.grad(getattr(two_adapters(*sequences, 1.0), name).sum(), parameters)
        for name, parameters in (("logprobs", policy), ("values", values))
    ]
    outputs = two_adapters(*sequences, 1.0)
    (outputs.logprobs.sum() + outputs.values.sum()).backward()
    together = [[p.grad for p in parameters] for parameters in (policy, values)]
    for a, b in zip(apart, together, strict=True):
        torch.testing.assert_close(list(a), b)


@pytest.mark.parametrize("entropy", [False, True])
def test_one_pass_after_the_other_has_the_gradients_of_both_at_once(two_adapters, rows, entropy):
    """To the bit: of a loss that is a sum, each half is the other's constant."""

    def loss(outputs):
        total = outputs.logprobs.exp().sum() + outputs.values.square().sum()
        return total + outputs.entropy.sum() if entropy else total

    arguments = (*batch(rows), TEMPERATURE, entropy)
    loss(two_adapters(*arguments)).backward()
    together = {n: p.grad for n, p in two_adapters.named_parameters() if p.grad is not None}
    two_adapters.zero_grad()
    outputs = []
    for said_now in two_adapters.passes(*arguments):
        loss(said_now).backward()
        outputs.append(said_now)
    apart = {n: p.grad for n, p in two_adapters.named_parameters() if p.grad is not None}
    assert together.keys() == apart.keys()
    assert all(torch.equal(grad, apart[name]) for name, grad in together.items())
    assert [x.logprobs.requires_grad for x in outputs] == [True, False]
    whole = two_adapters(*arguments)
    for found, expected in zip(outputs[-1], whole, strict=True):
        assert found is expected is None or torch.equal(found, expected)


def test_the_base_stays_frozen_and_both_adapters_trained_whatever_was_run(two_adapters, rows):
    sequences, *masks = batch(rows)
    before = trained(two_adapters)
    kinds = (".default.", f".{VALUE_ADAPTER}.", "value_head")
    assert all(any(kind in name for name in before) for kind in kinds)
    assert all("lora_" in name or "value_head" in name for name in before)
    reference = Reference(two_adapters.lm, shares_policy=True)
    for run in (
        lambda: reference.logprobs(sequences, *masks, TEMPERATURE),
        lambda: two_adapters(sequences, *masks, TEMPERATURE),
        lambda: two_adapters.values(sequences, *masks),
    ):
        run()
        assert trained(two_adapters) == before
        assert two_adapters.lm.active_adapters == ["default"]
    outputs = two_adapters(sequences, *masks, TEMPERATURE)
    (outputs.logprobs.sum() + outputs.values.sum()).backward()
    parameters = dict(two_adapters.named_parameters())
    assert all(parameters[name].grad is not None for name in before)


def test_an_error_while_the_value_adapter_is_on_switches_it_off(two_adapters, rows):
    before = trained(two_adapters)
    sequences, *masks = batch(rows)
    with pytest.raises(IndexError):
        two_adapters.values(sequences + 10**6, *masks)
    assert two_adapters.lm.active_adapters == ["default"]
    assert trained(two_adapters) == before


def test_both_adapters_off_is_the_reference(lm, rows, request):
    sequences, *masks = batch(rows)
    before = Reference(lm, shares_policy=False).logprobs(sequences, *masks, TEMPERATURE)
    reference = Reference(request.getfixturevalue("two_adapters").lm, shares_policy=True)
    close(reference.logprobs(sequences, *masks, TEMPERATURE), before, lm)


def test_the_value_functions_parameters_are_its_adapter_and_its_head(two_adapters):
    named = {id(p): name for name, p in two_adapters.named_parameters()}
    names = {named[id(p)] for p in two_adapters.value_parameters()}
    assert names == {n for n in trained(two_adapters) if ".default." not in n}


# -- values without the policy --------------------------------------------------------------------


@pytest.fixture(params=["head", "critic", "adapter"])
def any_critic(request, lm, classifier):
    if request.param == "adapter":
        return request.getfixturevalue("two_adapters")
    if request.param == "critic":
        return ActorCritic(lm, critic=ScalarModel(classifier))
    head = torch.nn.Linear(32, 1)
    torch.nn.init.normal_(head.weight, std=0.1)
    return ActorCritic(lm, head)


def test_values_alone_are_those_of_the_whole_forward(any_critic, rows):
    sequences, *masks = batch(rows, left=2, right=3)
    with torch.no_grad():
        values = any_critic(sequences, *masks, TEMPERATURE).values
        close(any_critic.values(sequences, *masks), values, *parts(any_critic))
    assert (values[masks[1]] != 0).all()


def test_values_alone_give_gradients_to_the_value_function_alone(any_critic, rows):
    any_critic.values(*batch(rows)).sum().backward()
    own = {id(p) for p in any_critic.value_parameters()}
    assert {id(p) for p in any_critic.parameters() if p.grad is not None} == own


def test_the_head_reads_the_policys_trunk_and_moves_it(lm, rows):
    """In the step that it shares with the policy; alone it does not."""
    model = ActorCritic(lm, torch.nn.Linear(32, 1))
    model(*batch(rows), TEMPERATURE).values.sum().backward()
    assert lm.get_input_embeddings().weight.grad.abs().max() > 0


def test_without_a_value_function_there_are_no_values(lm, rows):
    assert ActorCritic(lm).values(*batch(rows)) is None
