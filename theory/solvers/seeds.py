"""SEEDS: exponential Runge-Kutta methods for the reverse SDE, whose stages lie on one Brownian path."""

import math
from dataclasses import dataclass
from typing import Literal

from theory.phi import phi
from theory.prediction import Kind
from theory.process import Level
from theory.solvers.base import SOLVERS, Facts, Solver, Step, combined


@dataclass(frozen=True)
class SEEDS(Solver):
    r"""Exponential stochastic Runge-Kutta methods of one, two and three stages, in D ("x0") or e ("eps").

    The SDE of noise amplitude sqrt(eta) g is linear but for the prediction (see SDEDPM). With P(s, t) the map of
    x_s to x_t for the prediction 0, P_j(h) = (1 + eta) h phi_j(-(1 + eta) h) for D, and -(1 + eta) h phi_j(h) for e,
    and G = alpha for D, sigma for e, the stages at lam_s + r1 h and lam_s + r2 h and the step are

        u1  = P x_s + G_1 P_1(r1 h) D_s + N_1
        u2  = P x_s + G_2 [ P_1(r2 h) D_s + (r2 / r1) P_2(r2 h) (D(u1) - D_s) ] + N_2          (three stages)
        x_t = P x_s + G_t [ P_1(h) D_s + (weight / r1) P_1(h) (D(u1) - D_s) ] + N_t             (two stages)
        x_t = P x_s + G_t [ P_1(h) D_s + (1 / r2) P_2(h) (D(u2) - D_s) ] + N_t                  (three stages)

    where N_1, N_2, N_t are the values at the nodes of one process N, the solution of the SDE for the prediction 0 from
    0: jointly Gaussian, and Markov, so that N at a later node is P N at the earlier one plus a fresh normal of variance
    sigma^2 (1 - e^{-2 eta d}) (D) or sigma^2 eta (e^{2d} - 1) (e) for the distance d between them in lambda.

    eta = 0: DDIM, DPM-Solver(++) 2, 3. One stage: SDEDPM of one point. Order: the number of stages; weak order the
    same up to 2, strong order 1. The order in law needs the nested noise: it is what gives D(u1) its covariance with
    the increment. nested: False draws the stages' noise afresh, which has weak order 1, and serves as a control.
    weight: 1/2 is the method; another value has order 1.

    Raises ValueError for stages other than 1, 2, 3, eta < 0, and r1, r2 outside (0, 1) or not rising.
    Source: gonzalez2023seeds; the noise derived as above.
    """

    stages: int = 2
    eta: float = 1.0
    reads: Literal["x0", "eps"] = "x0"
    r1: float | None = None
    r2: float = 2 / 3
    weight: float = 0.5
    nested: bool = True

    def __post_init__(self):
        if self.stages not in (1, 2, 3):
            raise ValueError(f"stages must be 1, 2 or 3; got stages={self.stages}.")
        if not (self.eta >= 0 and math.isfinite(self.eta)):
            raise ValueError(f"eta must be >= 0 and finite; got eta={self.eta}.")
        if self.reads not in ("x0", "eps"):
            raise ValueError(f"reads must be 'x0' or 'eps'; got reads={self.reads!r}.")
        if not 0 < self._first < (self.r2 if self.stages == 3 else 1) <= 1 or not self.r2 < 1:
            raise ValueError(f"r1 and r2 must rise in (0, 1); got r1={self._first}, r2={self.r2}.")

    @property
    def _first(self) -> float:
        """r1, by default 1/2 for two stages and 1/3 for three."""
        return self.r1 if self.r1 is not None else (0.5 if self.stages < 3 else 1 / 3)

    @property
    def facts(self) -> Facts:
        order = {1: 1, 2: 2 if self.weight == 0.5 else 1, 3: 3 if math.isclose(self.r2, 2 / 3) else 2}[self.stages]
        reads = Kind.X0 if self.reads == "x0" else Kind.EPS
        if self.eta == 0:
            return Facts(order, self.stages, reads=reads)
        weak = min(order, 2) if self.nested else 1
        return Facts(order, self.stages, stochastic=True, reads=reads, weak_order=weak, strong_order=1)

    def step(self, model, x, s, t, memory, noise) -> Step:
        h, eta = float(t.lam - s.lam), self.eta
        inner = {1: (), 2: (self._first,), 3: (self._first, self.r2)}[self.stages]
        nodes = [*(model.process.level_at(s.lam + r * h) for r in inner), t]
        kicks = self._kicks(x, s, nodes, noise)
        value = self._read(model, x, s)

        def reach(at: Level, kick, turn: float, other):
            """P x + G [P_1 value + turn (other - value)] + kick, from s to the level at."""
            d = float(at.lam - s.lam)
            decay, gain = self._decay(s, at), at.alpha if self.reads == "x0" else at.sigma
            terms = [(gain * (self._part(1, d) - turn), value)]
            if turn:
                terms.append((gain * turn, other))
            if eta > 0:
                terms.append((1.0, kick))
            return combined(decay, x, *terms)

        if self.stages == 1:
            return Step(reach(t, kicks[0], 0.0, value))
        first = self._read(model, reach(nodes[0], kicks[0], 0.0, value), nodes[0])
        if self.stages == 2:
            return Step(reach(t, kicks[1], self.weight / self._first * self._part(1, h), first))
        turn = self.r2 / self._first * self._part(2, self.r2 * h)
        second = self._read(model, reach(nodes[1], kicks[1], turn, first), nodes[1])
        return Step(reach(t, kicks[2], self._part(2, h) / self.r2, second))

    def _read(self, model, x, at: Level):
        return model(x, at).x0 if self.reads == "x0" else model(x, at).eps

    def _part(self, j: int, d: float) -> float:
        scale = (1 + self.eta) * d
        return scale * phi(j, -scale) if self.reads == "x0" else -scale * phi(j, d)

    def _decay(self, s: Level, t: Level) -> float:
        if self.reads == "x0":
            return float(t.sigma / s.sigma) * math.exp(-self.eta * float(t.lam - s.lam))
        return float(t.alpha / s.alpha)

    def _std(self, s: Level, t: Level) -> float:
        d = float(t.lam - s.lam)
        fresh = -math.expm1(-2 * self.eta * d) if self.reads == "x0" else self.eta * math.expm1(2 * d)
        return float(t.sigma) * math.sqrt(fresh)

    def _kicks(self, x, s: Level, nodes: list[Level], noise) -> list:
        """N at the nodes."""
        if self.eta == 0:
            return [None] * len(nodes)
        kicks, before = [], s
        for at in nodes:
            kick = self._std(before, at) * noise(before, at, x)
            if kicks:
                kick = kick + self._decay(before, at) * kicks[-1]
            kicks.append(kick)
            before = at
        if not self.nested:  # the step keeps its noise, the stages get another, of the right variance each
            kicks[:-1] = [self._std(s, at) * noise(s, at, x) for at in nodes[:-1]]
        return kicks


@SOLVERS.add("seeds.1")
def _seeds_1() -> Solver:
    """SEEDS-1 in the noise prediction: SDE-DPM-Solver of one point."""
    return SEEDS(1, reads="eps")


@SOLVERS.add("seeds.2")
def _seeds_2() -> Solver:
    """SEEDS-2 in the data prediction."""
    return SEEDS(2)


@SOLVERS.add("seeds.3")
def _seeds_3() -> Solver:
    """SEEDS-3 in the data prediction."""
    return SEEDS(3)
