"""Exponential Adams methods: predictors (UniP, the multistep methods of the DPM family) and correctors (UniPC)."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from theory.models import Answered
from theory.phi import exponential_moments, weights_at
from theory.prediction import Kind
from theory.process import Level
from theory.solvers.base import SOLVERS, Exactness, Facts, Solver, Step, combined, extra


@dataclass(frozen=True)
class ExponentialAdams(Solver):
    r"""Exponential multistep methods in lambda on any grid, with or without a corrector (UniPC).

    With h = lam_t - lam_s, the two exact solutions of the probability-flow ODE are

        x_t = (sigma_t / sigma_s) x_s + alpha_t h int_0^1 e^{-(1-u) h} D(lam_s + u h) du,
        x_t = (alpha_t / alpha_s) x_s - sigma_t h int_0^1 e^{(1-u) h} eps(lam_s + u h) du.

    The predictor puts the polynomial through the last ``points`` predictions in place of D (or eps, by ``reads``) and
    integrates it exactly: int e^{z(1-u)} u^n du = n! phi_{n+1}(z). The corrector does the same step again with the
    prediction at t as one more point. That prediction is the next step's own, so a corrector costs no evaluation: each
    step corrects the state it was handed, from the state before, and then predicts. The last state is not corrected.

    halves: "exact", or the methods' own short cut where one difference d of two predictions is all there is (the
    predictor of two points, the corrector of one): half of (hh) d ("b1") or of expm1(hh) d ("b2"), hh = -h for D and h
    for eps, in place of h phi_2(hh) d. With three and more points B1 and B2 are the exact weights.

    Order: ``points`` without a corrector, points + 1 with one, from an accurate ``start`` (a solver that takes the
    first points - 1 steps); from the usual start of fewer points at most 2 without a corrector and 3 with one, since
    the first step errs by O(h^2) or O(h^3) and nothing damps that. Exact, once started, for D (or eps) a polynomial
    in lambda of degree points - 1, or points where the step is corrected, but for the short cuts.

    (2 points, no corrector, "b2") is DPM-Solver++ 2M; (3, no corrector) is DPM-Solver++ 3M.
    Source: zhao2023unipc, algorithms 1 and 2; hochbruck2010exponential, section 2.7.
    """

    points: int = 2
    correct: bool = True
    reads: Literal["x0", "eps"] = "x0"
    halves: Literal["exact", "b1", "b2"] = "b2"
    start: Solver | None = None

    def __post_init__(self):
        if self.points not in (1, 2, 3, 4):
            raise ValueError(f"points must be 1, 2, 3 or 4; got points={self.points}.")
        for name, value, known in (
            ("reads", self.reads, ("x0", "eps")),
            ("halves", self.halves, ("exact", "b1", "b2")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {name}={value!r}.")

    @property
    def facts(self) -> Facts:
        limit = 2 + self.correct if self.start is None else (self.start.facts.order or 0) + 1
        order = min(self.points + self.correct, limit)
        reads = Kind.X0 if self.reads == "x0" else Kind.EPS
        start_up = extra(self.start, self.points)
        short = self.points == 2 and self.halves != "exact"
        exact = None if self.correct else Exactness(reads, "lam", 0 if short else self.points - 1)
        return Facts(
            order=order,
            evaluations=1,
            reads=reads,
            start_up=start_up,
            multistep=self.points + self.correct > 1,
            exact=exact,
        )

    def step(self, model, x, s, t, memory, noise) -> Step:
        prediction = model(x, s)
        now = (s, prediction.x0 if self.reads == "x0" else prediction.eps)
        before: Tensor | None = memory[0] if memory else None
        history: tuple[tuple[Level, Tensor], ...] = memory[1] if memory else ()
        if self.start is not None and len(history) < self.points - 1:
            found = self.start.step(Answered(model, x, s, prediction), x, s, t, None, noise).x
            return Step(found, memory=(None, (now, *history)[: self.points]))
        if self.correct and before is not None:
            x = self._moved(before, next(iter(history))[0], s, [now, *history])
        history = (now, *history)[: self.points]
        return Step(self._moved(x, s, t, history), memory=(x, history))

    def _moved(self, x, s: Level, t: Level, points):
        """From x at s to t, with the polynomial through the points, of which the newest may lie at t."""
        h = float(t.lam - s.lam)
        z, decay, scale = (-h, t.sigma / s.sigma, t.alpha) if self.reads == "x0" else (h, t.alpha / s.alpha, -t.sigma)
        weights = self._weights([float(at.lam - s.lam) / h for at, _ in points], z)
        return combined(
            decay, x, *((scale * h * weight, value) for weight, (_, value) in zip(weights, points, strict=True))
        )

    def _weights(self, places: list[float], z: float) -> list[float]:
        """Of the predictions at lam_s + place h, one of which is 0, in int_0^1 e^{(1-u) z} (prediction) du."""
        moments = exponential_moments(len(places), z)
        if len(places) == 2 and self.halves != "exact":
            moments[1] = 0.5 if self.halves == "b1" else 0.5 * moments[0]
        return weights_at(places, moments)


@SOLVERS.add("unipc.1")
def _unipc_1() -> Solver:
    """UniPC-1 (B2): DDIM with a corrector of order 2 at no cost."""
    return ExponentialAdams(1)


@SOLVERS.add("unipc.2")
def _unipc_2() -> Solver:
    """UniPC-2 (B2): DPM-Solver++ 2M with a corrector, order 3."""
    return ExponentialAdams(2)


@SOLVERS.add("unipc.3")
def _unipc_3() -> Solver:
    """UniPC-3 (B2) with its usual start, which limits it to order 3."""
    return ExponentialAdams(3)


@SOLVERS.add("dpm.2m")
def _dpm_2m() -> Solver:
    """The two-step method of the DPM-Solver family in the noise prediction."""
    return ExponentialAdams(2, correct=False, reads="eps")


@SOLVERS.add("res.2m")
def _res_2m() -> Solver:
    """The two-step exponential Adams method with exact weights (RES, the "taylor" variant of 2M)."""
    return ExponentialAdams(2, correct=False, halves="exact")
