"""DPM-Solver: exponential integrators in the noise prediction."""

import math
from dataclasses import dataclass

from theory.prediction import Kind
from theory.solvers.base import SOLVERS, Facts, Solver, Step


@SOLVERS.add("dpm.2")
@dataclass(frozen=True)
class DPM2(Solver):
    r"""DPM-Solver-2: an exponential two-stage method in the noise prediction e.

    With h = lam_t - lam_s and the stage s1 at lam_s + r1 h,

        u   = (alpha_s1 / alpha_s) x_s - sigma_s1 (e^{r1 h} - 1) e_s
        x_t = (alpha_t / alpha_s) x_s - sigma_t (e^h - 1) [ e_s + (weight / r1) (e(u, s1) - e_s) ]

    Exact for a constant e, at any h. Order 2 in h_max for every r1 in (0, 1].
    weight: 1/2 is the method; any other value has order 1 and serves as a control.
    Source: lu2022dpm, algorithm 1 (r1 = 1/2) and eq. 4.1.
    """

    r1: float = 0.5
    weight: float = 0.5

    def __post_init__(self):
        if not 0 < self.r1 <= 1:
            raise ValueError(f"r1 must lie in (0, 1]; got r1={self.r1}.")

    @property
    def facts(self) -> Facts:
        return Facts(order=2 if self.weight == 0.5 else 1, evaluations=2, reads=Kind.EPS)

    def step(self, model, x, s, t, memory, noise) -> Step:
        h = t.lam - s.lam
        s1 = model.process.level_at(s.lam + self.r1 * h)
        e = model(x, s).eps
        u = s1.alpha / s.alpha * x - s1.sigma * math.expm1(self.r1 * h) * e
        slope = self.weight / self.r1 * (model(u, s1).eps - e)
        return Step(t.alpha / s.alpha * x - t.sigma * math.expm1(h) * (e + slope))
