"""Closed form, quantiles and DOP853 are three routes to one flow; the flow returns; slopes are found or denied."""

import math

import pytest
import torch

from theory import VPLinear
from theory.reference import gaussian_flow, ode_flow, quantile_flow
from theory.slope import observed_order

from .problems import GAUSSIAN, MIXTURE, PLANE

PROCESS = VPLinear()
S, T = PROCESS.level_at(-1.5), PROCESS.level_at(2.0)


def starts(law, n=5):
    return law.noised(S.alpha, S.sigma).sample(n, generator=torch.Generator().manual_seed(4))


def test_dop853_meets_the_closed_form():
    from toy_distributions import GaussianMixture

    tilted = GaussianMixture.gaussian([0.5, -1.0], [[1.0, 0.6], [0.6, 0.5]])
    for law in (GAUSSIAN, tilted):
        x = starts(law)
        torch.testing.assert_close(ode_flow(law, x, S, T), gaussian_flow(law, x, S, T), rtol=1e-11, atol=1e-12)


def test_dop853_meets_the_quantiles():
    x = starts(MIXTURE)
    torch.testing.assert_close(ode_flow(MIXTURE, x, S, T), quantile_flow(MIXTURE, x, S, T), rtol=1e-10, atol=1e-11)


def test_the_flow_returns():
    x = starts(PLANE, 3)
    back = ode_flow(PLANE, ode_flow(PLANE, x, S, T), T, S)
    torch.testing.assert_close(back, x, rtol=1e-10, atol=1e-10)


def test_the_flow_carries_the_law():
    """Pushing the quantiles of the noisy law gives the quantiles of the cleaner one."""
    u = torch.tensor([0.01, 0.2, 0.5, 0.77, 0.99], dtype=torch.float64)
    x = MIXTURE.noised(S.alpha, S.sigma).quantile(u)[:, None]
    expected = MIXTURE.noised(T.alpha, T.sigma).quantile(u)[:, None]
    torch.testing.assert_close(ode_flow(MIXTURE, x, S, T), expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_slopes_are_found_through_the_next_term(order):
    h = [0.5 / 2**i for i in range(7)]
    found = observed_order(h, [3 * x**order * (1 + 0.7 * x) for x in h])
    assert abs(found.value - order) < min(0.01, found.error + 1e-9)


def test_a_slope_needs_four_halvings_above_the_floor():
    h = [0.5 / 2**i for i in range(7)]
    assert math.isinf(observed_order(h[:4], [x**2 for x in h[:4]]).error)
    assert math.isinf(observed_order(h, [x**2 for x in h], floor=1e-4).error)


def test_a_floor_is_not_taken_for_an_order():
    h = [0.5 / 2**i for i in range(9)]
    found = observed_order(h, [x**2 + 1e-3 for x in h])
    assert found.error > 0.1 or found.value < 1


def test_bad_slopes_are_refused():
    with pytest.raises(ValueError, match="one length"):
        observed_order([1, 2], [1])
    with pytest.raises(ValueError, match="positive"):
        observed_order([1, -2], [1, 1])
