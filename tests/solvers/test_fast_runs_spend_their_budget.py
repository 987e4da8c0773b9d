"""A "fast" run makes as many model calls as asked, with the order that its last steps leave it."""

import pytest
import torch

from theory import VPLinear, solve, uniform_lambda
from theory.convergence import path_error, path_reference
from theory.models import Exact
from theory.noise import no_noise
from theory.slope import observed_order
from theory.solvers.dpm import METHODS, DPMFast
from toy_distributions import GaussianMixture

PROCESS = VPLinear()
LAW = GaussianMixture([0.3, 0.7], [[-1.0], [0.8]], [0.05, 0.1])
X = torch.tensor([[0.4], [-1.3]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("budget", "orders"),
    [(1, (1,)), (2, (2,)), (3, (2, 1)), (4, (3, 1)), (5, (3, 2)), (6, (3, 2, 1)), (20, (3,) * 6 + (2,))],
)
def test_the_orders_sum_to_the_budget(budget, orders):
    solver = DPMFast(budget)
    assert solver.orders == orders and sum(orders) == budget
    run = solve(solver, Exact(LAW, PROCESS), X, uniform_lambda(PROCESS, len(orders)))
    assert run.evaluations == budget == solver.facts.cost(len(orders))


def test_it_is_its_parts_in_turn():
    model, grid, x = Exact(LAW, PROCESS), uniform_lambda(PROCESS, 4), X
    for order, s, t in zip((3, 3, 3, 1), grid.levels, grid.levels[1:], strict=False):
        x = METHODS[order].step(model, x, s, t, None, no_noise).x
    assert torch.equal(x, solve(DPMFast(10), model, X, grid).end)
    assert not torch.allclose(x, solve(DPMFast(10, lowest_first=True), model, X, grid).end, atol=1e-4)
    with pytest.raises(ValueError, match="budget=8 has 3 steps"):
        solve(DPMFast(8), model, X, grid)
    with pytest.raises(ValueError, match="budget"):
        DPMFast(0)


def measured(rest: int):
    reference = path_reference(LAW, PROCESS, n=4)
    runs = []
    for steps in (20, 40, 80, 160, 320):
        solver = DPMFast(3 * steps - 3 + rest)
        assert len(solver.orders) == steps
        runs.append(path_error(solver, LAW, PROCESS, steps, reference))
    return observed_order([grid.h_max for grid, _ in runs], [error for _, error in runs], floor=1e-12)


@pytest.mark.parametrize("rest", [pytest.param(0, marks=pytest.mark.slow), 1, 2])
def test_its_order_is_that_of_the_single_last_steps(rest):
    found, declared = measured(rest), DPMFast(27 + rest).facts.order
    assert declared == (3 if rest == 2 else 2)
    assert found.error < 0.1 and abs(found.value - (declared or 0)) < 0.1
