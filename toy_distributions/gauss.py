"""Gauss-Legendre quadrature with correctly rounded nodes and weights, and Legendre coefficients by it."""

from decimal import Decimal, localcontext
from functools import cache

import numpy as np
import torch
from torch import Tensor


@cache
def rule(nodes: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1], float64, correctly rounded: numpy's have 11 digits at the ends.

    Newton's method on P_n from numpy's nodes; P_n' = n (x P_n - P_{n-1}) / (x^2 - 1), w = 2 / ((1 - x^2) P_n'^2).
    """

    def legendre(x: Decimal) -> tuple[Decimal, Decimal]:
        before, here = Decimal(1), x
        for k in range(2, nodes + 1):
            before, here = here, ((2 * k - 1) * x * here - (k - 1) * before) / k
        return here, nodes * (x * here - before) / (x * x - 1)

    places, weights = [], []
    with localcontext() as context:
        context.prec = 40
        for start in np.polynomial.legendre.leggauss(nodes)[0].tolist():
            x = Decimal(start)
            for _ in range(2):
                value, slope = legendre(x)
                x -= value / slope
            places.append(float((1 + x) / 2))
            weights.append(float(1 / ((1 - x * x) * legendre(x)[1] ** 2)))
    return torch.tensor(places, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64)


@cache
def to_coefficients(nodes: int) -> Tensor:
    """The matrix that takes values at the nodes of ``rule(nodes)`` to Legendre coefficients, lowest degree first."""
    places, weights = rule(nodes)
    values = torch.from_numpy(np.polynomial.legendre.legvander(2 * places.numpy() - 1, nodes - 1))
    degrees = torch.arange(nodes, dtype=torch.float64)
    return (2 * degrees + 1).unsqueeze(-1) * (values * weights.unsqueeze(-1)).T
