"""Churn: lift the state to a noisier level with fresh noise, then take the inner solver's step from there."""

import math
from dataclasses import dataclass, field

from theory.solvers.base import SOLVERS, Facts, Solver, Step
from theory.solvers.euler_heun import Heun


@SOLVERS.add("edm.churn")
@dataclass(frozen=True)
class Churn(Solver):
    r"""EDM's stochastic sampler around any one-step solver: noise up, then step down.

    With h = lam_t - lam_s,  k_up = k_s e^{rate h}  (not beyond the process),
    x_up = alpha_up [ x / alpha_s + noise_scale sqrt(k_up^2 - k_s^2) z ],  then inner.step from k_up to t.

    noise_scale = 1 keeps the law exactly, since adding noise is the forward process; any other value is a control.
    rate: how far each step goes back up in lambda, as a fraction of the step. The paper's gamma = e^{rate h} - 1 is
    S_churn / N, so on a grid uniform in lambda rate h = log(1 + S_churn / N): tied to h, the churned run has a limit.
    Source: karras2022edm, algorithm 2.
    """

    inner: Solver = field(default_factory=Heun)
    rate: float = 0.5
    noise_scale: float = 1.0

    def __post_init__(self):
        if not self.rate > 0:
            raise ValueError(f"rate must be > 0; got rate={self.rate}. Use the inner solver alone for no churn.")

    @property
    def facts(self) -> Facts:
        inner = self.inner.facts
        kept = self.noise_scale == 1
        order = inner.order if kept else 0
        return Facts(order, inner.evaluations, stochastic=True, reads=inner.reads, weak_order=order, keeps_law=kept)

    def step(self, model, x, s, t, memory, noise) -> Step:
        lam = max(s.lam - self.rate * (t.lam - s.lam), model.process.lam_range[0])
        if lam < s.lam:
            up = model.process.level_at(lam)
            fresh = self.noise_scale * math.sqrt((up.k - s.k) * (up.k + s.k))
            x = up.alpha / s.alpha * x + up.alpha * fresh * noise(s, t, x)
            s = up
        return self.inner.step(model, x, s, t, None, noise)
