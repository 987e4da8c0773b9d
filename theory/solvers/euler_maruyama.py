"""Euler-Maruyama on the reverse SDE."""

import math
from dataclasses import dataclass

from theory.prediction import Kind
from theory.solvers.base import SOLVERS, Facts, Solver, Step


@SOLVERS.add("euler_maruyama")
@dataclass(frozen=True)
class EulerMaruyama(Solver):
    r"""Euler-Maruyama in t on the family of reverse SDEs that share the marginals of the forward process.

        dx = [ f x - (1 + eta^2)/2 g^2 score ] dt + eta g dw,      t running down,

    so that  x_t = x_s + (t - s) [ f_s x_s - (1 + eta^2)/2 g_s^2 score_s ] + eta g_s sqrt(s - t) z.
    eta = 1 is the reverse SDE; eta = 0 is the probability-flow ODE. The noise is additive, hence strong order 1.

    drift_factor: multiplies the score term; 1 is the method, any other value serves as a control.
    Source: song2020score, eq. 6 and 13; huang2021variational, eq. 11 for general eta.
    """

    eta: float = 1.0
    drift_factor: float = 1.0

    @property
    def facts(self) -> Facts:
        if self.eta == 0:
            return Facts(order=1, evaluations=1, reads=Kind.SCORE)
        return Facts(order=1, evaluations=1, reads=Kind.SCORE, stochastic=True, weak_order=1, strong_order=1)

    def step(self, model, x, s, t, memory, noise) -> Step:
        f = s.alpha_dot / s.alpha
        g2 = 2 * s.sigma * (s.sigma_dot - s.sigma * f)
        pull = self.drift_factor * 0.5 * (1 + self.eta**2) * g2
        mean = (1 + (t.t - s.t) * f) * x - (t.t - s.t) * pull * model(x, s).score
        if self.eta == 0:
            return Step(mean)
        return Step(mean + self.eta * math.sqrt(g2 * (s.t - t.t)) * noise(s, t, x))
