"""Ancestral steps keep a law that the inner step keeps, are DDIM and DDPM around Euler; x is not y, as mutants show."""

import math
from dataclasses import dataclass

import pytest
import torch

from theory import PROCESSES, VE, Exact, Independent, TimeGrid, VPLinear, law_of, solve, uniform_lambda
from theory.flow_map import FlowMap
from theory.solvers import DDIM, DDPM, Ancestral, DPMpp2M, DPMpp2S, Euler, GeometricMidpoint, Heun, Step
from toy_distributions import GaussianMixture

from .mutants import Mutant, NoiseTwice
from .problems import GAUSSIAN, PLANE
from .test_every_solver_has_its_declared_order import weak_order
from .test_exponential_sde_solvers_are_exact_where_they_say import gap, strong_order

TILTED = GaussianMixture.gaussian([0.5, -1.0], [[1.0, 0.6], [0.6, 0.5]])
INNER = [Euler(), GeometricMidpoint(), DPMpp2S()]


@dataclass(frozen=True)
class InX(Mutant):
    """The recipe in sigma and x, as if alpha were 1."""

    def step(self, model, x, s, t, memory, noise) -> Step:
        up = t.sigma * math.sqrt(max(0.0, 1 - (t.sigma / s.sigma) ** 2))
        down = math.sqrt(t.sigma**2 - up**2)
        return Step(x + (down - s.sigma) * model(x, s).eps + up * noise(s, t, x))


@dataclass(frozen=True)
class ToTarget(Mutant):
    """Steps to the target, and adds the ancestral noise on top."""

    def step(self, model, x, s, t, memory, noise) -> Step:
        here = self.inner.inner.step(model, x, s, t, None, noise).x
        return Step(here + t.sigma * math.sqrt(-math.expm1(2 * (s.lam - t.lam))) * noise(s, t, x))


def law_error(solver, process, law=TILTED):
    """Largest error of mean and covariance, in y, after five unequal steps."""
    grid = TimeGrid(process, [process.time_at(lam) for lam in (-2.0, -1.5, -0.2, 0.1, 0.9, 2.0)])
    last = grid.levels[-1]
    found, exact = law_of(solver, law, process, grid), law.noised(last.alpha, last.sigma)
    misses = (found.mean - exact.mean) / last.alpha, (found.cov - exact.cov) / last.alpha**2
    return max(miss.abs().max().item() for miss in misses)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_around_the_exact_flow_the_law_is_exact(name, eta):
    process, exact = PROCESSES[name](), FlowMap(TILTED)
    assert law_error(Ancestral(exact, eta), process) < 1e-12
    for mutant in (
        Ancestral(exact, eta, noise_scale=1.01),
        NoiseTwice(Ancestral(exact, eta)),
        ToTarget(Ancestral(exact)),
    ):
        assert law_error(mutant, process) > 1e-4


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("inner", INNER, ids=repr)
def test_a_point_mass_keeps_its_marginals(name, inner):
    point = GaussianMixture.dirac([0.3, -1.1])
    assert law_error(Ancestral(inner), PROCESSES[name](), point) < 1e-12
    assert law_error(ToTarget(Ancestral(inner)), PROCESSES[name](), point) > 1e-4


@pytest.mark.parametrize("name", PROCESSES)
def test_around_euler_it_is_ddim_with_the_same_eta(name):
    process = PROCESSES[name]()
    for eta in (0.0, 0.4, 1.0):
        assert gap(Ancestral(Euler(), eta), DDIM(eta), process) < 1e-13
    assert gap(Ancestral(), DDPM("beta_tilde"), process) < 1e-13
    assert gap(Ancestral(), DDPM("beta"), process) > 1e-4
    assert gap(Ancestral(Euler(), 0.4), DDIM(0.5), process) > 1e-4


def test_the_recipe_in_x_is_right_on_ve_and_wrong_on_vp():
    assert gap(InX(Ancestral()), Ancestral(), VE()) < 1e-13
    assert gap(InX(Ancestral()), Ancestral(), VPLinear()) > 1e-2
    assert weak_order(InX(Ancestral()), VPLinear()).value < 0.5


@pytest.mark.parametrize("inner", INNER, ids=repr)
def test_without_noise_it_is_the_inner_solver(inner):
    assert gap(Ancestral(inner, 0.0), inner, VPLinear()) < 1e-14
    assert gap(Ancestral(inner, 0.1), inner, VPLinear()) > 1e-4


@pytest.mark.parametrize("eta", [0.6, 1.0])
def test_strong_order_1(eta):
    found = strong_order(Ancestral(GeometricMidpoint(), eta), eta, 2)
    assert abs(found.value - 1) < 0.1, found
    assert strong_order(Ancestral(GeometricMidpoint(), eta, noise_scale=1.05), eta, 2).value < 0.5


def test_a_grid_to_the_end_of_the_process_needs_no_level_beyond():
    process = VE()
    grid = uniform_lambda(process, 5, start=-2, end=process.lam_range[1])
    x = torch.tensor([[0.3, 2.0]], dtype=torch.float64)
    for inner in INNER:
        solve(Ancestral(inner), Exact(PLANE, process), x, grid, noise=Independent(0))
    with pytest.raises(ValueError, match=r"must stay finite|finite"):
        solve(Ancestral(Heun("t")), Exact(GAUSSIAN, process), x[:, :1], grid, noise=Independent(0))


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"eta must lie in \[0, 1\]; got eta=1.5"):
        Ancestral(eta=1.5)
    with pytest.raises(ValueError, match=r"inner must be a solver of single steps; got DPMpp2M"):
        Ancestral(DPMpp2M())
