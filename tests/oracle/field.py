"""A stationary Gaussian field seen through noise: its covariance matrix entry by entry, inverted outright."""

from collections.abc import Sequence
from itertools import product

import mpmath as mp

from tests.oracle.answer import Input, Question, plain
from tests.oracle.mixture import _sum
from tests.oracle.moved import _lower, _symmetric


def field(
    grid: Sequence[int],
    spectrum: Sequence[float],
    channels: Sequence[Sequence[float]],
    mean: Sequence[float],
    x: Sequence[float],
    alpha: float,
    sigma: float,
) -> tuple[Question, list[Input]]:
    """The question, and its inputs. spectrum: every frequency in row-major order; channels: a full matrix."""
    sites = list(product(*(range(n) for n in grid)))
    inputs = plain(*spectrum) + _symmetric(channels) + plain(*mean, *x, alpha, sigma)

    def question(values, digits):
        rest = iter(values)
        P = [next(rest) for _ in spectrum]
        M = _lower(rest, len(channels))
        m, point = [next(rest) for _ in mean], [next(rest) for _ in x]

        def correlation(p, q):
            turns = [mp.fsum(mp.mpf(k * (a - b)) / n for k, a, b, n in zip(f, p, q, grid, strict=True)) for f in sites]
            return mp.fsum(power * mp.cos(2 * mp.pi * t) for power, t in zip(P, turns, strict=True)) / len(sites)

        origin = sites[0]
        by_distance = {p: correlation(p, origin) for p in sites}

        def entry(p, q):
            return by_distance[tuple((a - b) % n for a, b, n in zip(p, q, grid, strict=True))]

        cells = [(p, a) for p in sites for a in range(len(M))]
        C = [[M[a][b] * entry(p, q) for q, b in cells] for p, a in cells]
        return _sum([mp.mpf(1)], [m], [C], point, next(rest), next(rest))

    return question, inputs
