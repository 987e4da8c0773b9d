"""Components: logits, responsibilities and posterior means of each component of a mixture, by differences."""

import torch
from torch import Tensor

from toy_distributions import shapes
from toy_distributions.axes import Axes
from toy_distributions.cloud import Cloud
from toy_distributions.shapes import Scalar

DIRECT_ELEMENTS = 1 << 16
"""Up to this many numbers (components x dim) distances are differences; beyond, isotropic mixtures are clouds."""


class Components:
    """log w_k (K,), m_k (K, d), variances v_k (K, R) or (K, 1) along axes; see GaussianMixture for the formulas.

    Points are x (n, d); alpha and sigma numbers or (n,).
    """

    def __init__(self, log_weights: Tensor, means: Tensor, variances: Tensor, axes: Axes):
        self.log_weights, self.means, self.variances, self.axes = log_weights, means, variances, axes
        self.components, self.dim = means.shape
        self._cloud: Cloud | None = None  # made when it is needed

    def centres(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """D_k, shape (n, K, d), as (sigma^2 / S_k) m_k + (alpha v_k / S_k) x in each component's own axes.

        Neither term is larger than what it stands for, however much larger m_k is than D_k.
        """
        spread = self.noised(alpha, sigma)
        to_mean, to_x = squared(sigma) / spread, component(alpha) * self.variances / spread
        turn = self.axes.turn
        return self.axes.back(to_mean * turn(self.means) + to_x * turn(x.unsqueeze(-2)))

    def responsibilities(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        return torch.softmax(self.logits(x, alpha, sigma)[0], -1)

    def logits(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> tuple[Tensor, Tensor]:
        """log of w_k N(x; alpha m_k, S_k) up to -(d/2) log 2 pi for x (n, d), as (n, K) plus a part (n,) common to all.

        The logits decide the responsibilities by their differences. Far from every mean those are small against the
        logits, so the distance to the nearest mean is taken out before it can swallow them.
        """
        if self.large:
            return self._of_a_cloud(x, alpha, sigma)
        spread = self.noised(alpha, sigma)
        residual = self.residual(x, alpha)
        energy = (residual**2 / spread).sum(-1)
        logits = self.log_weights - 0.5 * (energy + self._log_volume(spread))
        common = torch.zeros_like(logits[:, 0])
        if self.components == 1:
            return logits, common
        far = (energy.amin(-1) > 32 + 2 * self.dim).nonzero()[:, 0]
        if len(far):
            levels = (v[far] if isinstance(v, Tensor) else v for v in (alpha, sigma))
            differences, nearest = self._from_afar(x[far], residual[far], *levels)
            logits, common = logits.index_copy(0, far, differences), common.index_copy(0, far, nearest)
        return logits, common

    def _from_afar(self, x: Tensor, residual: Tensor, alpha: Scalar, sigma: Scalar) -> tuple[Tensor, Tensor]:
        r"""The same with |x - alpha m_j|^2 / T of the nearest mean m_j taken out, where T is the largest S_ki.

        |x - alpha m_k|^2 - |x - alpha m_j|^2 = alpha (m_j - m_k) . (2x - alpha m_j - alpha m_k), and
        1/S_ki = 1/T + (T - S_ki) / (T S_ki) with T - S_ki = alpha^2 (max v - v_ki).
        """
        spread, largest = self.noised(alpha, sigma), self.variances.max()
        top = component(alpha) ** 2 * largest + squared(sigma)
        away = x.unsqueeze(-2) - component(alpha) * self.means
        nearest = (away**2).sum(-1).argmin(-1)
        rows = torch.arange(len(x), device=x.device)
        nearer = component(alpha) * (self.means[nearest].unsqueeze(-2) - self.means)
        to_nearest = away[rows, nearest].unsqueeze(-2)
        between = (nearer * (away + to_nearest) / top).sum(-1)
        beyond = (residual**2 * (component(alpha) ** 2 * (largest - self.variances) / top / spread)).sum(-1)
        logits = self.log_weights - 0.5 * (between + beyond + self._log_volume(spread))
        return logits, -0.5 * (to_nearest**2 / top).sum((-2, -1))

    def _log_volume(self, spread: Tensor) -> Tensor:
        """log det S_k, shape (K,) or (n, K)."""
        return self.axes.total(spread.log(), self.dim)

    def _of_a_cloud(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> tuple[Tensor, Tensor]:
        """The same for many isotropic components, with a distance common to all taken out."""
        spread = self.noised(alpha, sigma)[..., 0]
        smallest, largest = self.variances.min(), self.variances.max()
        top = shapes.column(alpha) ** 2 * largest + shapes.column(sigma) ** 2
        excess, common = self.cloud.distances(x, alpha, spread)
        energy = excess / spread
        if bool(largest > smallest):
            energy = energy + common * (shapes.column(alpha) ** 2 * (largest - self.variances[:, 0]) / top / spread)
        logits = self.log_weights - 0.5 * (energy + self.dim * spread.log())
        return logits, -0.5 * (common / top)[:, 0]

    @property
    def cloud(self) -> Cloud:
        if self._cloud is None:
            self._cloud = Cloud(self.means, self.log_weights)
        return self._cloud

    def residual(self, x: Tensor, alpha: Scalar) -> Tensor:
        """y_k = U_k^T (x - alpha m_k), shape (n, K, d)."""
        away = x.unsqueeze(-2) - component(alpha) * self.means
        return self.axes.turn(away)

    def noised(self, alpha: Scalar, sigma: Scalar) -> Tensor:
        """S_k, shape (K, r) for numbers and (n, K, r) for one level a point, r = dim or 1."""
        return component(alpha) ** 2 * self.variances + squared(sigma)

    @property
    def isotropic(self) -> bool:
        return self.axes.basis is None and self.variances.shape[1] == 1

    @property
    def large(self) -> bool:
        """Whether distances are computed as those of a cloud."""
        return self.means.numel() > DIRECT_ELEMENTS and self.isotropic

    @property
    def width(self) -> int:
        """Numbers kept for one component at one point."""
        return max(self.dim, self.variances.shape[1])

    def parts(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> tuple[Tensor, Tensor, Tensor]:
        """At x (n, d): responsibilities (n, K), D_k (n, K, d), variances given k and x along the axes (.., K, R)."""
        within = self.variances * squared(sigma) / self.noised(alpha, sigma)
        return self.responsibilities(x, alpha, sigma), self.centres(x, alpha, sigma), within

    def cloud_parts(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of isotropic components: responsibilities (n, K); a_k, b_k with D_k = a_k m_k + b_k x, and variances given
        k and x, all (K,) or (n, K)."""
        spread, noise = self.noised(alpha, sigma)[..., 0], shapes.column(sigma) ** 2
        variances = self.variances[:, 0]
        gains = noise / spread, shapes.column(alpha) * variances / spread, variances * noise / spread
        return self.responsibilities(x, alpha, sigma), *gains


def component(value: Scalar) -> Scalar:
    """A per-point number (n,) made to broadcast against (n, K, d)."""
    return value[:, None, None] if isinstance(value, Tensor) else value


def squared(value: Scalar) -> Scalar:
    return component(value) ** 2


def deviations(parts: Tensor, means: Tensor) -> Tensor:
    """means (..., K, d) less their average with the weights parts (..., K, 1), the same shape.

    Measured from the heaviest, whose own deviation, a sum over the others, may be far below the rounding of means.
    """
    heaviest = parts.argmax(-2, keepdim=True).expand(*means.shape[:-2], 1, means.shape[-1])
    away = means - means.gather(-2, heaviest)
    return away - (parts * away).sum(-2, keepdim=True)
