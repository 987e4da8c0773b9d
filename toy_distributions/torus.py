"""Torus: the uniform law on a ring torus in space, blurred or not."""

import math
from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor

from toy_distributions import bessel, panels, shapes
from toy_distributions.base import Distribution
from toy_distributions.panels import Found, Nodes, Panels
from toy_distributions.paths import Waves
from toy_distributions.pieces import in_pieces
from toy_distributions.shapes import Scalar

PER_POINT = 200
"""Elements of the largest temporary of the search for one point, as a rule."""


class Torus(Distribution):
    r"""x_0 = c + ((R + r cos V) cos U, (R + r cos V) sin U, r sin V) + tau zeta, uniform by area, zeta ~ N(0, I).

    U is uniform and V has the density (R + r cos v) / (2 pi R). With y = x - alpha c, h = |(y_1, y_2)| and
    S = alpha^2 tau^2 + sigma^2, the integral over u is a Bessel function, as for a circle of radius g = R + r cos v
    seen with kappa = alpha g h / S,

        log p(x) = log int e^{-[(h - g)^2 + (y_3 - r sin v)^2] / (2 S)} I_0(kappa) e^{-kappa} w(v) dv
                   - (3/2) log(2 pi S)                                                             (at alpha = 1),

    and the integral over v is one along the circle that is turned, by ``panels.py``: in float64 whatever the law's
    dtype, with a relative error below 1e-13 that is bounded (``quadrature_error``). Given v, the direction of
    (cos u, sin u) has von Mises' law. Posterior moments of x_0 follow from those of u and v and the Gaussian blur.

    major R > minor r > 0 (a ring); blur tau >= 0; centre c (3,). Singular without blur.

    Raises ValueError for a minor radius that is not positive and below the major one, a negative blur, a centre of
    the wrong shape, and at noise so small, about the circle of radius R, that the quadrature cannot meet its bound.
    """

    dim = 3

    def __init__(
        self,
        major: float = 1.0,
        minor: float = 0.4,
        blur: float = 0.0,
        *,
        centre: Tensor | Sequence[float] | None = None,
    ):
        major, minor = shapes.number("major", major, positive=True), shapes.number("minor", minor, positive=True)
        if minor >= major:
            raise ValueError(f"minor must be < major, a ring; got minor={minor}, major={major}. Swap or shrink it.")
        centre = torch.zeros(3, dtype=torch.float64) if centre is None else shapes.floating("centre", centre)
        if centre.shape != (3,):
            raise ValueError(f"centre must have shape (3,); got {tuple(centre.shape)}.")
        one = torch.ones(1, dtype=torch.float64)
        profile = Waves(
            frequencies=one,
            origin=torch.tensor([[major, 0.0]], dtype=torch.float64),
            line=torch.zeros(1, 2, dtype=torch.float64),
            coefficients=torch.tensor([[[[minor, 0.0], [0.0, minor]], [[0.0] * 2] * 2]], dtype=torch.float64),
            start=0 * one,
            length=2 * math.pi * one,
            density=lambda v: major + minor * v.cos(),
        )
        self._fill(major, minor, panels.resolve(profile), 1.0, shapes.number("blur", blur), centre)

    def _fill(self, major: float, minor: float, profile: Panels, scale: float, blur: float, centre: Tensor) -> None:
        self.major, self.minor, self._profile, self._scale = major, minor, profile, scale
        self.blur, self.centre, self.dtype, self.device = blur, centre, centre.dtype, centre.device

    @classmethod
    def _built(cls, *given) -> Self:
        law = object.__new__(cls)
        law._fill(*given)
        return law

    @property
    def mean(self) -> Tensor:
        return self.centre

    @property
    def cov(self) -> Tensor:
        """E g^2 / 2 = (R^2 + 3 r^2 / 2) / 2 across the axis, r^2 / 2 along it."""
        across, along = self.major**2 / 2 + 0.75 * self.minor**2, self.minor**2 / 2
        own = torch.tensor([across, across, along], dtype=self.dtype, device=self.device)
        return torch.diag(self._scale**2 * own + self.blur**2)

    @property
    def singular(self) -> bool:
        return self.blur == 0

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        centre = self.centre.to(dtype=dtype, device=device)
        return self._built(self.major, self.minor, self._profile.to(device), self._scale, self.blur, centre)

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        n = shapes.count("n", n)
        here = {"dtype": torch.float64, "device": self.device, "generator": generator}
        v = panels.parameters(self._profile, n, generator=generator)[1]
        u = 2 * math.pi * torch.rand(n, **here)
        g = self.major + self.minor * v.cos()
        x = self._scale * torch.stack([g * u.cos(), g * u.sin(), self.minor * v.sin()], -1)
        return (self.centre.double() + x + self.blur * torch.randn(n, 3, **here)).to(self.dtype)

    def noised(self, alpha: float, sigma: float) -> Self:
        alpha, sigma = float(alpha), float(sigma)
        shapes.level(alpha, sigma)
        blur = math.hypot(alpha * self.blur, sigma)
        return self._built(self.major, self.minor, self._profile, alpha * self._scale, blur, alpha * self.centre)

    def quadrature_error(self, x: Tensor, alpha: Scalar = 1.0, sigma: Scalar = 0.0) -> Tensor:
        """A bound on the relative error of the noised density's integral at x (..., 3), shape (...), float64."""
        x = shapes.points(x, self.dim)
        shapes.level(alpha, sigma, batch=x.shape[:-1], positive=self.singular)
        return self._over(lambda seen: seen.found.bound, x, alpha, sigma)

    def _log_prob(self, x: Tensor) -> Tensor:
        constant = 1.5 * math.log(2 * math.pi * self.blur**2)
        return self._over(lambda seen: seen.nodes.log_mass - constant, x, 1.0, 0.0).to(x.dtype)

    def _score(self, x: Tensor) -> Tensor:
        return self._over(lambda seen: (seen.mean() - seen.y) / self.blur**2, x, 1.0, 0.0).to(x.dtype)

    def _posterior_mean(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        def mean(seen: _Seen) -> Tensor:
            of_y = seen.alpha * self.blur**2 / seen.spread
            return self.centre.double() + seen.narrowed * seen.mean() + of_y * seen.y

        return self._over(mean, x, alpha, sigma).to(x.dtype)

    def _posterior_cov(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        def cov(seen: _Seen) -> Tensor:
            across = (self.blur**2 * seen.narrowed).expand(seen.y.shape)
            return seen.narrowed.unsqueeze(-1) ** 2 * seen.cov() + torch.diag_embed(across)

        return self._over(cov, x, alpha, sigma).to(x.dtype)

    def _over(self, of: "Callable[[_Seen], Tensor]", x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        def formula(x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
            alpha, sigma = (torch.as_tensor(v, dtype=x.dtype, device=x.device).expand(len(x)) for v in (alpha, sigma))
            y, spread = x - alpha.unsqueeze(-1) * self.centre.double(), (alpha * self.blur) ** 2 + sigma**2
            with torch.no_grad():
                found = self._search(y, self._scale * alpha, spread)
            given = y, alpha, sigma, spread
            parts = [of(_Seen(self._scale, few, *(v[points] for v in given))) for points, few in found.batches()]
            return torch.cat(parts)

        return in_pieces(formula, x.double(), alpha, sigma, per_point=PER_POINT)

    def _search(self, y: Tensor, alpha: Tensor, spread: Tensor) -> Found:
        far = y[:, :2].norm(dim=-1)

        def thin(point: Tensor, place: Tensor, reach: Tensor) -> Tensor:
            """I_0(k) e^-k >= 1 / sqrt(1 + 2 pi k), and it is at most one where Re k >= 0."""
            kappa = alpha[point] * far[point] * (place[:, 0] + reach) / spread[point]
            return -0.5 * torch.log1p(2 * math.pi * kappa)

        flat = torch.stack([far, y[:, 2]], -1)
        return panels.search(self._profile, flat, alpha, spread, thin=thin)

    def __repr__(self) -> str:
        major, minor = self._scale * self.major, self._scale * self.minor
        blur = f", blur {self.blur:.6g}" if self.blur else ""
        place = " off the origin" if bool(self.centre.any()) else ""
        return f"Torus(of radii {major:.6g} and {minor:.6g}{blur}{place} in R^3)"


class _Seen:
    """A torus seen from y = x - alpha c (n, 3), at levels alpha and sigma with spread S, (n,) and kept as columns.

    x_0 less its centre and blur has, in the frame of y's direction across the axis, the axis and the third one, the
    coordinates scale (g cos u, r sin v, g sin u) with u = 0 towards y.
    """

    def __init__(self, scale: float, found: Found, y: Tensor, alpha: Tensor, sigma: Tensor, spread: Tensor):
        self.found, self.scale, self.y = found, scale, y
        far = y[:, :2].norm(dim=-1)
        self.along = y[:, :2] / far.where(far > 0, 1.0).unsqueeze(-1)
        view = scale * alpha * far / spread

        def tilt(point: Tensor, gamma: Tensor) -> Tensor:
            return bessel.log_mass(2, view[point].unsqueeze(-1) * gamma[..., 0])

        self.nodes = Nodes(found, torch.stack([far, y[:, 2]], -1), scale * alpha, spread, tilt)
        self.g = (self.nodes.place[found.point].unsqueeze(1) + self.nodes.shift)[..., 0]
        self.kappa = view[found.point].unsqueeze(-1) * self.g
        self.pulled = (scale * alpha / spread).unsqueeze(-1)
        self.alpha, self.spread = alpha.unsqueeze(-1), spread.unsqueeze(-1)
        self.narrowed = (sigma**2 / spread).unsqueeze(-1)

    def mean(self) -> Tensor:
        """Of x_0 less centre and blur: E[g cos u] = (alpha h / S) E[g^2 q], towards y."""
        turning = self.nodes.mean((self.g**2 * bessel.pull(2, self.kappa)).unsqueeze(-1))
        up = self.nodes.place[:, 1:] + self.nodes.mean(self.nodes.shift[..., 1:])
        return self.scale * torch.cat([self.pulled * turning * self.y[:, :2], up], -1)

    def cov(self) -> Tensor:
        """Given v, g cos u has the variance g^2 v' and g sin u has g^2 q; their means, g kappa q and 0, vary with v."""
        q, radial = bessel.direction(2, self.kappa)
        # g kappa q = g - g (1 - kappa q), and 1 - (kappa q)^2 = v' + q on the circle: without cancellation
        lag = (radial + q) / (1 + self.kappa * q)
        off = torch.stack([self.nodes.shift[..., 0] - self.g * lag, self.nodes.shift[..., 1]], -1)
        within = self.nodes.mean(torch.stack([self.g**2 * radial, self.g**2 * q], -1))
        between = self.nodes.cov(off, self.nodes.mean(off))
        towards, sideways = within[:, 0] + between[:, 0, 0], within[:, 1]
        turned = self.along.unsqueeze(-1) * self.along.unsqueeze(-2)
        eye = torch.eye(2, dtype=turned.dtype, device=turned.device)
        flat = sideways[:, None, None] * eye + (towards - sideways)[:, None, None] * turned
        mixed = (between[:, 0, 1:] * self.along).unsqueeze(-1)
        top = torch.cat([flat, mixed], -1)
        return self.scale**2 * torch.cat([top, torch.cat([mixed.mT, between[:, 1:, 1:]], -1)], -2)
