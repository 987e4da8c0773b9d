"""kl, w1, w2, tv, sliced_w2, mmd: the best route the two arguments allow, said in the Estimate's method."""

import math
from typing import Any

import torch
from torch import Tensor

from theory.divergences import closed_form, quadrature, samples
from theory.estimate import Estimate
from toy_distributions.mixture import GaussianMixture

Law = Any
"""A Distribution, a 1-D law with cdf, quantile and log_prob, or a tensor of samples (n, d)."""


def kl(p: Law, q: Law) -> Estimate:
    """KL(p || q) in nats: closed form for Gaussians, quadrature for 1-D laws. Data first. May be infinite.

    Raises ValueError where there is no exact route: samples alone do not bound a KL.
    """
    _check(p, q)
    if closed_form.is_gaussian(p) and closed_form.is_gaussian(q):
        return closed_form.gaussian_kl(p, q)
    if _is_line(p) and _is_line(q):
        return quadrature.line_kl(p, q)
    raise ValueError(
        f"kl needs two Gaussians or two 1-D laws; got {_name(p)} and {_name(q)}. Try w2 or mmd on samples."
    )


def tv(p: Law, q: Law) -> Estimate:
    """Total variation distance, in [0, 1]: closed form for 1-D Gaussians, quadrature for 1-D laws."""
    _check(p, q)
    if closed_form.is_gaussian(p) and closed_form.is_gaussian(q):
        exact = closed_form.gaussian_tv(p, q)
        if exact is not None:
            return exact
    if _is_line(p) and _is_line(q):
        return quadrature.line_tv(p, q)
    raise ValueError(f"tv needs two 1-D laws; got {_name(p)} and {_name(q)}. Try w2 or mmd on samples.")


def w2(p: Law, q: Law) -> Estimate:
    """2-Wasserstein distance: Bures, point mass, 1-D quantiles, else optimal transport of samples."""
    _check(p, q)
    if closed_form.is_gaussian(p) and closed_form.is_gaussian(q):
        return closed_form.gaussian_w2(p, q)
    for law, other in ((p, q), (q, p)):
        if closed_form.is_gaussian(other) and not other.full_covs().any() and not isinstance(law, Tensor):
            return closed_form.point_distance(law, other.means[0], 2)  # pyright: ignore[reportReturnType]
    if _is_line(p) and _is_line(q):
        return quadrature.line_w2(p, q)
    return _by_samples(p, q, 2)


def w1(p: Law, q: Law) -> Estimate:
    """1-Wasserstein distance: int |F - G| in 1-D, else optimal transport of samples."""
    _check(p, q)
    if _is_line(p) and _is_line(q):
        return quadrature.line_w1(p, q)
    return _by_samples(p, q, 1)


def sliced_w2(p: Law, q: Law, *, directions: int = 128, seed: int = 0) -> Estimate:
    """Sliced W2: the root mean square over directions of the W2 of projections.

    Exact per direction for Gaussian mixtures; over the half circle by the trapezoid rule for dim 2 (error by
    halving), Monte Carlo with its half-width above. Samples: all projections sorted at once.
    """
    _check(p, q)
    dim = _dim(p)
    if dim == 1:
        return w2(p, q)
    mixtures = isinstance(p, GaussianMixture) and isinstance(q, GaussianMixture)
    if dim == 2 and mixtures:
        angles = torch.arange(directions, dtype=torch.float64) * (math.pi / directions)
        units = torch.stack([angles.cos(), angles.sin()], -1)
    else:
        units = torch.randn(directions, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        units = units / units.norm(dim=-1, keepdim=True)
    if not mixtures:
        return samples.sliced(_samples(p, seed), _samples(q, seed + 1), units)
    each = [w2(p.projected(unit), q.projected(unit)) for unit in units]
    squares = torch.tensor([e.value**2 for e in each], dtype=torch.float64)
    worst = max(e.error for e in each)
    if dim == 2:
        full, half = (squares[::skip].mean().item() ** 0.5 for skip in (1, 2))
        return Estimate(full, abs(full - half) + worst, f"quadrature over {directions} directions")
    found = samples.from_slices(squares, f"exact slices, monte carlo over {directions} directions")
    return Estimate(found.value, found.error + worst, found.method)


def mmd(p: Law, q: Law, *, bandwidth: float = 1.0) -> Estimate:
    r"""Squared maximum mean discrepancy with the kernel e^{-|x-y|^2 / (2 bandwidth^2)}.

    Closed form for Gaussian mixtures: E k(x, y) = sum w_i w_j b^d N-like terms with covariances C_i + C_j + b^2 I.
    Unbiased, hence possibly negative, for samples.
    """
    _check(p, q)
    if not bandwidth > 0:
        raise ValueError(f"bandwidth must be > 0; got {bandwidth}.")
    if isinstance(p, GaussianMixture) and isinstance(q, GaussianMixture):
        terms = [_mean_kernel(a, b, bandwidth) for a, b in ((p, p), (q, q), (p, q))]
        value = terms[0] + terms[1] - 2 * terms[2]
        return Estimate(value, 1e-14 * p.dim * sum(map(abs, terms)), "closed form")
    return samples.mmd_squared(_samples(p, 0), _samples(q, 1), bandwidth)


def _mean_kernel(p: GaussianMixture, q: GaussianMixture, bandwidth: float) -> float:
    noise = bandwidth**2 * torch.eye(p.dim, dtype=torch.float64)
    covs = p.full_covs()[:, None] + q.full_covs()[None] + noise
    away = p.means[:, None] - q.means[None]
    root = torch.linalg.cholesky(covs)
    white = torch.linalg.solve_triangular(root, away[..., None], upper=False)[..., 0]
    log_det = 2 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1) - 2 * p.dim * math.log(bandwidth)
    kernel = torch.exp(-0.5 * ((white**2).sum(-1) + log_det))
    return (p.weights @ kernel @ q.weights).item()


def _by_samples(p: Law, q: Law, power: int) -> Estimate:
    if isinstance(p, Tensor) and isinstance(q, Tensor) and _dim(p) == 1:
        return samples.transport_on_a_line(p, q, power)
    x, y = _samples(p, 0, 2000), _samples(q, 1, 2000)
    return samples.transport(x, y, power)


def _samples(law: Law, seed: int, n: int = 4000) -> Tensor:
    return law if isinstance(law, Tensor) else law.sample(n, generator=torch.Generator().manual_seed(seed))


def _is_line(law: Law) -> bool:
    return not isinstance(law, Tensor) and law.dim == 1 and hasattr(law, "quantile")


def _dim(law: Law) -> int:
    return law.shape[-1] if isinstance(law, Tensor) else law.dim


def _name(law: Law) -> str:
    return f"samples of shape {tuple(law.shape)}" if isinstance(law, Tensor) else repr(law)


def _check(p: Law, q: Law) -> None:
    for name, law in (("p", p), ("q", q)):
        if isinstance(law, Tensor):
            if law.ndim != 2 or len(law) < 2 or not bool(law.isfinite().all()):
                raise ValueError(f"samples {name} must be finite, of shape (n, d) with n >= 2; got {tuple(law.shape)}.")
        elif not hasattr(law, "dim"):
            raise ValueError(f"{name} must be a law or a tensor of samples; got {type(law).__name__}.")
    if _dim(p) != _dim(q):
        raise ValueError(f"p and q must live in one space; got dimensions {_dim(p)} and {_dim(q)}.")
