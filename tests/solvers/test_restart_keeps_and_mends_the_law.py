"""Restart keeps a law exactly, contracts its errors at the rate it says, and ends where its own cycle is at rest."""

import pytest
import torch

from theory import PROCESSES, Exact, Independent, TimeGrid, VPLinear, law_of, solve, uniform_lambda
from theory.flow_map import FlowMap
from theory.solvers import DPMpp2M, Heun, Restart
from theory.solvers.restart import Interval
from toy_distributions import GaussianMixture

from .mutants import NoiseTwice
from .problems import GAUSSIAN, PLANE

TILTED = GaussianMixture.gaussian([0.5, -1.0], [[1.0, 0.6], [0.6, 0.5]])
LAMS = (-2.0, -1.1, 0.2, 0.5, 1.3, 2.0)
INTERVALS = (Interval(-1.0, 0.5, 3, 2), Interval(0.1, 0.4), Interval(0.0, 1.6, 1, 4))


def law_error(solver, process, law=TILTED):
    grid = TimeGrid(process, [process.time_at(lam) for lam in LAMS])
    found, last = law_of(solver, law, process, grid), grid.levels[-1]
    exact = law.noised(last.alpha, last.sigma)
    misses = (found.mean - exact.mean) / last.alpha, (found.cov - exact.cov) / last.alpha**2
    return max(miss.abs().max().item() for miss in misses)


@pytest.mark.parametrize("name", PROCESSES)
def test_around_the_exact_flow_the_law_is_exact(name):
    process, exact = PROCESSES[name](), FlowMap(TILTED)
    assert law_error(Restart(exact, INTERVALS), process) < 1e-12
    assert law_error(Restart(exact, INTERVALS, noise_scale=1.01), process) > 1e-4
    assert law_error(NoiseTwice(Restart(exact, INTERVALS)), process) > 1e-4


def contraction(repeats, noise_scale=1.0):
    """What is left of an error of mean and variance, in y, after so many repeats, over what there was."""
    process = PROCESSES["ve"]()
    grid = TimeGrid(process, [process.time_at(lam) for lam in (0.9, 1.0)])
    first, last = grid.levels
    exact = GAUSSIAN.noised(first.alpha, first.sigma)
    wrong = GaussianMixture.gaussian(exact.mean + 0.1, exact.cov + 0.3)
    flow, end = FlowMap(GAUSSIAN), GAUSSIAN.noised(last.alpha, last.sigma)
    mended = Restart(flow, (Interval(-0.5, 1.0, repeats),), noise_scale)
    left = []
    for solver in (flow, mended):
        law = law_of(solver, GAUSSIAN, process, grid, start=wrong)
        left.append(((law.mean - end.mean).item(), (law.cov - end.cov).item()))
    return left[1][0] / left[0][0], left[1][1] / left[0][1]


@pytest.mark.parametrize("repeats", [1, 2, 5])
def test_errors_of_the_law_contract_at_the_rate_it_says(repeats):
    process, v = PROCESSES["ve"](), 0.25
    g2 = (v + process.level_at(1.0).k ** 2) / (v + process.level_at(-0.5).k ** 2)
    mean, variance = contraction(repeats)
    assert abs(mean - g2 ** (repeats / 2)) < 1e-12 and abs(variance - g2**repeats) < 1e-12
    assert abs(contraction(repeats, 1.05)[1] - g2**repeats) > 1e-3


def test_after_many_repeats_it_ends_at_the_fixed_point_of_its_cycle():
    """V = A^2 (V + k_up^2 - k^2) for the slope A of the inner solver over the interval; true is V = v + k^2."""
    process = PROCESSES["ve"]()
    grid = TimeGrid(process, [process.time_at(lam) for lam in (0.9, 1.0)])
    up, low = process.level_at(-0.5), grid.levels[-1]
    cycle = uniform_lambda(process, 3, start=-0.5, end=1.0)
    ends = solve(Heun(), Exact(GAUSSIAN, process), torch.tensor([[0.0], [1.0]], dtype=torch.float64), cycle).end
    slope = (ends[1] - ends[0]).item()
    rest = slope**2 * (up.k**2 - low.k**2) / (1 - slope**2)
    many = law_of(Restart(Heun(), (Interval(-0.5, 1.0, 40, 3),)), GAUSSIAN, process, grid).cov.item()
    assert abs(many - rest) < 1e-12
    assert abs(rest - (0.25 + low.k**2)) > 1e-3
    finer = law_of(Restart(Heun(), (Interval(-0.5, 1.0, 40, 12),)), GAUSSIAN, process, grid).cov.item()
    assert abs(finer - (0.25 + low.k**2)) < 0.2 * abs(rest - (0.25 + low.k**2))


def test_it_restarts_once_where_the_grid_reaches_the_interval_and_not_where_it_does_not():
    process = VPLinear()
    grid = TimeGrid(process, [process.time_at(lam) for lam in LAMS])
    x = torch.tensor([[0.3, 2.0]], dtype=torch.float64)
    solver, model = Restart(Heun(), INTERVALS), Exact(PLANE, process)
    run = solve(solver, model, x, grid, noise=Independent(0))
    assert run.evaluations == 2 * 5 + 2 * (3 * 2 + 2 * 3 + 4) == solver.facts.cost(5)
    beyond = Restart(Heun(), (Interval(1.0, 3.0),))
    assert torch.equal(solve(beyond, model, x, grid).end, solve(Heun(), model, x, grid).end)


def test_bad_input_is_refused():
    for wrong in (
        lambda: Restart(DPMpp2M()),
        lambda: Restart(intervals=(Interval(1.0, 0.0),)),
        lambda: Restart(intervals=(Interval(0.0, 1.0, 0),)),
    ):
        with pytest.raises(ValueError, match=r"must .*; got"):
            wrong()
