"""Cov[x_0|x] = (sigma^2 / alpha) dE[x_0|x]/dx, and it is symmetric and positive semi-definite."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.laws.checks import EPS, UNITS, Broken, centre, reach, typical, worst
from toy_distributions import LAWS, identities
from toy_distributions import strategies as draws


def miss(law, x, alpha, sigma):
    """The residual in units of what rounding does: to x, through the third cumulant, and to the mean that is derived.

    A mean that is good to eps has a derivative good to eps |mean| over the length on which it turns, |x - alpha c|.
    The derivatives of the exponents |x - alpha u|^2 / (2 sigma^2) have x / sigma^2 in common, which cancels, times
    posterior weights that multiply u - E[u|x], good to eps |u|.
    """
    x = x.detach().requires_grad_()
    cov = law.posterior_cov(x, alpha, sigma)
    d = law.dim
    third = torch.stack(
        [torch.autograd.grad(cov[..., i, j].sum(), x, retain_graph=True)[0] for i in range(d) for j in range(d)], -1
    )
    x, cov, third = x.detach(), cov.detach(), third.flatten(-2).norm(dim=-1)
    residual = identities.posterior_cov_is_jacobian(law, x, alpha, sigma).flatten(-2).norm(dim=-1)
    arm = x.norm(dim=-1) + alpha * reach(law)
    mean = law.posterior_mean(x, alpha, sigma)
    turning = (mean - centre(law)).norm(dim=-1) / (x - alpha * centre(law)).norm(dim=-1)
    spread = cov.diagonal(dim1=-2, dim2=-1).sum(-1).clamp_min(0).sqrt()
    sizes = (
        cov.flatten(-2).norm(dim=-1)
        + third * arm
        + sigma**2 / alpha * turning
        + (spread + mean.norm(dim=-1)) * arm / alpha
    )
    return worst(residual, UNITS * EPS * sizes)


@given(st.data(), st.one_of(draws.mixtures(), draws.spheres(dims=(1, 2, 3)), draws.boxes()), draws.noise_levels())
def test_for_laws_drawn(data, law, level):
    assert miss(law, data.draw(draws.points_of(law, *level)), *level) <= 1


@pytest.mark.parametrize("name", LAWS)
def test_for_the_zoo(name):
    law = LAWS[name]()
    for sigma in (1e-6, 1e-3, 0.3, 1.0, 1e4):
        assert miss(law, typical(law, 0.8, sigma), 0.8, sigma) <= 1, sigma


@pytest.mark.parametrize("name", LAWS)
def test_it_is_a_covariance(name):
    law = LAWS[name]()
    for sigma in (1e-6, 1e-3, 0.3, 1.0, 1e4):
        cov = law.posterior_cov(typical(law, 0.8, sigma), 0.8, sigma)
        assert (cov - cov.mT).abs().max() <= 4 * EPS * cov.abs().max(), sigma
        values = torch.linalg.eigvalsh(cov)
        assert bool((values[..., 0] >= -UNITS * EPS * values[..., -1]).all()), sigma


@pytest.mark.parametrize("name", LAWS)
def test_a_covariance_that_forgets_the_within_part_is_caught(name):
    def wrong(law, x, alpha, sigma):
        return law._posterior_cov(x, alpha, sigma) - 1e-8 * sigma**2 * torch.eye(law.dim, dtype=x.dtype)

    assert miss(Broken(LAWS[name](), _posterior_cov=wrong), typical(LAWS[name](), 0.8, 0.3), 0.8, 0.3) > 1
