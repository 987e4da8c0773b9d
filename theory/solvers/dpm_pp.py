"""DPM-Solver++: exponential integrators in the data prediction."""

import math
from dataclasses import dataclass

from theory.models import Answered
from theory.phi import phi
from theory.prediction import Kind
from theory.solvers.base import SOLVERS, Exactness, Facts, Solver, Step, combined, extra


@SOLVERS.add("dpm_pp.2m")
@dataclass(frozen=True)
class DPMpp2M(Solver):
    r"""Exponential two-step method in the data prediction (DPM-Solver++ 2M).

    With h = lam_t - lam_s, r = (lam_s - lam_r) / h and D the x0-prediction,

        x_t = (sigma_t / sigma_s) x_s + alpha_t (1 - e^{-h}) [ D_s + (D_s - D_r) weight / r ]

    where r is the node before s. The first step has no r and is DDIM.

    Exact for a constant D, at any h. Order 2 in h_max also on unequal grids.
    weight: 1/2 is the method; any other value has order 1 and serves as a control.

    Not the "taylor" variant, whose weight is phi_2(-h)/phi_1(-h).
    Source: lu2022dpmpp, algorithm 2.
    """

    weight: float = 0.5

    @property
    def facts(self) -> Facts:
        order, exact = 2 if self.weight == 0.5 else 1, Exactness(Kind.X0, "lam", 0)
        return Facts(order=order, evaluations=1, reads=Kind.X0, multistep=True, exact=exact)

    def step(self, model, x, s, t, memory, noise) -> Step:
        h = t.lam - s.lam
        x0 = model(x, s).x0
        decay, gain = t.sigma / s.sigma, -t.alpha * math.expm1(-h)
        if memory is None:
            return Step(combined(decay, x, (gain, x0)), memory=(s, x0))
        r, x0_r = memory
        slope = gain * self.weight * h / (s.lam - r.lam)
        return Step(combined(decay, x, (gain + slope, x0), (-slope, x0_r)), memory=(s, x0))


@SOLVERS.add("dpm_pp.2s")
@dataclass(frozen=True)
class DPMpp2S(Solver):
    r"""Exponential two-stage method in the data prediction D (DPM-Solver++ 2S).

    With h = lam_t - lam_s and the stage s1 at lam_s + r1 h,

        u   = (sigma_s1 / sigma_s) x_s + alpha_s1 (1 - e^{-r1 h}) D_s
        x_t = (sigma_t / sigma_s) x_s + alpha_t (1 - e^{-h}) [ D_s + (weight / r1) (D(u, s1) - D_s) ]

    Exact for a constant D, at any h. Order 2 in h_max for every r1 in (0, 1].
    weight: 1/2 is the method; any other value has order 1 and serves as a control.
    Source: lu2022dpmpp, algorithm 1 (r1 = 1/2).
    """

    r1: float = 0.5
    weight: float = 0.5

    def __post_init__(self):
        if not 0 < self.r1 <= 1:
            raise ValueError(f"r1 must lie in (0, 1]; got r1={self.r1}.")

    @property
    def facts(self) -> Facts:
        exact = Exactness(Kind.X0, "lam", 0)
        return Facts(order=2 if self.weight == 0.5 else 1, evaluations=2, reads=Kind.X0, exact=exact)

    def step(self, model, x, s, t, memory, noise) -> Step:
        h = t.lam - s.lam
        s1 = model.process.level_at(s.lam + self.r1 * h)
        x0 = model(x, s).x0
        u = combined(s1.sigma / s.sigma, x, (-s1.alpha * math.expm1(-self.r1 * h), x0))
        gain, share = -t.alpha * math.expm1(-h), self.weight / self.r1
        return Step(combined(t.sigma / s.sigma, x, (gain * (1 - share), x0), (gain * share, model(u, s1).x0)))


@SOLVERS.add("dpm_pp.3s")
@dataclass(frozen=True)
class DPMpp3S(Solver):
    r"""Exponential three-stage method in the data prediction D (DPM-Solver++ 3S).

    With h = lam_t - lam_s, stages s1, s2 at lam_s + r1 h, lam_s + r2 h, and phi_2(-h) = (e^{-h} - 1 + h) / h^2,

        u1  = (sigma_s1 / sigma_s) x_s + alpha_s1 (1 - e^{-r1 h}) D_s
        u2  = (sigma_s2 / sigma_s) x_s + alpha_s2 [ (1 - e^{-r2 h}) D_s + (r2^2 h / r1) phi_2(-r2 h) (D(u1, s1) - D_s) ]
        x_t = (sigma_t / sigma_s) x_s + alpha_t [ (1 - e^{-h}) D_s + (h phi_2(-h) / r2) (D(u2, s2) - D_s) ]

    Exact for D affine in lambda and independent of x. Order 3 in h_max if and only if r2 = 2/3; another r2 has order 2
    and serves as a control.
    Source: lu2022dpmpp, appendix; the data-prediction form of lu2022dpm, algorithm 2.
    """

    r1: float = 1 / 3
    r2: float = 2 / 3

    def __post_init__(self):
        for name, r in (("r1", self.r1), ("r2", self.r2)):
            if not 0 < r <= 1:
                raise ValueError(f"{name} must lie in (0, 1]; got {name}={r}.")

    @property
    def facts(self) -> Facts:
        order = 3 if math.isclose(self.r2, 2 / 3, rel_tol=1e-12) else 2
        return Facts(order=order, evaluations=3, reads=Kind.X0, exact=Exactness(Kind.X0, "lam", 1))

    def step(self, model, x, s, t, memory, noise) -> Step:
        h = t.lam - s.lam
        s1, s2 = (model.process.level_at(s.lam + r * h) for r in (self.r1, self.r2))
        x0 = model(x, s).x0
        first = model(combined(s1.sigma / s.sigma, x, (-s1.alpha * math.expm1(-self.r1 * h), x0)), s1).x0
        gain = -s2.alpha * math.expm1(-self.r2 * h)
        turn = s2.alpha * (self.r2**2 / self.r1 * h * phi(2, -self.r2 * h))
        second = model(combined(s2.sigma / s.sigma, x, (gain - turn, x0), (turn, first)), s2).x0
        gain, bend = -t.alpha * math.expm1(-h), t.alpha * (h * phi(2, -h) / self.r2)
        return Step(combined(t.sigma / s.sigma, x, (gain - bend, x0), (bend, second)))


@SOLVERS.add("dpm_pp.3m")
@dataclass(frozen=True)
class DPMpp3M(Solver):
    r"""Exponential three-step method in the data prediction D (DPM-Solver++ 3M).

    With h = lam_t - lam_s, D_0, D_1, D_2 at the nodes s, r, q (s the newest), r0 = (lam_s - lam_r) / h,
    r1 = (lam_r - lam_q) / h and the divided differences d0 = (D_0 - D_1) / r0, d1 = (D_1 - D_2) / r1,

        A = d0 + r0 / (r0 + r1) (d0 - d1)  (= h D'),      B = 2 (d0 - d1) / (r0 + r1)  (= h^2 D''),
        x_t = (sigma_t / sigma_s) x_s + alpha_t h [ phi_1(-h) D_0 + phi_2(-h) A + phi_3(-h) B ]

    The first step is DDIM, the second the same formula without B. A single DDIM step errs by O(h^2), which nothing
    damps, so from this start the order is 2; from an accurate start it is 3: ``start`` takes the first two steps and
    has to be of order >= 2. Exact for D quadratic in lambda and independent of x, once started.

    second: multiplies the difference d0 - d1 in A; 1 is the method, another value has order 2 from any start.
    Source: lu2022dpmpp, appendix (multistep third order).
    """

    start: Solver | None = None
    second: float = 1.0

    @property
    def facts(self) -> Facts:
        started = self.start is not None and (self.start.facts.order or 0) >= 2
        order = 3 if started and self.second == 1 else 2
        exact = Exactness(Kind.X0, "lam", 2 if self.second == 1 else 1)
        more = extra(self.start, 3)
        return Facts(order=order, evaluations=1, reads=Kind.X0, start_up=more, multistep=True, exact=exact)

    def step(self, model, x, s, t, memory, noise) -> Step:
        h, history = t.lam - s.lam, memory or ()
        prediction = model(x, s)
        x0 = prediction.x0
        kept = ((s, x0), *history[:1])
        if self.start is not None and len(history) < 2:
            return Step(self.start.step(Answered(model, x, s, prediction), x, s, t, None, noise).x, memory=kept)
        newest, older, oldest = phi(1, -h), 0.0, 0.0  # weights of D_0, D_1, D_2
        if history:
            r0 = (s.lam - history[0][0].lam) / h
            slope = phi(2, -h)
            if len(history) == 2:
                r1 = (history[0][0].lam - history[1][0].lam) / h
                bend = (2 * phi(3, -h) + self.second * r0 * slope) / (r0 + r1)  # of d0 - d1
                newest, older, oldest = newest + bend / r0, older - bend / r0 - bend / r1, bend / r1
            newest, older = newest + slope / r0, older - slope / r0
        values = zip((newest, older, oldest), (x0, *(value for _, value in history)), strict=False)
        terms = ((t.alpha * h * weight, value) for weight, value in values)
        return Step(combined(t.sigma / s.sigma, x, *terms), memory=kept)
