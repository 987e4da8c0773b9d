"""Posteriors as laws: given a linear observation with Gaussian noise, or tilted by the exponential of a quadratic."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from toy_distributions import shapes
from toy_distributions.base import Distribution
from toy_distributions.mixture import GaussianMixture
from toy_distributions.mixture_of import MixtureOf
from toy_distributions.roots import from_roots, roots_of

EPS = torch.finfo(torch.float64).eps


class Posterior(NamedTuple):
    """A law, and the logarithm of what it was divided by."""

    law: GaussianMixture
    log_evidence: float
    """log p(y) for an observation y; log E exp(-x^T J x / 2 + h^T x) for a tilt."""


class _Parts(NamedTuple):
    """Components N(m_k, F_k F_k^T): means (K, d), roots (K, d, r), and log p(y | k) (K,)."""

    means: Tensor
    roots: Tensor
    log_evidence: Tensor


def conditioned(
    law: Distribution,
    matrix: Tensor | Sequence[Sequence[float]],
    y: Tensor | Sequence[float],
    noise_cov: Tensor | Sequence | float,
) -> Posterior:
    r"""The law of x_0 given y = A x_0 + n, n ~ N(0, R), with log p(y); closed for Gaussian mixtures.

    For one component N(m, F F^T), with R = E diag(rho) E^T, e = rho^{-1/2} E^T (y - A m) and the singular values
    rho^{-1/2} E^T A F = W s V^T,

        E[x_0|y]   = m + F V s (1 + s^2)^{-1} W^T e
        Cov[x_0|y] = (F V) (1 + s^2)^{-1} (F V)^T
        log p(y)   = -(1/2) [ sum log(2 pi rho) + sum log(1 + s^2) + sum (W^T e)^2 / (1 + s^2) ]

    and components are weighed by w_k p(y|k). No covariance is subtracted from another, so nothing cancels however
    small R is. Where rho = 0 the observation is exact, the limit of isotropic noise that tends to zero: the result
    lives on a subspace, components for which y is impossible drop out, those that are thinnest along the observation
    win over the others, and p(y) is a density on their subspace of y's.

    matrix: A (m, d); y: (m,); noise_cov: R, a number, (m,) or (m, m), zeros allowed. law: a GaussianMixture, with any
    covariances, or a MixtureOf such; the result is a GaussianMixture.

    Raises ValueError for another law, wrong shapes, non-finite entries, a noise_cov that is not symmetric positive
    semi-definite, a y that is impossible.
    Source: bishop2006pattern, eqs. 2.113-2.117; sarkka2013bayesian, section 4.3.
    """
    A, y = (shapes.floating(name, v).to(law.device, torch.float64) for name, v in (("matrix", matrix), ("y", y)))
    if A.ndim != 2 or A.shape[1] != law.dim or A.shape[0] == 0 or y.shape != A.shape[:1]:
        raise ValueError(
            f"matrix must have shape (m, {law.dim}), as the law is on R^{law.dim}, and y (m,); "
            f"got {tuple(A.shape)} and {tuple(y.shape)}."
        )
    rho, E = _symmetric("noise_cov", noise_cov, len(y), A)
    if bool((rho < 0).any()):
        raise ValueError(f"noise_cov must be positive semi-definite; got the eigenvalue {rho.min().item():.6g}.")
    A, y, exact = E.T @ A, E.T @ y, rho == 0

    def given(parts: _Parts) -> _Parts:
        if bool(exact.any()):
            parts = _exactly(parts, A[exact], y[exact])
        if not bool(exact.all()):
            root = rho[~exact].sqrt()
            parts = _noisily(parts, A[~exact] / root[:, None], y[~exact] / root, root)
        return parts

    return _posterior(law, given, "conditioned")


def tilted(
    law: Distribution, precision: Tensor | Sequence | float, linear: Tensor | Sequence[float] | None = None
) -> Posterior:
    r"""The law with density proportional to p(x) exp(-x^T J x / 2 + h^T x), and log of its normaliser.

    For one component N(m, F F^T), with F^T J F = V (mu - 1) V^T and g = h - J m,

        mean  m + F V mu^{-1} V^T F^T g,  covariance  (F V) mu^{-1} (F V)^T
        log Z = h^T m - m^T J m / 2 - (1/2) sum log mu + (1/2) sum (V^T F^T g)^2 / mu

    and components are weighed by w_k Z_k. J need not be positive: a Gaussian may be widened.

    precision: J symmetric, a number, (d,) or (d, d); linear: h (d,), zero unless given. law: a GaussianMixture
    or a MixtureOf such; the result is a GaussianMixture.

    Raises ValueError for another law, wrong shapes, non-finite entries, and where the result cannot be normalised
    (some mu <= 0: J is more negative than a component is narrow).
    Source: bishop2006pattern, section 2.3.1 (completing the square).
    """
    d = law.dim
    h = torch.zeros(d) if linear is None else shapes.floating("linear", linear)
    h = h.to(law.device, torch.float64)
    if h.shape != (d,):
        raise ValueError(f"linear must have shape ({d},), as the law is on R^{d}; got {tuple(h.shape)}.")
    values, E = _symmetric("precision", precision, d, h)
    J = (E * values) @ E.T

    def given(parts: _Parts) -> _Parts:
        means, roots = parts.means, parts.roots
        if bool((values >= 0).all()):  # by singular values, which keep the digits of a narrow tilt
            _, s, V = _svd((values.sqrt() * E).T @ roots)
            mu = 1 + s**2
        else:
            inner = roots.mT @ J @ roots
            mu, V = torch.linalg.eigh(0.5 * (inner + inner.mT))
            low = mu.amin(-1) + 1 <= 64 * EPS * (1 + mu.abs().amax(-1))
            if bool(low.any()):
                k = int(low.nonzero()[0])
                raise ValueError(
                    f"precision must leave something normalisable: I + F^T J F has the eigenvalue "
                    f"{1 + mu[k].min().item():.6g} for component {k}; raise precision."
                )
            mu = 1 + mu
        pull = h - means @ J
        along = (V.mT @ (roots.mT @ pull.unsqueeze(-1))).squeeze(-1)
        on = roots @ V
        log_z = means @ h - 0.5 * ((means @ J) * means).sum(-1)
        log_z = log_z - 0.5 * mu.log().sum(-1) + 0.5 * (along**2 / mu).sum(-1)
        moved = means + (on @ (along / mu).unsqueeze(-1)).squeeze(-1)
        return _Parts(moved, on * mu.rsqrt().unsqueeze(-2), log_z)

    return _posterior(law, given, "tilted")


def _posterior(law: Distribution, given: Callable[[_Parts], _Parts], name: str) -> Posterior:
    """The mixture of the components' posteriors, weighed by their evidence."""
    leaves = list(_leaves(law, name))
    rank = max(roots.shape[-1] for _, _, roots in leaves)
    log_weights, means = (torch.cat(parts) for parts in list(zip(*leaves, strict=True))[:2])
    roots = torch.cat([torch.nn.functional.pad(roots, (0, rank - roots.shape[-1])) for _, _, roots in leaves])
    parts = given(_Parts(means, roots, torch.zeros_like(log_weights)))
    logs = log_weights + parts.log_evidence
    made = from_roots(logs, parts.means, parts.roots, law.dtype, law.device)
    return Posterior(made, torch.logsumexp(logs, 0).item())


def _leaves(law: Distribution, name: str) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Log weights (K,), means (K, d) and roots (K, d, r) of every GaussianMixture in the law, in float64."""
    if isinstance(law, GaussianMixture):
        yield law._log_weights.double(), law.means.double(), roots_of(law)
    elif isinstance(law, MixtureOf):
        for log_weight, part in zip(law._log_weights.double(), law.laws, strict=True):
            for logs, means, roots in _leaves(part, name):
                yield logs + log_weight, means, roots
    else:
        raise ValueError(f"{name} takes a GaussianMixture, or a MixtureOf such; got {law!r}. Fit a mixture to it.")


def _noisily(parts: _Parts, A: Tensor, y: Tensor, root: Tensor) -> _Parts:
    """Given y = A x_0 + n with n ~ N(0, I); root (m,) is what y was divided by."""
    gap = y - parts.means @ A.T
    W, s, V = _svd(A @ parts.roots)
    e = (W.mT @ gap.unsqueeze(-1)).squeeze(-1)
    least = min(e.shape[-1], s.shape[-1])
    along = s[..., :least] / (1 + s[..., :least] ** 2) * e[..., :least]
    on = parts.roots @ V
    scale = 1 + torch.nn.functional.pad(s[..., :least], (0, e.shape[-1] - least)) ** 2
    energy = (e**2 / scale).sum(-1) + torch.log1p(s**2).sum(-1)
    constant = (2 * root.log() + math.log(2 * math.pi)).sum()
    means = parts.means + (on[..., :least] @ along.unsqueeze(-1)).squeeze(-1)
    return _Parts(means, on * (1 + s**2).rsqrt().unsqueeze(-2), parts.log_evidence - 0.5 * (energy + constant))


def _exactly(parts: _Parts, A: Tensor, y: Tensor) -> _Parts:
    """Given y = A x_0. Directions of F that A sees are fixed; the others stay."""
    gap = y - parts.means @ A.T
    W, s, V = _svd(A @ parts.roots)
    seen = s > max(A.shape) * EPS * s.amax(-1, keepdim=True)
    e = (W.mT @ gap.unsqueeze(-1)).squeeze(-1)
    least = min(e.shape[-1], s.shape[-1])
    fixed = seen[..., :least]
    z = torch.where(fixed, e[..., :least] / s[..., :least].where(fixed, 1.0), 0.0)
    reach = y.abs() + parts.means.abs() @ A.abs().T + (A @ parts.roots).abs().sum(-1)
    left = e.clone()
    left[..., :least] = torch.where(fixed, 0.0, left[..., :least])
    possible = left.norm(dim=-1) <= 64 * max(A.shape) * EPS * reach.norm(dim=-1)
    if not bool(possible.any()):
        raise ValueError(
            f"y must be possible where noise_cov is zero; got y={y.tolist()[:4]} off the range of A x_0 by "
            f"{left.norm(dim=-1).min().item():.3g}. Allow for some noise."
        )
    rank = seen.sum(-1)
    thinnest = possible & (rank == rank[possible].min())
    logs = (z**2).sum(-1) + 2 * torch.where(seen, s, 1.0).log().sum(-1) + rank.double() * math.log(2 * math.pi)
    logs = torch.where(thinnest, parts.log_evidence - 0.5 * logs, -math.inf)
    on = parts.roots @ V
    means = parts.means + (on[..., :least] @ z.unsqueeze(-1)).squeeze(-1)
    return _Parts(means, torch.where(seen.unsqueeze(-2), 0.0, on), logs)


def _svd(B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """W (K, m, m), s (K, r) with zeros where m < r, V (K, r, r) of B (K, m, r) = W s V^T."""
    _, m, r = B.shape
    if not bool(B.any()):
        eyes = (torch.eye(n, dtype=B.dtype, device=B.device) for n in (m, r))
        return next(eyes), B.new_zeros(len(B), r), next(eyes)
    W, s, V = torch.linalg.svd(B)
    return W, torch.nn.functional.pad(s, (0, r - s.shape[-1])), V.mT


def _symmetric(name: str, value: Tensor | Sequence | float, d: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (d,) and eigenvectors (d, d) of a symmetric matrix given as a number, (d,) or (d, d)."""
    value = shapes.floating(name, value).to(like)
    if value.ndim < 2 and value.shape in ((), (d,)):
        return value.expand(d), torch.eye(d, dtype=like.dtype, device=like.device)
    if value.shape != (d, d):
        raise ValueError(f"{name} must be a number or have shape ({d},) or ({d}, {d}); got {tuple(value.shape)}.")
    if bool((value - value.T).abs().max() > 64 * EPS * value.abs().max()):
        off = (value - value.T).abs().max().item()
        raise ValueError(f"{name} must be symmetric; it differs from its transpose by {off:.3g}.")
    values, vectors = torch.linalg.eigh(0.5 * (value + value.T))
    return torch.where(values.abs() > 4 * d * EPS * values.abs().max(), values, 0.0), vectors
