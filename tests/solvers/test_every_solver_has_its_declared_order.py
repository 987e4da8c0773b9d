"""The slope of the error against h_max is the order the solver declares, on every process and law; mutants show."""

from functools import cache

import pytest

from theory import SOLVERS, VE, LinearPath, VPLinear, law_of, uniform_lambda
from theory.convergence import LAM_END, LAM_START, path_error, path_reference
from theory.slope import observed_order
from theory.solvers import DDIM, DPM2, Churn, DPMpp2M, EulerMaruyama, Heun
from toy_distributions import GaussianMixture

from .problems import LAWS

PROCESSES = {"vp": VPLinear(), "ve": VE(), "linear": LinearPath()}
STEPS = (20, 40, 80, 160, 320)
FINE_STEPS = (40, 80, 160, 320, 640)  # for steps in t, which on VE change exponentially within the window, and mutants
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


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_deterministic_order(name, process, law):
    solver = SOLVERS[name]()
    steps = FINE_STEPS if name.endswith(".t") else STEPS
    order = measured_order(solver, PROCESSES[process], law, steps)
    assert abs(order.value - solver.facts.order) < 0.1, order
    assert order.error < 0.1, order


@pytest.mark.parametrize(
    "mutant",
    [Heun(weight=0.6), Heun("t", weight=0.4), DPM2(weight=1.0), DPM2(r1=0.25, weight=0.25), DPMpp2M(weight=1.0)],
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
