"""The parameters of a mixture's components, checked and made ready: weights, covariances, factors."""

import torch
from torch import Tensor


def probabilities(weights: Tensor, k: int) -> Tensor:
    """weights (k,), positive, however small, and summing to one; else ValueError."""
    if weights.shape != (k,):
        raise ValueError(f"weights must have shape ({k},), one per mean; got {tuple(weights.shape)}.")
    if not bool((weights > 0).all()):
        raise ValueError(f"weights must be > 0; got {weights.min().item()}. Leave out components of weight zero.")
    total = weights.sum().item()
    if abs(total - 1) > 16 * k**0.5 * torch.finfo(weights.dtype).eps:
        raise ValueError(f"weights must sum to one; got a sum of {total!r}. Divide them by their sum.")
    return weights


def eigenbasis(covs: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (k, d) and eigenvectors (k, d, d) of covariances (k, d, d); ValueError if they are none."""
    eps = torch.finfo(covs.dtype).eps
    size = covs.abs().amax((-2, -1), keepdim=True)
    skew = (covs - covs.mT).abs().amax((-2, -1))
    for k in (skew > 64 * eps * size[:, 0, 0]).nonzero().flatten().tolist():
        raise ValueError(f"covs must be symmetric; covs[{k}] differs from its transpose by {skew[k].item():.3g}.")
    variances, basis = torch.linalg.eigh(0.5 * (covs + covs.mT))
    floor = -4 * covs.shape[-1] * eps * size[:, 0]
    for k in (variances < 16 * floor).any(-1).nonzero().flatten().tolist():
        raise ValueError(
            f"covs must be positive semi-definite; covs[{k}] has the eigenvalue {variances[k].min().item():.6g}."
        )
    return torch.where(variances > -floor, variances, 0.0), basis  # below eigh's resolution a direction is flat


def thin_basis(factors: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Variances (k, r + d) and axes (k, d, r) of F F^T + s I for factors F (k, d, r), r < d, and variances s (k,).

    The first r variances lie along the axes, the others are s.
    """
    basis, sizes, _ = torch.linalg.svd(factors, full_matrices=False)
    rest = variances.unsqueeze(-1)
    return torch.cat([sizes**2 + rest, rest.expand(-1, factors.shape[-2])], -1), basis
