"""EmpiricalCoupling and MonotoneCoupling from the definition: conditional expectations, marginals, costs, balance."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import dblquad, quad
from scipy.optimize import brentq
from scipy.stats import norm

from theory.flows import Points, even_panels, follow
from theory.reflow import EmpiricalCoupling, MonotoneCoupling, independent_intersection, rectify
from toy_distributions import LAWS, GaussianMixture

FOUR = EmpiricalCoupling(
    torch.tensor([[-1.0], [0.3], [0.8], [2.0]], dtype=torch.float64),
    torch.tensor([[0.9], [-1.1], [0.2], [-0.4]], dtype=torch.float64),
    0.35,
)


def cloud(n=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    data = LAWS["mixture_2d"]().sample(n, generator=generator)
    return EmpiricalCoupling(data, torch.randn(n, 2, dtype=torch.float64, generator=generator), 0.2)


def test_velocity_and_variance_are_conditional_moments():
    """A joint density of (x_t, pair) written out with scipy."""
    for t in (0.0, 0.4, 1.0):
        for x in (-1.5, 0.1, 0.9):
            centres = [(1 - t) * a + t * b for a, b in zip(FOUR.x_0[:, 0], FOUR.x_1[:, 0], strict=True)]
            weights = np.array([norm.pdf(x, centre, FOUR.blur) for centre in centres])
            moves = (FOUR.x_1 - FOUR.x_0)[:, 0].numpy()
            mean = (weights * moves).sum() / weights.sum()
            variance = (weights * moves**2).sum() / weights.sum() - mean**2
            at = torch.tensor([[x]], dtype=torch.float64)
            assert math.isclose(FOUR.velocity(at, t).item(), mean, rel_tol=1e-11, abs_tol=1e-12)
            assert math.isclose(FOUR.conditional_variance(at, t).item(), variance, rel_tol=1e-9, abs_tol=1e-11)


def mixture_cdf(t, x):
    centres = ((1 - t) * FOUR.x_0 + t * FOUR.x_1)[:, 0].numpy()
    return norm.cdf((x[:, None] - centres) / FOUR.blur).mean(1)


def test_the_flow_keeps_every_rank_on_the_line():
    """F_t(z_t) is constant along the flow iff the law of z_t is the mixture at t."""
    start = torch.linspace(-1.8, 1.6, 30, dtype=torch.float64)[:, None]
    curves = follow(FOUR.velocity, start, even_panels(1.0, 0.0, 16, order=4))
    ranks = mixture_cdf(1.0, start[:, 0].numpy())
    for i in (20, 40, -1):
        now = mixture_cdf(curves.clock[i].item(), curves.x[i, :, 0].numpy())
        assert np.abs(now - ranks).max() < 1e-9
    tilted = follow(lambda x, t: 1.02 * FOUR.velocity(x, t), start, even_panels(1.0, 0.0, 16, order=4))
    assert np.abs(mixture_cdf(0.0, tilted.x[-1, :, 0].numpy()) - ranks).max() > 1e-3


def test_costs_balance_by_quadrature():
    """cost before - cost after = S + V over a fine grid of starts, V by scipy from the mixture density."""
    start = torch.linspace(-3.5, 3.3, 4001, dtype=torch.float64)[:, None]
    mass = torch.exp(-0.5 * ((start - FOUR.x_1[:, 0]) / FOUR.blur) ** 2).sum(-1)
    mass = mass / mass.sum()
    curves = follow(FOUR.velocity, start, even_panels(1.0, 0.0, 24, order=4))
    s, after = (mass @ curves.straightness).item(), (mass @ (curves.chord**2).sum(-1)).item()

    def spread(t):
        centres = ((1 - t) * FOUR.x_0 + t * FOUR.x_1)[:, 0].numpy()
        x = torch.linspace(-5, 6, 3001, dtype=torch.float64)
        density = norm.pdf((x.numpy()[:, None] - centres) / FOUR.blur).mean(1) / FOUR.blur
        return np.trapezoid(density * FOUR.conditional_variance(x[:, None], t).numpy(), x.numpy())

    v = quad(spread, 0, 1, epsabs=1e-8, limit=100)[0]
    assert abs(FOUR.cost - after - s - v) < 1e-5
    assert after < FOUR.cost - 0.5 and s > 0.05 and v > 0.5


@pytest.mark.parametrize("seed", range(3))
def test_rectify_balances_within_its_error_and_orders_costs(seed):
    coupling = cloud(seed=seed)
    out = rectify(coupling, panels=12, seed=seed)
    assert abs(out.balance.value) < out.balance.error
    assert out.accuracy < 1e-4
    after = out.coupling
    for power in (1.0, 1.5, 2.0, 4.0):
        before_cost, after_cost = (c.difference.norm(dim=-1).pow(power).mean() for c in (coupling, after))
        assert after_cost < before_cost
    assert torch.equal(out.paths[0], after.x_1) and torch.equal(out.paths[-1], after.x_0)
    broken = out.balance.value + 0.5 * out.intersection.value  # V counted half
    assert abs(broken) > out.balance.error


def test_rectify_is_as_accurate_as_it_says():
    coupling = cloud(60)
    rough, fine = rectify(coupling, panels=8), rectify(coupling, panels=32)
    distance = (rough.coupling.x_0 - fine.coupling.x_0).norm(dim=-1).max().item()
    assert distance < rough.accuracy and fine.accuracy < 1e-2 * rough.accuracy


def test_bare_pairs_would_not_move():
    """With a small blur the velocity on a pair's own line is that pair's: why the blur is part of the definition."""
    coupling = cloud(40)
    sharp = EmpiricalCoupling(coupling.x_0, coupling.x_1, 1e-4)
    assert torch.allclose(sharp.velocity(sharp.centres(0.37), 0.37), sharp.difference)
    with pytest.raises(ValueError, match="blur must be > 0"):
        EmpiricalCoupling(coupling.x_0, coupling.x_1, 0.0)
    with pytest.raises(ValueError, match="one shape"):
        EmpiricalCoupling(coupling.x_0, coupling.x_1[:-1], 0.1)


def test_the_monotone_coupling_has_one_pair_through_each_point():
    law = LAWS["mixture_1d"]()
    coupling = MonotoneCoupling(law)
    w, m, s = law.weights.numpy(), law.means[:, 0].numpy(), law.covs.sqrt().numpy()
    noise = lambda y: norm.ppf(float((w * norm.cdf((y - m) / s)).sum()))
    for t in (0.05, 0.5, 1.0):
        for x in (-0.9, 0.0, 0.3, 1.1):
            y = brentq(lambda y, t=t, x=x: (1 - t) * y + t * noise(y) - x, -2.0, 2.1, xtol=1e-14)
            measured = coupling.velocity(torch.tensor([[x]], dtype=torch.float64), t).item()
            assert math.isclose(measured, noise(y) - y, rel_tol=1e-8, abs_tol=1e-9)
    x = torch.tensor([[0.2]], dtype=torch.float64)
    assert math.isclose(coupling.velocity(x, 0.0).item(), noise(0.2) - 0.2, rel_tol=1e-10)


def test_the_monotone_coupling_flows_straight_to_its_own_map():
    coupling = MonotoneCoupling(LAWS["mixture_1d"]())
    points = Points.of_ranks(GaussianMixture.gaussian(0.0, 1.0), 21, reach=3.0)
    curves = follow(coupling.velocity, points.x, even_panels(1.0, 0.0, 1, order=2))
    assert (curves.x[-1] - coupling.map(points.x)).abs().max() < 1e-9
    assert curves.straightness.max() < 1e-18


def test_independent_intersection_from_its_definition():
    """E |x_1 - x_0|^2 - int E v^2 by scipy, v from two integrals over x_0; the Gaussian in closed form."""
    law = GaussianMixture([0.4, 0.6], [[-0.5], [0.8]], [0.3, 0.5])
    w, m, s = law.weights.numpy(), law.means[:, 0].numpy(), law.covs.sqrt().numpy()

    def squared(x, t):
        spread = np.sqrt((1 - t) ** 2 * s**2 + t**2)
        parts = w * norm.pdf(x, (1 - t) * m, spread)
        mean = m + (1 - t) * s**2 / spread**2 * (x - (1 - t) * m)  # E[x_0 | x, component]
        return ((parts * (x - mean)).sum() / t) ** 2 / parts.sum()

    total = dblquad(lambda x, t: squared(x, t), 1e-3, 1, -7, 7, epsabs=1e-6, epsrel=1e-6)[0]
    expected = 1 + law.cov.item() + law.mean.item() ** 2 - total
    measured = independent_intersection(law)
    # the strip t < 1e-3 holds 1e-3 E v^2, which is between 0 and the cost
    assert abs(measured.value - expected) < 1e-3 * (expected + total) + 1e-5
    exact = independent_intersection(GaussianMixture.gaussian(1.0, 0.49))
    assert abs(exact.value - 0.35 * math.pi) < 1e-11 and exact.error < 1e-6
