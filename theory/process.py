"""Noise processes: x_t = alpha_t x_0 + sigma_t eps, with t = 0 the data end and t = t_max the noise end, always."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from toy_distributions.registry import Registry

Scalar = float | Tensor


class Level(NamedTuple):
    """One noise level: time, alpha, sigma and their time derivatives.

    Python floats on grids; tensors of the batch shape of x where the time varies by point.
    """

    t: Scalar
    alpha: Scalar
    sigma: Scalar
    alpha_dot: Scalar
    sigma_dot: Scalar

    @property
    def lam(self) -> Scalar:
        """Half the log signal-to-noise ratio, log(alpha / sigma): -inf where alpha = 0, +inf where sigma = 0."""
        if isinstance(self.alpha, Tensor) or isinstance(self.sigma, Tensor):
            return torch.log(torch.as_tensor(self.alpha)) - torch.log(torch.as_tensor(self.sigma))
        if self.sigma == 0:
            return math.inf
        return math.log(self.alpha / self.sigma) if self.alpha > 0 else -math.inf

    @property
    def k(self) -> Scalar:
        """sigma / alpha, called sigma in EDM and k-diffusion and rho in DEIS: +inf where alpha = 0."""
        if not isinstance(self.alpha, Tensor) and self.alpha == 0:
            return math.inf
        return self.sigma / self.alpha

    @property
    def lam_dot(self) -> Scalar:
        """d lambda / dt = alpha' / alpha - sigma' / sigma, negative."""
        return self.alpha_dot / self.alpha - self.sigma_dot / self.sigma


PROCESSES: Registry[type["NoiseProcess"]] = Registry("process", "processes")


class NoiseProcess(ABC):
    r"""A schedule (alpha_t, sigma_t) for 0 <= t <= t_max with its exact inverse in lambda = log(alpha / sigma).

    lambda falls strictly in t. lambda is the primary variable: 1 - alpha^2 is never formed, since it has lost all
    digits where sigma is small.

    The linear SDE dx = f x dt + g dw with these marginals has f = d log alpha / dt and g^2 = -2 sigma^2 d lambda / dt.
    """

    t_max: float

    @abstractmethod
    def _at(self, t: Any, m: Any) -> tuple[Scalar, Scalar, Scalar, Scalar]:
        """alpha, sigma, alpha', sigma' at t; m is math or torch."""

    @abstractmethod
    def _time_at(self, lam: Any, m: Any) -> Any:
        """The time at which log(alpha / sigma) = lam; m is math or torch."""

    def level(self, t: Scalar) -> Level:
        """The level at time t, a number or a tensor in [0, t_max]. Raises ValueError outside."""
        if isinstance(t, Tensor):
            low, high = (t.min().item(), t.max().item()) if t.numel() else (0.0, 0.0)
        else:
            t = low = high = float(t)
        if not (low >= 0 and high <= self.t_max):
            raise ValueError(f"t must lie in [0, {self.t_max}] for {self!r}; got values from {low} to {high}.")
        return Level(t, *self._at(t, torch if isinstance(t, Tensor) else math))

    def level_at(self, lam: Scalar) -> Level:
        """The level at log(alpha / sigma) = lam. Raises ValueError if the process never reaches it."""
        return self.level(self.time_at(lam))

    def time_at(self, lam: Any) -> Any:
        """The time at which log(alpha / sigma) = lam: the exact, smooth inverse. Raises ValueError out of reach."""
        if isinstance(lam, Tensor):
            low, high = (lam.min().item(), lam.max().item()) if lam.numel() else (0.0, 0.0)
        else:
            lam = low = high = float(lam)
        first, last = self.lam_range
        slack = 1e-12 * max(1.0, abs(low), abs(high))
        if not (low >= first - slack and high <= last + slack):
            raise ValueError(
                f"lambda must lie in [{first:.6g}, {last:.6g}] for {self!r}; got values from {low:.6g} to {high:.6g}."
            )
        if isinstance(lam, Tensor):
            return self._time_at(lam, torch).clamp(0.0, self.t_max)
        return min(max(self._time_at(lam, math), 0.0), self.t_max)

    @property
    def lam_range(self) -> tuple[float, float]:
        """(lambda at t_max, lambda at 0): the noisy end first, as grids run."""
        return float(self.level(self.t_max).lam), float(self.level(0.0).lam)

    def drift(self, t: Scalar) -> Scalar:
        """f(t) = alpha' / alpha of the forward SDE dx = f x dt + g dw. Raises ValueError where alpha = 0."""
        at = self._inner(t)
        return at.alpha_dot / at.alpha

    def diffusion_squared(self, t: Scalar) -> Scalar:
        """g(t)^2 = -2 sigma^2 d lambda / dt = 2 sigma (sigma' - sigma alpha' / alpha) of the forward SDE.

        Raises ValueError where alpha = 0 or sigma = 0: it is a limit there, or infinite.
        """
        at = self._inner(t)
        return 2 * at.sigma * (at.sigma_dot - at.sigma * at.alpha_dot / at.alpha)

    def _inner(self, t: Scalar) -> Level:
        at = self.level(t)
        for name, value in (("alpha", at.alpha), ("sigma", at.sigma)):
            if bool((value == 0).any()) if isinstance(value, Tensor) else value == 0:
                raise ValueError(f"the SDE's coefficients need alpha > 0 and sigma > 0; got {name}=0 at t={t}.")
        return at


@PROCESSES.add("vp_linear")
@dataclass(frozen=True)
class VPLinear(NoiseProcess):
    """Variance preserving with beta linear in t (DDPM in continuous time).

    B(t) = beta_min t + (beta_max - beta_min) t^2 / 2, alpha = e^{-B/2}, sigma^2 = 1 - e^{-B} = -expm1(-B).
    Source: song2020score, eq. 32-33; ho2020ddpm, section 4.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_max: float = 1.0

    def _at(self, t, m):
        b = self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t * t
        beta = self.beta_min + (self.beta_max - self.beta_min) * t
        alpha, sigma = m.exp(-0.5 * b), m.sqrt(-m.expm1(-b))
        return alpha, sigma, -0.5 * beta * alpha, _ratio(0.5 * beta * alpha * alpha, sigma)

    def _time_at(self, lam, m):
        b = _softplus(-2 * lam, m)  # alpha^2 = sigmoid(2 lambda) = e^{-B}
        return 2 * b / (self.beta_min + m.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * b))


@PROCESSES.add("vp_cosine")
@dataclass(frozen=True)
class VPCosine(NoiseProcess):
    """Variance preserving with alpha = cos(theta) / cos(theta_0), theta = (pi/2) (t + s) / (1 + s).

    sigma^2 = sin(theta - theta_0) sin(theta + theta_0) / cos^2 theta_0. alpha vanishes at t = 1, so t_max stops short
    of it, as DPM-Solver does. Source: nichol2021improved, eq. 17; lu2022dpm, appendix D.4.
    """

    s: float = 0.008
    t_max: float = 0.9946

    def _at(self, t, m):
        rate = 0.5 * math.pi / (1 + self.s)
        first = rate * self.s
        theta, scale = rate * (t + self.s), 1 / math.cos(first)
        alpha = m.cos(theta) * scale
        sigma = m.sqrt(m.sin(rate * t) * m.sin(theta + first)) * scale
        alpha_dot = -rate * m.sin(theta) * scale
        return alpha, sigma, alpha_dot, _ratio(-alpha * alpha_dot, sigma)

    def _time_at(self, lam, m):
        rate = 0.5 * math.pi / (1 + self.s)
        s0, c0 = math.sin(rate * self.s), math.cos(rate * self.s)
        b = _softplus(-2 * lam, m)
        alpha, variance = m.exp(-0.5 * b), -m.expm1(-b)
        sine = m.sqrt(s0 * s0 + variance * c0 * c0)  # sin(theta), from cos(theta) = alpha cos(theta_0)
        past = c0 * variance / (sine + alpha * s0)  # sin(theta - theta_0) without a difference
        return _atan2(past, alpha * c0 * c0 + sine * s0, m) / rate


@PROCESSES.add("ve")
@dataclass(frozen=True)
class VE(NoiseProcess):
    """Variance exploding: alpha = 1, sigma = sigma_min (sigma_max / sigma_min)^t. At t = 0 sigma is sigma_min, not 0.

    Source: song2020score, eq. 31, without the subtraction of sigma_min^2, as its code has it.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    t_max: float = 1.0

    def _at(self, t, m):
        rate = math.log(self.sigma_max / self.sigma_min)
        sigma = self.sigma_min * m.exp(rate * t)
        return _one(t), sigma, 0.0 * sigma, rate * sigma

    def _time_at(self, lam, m):
        return (-lam - math.log(self.sigma_min)) / math.log(self.sigma_max / self.sigma_min)


@PROCESSES.add("sub_vp")
@dataclass(frozen=True)
class SubVP(NoiseProcess):
    """Sub-VP: alpha = e^{-B/2} as in VPLinear, and the standard deviation sigma = 1 - e^{-B}.

    Source: song2020score, eq. 29; note that 1 - e^{-B} is sigma there and sigma^2 in VP.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_max: float = 1.0

    def _at(self, t, m):
        b = self.beta_min * t + 0.5 * (self.beta_max - self.beta_min) * t * t
        beta = self.beta_min + (self.beta_max - self.beta_min) * t
        alpha = m.exp(-0.5 * b)
        return alpha, -m.expm1(-b), -0.5 * beta * alpha, beta * m.exp(-b)

    def _time_at(self, lam, m):
        b = 2 * m.asinh(0.5 * m.exp(-lam))  # 1/alpha - alpha = 2 sinh(B/2) = e^{-lambda}
        return 2 * b / (self.beta_min + m.sqrt(self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * b))


@PROCESSES.add("edm")
@dataclass(frozen=True)
class EDM(NoiseProcess):
    """alpha = 1, sigma = t. Source: karras2022edm, table 1."""

    t_max: float = 80.0

    def _at(self, t, m):
        return _one(t), t, 0.0 * t, _one(t)

    def _time_at(self, lam, m):
        return m.exp(-lam)


@PROCESSES.add("linear_path")
@dataclass(frozen=True)
class LinearPath(NoiseProcess):
    """alpha = 1 - t, sigma = t: flow matching and rectified flow, with time running from data to noise.

    The papers' own time is 1 - t. Source: lipman2022flow, eq. 20 with sigma_min = 0; liu2022rectified, eq. 1.
    """

    t_max: float = 1.0

    def _at(self, t, m):
        return 1 - t, t, 0.0 * t - 1, _one(t)

    def _time_at(self, lam, m):
        return _sigmoid(-lam, m)


@PROCESSES.add("trigonometric_path")
@dataclass(frozen=True)
class TrigonometricPath(NoiseProcess):
    """alpha = cos(pi t / 2), sigma = sin(pi t / 2): a variance-preserving path from data to noise.

    Source: albergo2022interpolants, eq. 5.
    """

    t_max: float = 1.0

    def _at(self, t, m):
        rate = 0.5 * math.pi
        alpha, sigma = m.sin(rate * (1 - t)), m.sin(rate * t)
        return alpha, sigma, -rate * sigma, rate * alpha

    def _time_at(self, lam, m):
        return m.atan(m.exp(-lam)) / (0.5 * math.pi)


def _one(t: Scalar) -> Scalar:
    return torch.ones_like(t) if isinstance(t, Tensor) else 1.0


def _softplus(z: Any, m: Any) -> Any:
    """log(1 + e^z) without overflow, and with full relative accuracy where it is small."""
    if m is torch:
        return torch.clamp(z, min=0) + torch.log1p(torch.exp(-z.abs()))
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def _sigmoid(z: Any, m: Any) -> Any:
    if m is torch:
        return torch.sigmoid(z)
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def _atan2(y: Any, x: Any, m: Any) -> Any:
    return torch.atan2(y, x) if m is torch else math.atan2(y, x)


def _ratio(top: Scalar, bottom: Scalar) -> Scalar:
    """top / bottom, and +inf where bottom = 0: sigma of a VP process leaves t = 0 like a square root."""
    if isinstance(bottom, Tensor):
        return top / bottom
    return top / bottom if bottom else math.inf
