"""GaussianMixture: one Gaussian or many, Diracs, clouds; covariances isotropic, diagonal, full or of low rank."""

import math
from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor

from toy_distributions import normal, shapes
from toy_distributions.averages import NEGLIGIBLE, TABLES, Averages, Pull, Terms, averages, worthwhile
from toy_distributions.axes import Axes
from toy_distributions.base import Distribution
from toy_distributions.cloud import FEW_DIMENSIONS
from toy_distributions.components import eigenbasis, probabilities, thin_basis
from toy_distributions.parts import DIRECT_ELEMENTS, Components, deviations, squared
from toy_distributions.pieces import PIECE_BYTES, Formula, fits, in_pieces
from toy_distributions.second_moments import Part, second_moment
from toy_distributions.shapes import Scalar
from toy_distributions.streams import streamed_means

PRODUCTS = 16
"""Pieces of products of matrices, as of large clouds, are so many times larger: they block themselves."""


class GaussianMixture(Distribution):
    r"""p = sum_k w_k N(m_k, C_k), where C_k may be zero (a Dirac) or rank-deficient (a Gaussian on a subspace).

    With C_k = U_k diag(v_k) U_k^T, S_k = alpha^2 v_k + sigma^2 and y_k = U_k^T (x - alpha m_k),

        log r_k  = log w_k - (1/2) sum_i [ y_ki^2 / S_ki + log S_ki ] + const     (responsibilities sum to one)
        D_k      = m_k + U_k (alpha v_k / S_k) y_k
        E[x_0|x] = sum_k r_k D_k
        Cov[x_0|x] = sum_k r_k [ U_k diag(v_k sigma^2 / S_k) U_k^T + (D_k - E[x_0|x]) (D_k - E[x_0|x])^T ]

    weights (K,), positive (down to 1e-300), summing to one; means (K, d); covs (K, d, d) full, (K, d) diagonal or
    (K,) isotropic; ``low_rank`` for a few directions and the rest. The eigenbases are computed once, when the law is
    built, and serve at every noise level.

    Raises ValueError for wrong shapes, non-finite entries, weights that are not a probability vector, covariances
    that are not symmetric positive semi-definite.
    """

    def __init__(
        self,
        weights: Tensor | Sequence[float],
        means: Tensor | Sequence[Sequence[float]],
        covs: Tensor | Sequence,
    ):
        means = shapes.floating("means", means)
        if means.ndim != 2 or means.numel() == 0:
            raise ValueError(f"means must have shape (components, dim); got {tuple(means.shape)}.")
        k, d = means.shape
        weights = probabilities(shapes.floating("weights", weights), k)
        covs = shapes.floating("covs", covs).to(means)
        if covs.shape not in ((k,), (k, d), (k, d, d)):
            raise ValueError(
                f"covs must have shape ({k},) isotropic, ({k}, {d}) diagonal or ({k}, {d}, {d}) full, "
                f"as means has shape ({k}, {d}); got {tuple(covs.shape)}."
            )
        if covs.ndim == 3:
            variances, basis = eigenbasis(covs)
        else:
            variances, basis = covs.reshape(k, -1), None
            if bool((variances < 0).any()):
                worst = variances.min().item()
                raise ValueError(f"covs must hold variances >= 0; got {worst}. Pass variances, not log-variances.")
        self._fill(weights.to(means), weights.log().to(means), means, covs, variances, Axes(basis))

    def _fill(
        self, weights: Tensor, log_weights: Tensor, means: Tensor, covs: Tensor | None, variances: Tensor, axes: Axes
    ) -> None:
        self.weights, self.means = weights, means
        # logarithms of their own: float32 knows no weight below 1e-45, but its logarithm well
        self._log_weights = log_weights
        self._covs, self._variances, self._axes = covs, variances, axes  # variances (K, R) or (K, 1)
        self._parts = Components(log_weights, means, variances, axes)
        self._dirac = variances.shape[1] == 1 and not bool(variances.any())
        self.dim, self.dtype, self.device = means.shape[1], means.dtype, means.device

    @classmethod
    def _built(cls, *parts) -> Self:
        law = object.__new__(cls)
        law._fill(*parts)
        return law

    @classmethod
    def gaussian(cls, mean: Tensor | Sequence[float] | float, cov: Tensor | Sequence | float) -> Self:
        """N(mean, cov). mean: (d,) or a number (d = 1); cov: a variance, (d,) variances or (d, d)."""
        mean = shapes.floating("mean", mean).reshape(1, -1)
        cov = shapes.floating("cov", cov)
        return cls(torch.ones(1, dtype=mean.dtype, device=mean.device), mean, cov.unsqueeze(0))

    @classmethod
    def dirac(cls, point: Tensor | Sequence[float] | float) -> Self:
        """The point mass at ``point``, (d,) or a number."""
        return cls.gaussian(point, 0.0)

    @classmethod
    def empirical(cls, points: Tensor | Sequence[Sequence[float]]) -> Self:
        """The empirical measure of points (n, d): a mixture of n Diracs of equal weight."""
        points = shapes.floating("points", points)
        if points.ndim != 2 or points.numel() == 0:
            raise ValueError(f"points must have shape (n, dim); got {tuple(points.shape)}.")
        n = points.shape[0]
        flat = torch.full((n,), 1.0 / n, dtype=points.dtype, device=points.device)
        zeros = torch.zeros_like(flat)
        return cls._built(flat, flat.log(), points, zeros, zeros[:, None], Axes(None))

    @classmethod
    def low_rank(
        cls,
        weights: Tensor | Sequence[float],
        means: Tensor | Sequence[Sequence[float]],
        factors: Tensor | Sequence,
        variances: Tensor | Sequence[float],
    ) -> Self:
        """The mixture with C_k = F_k F_k^T + s_k I: weights (K,), means (K, d), factors F (K, d, r), variances s (K,).

        For r < d no matrix d x d is ever made but by ``covs``, ``cov``, ``full_covs`` and ``posterior_cov``. s_k = 0
        puts a component on the subspace that F_k spans.

        Raises ValueError for wrong shapes, non-finite entries, weights that are no probability vector, s_k < 0.
        """
        means = shapes.floating("means", means)
        if means.ndim != 2 or means.numel() == 0:
            raise ValueError(f"means must have shape (components, dim); got {tuple(means.shape)}.")
        k, d = means.shape
        weights = probabilities(shapes.floating("weights", weights), k)
        factors = shapes.floating("factors", factors).to(means)
        if factors.ndim != 3 or factors.shape[:2] != (k, d) or factors.shape[2] == 0:
            raise ValueError(
                f"factors must have shape ({k}, {d}, rank), as means has shape ({k}, {d}); got {tuple(factors.shape)}."
            )
        variances = shapes.floating("variances", variances).to(means)
        if variances.shape != (k,) or bool((variances < 0).any()):
            raise ValueError(f"variances must have shape ({k},) and be >= 0; got {variances.tolist()}.")
        if factors.shape[2] >= d:
            covs = factors @ factors.mT + torch.diag_embed(variances.unsqueeze(-1).expand(-1, d))
            return cls(weights, means, 0.5 * (covs + covs.mT))
        along, basis = thin_basis(factors, variances)
        return cls._built(weights.to(means), weights.log().to(means), means, None, along, Axes(basis))

    @property
    def components(self) -> int:
        return self.means.shape[0]

    @property
    def mean(self) -> Tensor:
        return self.weights @ self.means

    @property
    def covs(self) -> Tensor:
        """(K,), (K, d) or (K, d, d), as they were given; full ones, made each time, for a mixture of low rank."""
        return self._axes.matrix(self._variances, self.dim) if self._covs is None else self._covs

    @property
    def cov(self) -> Tensor:
        centred = self.means - self.mean
        between = (self.weights[:, None] * centred).T @ centred
        if self._axes.basis is not None:
            return torch.einsum("k,kde->de", self.weights, self.covs) + between
        return torch.diag(self.weights @ self._variances.expand(-1, self.dim)) + between

    @property
    def singular(self) -> bool:
        return bool((self._variances <= 0).any())

    def full_covs(self) -> Tensor:
        """The covariances as full matrices, (K, d, d)."""
        covs = self.covs
        return covs if covs.ndim == 3 else torch.diag_embed(self._variances.expand(-1, self.dim))

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        parts = (self.weights, self._log_weights, self.means, self._covs, self._variances)
        moved = (None if part is None else part.to(device=device, dtype=dtype) for part in parts)
        return self._built(*moved, self._axes.to(dtype, device))

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        n = shapes.count("n", n)
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        basis = self._axes.basis
        coordinates = self.dim if basis is None else self._variances.shape[1]
        z = torch.randn(n, coordinates, dtype=self.dtype, device=self.device, generator=generator)
        z = z * self._variances[which].sqrt()
        if basis is None:
            return self.means[which] + z
        if self._axes.thin:
            on, rest = z.split([basis.shape[-1], self.dim], -1)
            on = on - torch.einsum("nde,nd->ne", basis[which], rest)  # the rest has nothing along the axes
            return self.means[which] + rest + torch.einsum("nde,ne->nd", basis[which], on)
        if self.components == 1:
            return self.means + z @ basis[0].T
        return self.means[which] + torch.einsum("nde,ne->nd", basis[which], z)

    def noised(self, alpha: float, sigma: float) -> Self:
        alpha, sigma = float(alpha), float(sigma)
        shapes.level(alpha, sigma)
        covs, noise = self._covs, sigma**2
        if covs is not None:
            covs = alpha**2 * covs
            covs = covs + (noise * torch.eye(self.dim).to(covs) if covs.ndim == 3 else noise)
        variances = alpha**2 * self._variances + noise
        return self._built(self.weights, self._log_weights, alpha * self.means, covs, variances, self._axes)

    def projected(self, direction: Tensor) -> "GaussianMixture":
        """The 1-D law of <direction, x_0>, for a direction (dim,) of any length."""
        direction = shapes.points(direction, self.dim).to(self.means)
        along = self._axes.turn(direction.unsqueeze(0))
        variances = (self._variances.expand(-1, along.shape[-1]) * along**2).sum(-1)
        return GaussianMixture(self.weights, (self.means @ direction)[:, None], variances)

    def _cdf(self, x: Tensor) -> Tensor:
        spread = self._variances[:, 0].sqrt()
        smooth, width = spread > 0, spread.where(spread > 0, 1.0)

        def formula(x, alpha, sigma):
            away = x - self.means[:, 0]
            return torch.where(smooth, normal.cdf(away / width), (away >= 0).to(self.dtype)) @ self.weights

        return self._chunked(formula, x.unsqueeze(-1), 1.0, 0.0)

    def _log_prob(self, x: Tensor) -> Tensor:
        return self._noised_log_prob(x, 1.0, 0.0)

    def _noised_log_prob(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        def formula(x, alpha, sigma):
            logits, common = self._parts.logits(x, alpha, sigma)
            return torch.logsumexp(logits, -1) + common

        def fast(terms, x):
            nothing = torch.zeros_like(terms.spread)
            return averages(terms, Pull(terms.means, nothing, nothing), x)

        constant = 0.5 * self.dim * math.log(2 * math.pi)
        return self._averaged(x, alpha, sigma, fast, formula, log_total=True) - constant

    def _score(self, x: Tensor) -> Tensor:
        def formula(x, alpha, sigma):
            pull = self._parts.responsibilities(x, alpha, sigma).unsqueeze(-1) / self._variances
            if self._parts.isotropic:
                return pull[..., 0] @ self.means - pull[..., 0].sum(-1, keepdim=True) * x
            return -self._axes.back(pull * self._parts.residual(x, alpha)).sum(-2)

        def fast(terms, x):
            return averages(terms, Pull(terms.means, torch.zeros_like(terms.spread), -1 / terms.spread), x)

        return self._averaged(x, 1.0, 0.0, fast, formula)

    def _posterior_mean(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        def formula(x, alpha, sigma):
            weight = self._parts.responsibilities(x, alpha, sigma)
            if not self._parts.isotropic:
                return (weight.unsqueeze(-1) * self._parts.centres(x, alpha, sigma)).sum(-2)
            spread = self._parts.noised(alpha, sigma)[..., 0]
            to_mean = weight * (squared(sigma) / spread.unsqueeze(-1))[..., 0]
            to_x = weight * (shapes.column(alpha) * self._variances[:, 0] / spread)
            return _combined(to_mean, self.means) + to_x.sum(-1, keepdim=True) * x

        def fast(terms, x):
            to_mean = sigma**2 / terms.spread * self._axes.turn(self.means)
            return averages(
                terms, Pull(torch.zeros_like(self.means), to_mean, alpha * self._variances / terms.spread), x
            )

        if self._streams(x, alpha, sigma):
            flat = x.reshape(-1, self.dim)
            found = streamed_means(self._parts.cloud, flat, float(alpha), float(sigma) ** 2)
            return self._completed(found.mean, found.sure, x, alpha, sigma, formula)
        return self._averaged(x, alpha, sigma, fast, formula)

    def _streams(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> bool:
        """Whether this is a large cloud of points seen at one level, and nobody differentiates."""
        if isinstance(alpha, Tensor) or isinstance(sigma, Tensor) or not self._parts.large:
            return False
        wanted = torch.is_grad_enabled() and (x.requires_grad or self.means.requires_grad)
        if len(x.reshape(-1, self.dim)) < 64 or wanted or not self._dirac:
            return False
        return self.dim > FEW_DIMENSIONS or fits(TABLES * self.means.numel() * self.means.element_size())

    def _averaged(
        self,
        x: Tensor,
        alpha: Scalar,
        sigma: Scalar,
        fast: Callable[[Terms, Tensor], Averages],
        formula: Formula,
        *,
        log_total: bool = False,
    ) -> Tensor:
        """By a fast route, and by the formula the rows for which that cannot promise its digits."""
        flat = x.reshape(-1, self.dim)
        if isinstance(alpha, Tensor) or isinstance(sigma, Tensor) or self._parts.large or self._axes.thin:
            return self._chunked(formula, x, alpha, sigma)
        terms = Terms(self._log_weights, alpha * self.means, alpha**2 * self._variances + sigma**2, self._axes)
        if not worthwhile(terms, flat):
            return self._chunked(formula, x, alpha, sigma)
        found = fast(terms, flat)
        out = found.log_total if log_total else found.values
        return self._completed(out, found.sure, x, alpha, sigma, formula)

    def _completed(
        self, out: Tensor, sure: Tensor, x: Tensor, alpha: Scalar, sigma: Scalar, formula: Formula
    ) -> Tensor:
        """Rows that are not sure answered by the formula, and the batch's shape."""
        unsure = (~sure).nonzero()[:, 0]
        if len(unsure):
            out[unsure] = self._chunked(formula, x.reshape(-1, self.dim)[unsure], alpha, sigma)
        return out.reshape(x.shape[:-1] + out.shape[1:])

    def _posterior_cov(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        def formula(x, alpha, sigma):
            weight = self._parts.responsibilities(x, alpha, sigma).unsqueeze(-1)
            means = self._parts.centres(x, alpha, sigma)
            away = deviations(weight, means)
            between = torch.einsum("nkd,nke->nde", weight * away, away)
            within = weight * (self._variances * squared(sigma) / self._parts.noised(alpha, sigma))
            basis = self._axes.basis
            if basis is None:
                return between + torch.diag_embed(within.sum(-2).expand(-1, self.dim))
            if self._axes.thin:
                return between + self._axes.matrix(within, self.dim).sum(-3)
            return between + torch.einsum("kde,nke,kfe->ndf", basis, within, basis)

        return self._chunked(formula, x, alpha, sigma, row=self.dim)

    def _posterior_cov_vp(self, x: Tensor, alpha: Scalar, sigma: Scalar, v: Tensor) -> Tensor:
        return second_moment(self._parts, Part.PRODUCT, x, alpha, sigma, v)

    def _posterior_cov_diag(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        return second_moment(self._parts, Part.DIAGONAL, x, alpha, sigma)

    def _posterior_cov_trace(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        return second_moment(self._parts, Part.TRACE, x, alpha, sigma)

    def _chunked(self, formula: Formula, x: Tensor, alpha: Scalar, sigma: Scalar, row: int = 1) -> Tensor:
        per_point, room = max(self.components * self.dim, row**2), PIECE_BYTES
        if self._parts.large and row == 1:
            per_point = self.components
            if self.dim > FEW_DIMENSIONS:
                room *= PRODUCTS
        return in_pieces(formula, x, alpha, sigma, per_point=per_point, room=room)

    def __repr__(self) -> str:
        rank = self._variances.shape[1] - self.dim
        shape = f"rank-{rank}" if self._covs is None else {1: "isotropic", 2: "diagonal", 3: "full"}[self._covs.ndim]
        if not self._variances.any():
            shape = "Dirac"
        noun = "component" if self.components == 1 else "components"
        return f"GaussianMixture({self.components} {shape} {noun} in R^{self.dim})"


def _combined(weight: Tensor, means: Tensor) -> Tensor:
    """weight @ means without the rows of a large cloud that no point here weighs: near the data, nearly all."""
    if means.numel() > DIRECT_ELEMENTS:
        heard = (weight > NEGLIGIBLE * weight.amax(-1, keepdim=True)).any(0).nonzero()[:, 0]
        if 8 * len(heard) < len(means):
            return weight[:, heard] @ means[heard]
    return weight @ means
