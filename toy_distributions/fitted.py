"""Gaussians and mixtures of them fitted to points by maximum likelihood."""

import math

import torch
from torch import Tensor

from toy_distributions import shapes
from toy_distributions.mixture import GaussianMixture

FLOOR = 1e-6
"""Least variance in any direction, as a share of the points' mean variance: no component can collapse on a point."""


def fit_gaussian(points: Tensor) -> GaussianMixture:
    """The Gaussian with the mean and the covariance (divided by n) of points (n, d): the likeliest one.

    Degenerate where the points lie on a subspace. Raises ValueError for points of another shape or not finite.
    """
    points = _checked(points)
    mean = points.mean(0)
    away = points - mean
    cov = away.T @ away / len(points)
    return GaussianMixture.gaussian(mean, 0.5 * (cov + cov.T))


def fit_mixture(
    points: Tensor, k: int, *, seed: int, iterations: int = 200, tolerance: float = 1e-9
) -> GaussianMixture:
    r"""k Gaussians with full covariances fitted to points (n, d) by EM, with a floor under their variances.

    Starts from k of the points, chosen far from one another by ``seed`` (each next one with a probability that grows
    with its squared distance from the nearest), and steps until the mean log-likelihood grows by less than tolerance,
    or for so many iterations. The likelihood never falls, as the floor is a constraint that the M step meets exactly.
    The same points and seed give the same law on one machine.

    Raises ValueError for points of another shape or not finite, k < 1, fewer than k distinct points.
    Source: dempster1977maximum.
    """
    points, k = _checked(points), shapes.count("k", k)
    floor = variance_floor(points)
    law = _start(points, k, torch.Generator().manual_seed(seed), floor)
    before = -math.inf
    for _ in range(iterations):
        law, likelihood = em_step(law, points, floor)
        if likelihood - before < tolerance:
            break
        before = likelihood
    return law


def variance_floor(points: Tensor) -> float:
    """FLOOR times the mean variance of points (n, d) along a coordinate."""
    return FLOOR * points.var(0, correction=0).mean().item()


def em_step(law: GaussianMixture, points: Tensor, floor: float) -> tuple[GaussianMixture, float]:
    r"""One step of EM from a law with full, positive definite covariances, and the mean log-likelihood before it.

        r_ik = w_k N(x_i; m_k, C_k) / sum_j w_j N(x_i; m_j, C_j),     n_k = sum_i r_ik
        w_k = n_k / n,   m_k = sum_i r_ik x_i / n_k,   C_k = sum_i r_ik (x_i - m_k)(x_i - m_k)^T / n_k

    with the eigenvalues of C_k raised to ``floor``: the likeliest covariance among those with none below it.
    Source: dempster1977maximum; bishop2006pattern, eqs. 9.23-9.27.
    """
    n, d = points.shape
    roots = torch.linalg.cholesky(law.full_covs())
    logs = torch.empty(n, law.components, dtype=points.dtype, device=points.device)
    for k in range(law.components):
        z = torch.linalg.solve_triangular(roots[k], (points - law.means[k]).T, upper=False)
        logs[:, k] = -0.5 * (z**2).sum(0) - roots[k].diagonal().log().sum() - 0.5 * d * math.log(2 * math.pi)
    logs += law._log_weights
    total = torch.logsumexp(logs, -1, keepdim=True)
    parts = (logs - total).exp()
    heard = parts.sum(0) > torch.finfo(points.dtype).tiny
    parts = parts[:, heard]
    counts = parts.sum(0)
    means = (parts.T @ points) / counts[:, None]
    covs = torch.empty(len(counts), d, d, dtype=points.dtype, device=points.device)
    for k in range(len(counts)):
        away = points - means[k]
        values, basis = torch.linalg.eigh((away * parts[:, k, None]).T @ away / counts[k])
        covs[k] = (basis * values.clamp_min(floor)) @ basis.T
    made = GaussianMixture(counts / counts.sum(), means, 0.5 * (covs + covs.mT))
    return made, total.mean().item()


def _start(points: Tensor, k: int, generator: torch.Generator, floor: float) -> GaussianMixture:
    """k points far from one another, each with the points' mean variance."""
    n, d = points.shape
    chosen = torch.randint(n, (1,), generator=generator).tolist()
    nearest = ((points - points[chosen[0]]) ** 2).sum(-1)
    for _ in range(k - 1):
        if not bool(nearest.max() > 0):
            raise ValueError(f"k must be at most the number of distinct points; got k={k} and {len(chosen)} of them.")
        sums = nearest.cumsum(0)
        mark = torch.rand(1, generator=generator, dtype=torch.float64).item() * sums[-1]
        chosen.append(min(int(torch.searchsorted(sums, mark, right=True)), n - 1))
        nearest = torch.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(-1))
    spread = max(points.var(0, correction=0).mean().item(), floor) or 1.0
    eye = torch.eye(d, dtype=points.dtype, device=points.device)
    flat = torch.full((k,), 1 / k, dtype=points.dtype, device=points.device)
    return GaussianMixture(flat, points[chosen], (spread * eye).repeat(k, 1, 1))


def _checked(points: Tensor) -> Tensor:
    points = shapes.floating("points", points)
    if points.ndim != 2 or points.numel() == 0:
        raise ValueError(f"points must have shape (n, dim); got {tuple(points.shape)}.")
    return points
