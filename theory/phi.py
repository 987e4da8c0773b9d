"""phi functions, to full precision at every argument, and the weights of interpolatory quadrature."""

import math
from collections.abc import Sequence
from typing import SupportsFloat

import torch
from torch import Tensor

SERIES_BELOW = 2.0
"""|z| up to which the series is used: beyond, the recursion loses no more than a digit by cancellation."""

TERMS = 30
"""Of the series: 2^30 / 30! = 4e-24."""


def phi(k: int, z: SupportsFloat) -> float:
    r"""phi_k(z) = int_0^1 e^{(1-u) z} u^{k-1} / (k-1)! du for k >= 1, and phi_0(z) = e^z.

    By the recursion phi_{k+1}(z) = (phi_k(z) - 1/k!) / z where it keeps its digits, else by sum_j z^j / (j+k)!.
    Relative error below 1e-14 for k <= 4 and every finite z. phi_k(0) = 1/k!; phi_k(-inf) = 0.
    Source: hochbruck2010exponential, eq. 2.10 and 2.12.
    """
    if k < 0:
        raise ValueError(f"k must be an integer >= 0; got k={k}.")
    z = float(z)
    if k == 0:
        return math.exp(z)
    if abs(z) < SERIES_BELOW:
        total = 0.0
        for j in range(TERMS, -1, -1):  # Horner, smallest terms first
            total = 1.0 + total * z / (j + k + 1)
        return total / math.factorial(k)
    if math.isinf(z):
        return 0.0 if z < 0 else math.inf
    value = math.expm1(z) / z
    for j in range(1, k):
        value = (value - 1 / math.factorial(j)) / z
    return value


def phi_of(k: int, z: Tensor) -> Tensor:
    """The same elementwise on a tensor of any shape, in its own dtype (relative error some units of it)."""
    if k == 0:
        return z.exp()
    small = z.clamp(-SERIES_BELOW, SERIES_BELOW)
    series = torch.zeros_like(z)
    for j in range(TERMS, -1, -1):
        series = 1.0 + series * small / (j + k + 1)
    far = torch.where(z.abs() < SERIES_BELOW, SERIES_BELOW, z)
    value = torch.expm1(far) / far
    for j in range(1, k):
        value = (value - 1 / math.factorial(j)) / far
    return torch.where(z.abs() < SERIES_BELOW, series / math.factorial(k), value)


def exponential_moments(count: int, z: SupportsFloat) -> list[float]:
    """int_0^1 e^{(1-u) z} u^n du = n! phi_{n+1}(z), for n < count."""
    return [math.factorial(n) * phi(n + 1, z) for n in range(count)]


def exponential_weights(places: Sequence[float], z: SupportsFloat) -> list[float]:
    """w with sum_j w_j p(places[j]) = int_0^1 e^{(1-u) z} p(u) du for every polynomial p of degree < len(places)."""
    return weights_at(places, exponential_moments(len(places), z))


def weights_at(places: Sequence[float], moments: Sequence[float]) -> list[float]:
    """w with sum_j w_j places[j]^n = moments[n] for n < len(places): exact for every polynomial of that degree.

    Distinct places. In plain Python: for the few nodes of a multistep method that is far below the cost of a call.
    Source: bjorck1970solution, algorithm for V a = f.
    """
    w, n = list(moments), len(places)
    for k in range(n - 1):
        for i in range(n - 1, k, -1):
            w[i] -= places[k] * w[i - 1]
    for k in range(n - 2, -1, -1):
        for i in range(k + 1, n):
            w[i] /= places[i] - places[i - k - 1]
        for i in range(k, n - 1):
            w[i] -= w[i + 1]
    return w
