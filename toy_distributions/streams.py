"""Posterior means of large clouds, in one stream over the data with a running maximum."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from toy_distributions.averages import BITS, CACHED, LOGIT_UNITS, faintest
from toy_distributions.cloud import FEW_DIMENSIONS, SLACK, Cloud
from toy_distributions.grids import gridded_sums
from toy_distributions.pieces import allowed

ROWS = 2048
"""Points worked on together: their running sums stay in the cache while the data streams past."""


QUERIES = 1024
"""Points worked on together in many dimensions, where each block of data is then read once for all of them."""

WEIGHTS = 1 << 21
"""Elements of a block of weights in many dimensions: products of matrices at full speed, few megabytes."""

UNHEARD = 1 / 8
"""Share of a rounding error that all the weights left out may add up to, each against the largest met so far."""

SPARSE = 1 / 50
"""Share of the weights in a block that are heard, below which they are summed one by one."""


class Streamed(NamedTuple):
    mean: Tensor
    """E[x_0|x], (n, d)."""
    sure: Tensor
    """Rows with all their digits, (n,) of bool."""


def streamed_means(cloud: Cloud, x: Tensor, alpha: float, spread: float) -> Streamed:
    """sum_k r_k m_k at x (n, d) with log r_k = log w_k - |x - alpha m_k|^2 / (2 spread), for the centres m_k (K, d)."""
    if cloud.dim <= FEW_DIMENSIONS:
        gridded = gridded_sums(cloud, x, alpha, spread)
        if gridded is None:
            return _in_few_dimensions(cloud.means, cloud.log_weights, x, alpha, spread)
        mean, sure = gridded
        rest = (~sure).nonzero()[:, 0]
        if len(rest):
            found = _in_few_dimensions(cloud.means, cloud.log_weights, x[rest], alpha, spread)
            mean[rest], sure[rest] = found
        return Streamed(mean, sure)
    mean, sure = torch.empty_like(x), torch.empty(len(x), dtype=torch.bool, device=x.device)
    rows = allowed(QUERIES * cloud.dim, x.element_size(), least=cloud.dim) // cloud.dim
    for start in range(0, len(x), rows):
        some = slice(start, min(start + rows, len(x)))
        w = x[some] - alpha * cloud.centre
        fine = cloud.units(torch.linalg.vector_norm(w, dim=-1) ** 2, alpha, spread) <= SLACK
        sure[some] = fine
        if bool(fine.all()):
            _by_products(cloud, w.mul_(alpha / spread * BITS), alpha, spread, mean[some])
        elif bool(fine.any()):
            found = w[fine]
            _by_products(cloud, found * (alpha / spread * BITS), alpha, spread, found)
            mean[some][fine] = found
    return Streamed(mean, sure)


def _by_products(cloud: Cloud, pulled: Tensor, alpha: float, spread: float, out: Tensor) -> None:
    """Into out (n, d) the means at w, given pulled = (alpha / spread) w in bits, two products a block of the data.

    Weights too small for any sum of K of them to feel, beside the largest met so far, are left out. Where few are
    left, as at little noise, they are summed one by one.
    """
    n, count = len(pulled), cloud.count
    heights = BITS * (cloud.log_weights - 0.5 * alpha**2 / spread * cloud.squares)
    unheard = math.log2(UNHEARD * torch.finfo(out.dtype).eps / count)
    step = allowed(WEIGHTS, out.element_size(), least=n) // n
    buffer = pulled.new_empty(n * min(step, count))
    top = pulled.new_full((n, 1), -math.inf)
    total = torch.zeros_like(top)
    out.zero_()
    for block, height in zip(cloud.away.split(step), heights.split(step), strict=True):
        logits = torch.addmm(height, pulled, block.T, out=buffer[: n * len(block)].view(n, -1))
        higher = torch.maximum(top, logits.amax(-1, keepdim=True))
        weights = torch.threshold_(logits.sub_(higher), unheard, -math.inf).exp2_()
        scale = (top - higher).exp2_()
        total.mul_(scale).add_(weights.sum(-1, keepdim=True))
        out.mul_(scale)
        _add_products(out, weights, block)
        top = higher
    out.div_(total).add_(cloud.centre)


def _add_products(out: Tensor, weights: Tensor, block: Tensor) -> None:
    """out += weights @ block; one by one if few weights are not zero."""
    few = SPARSE * weights.numel()
    if weights[:: max(1, len(weights) // 16)].count_nonzero() * 16 > 4 * few:
        out.addmm_(weights, block)
        return
    rows, columns = weights.nonzero().unbind(-1)
    if len(rows) > few:
        out.addmm_(weights, block)
        return
    begins = torch.searchsorted(rows, torch.arange(len(weights), device=rows.device))
    heard = weights[rows, columns]
    out += torch.nn.functional.embedding_bag(columns, block, begins, mode="sum", per_sample_weights=heard)


def _in_few_dimensions(means: Tensor, log_weights: Tensor, x: Tensor, alpha: float, spread: float) -> Streamed:
    r"""sum_k r_k m_k at x (n, d) with log r_k = log w_k - |x - alpha m_k|^2 / (2 spread), for means (K, d).

    About the centre c, with z = m - c and w = x - alpha c, the logits are linear in the point,

        log w_k + (alpha / spread) (<w, z_k> - alpha |z_k|^2 / 2) + a part common to all k,

    so that a block of them is one thin product of matrices, off by at most (d + 4) eps of the sizes of its terms; the
    maximum taken out is exact, whatever came before it being scaled down. Memory: two blocks of CACHED elements.
    """
    n, d = x.shape
    centre = means.mean(0)
    z = means - centre
    pull = alpha / spread * BITS
    table = torch.cat([pull * z, (BITS * log_weights - 0.5 * alpha * pull * (z**2).sum(-1)).unsqueeze(-1)], -1)
    maps = torch.cat([z, torch.ones_like(z[:, :1])], -1)
    reach, heaviest = z.norm(dim=-1).max(), log_weights.abs().max()
    step = allowed(CACHED, x.element_size(), least=ROWS) // ROWS
    tables, turned = table.split(step), [part.T.contiguous() for part in maps.split(step)]
    buffer = x.new_empty(step * min(ROWS, n))
    mean, sure = torch.empty_like(x), torch.empty(n, dtype=torch.bool, device=x.device)
    for start in range(0, n, ROWS):
        some = slice(start, min(start + ROWS, n))
        w = x[some] - alpha * centre
        here = torch.cat([w, torch.ones_like(w[:, :1])], -1).T.contiguous()
        top = x.new_full((len(w),), -math.inf)
        sums = x.new_zeros(d + 1, len(w))
        for block, back in zip(tables, turned, strict=True):
            logits = torch.mm(block, here, out=buffer[: len(block) * len(w)].view(len(block), len(w)))
            higher = torch.maximum(top, logits.amax(0))
            weights = torch.threshold_(logits.sub_(higher), faintest(x.dtype), -math.inf).exp2_()
            sums = sums.mul_((top - higher).exp2_()).addmm_(back, weights)
            top = higher
        mean[some] = centre + (sums[:d] / sums[d]).T
        size = alpha / spread * (w.norm(dim=-1) * reach + 0.5 * alpha * reach**2) + heaviest
        sure[some] = (d + 4) * size <= LOGIT_UNITS
    return Streamed(mean, sure)
