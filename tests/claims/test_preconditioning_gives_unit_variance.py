"""EDM's coefficients on a two-point law, by quadrature over the noise, and the exact flow as a solver."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from theory.flow_map import FlowMap
from theory.grid import uniform_lambda
from theory.laws import law_of
from theory.models import Exact
from theory.preconditioning import EDMPreconditioning
from theory.process import EDM, VPLinear
from theory.solvers import Churn, solve
from toy_distributions.mixture import GaussianMixture

LAW = GaussianMixture.gaussian([0.7, -0.2], [[0.25, 0.1], [0.1, 0.5]])


@given(k=st.floats(1e-3, 1e3), spread=st.floats(1e-2, 1e2))
def test_input_and_target_of_a_two_point_law(k, spread):
    wrap = EDMPreconditioning(spread)
    n, weights = np.polynomial.hermite_e.hermegauss(8)
    weights = weights / weights.sum()

    def mean(f):
        return sum(0.5 * weights @ f(y, y + k * n) for y in (-spread, spread))

    assert abs(mean(lambda y, x: (wrap.c_in(k) * x) ** 2) - 1) < 1e-12
    assert abs(mean(lambda y, x: ((y - wrap.c_skip(k) * x) / wrap.c_out(k)) ** 2) - 1) < 1e-9
    assert abs(wrap.weight(k) * wrap.c_out(k) ** 2 - 1) < 1e-12
    assert wrap.c_noise(k) == math.log(k) / 4


@pytest.mark.parametrize("process", [EDM(), VPLinear()], ids=str)
def test_flow_map_is_exact_and_asks_no_model(process):
    grid = uniform_lambda(process, 3, start=-1.5, end=2.0)
    first, last = grid.levels[0], grid.levels[-1]
    x = LAW.noised(float(first.alpha), float(first.sigma)).sample(5, generator=torch.Generator().manual_seed(0))
    run = solve(FlowMap(LAW), Exact(LAW, process), x, grid)
    assert run.evaluations == 0
    out, true = law_of(FlowMap(LAW), LAW, process, grid), LAW.noised(float(last.alpha), float(last.sigma))
    assert (out.mean - true.mean).abs().max() < 1e-13
    assert (out.cov - true.cov).abs().max() < 1e-13


@pytest.mark.parametrize(("noise_scale", "exact"), [(1.0, True), (1.01, False)])
def test_churned_flow_keeps_a_tilted_law(noise_scale, exact):
    grid = uniform_lambda(EDM(), 8, start=-1.5, end=2.0)
    out = law_of(Churn(FlowMap(LAW), rate=0.7, noise_scale=noise_scale), LAW, EDM(), grid)
    true = LAW.noised(1.0, float(grid.levels[-1].sigma))
    assert bool((out.cov - true.cov).abs().max() < 1e-12) is exact
