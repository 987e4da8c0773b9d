"""DDPM ancestral sampling, with the variance of the reverse step as a choice."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from theory.prediction import Kind
from theory.process import Level
from theory.solvers.base import SOLVERS, Facts, Solver, Step

Variance = Literal["beta", "beta_tilde"] | Callable[[Level, Level], float]


@dataclass(frozen=True)
class DDPM(Solver):
    r"""Ancestral sampling: x_t ~ N(mu, variance I), mu the mean of q(x_t | x_s, x_0) at the predicted x_0.

    For a step from s (noisier) to t with h = lam_t - lam_s, on any process and grid,

        mu         = (sigma_t / sigma_s) e^{-h} x + alpha_t (1 - e^{-2h}) x0,
        beta       = sigma_s^2 (1 - e^{-2h})      (the variance of q(x_s | x_t)),
        beta_tilde = sigma_t^2 (1 - e^{-2h})      (the variance of q(x_t | x_s, x_0)).

    For VP they are beta_n and tilde beta_n of the paper. variance: "beta", "beta_tilde", or a function of the levels
    (s, t), such as the optimal isotropic variance of theory.covariance.
    Source: ho2020ddpm, eq. 6-7 and section 3.2.
    """

    variance: Variance = "beta_tilde"

    def __post_init__(self):
        if isinstance(self.variance, str) and self.variance not in ("beta", "beta_tilde"):
            raise ValueError(f"variance must be 'beta', 'beta_tilde' or a function of (s, t); got {self.variance!r}.")

    @property
    def facts(self) -> Facts:
        return Facts(order=1, evaluations=1, reads=Kind.X0, stochastic=True, weak_order=1, strong_order=1)

    def step(self, model, x, s, t, memory, noise) -> Step:
        h = t.lam - s.lam
        fresh = -math.expm1(-2 * h)
        mean = t.sigma / s.sigma * math.exp(-h) * x + t.alpha * fresh * model(x, s).x0
        if callable(self.variance):
            variance = self.variance(s, t)
        else:
            variance = fresh * (s.sigma if self.variance == "beta" else t.sigma) ** 2
        return Step(mean + math.sqrt(variance) * noise(s, t, x))


@SOLVERS.add("ddpm.beta")
def _ddpm_beta() -> Solver:
    """DDPM ancestral sampling with the large variance beta."""
    return DDPM("beta")


@SOLVERS.add("ddpm.beta_tilde")
def _ddpm_beta_tilde() -> Solver:
    """DDPM ancestral sampling with the small variance beta-tilde."""
    return DDPM("beta_tilde")
