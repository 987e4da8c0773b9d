"""DPM-Solver-v3: exact on Gaussians with their own statistics, the older methods with constant ones, and its orders."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from theory import PROCESSES, VE, Exact, LinearPath, TimeGrid, VPLinear, solve, uniform_lambda
from theory.convergence import path_error, path_reference
from theory.model_statistics import (
    FittedStatistics,
    GaussianStatistics,
    quadrature_statistics,
    sampled_statistics,
)
from theory.noise import no_noise
from theory.reference import flow
from theory.slope import observed_order
from theory.solvers import DDIM, DPMpp3S, DPMv3, ExponentialAdams, RungeKutta
from theory.solvers.dpm_v3 import DATA, NOISE, Coefficients, Constant
from theory.solvers.tableau import RK4
from toy_distributions import LAWS, GaussianMixture

from .problems import MIXTURE, PLANE

PROCESS = VPLinear()
MEAN, VARIANCES = torch.tensor([0.7, -1.2], dtype=torch.float64), torch.tensor([0.25, 2.0], dtype=torch.float64)
GAUSSIAN = GaussianMixture.gaussian(MEAN, torch.diag(VARIANCES))
OWN = GaussianStatistics(MEAN, VARIANCES)
X = torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
UNEQUAL = (-1.0, -0.8, -0.2, 0.1, 0.9, 1.3, 1.4, 2.0)
LOW, HIGH = -0.5, 2.5


def halved(lam):
    l, s, b = OWN(lam)
    return Coefficients(0.5 * l, s, b)


def refitted(lam):
    """l halved, and the s and b that f' = s f + b then asks for: q - 2 and -q^2 m / 2."""
    q = OWN(lam).l
    return Coefficients(0.5 * q, q - 2, -0.5 * q**2 * MEAN)


def no_b(lam):
    l, s, b = OWN(lam)
    return Coefficients(l, s, 0 * b)


def one_step_error(statistics, law=GAUSSIAN, ends=(-3.0, 3.0), points=1):
    grid = uniform_lambda(PROCESS, 1, start=ends[0], end=ends[1])
    end = solve(DPMv3(statistics, points), Exact(law, PROCESS), X, grid).end
    return (end - flow(law, X, *grid.levels)).abs().max().item()


@pytest.mark.parametrize("ends", [(-1.0, 2.0), (-3.0, 3.0), (0.3, 0.31)])
@pytest.mark.parametrize("statistics", [OWN, refitted])
def test_one_step_is_exact_on_a_gaussian(statistics, ends):
    assert one_step_error(statistics, ends=ends) < 1e-12


@pytest.mark.parametrize("wrong", [halved, no_b, DATA, NOISE])
def test_other_statistics_are_not_exact(wrong):
    assert one_step_error(wrong) > 0.1


def test_a_correlated_gaussian_is_not_solved_in_one_step():
    turned = GaussianMixture.gaussian(MEAN, [[1.125, 0.875], [0.875, 1.125]])  # the same variances, axes turned
    own = GaussianStatistics(MEAN, turned.cov.diagonal())
    assert one_step_error(own, turned) > 0.1


@pytest.mark.parametrize("correct", [False, True])
@pytest.mark.parametrize("points", [1, 2, 3, 4])
def test_constant_statistics_give_the_older_methods(points, correct):
    grid = TimeGrid(PROCESS, [PROCESS.time_at(lam) for lam in UNEQUAL])

    def gap(statistics, reads):
        pair = DPMv3(statistics, points, correct), ExponentialAdams(points, correct, reads=reads, halves="exact")
        ends = [solve(solver, Exact(PLANE, PROCESS), X, grid).end for solver in pair]
        return (ends[0] - ends[1]).abs().max().item()

    assert gap(DATA, "x0") < 1e-13 and gap(NOISE, "eps") < 1e-13
    assert gap(Constant(0.99, 0.0), "x0") > 1e-5 and gap(Constant(0.0, 0.0), "eps") > 1e-2


@pytest.mark.parametrize("name", ["vp_linear", "ve", "linear_path"])
def test_it_does_not_see_the_process(name):
    process, ends = PROCESSES[name](), []
    for each in (process, PROCESS):
        grid = uniform_lambda(each, 6, start=-1, end=2)
        run = solve(DPMv3(OWN, 3, True), Exact(PLANE, each), grid.levels[0].alpha * X, grid)
        ends.append(run.end / grid.levels[-1].alpha)
    torch.testing.assert_close(*ends, rtol=1e-10, atol=1e-11)


FITTED = quadrature_statistics(MIXTURE, LOW, HIGH)
MODEL = Exact(MIXTURE, PROCESS)
REFERENCE = path_reference(MIXTURE, PROCESS, n=4)
SMOOTH = GaussianStatistics(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
"""Those of N(0, 1), another law than the one solved: order needs smooth statistics only."""


def measured_order(solver, steps=(20, 40, 80, 160, 320, 640)):
    runs = [path_error(solver, MIXTURE, PROCESS, n, REFERENCE) for n in steps]
    return observed_order([grid.h_max for grid, _ in runs], [error for _, error in runs], floor=1e-12)


@pytest.mark.parametrize(
    ("points", "correct", "start", "statistics"),
    [
        (1, False, None, FITTED),
        (2, False, None, FITTED),
        (3, False, RungeKutta(RK4), FITTED),
        (1, True, None, FITTED),
        (2, True, None, FITTED),
        (2, True, None, SMOOTH),
    ],
    ids=["1", "2", "3 started", "1 corrected", "2 corrected", "2 corrected, another law's"],
)
def test_it_has_its_declared_order(points, correct, start, statistics):
    solver = DPMv3(statistics, points, correct, start)
    order = measured_order(solver)
    assert solver.facts.order == points + correct
    assert abs(order.value - solver.facts.order) < 0.1 and order.error < 0.1, order


def test_the_usual_start_limits_the_order():
    solver = DPMv3(FITTED, 3)
    order = measured_order(solver, (80, 160, 320, 640))
    assert solver.facts.order == 2 and abs(order.value - 2) < 0.1, order


@dataclass(frozen=True)
class Unmoved(DPMv3):
    """Takes f at an older node for g: forgets that g is defined from the newest one."""

    def _integrals(self, start, h):
        found = super()._integrals(start, h)
        return found if h > 0 else found._replace(s_end=0 * found.s_end, b_end=0 * found.b_end)


@dataclass(frozen=True)
class Undone(DPMv3):
    """Leaves the factor e^L, which is 1 + O(h), out of an integral that is O(h): an error of O(h^2) a step."""

    def _integrals(self, start, h):
        found = super()._integrals(start, h)
        return found._replace(l=0 * found.l)


@pytest.mark.parametrize(("mutant", "statistics"), [(Unmoved, NOISE), (Undone, FITTED)], ids=["g", "L"])
def test_a_wrong_integral_costs_an_order(mutant, statistics):
    right, wrong = (measured_order(each(statistics), (20, 40, 80, 160, 320)) for each in (DPMv3, mutant))
    assert abs(right.value - 2) < 0.1 and abs(wrong.value - 1) < 0.1, (right, wrong)


def test_statistics_minimise_what_they_should():
    """Against regressions of differences along the exact flow, which share no formula with them."""
    process, lam, d = VE(), 0.4, 1e-3
    x0 = MIXTURE.sample(200, generator=torch.Generator().manual_seed(0))
    found = sampled_statistics(MIXTURE, LOW, HIGH, x0, generator=torch.Generator().manual_seed(1), degree=128)
    eps = torch.randn(x0.shape, dtype=x0.dtype, generator=torch.Generator().manual_seed(1))
    here = process.level_at(lam)
    y = x0 + here.sigma * eps

    def f(change):
        at = process.level_at(lam + change)
        moved = flow(MIXTURE, y, here, at) if change else y
        l = found(torch.tensor([lam + change], dtype=torch.float64)).l[0]
        return (at.sigma * Exact(MIXTURE, process)(moved, at).eps - l * moved).squeeze(-1).numpy()

    leaf = y.clone().requires_grad_()
    eps_slope = torch.autograd.grad(Exact(MIXTURE, process)(leaf, here).eps.sum(), leaf)[0]
    rates = (8 * (f(d) - f(-d)) - (f(2 * d) - f(-2 * d))) / (12 * d)
    s, b = np.polyfit(f(0), rates, 1)
    own = [value.item() for value in found(torch.tensor([lam], dtype=torch.float64))]
    assert abs(own[0] - here.sigma * eps_slope.mean().item()) < 1e-8
    assert abs(own[1] - s) < 1e-6 and abs(own[2] - b) < 1e-6
    exact = FITTED(torch.tensor([lam], dtype=torch.float64))
    assert all(1e-4 < abs(each - value.item()) < 0.5 for each, value in zip(own, exact, strict=True))


def test_a_gaussian_on_the_line_has_its_closed_statistics():
    lam = torch.linspace(LOW, HIGH, 30, dtype=torch.float64)
    found = quadrature_statistics(LAWS["gaussian_1d"](), LOW, HIGH)(lam)
    exact = GaussianStatistics(torch.tensor([0.7], dtype=torch.float64), torch.tensor([0.25], dtype=torch.float64))(lam)
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_steps_of_infinite_lambda_are_ddims():
    process = LinearPath()
    grid = TimeGrid(process, [1.0, 0.8, 0.6, 0.3, 0.0])
    solver = DPMv3(OWN, 3, True)
    run = solve(solver, Exact(PLANE, process), X, grid)
    for i in (0, 3):
        s, t = grid.levels[i : i + 2]
        plain = DDIM().step(Exact(PLANE, process), run.states[i], s, t, None, no_noise).x
        assert torch.equal(run.states[i + 1], plain)
    assert run.evaluations == solver.facts.cost(grid.steps)


@pytest.mark.parametrize(
    "solver",
    [DPMv3(OWN, 2), DPMv3(OWN, 3, True), DPMv3(OWN, 3, start=DPMpp3S())],
    ids=["2", "3 corrected", "3 started"],
)
def test_a_run_keeps_its_promises(solver):
    grid = uniform_lambda(PROCESS, 8, start=-2, end=2)
    run = solve(solver, Exact(PLANE, PROCESS), X, grid)
    assert run.evaluations == solver.facts.cost(grid.steps)
    x, memory = X, None
    for s, t in zip(grid.levels, grid.levels[1:], strict=False):
        before = x.clone()
        found, memory, _ = solver.step(Exact(PLANE, PROCESS), x, s, t, memory, no_noise)
        assert torch.equal(x, before)
        x = found
    assert torch.equal(x, run.end)
    alone = solve(solver, Exact(PLANE, PROCESS), X[3:4], grid).end
    torch.testing.assert_close(run.end[3:4], alone, rtol=1e-12, atol=1e-12)
    single = solve(solver, Exact(PLANE.to(torch.float32), PROCESS), X.float(), grid).end
    assert single.dtype == torch.float32
    assert (single - run.end).abs().max() < 30 * 2**-23 * solver.facts.cost(grid.steps) * (1 + X.abs().max())


def test_bad_input_is_refused_in_one_sentence():
    line = torch.zeros(3, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"points must be 1, 2, 3 or 4; got points=5"):
        DPMv3(DATA, 5)
    with pytest.raises(ValueError, match=r"as many coordinates as the states; got 2 and 1"):
        solve(DPMv3(OWN), MODEL, line, uniform_lambda(PROCESS, 2))
    with pytest.raises(ValueError, match=r"lambda must lie in \[-0\.5, 2\.5\], where the statistics were found"):
        solve(DPMv3(FITTED), MODEL, line, uniform_lambda(PROCESS, 2, start=-3, end=2))
    with pytest.raises(ValueError, match=r"low must lie below high; got low=1.0, high=1.0"):
        quadrature_statistics(MIXTURE, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"quadrature needs a 1-D law; got a law on R\^2"):
        quadrature_statistics(PLANE, 0.0, 1.0)
    with pytest.raises(ValueError, match=r"at least two data"):
        sampled_statistics(MIXTURE, 0.0, 1.0, line[:1], generator=torch.Generator())
    with pytest.raises(ValueError, match=r"variances must be >= 0; got -1.0"):
        GaussianStatistics(MEAN, torch.tensor([1.0, -1.0], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"one shape \(dim,\); got variances of shape \(1,\)"):
        GaussianStatistics(MEAN, torch.ones(1, dtype=torch.float64))
    assert isinstance(FITTED, FittedStatistics)
