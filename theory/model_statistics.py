r"""The statistics of a law's exact model that DPM-Solver-v3 is run with: l, s and b as functions of lambda.

With y = x / alpha, k = e^-lam and D, C the posterior mean and covariance of x_0 given x, a law's own model has

    sigma grad_x eps = 1 - C / k^2,      f = (1 - l) y - D,
    dD/dlam = C (y - D) / k^2 - grad_y tr C      along the flow dy/dlam = -(y - D),

the last since the posterior weight exp(-|y - x_0|^2 / (2 k^2)) changes its logarithm by ((y - D) r - |r|^2) / k^2 and a
constant, r = x_0 - D, and E r |r|^2 = k^2 grad_y tr C. The optimal statistics are, by coordinate, over x ~ q_lam,

    l = E diag(sigma grad eps),      s = Cov(f', f) / Var f,      b = E f' - s E f,

where f' = -l' y - (1 - l)(y - D) - dD/dlam. Where f does not vary, s = 0.
Source: zheng2023dpm, section 3.2 (what l, s and b minimise); the formulas in C derived here.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from theory.solvers.dpm_v3 import Coefficients
from toy_distributions import shapes
from toy_distributions.base import Distribution

Cloud = Callable[[float, float], tuple[Tensor, Tensor]]
"""alpha, sigma -> states x (n, dim) and weights (n,) of sum one that stand for the noised law."""

STILL = 1e-24
"""Var f, in units of Var y, below which f is called constant: rounding leaves some 1e-32."""


@dataclass(frozen=True, eq=False)
class GaussianStatistics:
    """Those of N(mean, diag(variances)), in closed form: l = 1 / (1 + v e^{2 lam}), s = 0, b = 2 l (1 - l) mean.

    There f = -l mean does not depend on x. mean, variances: (dim,). Raises ValueError for other shapes and for
    variances below 0.
    """

    mean: Tensor
    variances: Tensor

    def __post_init__(self):
        for name, value in (("mean", self.mean), ("variances", self.variances)):
            if shapes.floating(name, value).shape != self.mean.shape or value.ndim != 1:
                raise ValueError(
                    f"mean and variances must have one shape (dim,); got {name} of shape {tuple(value.shape)}."
                )
        if not bool((self.variances >= 0).all()):
            raise ValueError(f"variances must be >= 0; got {self.variances.min().item()}.")

    def __call__(self, lam: Tensor) -> Coefficients:
        l = 1 / (1 + self.variances * torch.exp(2 * lam).unsqueeze(-1))
        return Coefficients(l, torch.zeros_like(l), 2 * l * (1 - l) * self.mean)


@dataclass(frozen=True, eq=False)
class FittedStatistics:
    """Polynomials in lambda on [low, high]: Chebyshev coefficients (degree + 1, dim) of l, s and b.

    Raises ValueError for lambda outside, by more than rounding.
    """

    low: float
    high: float
    l: np.ndarray
    s: np.ndarray
    b: np.ndarray

    def __call__(self, lam: Tensor) -> Coefficients:
        slack = 1e-9 * (self.high - self.low)
        if bool(((lam < self.low - slack) | (lam > self.high + slack)).any()):
            raise ValueError(
                f"lambda must lie in [{self.low:.6g}, {self.high:.6g}], where the statistics were found; got values "
                f"from {lam.min().item():.6g} to {lam.max().item():.6g}."
            )
        place = (2 * lam.numpy() - self.low - self.high) / (self.high - self.low)
        basis = torch.from_numpy(np.polynomial.chebyshev.chebvander(place, len(self.l) - 1))
        return Coefficients(*(basis @ torch.from_numpy(each) for each in (self.l, self.s, self.b)))


def quadrature_statistics(
    law: Distribution, low: float, high: float, *, degree: int = 32, intervals: int = 2000
) -> FittedStatistics:
    """The optimal statistics of a 1-D law's own model on lambda in [low, high], by quadrature over the noised law.

    The trapezoid rule over twelve standard deviations each side of the mean, weighted by the density. degree: of the
    polynomials through the values at as many Chebyshev points, and one.
    Raises ValueError for laws not on the line, low >= high, and a degree or number of intervals below 1.
    """
    if law.dim != 1:
        raise ValueError(f"quadrature needs a 1-D law; got a law on R^{law.dim}. Use sampled_statistics.")
    shapes.count("intervals", intervals)

    def cloud(alpha: float, sigma: float) -> tuple[Tensor, Tensor]:
        q = law.noised(alpha, sigma)
        reach = 12 * q.cov.item() ** 0.5
        line = torch.linspace(q.mean.item() - reach, q.mean.item() + reach, intervals + 1, dtype=torch.float64)
        density = q.log_prob(line.unsqueeze(-1)).exp()
        return line.unsqueeze(-1), density / density.sum()

    return _fitted(law, low, high, degree, cloud)


def sampled_statistics(
    law: Distribution, low: float, high: float, x0: Tensor, *, generator: torch.Generator, degree: int = 32
) -> FittedStatistics:
    """The optimal statistics of a law's own model over given data x0 (n, dim) of it, on lambda in [low, high].

    Each datum gets one noise for all levels, so the averages are smooth functions of lambda; they differ from the
    law's own by O(1 / sqrt n). Raises ValueError for fewer than two data and as ``quadrature_statistics`` does.
    """
    x0 = shapes.points(x0, law.dim)
    if x0.ndim != 2 or len(x0) < 2:
        raise ValueError(f"x0 must hold at least two data, (n, {law.dim}); got shape {tuple(x0.shape)}.")
    eps = torch.randn(x0.shape, dtype=x0.dtype, generator=generator)
    equal = torch.full((len(x0),), 1 / len(x0), dtype=x0.dtype)
    return _fitted(law, low, high, degree, lambda alpha, sigma: (alpha * x0 + sigma * eps, equal))


def _fitted(law: Distribution, low: float, high: float, degree: int, cloud: Cloud) -> FittedStatistics:
    if not low < high:
        raise ValueError(f"low must lie below high; got low={low}, high={high}.")
    count = shapes.count("degree", degree) + 1
    nodes = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    lams = (0.5 * (low + high) + 0.5 * (high - low) * nodes).tolist()
    to_fit = 2 / count * np.polynomial.chebyshev.chebvander(nodes, degree).T
    to_fit[0] /= 2
    found = [_moments(law, lam, cloud) for lam in lams]
    l = to_fit @ np.stack([each.l.numpy() for each in found])
    slope = np.polynomial.chebyshev.chebder(l, scl=2 / (high - low), axis=0)
    slopes = np.polynomial.chebyshev.chebval(nodes, slope).T
    fits = [
        each.regression(torch.from_numpy(np.ascontiguousarray(rate))) for each, rate in zip(found, slopes, strict=True)
    ]
    s, b = (to_fit @ np.stack([fit[i].numpy() for fit in fits]) for i in (0, 1))
    return FittedStatistics(low, high, l, s, b)


@dataclass(frozen=True, eq=False)
class _Moments:
    """At one lambda: weights (n, 1); y, y - D and dD/dlam at the states, (n, dim); and l, (dim,)."""

    weights: Tensor
    y: Tensor
    pull: Tensor
    rate: Tensor
    l: Tensor

    def regression(self, l_rate: Tensor) -> tuple[Tensor, Tensor]:
        """s and b, (dim,), given dl/dlam."""
        f = self.pull - self.l * self.y
        change = -l_rate * self.y - (1 - self.l) * self.pull - self.rate
        f_mean, change_mean, y_mean = (self._mean(value) for value in (f, change, self.y))
        spread = self._mean((f - f_mean) ** 2)
        still = spread <= STILL * self._mean((self.y - y_mean) ** 2)
        s = torch.where(still, 0.0, self._mean((f - f_mean) * change) / torch.where(still, 1.0, spread))
        return s, change_mean - s * f_mean

    def _mean(self, value: Tensor) -> Tensor:
        return (self.weights * value).sum(0)


def _moments(law: Distribution, lam: float, cloud: Cloud) -> _Moments:
    """At alpha = 1, sigma = e^-lam, where y is x: the statistics depend on lambda alone, whatever the process."""
    k = float(np.exp(-lam))
    y, weights = cloud(1.0, k)
    weights = weights.unsqueeze(-1)
    pull = y - law.posterior_mean(y, 1.0, k)
    leaf = y.detach().requires_grad_()
    slope = torch.autograd.grad(law.posterior_cov_trace(leaf, 1.0, k).sum(), leaf)[0]
    rate = law.posterior_cov_vp(y, 1.0, k, pull) / k**2 - slope
    l = 1 - (weights * law.posterior_cov_diag(y, 1.0, k)).sum(0) / k**2
    return _Moments(weights, y, pull, rate, l)
