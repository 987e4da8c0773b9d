"""ER-SDE-Solvers: exact in law on polynomials in k for any noise, DDIM and DDPM at its ends; mutants are not."""

from itertools import pairwise

import mpmath
import pytest
import torch

from theory import PROCESSES, Kind, VPLinear
from theory.solvers import DDIM, DDPM, ERSDE, SDEDPM, RungeKutta
from theory.solvers.er_sde import growing, ode, sde
from theory.solvers.tableau import RK4

from .mutants import NoiseTwice, Stale
from .test_every_solver_has_its_declared_order import measured_order, weak_order
from .test_exponential_sde_solvers_are_exact_where_they_say import COEFFICIENTS, gap, strong_order
from .test_solvers_are_exact_where_they_say import UNEQUAL, Polynomial


def between(k):
    """Constant eta = 1/2."""
    return k**1.5


HIGH = {  # phi to many digits
    ode: lambda k: k,
    sde: lambda k: k**2,
    between: lambda k: k ** mpmath.mpf("1.5"),
    growing: lambda k: k * (mpmath.exp(k ** mpmath.mpf("0.3")) + 10),
}


def exact_step(model, y, s, t, phi):
    """Mean and standard deviation of y_t given y_s = y from the SDE dy = (phi'/phi)(y - D) dk + sqrt(2 eta k) dw."""
    with mpmath.workdps(25):
        polynomial, ends = [mpmath.mpf(c) for c in reversed(model.coefficients)], [mpmath.mpf(t.k), mpmath.mpf(s.k)]

        def rate(k):
            return mpmath.diff(lambda q: mpmath.log(phi(q)), k)

        def push(k):
            return phi(ends[0]) / phi(k)

        drive = mpmath.quad(lambda k: push(k) * rate(k) * mpmath.polyval(polynomial, k), ends)
        noise = mpmath.quad(lambda k: push(k) ** 2 * 2 * k * (k * rate(k) - 1), ends)
        return float(push(ends[1])) * y + float(drive), float(noise) ** 0.5


def errors(solver, phi, degree, lams=UNEQUAL):
    """How far the last of the steps misses mean and standard deviation of y, its history exact."""
    process = VPLinear()
    model = Polynomial(process, Kind.X0, "k", COEFFICIENTS[: degree + 1])
    x, memory = torch.tensor([[0.4, -1.3]], dtype=torch.float64), None
    for s, t in pairwise([process.level_at(lam) for lam in lams]):
        still = solver.step(model, x, s, t, memory, lambda a, b, like: torch.zeros_like(like))
        draws = iter(torch.eye(2, dtype=torch.float64))
        kicked = solver.step(model, x, s, t, memory, lambda a, b, like, z=draws: next(z).expand_as(like))
        y, std = exact_step(model, x / s.alpha, s, t, HIGH[phi])
        x, memory = t.alpha * y, still.memory
    spread = (kicked.x - still.x).norm(dim=-1) / t.alpha
    return (still.x - x).abs().max().item() / t.alpha, (spread - std).abs().max().item()


@pytest.mark.parametrize("points", [1, 2, 3])
@pytest.mark.parametrize("phi", HIGH)
def test_one_step_is_exact_in_law_up_to_its_degree_and_not_beyond(points, phi):
    for degree in (points - 1, points):
        mean, std = errors(ERSDE(points, phi), phi, degree)
        assert std < 1e-13
        assert mean < 2e-14 if degree < points else mean > 1e-6


def test_long_steps_are_as_exact():
    assert max(errors(ERSDE(3), growing, 2, (-3.0, -2.9, 0.5, 4.5))) < 1e-13


MUTANTS = [
    (NoiseTwice(ERSDE(2, sde)), sde, 1),
    (Stale(ERSDE(2, sde)), sde, 1),
    (ERSDE(3, sde, released=True), sde, 2),
    (ERSDE(2, growing), sde, 1),
    (ERSDE(2, between), growing, 1),
]


@pytest.mark.parametrize(("mutant", "phi", "degree"), MUTANTS, ids=lambda v: getattr(v, "__name__", type(v).__name__))
def test_mutants_are_not_exact(mutant, phi, degree):
    assert max(errors(mutant, phi, degree)) > 1e-4


def test_the_released_method_of_three_points_is_exact_in_degree_1_only():
    assert max(errors(ERSDE(3, sde, released=True), sde, 1)) < 1e-13


@pytest.mark.parametrize("name", PROCESSES)
def test_its_ends_are_other_methods(name):
    process = PROCESSES[name]()
    assert gap(ERSDE(1, ode), DDIM(), process) < 1e-13
    assert gap(ERSDE(1, sde), DDPM("beta_tilde"), process) < 1e-13
    assert gap(ERSDE(1, between), SDEDPM(1, 0.5), process) < 1e-13
    assert gap(ERSDE(1, growing), DDPM("beta_tilde"), process) > 1e-3
    assert gap(ERSDE(2, between), SDEDPM(2, 0.5), process) > 1e-4  # polynomials in k, not in lambda


def test_strong_order_1():
    for points in (2, 3):
        found = strong_order(ERSDE(points, between), 0.5**0.5, 1)
        assert abs(found.value - 1) < 0.1, found
    assert strong_order(ERSDE(2, between), 1.0, 1).value < 0.5


def test_what_is_not_consistent_has_no_order_in_law():
    assert weak_order(NoiseTwice(ERSDE(2)), VPLinear()).value < 0.5


def test_the_released_method_of_three_points_has_order_2_from_any_start():
    for released, order in ((False, 3), (True, 2)):
        solver = ERSDE(3, ode, released, start=RungeKutta(RK4))
        found = measured_order(solver, VPLinear(), "mixture", (40, 80, 160, 320, 640))
        assert solver.facts.order == order and abs(found.value - order) < 0.1, found


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"points must be 1, 2 or 3; got points=4"):
        ERSDE(4)
    with pytest.raises(ValueError, match=r"phi must make phi\(k\) / k rise"):
        gap(ERSDE(1, lambda k: k**0.5), DDIM(), VPLinear())
