"""The order on steps equal in lambda and in t: kept by right methods, lost in t by weights of equal steps in lambda."""

from dataclasses import dataclass
from itertools import pairwise

import pytest

from studies.certificate import SECTIONS
from studies.target import SolverTarget
from studies.testing import check_solver
from theory import VPLinear
from theory.solvers import DPMpp2M, Facts, Solver, Step
from theory.solvers.runge_kutta import RK4, RungeKutta


@dataclass(frozen=True)
class EqualSteps(Solver):
    """Adams-Bashforth of three points for d(x / sigma) / dlam = e^lam x0, with the weights of equal steps in lambda."""

    promised: int = 3

    @property
    def facts(self) -> Facts:
        return Facts(order=self.promised, evaluations=1, start_up=6, multistep=True)

    def step(self, model, x, s, t, memory, noise) -> Step:
        slope = model(x, s).x0 * (s.alpha / s.sigma)
        history = (slope, *(memory or ()))[:3]
        if len(history) < 3:
            return Step(RungeKutta(RK4).step(model, x, s, t, None, noise).x, memory=history)
        a, b, c = history
        return Step(t.sigma * (x / s.sigma + (t.lam - s.lam) * (23 * a - 16 * b + 5 * c) / 12), memory=history)


def test_a_right_method_keeps_its_order_on_both():
    (row,) = check_solver(DPMpp2M(), sections=("time grids",))
    assert row.verdict == "HOLDS" and "on lambda" in row.measured and "on t;" in row.measured
    ratio = float(row.measured.split("on lambda ")[1].split()[0])
    assert 0.01 < ratio < 100 and ratio != 1


def test_weights_of_equal_steps_lose_it_in_time_only():
    with pytest.raises(AssertionError, match=r"the order is lost on steps equal in t$"):
        check_solver(EqualSteps(), sections=("time grids",))
    check_solver(EqualSteps(promised=2), sections=("time grids",))  # which it does not fall below


def test_what_is_promised_too_high_is_lost_on_both_and_nothing_promised_is_open():
    with pytest.raises(AssertionError, match="in lambda and in t"):
        check_solver(EqualSteps(promised=4), sections=("time grids",))

    def euler(denoiser, x, sigmas):
        for s, t in pairwise(sigmas):
            x = x + (t - s) * (x - denoiser(x, s)) / s
        return x

    (row,) = check_solver(euler, sections=("time grids",))
    assert (row.verdict, row.declared, row.reason) == ("OPEN", "-", "nothing is declared")


@pytest.mark.slow
@pytest.mark.parametrize("solver", [DPMpp2M(weight=0.4)], ids=repr)
def test_a_first_order_in_disguise_declares_what_it_has(solver):
    (row,) = SECTIONS["time grids"](SolverTarget("disguised", solver), VPLinear())
    assert row.verdict == "HOLDS" and row.declared == "1"
