"""Fitted laws: a Gaussian has the points' moments, EM never loses likelihood, and finds what made the points."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.laws.checks import EPS, UNITS
from toy_distributions import LAWS, em_step, fit_gaussian, fit_mixture, fitted


def cloud(seed: int, n: int = 60, d: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, dtype=torch.float64, generator=generator)
    return x + 3 * torch.randint(0, 2, (n, 1), generator=generator)


def test_a_gaussian_has_the_moments_of_the_points():
    x = cloud(0)
    law = fit_gaussian(x)
    assert (law.mean - x.mean(0)).abs().max() < UNITS * EPS
    assert (law.cov - torch.cov(x.T, correction=0)).abs().max() < UNITS * EPS * 10
    on_a_line = fit_gaussian(torch.stack([x[:, 0], 2 * x[:, 0]], -1))
    assert on_a_line.singular


def slopes(law, x: torch.Tensor) -> torch.Tensor:
    """d mean log p / d means, which vanishes at a maximum."""
    means = law.means.clone().requires_grad_()
    parts = [
        torch.distributions.MultivariateNormal(m, cov).log_prob(x)
        for m, cov in zip(means, law.full_covs(), strict=True)
    ]
    total = torch.logsumexp(torch.stack(parts, -1) + law.weights.log(), -1).mean()
    return torch.autograd.grad(total, means)[0]


@given(st.integers(0, 2**31), st.integers(1, 4))
def test_no_step_loses_likelihood(seed, k):
    x = cloud(seed)
    floor = fitted.variance_floor(x)
    law, before = fitted._start(x, k, torch.Generator().manual_seed(seed), floor), None
    for _ in range(12):
        law, likelihood = em_step(law, x, floor)
        assert before is None or likelihood >= before - UNITS * EPS * len(x) * abs(before)
        before = likelihood
        assert torch.linalg.eigvalsh(law.full_covs()).min() >= floor * (1 - 1e-6)


def test_a_step_with_the_weights_reversed_is_caught():
    x = cloud(1)
    law, before = em_step(fit_mixture(x, 2, seed=0), x, 1e-6)
    wrong = type(law)(law.weights.flip(0), law.means, law.covs)
    assert em_step(wrong, x, 1e-6)[1] < before - 1e-6


def test_the_fit_is_a_maximum():
    x = LAWS["mixture_2d"]().sample(400, generator=torch.Generator().manual_seed(0))
    law = fit_mixture(x, 3, seed=1, iterations=5000, tolerance=1e-15)
    # the likelihood is flat to its rounding there: its slope, to the root of that
    assert slopes(law, x).abs().max() < 1e-4
    moved = type(law)(law.weights, law.means + 0.01, law.covs)
    assert slopes(moved, x).abs().max() > 1e-2


def test_what_made_the_points_is_found():
    truth = LAWS["bimodal_wide"]()
    x = truth.sample(4000, generator=torch.Generator().manual_seed(0))
    law = fit_mixture(x, 2, seed=0)
    order = law.means[:, 0].argsort()
    # standard errors: sqrt(p (1 - p) / n) = 0.007; sd / sqrt(n w) = 0.0063 and 0.0055; v sqrt(2 / (n w))
    assert (law.weights[order] - truth.weights).abs().max() < 6 * 0.007
    assert (law.means[order] - truth.means).abs().max() < 6 * 0.0064
    assert (law.covs[order].flatten() - truth.covs).abs().max() < 6 * 0.09 * (2 / 1000) ** 0.5


def test_the_same_seed_gives_the_same_law():
    x = cloud(3)
    one, same = fit_mixture(x, 3, seed=5), fit_mixture(x, 3, seed=5)
    assert torch.equal(one.means, same.means) and torch.equal(one.covs, same.covs)


def test_points_that_coincide_meet_the_floor():
    x = torch.cat([torch.zeros(5, 2), torch.ones(7, 2)]).double()
    law = fit_mixture(x, 2, seed=0)
    assert not law.singular
    assert sorted(law.weights.tolist()) == pytest.approx([5 / 12, 7 / 12])
    with pytest.raises(ValueError, match="k must be at most the number of distinct points; got k=3 and 2 of them"):
        fit_mixture(x, 3, seed=0)
    with pytest.raises(ValueError, match=r"points must have shape \(n, dim\); got \(5,\)"):
        fit_gaussian(torch.ones(5))
