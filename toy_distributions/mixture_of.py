"""MixtureOf: a mixture of laws of any kinds; Checkerboard is one of boxes, SimplexCorners one of points."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from toy_distributions import shapes
from toy_distributions.base import Distribution
from toy_distributions.box import Box
from toy_distributions.components import probabilities
from toy_distributions.mixture import GaussianMixture
from toy_distributions.parts import deviations
from toy_distributions.shapes import Scalar


class MixtureOf(Distribution):
    r"""p = sum_k w_k p_k for laws p_k on one R^d: boxes, spheres, Gaussian mixtures, mixtures of those, in any company.

    With p_k,t the law of alpha x_0 + sigma eps for x_0 ~ p_k, and m_k, C_k its posterior mean and covariance,

        log r_k    = log w_k + log p_k,t(x) + const                          (responsibilities sum to one)
        E[x_0|x]   = sum_k r_k m_k
        Cov[x_0|x] = sum_k r_k [ C_k + (m_k - E[x_0|x]) (m_k - E[x_0|x])^T ]

    weights (K,), positive (down to 1e-300), summing to one; laws: K of them, of one dim, dtype and device. Singular if
    any of them is; the noised law never is. 1-D mixtures have a cdf where all their laws have one. Without blur the
    score outside all supports is that of the nearest law (the limit of small blur).

    Raises ValueError for weights that are not a probability vector, for no laws, for something that is not a law, for
    laws of several dims, dtypes or devices.
    """

    def __init__(self, weights: Tensor | Sequence[float], laws: Sequence[Distribution]):
        laws = company(laws, "MixtureOf")
        weights = shapes.floating("weights", weights).to(laws[0].device, torch.float64)
        log_weights = probabilities(weights, len(laws)).log()
        self._fill(log_weights.to(laws[0].dtype), laws)

    def _fill(self, log_weights: Tensor, laws: tuple[Distribution, ...]) -> None:
        self._log_weights, self.laws = log_weights, laws
        self.weights = log_weights.exp()
        self.dim, self.dtype, self.device = laws[0].dim, laws[0].dtype, laws[0].device

    @classmethod
    def _built(cls, log_weights: Tensor, laws: tuple[Distribution, ...]) -> Self:
        law = object.__new__(cls)
        law._fill(log_weights, laws)
        return law

    @property
    def mean(self) -> Tensor:
        return self.weights @ torch.stack([law.mean for law in self.laws])

    @property
    def cov(self) -> Tensor:
        away = torch.stack([law.mean for law in self.laws]) - self.mean
        within = torch.stack([law.cov for law in self.laws])
        return torch.einsum("k,kde->de", self.weights, within) + (self.weights[:, None] * away).T @ away

    @property
    def singular(self) -> bool:
        return any(law.singular for law in self.laws)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        laws = tuple(law.to(dtype, device) for law in self.laws)
        return self._built(self._log_weights.to(device=device, dtype=dtype), laws)

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        return self.sample_labelled(n, generator=generator)[0]

    def sample_labelled(self, n: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """n independent points (n, dim) and which law each came from (n,)."""
        n = shapes.count("n", n)
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        out = torch.empty(n, self.dim, dtype=self.dtype, device=self.device)
        for k in which.unique().tolist():
            rows = (which == k).nonzero()[:, 0]
            out[rows] = self.laws[k].sample(len(rows), generator=generator)
        return out, which

    def noised(self, alpha: float, sigma: float) -> Self:
        return self._built(self._log_weights, tuple(law.noised(alpha, sigma) for law in self.laws))

    def log_joint(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """log w_k + log p_k,t(x) for x (..., dim), shape (..., K): its log-sum-exp is the noised log density.

        alpha and sigma: numbers or tensors that broadcast to the batch; sigma > 0 unless no law is singular.
        """
        return torch.stack([law._noised_log_prob(x, alpha, sigma) for law in self.laws], -1) + self._log_weights

    def _noised_log_prob(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        return torch.logsumexp(self.log_joint(x, alpha, sigma), -1)

    def _log_prob(self, x: Tensor) -> Tensor:
        return torch.logsumexp(torch.stack([law._log_prob(x) for law in self.laws], -1) + self._log_weights, -1)

    def _score(self, x: Tensor) -> Tensor:
        logs = torch.stack([law._log_prob(x) for law in self.laws], -1) + self._log_weights
        outside = (logs == -torch.inf).all(-1, keepdim=True)
        if bool(outside.any()):  # only without blur: a little of it tells which law is nearest
            small = torch.finfo(x.dtype).eps ** 0.5 * self.cov.diagonal().max().item() ** 0.5
            nearest = self.log_joint(x, 1.0, small).argmax(-1, keepdim=True)
            one = torch.full_like(logs, -torch.inf).scatter(-1, nearest, 0.0)
            logs = torch.where(outside, one, logs)
        parts = torch.softmax(logs, -1).unsqueeze(-1)
        scores = torch.stack([law._score(x) for law in self.laws], -2)
        return (parts * torch.where(parts > 0, scores, 0.0)).sum(-2)

    def _posterior_mean(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        parts, means = self._parts(x, alpha, sigma)
        return (parts * means).sum(-2)

    def _posterior_cov(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        parts, means = self._parts(x, alpha, sigma)
        away = deviations(parts, means)
        out = (parts * away).mT @ away
        for k, law in enumerate(self.laws):
            out = out + parts[..., k, :, None] * law._posterior_cov(x, alpha, sigma)
        return out

    def _parts(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> tuple[Tensor, Tensor]:
        """Responsibilities (..., K, 1) and the laws' posterior means (..., K, dim)."""
        parts = torch.softmax(self.log_joint(x, alpha, sigma), -1).unsqueeze(-1)
        return parts, torch.stack([law._posterior_mean(x, alpha, sigma) for law in self.laws], -2)

    def _cdf(self, x: Tensor) -> Tensor:
        return torch.stack([law._cdf(x) for law in self.laws], -1) @ self.weights

    def _size(self) -> tuple[float, float]:
        centres, spreads = zip(*(law._size() for law in self.laws), strict=True)
        return sum(centres) / len(centres), max(*spreads, max(centres) - min(centres))

    def __repr__(self) -> str:
        parts = [f"{w:.6g} {law!r}" for w, law in zip(self.weights.tolist(), self.laws[:4], strict=False)]
        more = f" + {len(self.laws) - 4} more" if len(self.laws) > 4 else ""
        return f"MixtureOf({' + '.join(parts)}{more})"


def company(laws: Sequence[Distribution], name: str) -> tuple[Distribution, ...]:
    """The laws, if they are laws of one dim, dtype and device; ValueError in the name of what combines them if not."""
    laws = tuple(laws)
    if not laws:
        raise ValueError(f"{name} needs at least one law; got none.")
    for law in laws:
        if not isinstance(law, Distribution):
            raise ValueError(f"{name} takes a list of laws, as in [Box(0.0, 1.0), Box(2.0, 3.0)]; got {law!r}.")
    dims = [law.dim for law in laws]
    if len(set(dims)) > 1:
        raise ValueError(f"the laws of a {name} must live on one R^d; got dims {dims}. Use Product for blocks.")
    kinds = {(law.dtype, law.device) for law in laws}
    if len(kinds) > 1:
        got = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
        raise ValueError(f"the laws of a {name} must share dtype and device; got {got}. Use law.to(...).")
    return laws


def Checkerboard(cells: int = 4, reach: float = 2.0) -> MixtureOf:
    """The uniform law on the black cells of a checkerboard of cells x cells on [-reach, reach]^2.

    Raises ValueError for fewer than 2 cells a side, or a reach that is not positive.
    """
    cells, reach = shapes.count("cells", cells, 2), shapes.number("reach", reach, positive=True)
    edge = torch.linspace(-reach, reach, cells + 1, dtype=torch.float64)
    black = [(i, j) for i in range(cells) for j in range(cells) if (i + j) % 2 == 0]
    boxes = [Box(edge[[i, j]], edge[[i + 1, j + 1]]) for i, j in black]
    return MixtureOf([1 / len(boxes)] * len(boxes), boxes)


def SimplexCorners(dim: int) -> GaussianMixture:
    """The unit vectors e_1, ..., e_dim of R^dim with equal weight: categories written as one-hot vectors.

    Raises ValueError for dim < 1.
    """
    return GaussianMixture.empirical(torch.eye(shapes.count("dim", dim), dtype=torch.float64))
