"""Paths: analytic maps from parameters to points, with differences and bounds to full relative accuracy."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor


class Path(ABC):
    """gamma: one or more arcs t -> R^dim, each on [start, start + length], with a weight of every parameter.

    The parameters come as tensors: ``arc`` (m,) of indices, and ``t`` (m,) or (m, n) in float64. Everything is
    analytic in t, and the bounds hold in the complex plane.
    """

    start: Tensor
    """(arcs,)."""
    length: Tensor
    """(arcs,)."""

    @property
    @abstractmethod
    def dim(self) -> int: ...

    @property
    @abstractmethod
    def width(self) -> int:
        """Numbers held for each t while a place or a bend is computed."""

    @abstractmethod
    def place(self, arc: Tensor, t: Tensor) -> Tensor:
        """gamma(t), the shape of t and (dim,)."""

    @abstractmethod
    def velocity(self, arc: Tensor, t: Tensor) -> Tensor:
        """gamma'(t), the shape of t and (dim,)."""

    @abstractmethod
    def bend(self, arc: Tensor, t: Tensor, h: Tensor) -> Tensor:
        """gamma(t + h) - gamma(t) - h gamma'(t) to full relative accuracy, t (m,) and h (m, n): (m, n, dim)."""

    @abstractmethod
    def acceleration(self, arc: Tensor, t: Tensor, radius: Tensor) -> Tensor:
        """A bound on |gamma''(z)| over complex z within ``radius`` (m, n) of t (m,): (m, n)."""

    @abstractmethod
    def log_weight(self, arc: Tensor, t: Tensor) -> Tensor:
        """Log of a density of t, up to a constant, the shape of t."""

    @abstractmethod
    def to(self, device: torch.device | str | None) -> Self:
        """The same path on another device."""


@dataclass(frozen=True, eq=False)
class Waves(Path):
    r"""gamma(t) = a + b t + sum_k A_k cos(k t) + B_k sin(k t) + t [ C_k cos(k t) + D_k sin(k t) ].

    frequencies k > 0: (K,), K may be 0. origin a and line b: (arcs, dim). coefficients: (arcs, 2, 2 K, dim), for each
    arc the vectors A, then B, and the vectors C, then D. start, length: (arcs,).
    density: of the points with respect to arc length, as a positive analytic function of t; one unless given.

    |A cos z + B sin z| <= m sqrt(cosh(2 Im z)) with m the largest singular value of [A B], which bounds gamma''.
    """

    frequencies: Tensor
    origin: Tensor
    line: Tensor
    coefficients: Tensor
    start: Tensor
    length: Tensor
    density: Callable[[Tensor], Tensor] | None = None

    @property
    def dim(self) -> int:
        return self.origin.shape[-1]

    @property
    def width(self) -> int:
        return max(1, (4 if self._grows else 2) * len(self.frequencies))

    @cached_property
    def _turns(self) -> Tensor:
        """The matrices that take coefficients of cos and sin to those of the derivative."""
        K = len(self.frequencies)
        out = self.frequencies.new_zeros(2 * K, 2 * K)
        out[:K, K:], out[K:, :K] = torch.diag(self.frequencies), -torch.diag(self.frequencies)
        return out

    @cached_property
    def _grows(self) -> bool:
        return bool(self.coefficients[:, 1].any())

    @cached_property
    def _sizes(self) -> Tensor:
        return _largest_singular(self.coefficients.unflatten(2, (2, len(self.frequencies))))

    def place(self, arc: Tensor, t: Tensor) -> Tensor:
        return self._along(self.origin, self.line, self.coefficients[:, 0], self.coefficients[:, 1], arc, t)

    def velocity(self, arc: Tensor, t: Tensor) -> Tensor:
        steady, growing = self.coefficients.unbind(1)
        still = torch.zeros_like(self.line)
        return self._along(self.line, still, self._turns @ steady + growing, self._turns @ growing, arc, t)

    def bend(self, arc: Tensor, t: Tensor, h: Tensor) -> Tensor:
        angle = (t.unsqueeze(-1) * self.frequencies).unsqueeze(-1)
        cos, sin = angle.cos(), angle.sin()
        half = h.unsqueeze(-1) * (self.frequencies / 2)
        sin_half, cos_half = half.sin(), half.cos()
        less_one, sine = -2 * sin_half**2, 2 * sin_half * cos_half  # cos(kh) - 1 and sin(kh)

        def turned(coefficients: Tensor) -> Tensor:
            A, B = coefficients[arc].chunk(2, -2)
            return torch.cat([cos * A + sin * B, cos * B - sin * A], -2)

        waves = torch.cat([less_one, _sine_less_angle(2 * half, sine)], -1)
        steady = turned(self.coefficients[:, 0])
        if not self._grows:
            return waves @ steady
        growing = turned(self.coefficients[:, 1])
        more = torch.cat([less_one, sine], -1) @ growing
        return waves @ (steady + t[:, None, None] * growing) + h.unsqueeze(-1) * more

    def acceleration(self, arc: Tensor, t: Tensor, radius: Tensor) -> Tensor:
        k, radius = self.frequencies, radius.unsqueeze(-1)
        rise = torch.cosh(2 * k * radius).sqrt() * k
        steady, growing = self._sizes[arc].unsqueeze(1).unbind(2)
        if self._grows:
            return (rise * (k * (steady + (t[:, None, None].abs() + radius) * growing) + 2 * growing)).sum(-1)
        return (rise * k * steady).sum(-1)

    def log_weight(self, arc: Tensor, t: Tensor) -> Tensor:
        speed = self.velocity(arc, t).square().sum(-1).log() / 2
        return speed if self.density is None else speed + self.density(t).log()

    def to(self, device: torch.device | str | None) -> Self:
        parts = ("frequencies", "origin", "line", "coefficients", "start", "length")
        return replace(self, **{part: getattr(self, part).to(device) for part in parts})

    def _along(self, a: Tensor, b: Tensor, steady: Tensor, growing: Tensor, arc: Tensor, t: Tensor) -> Tensor:
        """a + b t + (cos and sin) @ (steady + t growing), for t (m,) or (m, n)."""
        column = t.unsqueeze(-1)
        angle = column * self.frequencies
        waves = torch.cat([angle.cos(), angle.sin()], -1)
        if self._grows:
            waves = torch.cat([waves, column * waves], -1)
            steady = torch.cat([steady, growing], -2)
        if len(a) == 1:
            return torch.addcmul(a[0], column, b[0]) + waves @ steady[0]
        if t.ndim == 1:
            return a[arc] + column * b[arc] + (waves.unsqueeze(1) @ steady[arc]).squeeze(1)
        return a[arc].unsqueeze(1) + column * b[arc].unsqueeze(1) + waves @ steady[arc]


def _largest_singular(pair: Tensor) -> Tensor:
    """The largest singular value of the matrices [A B], for A and B stacked along the last axis but two."""
    A, B = pair.unbind(-3)
    a, b, c = (A * A).sum(-1), (B * B).sum(-1), (A * B).sum(-1)
    return ((a + b + torch.hypot(a - b, 2 * c)) / 2).sqrt()


def _sine_less_angle(y: Tensor, sine: Tensor) -> Tensor:
    """sin(y) - y without cancellation, given sin(y)."""
    small = y.clamp(-0.5, 0.5)
    square, series = small**2, torch.zeros_like(y)
    for n in range(8, 0, -1):  # the first term left out is below 1e-19 of the sum
        series = (1 + series) * square * (-1 / (2 * n * (2 * n + 1)))
    return torch.where(y.abs() < 0.5, small * series, sine - y)
