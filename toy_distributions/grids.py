"""Sums of Gaussians at many points on the line and in the plane through a grid, exact to rounding, in linear time."""

import math

import torch
from torch import Tensor

from toy_distributions.averages import CACHED, LOGIT_UNITS
from toy_distributions.cloud import Cloud
from toy_distributions.pieces import allowed

DIMENSIONS = 2
"""Beyond this many the grid has too many nodes."""

NODES_PER_POINT = 6
"""Nodes a point, up to which going through the grid costs less than meeting every centre."""

MOST_WORK = 1.0
"""Of meeting every centre from every point, that blocks of factors may cost."""

FEWEST_ROWS = 32
"""Of factors in a block: with fewer the nodes are too many for products of matrices."""

ASIDE = 6.0
"""Points farther than this many standard deviations outside the box of the centres are left to others."""

SAFETY = 64.0
"""Each part of the error of a sum is kept this far below a rounding of it."""


class Grid:
    r"""The rule e^{-(u - v)^2 / 2} = h (2/pi)^{1/2} sum_g e^{-(u - g)^2} e^{-(v - g)^2} over g in h Z, one a dimension.

    The right side is e^{-(u - v)^2 / 2} times a trapezoidal sum of e^{-2 (g - (u + v) / 2)^2}, which is off by
    2 e^{-pi^2 / (2 h^2)} relative, whatever u and v are, and has no term that is not positive: nothing cancels, so
    small sums keep their digits. Nodes farther than ``around`` from (u + v) / 2 add less than that. Pairs farther
    apart than ``reach`` may be left out, and then only make the sum smaller, by at most e^{-reach^2 / 2} each.
    """

    def __init__(self, low: float, high: float, dtype: torch.dtype):
        """low, high: the range of (u + v) / 2."""
        number = torch.finfo(dtype)
        digits = math.log(SAFETY / number.eps)
        self.step, self.around = math.pi / math.sqrt(2 * digits), math.sqrt(digits / 2)
        # no factor that matters may be subnormal
        self.reach = min(16.0, 2 * (math.sqrt(-0.98 * math.log(number.tiny)) - self.around))
        first = math.floor((low - self.around) / self.step)
        last = math.ceil((high + self.around) / self.step)
        self.first, self.count = first, last - first + 1

    def factors(self, u: Tensor) -> Tensor:
        """e^{-(u - g)^2} for u (n,) and every node, (n, count)."""
        nodes = self.step * torch.arange(self.first, self.first + self.count, dtype=u.dtype, device=u.device)
        exponents = (u.unsqueeze(-1) - nodes).square_().neg_()
        return torch.threshold_(exponents, -((0.5 * self.reach + self.around) ** 2), -math.inf).exp_()


def gridded_sums(cloud: Cloud, x: Tensor, alpha: float, spread: float) -> tuple[Tensor, Tensor] | None:
    """The means sum_k r_k m_k of ``streamed_means`` at x (n, d), and which rows have all their digits.

    None if there are more than DIMENSIONS or too few points for the grid to pay.
    """
    n, d = x.shape
    if d > DIMENSIONS or not spread > 0:
        return None
    root, eps = math.sqrt(spread), torch.finfo(x.dtype).eps
    u, v = (x - alpha * cloud.centre) / root, alpha / root * cloud.away
    low, high = v.amin(0), v.amax(0)
    if not (high - low).sum() < 1e6:
        return None
    near = ((u >= low - ASIDE) & (u <= high + ASIDE)).all(-1)
    inside = u.clamp(low - ASIDE, high + ASIDE)
    ranges = zip((0.5 * (low + inside.amin(0))).tolist(), (0.5 * (high + inside.amax(0))).tolist(), strict=True)
    grids = [Grid(a, b, x.dtype) for a, b in ranges]
    nodes = math.prod(grid.count for grid in grids)
    columns = nodes // grids[0].count  # of the second grid, or one
    wide = grids[0].count + (d + 1) * columns
    rows = allowed(CACHED, x.element_size()) // wide
    dear = nodes > NODES_PER_POINT * n or (n + cloud.count) * wide > MOST_WORK * n * cloud.count
    if dear or rows < FEWEST_ROWS:
        return None
    weights = (cloud.log_weights - cloud.log_weights.max()).exp()
    table = x.new_zeros(grids[0].count, (d + 1) * columns)
    for some in torch.arange(cloud.count, device=x.device).split(rows):
        here = slice(int(some[0]), int(some[-1]) + 1)
        right = weights[here].unsqueeze(-1)
        if d == 2:
            right = right * grids[1].factors(v[here, 1])
        moments = torch.cat([right, *(right * z for z in cloud.away[here].split(1, -1))], -1)
        table.addmm_(grids[0].factors(v[here, 0]).T, moments)
    sums = x.new_empty(n, d + 1)
    for here, out in zip(u.split(rows), sums.split(rows), strict=True):
        right = grids[1].factors(here[:, 1]) if d == 2 else torch.ones_like(here)
        at = (grids[0].factors(here[:, 0]) @ table).view(-1, d + 1, columns)
        torch.bmm(at, right.unsqueeze(-1), out=out.unsqueeze(-1))
    total = sums[:, 0]
    # what pairs left out and products that underflow might have added
    lost = math.exp(-0.5 * grids[0].reach ** 2) * weights.sum() + cloud.count * nodes * torch.finfo(x.dtype).tiny
    scale = (grids[0].step * math.sqrt(2 / math.pi)) ** d
    # an exponent (u - g)^2 with |u - g| <= 9, beyond which nothing counts, is off by at most 26 eps |u|
    units = 26 * (u.abs() + torch.maximum(low.abs(), high.abs())).sum(-1)
    sure = near & (scale * total >= SAFETY / eps * lost) & (units <= LOGIT_UNITS)
    return cloud.centre + sums[:, 1:] / total.unsqueeze(-1), sure
