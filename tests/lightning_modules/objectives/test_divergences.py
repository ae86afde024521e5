"""Estimators of KL, weighed by exact probabilities instead of samples."""

import pytest
import torch

from lightning_modules.objectives.divergences import k1, k3


@pytest.fixture
def logs():
    """Log-probabilities of two distributions over seven outcomes."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 7, generator=generator, dtype=torch.float64).mul(2).log_softmax(-1)


@pytest.mark.parametrize("estimator", [k1, k3])
def test_the_expectation_is_the_kl(logs, estimator):
    policy, reference = logs
    kl = torch.nn.functional.kl_div(reference, policy, log_target=True, reduction="sum")
    expectation = (policy.exp() * estimator(policy, reference)).sum()
    assert float(expectation) == pytest.approx(float(kl), rel=1e-12)


@pytest.mark.parametrize("estimator", [k1, k3])
def test_equal_distributions_have_none(logs, estimator):
    assert (estimator(logs[0], logs[0]) == 0).all()


def test_k1_changes_sign_with_its_arguments(logs):
    assert torch.equal(k1(logs[0], logs[1]), -k1(logs[1], logs[0]))


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 30.0])
def test_k3_is_never_negative(scale):
    differences = scale * torch.linspace(-1, 1, 1001)
    assert (k3(differences, torch.zeros(1001)) >= 0).all()


def test_k3_is_half_the_square_of_small_differences():
    difference = torch.tensor([1e-4, -1e-4], dtype=torch.float64)
    torch.testing.assert_close(
        k3(difference, torch.zeros_like(difference)), difference**2 / 2, rtol=1e-4, atol=0
    )
