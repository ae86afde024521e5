"""What is granted to rounding is more than it takes, and less than a bug makes of it."""

import pytest
import torch

from tests.another_cpu import AnotherCPU
from tests.tolerances import of_model, rounding


@pytest.fixture
def ids(lm):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(6, lm.config.vocab_size, (40, 24), generator=generator)


@torch.no_grad()
def test_a_model_in_float32_is_as_far_from_float64_as_it_may_be(lm, ids):
    said, tolerance = lm(ids).logits, of_model(lm)
    distance = float((lm.double()(ids).logits - said).abs().max())
    # Room for other CPUs, and for a model whose layers amplify what comes into them.
    assert 1e-3 * tolerance < distance < tolerance / 10
    assert tolerance < 1e-3 * float(said.abs().max())


@torch.no_grad()
def test_on_another_cpu_equal_rows_differ_and_the_same_operation_does_not(lm, ids):
    row, tolerance = ids[:1].expand(8, -1), of_model(lm)
    with AnotherCPU():
        said, again = lm(row).logits, lm(row).logits
    assert torch.equal(said, again)
    assert len(said[:, -1].unique(dim=0)) > 1
    torch.testing.assert_close(said, lm(row).logits, rtol=0, atol=tolerance / 10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sums_of_another_order_lie_within_their_rounding(dtype):
    x = torch.randn(50, 301, generator=torch.Generator().manual_seed(0), dtype=dtype)
    with AnotherCPU():
        other = x.sum(-1), x.mean(-1) * 301, x @ torch.ones(301, dtype=dtype)
    for found in other:
        differences = (found - x.sum(-1)).abs()
        assert float(differences.max()) > 0
        assert (differences <= rounding(dtype, 301, x.abs().sum(-1))).all()


def test_what_is_exact_stays_exact():
    x = torch.arange(12.0).view(3, 4)
    with AnotherCPU():
        assert x.sum() == 66
        assert x.sum(0, keepdim=True).tolist() == [[12, 15, 18, 21]]
        assert x.mean((0, 1)) == 5.5
        assert (x @ x.T)[0].tolist() == [14, 38, 62]
        assert torch.dot(x[0], x[1]) == 38
