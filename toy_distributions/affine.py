"""Affine maps of laws: closed for Gaussian mixtures; any law moved by a scaled isometry, also into a larger space."""

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from toy_distributions import shapes
from toy_distributions.base import Distribution
from toy_distributions.mixture import GaussianMixture
from toy_distributions.mixture_of import MixtureOf
from toy_distributions.roots import from_roots, from_variances, roots_of
from toy_distributions.shapes import Scalar


def affine(
    law: Distribution, matrix: Tensor | Sequence[Sequence[float]], shift: Tensor | Sequence[float] | None = None
) -> Distribution:
    r"""The law of y_0 = A x_0 + b on R^m.

    For a GaussianMixture any A (m, d) will do, and the result is one: means A m_k + b, covariances A C_k A^T, kept
    diagonal or isotropic where they stay so. A MixtureOf is moved law by law. Any other law needs A^T A = c^2 I, a
    rotation, reflection or embedding times a scale, and gives an ``Affine``.

    matrix: (m, d) for a law on R^d; shift: (m,), zero unless given.

    Raises ValueError for wrong shapes, non-finite entries, and a matrix that is no scaled isometry where one is needed.
    """
    A = shapes.floating("matrix", matrix).to(law.device, torch.float64)
    if A.ndim != 2 or A.shape[1] != law.dim or A.shape[0] == 0:
        raise ValueError(f"matrix must have shape (m, {law.dim}), as the law is on R^{law.dim}; got {tuple(A.shape)}.")
    b = torch.zeros(A.shape[0]) if shift is None else shapes.floating("shift", shift)
    b = b.to(A)
    if b.shape != A.shape[:1]:
        raise ValueError(f"shift must have shape ({A.shape[0]},), one entry a row of matrix; got {tuple(b.shape)}.")
    if isinstance(law, GaussianMixture):
        return _of_gaussians(law, A, b)
    if isinstance(law, MixtureOf):
        return MixtureOf._built(law._log_weights, tuple(affine(part, A, b) for part in law.laws))
    return Affine(law, A, b)


def _of_gaussians(law: GaussianMixture, A: Tensor, b: Tensor) -> GaussianMixture:
    log_weights, means = law._log_weights.double(), law.means.double() @ A.T + b
    variances, kind = law._variances.double(), (law.dtype, law.device)
    if law._axes.basis is None:
        scale = _scale(A.T)
        diagonal = bool(((A != 0).sum(0) <= 1).all()) and bool(((A != 0).sum(1) <= 1).all())
        if not bool(variances.any()) or (variances.shape[1] == 1 and scale):
            return from_variances(log_weights, means, (scale or 0.0) ** 2 * variances[:, 0], *kind)
        if diagonal:
            return from_variances(log_weights, means, variances.expand(-1, law.dim) @ (A.T**2), *kind)
    return from_roots(log_weights, means, A @ roots_of(law), *kind)


def _scale(A: Tensor) -> float | None:
    """c > 0 if A^T A = c^2 I up to rounding."""
    square = A.T @ A
    scale = square.diagonal().mean()
    off = (square - scale * torch.eye(len(square), dtype=A.dtype, device=A.device)).abs().max()
    return scale.sqrt().item() if bool((off <= 64 * torch.finfo(A.dtype).eps * scale) & (scale > 0)) else None


class Affine(Distribution):
    r"""x_0 = c Q u + b + tau (I - Q Q^T) zeta with u ~ a law on R^d, orthonormal columns Q (m, d) and zeta ~ N(0, I).

    For m > d the law lives on an affine subspace, blurred by tau across it; noise along the subspace is noise of
    u, as c Q (alpha u + (sigma / c) eps) = alpha c Q u + sigma Q eps. With y = x - alpha b, v = Q^T y / c,
    r = y - Q Q^T y and S = alpha^2 tau^2 + sigma^2,

        log p(x)   = log p_u(v) - d log c - |r|^2 / (2 S) - ((m - d) / 2) log(2 pi S)             (at alpha = 1)
        E[x_0|x]   = b + c Q E[u|v] + (alpha tau^2 / S) r
        Cov[x_0|x] = c^2 Q Cov[u|v] Q^T + (tau^2 sigma^2 / S) (I - Q Q^T)

    where u is seen at the level (alpha, sigma / c). Made by ``affine(law, matrix, shift)`` with tau = 0; noise makes
    tau. Singular if u's law is, or for m > d and tau = 0. The cdf of a law turned around on the line (c Q < 0) is
    1 - P(u < v): it has its digits to the right only.

    law: on R^d; matrix: A = c Q (m, d); shift: (m,); across: tau >= 0.

    Raises ValueError for a matrix without A^T A = c^2 I for some c > 0, wrong shapes, non-finite entries.
    """

    def __init__(
        self,
        law: Distribution,
        matrix: Tensor | Sequence[Sequence[float]],
        shift: Tensor | Sequence[float],
        across: float = 0.0,
    ):
        A, b = shapes.floating("matrix", matrix), shapes.floating("shift", shift)
        if A.ndim != 2 or A.shape[1] != law.dim or b.shape != A.shape[:1]:
            raise ValueError(
                f"matrix must have shape (m, {law.dim}) and shift (m,); got {tuple(A.shape)} and {tuple(b.shape)}."
            )
        A = A.to(law.device, torch.float64)
        scale = _scale(A)
        if scale is None:
            raise ValueError(
                f"{law!r} can be moved by a matrix with A^T A = c^2 I only (rotations, reflections, embeddings, times "
                "a scale); any matrix is accepted for a GaussianMixture."
            )
        self._fill(law, scale, (A / scale).to(law.dtype), b.to(law.mean), shapes.number("across", across))

    def _fill(self, law: Distribution, scale: float, frame: Tensor, shift: Tensor, across: float) -> None:
        self.law, self.scale, self.frame, self.shift, self.across = law, scale, frame, shift, across
        self.dim, self.dtype, self.device = len(shift), law.dtype, law.device

    @classmethod
    def _built(cls, *parts) -> Self:
        law = object.__new__(cls)
        law._fill(*parts)
        return law

    @property
    def mean(self) -> Tensor:
        return self.scale * self.frame @ self.law.mean + self.shift

    @property
    def cov(self) -> Tensor:
        return self._spread(self.law.cov, self.across**2)

    @property
    def singular(self) -> bool:
        return self.law.singular or (self.dim > self.law.dim and self.across == 0)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        frame, shift = (part.to(device=device, dtype=dtype) for part in (self.frame, self.shift))
        return self._built(self.law.to(dtype, device), self.scale, frame, shift, self.across)

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        n = shapes.count("n", n)
        on = self.scale * self.law.sample(n, generator=generator) @ self.frame.T + self.shift
        if self.across == 0 or self.dim == self.law.dim:
            return on
        zeta = torch.randn(n, self.dim, dtype=self.dtype, device=self.device, generator=generator)
        return on + self.across * self._off(zeta)

    def noised(self, alpha: float, sigma: float) -> Self:
        alpha, sigma = float(alpha), float(sigma)
        shapes.level(alpha, sigma)
        law, across = self.law.noised(alpha, sigma / self.scale), math.hypot(alpha * self.across, sigma)
        return self._built(law, self.scale, self.frame, alpha * self.shift, across)

    def _log_prob(self, x: Tensor) -> Tensor:
        y = x - self.shift
        return self.law._log_prob(self._on(y)) + self._volume(y, self.across**2)

    def _noised_log_prob(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        y = x - shapes.column(alpha) * self.shift
        on = self.law._noised_log_prob(self._on(y), alpha, sigma / self.scale)
        return on + self._volume(y, (alpha * self.across) ** 2 + sigma**2)

    def _score(self, x: Tensor) -> Tensor:
        y = x - self.shift
        on = self.law._score(self._on(y)) @ self.frame.T / self.scale
        return on if self.dim == self.law.dim else on - self._off(y) / self.across**2

    def _posterior_mean(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        y = x - shapes.column(alpha) * self.shift
        mean = self.law._posterior_mean(self._on(y), alpha, sigma / self.scale)
        gain = alpha * self.across**2 / ((alpha * self.across) ** 2 + sigma**2)
        return self.shift + self.scale * mean @ self.frame.T + shapes.column(gain) * self._off(y)

    def _posterior_cov(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        on = self._on(x - shapes.column(alpha) * self.shift)
        across = self.across**2 * sigma**2 / ((alpha * self.across) ** 2 + sigma**2)
        return self._spread(self.law._posterior_cov(on, alpha, sigma / self.scale), across)

    def _on(self, y: Tensor) -> Tensor:
        """The coordinates v of the nearest point of the subspace."""
        return y @ self.frame / self.scale

    def _off(self, y: Tensor) -> Tensor:
        """r, what the subspace leaves."""
        if self.dim == self.law.dim:
            return torch.zeros_like(y)
        return y - y @ self.frame @ self.frame.T

    def _spread(self, cov: Tensor, across: Scalar) -> Tensor:
        """c^2 Q cov Q^T + across (I - Q Q^T)."""
        on = self.scale**2 * self.frame @ cov @ self.frame.T
        if self.dim == self.law.dim:
            return on
        eye = torch.eye(self.dim, dtype=self.dtype, device=self.device)
        return on + shapes.column(shapes.column(across)) * (eye - self.frame @ self.frame.T)

    def _volume(self, y: Tensor, spread: Scalar) -> Tensor:
        """What the scale and the directions across the subspace add to the log density, (...)."""
        more = self.dim - self.law.dim
        if not more:
            return y.new_zeros(y.shape[:-1]) - self.law.dim * math.log(self.scale)
        spread = torch.as_tensor(spread, dtype=y.dtype, device=y.device)
        off = (self._off(y) ** 2).sum(-1) / spread
        return -self.law.dim * math.log(self.scale) - 0.5 * (off + more * (2 * math.pi * spread).log())

    def _cdf(self, x: Tensor) -> Tensor:
        v = (x - self.shift) / (self.scale * self.frame[0, 0])
        if bool(self.frame[0, 0] > 0):
            return self.law._cdf(v)
        if self.law.singular:
            raise ValueError(f"{self!r} has no closed cdf; move the points themselves or noise the law instead.")
        return 1 - self.law._cdf(v)

    def __repr__(self) -> str:
        how = f"embedded in R^{self.dim}" if self.dim > self.law.dim else "turned"
        blur = f", blur {self.across:.6g} across" if self.across and self.dim > self.law.dim else ""
        return f"Affine({self.law!r}, {how}, scale {self.scale:.6g}{blur})"
