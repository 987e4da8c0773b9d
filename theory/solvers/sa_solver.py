"""SA-Solver: stochastic Adams methods with a corrector that shares the predictor's noise."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from theory.models import Answered
from theory.phi import exponential_weights
from theory.process import Level
from theory.solvers.base import SOLVERS, Facts, Solver, Step, combined, extra


@SOLVERS.add("sa_solver")
@dataclass(frozen=True)
class SASolver(Solver):
    r"""Exponential Adams methods in D for the SDE of noise amplitude tau g, with or without a corrector.

    With tau constant in the step, h = lam_t - lam_s and D at lam_s + u h, exactly

        x_t = (sigma_t / sigma_s) e^{-tau^2 h} x_s + alpha_t (1 + tau^2) h int_0^1 e^{-(1-u)(1 + tau^2) h} D du
              + sigma_t sqrt(1 - e^{-2 tau^2 h}) z.

    The predictor puts the polynomial through the last ``predictor`` predictions in place of D. The corrector does the
    step again with the prediction at t and the last ``corrector`` ones, from the same x_s and with the same z. That
    prediction is the next step's own, so it costs no evaluation: each step corrects the state it was handed, and then
    predicts. The last state is not corrected.

    tau: a number, or a function of the level a step starts from. tau = 0: UniPC with exact weights (predictor =
    corrector), DDIM (1 and 0); tau = 1: DDPM with the variance beta-tilde (1 and 0). Without a corrector SDEDPM.
    start: takes the first max(predictor, corrector) - 1 steps, memoryless, which are then not corrected.

    Exact in mean and in law for D a polynomial in lambda of degree predictor - 1, or ``corrector`` where the step is
    corrected. Order min(predictor, corrector) + 1 with a corrector, from the usual start at most 3 (2 without one).
    Weak order 2, but 1 for (1, 0); strong order 1 for tau > 0, whatever the number of points.

    Raises ValueError for a predictor other than 1, 2, 3, a corrector other than 0, 1, 2, 3, and tau < 0.
    Source: xue2023sa.
    """

    predictor: int = 2
    corrector: int = 2
    tau: float | Callable[[Level], float] = 1.0
    start: Solver | None = None

    def __post_init__(self):
        for name, value, known in (("predictor", self.predictor, (1, 2, 3)), ("corrector", self.corrector, range(4))):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(map(str, known))}; got {name}={value}.")
        if not callable(self.tau):
            self._squared(self.tau)

    @staticmethod
    def _squared(tau: float) -> float:
        if not (tau >= 0 and math.isfinite(tau)):
            raise ValueError(f"tau must be >= 0 and finite; got tau={tau}.")
        return tau * tau

    @property
    def facts(self) -> Facts:
        points = max(self.predictor, self.corrector)
        order = min(self.predictor, self.corrector) + 1 if self.corrector else self.predictor
        if self.start is None:
            order = min(order, 3 if self.corrector else 2)
        else:
            order = min(order, (self.start.facts.order or 0) + 1)
        more, several = extra(self.start, points), points > 1 or self.corrector > 0
        if self.tau == 0:
            return Facts(order=order, evaluations=1, start_up=more, multistep=several)
        weak = min(order, 2)
        return Facts(order, 1, stochastic=True, weak_order=weak, strong_order=1, start_up=more, multistep=several)

    def step(self, model, x, s, t, memory, noise) -> Step:
        prediction = model(x, s)
        now = (s, prediction.x0)
        move, history = memory or (None, ())
        points = (now, *history)
        kept = points[: max(self.predictor, self.corrector)]
        if self.start is not None and len(points) < max(self.predictor, self.corrector):
            found = self.start.step(Answered(model, x, s, prediction), x, s, t, None, noise).x
            return Step(found, memory=(None, kept))
        if self.corrector and move is not None:
            x = move.to(s, points[: self.corrector + 1])
        move = _Move(x, s, self._squared(self.tau(s) if callable(self.tau) else self.tau), None)
        if self.tau != 0:
            fresh = -math.expm1(-2 * move.eta * (t.lam - s.lam))
            move = _Move(x, s, move.eta, t.sigma * math.sqrt(fresh) * noise(s, t, x))
        return Step(move.to(t, points[: self.predictor]), memory=(move if self.corrector else None, kept))


@dataclass(frozen=True, eq=False)
class _Move:
    """What a step is done from, and done again from by the corrector: the state, its level, tau^2 and the noise."""

    x: Tensor
    s: Level
    eta: float
    kick: Tensor | None

    def to(self, t: Level, points):
        """With the polynomial through the points, of which the newest may lie at t."""
        s, eta = self.s, self.eta
        h = float(t.lam - s.lam)
        weights = exponential_weights([float(at.lam - s.lam) / h for at, _ in points], -(1 + eta) * h)
        scale = t.alpha * (1 + eta) * h
        terms = [(scale * weight, x0) for weight, (_, x0) in zip(weights, points, strict=True)]
        if self.kick is not None:
            terms.append((1.0, self.kick))
        return combined(t.sigma / s.sigma * math.exp(-eta * h), self.x, *terms)
