"""Posterior means of large clouds in few dimensions, in one stream over the data with a running maximum."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from toy_distributions.averages import BITS, CACHED, LOGIT_UNITS, faintest

ROWS = 2048
"""Points worked on together: their running sums stay in the cache while the data streams past."""


class Streamed(NamedTuple):
    mean: Tensor
    """E[x_0|x], (n, d)."""
    sure: Tensor
    """Rows with all their digits, (n,) of bool."""


def streamed_means(means: Tensor, log_weights: Tensor, x: Tensor, alpha: float, spread: float) -> Streamed:
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
    step = CACHED // ROWS
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
