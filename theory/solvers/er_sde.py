"""ER-SDE-Solvers: Taylor-Adams methods in k = sigma/alpha for reverse SDEs of a chosen noise profile."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from theory.models import Answered
from theory.phi import weights_at
from theory.solvers.base import SOLVERS, Facts, Solver, Step, combined, extra

_NODES, _WEIGHTS = (part.tolist() for part in np.polynomial.legendre.leggauss(16))
PANEL = 1.0
"""Longest panel in lambda of the 16-point rule: the integrals of ``growing`` are then exact to rounding."""


def ode(k: float) -> float:
    """phi(k) = k: no noise, the probability-flow ODE."""
    return k


def sde(k: float) -> float:
    """phi(k) = k^2: the reverse SDE."""
    return k * k


def growing(k: float) -> float:
    """phi(k) = k (e^{k^0.3} + 10), the authors' choice: little noise, and ever less towards k = 0."""
    return k * (math.exp(k**0.3) + 10)


@dataclass(frozen=True)
class ERSDE(Solver):
    r"""Extended reverse SDEs in y = x / alpha, with the polynomial in k through the last ``points`` predictions D.

    For an increasing phi with phi / k not falling, and eta = k phi'/phi - 1 >= 0 the squared amplitude of the noise,

        dy = (phi'/phi) (y - D) dk + sqrt(2 eta k) dw      (k running down),

        y_t = r y_s + int_{k_t}^{k_s} (phi(k_t) / phi(k)) (phi'(k) / phi(k)) D dk + sqrt(k_t^2 - r^2 k_s^2) z,

    r = phi(k_t) / phi(k_s). phi = ``ode`` has no noise, ``sde`` is the reverse SDE, and with one point DDPM with the
    variance beta-tilde; k^{1 + eta} has the constant eta of SDEDPM. The moments of the weight in v = (k_s - k) /
    (k_s - k_t) are, by parts,  1 - r  and  n int_0^1 (1 - phi(k_t)/phi(k)) v^{n-1} dv,  by Gauss-Legendre in lambda.

    released: three points as in the released code, whose D' is the last difference without the correction by the one
    before. It has order 2 from any start. start: takes the first points - 1 steps, memoryless.

    Exact in mean and law for D a polynomial of degree points - 1 in k. Order min(points, 2) as the first step is of
    one point, ``points`` from an accurate start. Weak order min(points, 2), strong order 1.
    phi must be a function of a module if the solver is to be sent to another process.

    Raises ValueError for points other than 1, 2, 3, and in a step over which phi / k falls.
    Source: cui2023er; here with the integrals to rounding in place of a sum of 100 terms.
    """

    points: int = 3
    phi: Callable[[float], float] = growing
    released: bool = False
    start: Solver | None = None

    def __post_init__(self):
        if self.points not in (1, 2, 3):
            raise ValueError(f"points must be 1, 2 or 3; got points={self.points}.")

    @property
    def facts(self) -> Facts:
        started = 1 if self.start is None else self.start.facts.order or 0
        order = min(self.points, started + 1, 2 if self.released else 3)
        more, several = extra(self.start, self.points), self.points > 1
        if self.phi is ode:
            return Facts(order=order, evaluations=1, start_up=more, multistep=several)
        weak = min(order, 2)
        return Facts(order, 1, stochastic=True, weak_order=weak, strong_order=1, start_up=more, multistep=several)

    def step(self, model, x, s, t, memory, noise) -> Step:
        prediction = model(x, s)
        history = ((s, prediction.x0), *(memory or ()))
        kept = history[: self.points - 1] or None
        if self.start is not None and len(history) < self.points:
            return Step(self.start.step(Answered(model, x, s, prediction), x, s, t, None, noise).x, memory=kept)
        s_lam, t_lam = float(s.lam), float(t.lam)
        moments = self._moments(s_lam, t_lam, len(history))
        places = [float((s.k - at.k) / (s.k - t.k)) for at, _ in history]
        weights = self._weights(places, moments)
        terms = [(t.alpha * weight, x0) for weight, (_, x0) in zip(weights, history, strict=True)]
        if self.phi is not ode:
            # 1 - (r k_s / k_t)^2, with no difference of squares
            fresh = -math.expm1(2 * (self._log_ratio(s_lam, t_lam) + t_lam - s_lam))
            if fresh < -1e-12:
                raise ValueError(f"phi must make phi(k) / k rise with k; it falls from k={t.k:.6g} to k={s.k:.6g}.")
            terms.append((t.sigma * math.sqrt(max(fresh, 0.0)), noise(s, t, x)))
        return Step(combined(t.alpha / s.alpha * (1 - moments[0]), x, *terms), memory=kept)

    def _log_ratio(self, s_lam: float, t_lam: float) -> float:
        """log(phi(k_t) / phi(k_s))."""
        return math.log(self.phi(math.exp(-t_lam)) / self.phi(math.exp(-s_lam)))

    def _moments(self, s_lam: float, t_lam: float, count: int) -> list[float]:
        """Of v^0, v^1, ..., under the weight with which D enters."""
        moments = [-math.expm1(self._log_ratio(s_lam, t_lam))] + [0.0] * (count - 1)
        if count == 1:
            return moments
        h, panels = t_lam - s_lam, math.ceil((t_lam - s_lam) / PANEL)
        width = h / panels
        whole = -math.expm1(-h)
        for panel in range(panels):
            for node, weight in zip(_NODES, _WEIGHTS, strict=True):
                lam = s_lam + (panel + 0.5 * (1 + node)) * width
                v = -math.expm1(s_lam - lam) / whole
                density = 0.5 * width * weight * math.exp(s_lam - lam) / whole
                kept = -math.expm1(self._log_ratio(lam, t_lam))
                for n in range(1, count):
                    moments[n] += density * kept * n * v ** (n - 1)
        return moments

    def _weights(self, places: list[float], moments: list[float]) -> list[float]:
        """Of the predictions at v = places, the newest at 0."""
        if self.released and len(places) == 3:
            _, first, second = places  # D' = d(0, first), D''/2 = the second divided difference
            bend = moments[2]
            slope = moments[1]
            low, high = 1 / (first * (first - second)), 1 / (second * (second - first))
            return [
                moments[0] - slope / first + bend * (1 / (first * second)),
                slope / first + bend * low,
                bend * high,
            ]
        return weights_at(places, moments)


@SOLVERS.add("er_sde.1")
def _er_sde_1() -> Solver:
    """ER-SDE-Solver of one point, with the authors' noise."""
    return ERSDE(1)


@SOLVERS.add("er_sde.2")
def _er_sde_2() -> Solver:
    """ER-SDE-Solver of two points, with the authors' noise."""
    return ERSDE(2)


@SOLVERS.add("er_sde.3")
def _er_sde_3() -> Solver:
    """ER-SDE-Solver of three points, with the authors' noise."""
    return ERSDE(3)
