"""Divergences from samples: optimal transport by POT, sliced W2, MMD, each with a half-width at a stated level."""

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from theory.estimate import Estimate

LEVEL_Z = 4.9
"""Half-widths are 4.9 standard errors: a false alarm once in 1e6."""


SLICE_BYTES = 1 << 24
"""Projections sorted at once take about this much memory."""


def line(x: Tensor, y: Tensor, power: int) -> float:
    """W_p of two empirical measures on the line, x (n,) and y (m,), exactly: the L^p distance of their quantiles.

    Raises ValueError for a power that is not 1 or 2, for no points, for points that are not finite.
    """
    if power not in (1, 2):
        raise ValueError(f"power must be 1 or 2; got {power!r}.")
    for name, points in (("x", x), ("y", y)):
        if points.ndim != 1 or not len(points):
            raise ValueError(f"{name} must have shape (n,) with n >= 1; got {tuple(points.shape)}.")
    with _threads() as pool:
        a, b = pool.map(np.sort, (x.detach().cpu().numpy(), y.detach().cpu().numpy()))
    for name, points in (("x", a), ("y", b)):
        if not np.isfinite(points[[0, -1]]).all():  # whatever is not finite is sorted to the ends
            raise ValueError(f"{name} must be finite; got values from {points[0]} to {points[-1]}.")
    n, m = len(a), len(b)
    if n == m:
        return _mean_power(a, b, power) ** (1 / power)
    # both quantile functions are steps: between two neighbouring ends of steps, in units of 1 / (n m), neither moves
    ends = np.union1d(np.arange(1, n + 1, dtype=np.int64) * m, np.arange(1, m + 1, dtype=np.int64) * n)
    gaps = np.abs(a[(ends - 1) // m] - b[(ends - 1) // n]) ** power
    return float(gaps @ np.diff(ends, prepend=0) / (n * m)) ** (1 / power)


def sliced_powers(x: Tensor, y: Tensor, directions: Tensor, power: int = 2) -> Tensor:
    """W_p^p of the projections of x (n, d) and y (n, d) on directions (m, d): shape (m,), float64.

    Rows are sorted by numpy, whose vector sort is some ten times as fast as torch's on a CPU and lets threads run.
    The directions are worked through in buffers of SLICE_BYTES, so memory does not grow with m.
    """
    # one row a coordinate: a projection then streams through memory, and sorting a row needs no copy
    columns = [part.detach().cpu().T.contiguous() for part in (x, y)]
    units = directions.detach().cpu().to(x.dtype)
    rows = min(len(units), max(1, SLICE_BYTES // (2 * columns[0][0].nbytes)))
    buffers = [part.new_empty(rows, part.shape[1]) for part in columns]
    out: list[float] = []
    with _threads() as pool:
        for some in units.split(rows):
            for part, buffer in zip(columns, buffers, strict=True):
                torch.mm(some, part, out=buffer[: len(some)])
            a, b = (buffer[: len(some)].numpy() for buffer in buffers)
            out += pool.map(_sorted_power, a, b, [power] * len(some))
    return torch.tensor(out, dtype=torch.float64)


def _sorted_power(a: np.ndarray, b: np.ndarray, power: int) -> float:
    """W_p^p of two empirical measures on the line, equally large; sorts its arguments in place."""
    a.sort()
    b.sort()
    return _mean_power(a, b, power)


def _mean_power(a: np.ndarray, b: np.ndarray, power: int) -> float:
    """mean |a - b|^p, in blocks that stay in the cache."""
    size, total = 1 << 14, 0.0
    for i in range(0, len(a), size):
        gap = a[i : i + size] - b[i : i + size]
        # not np.dot: BLAS would wake threads of its own for each block
        total += float((np.square(gap, out=gap) if power == 2 else np.abs(gap, out=gap)).sum())
    return total / len(a)


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, torch.get_num_threads()))


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
    return _split(distance, x, y, "POT")


def transport_on_a_line(x: Tensor, y: Tensor, power: int) -> Estimate:
    """W_p of two empirical measures on the line, x (n, 1) and y (m, 1), by sorting; the half-width as in transport."""
    return _split(lambda a, b: line(a[:, 0], b[:, 0], power), x.double(), y.double(), "sorting")


def _split(distance: Callable[[Tensor, Tensor], float], x: Tensor, y: Tensor, route: str) -> Estimate:
    whole = distance(x, y)
    halves = [distance(x[i::2], y[i::2]) for i in (0, 1)]
    spread = abs(halves[0] - halves[1]) + abs(whole - 0.5 * sum(halves))
    return Estimate(whole, LEVEL_Z * spread, f"{route} on {len(x)} and {len(y)} samples, split-half error")


def sliced(x: Tensor, y: Tensor, directions: Tensor) -> Estimate:
    """Sliced W2 of two sample sets over given unit directions (m, d), all projections sorted at once."""
    n = min(len(x), len(y))
    squares = sliced_powers(x[:n], y[:n], directions)
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
