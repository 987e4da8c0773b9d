"""One step of any size on a point mass is exact; equal samplers are equal to round-off; mutants are not."""

import math
from itertools import pairwise

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from theory import (
    PROCESSES,
    SOLVERS,
    Exact,
    Independent,
    Kind,
    Model,
    Prediction,
    TimeGrid,
    VPLinear,
    solve,
    uniform_lambda,
)
from theory.noise import no_noise
from theory.solvers import (
    DDIM,
    DDPM,
    DPM2,
    DPM3,
    AdamsBashforth,
    DPMpp2M,
    DPMpp2S,
    DPMpp3M,
    DPMpp3S,
    Euler,
    EulerMaruyama,
    ExponentialAdams,
    Heun,
    PseudoRungeKutta,
    RungeKutta,
)
from theory.solvers.tableau import HEUN, KUTTA3, RK4
from toy_distributions import GaussianMixture

from .problems import LAWS, PLANE, sees_the_process

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
@pytest.mark.parametrize(
    "solver",
    [
        *(DDIM(), Euler("k"), Heun("k"), DPM2(), DPM2(r1=0.3), DPMpp2M(), DPM3(), DPMpp2S(), DPMpp3S(), DPMpp3M()),
        *(AdamsBashforth(3), RungeKutta(RK4), RungeKutta(KUTTA3)),
    ],
    ids=repr,
)
@given(ends=lams)
def test_exponential_solvers_are_exact_on_a_point_mass(name, solver, ends):
    assert one_step_error(solver, PROCESSES[name](), *ends) < 2e-14


@pytest.mark.parametrize("solver", [Euler("t"), Heun("t"), RungeKutta(RK4, "lam"), DDIM(coefficient=1.001)], ids=repr)
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


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (ExponentialAdams(1, correct=False), DDIM()),
        (ExponentialAdams(1, correct=False, reads="eps"), DDIM()),
        (ExponentialAdams(2, correct=False), DPMpp2M()),
        (ExponentialAdams(3, correct=False, halves="exact"), DPMpp3M()),
        (AdamsBashforth(1, variable="t"), DDIM()),
    ],
    ids=str,
)
def test_methods_derived_twice_are_one(one, other):
    assert same(one, other)
    assert not same(ExponentialAdams(2, correct=False, halves="b1"), DPMpp2M(), tolerance=1e-4)


def test_different_samplers_are_told_apart():
    assert not same(DDIM(eta=1.0), DDPM("beta"), tolerance=1e-3)
    assert not same(DDIM(), Euler("t"), tolerance=1e-4)
    assert not same(DDIM(eta=0.9), DDIM(eta=1.0), tolerance=1e-3)


SEE_NO_PROCESS = [
    SOLVERS[name]() for name in SOLVERS if not SOLVERS[name]().facts.stochastic and not sees_the_process(name)
]


@pytest.mark.parametrize("law", LAWS)
def test_solvers_in_k_do_not_see_the_process(law):
    """In y = x / alpha on one lambda grid, VP, VE and the linear path are the same problem."""
    law = LAWS[law]
    ends = []
    for name in ("vp_linear", "ve", "linear_path", "trigonometric_path"):
        process = PROCESSES[name]()
        grid = uniform_lambda(process, 9, start=-2, end=2)
        y = torch.linspace(-3, 3, 5 * law.dim, dtype=torch.float64).reshape(5, law.dim)
        for solver in SEE_NO_PROCESS:
            end = solve(solver, Exact(law, process), grid.levels[0].alpha * y, grid).end / grid.levels[-1].alpha
            ends.append(end)
    n = len(SEE_NO_PROCESS)
    for i in range(n, len(ends)):
        torch.testing.assert_close(ends[i], ends[i % n], rtol=1e-10, atol=1e-11)


class Polynomial(Model):
    """A model that is a polynomial in lambda or in k and does not depend on x: its flow is known in closed form."""

    def __init__(self, process, kind, variable, coefficients):
        self.process, self.kind, self.variable, self.coefficients = process, kind, variable, coefficients

    def place(self, at):
        return {"lam": at.lam - 0.3, "k": at.k, "t": at.t}[self.variable]

    def __call__(self, x, at):
        value = sum(c * self.place(at) ** n for n, c in enumerate(self.coefficients))
        return Prediction(self.kind, torch.full_like(x, value), x, at)

    def time(self, k):
        """Of the linear VP schedule: alpha^2 = 1 / (1 + k^2) = e^-B, B = beta_min t + (beta_max - beta_min) t^2 / 2."""
        low, high = mpmath.mpf(self.process.beta_min), mpmath.mpf(self.process.beta_max)
        return (mpmath.sqrt(low**2 + 2 * (high - low) * mpmath.log(1 + k**2)) - low) / (high - low)

    def flow(self, x, s, t):
        """Its exact flow, by mpmath's quadrature of the linear equation in k or lambda."""
        with mpmath.workdps(40):
            polynomial = [mpmath.mpf(c) for c in reversed(self.coefficients)]
            if self.variable in ("k", "t"):  # dy/dk = eps
                place = (lambda k: k) if self.variable == "k" else self.time
                change = mpmath.quad(lambda k: mpmath.polyval(polynomial, place(k)), [s.k, t.k])
                return t.alpha * (x / s.alpha + float(change))
            lam = [mpmath.mpf(s.lam), mpmath.mpf(t.lam)]
            if self.kind is Kind.EPS:  # d(x / alpha)/dlam = -e^{-lam} eps
                change = mpmath.quad(lambda v: -mpmath.exp(-v) * mpmath.polyval(polynomial, v - 0.3), lam)
                return t.alpha * (x / s.alpha + float(change))
            change = mpmath.quad(lambda v: mpmath.exp(v) * mpmath.polyval(polynomial, v - 0.3), lam)
            return t.sigma * (x / s.sigma + float(change))  # d(x / sigma)/dlam = e^lam x_0


MORE = [
    *(DPM3(r1=0.7), DPM3(r2=0.5), DPM2(r1=0.3), RungeKutta(HEUN), Heun(weight=0.6), DPMpp3M(second=1.001)),
    *(AdamsBashforth(2, constant=True), AdamsBashforth(4, constant=True), PseudoRungeKutta()),
    *(ExponentialAdams(points, correct=False, reads=reads) for points in (1, 2, 3, 4) for reads in ("x0", "eps")),
    ExponentialAdams(2, correct=False, halves="b1", reads="eps"),
]
EXACT = [
    solver
    for solver in (*(SOLVERS[name]() for name in SOLVERS), *MORE)
    if solver.facts.exact and not solver.facts.stochastic
]
UNEQUAL = [-0.9, -0.5, 0.0, 0.2, 0.9]
"""Nodes in lambda of very different steps: what equal ones hide shows."""


def last_step_error(solver, degree, kind, variable):
    process = VPLinear()
    model = Polynomial(process, kind, variable, [0.7, -1.1, 0.4, 0.9, -0.6][: degree + 1])
    levels = [process.level_at(lam) for lam in UNEQUAL]
    x, memory = torch.tensor([[0.4, -1.3]], dtype=torch.float64), None
    for s, t in pairwise(levels):
        found, memory, _ = solver.step(model, x, s, t, memory, no_noise)
        x = model.flow(x, s, t)  # the start-up's error is not what is asked here
    return (found - x).abs().max().item()


def test_every_class_of_exactness_is_declared_by_some_solver():
    declared = {solver.facts.exact for solver in EXACT}
    assert {(kind, "lam", degree) for kind in (Kind.X0, Kind.EPS) for degree in range(3)} <= declared
    assert {(Kind.EPS, "k", degree) for degree in range(4)} <= declared and (Kind.EPS, "t", 3) in declared


@pytest.mark.parametrize("solver", EXACT, ids=repr)
def test_one_step_is_exact_up_to_its_degree_and_not_beyond(solver):
    kind, variable, degree = solver.facts.exact
    for lower in range(degree + 1):
        assert last_step_error(solver, lower, kind, variable) < 1e-14
    assert last_step_error(solver, degree + 1, kind, variable) > 1e-5


@pytest.mark.parametrize("reads", ["x0", "eps"])
@pytest.mark.parametrize("points", [1, 2, 3])
def test_a_corrector_is_exact_to_one_degree_more(points, reads):
    """At the last but one node, which is the last that is corrected."""

    def corrected(solver, degree):
        process, memory = VPLinear(), None
        model = Polynomial(process, Kind(reads), "lam", [0.7, -1.1, 0.4, 0.9, -0.6][: degree + 1])
        x = torch.tensor([[0.4, -1.3]], dtype=torch.float64)
        for s, t in pairwise([process.level_at(lam) for lam in UNEQUAL]):
            _, memory, _ = solver.step(model, 1.1 * x, s, t, memory, no_noise)  # the state handed over is put right
            miss = (memory[0] - x).abs().max().item()
            memory = x, memory[1]
            x = model.flow(x, s, t)
        return miss

    exact, short = ExponentialAdams(points, reads=reads, halves="exact"), ExponentialAdams(points, reads=reads)
    for degree in range(points + 1):
        assert corrected(exact, degree) < 1e-14
        assert points == 1 or corrected(short, degree) < 1e-14
    assert corrected(exact, points + 1) > 1e-5
    assert points > 1 or corrected(short, 1) > 1e-5


@pytest.mark.parametrize(
    ("mutant", "right"),
    [
        (DPMpp3M(second=1.001), DPMpp3M()),
        (AdamsBashforth(2, constant=True), AdamsBashforth(2)),
        (AdamsBashforth(4, constant=True), AdamsBashforth(4)),
    ],
    ids=repr,
)
def test_a_wrong_coefficient_shows_in_one_step(mutant, right):
    kind, variable, degree = right.facts.exact
    assert last_step_error(mutant, degree, kind, variable) > 1e-6
