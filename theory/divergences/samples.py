"""Divergences from samples: optimal transport by POT, sliced W2, MMD, each with a half-width at a stated level."""

import math

import numpy as np
import torch
from torch import Tensor

from theory.estimate import Estimate

LEVEL_Z = 4.9
"""Half-widths are 4.9 standard errors: a false alarm once in 1e6."""


def sorted_distance(x: Tensor, y: Tensor, power: int) -> Tensor:
    """W_p^p of two equally large empirical measures on lines, by sorting the last-but-one axis: (..., n, k) -> (k,)."""
    return (x.sort(0).values - y.sort(0).values).abs().pow(power).mean(0)


def transport(x: Tensor, y: Tensor, power: int) -> Estimate:
    """W_p of two empirical measures, exactly, by POT; the half-width is the sampling error seen by splitting in two.

    The distance of empirical measures is biased upward against the distance of the laws; the half-width covers the
    change from half the samples to all of them and the spread between halves.
    """
    import ot

    def distance(a: Tensor, b: Tensor) -> float:
        cost = ot.dist(a.numpy(), b.numpy(), metric="sqeuclidean" if power == 2 else "euclidean")
        value = ot.emd2([], [], cost, numItermax=10_000_000)
        return float(np.asarray(value)) ** (1 / power)

    x, y = x.detach().double().cpu(), y.detach().double().cpu()
    if max(len(x), len(y)) > 5000:
        raise ValueError(
            f"exact transport takes at most 5000 samples a side; got {len(x)} and {len(y)}. Use sliced_w2 for more."
        )
    whole = distance(x, y)
    halves = [distance(x[i::2], y[i::2]) for i in (0, 1)]
    spread = abs(halves[0] - halves[1]) + abs(whole - 0.5 * sum(halves))
    return Estimate(whole, LEVEL_Z * spread, f"POT on {len(x)} and {len(y)} samples, split-half error")


def sliced(x: Tensor, y: Tensor, directions: Tensor) -> Estimate:
    """Sliced W2 of two sample sets over given unit directions (m, d), all projections sorted at once."""
    n = min(len(x), len(y))
    squares = sorted_distance(x[:n] @ directions.T, y[:n] @ directions.T, 2)
    return from_slices(squares, f"monte carlo, {len(directions)} directions, n={n}")


def from_slices(squares: Tensor, method: str) -> Estimate:
    mean = squares.mean().item()
    half = LEVEL_Z * squares.std().item() / math.sqrt(len(squares))
    value = math.sqrt(mean)
    return Estimate(value, half / (2 * value) if value > 0 else math.sqrt(half), method)


def mmd_squared(x: Tensor, y: Tensor, bandwidth: float) -> Estimate:
    """Unbiased MMD^2 with the kernel e^{-|x - y|^2 / (2 bandwidth^2)}, on as many pairs as both sets have."""
    n = min(len(x), len(y))
    x, y = x[:n], y[:n]

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-0.5 * torch.cdist(a, b).square() / bandwidth**2)

    h = kernel(x, x) + kernel(y, y) - kernel(x, y) - kernel(y, x)
    h.fill_diagonal_(0.0)
    rows = h.sum(1) / (n - 1)
    return Estimate(rows.mean().item(), LEVEL_Z * 2 * rows.std().item() / math.sqrt(n), f"monte carlo n={n}")
