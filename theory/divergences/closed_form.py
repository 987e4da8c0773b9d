"""Divergences between Gaussians, and to a point mass, in closed form."""

import math

import torch
from torch import Tensor

from theory.estimate import Estimate
from toy_distributions.base import Distribution
from toy_distributions.mixture import GaussianMixture

EPS = 2.0**-52


def is_gaussian(law: object) -> bool:
    return isinstance(law, GaussianMixture) and law.components == 1


def gaussian_kl(p: GaussianMixture, q: GaussianMixture) -> Estimate:
    r"""KL(p || q) = (1/2) sum_i [ l_i - log(1 + l_i) ] + (1/2) |L^{-1} (m_p - m_q)|^2.

    q's covariance is L L^T and l_i are the eigenvalues of L^{-1} (P - Q) L^{-T}, found from the difference P - Q, so
    that a KL of 1e-20 between close laws keeps its digits. Infinite if q is degenerate where p is not.
    """
    away = (p.means - q.means)[0]
    P, Q = p.full_covs()[0], q.full_covs()[0]
    if bool((P.diag() > 0).all() & (Q.diag() > 0).all()) and _is_diagonal(P) and _is_diagonal(Q):
        return _diagonal_kl(P.diag(), Q.diag(), away, EPS * (p.means.abs() + q.means.abs())[0])
    variances, basis = torch.linalg.eigh(Q)
    flat = variances <= 4 * len(variances) * EPS * variances.abs().max()
    if bool(flat.any()):
        return _degenerate_kl(P, away, variances, basis, flat)
    root = basis / variances.sqrt()
    change = torch.linalg.eigvalsh(root.T @ (P - Q) @ root)
    shift = root.T @ away
    if bool((change <= -1 + 16 * EPS * (1 + variances.max() / variances.min())).any()):
        return Estimate(math.inf, 0.0, "closed form")  # p is degenerate where q is not
    value = 0.5 * (_excess(change).sum() + (shift**2).sum())
    # the inputs' own rounding, seen through the inverse of Q: first order in l for the trace, relative for the rest
    size = (P.abs().max() / variances.min() + change.abs().max()).item()
    means = (p.means.abs().max() + q.means.abs().max()).item() / variances.min().sqrt().item()
    error = 8 * len(variances) * EPS * (size * (change.abs() / (1 + change)).max().item() + value.item())
    error += 4 * EPS * means * shift.abs().max().item()
    return Estimate(max(value.item(), 0.0), error, "closed form")


def _is_diagonal(cov: Tensor) -> bool:
    return bool((cov == cov.diag().diag()).all())


def _diagonal_kl(p: Tensor, q: Tensor, away: Tensor, away_error: Tensor) -> Estimate:
    """The same without an eigendecomposition, so that each axis keeps its own digits whatever the others' scales."""
    ratio, change = p / q, (p - q) / q
    excess = torch.where(change < -0.5, ratio - 1 - torch.log(ratio), _excess(change.clamp_min(-0.5)))
    shift = away**2 / q
    error = 4 * EPS * (excess + shift + change.abs()).sum()  # |change|: the inputs' own rounding
    error += (away_error * (2 * away.abs() + away_error) / q).sum()
    return Estimate(0.5 * (excess + shift).sum().item(), len(p) * error.item(), "closed form")


def _excess(change: Tensor) -> Tensor:
    """l - log(1 + l), by its series where the difference would lose digits."""
    series = sum(((-1) ** j) * change**j / j for j in range(2, 12))
    return torch.where(change.abs() < 0.03, series, change - torch.log1p(change))


def _degenerate_kl(P: Tensor, away: Tensor, variances: Tensor, basis: Tensor, flat: Tensor) -> Estimate:
    """q lives on a subspace: KL is infinite unless p lives on the same one."""
    scale = max(P.abs().max().item(), variances.abs().max().item(), 1e-300)
    outside, inside = basis[:, flat], basis[:, ~flat]
    leaks = (outside.T @ P @ outside).abs().max().item() > 1e-12 * scale
    if leaks or (outside.T @ away).abs().max().item() > 1e-12 * max(scale**0.5, away.abs().max().item()):
        return Estimate(math.inf, 0.0, "closed form")
    if inside.shape[1] == 0:
        return Estimate(0.0, 0.0, "closed form")
    kept_p = GaussianMixture.gaussian(inside.T @ away, inside.T @ P @ inside)
    kept_q = GaussianMixture.gaussian(torch.zeros_like(kept_p.means[0]), torch.diag(variances[~flat]))
    return gaussian_kl(kept_p, kept_q)


def gaussian_w2(p: GaussianMixture, q: GaussianMixture) -> Estimate:
    r"""W2^2 = |m_p - m_q|^2 + min over orthogonal U of |A - B U|_F^2, with P = A A^T, Q = B B^T (Bures).

    The Procrustes form is a sum of squares of differences, so close laws keep their digits.
    """
    A, B = _root(p.full_covs()[0]), _root(q.full_covs()[0])
    left, _, right = torch.linalg.svd(B.T @ A)
    gap = A - B @ (left @ right)
    away = p.means - q.means
    value = torch.sqrt((gap**2).sum() + (away**2).sum()).item()
    size = A.norm().item() + B.norm().item() + p.means.abs().max().item() + q.means.abs().max().item()
    return Estimate(value, 8 * len(A) * EPS * size, "closed form (Bures)")


def _root(cov: Tensor) -> Tensor:
    variances, basis = torch.linalg.eigh(cov)
    return basis * variances.clamp_min(0).sqrt()


def point_distance(p: Distribution, point: Tensor, power: int) -> Estimate | None:
    """W2 to a point mass: the root of the second moment about it. W1 has no closed form in general: None."""
    if power != 2:
        return None
    value = torch.sqrt(((p.mean - point) ** 2).sum() + p.cov.diagonal().sum()).item()
    return Estimate(value, 16 * p.dim * EPS * (value + point.abs().max().item()), "closed form (second moment)")


def gaussian_tv(p: GaussianMixture, q: GaussianMixture) -> Estimate | None:
    """TV of 1-D Gaussians: the densities cross at most twice, and between crossings the cdfs say all."""
    if p.dim != 1 or p.singular or q.singular:
        return None
    (m, n), (v, w) = (x.means.item() for x in (p, q)), (x.full_covs().item() for x in (p, q))
    if v == w:
        value = math.erf(abs(m - n) / math.sqrt(8 * v))
        return Estimate(value, 8 * EPS * max(value, 1e-300), "closed form")
    # (x-n)^2/w - (x-m)^2/v = log(v/w), in y = x - m
    shift = m - n
    a, b, c = 1 / w - 1 / v, shift / w, shift**2 / w - math.log(v / w)
    disc = math.sqrt(max(b * b - a * c, 0.0))
    top = -(b + math.copysign(disc, b))
    ends = sorted((top / a, c / top)) if top else [-disc / abs(a), disc / abs(a)]
    inside = [_mass(ends, 0.0, v), _mass(ends, -shift, w)]
    return Estimate(abs(inside[0] - inside[1]), 64 * EPS * (1 + abs(shift) / min(v, w) ** 0.5), "closed form")


def _mass(ends: list[float], mean: float, variance: float) -> float:
    low, high = ((x - mean) / math.sqrt(2 * variance) for x in ends)
    return 0.5 * (math.erfc(low) - math.erfc(high)) if low > 0 else 0.5 * (math.erf(high) - math.erf(low))
