r"""Second routes to what a law knows: each identity returns its residual, zero up to rounding for a correct law.

Throughout x = alpha x_0 + sigma eps. They serve as checks of a law of your own as much as of the ones here:

    law = MyLaw()
    x = law.noised(0.8, 0.3).sample(100, generator=torch.Generator().manual_seed(0))
    assert tweedie(law, x, 0.8, 0.3).abs().max() < 1e-12

The lattice sums (``total_mass``, ``total_mean``, ``total_cov``) integrate over x with the trapezoid rule, whose error
for a density blurred by a Gaussian of standard deviation s falls like exp(-2 pi^2 s^2 / step^2): with step = s/2 it
is 1e-34, and what is left is the mass outside the lattice and rounding.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from toy_distributions import shapes
from toy_distributions.base import Distribution

LATTICE_POINTS = 1 << 24
"""The largest lattice that is summed over."""


def autograd_score(law: Distribution, x: Tensor) -> Tensor:
    """The gradient of log_prob at x (..., dim) by automatic differentiation, the same shape."""
    x = x.detach().requires_grad_()
    return torch.autograd.grad(law.log_prob(x).sum(), x)[0]


def score_is_gradient(law: Distribution, x: Tensor) -> Tensor:
    """score(x) - grad log_prob(x), (..., dim)."""
    return law.score(x) - autograd_score(law, x)


def tweedie(law: Distribution, x: Tensor, alpha: float, sigma: float) -> Tensor:
    """x + sigma^2 score_t(x) - alpha E[x_0|x], in the units of x, (..., dim); score_t belongs to the noised law.

    Source: robbins1956, and efron2011tweedie, eq. 1.4.
    """
    score = law.noised(alpha, sigma).score(x)
    return x + sigma**2 * score - alpha * law.posterior_mean(x, alpha, sigma)


def posterior_jacobian(law: Distribution, x: Tensor, alpha: float, sigma: float) -> Tensor:
    """d E[x_0|x] / dx at x (..., dim) by automatic differentiation, (..., dim, dim); row i belongs to x_0i."""
    x = x.detach().requires_grad_()
    mean = law.posterior_mean(x, alpha, sigma)
    rows = [torch.autograd.grad(mean[..., i].sum(), x, retain_graph=True)[0] for i in range(law.dim)]
    return torch.stack(rows, -2)


def posterior_cov_is_jacobian(law: Distribution, x: Tensor, alpha: float, sigma: float) -> Tensor:
    """Cov[x_0|x] - (sigma^2 / alpha) d E[x_0|x] / dx, (..., dim, dim), for alpha > 0."""
    return law.posterior_cov(x, alpha, sigma) - sigma**2 / alpha * posterior_jacobian(law, x, alpha, sigma)


def third_cumulant_is_derivative(law: Distribution, x: Tensor, alpha: float, sigma: float) -> Tensor:
    r"""(sigma^2 / alpha) d Cov[x_0|x] / dx - (sigma^2 / alpha)^3 d^3 log p_t(x) / dx^3, (..., dim, dim, dim).

    Either is E[(x_0 - E[x_0|x])^3 | x], Tweedie's formula to third order; p_t is the noised density. Derivatives by
    automatic differentiation, for alpha > 0. The last axis is the last derivative's.
    Source: efron2011tweedie, section 2 (the cumulant generating function of x_0 given x).
    """
    gain, axes = sigma**2 / alpha, range(law.dim)
    x = x.detach().requires_grad_()

    def derivative(y: Tensor, keep: bool) -> Tensor:
        return torch.autograd.grad(y.sum(), x, create_graph=keep, retain_graph=True)[0]

    cov = law.posterior_cov(x, alpha, sigma)
    by_cov = torch.stack([torch.stack([derivative(cov[..., i, j], False) for j in axes], -2) for i in axes], -3)
    score = derivative(law.noised(alpha, sigma).log_prob(x), True)
    hessian = [derivative(score[..., i], True) for i in axes]
    by_density = torch.stack([torch.stack([derivative(row[..., j], False) for j in axes], -2) for row in hessian], -3)
    return gain * by_cov - gain**3 * by_density


def noising_is_a_semigroup(
    law: Distribution, x: Tensor, first: tuple[float, float], second: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """log_prob and score at x of the law noised twice, less those of the law noised once: (...) and (..., dim).

    With first = (a, s) and second = (b, t), once is (a b, sqrt(b^2 s^2 + t^2)).
    """
    (a, s), (b, t) = first, second
    twice = law.noised(a, s).noised(b, t)
    once = law.noised(a * b, math.hypot(b * s, t))
    return twice.log_prob(x) - once.log_prob(x), twice.score(x) - once.score(x)


class Lattice(NamedTuple):
    """Points (n, dim) of a rectangular lattice and the volume that each stands for."""

    points: Tensor
    cell: float


def lattice(law: Distribution, step: float, *, reach: float = 14.0) -> Lattice:
    """A lattice about the law's mean, out to ``reach`` standard deviations along each axis, for laws on R^1 and R^2.

    Raises ValueError for other dimensions, and for a lattice of more than LATTICE_POINTS points.
    """
    if law.dim > 2:
        raise ValueError(f"a lattice covers laws on R^1 and R^2; got a law on R^{law.dim}. Use samples instead.")
    step = shapes.number("step", step, positive=True)
    half = [math.ceil(reach * v**0.5 / step) for v in law.cov.diagonal().tolist()]
    size = math.prod(2 * n + 1 for n in half)
    if size > LATTICE_POINTS:
        raise ValueError(f"a lattice must have at most {LATTICE_POINTS} points; step={step} makes {size}. Widen it.")
    axes = [
        centre + step * torch.arange(-n, n + 1, dtype=law.dtype, device=law.device)
        for centre, n in zip(law.mean, half, strict=True)
    ]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, law.dim)
    return Lattice(points, step**law.dim)


def integral(law: Distribution, of: Callable[[Tensor], Tensor], step: float, *, reach: float = 14.0) -> Tensor:
    """E of(x) under the law by a lattice sum, for a function of points (n, dim) with values (n, ...)."""
    grid = lattice(law, step, reach=reach)
    total = 0.0
    for points in grid.points.split(1 << 16):
        values = of(points)
        weight = law.log_prob(points).exp() * grid.cell
        total = total + (weight.reshape(-1, *[1] * (values.ndim - 1)) * values).sum(0)
    return torch.as_tensor(total)


def total_mass(law: Distribution, step: float, *, reach: float = 14.0) -> float:
    """The integral of the density less one, for a law on R^1 or R^2."""
    return integral(law, lambda x: torch.ones_like(x[:, 0]), step, reach=reach).item() - 1


def total_mean(law: Distribution, alpha: float, sigma: float, *, step: float, reach: float = 14.0) -> Tensor:
    """E E[x_0|x] - E x_0, (dim,)."""
    mean = integral(law.noised(alpha, sigma), lambda x: law.posterior_mean(x, alpha, sigma), step, reach=reach)
    return mean - law.mean


def total_cov(law: Distribution, alpha: float, sigma: float, *, step: float, reach: float = 14.0) -> Tensor:
    """E Cov[x_0|x] + Cov E[x_0|x] - Cov x_0, (dim, dim): the law of total variance."""

    def second(x: Tensor) -> Tensor:
        away = law.posterior_mean(x, alpha, sigma) - law.mean
        return law.posterior_cov(x, alpha, sigma) + away.unsqueeze(-1) * away.unsqueeze(-2)

    return integral(law.noised(alpha, sigma), second, step, reach=reach) - law.cov


def sample_moments(law: Distribution, n: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mean and covariance of n samples less the law's, in units of their standard errors: (dim,) and (dim, dim).

    The standard errors are the samples' own, so entries are close to standard normal for large n. An entry that
    cannot vary (a coordinate that is constant up to rounding) is compared as it is: 0 or infinity.
    """
    x = law.sample(n, generator=generator) - law.mean
    size = law.mean.abs() + law.cov.diagonal().sqrt()
    eps = 64 * torch.finfo(x.dtype).eps

    def standardised(values: Tensor, truth: Tensor, rounding: Tensor) -> Tensor:
        spread, off = values.std(0) / n**0.5, values.mean(0) - truth
        constant = torch.where(off.abs() > rounding, math.inf, 0.0)
        return torch.where(spread > rounding, off / spread.where(spread > 0, 1.0), constant)

    outer = x.unsqueeze(-1) * x.unsqueeze(-2)
    return standardised(x, torch.zeros_like(law.mean), eps * size), standardised(outer, law.cov, eps * size.outer(size))
