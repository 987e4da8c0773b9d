"""VonMisesFisher: a law on a sphere that favours a direction, blurred or not."""

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from toy_distributions import bessel, shapes
from toy_distributions.base import Distribution
from toy_distributions.shapes import Scalar


class VonMisesFisher(Distribution):
    r"""x_0 = c + R u + tau zeta, u on the unit sphere of R^d with density proportional to exp(a . u), zeta ~ N(0, I).

    With y = x - alpha c and S = alpha^2 tau^2 + sigma^2, u given x is of the same kind, with b = a + alpha R y / S for
    a. With M(k) = E exp(k (u_1 - 1)) over the uniform law, q = E[u_1] / |b| and v = Var u_1 under exp(|b| u_1),

        log p(x)    = -(|y| - R)^2 / (2 S) - (d/2) log(2 pi S) + |b| - R |y| / S - |a| + log M(|b|) - log M(|a|)
        E[x_0|x]    = c + (sigma^2 R / S) q b + (alpha tau^2 / S) y
        Cov[x_0|x]  = (tau^2 sigma^2 / S) I + (sigma^2 R / S)^2 [ q I + (v - q) b b^T / |b|^2 ]

    (the first at alpha = 1). M, q and v are Bessel functions (``bessel.py``), and |b| - R |y| / S - |a|, which is never
    positive, is taken without cancellation. On the circle this is von Mises' law.

    pull a: (dim,), the favoured direction times the concentration kappa = |a|; zero gives the uniform law, ``Sphere``.
    radius R > 0; blur tau >= 0; centre c (dim,), zero unless given. Singular without blur. ``noised`` keeps a.

    Raises ValueError for a pull that is no vector, a radius that is not positive, a negative blur, a centre of the
    wrong shape. Source: mardia2000directional, section 9.3.
    """

    def __init__(
        self,
        pull: Tensor | Sequence[float],
        radius: float = 1.0,
        blur: float = 0.0,
        *,
        centre: Tensor | Sequence[float] | None = None,
    ):
        pull = shapes.floating("pull", pull)
        if pull.ndim != 1 or not pull.numel():
            raise ValueError(f"pull must have shape (dim,); got {tuple(pull.shape)}. A circle's is two numbers.")
        radius, blur = shapes.number("radius", radius, positive=True), shapes.number("blur", blur)
        centre = torch.zeros_like(pull) if centre is None else shapes.floating("centre", centre)
        if centre.shape != pull.shape:
            raise ValueError(f"centre must have the shape {tuple(pull.shape)} of pull; got {tuple(centre.shape)}.")
        self._fill(pull, radius, blur, centre.to(pull))

    def _fill(self, pull: Tensor, radius: float, blur: float, centre: Tensor) -> None:
        self.pull, self.radius, self.blur, self.centre = pull, radius, blur, centre
        self.dim, self.dtype, self.device = centre.shape[0], centre.dtype, centre.device

    @classmethod
    def _built(cls, pull: Tensor, radius: float, blur: float, centre: Tensor) -> Self:
        law = object.__new__(cls)
        law._fill(pull, radius, blur, centre)
        return law

    @property
    def mean(self) -> Tensor:
        return self.centre + self.radius * bessel.pull(self.dim, self.pull.norm()) * self.pull

    @property
    def cov(self) -> Tensor:
        flat, steep, along = _direction(self.pull)
        eye = torch.eye(self.dim, dtype=self.dtype, device=self.device)
        return self.radius**2 * _split(flat, steep, along) + self.blur**2 * eye

    @property
    def singular(self) -> bool:
        return self.blur == 0

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        pull, centre = (part.to(device=device, dtype=dtype) for part in (self.pull, self.centre))
        return self._built(pull, self.radius, self.blur, centre)

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        """n independent points (n, dim), exactly: 1 - u . a/|a| by rejection, the rest uniform. Source: wood1994."""
        n = shapes.count("n", n)
        here = {"dtype": torch.float64, "device": self.device, "generator": generator}
        concentration = self.pull.double().norm()
        along = self.pull.double() / concentration.where(concentration > 0, 1.0)
        lag = _lags(concentration.item(), self.dim, n, here).unsqueeze(-1)
        across = torch.randn(n, self.dim, **here)
        across = across - (across @ along).unsqueeze(-1) * along
        across = across / across.norm(dim=-1, keepdim=True).clamp_min(1e-300)
        if not bool(concentration > 0):  # no direction is favoured
            u = across
        else:
            u = (1 - lag) * along + (lag * (2 - lag)).sqrt() * (across if self.dim > 1 else 0.0)
        return (self.centre.double() + self.radius * u + self.blur * torch.randn(n, self.dim, **here)).to(self.dtype)

    def noised(self, alpha: float, sigma: float) -> Self:
        alpha, sigma = float(alpha), float(sigma)
        shapes.level(alpha, sigma)
        blur = math.hypot(alpha * self.blur, sigma)
        return self._built(self.pull, alpha * self.radius, blur, alpha * self.centre)

    def _log_prob(self, x: Tensor) -> Tensor:
        y, spread, concentration = x - self.centre, self.blur**2, self.pull.norm()
        far = y.norm(dim=-1)
        shell = ((far - self.radius) / self.blur) ** 2 + self.dim * math.log(2 * math.pi * spread)
        by_noise = self.radius / spread * y
        both = (self.pull + by_noise).norm(dim=-1)
        # |a + b| - |a| - |b| = -2 (|a| |b| - a . b) / (|a + b| + |a| + |b|), and 2 (|a||b| - a.b) = |a||b| |a^ - b^|^2
        strength = by_noise.norm(dim=-1)
        turned = self.pull / concentration.where(concentration > 0, 1.0) - y / far.where(far > 0, 1.0).unsqueeze(-1)
        total = both + strength + concentration
        short = strength * concentration * turned.square().sum(-1) / total.where(total > 0, 1.0)
        mass = bessel.log_mass(self.dim, both) - bessel.log_mass(self.dim, concentration)
        return mass - short - 0.5 * shell

    def _score(self, x: Tensor) -> Tensor:
        y, spread = x - self.centre, self.blur**2
        b = self.pull + self.radius / spread * y
        return (self.radius * bessel.pull(self.dim, b.norm(dim=-1, keepdim=True)) * b - y) / spread

    def _seen(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> tuple[Tensor, Tensor, Scalar, Scalar]:
        """y, b, S and sigma^2 / S."""
        y, spread = x - alpha * self.centre, (alpha * self.blur) ** 2 + sigma**2
        return y, self.pull + alpha * self.radius / spread * y, spread, sigma**2 / spread

    def _posterior_mean(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        alpha, sigma = shapes.column(alpha), shapes.column(sigma)
        y, b, spread, narrowed = self._seen(x, alpha, sigma)
        q = bessel.pull(self.dim, b.norm(dim=-1, keepdim=True))
        return self.centre + narrowed * self.radius * q * b + alpha * self.blur**2 / spread * y

    def _posterior_cov(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        alpha, sigma = shapes.column(alpha), shapes.column(sigma)
        _, b, _, narrowed = self._seen(x, alpha, sigma)
        flat, steep, along = _direction(b)
        on_sphere, across = (narrowed * self.radius) ** 2, self.blur**2 * narrowed
        return _split(on_sphere * flat + across, on_sphere * steep + across, along)

    def __repr__(self) -> str:
        name = {1: "two points", 2: "circle"}.get(self.dim, "sphere")
        blur = f", blur {self.blur:.6g}" if self.blur else ""
        place = " off the origin" if bool(self.centre.any()) else ""
        concentration = f"concentration {self.pull.norm().item():.6g}"
        return f"VonMisesFisher({name} of radius {self.radius:.6g}, {concentration}{blur}{place} in R^{self.dim})"


def _direction(b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For b (..., d): the variances of u across b and along b, (..., 1), and the direction of b."""
    strength = b.norm(dim=-1, keepdim=True)
    q, v = bessel.direction(b.shape[-1], strength)
    return q, v, b / strength.where(strength > 0, 1.0)


def _split(flat: Tensor, steep: Tensor, along: Tensor) -> Tensor:
    """The matrices (..., d, d) with eigenvalue ``steep`` along a direction and ``flat`` across it."""
    if along.shape[-1] == 1:
        return steep.unsqueeze(-1)
    out = ((steep - flat) * along).unsqueeze(-1) * along.unsqueeze(-2)
    return out + torch.diag_embed(flat.expand(along.shape))


def _lags(kappa: float, dim: int, n: int, here: dict) -> Tensor:
    r"""n draws of w = 1 - u_1 for the density e^{kappa u_1} on the unit sphere, by rejection from Wood's envelope.

    With 1 - u_1 = 2 b z / (1 - (1 - b) z), z ~ Beta((d-1)/2, (d-1)/2) and b = (d-1) / (2 kappa + sqrt(4 kappa^2 +
    (d-1)^2)), the ratio of the densities is largest at z = 1/2, where 1 - u_1 = 2 b / (1 + b).
    """
    if dim == 1:
        back = math.exp(-2 * kappa)
        return 2.0 * (torch.rand(n, **here) < back / (1 + back))
    m = dim - 1
    b = m / (2 * kappa + math.hypot(2 * kappa, m))
    middle, x = 2 * b / (1 + b), (1 - b) / (1 + b)
    out = torch.zeros(n, dtype=torch.float64, device=here["device"])
    open_ = torch.arange(n, device=here["device"])
    while len(open_):
        # the first coordinate of a uniform direction in R^d is 2 z - 1 with z ~ Beta((d-1)/2, (d-1)/2)
        normal = torch.randn(len(open_), dim, **here)
        z = 0.5 + 0.5 * normal[:, 0] / normal.norm(dim=-1)
        lag = 2 * b * z / (1 - (1 - b) * z)
        # log(1 - x u_1) less its value at z = 1/2
        gain = kappa * (middle - lag) + m * torch.log1p(x * (lag - middle) / (1 - x * (1 - middle)))
        out[open_] = lag
        open_ = open_[torch.rand(len(open_), **here).log() > gain]
    return out.clamp(0.0, 2.0)
