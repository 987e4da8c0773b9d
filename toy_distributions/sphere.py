"""Sphere: the uniform law on a sphere in any dimension, blurred or not; Circle is the sphere in the plane."""

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from toy_distributions import bessel, shapes
from toy_distributions.base import Distribution
from toy_distributions.shapes import Scalar


class Sphere(Distribution):
    r"""x_0 = c + R u + tau zeta with u uniform on the unit sphere of R^d and zeta ~ N(0, I); d = 1 is two points.

    With y = x - alpha c, S = alpha^2 tau^2 + sigma^2, kappa = alpha R |y| / S and q = E[u_1] / kappa under the density
    proportional to exp(kappa u_1) on the sphere, E[u | x] = kappa q y/|y| and

        log p(x)    = -(|y| - R)^2 / (2 S) - (d/2) log(2 pi S) + log E exp(kappa (u_1 - 1))        (at alpha = 1)
        E[x_0|x]    = c + (sigma^2 alpha R^2 q / S + alpha tau^2) y / S
        Cov[x_0|x]  = (tau^2 sigma^2 / S) I + (sigma^2 R / S)^2 [ q I + (v - q) y y^T / |y|^2 ],     v = Var u_1.

    q and v are ratios of Bessel functions of order d/2 (``bessel.py``), good at every kappa and every d; nothing is
    special at y = 0, where q = v = 1/d.

    dim >= 1; radius R > 0; blur tau >= 0, the standard deviation of the Gaussian blur; centre c (dim,), zero unless
    given. float64 unless the centre has another dtype. Singular without blur.

    Raises ValueError for a radius that is not positive, a negative blur, a centre of the wrong shape.
    """

    def __init__(
        self,
        dim: int,
        radius: float = 1.0,
        blur: float = 0.0,
        *,
        centre: Tensor | Sequence[float] | None = None,
    ):
        dim = shapes.count("dim", dim)
        radius, blur = shapes.number("radius", radius, positive=True), shapes.number("blur", blur)
        centre = torch.zeros(dim, dtype=torch.float64) if centre is None else shapes.floating("centre", centre)
        if centre.shape != (dim,):
            raise ValueError(f"centre must have shape ({dim},), as dim={dim}; got {tuple(centre.shape)}.")
        self._fill(radius, blur, centre)

    def _fill(self, radius: float, blur: float, centre: Tensor) -> None:
        self.radius, self.blur, self.centre = radius, blur, centre
        self.dim, self.dtype, self.device = centre.shape[0], centre.dtype, centre.device

    @classmethod
    def _built(cls, radius: float, blur: float, centre: Tensor) -> Self:
        law = object.__new__(cls)
        law._fill(radius, blur, centre)
        return law

    @property
    def mean(self) -> Tensor:
        return self.centre

    @property
    def cov(self) -> Tensor:
        eye = torch.eye(self.dim, dtype=self.dtype, device=self.device)
        return (self.radius**2 / self.dim + self.blur**2) * eye

    @property
    def singular(self) -> bool:
        return self.blur == 0

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        return self._built(self.radius, self.blur, self.centre.to(device=device, dtype=dtype))

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        n = shapes.count("n", n)
        u, zeta = torch.randn(2, n, self.dim, dtype=self.dtype, device=self.device, generator=generator)
        return self.centre + self.radius * u / u.norm(dim=-1, keepdim=True) + self.blur * zeta

    def noised(self, alpha: float, sigma: float) -> Self:
        alpha, sigma = float(alpha), float(sigma)
        shapes.level(alpha, sigma)
        return self._built(alpha * self.radius, math.hypot(alpha * self.blur, sigma), alpha * self.centre)

    def _log_prob(self, x: Tensor) -> Tensor:
        return self._noised_log_prob(x, 1.0, 0.0)

    def _noised_log_prob(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        far = (x - shapes.column(alpha) * self.centre).norm(dim=-1)
        spread = torch.as_tensor((alpha * self.blur) ** 2 + sigma**2, dtype=x.dtype, device=x.device)
        mass = bessel.log_mass(self.dim, alpha * self.radius * far / spread)
        off = (far - alpha * self.radius) ** 2 / spread
        return mass - 0.5 * (off + self.dim * (2 * math.pi * spread).log())

    def _score(self, x: Tensor) -> Tensor:
        y, spread = x - self.centre, self.blur**2
        q = bessel.pull(self.dim, self.radius * y.norm(dim=-1, keepdim=True) / spread)
        return (self.radius**2 / spread * q - 1) * y / spread

    def _posterior_mean(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        alpha, sigma = shapes.column(alpha), shapes.column(sigma)
        y, spread = x - alpha * self.centre, (alpha * self.blur) ** 2 + sigma**2
        q = bessel.pull(self.dim, alpha * self.radius * y.norm(dim=-1, keepdim=True) / spread)
        return self.centre + alpha * (sigma**2 * self.radius**2 / spread * q + self.blur**2) / spread * y

    def _posterior_cov(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        alpha, sigma = shapes.column(alpha), shapes.column(sigma)
        y, spread = x - alpha * self.centre, (alpha * self.blur) ** 2 + sigma**2
        far = y.norm(dim=-1, keepdim=True)
        q, v = bessel.direction(self.dim, alpha * self.radius * far / spread)
        narrowed, blurred = sigma**2 * self.radius / spread, self.blur**2 * sigma**2 / spread
        flat, steep = narrowed**2 * q + blurred, narrowed**2 * v + blurred
        if self.dim == 1:
            return steep.unsqueeze(-1)
        along = y / far.where(far > 0, 1.0)
        out = ((steep - flat) * along).unsqueeze(-1) * along.unsqueeze(-2)  # at y = 0 it is zero, and q = v
        return out + torch.diag_embed(flat.expand(y.shape))

    def __repr__(self) -> str:
        name = {1: "two points", 2: "circle"}.get(self.dim, "sphere")
        blur = f", blur {self.blur:.6g}" if self.blur else ""
        place = ""
        if bool(self.centre.any()):
            place = f" about {[round(c, 6) for c in self.centre.tolist()]}" if self.dim <= 4 else " off the origin"
        return f"Sphere({name} of radius {self.radius:.6g}{blur}{place} in R^{self.dim})"


def Circle(radius: float = 1.0, blur: float = 0.0, *, centre: Tensor | Sequence[float] | None = None) -> Sphere:
    """The uniform law on a circle in the plane, blurred or not: ``Sphere`` with dim = 2."""
    return Sphere(2, radius, blur, centre=centre)
