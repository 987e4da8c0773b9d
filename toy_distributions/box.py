"""Box: the uniform law on a box in any dimension, blurred or not."""

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from toy_distributions import normal, shapes
from toy_distributions.base import Distribution
from toy_distributions.gauss import rule
from toy_distributions.pieces import in_pieces
from toy_distributions.shapes import Scalar

NODES = 64
"""Gauss-Legendre nodes on the part of a side where the density is above e^-DEPTH of its largest value."""

DEPTH = 40.0


class Box(Distribution):
    r"""x_0 = u + tau zeta with u uniform on the box prod_i [a_i, b_i] and zeta ~ N(0, I). Coordinates are independent.

    Per coordinate, with S = alpha^2 tau^2 + sigma^2 and n(u) = exp(-(x - alpha u)^2 / (2 S)), u given x has the
    density n on [a, b] up to its mass, and with m, v its mean and variance and A the average of n over [a, b],

        log p(x)    = log A - (1/2) log(2 pi S)                                                   (at alpha = 1)
        score(x)    = [n(a) - n(b)] / ((b - a) A)
        E[x_0|x]    = (sigma^2 / S) m + (alpha tau^2 / S) x
        Var[x_0|x]  = tau^2 sigma^2 / S + (sigma^2 / S)^2 v.

    A and v are positive sums over Gauss-Legendre nodes, m follows from the score, so nothing cancels at any sigma.

    low, high: (dim,) or numbers (dim = 1), low < high in every coordinate; blur tau >= 0. Without blur the density is
    1/volume on the closed box; outside, log_prob is -inf and the score is infinite towards the box, which are the
    limits of small blur. 1-D boxes have a cdf at every blur.

    Raises ValueError for shapes that differ, low >= high, a negative blur.
    """

    def __init__(
        self,
        low: Tensor | Sequence[float] | float,
        high: Tensor | Sequence[float] | float,
        blur: float = 0.0,
    ):
        low, high = shapes.floating("low", low), shapes.floating("high", high)
        low, high = low.reshape(-1) if low.ndim == 0 else low, high.reshape(-1) if high.ndim == 0 else high
        if low.ndim != 1 or low.shape != high.shape or low.numel() == 0:
            raise ValueError(
                f"low and high must both have shape (dim,); got {tuple(low.shape)} and {tuple(high.shape)}."
            )
        for i in (low >= high).nonzero().flatten().tolist():
            raise ValueError(
                f"low must be < high in every coordinate; got low[{i}]={low[i].item()}, high[{i}]={high[i].item()}."
            )
        self._fill(low, high.to(low), shapes.number("blur", blur))

    def _fill(self, low: Tensor, high: Tensor, blur: float) -> None:
        self.low, self.high, self.blur = low, high, blur
        self.dim, self.dtype, self.device = low.shape[0], low.dtype, low.device

    @classmethod
    def _built(cls, low: Tensor, high: Tensor, blur: float) -> Self:
        law = object.__new__(cls)
        law._fill(low, high, blur)
        return law

    @property
    def mean(self) -> Tensor:
        return 0.5 * (self.low + self.high)

    @property
    def cov(self) -> Tensor:
        return torch.diag((self.high - self.low) ** 2 / 12 + self.blur**2)

    @property
    def singular(self) -> bool:
        return self.blur == 0 and bool((self.low == self.high).any())  # only after noised(0, 0)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        low, high = (side.to(device=device, dtype=dtype) for side in (self.low, self.high))
        return self._built(low, high, self.blur)

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        n = shapes.count("n", n)
        u = torch.rand(n, self.dim, dtype=self.dtype, device=self.device, generator=generator)
        zeta = torch.randn(n, self.dim, dtype=self.dtype, device=self.device, generator=generator)
        return self.low + (self.high - self.low) * u + self.blur * zeta

    def noised(self, alpha: float, sigma: float) -> Self:
        alpha, sigma = float(alpha), float(sigma)
        shapes.level(alpha, sigma)
        return self._built(alpha * self.low, alpha * self.high, math.hypot(alpha * self.blur, sigma))

    def _log_prob(self, x: Tensor) -> Tensor:
        if self.blur == 0:
            inside = ((self.low <= x) & (x <= self.high)).all(-1)
            volume = (self.high - self.low).log().sum()
            return torch.where(inside, -volume, -math.inf)

        return self._noised_log_prob(x, 1.0, 0.0)

    def _noised_log_prob(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        def formula(x, alpha, sigma):
            alpha, sigma = shapes.column(alpha), shapes.column(sigma)
            spread = torch.as_tensor((alpha * self.blur) ** 2 + sigma**2, dtype=x.dtype, device=x.device)
            side = self._side(x, alpha, spread)
            return (side.average.log() - side.out**2 / 2 - 0.5 * (2 * math.pi * spread).log()).sum(-1)

        return in_pieces(formula, x, alpha, sigma, per_point=self.dim * NODES)

    def _score(self, x: Tensor) -> Tensor:
        if self.blur == 0:
            towards = torch.where(x < self.low, math.inf, torch.where(x > self.high, -math.inf, 0.0))
            return towards.to(x.dtype)

        def formula(x, alpha, sigma):
            side = self._side(x, 1.0, self.blur**2)
            return side.pull * (self.mean - x) / self.blur**2

        return in_pieces(formula, x, 1.0, 0.0, per_point=self.dim * NODES)

    def _posterior_mean(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        def formula(x, alpha, sigma):
            alpha, sigma = shapes.column(alpha), shapes.column(sigma)
            spread = (alpha * self.blur) ** 2 + sigma**2
            side = self._side(x, alpha, spread)
            return sigma**2 / spread * side.mean + alpha * self.blur**2 / spread * x

        return in_pieces(formula, x, alpha, sigma, per_point=self.dim * NODES)

    def _posterior_cov(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        def formula(x, alpha, sigma):
            alpha, sigma = shapes.column(alpha), shapes.column(sigma)
            spread = (alpha * self.blur) ** 2 + sigma**2
            side = self._side(x, alpha, spread)
            return torch.diag_embed(self.blur**2 * sigma**2 / spread + (sigma**2 / spread) ** 2 * side.variance)

        return in_pieces(formula, x, alpha, sigma, per_point=self.dim * max(NODES, self.dim))

    def _side(self, x: Tensor, alpha: Scalar, spread: Scalar) -> "_Side":
        return _side(x, self.low, self.high, alpha, spread)

    def _cdf(self, x: Tensor) -> Tensor:
        low, high = self.low[0], self.high[0]
        if self.blur == 0:
            return ((x.clamp(low, high) - low) / (high - low)) if bool(high > low) else (x >= low).to(x.dtype)
        if bool(high - low < 8 * self.blur):  # Phi is smooth over the box
            node, weight = (part.to(x) for part in rule(NODES))
            u = low + (high - low) * node
            return normal.cdf((x.unsqueeze(-1) - u) / self.blur) @ weight
        from_low, from_high = ((x - edge) / self.blur for edge in (low, high))
        rounding = normal.tail_integral(from_low.abs()) - normal.tail_integral(from_high.abs())
        return (x.clamp(low, high) - low + self.blur * rounding) / (high - low)

    def __repr__(self) -> str:
        low, high = ([round(v, 6) for v in side.tolist()[:4]] for side in (self.low, self.high))
        more = ", ..." if self.dim > 4 else ""
        blur = f", blur {self.blur:.6g}" if self.blur else ""
        return f"Box(from {low}{more} to {high}{more}{blur} in R^{self.dim})"


class _Side(NamedTuple):
    """One side [a, b] of the box seen from x: the law of u with density n(u) = exp(-(x - alpha u)^2 / (2 S))."""

    out: Tensor
    """Distance of x from alpha times the point that was looked from, in units of sqrt(S)."""
    average: Tensor
    """Average of n over [a, b], divided by e^{-out^2/2}."""
    pull: Tensor
    """(alpha E u - x) / (alpha c - x) for the centre c of the side: how far from x to the centre the mean lies."""
    mean: Tensor
    variance: Tensor


def _side(x: Tensor, low: Tensor, high: Tensor, alpha: Scalar, spread: Scalar) -> _Side:
    """The moments of u for x (n, dim), low and high (dim,), and alpha and spread numbers or (n, 1).

    Everything is measured from the point of the side nearest to x / alpha or, where the whole side lies within one
    standard deviation, from its centre.
    """
    alpha, spread = (torch.as_tensor(v, dtype=x.dtype, device=x.device) for v in (alpha, spread))
    root, width, centre = spread.sqrt(), high - low, (low + high) / 2
    below, above = x < alpha * low, x > alpha * high
    within = ~(below | above)
    wide = within & (alpha * width < root)
    top = torch.where(below, low, torch.where(above, high, x / alpha.where(alpha > 0, 1.0)))
    top = torch.where(wide, centre, torch.minimum(torch.maximum(top, low), high))
    out = torch.where(within & ~wide, 0.0, (alpha * top - x) / root)
    # the part [top + left, top + right] of the side where n is above e^-DEPTH of its largest value
    reach = 2 * DEPTH / (out.abs() + (out**2 + 2 * DEPTH).sqrt())
    limits = torch.finfo(x.dtype)
    reach = torch.where(wide, width, reach * (root / alpha.clamp_min(limits.tiny)).clamp_max(limits.max**0.5))
    left, right = torch.maximum(low - top, -reach), torch.minimum(high - top, reach)
    node, weight = (part.to(x) for part in rule(NODES))
    length = right - left
    step = left.unsqueeze(-1) + length.unsqueeze(-1) * node
    z = step * (alpha / root).unsqueeze(-1)
    bell = torch.exp(-z * (out.unsqueeze(-1) + z / 2)) * weight
    mass = bell.sum(-1)
    shift = (bell * step).sum(-1) / mass
    variance = (bell * (step - shift.unsqueeze(-1)) ** 2).sum(-1) / mass
    average = torch.where(width > 0, length / width.where(width > 0, 1.0), 1.0) * mass
    # (n(a) - n(b)) / (average (b - a)) = (alpha c - x) pull / S, from the larger of the two
    inwards = torch.minimum(x - alpha * low, alpha * high - x) / root
    edge = torch.where(within, torch.exp((out - inwards) * (out + inwards) / 2), 1.0)
    tilt = (alpha * width / root) * ((alpha * centre - x).abs() / root)
    safe = tilt.where(tilt > 1e-9, 1.0)
    pull = edge / average * torch.where(tilt > 1e-9, -torch.expm1(-safe) / safe, 1 - tilt / 2)
    mean = torch.where(within & ~wide, top + pull * (centre - top), top + shift)
    return _Side(out, average, pull, mean, variance)
