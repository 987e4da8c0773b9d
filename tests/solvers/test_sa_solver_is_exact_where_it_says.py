"""SA-Solver: exact on polynomials before and after correction, UniPC and SDE-DPM at its edges, of its orders."""

from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
import torch

from theory import PROCESSES, Kind, VPLinear, law_of, uniform_lambda
from theory.convergence import LAM_END, LAM_START
from theory.slope import observed_order
from theory.solvers import DDIM, DDPM, SDEDPM, ExponentialAdams, RungeKutta, SASolver, Step
from theory.solvers.tableau import RK4

from .mutants import Mutant, NoiseTwice
from .problems import GAUSSIAN
from .test_every_solver_has_its_declared_order import measured_order
from .test_exponential_sde_solvers_are_exact_where_they_say import COEFFICIENTS, exact_step, gap, strong_order
from .test_solvers_are_exact_where_they_say import UNEQUAL, Polynomial

TAU = 0.8


@dataclass(frozen=True)
class FreshCorrector(Mutant):
    """Corrects with another noise than it predicted with."""

    def step(self, model, x, s, t, memory, noise) -> Step:
        if memory and memory[0]:
            move, history = memory
            std = s.sigma * (1 - (move.s.alpha * s.sigma / (s.alpha * move.s.sigma)) ** (2 * move.eta)) ** 0.5
            memory = replace(move, kick=std * noise(move.s, s, x)), history
        return self.inner.step(model, x, s, t, memory, noise)


@dataclass(frozen=True)
class FromThePrediction(Mutant):
    """Corrects from the predicted state, not from the one before it."""

    def step(self, model, x, s, t, memory, noise) -> Step:
        if memory and memory[0]:
            move, history = memory
            memory = replace(move, x=x), history
        return self.inner.step(model, x, s, t, memory, noise)


def errors(solver, degree, tau=TAU):
    """How far the last of four unequal steps misses, as predicted and as corrected, its past exact."""
    process = VPLinear()
    model = Polynomial(process, Kind.X0, "lam", COEFFICIENTS[: degree + 1])
    x, memory = torch.tensor([[0.4, -1.3]], dtype=torch.float64), None
    kick = torch.tensor([0.3, -0.8], dtype=torch.float64)
    for s, t in pairwise([process.level_at(lam) for lam in UNEQUAL]):
        found, memory, _ = solver.step(model, x, s, t, memory, lambda a, b, like: kick.expand_as(like))
        corrected = None if memory[0] is None else (memory[0].x - x).abs().max().item()
        if memory[0] is not None:
            memory = replace(memory[0], x=x), memory[1]
        mean, std = exact_step(model, x, s, t, tau**2)
        x = mean + std * kick
    return (found - x).abs().max().item(), corrected


@pytest.mark.parametrize("predictor", [1, 2, 3])
@pytest.mark.parametrize("corrector", [0, 1, 2, 3])
def test_prediction_and_correction_are_exact_up_to_their_degrees(predictor, corrector):
    solver = SASolver(predictor, corrector, tau=TAU)
    for degree in range(4):
        predicted, corrected = errors(solver, degree)
        # what is predicted starts from what was corrected
        good = degree < predictor and (degree <= corrector or not corrector)
        assert predicted < 1e-14 if good else predicted > 1e-6
        if corrector:
            assert corrected < 1e-14 if degree <= corrector else corrected > 1e-6


def test_mutants_are_not_exact():
    assert errors(SASolver(2, 2, tau=0.9), 1)[0] > 1e-3
    assert errors(NoiseTwice(SASolver(2, 2, tau=TAU)), 1)[0] > 1e-3
    assert errors(FromThePrediction(SASolver(2, 2, tau=TAU)), 1)[1] > 1e-3


@pytest.mark.parametrize("name", PROCESSES)
def test_its_edges_are_other_methods(name):
    process = PROCESSES[name]()
    same = [
        *((SASolver(p, 0, TAU), SDEDPM(p, TAU**2)) for p in (1, 2, 3)),
        *((SASolver(p, p, 0.0), ExponentialAdams(p, halves="exact")) for p in (1, 2, 3)),
        (SASolver(1, 0, 0.0), DDIM()),
        (SASolver(1, 0, 1.0), DDPM("beta_tilde")),
        (SASolver(2, 2, tau=lambda at: TAU), SASolver(2, 2, TAU)),
    ]
    for one, other in same:
        assert gap(one, other, process) < 1e-13, (one, other)
    different = [
        (SASolver(2, 0), SDEDPM(2, 0.9)),
        (SASolver(2, 2, 0.0), ExponentialAdams(2, halves="b2")),
        (SASolver(2, 2), SASolver(2, 0)),
        (FromThePrediction(SASolver(2, 2, 0.0)), ExponentialAdams(2, halves="exact")),
        (SASolver(2, 2, tau=lambda at: TAU if at.lam < 0 else 0.0), SASolver(2, 2, TAU)),
    ]
    for one, other in different:
        assert gap(one, other, process) > 1e-5, (one, other)


def law_order(solver):
    """On N(0.7, 0.25), where no error changes sign."""
    h, misses = [], []
    for steps in (20, 40, 80, 160, 320):
        grid = uniform_lambda(VPLinear(), steps, start=LAM_START, end=LAM_END)
        got, last = law_of(solver, GAUSSIAN, grid.process, grid), grid.levels[-1]
        exact = GAUSSIAN.noised(last.alpha, last.sigma)
        misses.append((got.cov.sqrt() - exact.cov.sqrt()).abs().item() + (got.mean - exact.mean).abs().item())
        h.append(grid.h_max)
    return observed_order(h, misses, floor=1e-13)


def test_weak_order_2_needs_the_predictors_noise_in_the_corrector():
    for solver in (SASolver(1, 1), SASolver(3, 3)):
        found = law_order(solver)
        assert solver.facts.weak_order == 2 and abs(found.value - 2) < 0.1, found
    assert law_order(FreshCorrector(SASolver(1, 1))).value < 1.3
    assert law_order(NoiseTwice(SASolver(1, 1))).value < 0.5


def test_strong_order_is_1_whatever_the_points():
    found = strong_order(SASolver(3, 3, tau=TAU), TAU, 2 * TAU**2)
    assert abs(found.value - 1) < 0.1, found
    assert strong_order(SASolver(3, 3, tau=TAU), 1.0, 2 * TAU**2).value < 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    "solver", [SASolver(p, c, 0.0) for p in (1, 2, 3) for c in range(4) if (p, c) != (3, 2)], ids=repr
)
def test_order_without_noise(solver):
    """Of (3, 2) the next term, of order 4, is larger on every grid that stays above the reference's accuracy."""
    started = replace(solver, start=RungeKutta(RK4))
    found = measured_order(started, VPLinear(), "mixture", (40, 80, 160, 320, 640))
    assert abs(found.value - started.facts.order) < 0.1, found


def test_one_order_without_noise_from_either_start():
    assert SASolver(3, 3, 0.0).facts.order == 3
    solver = SASolver(2, 2, 0.0, start=RungeKutta(RK4))
    found = measured_order(solver, VPLinear(), "mixture", (20, 40, 80, 160, 320))
    assert solver.facts.order == 3 and abs(found.value - 3) < 0.1, found


def test_bad_input_is_refused():
    for wrong in (lambda: SASolver(0), lambda: SASolver(2, 4), lambda: SASolver(tau=-1.0)):
        with pytest.raises(ValueError, match=r"must .*; got"):
            wrong()
    with pytest.raises(ValueError, match=r"tau must be >= 0"):
        gap(SASolver(tau=lambda at: float("nan")), DDIM(), VPLinear())
