"""Churn: lift the state to a noisier level with fresh noise, then take the inner solver's step from there."""

import math
from dataclasses import dataclass, field

from theory.solvers.base import SOLVERS, Facts, Solver, Step
from theory.solvers.euler_heun import Heun


@SOLVERS.add("edm.churn")
@dataclass(frozen=True)
class Churn(Solver):
    r"""EDM's stochastic sampler around any one-step solver.

    k_up = (1 + gamma) k_s (not beyond the process),  x_up = alpha_up [ x / alpha_s + noise_scale sqrt(k_up^2 - k_s^2) z ],
    then inner.step from k_up to t. noise_scale = 1 keeps the law exactly: adding noise is the forward process.
    gamma is S_churn / N of the paper, at most sqrt(2) - 1 there.
    Source: karras2022edm, algorithm 2.
    """

    inner: Solver = field(default_factory=Heun)
    gamma: float = 0.1
    noise_scale: float = 1.0

    def __post_init__(self):
        if not self.gamma > 0:
            raise ValueError(f"gamma must be > 0; got gamma={self.gamma}. Use the inner solver alone for no churn.")

    @property
    def facts(self) -> Facts:
        inner = self.inner.facts
        return Facts(
            order=inner.order, evaluations=inner.evaluations, reads=inner.reads, stochastic=True, weak_order=inner.order
        )

    def step(self, model, x, s, t, memory, noise) -> Step:
        lam = max(s.lam - math.log1p(self.gamma), model.process.lam_range[0])
        if lam < s.lam:
            up = model.process.level_at(lam)
            fresh = self.noise_scale * math.sqrt((up.k - s.k) * (up.k + s.k))
            x = up.alpha / s.alpha * x + up.alpha * fresh * noise(s, t, x)
            s = up
        return self.inner.step(model, x, s, t, None, noise)
