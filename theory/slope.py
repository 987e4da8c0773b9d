"""Observed order: the exponent p of error = C h^p, with its own error, or the admission that none was found."""

import math
from collections.abc import Sequence

import numpy as np

from theory.estimate import Estimate


def observed_order(h: Sequence[float], error: Sequence[float], *, floor: float = 0.0, points: int = 5) -> Estimate:
    r"""The exponent p in  error = C h^p (1 + a h + ...),  fitted inside a window that the fit itself finds.

    h: step sizes; error: the errors measured with them, both positive, in any order. floor: absolute accuracy of the
    reference and of the arithmetic; errors below 100 floors are left out. points: how many must be left in the window
    (5 points at halved steps are four halvings).

    The model log error = log C + p log h + a h is fitted to the finest ``points``, then to windows that start coarser;
    the longest window whose fit agrees with the finest one's is kept. The error of p is the sum of the change when
    the coarsest point is dropped, the change when the next term b h^2 is added, and twice the statistical error.

    Returns an Estimate whose error is inf, hence a verdict OPEN, if fewer than ``points`` usable points are left.
    Raises ValueError for lengths that differ or values that are not positive.
    """
    return _observed(np.asarray(h, float), np.asarray(error, float), floor, points)


def _observed(h: np.ndarray, error: np.ndarray, floor: float, points: int) -> Estimate:
    if h.shape != error.shape or h.ndim != 1:
        raise ValueError(f"h and error must be two sequences of one length; got shapes {h.shape} and {error.shape}.")
    if not (np.isfinite(h).all() and (h > 0).all() and np.isfinite(error).all() and (error >= 0).all()):
        raise ValueError("h must be positive and error >= 0, both finite; got other values.")
    order = np.argsort(h)
    h, error = h[order], error[order]
    usable = error > max(100 * floor, 1e-300)
    h, error = h[usable], error[usable]
    if len(h) < points:
        return Estimate(_pair(h, error) if len(h) > 1 else 0.0, math.inf, "slope: no window")
    best = _fit(h[:points], error[:points])
    for n in range(points + 1, len(h) + 1):
        longer = _fit(h[:n], error[:n])
        if abs(longer[0] - best[0]) > best[1] + 1e-3 or longer[1] > max(best[1], 0.02):
            break
        best = longer
    return Estimate(best[0], best[1], f"slope over {points}+ steps")


def _pair(h: np.ndarray, error: np.ndarray) -> float:
    return float(np.log(error[1] / error[0]) / np.log(h[1] / h[0]))


def _fit(h: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    scale = h / h.max()

    def solve(keep: slice, terms: int) -> tuple[float, float]:
        columns = [np.ones_like(h[keep]), np.log(h[keep])] + [scale[keep] ** j for j in range(1, terms)]
        matrix, values = np.stack(columns, 1), np.log(error[keep])
        solution, *_ = np.linalg.lstsq(matrix, values, rcond=None)
        left = len(values) - matrix.shape[1]
        residual = values - matrix @ solution
        variance = residual @ residual / max(left, 1)
        return solution[1], math.sqrt(variance * np.linalg.inv(matrix.T @ matrix)[1, 1])

    everything = slice(None)
    p, statistical = solve(everything, 2)
    spread = abs(p - solve(slice(0, len(h) - 1), 2)[0]), abs(p - solve(everything, 3)[0])
    return float(p), float(sum(spread) + 2 * statistical)
