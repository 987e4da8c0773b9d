"""DPM-Solver++: exponential integrators in the data prediction."""

import math
from dataclasses import dataclass

from theory.prediction import Kind
from theory.solvers.base import SOLVERS, Facts, Solver, Step


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
        return Facts(order=2 if self.weight == 0.5 else 1, evaluations=1, reads=Kind.X0)

    def step(self, model, x, s, t, memory, noise) -> Step:
        h = t.lam - s.lam
        x0 = model(x, s).x0
        drive = x0
        if memory is not None:
            r, x0_r = memory
            drive = x0 + self.weight * h / (s.lam - r.lam) * (x0 - x0_r)
        x = t.sigma / s.sigma * x - t.alpha * math.expm1(-h) * drive
        return Step(x, memory=(s, x0))
