"""What the tests of the laws share: how far rounding may carry an identity, and laws broken on purpose."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from toy_distributions import (
    Affine,
    Box,
    Distribution,
    GaussianMixture,
    MarkovChain,
    MixtureOf,
    Product,
    Sphere,
    StationaryField,
    StudentT,
)
from toy_distributions.line import Line

EPS = 2.0**-52
UNITS = 64
"""Roundings allowed: the formulas do some dozens of operations on each number, each right to one unit."""


def reach(law: Distribution) -> float:
    """How far from the origin the law's parameters lie: rounding them moves points by that times eps."""
    if isinstance(law, Broken):
        return reach(law.law)
    if isinstance(law, Product):
        return math.hypot(*(reach(part) for part in law.laws))
    if isinstance(law, Affine):
        return law.scale * reach(law.law) + law.shift.norm().item() + law.across
    if isinstance(law, MixtureOf):
        return max(reach(part) for part in law.laws)
    if isinstance(law, GaussianMixture):
        return law.means.norm(dim=-1).max().item() + law._variances.max().item() ** 0.5
    if isinstance(law, StationaryField):
        return law.mean.norm().item() + law._variances.max().item() ** 0.5
    if isinstance(law, MarkovChain):
        return law.values.norm(dim=-1).max().item() * law.steps**0.5 + law.blur
    if isinstance(law, Sphere):
        return law.centre.norm().item() + law.radius + law.blur
    if isinstance(law, Box):
        return torch.maximum(law.low.abs(), law.high.abs()).norm().item() + law.blur
    if isinstance(law, Line):
        return law.location.abs().item() + law.scale + law.blur
    return law.mean.norm().item() + 2 * law.cov.trace().item() ** 0.5


def centre(law: Distribution) -> Tensor:
    """The law's mean or, where that may not exist, the point about which it is symmetric."""
    if isinstance(law, Broken):
        return centre(law.law)
    return law.location if isinstance(law, Line) else law.mean


def levels_of(law: Distribution, levels: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those of the levels (alpha, sigma) at which the law has posterior moments: at alpha = 0 they are its own."""
    return [level for level in levels if level[0] > 0 or not (isinstance(law, StudentT) and law.freedom <= 2)]


def narrowest(law: Distribution) -> float:
    """The smallest variance with which the density varies."""
    if isinstance(law, Broken):
        return narrowest(law.law)
    if isinstance(law, Affine):
        inner = law.scale**2 * narrowest(law.law)
        return min(inner, law.across**2) if law.dim > law.law.dim else inner
    if isinstance(law, Product | MixtureOf):
        return min(narrowest(part) for part in law.laws)
    if isinstance(law, GaussianMixture | StationaryField):
        return law._variances.min().item()
    return getattr(law, "blur") ** 2  # noqa: B009, every other law says how blurred it is


class Rounding(NamedTuple):
    """Bounds (...) on the rounding errors of a posterior mean and of x + sigma^2 score - alpha E[x_0|x]."""

    mean: Tensor
    tweedie: Tensor


def rounding(law: Distribution, x: Tensor, alpha: float, sigma: float) -> Rounding:
    """d E[x_0|x] / dx = alpha Cov / sigma^2 says what rounding x, or the parameters, makes of the mean."""
    mean, cov = law.posterior_mean(x, alpha, sigma), law.posterior_cov(x, alpha, sigma)
    spread = cov.diagonal(dim1=-2, dim2=-1).sum(-1)
    arm = x.norm(dim=-1) + alpha * reach(law)
    of_mean = UNITS * EPS * (mean.norm(dim=-1) + spread.sqrt() + alpha * spread / sigma**2 * arm)
    return Rounding(of_mean, UNITS * EPS * arm + alpha * of_mean)


def worst(error: Tensor, bound: Tensor) -> float:
    """The largest error in units of its bound: at most 1 for a correct law."""
    assert error.shape == bound.shape
    assert bool(error.isfinite().all()) and bool(bound.isfinite().all())
    ratio = torch.where(error > 0, error / bound.where(error > 0, 1.0), 0.0)  # of 0 and 0, no error
    return ratio.max().item() if ratio.numel() else 0.0


class Broken(Distribution):
    """A law with one formula replaced, say _score = lambda law, x: 2 * law._score(x): what the tests must catch."""

    def __init__(self, law: Distribution, **wrong: Callable):
        self.law, self.wrong = law, wrong
        self.dim, self.dtype, self.device = law.dim, law.dtype, law.device

    def _ask(self, name: str, *args, **kwargs):
        if name in self.wrong:
            return self.wrong[name](self.law, *args, **kwargs)
        found = getattr(self.law, name)
        return found(*args, **kwargs) if callable(found) else found

    @property
    def mean(self) -> Tensor:
        return self._ask("mean")

    @property
    def cov(self) -> Tensor:
        return self._ask("cov")

    @property
    def singular(self) -> bool:
        return self._ask("singular")

    def to(self, dtype=None, device=None):
        return Broken(self.law.to(dtype, device), **self.wrong)

    def sample(self, n, *, generator):
        return self._ask("sample", n, generator=generator)

    def noised(self, alpha, sigma):
        return Broken(self._ask("noised", alpha, sigma), **self.wrong)

    def _log_prob(self, x):
        return self._ask("_log_prob", x)

    def _score(self, x):
        return self._ask("_score", x)

    def _posterior_mean(self, x, alpha, sigma):
        return self._ask("_posterior_mean", x, alpha, sigma)

    def _posterior_cov(self, x, alpha, sigma):
        return self._ask("_posterior_cov", x, alpha, sigma)

    def _cdf(self, x):
        return self._ask("_cdf", x)


def typical(law: Distribution, alpha: float, sigma: float, n: int = 20, seed: int = 0) -> Tensor:
    """n points of alpha x_0 + sigma eps."""
    generator = torch.Generator().manual_seed(seed)
    x0 = law.sample(n, generator=generator)
    return alpha * x0 + sigma * torch.randn(x0.shape, dtype=x0.dtype, generator=generator)
