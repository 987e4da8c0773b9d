"""SDE-DPM-Solver++ and SDE-DPM-Solver: exponential multistep methods for the reverse SDE of any noise level."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from theory.models import Answered
from theory.phi import exponential_moments, weights_at
from theory.prediction import Kind
from theory.solvers.base import SOLVERS, Facts, Solver, Step, combined, extra

Weights = Literal["exact", "released"]


def _weights(places: Sequence[float], z: float, weights: Weights) -> list[float]:
    """``exponential_weights``, or what stands in the code that the authors released: half of int e^{(1-u) z} du in
    place of int e^{(1-u) z} u du for two places, and half the integral of u^2 for three.
    """
    moments = exponential_moments(len(places), z)
    if weights == "released" and len(places) == 2:
        moments[1] = 0.5 * moments[0]
    if weights == "released" and len(places) == 3:
        moments[2] = 0.5 * moments[2]
    return weights_at(places, moments)


@dataclass(frozen=True)
class SDEDPM(Solver):
    r"""Exponential Adams methods for the SDEs that share the marginals, in D ("x0") or e ("eps").

    With noise of amplitude sqrt(eta) g (eta = 1 the reverse SDE, eta = 0 the ODE), in lambda,

        d(x / sigma) = -eta (x / sigma) dlam + (1 + eta) e^lam D dlam + sqrt(2 eta) dw,
        d(x / alpha) = -(1 + eta) e^{-lam} e dlam + sqrt(2 eta) e^{-lam} dw,

    so that, with h = lam_t - lam_s and predictions at lam_s + u h, exactly

        x_t = (sigma_t / sigma_s) e^{-eta h} x_s + alpha_t (1 + eta) h int_0^1 e^{-(1-u)(1+eta) h} D du
              + sigma_t sqrt(1 - e^{-2 eta h}) z,
        x_t = (alpha_t / alpha_s) x_s - sigma_t (1 + eta) h int_0^1 e^{(1-u) h} e du + sigma_t sqrt(eta (e^{2h} - 1)) z.

    The method puts the polynomial through the last ``points`` predictions in place of D or e and integrates it
    exactly; a step takes the points it has, so the first is of one point. The noise is exact. eta = 0 is DDIM,
    DPM-Solver++ 2M, 3M; one point in D with eta = 1 is DDPM with the variance beta-tilde, on any grid.

    weights: "exact"; or "released", the short cuts of the released code: for two points the 2M of the paper, for
    three half the term of D'', which has order 2 from any start. start: takes the first points - 1 steps, memoryless.

    Exact in mean, once started, for D (or e) a polynomial of degree points - 1 in lambda (0 for two points "released"),
    and then exact in law. Order min(points, 2), as a DDIM step errs by O(h^2), which nothing damps; ``points`` from an
    accurate start. Weak order min(points, 2): of the path between nodes no method of this kind sees more than its
    ends, which costs O(h^2) in the covariance. Strong order 1.
    eta is the square of the amplitude, as in k-diffusion, and tau^2 of SA-Solver; EulerMaruyama's eta is the amplitude.
    noise_scale: multiplies the noise; 1 is the method, any other value has no weak order and serves as a control.

    Raises ValueError for points other than 1, 2, 3, eta < 0 and unknown reads or weights.
    Source: lu2022dpmpp, on solvers for diffusion SDEs (eta = 1, one and two points); general eta derived as above.
    """

    points: int = 2
    eta: float = 1.0
    reads: Literal["x0", "eps"] = "x0"
    weights: Weights = "exact"
    start: Solver | None = None
    noise_scale: float = 1.0

    def __post_init__(self):
        if self.points not in (1, 2, 3):
            raise ValueError(f"points must be 1, 2 or 3; got points={self.points}.")
        if not (self.eta >= 0 and math.isfinite(self.eta)):
            raise ValueError(f"eta must be >= 0 and finite; got eta={self.eta}.")
        for name, value, known in (
            ("reads", self.reads, ("x0", "eps")),
            ("weights", self.weights, ("exact", "released")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {name}={value!r}.")

    @property
    def facts(self) -> Facts:
        started = 1 if self.start is None else self.start.facts.order or 0
        order = min(self.points, started + 1, 2 if self.weights == "released" else 3)
        reads, more = Kind.X0 if self.reads == "x0" else Kind.EPS, extra(self.start, self.points)
        if self.eta == 0:
            return Facts(order=order, evaluations=1, reads=reads, start_up=more, multistep=self.points > 1)
        weak = min(self.points, 2) if self.noise_scale == 1 else 0
        strong = 1 if self.noise_scale == 1 else 0
        return Facts(order, 1, True, reads, weak, strong, start_up=more, multistep=self.points > 1)

    def step(self, model, x, s, t, memory, noise) -> Step:
        h, prediction = float(t.lam - s.lam), model(x, s)
        history = ((s, prediction.x0 if self.reads == "x0" else prediction.eps), *(memory or ()))
        kept = history[: self.points - 1] or None
        if self.start is not None and len(history) < self.points:
            return Step(self.start.step(Answered(model, x, s, prediction), x, s, t, None, noise).x, memory=kept)
        if self.reads == "x0":
            z, decay, scale = -(1 + self.eta) * h, t.sigma / s.sigma * math.exp(-self.eta * h), t.alpha
            std = t.sigma * math.sqrt(-math.expm1(-2 * self.eta * h))
        else:
            z, decay, scale = h, t.alpha / s.alpha, -t.sigma
            std = t.sigma * math.sqrt(self.eta * math.expm1(2 * h))
        weights = _weights([float(at.lam - s.lam) / h for at, _ in history], z, self.weights)
        scale *= (1 + self.eta) * h
        terms = [(scale * weight, value) for weight, (_, value) in zip(weights, history, strict=True)]
        if self.eta > 0:
            terms.append((self.noise_scale * std, noise(s, t, x)))
        return Step(combined(decay, x, *terms), memory=kept)


@SOLVERS.add("sde_dpm_pp.1")
def _sde_dpm_pp_1() -> Solver:
    """SDE-DPM-Solver++ of one point: DDPM with the variance beta-tilde."""
    return SDEDPM(1)


@SOLVERS.add("sde_dpm_pp.2m")
def _sde_dpm_pp_2m() -> Solver:
    """SDE-DPM-Solver++ 2M on the reverse SDE, with the paper's weights."""
    return SDEDPM(2, weights="released")


@SOLVERS.add("sde_dpm_pp.3m")
def _sde_dpm_pp_3m() -> Solver:
    """SDE-DPM-Solver++ 3M on the reverse SDE, with exact weights."""
    return SDEDPM(3)


@SOLVERS.add("sde_dpm.1")
def _sde_dpm_1() -> Solver:
    """SDE-DPM-Solver of one point, in the noise prediction."""
    return SDEDPM(1, reads="eps")


@SOLVERS.add("sde_dpm.2m")
def _sde_dpm_2m() -> Solver:
    """SDE-DPM-Solver 2M, in the noise prediction, with the paper's weights."""
    return SDEDPM(2, reads="eps", weights="released")
