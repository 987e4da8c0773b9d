"""Divergences of 1-D laws by quadrature: densities in x, quantile functions in u = Phi(z).

A law here is anything with dim 1, ``cdf``, ``quantile`` and ``log_prob``: a Distribution or an output law.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from theory.estimate import Estimate
from toy_distributions.mixture import GaussianMixture

ORDER = 16
_NODES, _WEIGHTS = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(ORDER))
MOST_PANELS = 4096
TAIL = 1e-15
"""Probability left outside the range of a quadrature in x, on each side."""


def _panels(p, q, reach: float = 1.0) -> Tensor:
    """Break points in x: quantiles of both laws, and the narrow components of mixtures, out to beyond both tails."""
    ranks = torch.special.ndtr(torch.linspace(-7.9, 7.9, 17, dtype=torch.float64))
    points = [law.quantile(ranks) for law in (p, q)]
    for law in (p, q):
        if isinstance(law, GaussianMixture) and law.components <= 64:
            spread = law.covs.reshape(-1).sqrt()
            offsets = torch.linspace(-9, 9, 7, dtype=torch.float64)
            points.append((law.means[:, :1] + spread[:, None] * offsets).reshape(-1))
    breaks = torch.cat(points).unique()
    wide = reach * (breaks[-1] - breaks[0])
    return torch.cat([breaks[:1] - wide, breaks, breaks[-1:] + wide])


def _integral(
    f: Callable[[Tensor], Tensor], breaks: Tensor, relative: float = 1e-12, noise: float = 0.0
) -> tuple[float, float]:
    """Composite Gauss-Legendre, each panel against its two halves; panels that disagree are halved again.

    noise: what rounding alone may leave in a panel, below which halving is in vain. What a limit on the number of
    panels leaves unresolved is counted into the error.
    """
    low, high = breaks[:-1], breaks[1:]
    value, error, size = 0.0, 0.0, 0.0
    whole = _rule(f, low, high)
    for _ in range(30):
        middle = 0.5 * (low + high)
        halves = torch.stack([_rule(f, low, middle), _rule(f, middle, high)])
        gap = (halves.sum(0) - whole).abs()
        size = max(size, value + halves.abs().sum().item())
        good = (gap <= relative * size / 64 + noise) | (middle <= low) | (middle >= high)
        if len(low) > MOST_PANELS:
            good = torch.ones_like(good)
        value += halves.sum(0)[good].sum().item()
        error += gap[good].sum().item()
        if bool(good.all()):
            break
        bad = ~good
        low, high = torch.cat([low[bad], middle[bad]]), torch.cat([middle[bad], high[bad]])
        whole = torch.cat([halves[0][bad], halves[1][bad]])
    else:
        value += whole.sum().item()
        error += whole.abs().sum().item()
    return value, error + 64 * 2.0**-52 * size


def _rule(f: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    half, centre = 0.5 * (high - low), 0.5 * (high + low)
    x = centre[:, None] + half[:, None] * _NODES
    return (f(x.reshape(-1)).reshape(x.shape) * _WEIGHTS).sum(-1) * half


def _densities(p, q, x: Tensor) -> tuple[Tensor, Tensor]:
    return p.log_prob(x[:, None]), q.log_prob(x[:, None])


def _untransported(p, q):
    """KL and TV do not change under a common bijection: a law moved by a map is compared where it came from."""
    if hasattr(q, "pulled"):
        return q.pulled(p), q.base
    if hasattr(p, "pulled"):
        return p.base, p.pulled(q)
    return p, q


def line_kl(p, q) -> Estimate:
    """KL(p || q) in nats, the integral of p log(p/q) + q - p >= 0, whose small values keep their digits."""
    p, q = _untransported(p, q)

    def integrand(x: Tensor) -> Tensor:
        log_p, log_q = _densities(p, q, x)
        gap = log_q - log_p
        # p log(p/q) + q - p = p (e^g - 1 - g) >= 0 with g = log(q/p): no cancellation between far parts
        near = gap.abs() < 0.03
        safe = torch.where(near, gap, 0.0)
        series = sum(safe**j / math.factorial(j) for j in range(2, 10))
        big = torch.exp(log_q) - torch.exp(log_p) * (1 + gap)
        big = torch.where(log_p == -math.inf, torch.exp(log_q), big)
        return torch.where(near, torch.exp(log_p) * series, big)

    if getattr(q, "singular", False) or getattr(p, "singular", False):
        return Estimate(math.inf, 0.0, "singular law")
    value, error = _integral(integrand, _panels(p, q), noise=1e-30)
    if math.isnan(value) or math.isinf(value):
        return Estimate(math.inf, 0.0, "quadrature")
    # the logs carry the rounding of the log densities, which enters at first order in the gap
    rounding = 1e-14 * (math.sqrt(2 * max(value, 0.0)) + max(value, 0.0))
    return Estimate(max(value, 0.0), error + rounding + 1e-14 * max(value, 1e-16), "quadrature")


def line_tv(p, q) -> Estimate:
    """Total variation, (1/2) int |p - q| dx."""
    p, q = _untransported(p, q)

    def integrand(x: Tensor) -> Tensor:
        log_p, log_q = _densities(p, q, x)
        return 0.5 * (log_p.exp() - log_q.exp()).abs()

    if getattr(q, "singular", False) or getattr(p, "singular", False):
        return Estimate(1.0, 0.0, "a singular law against one with a density")
    value, error = _integral(integrand, _panels(p, q), relative=1e-10, noise=1e-17)
    return Estimate(min(value, 1.0), error + 2 * TAIL, "quadrature")


def line_w1(p, q) -> Estimate:
    """W1 = int |F_p - F_q| dx, or int |Q_p - Q_q| du for a transport, whose cdf needs inversions."""
    if hasattr(p, "pulled") or hasattr(q, "pulled"):
        value, error = _over_ranks(lambda u: (p.quantile(u) - q.quantile(u)).abs(), 1e-7, 1e-16 * _span(p))
        return Estimate(value, error + 64 * 2.0**-52 * _span(p), "quadrature")

    def integrand(x: Tensor) -> Tensor:
        return (p.cdf(x) - q.cdf(x)).abs()

    breaks = _panels(p, q)
    value, error = _integral(integrand, breaks, relative=1e-10, noise=1e-17 * _span(p))
    return Estimate(value, error + TAIL * (breaks[-1] - breaks[0]).item(), "quadrature")


def line_w2(p, q, *, relative: float = 1e-8) -> Estimate:
    """W2 with W2^2 = int_0^1 (Q_p - Q_q)^2 du."""
    span = _span(p)
    square, error = _over_ranks(lambda u: (p.quantile(u) - q.quantile(u)) ** 2, relative, (1e-13 * span) ** 2)
    value = math.sqrt(max(square, 0.0))
    # a rank's own rounding moves its quantile by eps / density, worst at the last rank: 5e-12 of the law's span
    floor = 1e-11 * (span + value)
    return Estimate(value, min(error / (2 * value) if value > 0 else math.inf, math.sqrt(error)) + floor, "quadrature")


LAST_Z = 6.5
"""Ranks end at Phi(6.5): nearer to 1 a rank has lost the digits that tell quantiles apart. Phi(-6.5) = 4e-11."""


def _over_ranks(f: Callable[[Tensor], Tensor], relative: float, noise: float) -> tuple[float, float]:
    """int_0^1 f(u) du over u = Phi(z), -8 <= z <= 6.5, refined where quantile functions bend or jump.

    The error counts the upper tail left out, as if f stayed twice its last value there.
    """

    def integrand(z: Tensor) -> Tensor:
        u = torch.special.ndtr(z)
        return torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) * f(u)

    value, error = _integral(integrand, torch.linspace(-8, LAST_Z, 11, dtype=torch.float64), relative, noise)
    last = torch.tensor([LAST_Z], dtype=torch.float64)
    return value, error + 2 * (torch.special.ndtr(-last) * f(torch.special.ndtr(last))).item()


def _span(law) -> float:
    """Size of the law's quantiles, whose last digits bound the accuracy of their differences."""
    return law.quantile(torch.tensor([0.001, 0.999], dtype=torch.float64)).abs().sum().item()
