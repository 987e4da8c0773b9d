"""DDIM with eta: from deterministic (0) to ancestral (1)."""

import math
from dataclasses import dataclass

from theory.prediction import Kind
from theory.solvers.base import SOLVERS, Exactness, Facts, Solver, Step, combined


@SOLVERS.add("ddim")
@dataclass(frozen=True)
class DDIM(Solver):
    r"""DDIM: keep the predicted noise, re-mix it, and replace the part eta^2 of its variance by fresh noise.

    With h = lam_t - lam_s and the injected variance  eta^2 sigma_t^2 (1 - e^{-2h}),

        x_t = alpha_t x0 + sigma_t c eps + eta sigma_t sqrt(1 - e^{-2h}) z,      c = sqrt(1 - eta^2 (1 - e^{-2h})),

    written below in x and x0 with eps eliminated. eta = 0 is Euler in k; eta = 1 is DDPM with the variance
    beta-tilde, on any grid. Exact for a constant x0 (a point mass), at any h and eta.

    coefficient: multiplies the step taken by x0; 1 is the method, any other value serves as a control.
    Source: song2020ddim, eq. 12 and 16 (whose sigma is the injected standard deviation).
    """

    eta: float = 0.0
    coefficient: float = 1.0

    def __post_init__(self):
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in [0, 1]; got eta={self.eta}.")

    @property
    def facts(self) -> Facts:
        if self.eta == 0:
            exact = Exactness(Kind.EPS, "k", 0) if self.coefficient == 1 else None
            return Facts(order=1, evaluations=1, reads=Kind.X0, exact=exact)
        return Facts(order=1, evaluations=1, reads=Kind.X0, stochastic=True, weak_order=1, strong_order=1)

    def step(self, model, x, s, t, memory, noise) -> Step:
        h = t.lam - s.lam
        fresh = -math.expm1(-2 * h)
        log_c = 0.5 * math.log1p(-(self.eta**2) * fresh)
        x0 = model(x, s).x0
        decay, gain = t.sigma / s.sigma * math.exp(log_c), -self.coefficient * t.alpha * math.expm1(log_c - h)
        if self.eta == 0:
            return Step(combined(decay, x, (gain, x0)))
        return Step(combined(decay, x, (gain, x0), (self.eta * t.sigma * math.sqrt(fresh), noise(s, t, x))))


@SOLVERS.add("ddim.eta1")
def _ddim_eta1() -> Solver:
    """DDIM with eta = 1: ancestral sampling with the variance beta-tilde."""
    return DDIM(eta=1.0)
