"""The slope of the error against h_max is the order the solver declares, on every process and law; mutants show."""

from dataclasses import dataclass
from functools import cache

import pytest

from theory import SOLVERS, VE, LinearPath, VPLinear, law_of, uniform_lambda
from theory.convergence import LAM_END, LAM_START, path_error, path_reference
from theory.slope import observed_order
from theory.solvers import (
    DDIM,
    DPM2,
    DPM3,
    AdamsBashforth,
    Churn,
    DPMpp2M,
    DPMpp2S,
    DPMpp3M,
    DPMpp3S,
    EulerMaruyama,
    ExponentialAdams,
    Heun,
    PseudoRungeKutta,
    RungeKutta,
)
from theory.solvers.tableau import RK4
from toy_distributions import GaussianMixture

from .problems import LAWS, sees_the_process

PROCESSES = {"vp": VPLinear(), "ve": VE(), "linear": LinearPath()}
STEPS = (20, 40, 80, 160, 320)
FINE_STEPS = (40, 80, 160, 320, 640)  # for steps in t, which on VE change exponentially within the window, and mutants
LATE_STEPS = (80, 160, 320, 640, 1280)
"""For methods of an order above 2 in the long run that start with DDIM: its O(h^2) shows late."""
COARSE_STEPS = (12, 20, 34, 58, 98, 166)
"""For order 4, which reaches the accuracy of the reference soon."""
LATE = ("deis.rho_ab3", "deis.rho_ab4", "deis.t_ab3", "deis.t_ab4", "ipndm.4", "pndm.f", "dpm_pp.3m", "unipc.3")
FINER = ("unipc.2", "quasi_taylor.1", "quasi_taylor.2", "quasi_taylor.3")
LATEST = {
    ("ipndm.4", "gaussian"): tuple(4 * n for n in LATE_STEPS),
    ("unipc.3", "gaussian"): (150, 220, 330, 500, 750),  # from where its order shows to where rounding does
}
FASTER = {("midpoint.k", "gaussian"): 3}
"""On N(m, v) the flow is y = m + c sqrt(v + k^2). The midpoint rule's local error h^3 (y3 + 3 a y2) / 24, with
a = k / (v + k^2) and the derivatives y2 = c v / (v + k^2)^{3/2}, y3 = -3 c v k / (v + k^2)^{5/2}, is zero."""
WIDE = GaussianMixture.gaussian(0.7, 4.0)
"""Not N(m, 0.25) on VE: there Euler-Maruyama's first-order variance error changes sign within the window."""

DETERMINISTIC = [name for name in SOLVERS if not SOLVERS[name]().facts.stochastic]
STOCHASTIC = [name for name in SOLVERS if SOLVERS[name]().facts.weak_order]


@cache
def reference(law):
    return path_reference(LAWS[law], VE(), n=4)


def measured_order(solver, process, law, steps=STEPS):
    runs = [path_error(solver, LAWS[law], process, n, reference(law)) for n in steps]
    return observed_order([grid.h_max for grid, _ in runs], [error for _, error in runs], floor=1e-12)


def _lane(name, process, law):
    """In the quick lane: every solver on the line, few in the plane, dear ones (of many coefficients or steps) once."""
    dear = (name.startswith(("deis.t_ab", "quasi_taylor")) and process != "vp") or name in LATE
    dear = dear or (law == "plane" and name not in ("ddim", "heun.k", "dpm_pp.2m", "unipc.2", "euler.t"))
    return [pytest.mark.slow] if dear and (process, law) != ("vp", "mixture") else []


CASES = [
    pytest.param(name, process, law, marks=_lane(name, process, law))
    for name in DETERMINISTIC
    for process in PROCESSES
    for law in LAWS
    if process == "vp" or sees_the_process(name)  # another test shows that the others do not
]


@pytest.mark.parametrize(("name", "process", "law"), CASES)
def test_deterministic_order(name, process, law):
    solver = SOLVERS[name]()
    declared = FASTER.get((name, law), solver.facts.order)
    steps = COARSE_STEPS if declared > 3 else FINE_STEPS if name.endswith(".t") or name in FINER else STEPS
    if name in LATE:
        steps = LATEST.get((name, law), LATE_STEPS)
    order = measured_order(solver, PROCESSES[process], law, steps)
    assert abs(order.value - declared) < 0.1, order
    assert order.error < 0.1, order


@pytest.mark.parametrize(
    "mutant",
    [
        Heun(weight=0.6),
        Heun("t", weight=0.4),
        DPM2(weight=1.0),
        DPM2(r1=0.25, weight=0.25),
        DPMpp2M(weight=1.0),
        DPMpp2S(weight=1.0),
    ],
    ids=repr,
)
def test_a_broken_weight_has_order_one(mutant):
    assert mutant.facts.order == 1
    order = measured_order(mutant, VPLinear(), "mixture", FINE_STEPS)
    assert abs(order.value - 1) < 0.1 and abs(order.value - 2) > 0.5, order


def test_a_wrong_coefficient_has_no_order():
    order = measured_order(DDIM(coefficient=1.1), VPLinear(), "mixture")
    assert order.value < 0.5


@pytest.mark.parametrize("r1", [0.1, 0.25, 0.5, 0.75, 1.0])
def test_dpm_2_has_order_2_for_every_r1(r1):
    order = measured_order(DPM2(r1=r1), VPLinear(), "mixture")
    assert abs(order.value - 2) < 0.1, order


STARTED = [
    *(DPMpp3M(start=start) for start in (RungeKutta(RK4), DPMpp3S(), Heun("k"))),
    *(AdamsBashforth(points, start=RungeKutta(RK4)) for points in (2, 3, 4)),
    *(AdamsBashforth(points, start=RungeKutta(RK4), variable="t") for points in (3, 4)),
    *(ExponentialAdams(points, correct=False, start=RungeKutta(RK4)) for points in (2, 3, 4)),
    *(ExponentialAdams(3, reads=reads, start=RungeKutta(RK4)) for reads in ("x0", "eps")),
]


@pytest.mark.parametrize("solver", STARTED, ids=str)
def test_multistep_methods_have_their_own_order_from_an_accurate_start(solver):
    order = measured_order(solver, VPLinear(), "mixture", (40, 80, 160, 320, 640))
    assert abs(order.value - solver.facts.order) < 0.1, order
    assert solver.facts.order == getattr(solver, "points", 3) + getattr(solver, "correct", False)


THIRD_ORDER_MUTANTS = [
    DPM3(r2=0.5),
    DPM3(r2=1.0),
    DPM3(correct=False),
    DPMpp3S(r2=0.5),
    DPMpp3M(start=RungeKutta(RK4), second=1.5),
    DPMpp3M(start=DDIM()),
    AdamsBashforth(4, constant=True, start=RungeKutta(RK4)),
    PseudoRungeKutta(),
]


@dataclass(frozen=True)
class FromThePrediction(ExponentialAdams):
    """UniPC that corrects from the state it predicted, not from the corrected one: its corrector is lost."""

    def step(self, model, x, s, t, memory, noise):
        found = super().step(model, x, s, t, memory, noise)
        return found._replace(memory=(x, found.memory[1]))


@dataclass(frozen=True)
class StaleCorrector(ExponentialAdams):
    """UniPC whose corrector leaves the new prediction out."""

    def _moved(self, x, s, t, points):
        return super()._moved(x, s, t, [point for point in points if point[0].t >= s.t])


@pytest.mark.parametrize("points", [1, 2])
@pytest.mark.parametrize("mutant", [FromThePrediction, StaleCorrector])
def test_a_corrector_that_does_not_correct_costs_an_order(mutant, points):
    right = measured_order(ExponentialAdams(points), VPLinear(), "mixture", FINE_STEPS)
    wrong = measured_order(mutant(points), VPLinear(), "mixture", FINE_STEPS)
    assert abs(right.value - points - 1) < 0.1 and abs(wrong.value - points) < 0.1, (right, wrong)


@pytest.mark.parametrize("mutant", THIRD_ORDER_MUTANTS, ids=str)
def test_methods_of_order_three_and_four_lose_it_with_one_wrong_part(mutant):
    assert mutant.facts.order == 2
    order = measured_order(mutant, VPLinear(), "mixture", FINE_STEPS if mutant.facts.evaluations > 1 else LATE_STEPS)
    assert abs(order.value - 2) < 0.1, order


@pytest.mark.parametrize("r1", [0.2, 0.5, 0.9])
def test_order_3_holds_for_every_r1(r1):
    for solver in (DPM3(r1), DPMpp3S(r1)):
        order = measured_order(solver, VPLinear(), "mixture", FINE_STEPS)
        assert abs(order.value - 3) < 0.1, order


def weak_order(solver, process):
    errors, steps = [], []
    for n in STEPS:
        grid = uniform_lambda(process, n, start=LAM_START, end=LAM_END)
        got, last = law_of(solver, WIDE, process, grid), grid.levels[-1]
        exact = WIDE.noised(last.alpha, last.sigma)
        spread = (got.cov.sqrt() - exact.cov.sqrt()).abs().item()
        errors.append((spread + (got.mean - exact.mean).abs().item()) / last.alpha)
        steps.append(grid.h_max)
    return observed_order(steps, errors, floor=1e-13)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", STOCHASTIC)
def test_weak_order_by_exact_propagation(name, process):
    solver = SOLVERS[name]()
    order = weak_order(solver, PROCESSES[process])
    assert abs(order.value - solver.facts.weak_order) < 0.1, order


@pytest.mark.parametrize("mutant", [EulerMaruyama(drift_factor=1.1), Churn(noise_scale=1.05)], ids=repr)
def test_a_broken_noise_or_drift_has_no_weak_order(mutant):
    assert weak_order(mutant, VPLinear()).value < 0.5
