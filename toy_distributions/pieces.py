"""A batch of any shape, worked through in pieces whose largest temporary stays in the cache."""

from collections.abc import Callable

import torch
from torch import Tensor

from toy_distributions.shapes import Scalar

PIECE_BYTES = 1 << 22
"""Size of the largest temporary: about what a core's cache holds, so that pieces do not travel to main memory."""

Formula = Callable[[Tensor, Scalar, Scalar], Tensor]


def in_pieces(formula: Formula, x: Tensor, alpha: Scalar, sigma: Scalar, *, per_point: int) -> Tensor:
    """formula(x, alpha, sigma) over the flattened batch of x (..., dim), put together in the batch's shape.

    The formula sees points (n, dim), and alpha and sigma as numbers or as tensors (n,). per_point: elements of its
    largest temporary for one point. Results do not depend on the pieces: each point is a row of its own.
    """
    batch = x.shape[:-1]
    x = x.reshape(-1, x.shape[-1])
    alpha, sigma = (v.expand(batch).reshape(-1) if isinstance(v, Tensor) else float(v) for v in (alpha, sigma))
    size = max(1, PIECE_BYTES // (max(1, per_point) * x.element_size()))
    if x.shape[0] <= size:
        out = formula(x, alpha, sigma)
    else:
        pieces = [
            formula(x[i : i + size], *(v[i : i + size] if isinstance(v, Tensor) else v for v in (alpha, sigma)))
            for i in range(0, x.shape[0], size)
        ]
        out = torch.cat(pieces)
    return out.reshape(batch + out.shape[1:])
