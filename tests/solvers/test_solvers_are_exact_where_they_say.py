"""One step of any size on a point mass is exact; equal samplers are equal to round-off; mutants are not."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from theory import PROCESSES, Exact, Independent, TimeGrid, VPLinear, solve, uniform_lambda
from theory.solvers import DDIM, DDPM, DPM2, DPMpp2M, Euler, EulerMaruyama, Heun
from toy_distributions import GaussianMixture

from .problems import LAWS, PLANE

POINT = GaussianMixture.dirac([0.3, -1.1])
lams = st.tuples(st.floats(-3.5, 0.9), st.floats(1.0, 4.0))


def one_step_error(solver, process, lam_s, lam_t):
    """How far one step misses the ray alpha m + sigma eps, relative to the size of what is added up."""
    grid = TimeGrid(process, [process.time_at(lam_s), process.time_at(lam_t)])
    s, t = grid.levels
    eps = torch.tensor([[0.4, 1.7]], dtype=torch.float64)
    end = solve(solver, Exact(POINT, process), s.alpha * POINT.means + s.sigma * eps, grid).end
    # the noise form subtracts terms of size alpha_t/alpha_s and divides stage errors by sigma there: e^h, over r1
    amplification = t.alpha / s.alpha * (1 + math.exp(t.lam - s.lam) / getattr(solver, "r1", 1.0))
    return (end - t.alpha * POINT.means - t.sigma * eps).abs().max().item() / amplification


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("solver", [DDIM(), Euler("k"), Heun("k"), DPM2(), DPM2(r1=0.3), DPMpp2M()], ids=repr)
@given(ends=lams)
def test_exponential_solvers_are_exact_on_a_point_mass(name, solver, ends):
    assert one_step_error(solver, PROCESSES[name](), *ends) < 2e-14


@pytest.mark.parametrize("solver", [Euler("t"), Heun("t"), DDIM(coefficient=1.001)], ids=repr)
def test_others_are_not(solver):
    assert one_step_error(solver, VPLinear(), -1.0, 2.0) > 1e-6


@given(eta=st.floats(0, 1), ends=lams)
def test_every_eta_keeps_the_marginals_of_a_point_mass(eta, ends):
    from theory import law_of

    process = VPLinear()
    grid = uniform_lambda(process, 3, start=ends[0], end=ends[1])
    law, last = law_of(DDIM(eta=eta), POINT, process, grid), grid.levels[-1]
    exact = POINT.noised(last.alpha, last.sigma)
    torch.testing.assert_close(law.mean, exact.mean, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(law.cov, exact.cov, rtol=1e-11, atol=1e-16)


def same(one, other, process=None, tolerance=1e-12):
    process = process or VPLinear()
    grid = uniform_lambda(process, 7, start=-2, end=2)
    x = PLANE.noised(grid.levels[0].alpha, grid.levels[0].sigma).sample(20, generator=torch.Generator().manual_seed(0))
    ends = [solve(s, Exact(PLANE, process), x, grid, noise=Independent(1)).end for s in (one, other)]
    return (ends[0] - ends[1]).abs().max() < tolerance


@pytest.mark.parametrize("name", PROCESSES)
def test_equal_samplers_are_equal(name):
    process = PROCESSES[name]()
    assert same(DDIM(), Euler("k"), process)
    assert same(DDIM(eta=1.0), DDPM("beta_tilde"), process)
    assert same(EulerMaruyama(eta=0.0), Euler("t"), process)


def test_different_samplers_are_told_apart():
    assert not same(DDIM(eta=1.0), DDPM("beta"), tolerance=1e-3)
    assert not same(DDIM(), Euler("t"), tolerance=1e-4)
    assert not same(DDIM(eta=0.9), DDIM(eta=1.0), tolerance=1e-3)


@pytest.mark.parametrize("law", LAWS)
def test_solvers_in_k_do_not_see_the_process(law):
    """In y = x / alpha on one lambda grid, VP, VE and the linear path are the same problem."""
    law = LAWS[law]
    ends = []
    for name in ("vp_linear", "ve", "linear_path", "trigonometric_path"):
        process = PROCESSES[name]()
        grid = uniform_lambda(process, 9, start=-2, end=2)
        y = torch.linspace(-3, 3, 5 * law.dim, dtype=torch.float64).reshape(5, law.dim)
        for solver in (DDIM(), Heun("k"), DPM2(), DPMpp2M()):
            end = solve(solver, Exact(law, process), grid.levels[0].alpha * y, grid).end / grid.levels[-1].alpha
            ends.append(end)
    for i in range(4, len(ends)):
        torch.testing.assert_close(ends[i], ends[i % 4], rtol=1e-10, atol=1e-11)
