"""Gaussian mixtures by roots of their covariances, C_k = F_k F_k^T, which keep twice the digits of the covariances."""

import torch
from torch import Tensor

from toy_distributions.axes import Axes
from toy_distributions.mixture import GaussianMixture


def roots_of(law: GaussianMixture) -> Tensor:
    """F_k (K, d, r) in float64; one column of zeros for a cloud of points."""
    variances, axes = law._variances.double(), law._axes.to(torch.float64, None)
    if not bool(variances.any()):
        return variances.new_zeros(*law.means.shape, 1)
    if axes.basis is not None and not axes.thin:
        return axes.basis * variances.sqrt().unsqueeze(-2)
    return axes.matrix(variances.sqrt(), law.dim)


def from_variances(
    log_weights: Tensor, means: Tensor, variances: Tensor, dtype: torch.dtype, device: torch.device
) -> GaussianMixture:
    """The mixture with variances (K,) isotropic or (K, d) diagonal."""
    flat = variances.reshape(len(means), -1)
    law = GaussianMixture._built(log_weights.exp(), log_weights, means, variances, flat, Axes(None))
    return law.to(dtype, device)


def from_roots(
    log_weights: Tensor, means: Tensor, roots: Tensor, dtype: torch.dtype, device: torch.device
) -> GaussianMixture:
    """The mixture of N(m_k, F_k F_k^T), with weights up to a factor.

    The axes and variances are singular vectors and squared singular values of F: a direction of variance v among others
    of variance V is good to eps sqrt(V / v), where by eigenvectors of F F^T it would be to eps V / v. Directions below
    the resolution of F are flat. Components of log weight -inf are left out; others, however light, are not: far out,
    where the heavy ones have no density left, they are all there is.
    """
    log_weights = torch.log_softmax(log_weights, 0)
    kept = log_weights > -torch.inf
    log_weights, means, roots = log_weights[kept], means[kept], roots[kept]
    k, d, r = roots.shape
    if not bool(roots.any()):
        return from_variances(log_weights, means, means.new_zeros(k), dtype, device)
    basis, sizes, _ = torch.linalg.svd(roots, full_matrices=False)
    floor = max(d, r) * torch.finfo(torch.float64).eps * sizes.amax(-1, keepdim=True)
    variances, axes = torch.where(sizes > floor, sizes, 0.0) ** 2, Axes(basis)
    if r < d:
        covs, variances = None, torch.cat([variances, variances.new_zeros(k, d)], -1)
    else:
        covs = axes.matrix(variances, d)
    law = GaussianMixture._built(log_weights.exp(), log_weights, means, covs, variances, axes)
    return law.to(dtype, device)
