"""The counter-example of theory.score_error against direct integration, and de Bruijn's identity in closed form."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from theory.process import VE, VPLinear
from theory.score_error import Ripple, fisher_integral
from toy_distributions.mixture import GaussianMixture


def _kl_of_gaussians(m: float, v: float, n: float, w: float) -> float:
    return 0.5 * (v / w - 1 - math.log(v / w) + (m - n) ** 2 / w)


@pytest.mark.parametrize("process", [VPLinear(), VE()], ids=str)
def test_fisher_integral_of_two_gaussians(process):
    p, q = GaussianMixture.gaussian(0.7, 0.25), GaussianMixture.gaussian(0.0, 1.0)
    ends = []
    for t in (0.0, process.t_max):
        at = process.level(t)
        a, s2 = float(at.alpha), float(at.sigma) ** 2
        ends.append(_kl_of_gaussians(0.7 * a, 0.25 * a**2 + s2, 0.0, a**2 + s2))
    found = fisher_integral(p, q, process)
    assert abs(found.value - (ends[0] - ends[1])) < 1e-11
    assert found.error < 1e-9


def test_ode_kl_by_following_trajectories():
    """log of the image's density along trajectories, the divergence size k cos(k x) integrated beside them."""
    ripple = Ripple(k=6.0, size=0.2)
    x = np.linspace(-7, 7, 4001)

    def backwards(t, state):
        y = state[: len(x)]
        return np.concatenate([-0.2 * np.sin(6 * y), 1.2 * np.cos(6 * y)])

    run = solve_ivp(backwards, (0, 1), np.concatenate([x, 0 * x]), rtol=1e-10, atol=1e-12, method="DOP853")
    y, expansion = run.y[: len(x), -1], run.y[len(x) :, -1]
    log_ratio = 0.5 * (y**2 - x**2) + expansion  # log p(x) - [ log p(y) - int div ]
    weight = np.exp(-0.5 * x**2)
    exact = float((weight * log_ratio).sum() / weight.sum())
    assert abs(ripple.ode_kl().value - exact) < 1e-8


def test_fast_ripples_have_their_limits():
    """KL -> c + 2 log((1 + e^{-c}) / 2), c = k size, for the ODE; 4 size^2 / k^2 for the SDE; as k grows at fixed c."""
    ripple = Ripple(k=60.0, size=0.05)
    limit = 3.0 + 2 * math.log((1 + math.exp(-3.0)) / 2)
    ode, sde = ripple.ode_kl(), ripple.sde_kl()
    assert abs(ode.value / limit - 1) < 1e-2
    assert abs(sde.value / (4 * 0.05**2 / 60**2) - 1) < 1e-3
    assert sde.value < ripple.bound < 0.01 * ode.value


def test_sde_kl_of_a_small_slow_ripple():
    """To second order in size, Hermite modes of rate n/2: sum (4 size k^{n-1} (1 - e^{-n/2}))^2 e^{-k^2} / (2 n!)."""
    k, size = 1.2, 0.01
    modes = [(4 * size * k ** (n - 1) * -math.expm1(-n / 2)) ** 2 / math.factorial(n) for n in range(2, 40, 2)]
    exact = 0.5 * math.exp(-(k**2)) * sum(modes)
    assert abs(Ripple(k=k, size=size).sde_kl().value / exact - 1) < 3 * size


def test_bound_is_the_score_error():
    """(1/2) E |2 size sin(k x)|^2 under N(0, 1)."""
    ripple = Ripple(k=1.5, size=0.3)
    z = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    weight = torch.exp(-0.5 * z**2)
    exact = (weight * 0.5 * (0.6 * torch.sin(1.5 * z)) ** 2).sum() / weight.sum()
    assert abs(ripple.bound - exact.item()) < 1e-14
