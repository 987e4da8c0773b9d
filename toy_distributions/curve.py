"""Curve: the uniform law on a curve, or one with a density along it, blurred or not."""

import math
from collections.abc import Callable
from typing import NamedTuple, Self

import torch
from torch import Tensor

from toy_distributions import panels, shapes
from toy_distributions.base import Distribution
from toy_distributions.panels import Found, Nodes, Panels
from toy_distributions.paths import Waves
from toy_distributions.pieces import in_pieces
from toy_distributions.shapes import Scalar

PER_POINT = 200
"""Elements of the largest temporary of the search for one point, as a rule."""


class _Base(NamedTuple):
    """What noise leaves alone: the curve itself, in float64."""

    name: str
    panels: Panels
    mean: Tensor
    cov: Tensor


class Curve(Distribution):
    r"""x_0 = rho gamma(T) + tau zeta, zeta ~ N(0, I), gamma(T) uniform by arc length or with a density along it.

    With S = alpha^2 tau^2 + sigma^2 and w the density of T, T given x has the density w(t) e^{-f(t)} up to its mass,
    f(t) = |x - alpha rho gamma(t)|^2 / (2 S), and with m, C the mean and covariance of rho gamma(T) given x

        log p(x)    = log int w e^{-f} dt - (d/2) log(2 pi S)                                      (at alpha = 1)
        score(x)    = (m - x) / S
        E[x_0|x]    = (sigma^2 / S) m + (alpha tau^2 / S) x
        Cov[x_0|x]  = (tau^2 sigma^2 / S) I + (sigma^2 / S)^2 C.

    The integrals are taken by ``panels.py`` in float64, whatever the law's dtype, with relative errors below 1e-13
    that are bounded, not estimated; ``quadrature_error`` says the bound. A float32 law is off by the rounding of its
    points and answers.

    path: ``Waves``, as ``curves.py`` makes them: Segment, Ellipse, Trefoil, Lissajous, SwissRoll, TwoMoons. blur
    tau >= 0. Singular without blur. ``noised`` multiplies rho.

    Raises ValueError for a negative blur, for a density along the curve that is not positive and smooth, and for
    points, alpha and sigma at which the quadrature cannot meet its bound: it then says what it reached. That happens
    at tiny noise about a point from which a whole arc is equally far.
    """

    def __init__(self, path: Waves, blur: float = 0.0, *, name: str = "curve"):
        resolved = panels.resolve(path)
        self._fill(_Base(name, resolved, *_moments(resolved)), 1.0, shapes.number("blur", blur), torch.float64)

    def _fill(self, base: _Base, scale: float, blur: float, dtype: torch.dtype) -> None:
        self._base, self.scale, self.blur = base, scale, blur
        self.dim, self.dtype, self.device = base.mean.shape[0], dtype, base.mean.device

    @classmethod
    def _built(cls, base: _Base, scale: float, blur: float, dtype: torch.dtype) -> Self:
        law = object.__new__(cls)
        law._fill(base, scale, blur, dtype)
        return law

    @property
    def mean(self) -> Tensor:
        return (self.scale * self._base.mean).to(self.dtype)

    @property
    def cov(self) -> Tensor:
        eye = torch.eye(self.dim, dtype=torch.float64, device=self.device)
        return (self.scale**2 * self._base.cov + self.blur**2 * eye).to(self.dtype)

    @property
    def singular(self) -> bool:
        return self.blur == 0

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        name, resolved, mean, cov = self._base
        base = _Base(name, resolved.to(device), mean.to(device), cov.to(device))
        return self._built(base, self.scale, self.blur, dtype or self.dtype)

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        """n independent points (n, dim): a panel by its mass, a parameter within it by rejection, which is exact."""
        n = shapes.count("n", n)
        arc, t = panels.parameters(self._base.panels, n, generator=generator)
        zeta = torch.randn(n, self.dim, dtype=torch.float64, device=self.device, generator=generator)
        return (self.scale * self._base.panels.path.place(arc, t) + self.blur * zeta).to(self.dtype)

    def noised(self, alpha: float, sigma: float) -> Self:
        alpha, sigma = float(alpha), float(sigma)
        shapes.level(alpha, sigma)
        return self._built(self._base, alpha * self.scale, math.hypot(alpha * self.blur, sigma), self.dtype)

    def quadrature_error(self, x: Tensor, alpha: Scalar = 1.0, sigma: Scalar = 0.0) -> Tensor:
        """A bound on the relative error of the noised density's integral at x (..., dim), shape (...), float64."""
        x = shapes.points(x, self.dim)
        shapes.level(alpha, sigma, batch=x.shape[:-1], positive=self.singular)
        return self._over(lambda seen: seen.found.bound, x, alpha, sigma)

    def _log_prob(self, x: Tensor) -> Tensor:
        constant = 0.5 * self.dim * math.log(2 * math.pi * self.blur**2)
        return self._over(lambda seen: seen.nodes.log_mass - constant, x, 1.0, 0.0).to(x.dtype)

    def _score(self, x: Tensor) -> Tensor:
        return self._over(lambda seen: (self.scale * seen.shift - seen.away) / self.blur**2, x, 1.0, 0.0).to(x.dtype)

    def _posterior_mean(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        def mean(seen: _Seen) -> Tensor:
            on_curve = self.scale * (seen.nodes.place + seen.shift)
            return seen.narrowed * on_curve + seen.alpha * self.blur**2 / seen.spread * seen.x

        return self._over(mean, x, alpha, sigma).to(x.dtype)

    def _posterior_cov(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        def cov(seen: _Seen) -> Tensor:
            along = seen.nodes.cov(seen.nodes.shift, seen.shift)
            across = (self.blur**2 * seen.narrowed).expand(seen.x.shape)
            return (self.scale * seen.narrowed.unsqueeze(-1)) ** 2 * along + torch.diag_embed(across)

        return self._over(cov, x, alpha, sigma).to(x.dtype)

    def _over(self, of: "Callable[[_Seen], Tensor]", x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        alpha, sigma = (v.double() if isinstance(v, Tensor) else v for v in (alpha, sigma))

        def formula(x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
            x, alpha, sigma, spread = self._given(x, alpha, sigma)
            with torch.no_grad():
                found = panels.search(self._base.panels, x, self.scale * alpha, spread)
            parts = [
                of(_Seen(self, few, *(v[points] for v in (x, alpha, sigma, spread)))) for points, few in found.batches()
            ]
            return torch.cat(parts)

        return in_pieces(formula, x.double(), alpha, sigma, per_point=PER_POINT)

    def _given(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x, alpha, sigma and S, the last three of shape (n,)."""
        alpha, sigma = (torch.as_tensor(v, dtype=x.dtype, device=x.device).expand(len(x)) for v in (alpha, sigma))
        return x, alpha, sigma, (alpha * self.blur) ** 2 + sigma**2

    def __repr__(self) -> str:
        scale = f" times {self.scale:.6g}" if self.scale != 1 else ""
        blur = f", blur {self.blur:.6g}" if self.blur else ""
        return f"Curve({self._base.name}{scale}{blur} in R^{self.dim})"


class _Seen:
    """A curve seen from points x (n, dim) at levels alpha and sigma with spread S, all (n,) and kept as columns."""

    def __init__(self, law: Curve, found: Found, x: Tensor, alpha: Tensor, sigma: Tensor, spread: Tensor):
        self.found, self.nodes = found, Nodes(found, x, law.scale * alpha, spread)
        self.x, self.alpha, self.spread = x, alpha.unsqueeze(-1), spread.unsqueeze(-1)
        self.narrowed = (sigma**2 / spread).unsqueeze(-1)
        self.away = self.nodes.away

    @property
    def shift(self) -> Tensor:
        """The posterior mean of gamma(T) less where its point's differences are taken from, (n, dim)."""
        return self.nodes.mean(self.nodes.shift)


def _moments(resolved: Panels) -> tuple[Tensor, Tensor]:
    """Mean and covariance of gamma(T): the posterior at alpha = 0."""
    path = resolved.path
    x = torch.zeros(1, path.dim, dtype=torch.float64, device=path.start.device)
    alpha, spread = torch.zeros(1).to(x), torch.ones(1).to(x)
    nodes = Nodes(panels.search(resolved, x, alpha, spread), x, alpha, spread)
    shift = nodes.mean(nodes.shift)
    mean = (nodes.place + shift)[0]
    reach = (nodes.place.norm() + nodes.shift.norm(dim=-1).max()).item()
    rounding = 16 * torch.finfo(torch.float64).eps * reach
    # a coordinate whose mean vanishes by symmetry has rounding for a mean
    return torch.where(mean.abs() <= rounding, 0.0, mean), nodes.cov(nodes.shift, shift)[0]
