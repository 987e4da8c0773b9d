"""Rectification of couplings that are not Gaussian: monotone ones on the line, and clouds of pairs in any dimension.

Symbols and the direction of time are those of ``theory.coupling``: t = 0 data, t = 1 noise, x_t = (1 - t) x_0 + t x_1.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from theory.covariance import posterior_variance
from theory.estimate import Estimate
from theory.flows import Points, Rule, even_panels, follow, lambda_panels
from theory.process import TrigonometricPath
from toy_distributions.base import Distribution
from toy_distributions.shapes import count, floating


def independent_intersection(law: Distribution) -> Estimate:
    r"""V of the independent coupling of a law with N(0, I) noise:  int_0^inf mmse d(alpha / sigma).

    Given x_t = x, x_1 - x_0 = (x - x_0) / t has the covariance Cov[x_0 | x] / t^2; so V = int mmse / t^2 dt, and
    dt / t^2 = -d(alpha / sigma). On N(m, s^2) it is pi s / 2. Closed form or 1-D quadrature for mmse; Gauss panels in
    lambda, the error being the change to a lower order; beyond them the integrand falls like e^{-|lambda|}.
    """

    def value(order: int) -> tuple[float, float]:
        rule = lambda_panels(order=order)
        spreads = [posterior_variance(law, TrigonometricPath().level_at(lam)) for lam in rule.nodes.tolist()]
        weights = rule.weights.clone()
        weights[0], weights[-1] = 1.0, 1.0  # the integral of the tail is the integrand at its edge
        weights = law.dim * weights * torch.exp(rule.nodes)
        means, errors = torch.tensor([[e.value, e.error] for e in spreads], dtype=torch.float64).T
        return (weights @ means).item(), (weights @ errors).item()

    (fine, error), (coarse, _) = value(8), value(6)
    return Estimate(fine, abs(fine - coarse) + error, "quadrature")


@dataclass(frozen=True)
class MonotoneCoupling:
    r"""x_0 = Q(Phi(x_1)) for x_1 ~ N(0, 1) and a 1-D law with cdf F and quantile Q: what one rectification ends at.

    Flows of a line cannot cross, so the rectified coupling of any rectifiable coupling of these two laws is this one;
    it is optimal for every convex cost of x_1 - x_0. Its own velocity is x_1 - x_0 at the one pair through (x, t),

        v(x, t) = Phi^{-1}(F(y)) - y    where    (1 - t) y + t Phi^{-1}(F(y)) = x,

    found by Newton's method inside a shrinking bracket. Upper ranks F(y) carry about 1e-16 / (1 - F) relative error.
    Source: liu2022rectified, theorem 3.10.
    """

    law: Distribution

    def map(self, x_1: Tensor) -> Tensor:
        """x_0 of each x_1 (n, 1)."""
        return self.law.quantile(torch.special.ndtr(x_1))

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """v(x, t) for x (n, 1)."""
        if t == 0:
            return self._noise(x) - x
        centre, spread = self.law.mean.item(), self.law.cov.item() ** 0.5
        low, high = torch.full_like(x, centre - 50 * spread), torch.full_like(x, centre + 50 * spread)
        y = torch.full_like(x, centre)
        for _ in range(100):
            x_1 = self._noise(y)
            gap = (1 - t) * y + t * x_1 - x
            low, high = torch.where(gap <= 0, y, low), torch.where(gap >= 0, y, high)
            density, normal = self.law.log_prob(y), torch.exp(-0.5 * x_1 * x_1) / math.sqrt(2 * math.pi)
            newton = y - gap / (1 - t + t * density.exp()[..., None] / normal)
            inside = (newton > low) & (newton < high)
            following = torch.where(inside, newton, 0.5 * (low + high))
            if bool(((following - y).abs() <= 2e-16 * (y.abs() + spread)).all()):
                break
            y = following
        return self._noise(y) - y

    def _noise(self, y: Tensor) -> Tensor:
        return torch.special.ndtri(self.law.cdf(y))


@dataclass(frozen=True, eq=False)
class EmpiricalCoupling:
    r"""n pairs (x_0, x_1), each a Gaussian blob: the law of (x_0^I + b xi, x_1^I + b xi), I uniform, xi ~ N(0, I).

    One and the same xi blurs both ends of a pair, so the blob travels rigidly: x_t = (1 - t) x_0^I + t x_1^I + b xi.
    Bare pairs have no useful velocity (two of n lines never meet in the plane: V = 0, and reflow would do nothing);
    the blurred coupling has a smooth, bounded one, with w_i proportional to exp(-|x - x_t^i|^2 / (2 b^2)):

        v(x, t) = sum_i w_i (x_1^i - x_0^i),     Cov(x_1 - x_0 | x_t = x) = the covariance of the pairs under w.

    So the flow is well posed and everything proved for rectified flow holds exactly for this coupling: it carries the
    mixture of N(x_1^i, b^2 I) into that of N(x_0^i, b^2 I) through that of N(x_t^i, b^2 I); no convex cost of
    x_1 - x_0 grows; cost before - cost after = S + V. The cost itself is that of the bare pairs: the blur cancels.

    x_0, x_1: (n, d). blur: b > 0.
    """

    x_0: Tensor
    x_1: Tensor
    blur: float

    def __post_init__(self):
        for name, value in (("x_0", self.x_0), ("x_1", self.x_1)):
            floating(name, value)
            if value.ndim != 2 or value.shape != self.x_0.shape:
                raise ValueError(
                    f"x_0 and x_1 must share one shape (n, d); got {tuple(self.x_0.shape)} and {tuple(self.x_1.shape)}."
                )
        if not self.blur > 0:
            raise ValueError(f"blur must be > 0, since bare pairs leave the velocity undefined; got blur={self.blur}.")

    @cached_property
    def difference(self) -> Tensor:
        """x_1 - x_0 of each pair, (n, d)."""
        return self.x_1 - self.x_0

    @property
    def cost(self) -> float:
        """E |x_1 - x_0|^2."""
        return (self.difference**2).sum(-1).mean().item()

    def centres(self, t: float) -> Tensor:
        """x_t^i, (n, d): the law of x_t is the mixture of N(x_t^i, blur^2 I) with equal weights."""
        return (1 - t) * self.x_0 + t * self.x_1

    def weights(self, x: Tensor, t: float) -> Tensor:
        """P(I = i | x_t = x) for x (m, d), shape (m, n)."""
        centres = self.centres(t)
        # |x|^2 is the same for every pair, and left out
        return torch.softmax((x @ centres.T - 0.5 * (centres**2).sum(-1)) / self.blur**2, -1)

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """v(x, t) for x (m, d)."""
        return self.weights(x, t) @ self.difference

    def conditional_variance(self, x: Tensor, t: float) -> Tensor:
        """tr Cov(x_1 - x_0 | x_t = x) for x (m, d), shape (m,)."""
        weights = self.weights(x, t)
        return weights @ (self.difference**2).sum(-1) - ((weights @ self.difference) ** 2).sum(-1)


@dataclass(frozen=True, eq=False)
class Rectified:
    """What one rectification of an EmpiricalCoupling gives.

    coupling: n pairs (z_0, z_1) drawn from the rectified coupling, one from each blob, to be blurred in their turn: the
    covariance at both ends grows by blur^2 I with each rectification, and nothing else is approximated.
    straightness, intersection: S and V of the coupling that was rectified, sampled along the n paths.
    balance: cost before - cost after - S - V, which is 0 in expectation, sampled on the same paths.
    accuracy: the largest distance between an end point z_0 and the one found with half as many steps, 2^8 times the
    error of an 8th-order method.
    paths: the states (T, n, d) at the Gauss nodes of the panels, from noise to data.
    """

    coupling: EmpiricalCoupling
    straightness: Estimate
    intersection: Estimate
    balance: Estimate
    accuracy: float
    paths: Tensor


def rectify(coupling: EmpiricalCoupling, *, panels: int = 16, seed: int = 0) -> Rectified:
    """Follow the exact velocity from noise to data, through one point of each blob.

    panels: 4 Gauss nodes each, 5 steps of the 8th order; the blur and the largest |x_1 - x_0| set what is needed, about
    max |x_1 - x_0| / (4 blur). seed: of the points in the blobs.
    """
    panels = count("panels", panels, least=2)
    n, d = coupling.x_1.shape
    xi = torch.randn(n, d, dtype=coupling.x_1.dtype, generator=torch.Generator().manual_seed(seed))
    z_1 = coupling.x_1 + coupling.blur * xi
    fine, coarse = (follow(coupling.velocity, z_1, _falling(parts)) for parts in (panels, panels // 2))
    z_0 = fine.x[-1]
    variance = torch.stack(
        [coupling.conditional_variance(coupling.centres(t) + coupling.blur * xi, t) for t in fine.clock.tolist()]
    )
    rows = Points(z_1)
    before, after = (coupling.difference**2).sum(-1), (fine.chord**2).sum(-1)
    crossing = -(fine.weights @ variance)  # the rule runs from 1 down to 0
    return Rectified(
        EmpiricalCoupling(z_0, z_1, coupling.blur),
        rows.expect(fine.straightness),
        rows.expect(crossing),
        rows.expect(before - after - fine.straightness - crossing),
        (z_0 - coarse.x[-1]).norm(dim=-1).max().item(),
        fine.x,
    )


def _falling(panels: int) -> Rule:
    return even_panels(1.0, 0.0, panels, order=4)
