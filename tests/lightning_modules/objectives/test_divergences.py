"""Estimators of KL, weighed by exact probabilities instead of samples."""

import pytest
import torch

from lightning_modules.objectives.divergences import adapted_beta, k1, k3


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


# -- beta that follows the KL ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kl", "error"),
    [
        (6.0, 0.0),
        (6.6, 0.1),
        (5.7, -0.05),
        (7.2, 0.2),
        (60.0, 0.2),  # no batch may move it by more than this
        (4.8, -0.2),
        (0.0, -0.2),
        (-3.0, -0.2),  # one sample of the KL can be negative
    ],
)
def test_beta_follows_the_relative_error_of_the_kl(kl, error):
    """In a tenth of the horizon by a tenth of the error."""
    after = adapted_beta(0.5, kl, target=6.0, episodes=100, horizon=1000)
    assert after == pytest.approx(0.5 * (1 + 0.1 * error), rel=1e-12)


def test_a_kl_above_its_target_makes_beta_grow_until_it_is_not():
    """A world whose KL is 3 / beta: the fixed point is target = 3 / beta."""
    for beta in (0.1, 10.0):
        for _ in range(2000):
            beta = adapted_beta(beta, 3 / beta, target=6.0, episodes=100, horizon=1000)
        assert beta == pytest.approx(0.5, rel=1e-6)
