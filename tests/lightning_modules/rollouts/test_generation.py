"""The sampler against its own distribution, and against itself in other company."""

from itertools import product

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from lightning_modules.forward.token_outputs import response_outputs
from lightning_modules.rollouts.generation import generate

LIMIT = 12


# -- whole responses ------------------------------------------------------------------------------


@pytest.fixture
def prompts(world, encoder):
    """Four prompts of different lengths."""
    rows = encoder.prompts(world.prompts("train"))
    by_length = {len(row): row for row in rows}
    return [by_length[n] for n in sorted(by_length)[:: len(by_length) // 4 + 1]]


@pytest.fixture
def sample(lm, encoder, prompts):
    """Responses as lists of ids, by a stop token that the model likes."""

    def draw(rows, uniforms, stop_id, extra=0, temperature=1.0):
        ids, mask = encoder.pad(rows, "left")
        ids = torch.nn.functional.pad(ids, (extra, 0), value=encoder.pad_id)
        mask = torch.nn.functional.pad(mask, (extra, 0), value=False)
        sequences, real, _ = generate(
            lm, ids, mask, uniforms, temperature=temperature, stop_id=stop_id, pad_id=encoder.pad_id
        )
        samples = len(uniforms) // len(rows)
        assert torch.equal(sequences[:, : ids.shape[1]], ids.repeat_interleave(samples, 0))
        responses = sequences[:, ids.shape[1] :]
        assert (responses[~real] == encoder.pad_id).all()
        assert bool(real[:, -1].any())
        return [row[kept].tolist() for row, kept in zip(responses, real, strict=True)]

    free = draw(prompts, noise(4 * 8), -1)
    assert all(len(row) == LIMIT for row in free)
    later = [token for row in free for token in row[2:]]
    stop_id = max(set(later), key=later.count)
    return lambda *args, **options: draw(*args, **{"stop_id": stop_id} | options), free, stop_id


def noise(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, LIMIT, generator=generator, dtype=torch.float64)


def test_responses_end_with_their_first_stop_token_or_are_cut(sample, prompts):
    draw, free, stop_id = sample
    expected = [row[: row.index(stop_id) + 1] if stop_id in row else row for row in free]
    responses = draw(prompts, noise(32))
    assert responses == expected
    lengths = {len(row) for row in responses}
    assert LIMIT in lengths
    assert len(lengths) > 2


def test_a_response_ends_with_the_first_of_several_stop_tokens(sample, prompts):
    draw, free, stop_id = sample
    others = [token for row in free for token in row[1:3] if token != stop_id]
    stops = (stop_id, max(set(others), key=others.count))
    expected = []
    for row in free:
        ends = [i for i, token in enumerate(row) if token in stops]
        expected.append(row[: ends[0] + 1] if ends else row)
    assert {row[-1] for row in expected} > set(stops)
    for several in (stops, stops[::-1]):
        assert draw(prompts, noise(32), stop_id=several) == expected


def test_company_and_padding_change_no_response(sample, prompts):
    draw, *_ = sample
    uniforms = noise(4, seed=1)
    together = draw(prompts, uniforms)
    assert draw(prompts, uniforms, extra=5) == together
    assert [draw([p], u[None])[0] for p, u in zip(prompts, uniforms, strict=True)] == together
    assert draw(prompts[::-1], uniforms.flip(0)) == together[::-1]


def test_samples_per_prompt_are_repeated_prompts(sample, prompts):
    draw, *_ = sample
    uniforms = noise(12, seed=2)
    assert draw(prompts, uniforms) == draw([p for p in prompts for _ in range(3)], uniforms)


def test_the_longest_response_sets_the_width(sample, prompts):
    draw, free, _ = sample
    assert draw(prompts[:1], noise(32)[:1], stop_id=free[0][0]) == [free[0][:1]]


def test_little_noise_at_low_temperature_is_the_likeliest_response(lm, encoder, prompts, sample):
    draw, *_ = sample
    (response,) = draw(prompts[:1], noise(1), temperature=1e-5, stop_id=-1)
    ids = torch.tensor([prompts[0] + response])
    start = len(prompts[0])
    with torch.no_grad():
        best = lm(ids).logits[0, start - 1 : -1].argmax(-1)
    assert best.tolist() == response


# -- the distribution -----------------------------------------------------------------------------

VOCABULARY, HORIZON, STOP = 6, 3, 1
TOY = {
    "llama": LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
    ),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=8, n_layer=1, n_head=2, n_positions=16),
}
PROMPTS = torch.tensor([[0, 0, 3], [2, 1, 4]])
PROMPT_MASK = torch.tensor([[False, False, True], [True, True, True]])


@pytest.fixture
def toy(architecture):
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(TOY[architecture])
    for parameter in model.parameters():
        parameter.data.mul_(8.0 if parameter.ndim > 1 else 1.0)
    return model.double().eval()


def every_response():
    """All 156 responses: ids, and the mask up to the stop token."""
    ends = [
        (*prefix, STOP)
        for n in range(HORIZON)
        for prefix in product([v for v in range(VOCABULARY) if v != STOP], repeat=n)
    ]
    ends += product([v for v in range(VOCABULARY) if v != STOP], repeat=HORIZON)
    ids = torch.tensor([row + (0,) * (HORIZON - len(row)) for row in ends])
    return ids, torch.arange(HORIZON) < torch.tensor([len(row) for row in ends])[:, None]


def code(ids, mask):
    """One number for each response."""
    return ((ids + 1) * mask * (VOCABULARY + 1) ** torch.arange(ids.shape[1])).sum(-1)


def p_value(observed, expected):
    """Of a G-test; cells that expect fewer than 5 are thrown together."""
    rare = expected < 5
    observed, expected = (
        torch.cat([x[~rare], x[rare].sum()[None]]).double() for x in (observed, expected)
    )
    terms = torch.where(observed > 0, observed * (observed / expected).log(), 0.0)
    freedom = torch.tensor((len(expected) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, terms.sum()))


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_samples_follow_the_exact_distribution_of_responses(toy, temperature):
    count = 20_000
    ids, mask = every_response()
    generator = torch.Generator().manual_seed(0)
    uniforms = torch.rand(2 * count, HORIZON, generator=generator, dtype=torch.float64)
    sequences, real, _ = generate(
        toy, PROMPTS, PROMPT_MASK, uniforms, temperature=temperature, stop_id=STOP, pad_id=0
    )
    drawn = code(sequences[:, 3:], real).split(count)
    for i in range(2):
        outputs, _ = response_outputs(
            toy,
            torch.cat([PROMPTS[i].expand(len(ids), -1), ids], dim=1),
            PROMPT_MASK[i].expand(len(ids), -1),
            mask,
            temperature,
        )
        probabilities = outputs.logprobs.sum(-1).double().exp().detach()
        assert float(probabilities.sum()) == pytest.approx(1, abs=1e-6)
        assert 0.05 < float(probabilities[mask.sum(-1) < HORIZON].sum()) < 0.95
        observed = (drawn[i][:, None] == code(ids, mask)).sum(0)
        assert int(observed.sum()) == count
        assert p_value(observed, count * probabilities) > 1e-3
