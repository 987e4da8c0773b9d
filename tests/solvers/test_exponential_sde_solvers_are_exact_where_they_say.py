"""SDE-DPM-Solvers: exact in law on polynomials, ODE and DDPM at eta = 0 and 1, of their orders; mutants are not."""

from itertools import pairwise

import mpmath
import pytest
import torch

from theory import PROCESSES, VE, Exact, Independent, Kind, TimeGrid, VPLinear, law_of, solve, uniform_lambda
from theory.convergence import LAM_END, LAM_START
from theory.slope import observed_order
from theory.solvers import DDIM, DDPM, SDEDPM, DPMpp2M, DPMpp3M, ExponentialAdams, RungeKutta
from theory.solvers.tableau import RK4
from theory.strong import gaussian_strong_error
from toy_distributions import GaussianMixture

from .mutants import Decay, NoiseTwice, Ratio, Stale
from .problems import GAUSSIAN, PLANE
from .test_every_solver_has_its_declared_order import WIDE, measured_order, weak_order
from .test_solvers_are_exact_where_they_say import UNEQUAL, Polynomial

COEFFICIENTS = [0.7, -1.1, 0.4, 0.9]
POINT = GaussianMixture.dirac([0.3, -1.1])


def exact_step(model, x, s, t, eta):
    """Mean and standard deviation of x_t given x_s = x, by mpmath's quadrature of the linear SDE in lambda."""
    with mpmath.workdps(30):
        polynomial = [mpmath.mpf(c) for c in reversed(model.coefficients)]
        lams = [mpmath.mpf(s.lam), mpmath.mpf(t.lam)]
        decay = eta if model.kind is Kind.X0 else 0
        growth = 1 if model.kind is Kind.X0 else -1
        scale = t.sigma if model.kind is Kind.X0 else t.alpha
        left = s.sigma if model.kind is Kind.X0 else s.alpha

        def push(v):
            return mpmath.exp(-decay * (lams[1] - v))

        drive = mpmath.quad(lambda v: push(v) * mpmath.exp(growth * v) * mpmath.polyval(polynomial, v - 0.3), lams)
        noise = mpmath.quad(
            lambda v: 2 * eta * push(v) ** 2 * (1 if model.kind is Kind.X0 else mpmath.exp(-2 * v)), lams
        )
        mean = scale * (float(push(lams[0])) / left * x + growth * (1 + eta) * float(drive))
        return mean, scale * float(noise) ** 0.5


def step_errors(solver, eta, kind, degree):
    """How far the last of four unequal steps misses mean and standard deviation, its history exact."""
    process = VPLinear()
    model = Polynomial(process, kind, "lam", COEFFICIENTS[: degree + 1])
    x, memory = torch.tensor([[0.4, -1.3]], dtype=torch.float64), None
    for s, t in pairwise([process.level_at(lam) for lam in UNEQUAL]):
        still = solver.step(model, x, s, t, memory, lambda a, b, like: torch.zeros_like(like))
        # every draw a unit vector of its own: the noise's variance is the sum of squares
        draws = iter(torch.eye(2, dtype=torch.float64))
        kicked = solver.step(model, x, s, t, memory, lambda a, b, like, z=draws: next(z).expand_as(like))
        spread = (kicked.x - still.x).norm(dim=-1)
        x, std = exact_step(model, x, s, t, eta)
        memory = still.memory
    return (still.x - x).abs().max().item(), (spread - std).abs().max().item()


def degree_of(solver):
    return {(1, "exact"): 0, (2, "released"): 0, (2, "exact"): 1, (3, "exact"): 2, (3, "released"): 1}[
        (solver.points, solver.weights)
    ]


FAMILY = [
    SDEDPM(points, eta, reads, weights)
    for points, weights in ((1, "exact"), (2, "released"), (2, "exact"), (3, "exact"), (3, "released"))
    for eta in (0.3, 1.0)
    for reads in ("x0", "eps")
]


@pytest.mark.parametrize("solver", FAMILY, ids=repr)
def test_one_step_is_exact_in_law_up_to_its_degree_and_not_beyond(solver):
    kind, degree = Kind.X0 if solver.reads == "x0" else Kind.EPS, degree_of(solver)
    for lower in range(degree + 1):
        assert max(step_errors(solver, solver.eta, kind, lower)) < 1e-14
    mean, std = step_errors(solver, solver.eta, kind, degree + 1)
    assert mean > 1e-5 and std < 1e-14


EXACT_MUTANTS = [
    (Decay(SDEDPM(1)), 1.0, 0),
    (Decay(SDEDPM(3)), 1.0, 2),
    (NoiseTwice(SDEDPM(1)), 1.0, 0),
    (SDEDPM(2, noise_scale=1.001), 1.0, 0),
    (Stale(SDEDPM(2)), 1.0, 1),
    (Ratio(SDEDPM(2), -1), 1.0, 1),
    (Ratio(SDEDPM(3)), 1.0, 2),
    (SDEDPM(3, weights="released"), 1.0, 2),
    (SDEDPM(2, eta=0.5), 1.0, 0),  # another SDE
]


@pytest.mark.parametrize(("mutant", "eta", "degree"), EXACT_MUTANTS, ids=str)
def test_mutants_are_not_exact(mutant, eta, degree):
    assert max(step_errors(mutant, eta, Kind.X0, degree)) > 1e-5


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("solver", [s for s in FAMILY if s.reads == "x0"], ids=repr)
def test_the_marginals_of_a_point_mass_are_kept(name, solver):
    process = PROCESSES[name]()
    grid = TimeGrid(process, [process.time_at(lam) for lam in (-2.0, -0.5, 0.2, 2.0)])
    law, last = law_of(solver, POINT, process, grid), grid.levels[-1]
    exact = POINT.noised(last.alpha, last.sigma)
    torch.testing.assert_close(law.mean, exact.mean, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(law.cov, exact.cov, rtol=1e-11, atol=1e-16)


def gap(one, other, process):
    grid = TimeGrid(process, [process.time_at(lam) for lam in (-2.0, -1.5, -0.2, 0.1, 0.9, 2.0)])
    x = PLANE.noised(grid.levels[0].alpha, grid.levels[0].sigma).sample(20, generator=torch.Generator().manual_seed(0))
    ends = [solve(s, Exact(PLANE, process), x, grid, noise=Independent(1)).end for s in (one, other)]
    return ((ends[0] - ends[1]).abs().max() / ends[1].abs().max()).item()


@pytest.mark.parametrize("name", PROCESSES)
def test_eta_0_is_the_ode_method_and_eta_1_is_ddpm(name):
    process = PROCESSES[name]()
    same = [
        (SDEDPM(1, eta=0), DDIM()),
        (SDEDPM(1, eta=0, reads="eps"), DDIM()),
        (SDEDPM(2, eta=0, weights="released"), DPMpp2M()),
        (SDEDPM(2, eta=0), ExponentialAdams(2, correct=False, halves="exact")),
        (SDEDPM(3, eta=0), DPMpp3M()),
        (SDEDPM(1), DDPM("beta_tilde")),
    ]
    for one, other in same:
        assert gap(one, other, process) < 1e-13, (one, other)
    different = [(SDEDPM(1), DDPM("beta")), (SDEDPM(1, reads="eps"), SDEDPM(1)), (SDEDPM(2, eta=0), DPMpp2M())]
    different += [(Ratio(SDEDPM(2, eta=0, weights="released"), -1), DPMpp2M()), (SDEDPM(1, eta=0.9), DDPM())]
    for one, other in different:
        assert gap(one, other, process) > 1e-4, (one, other)


def strong_order(solver, eta, clock):
    h, errors = [], []
    for steps in (10, 20, 40, 80, 160):
        grid = uniform_lambda(VPLinear(), steps, start=LAM_START, end=LAM_END)
        errors.append(gaussian_strong_error(solver, WIDE, grid.process, grid, clock=clock, eta=eta).value)
        h.append(grid.h_max)
    return observed_order(h, errors, floor=1e-13)


@pytest.mark.parametrize(
    "solver",
    [pytest.param(s, marks=[] if s == SDEDPM(2, 0.3) else pytest.mark.slow) for s in FAMILY],
    ids=repr,
)
def test_strong_and_weak_orders(solver):
    clock = 2 * solver.eta if solver.reads == "x0" else -2
    strong, weak = strong_order(solver, solver.eta**0.5, clock), weak_order(solver, VPLinear())
    assert abs(strong.value - 1) < 0.1, strong
    assert abs(weak.value - solver.facts.weak_order) < 0.1, weak


@pytest.mark.parametrize("mutant", [Decay(SDEDPM(2)), NoiseTwice(SDEDPM(2)), SDEDPM(2, noise_scale=1.05)], ids=repr)
def test_what_is_not_consistent_has_no_order_in_law(mutant):
    assert weak_order(mutant, VPLinear()).value < 0.5


def test_a_wrong_sde_or_clock_has_no_strong_order():
    assert strong_order(SDEDPM(1, eta=0.5), 1.0, 2).value < 0.5
    assert strong_order(SDEDPM(1, noise_scale=1.05), 1.0, 2).value < 0.5


def uneven(process, steps):
    """Steps of 1 and 3 in turn: what equal steps hide shows."""
    lams = [LAM_START]
    for i in range(2 * steps):
        lams.append(lams[-1] + (LAM_END - LAM_START) * (1 if i % 2 else 3) / (4 * steps))
    return TimeGrid(process, [process.time_at(lam) for lam in lams])


def law_order(solver):
    h, errors = [], []
    for steps in (10, 20, 40, 80, 160):
        grid = uneven(VE(), steps)
        got, last = law_of(solver, WIDE, grid.process, grid), grid.levels[-1]
        exact = WIDE.noised(last.alpha, last.sigma)
        errors.append((got.cov.sqrt() - exact.cov.sqrt()).abs().item() + (got.mean - exact.mean).abs().item())
        h.append(grid.h_max)
    return observed_order(h, errors, floor=1e-13)


def test_weak_order_2_holds_on_uneven_steps_and_needs_the_right_ratio():
    assert abs(law_order(SDEDPM(2)).value - 2) < 0.1
    mutant = law_order(Ratio(SDEDPM(2)))
    assert mutant.value < 1.2, mutant


def test_the_released_third_order_method_has_order_2_from_any_start():
    for weights, order in (("exact", 3), ("released", 2)):
        solver = SDEDPM(3, eta=0, weights=weights, start=RungeKutta(RK4))
        found = measured_order(solver, VPLinear(), "mixture", (20, 40, 80, 160, 320))
        assert solver.facts.order == order and abs(found.value - order) < 0.1, found


def test_bad_input_is_refused():
    for wrong in (
        lambda: SDEDPM(4),
        lambda: SDEDPM(eta=-0.1),
        lambda: SDEDPM(eta=float("nan")),
        lambda: SDEDPM(reads="v"),
        lambda: SDEDPM(weights="half"),
    ):
        with pytest.raises(ValueError, match=r"must .*; got"):
            wrong()
    with pytest.raises(ValueError, match="clock must be"):
        gaussian_strong_error(SDEDPM(1), GAUSSIAN, VPLinear(), uneven(VPLinear(), 2), clock=0.0)
