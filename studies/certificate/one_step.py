"""One step: what it integrates exactly, and its order after steps of another size."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from studies.certificate.row import OWN_LEVELS, Row, stochastic
from studies.target import SolverTarget, Target
from theory.estimate import Estimate
from theory.grid import TimeGrid
from theory.models import Model
from theory.noise import no_noise
from theory.prediction import Kind, Prediction
from theory.process import Level, NoiseProcess
from theory.slope import observed_order

EXACT = 1e-13
"""Of one step on a model of size one: some hundred roundings."""


def _grid(process: NoiseProcess, lams: list[float]) -> TimeGrid:
    return TimeGrid(process, [process.time_at(lam) for lam in lams])


@dataclass(frozen=True)
class Curve(Model):
    """A model whose prediction is a smooth function of lambda alone; its flow is one quadrature."""

    process: NoiseProcess
    kind: Kind
    value: Callable[[float], float]

    def __call__(self, x: Tensor, at: Level) -> Prediction:
        return Prediction(self.kind, torch.full_like(x, self.value(float(at.lam))), x, at)

    def flow(self, x: Tensor, s: Level, t: Level) -> Tensor:
        """d(x / sigma) = e^lam x0 dlam for x0, d(x / alpha) = -e^-lam eps dlam for eps."""
        nodes, weights = np.polynomial.legendre.leggauss(30)
        low, high = float(s.lam), float(t.lam)
        lams = low + 0.5 * (1 + nodes) * (high - low)
        sign = 1 if self.kind is Kind.X0 else -1
        change = (
            0.5
            * (high - low)
            * sum(w * sign * math.exp(sign * v) * self.value(v) for v, w in zip(lams, weights, strict=True))
        )
        old, new = (s.sigma, t.sigma) if self.kind is Kind.X0 else (s.alpha, t.alpha)
        return float(new) * (x / float(old) + float(change))


def _smooth(lam: float) -> float:
    return math.sin(1.3 * lam + 0.4)


def last_step_error(target: Target, model: Curve, lams: list[float]) -> float:
    """The error of the last step alone: from exact states for a Solver, else the difference of two runs."""
    grid = _grid(model.process, lams)
    x = torch.tensor([[0.4, -1.3]], dtype=torch.float64)
    if isinstance(target, SolverTarget):
        memory, found = None, x
        for s, t in pairwise(grid.levels):
            found, memory, _ = target.solver.step(model, x, s, t, memory, no_noise)
            x = model.flow(x, s, t)
        return float((found - x).abs().max())
    before = target.run(model, x, _grid(model.process, lams[:-1])).end
    end = target.run(model, x, grid).end
    return float((end - model.flow(before, *grid.levels[-2:])).abs().max())


def local_order(target: Target, process: NoiseProcess, kind: Kind, pattern: tuple[int, ...]) -> Estimate:
    """The order of one step's error when the steps before it, in this ratio, shrink with it."""
    sizes = [0.04 / 1.4**i for i in range(6)]
    places = np.cumsum([0, *pattern]) / max(pattern)
    model = Curve(process, kind, _smooth)
    errors = [last_step_error(target, model, (0.3 + h * places).tolist()) for h in sizes]
    return observed_order(sizes, errors, floor=2e-17)


PATTERNS = {"3 : 1": (1, 3, 1, 3, 1), "1 : 3": (3, 1, 3, 1, 3)}


def ratios(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """One step's order must not depend on the ratio of the steps: formulas for equal ones show here.

    In a global error much of this can cancel: an inverted ratio in a two-step method leaves h_r^2 - h^2 in each step,
    which telescopes on every grid. One step after another size shows it.
    """
    if stochastic(target):
        return
    if not target.any_grid:
        yield Row("one step's order", "-", "-", "OPEN", OWN_LEVELS)
        return
    for kind in (Kind.X0, Kind.EPS):
        equal = local_order(target, process, kind, (1, 1, 1, 1, 1))
        for name, pattern in PATTERNS.items():
            other = local_order(target, process, kind, pattern)
            texts = f"{equal.value:.2f} ± {equal.error:.2f}", f"{other.value:.2f} ± {other.error:.2f}"
            if equal.error > 0.2 or other.error > 0.2:
                verdict, why = "OPEN", "no window of steps with one slope"
            elif other.value < equal.value - 0.5:
                verdict, why = (
                    "FAILS",
                    "right on equal steps only: the ratio of the steps is used wrongly or not at all",
                )
            else:
                verdict, why = "HOLDS", ""
            yield Row(
                f"one step's order, {kind.value} model, steps {name}", f"{texts[0]} (equal)", texts[1], verdict, why
            )


def exactness(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """The highest degree in lambda, k or t of a prediction that one step after unequal ones integrates exactly."""
    if stochastic(target):
        return
    if not target.any_grid:
        yield Row("exact for polynomials", "-", "-", "OPEN", OWN_LEVELS)
        return
    declared = None if target.facts is None else target.facts.exact
    kinds = [(Kind.X0, "lam"), (Kind.EPS, "lam"), (Kind.EPS, "k")]
    if declared is not None and (declared.kind, declared.variable) not in kinds:
        kinds.append((declared.kind, declared.variable))
    places: dict[str, Callable[[float], float]] = {
        "lam": lambda lam: lam - 0.3,
        "k": lambda lam: math.exp(-lam),
        "t": lambda lam: float(process.time_at(lam)),
    }
    for kind, variable in kinds:
        degree = -1
        for n in range(5):
            model = Curve(process, kind, lambda lam, n=n, place=places[variable]: 0.7 * place(lam) ** n)
            if last_step_error(target, model, [-0.9, -0.5, 0.0, 0.2, 0.9]) > EXACT:
                break
            degree = n
        fact = f"exact for {kind.value} polynomial in {variable}"
        measured = f"to degree {degree}" if degree >= 0 else "not for a constant"
        if declared is None or (declared.kind, declared.variable) != (kind, variable):
            yield Row(fact, "-", measured, "OPEN", "nothing is declared")
        elif degree >= declared.degree:
            more = "beyond what is declared here" if degree > declared.degree else ""
            yield Row(fact, f"to degree {declared.degree}", measured, "HOLDS", more)
        else:
            yield Row(fact, f"to degree {declared.degree}", measured, "FAILS", "a step of a model it should know errs")
