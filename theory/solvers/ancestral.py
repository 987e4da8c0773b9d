"""Ancestral sampling around a deterministic step: past the target without noise, then noise back up to it."""

import math
from dataclasses import dataclass, field

from theory.prediction import Kind
from theory.process import Level
from theory.solvers.base import SOLVERS, Exactness, Facts, Solver, Step, combined
from theory.solvers.dpm_pp import DPMpp2S
from theory.solvers.euler_heun import Euler


@SOLVERS.add("midpoint.geometric")
@dataclass(frozen=True)
class GeometricMidpoint(Solver):
    r"""DPM2 of k-diffusion: the slope dy/dk = eps, y = x / alpha, at the geometric mean of the ends in k.

        y_m = y_s + (k_m - k_s) eps_s,   k_m = sqrt(k_s k_t),      y_t = y_s + (k_t - k_s) eps(alpha_m y_m, k_m).

    Order 2 in h_max: k_m is (k_s + k_t) / 2 up to O(h^2). Exact for eps constant along the trajectory. It is
    DPM-Solver-2 with r1 = 1/2: the weight 1 / (2 r1) leaves the middle prediction alone, sigma_t (e^h - 1) is
    alpha_t (k_s - k_t), and the middle in lambda is this mean in k.
    Source: crowson2022kdiffusion, sample_dpm_2.
    """

    @property
    def facts(self) -> Facts:
        return Facts(order=2, evaluations=2, reads=Kind.EPS, exact=Exactness(Kind.EPS, "k", 0))

    def step(self, model, x, s, t, memory, noise) -> Step:
        m = model.process.level_at(0.5 * (s.lam + t.lam))
        u = combined(m.alpha / s.alpha, x, (m.alpha * (m.k - s.k), model(x, s).eps))
        return Step(combined(t.alpha / s.alpha, x, (t.alpha * (t.k - s.k), model(u, m).eps)))


@SOLVERS.add("euler.ancestral")
@dataclass(frozen=True)
class Ancestral(Solver):
    r"""An inner solver's step past the target, to k_down, then fresh noise back up to k_t, in y = x / alpha:

        k_up^2 = eta^2 k_t^2 (1 - e^{-2h}),   k_down^2 = k_t^2 - k_up^2,   y_t = inner(y_s; k_s -> k_down) + k_up z.

    On a process with alpha = 1 that is k-diffusion's recipe; on others it is the same in y, and not in x. With an exact
    inner flow the law is exact, since noise added to the law at k_down gives that at k_t: so the law has the order of
    the inner solver. Strong order 1. Around Euler in k it is DDIM with the same eta, for eta = 1 DDPM with the variance
    beta-tilde; around DPM2 (``GeometricMidpoint``) and DPM-Solver++ 2S it is DPM2-a and DPM++2S-a.

    inner: a solver without memory. One that calls the model at the end of its step calls it at k_down, which the
    process may not reach on its last step: then that level has no time, and the run is refused as not finite.
    noise_scale: multiplies k_up z; 1 is the method, any other value has no weak order and serves as a control.
    Raises ValueError for eta outside [0, 1] and a multistep inner solver.
    Source: crowson2022kdiffusion, get_ancestral_step and the samplers euler_ancestral, dpm_2_ancestral,
    dpmpp_2s_ancestral; for Euler song2020ddim, eq. 16.
    """

    inner: Solver = field(default_factory=Euler)
    eta: float = 1.0
    noise_scale: float = 1.0

    def __post_init__(self):
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in [0, 1]; got eta={self.eta}.")
        if self.inner.facts.multistep:
            raise ValueError(f"inner must be a solver of single steps; got {self.inner!r}.")

    @property
    def facts(self) -> Facts:
        inner = self.inner.facts
        if self.eta == 0:
            return inner
        order, strong = (inner.order, 1) if self.noise_scale == 1 else (0, 0)
        return Facts(order, inner.evaluations, True, inner.reads, weak_order=order, strong_order=strong)

    def step(self, model, x, s, t, memory, noise) -> Step:
        fresh = -math.expm1(2 * (s.lam - t.lam))
        lam = t.lam - 0.5 * math.log1p(-(self.eta**2) * fresh)
        if lam <= model.process.lam_range[1]:
            down = model.process.level_at(lam)
        else:
            down = Level(math.nan, t.alpha, t.alpha * math.exp(-lam), math.nan, math.nan)
        x = t.alpha / down.alpha * self.inner.step(model, x, s, down, None, noise).x
        if self.eta == 0:
            return Step(x)
        return Step(x + (self.noise_scale * self.eta * t.sigma * math.sqrt(fresh)) * noise(s, t, x))


@SOLVERS.add("dpm_2.ancestral")
def _dpm_2_ancestral() -> Solver:
    """DPM2-a of k-diffusion: ancestral noise around the geometric midpoint rule in k."""
    return Ancestral(GeometricMidpoint())


@SOLVERS.add("dpm_pp.2s_ancestral")
def _dpm_pp_2s_ancestral() -> Solver:
    """DPM++2S-a of k-diffusion: ancestral noise around DPM-Solver++ 2S."""
    return Ancestral(DPMpp2S())
