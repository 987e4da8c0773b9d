"""A batch of any shape, worked through in pieces whose temporaries stay in the cache, or in a stated memory budget."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from toy_distributions.shapes import Scalar

PIECE_BYTES = 1 << 22
"""Size of the largest temporary: about what a core's cache holds, so that pieces do not travel to main memory."""

TEMPORARIES = 32
"""Of the largest temporary's size, that may be alive at once: what a budget is divided by."""

Formula = Callable[..., Tensor]
"""(x, alpha, sigma) or (x, alpha, sigma, v) to values, one a point."""

_budget: ContextVar[int | None] = ContextVar("memory_budget", default=None)


@contextmanager
def memory_budget(size: int) -> Iterator[None]:
    """Within it, what a law's method holds beside its arguments and its answer takes at most ``size`` bytes.

        with memory_budget(64 << 20):
            mean = cloud.posterior_mean(x, alpha, sigma)

    Answers differ by rounding alone. Without a budget a few pieces of 4 MiB are held, some 64 MiB where products of
    matrices need them to be fast, and what grows with the number of points, a few times the size of x.

    Raises ValueError for a size that is not a whole number >= 1, and, from the method asked, where one point needs
    more: the message says how much would do.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"size must be a whole number of bytes >= 1; got {size!r}.")
    before = _budget.set(size)
    try:
        yield
    finally:
        _budget.reset(before)


def budgeted() -> bool:
    return _budget.get() is not None


def fits(size: int) -> bool:
    """Whether tables of so many bytes, made once a call, leave most of the budget to the pieces."""
    budget = _budget.get()
    return budget is None or 4 * size <= budget


def allowed(elements: int, itemsize: int, *, least: int = 1) -> int:
    """How many elements a temporary may have: as many as are asked for, or as few as the budget allows.

    least: with fewer it cannot be done, and ValueError says so.
    """
    budget = _budget.get()
    if budget is None:
        return elements
    most = budget // (TEMPORARIES * itemsize)
    if most < least:
        need = least * TEMPORARIES * itemsize
        raise ValueError(f"memory_budget must be at least {need} bytes for this law and call; got {budget}.")
    return min(elements, most)


def in_pieces(
    formula: Formula,
    x: Tensor,
    alpha: Scalar,
    sigma: Scalar,
    *,
    per_point: int,
    v: Tensor | None = None,
    room: int = PIECE_BYTES,
) -> Tensor:
    """formula(x, alpha, sigma) over the flattened batch of x (..., dim), put together in the batch's shape.

    The formula sees points (n, dim), alpha and sigma as numbers or as tensors (n,), and vectors v (n, dim) if given.
    per_point: elements of its largest temporary for one point; room: bytes of that temporary. Results do not depend on
    the pieces: each point is a row of its own.
    """
    batch = x.shape[:-1]
    if v is not None:
        v = v.expand(x.shape).reshape(-1, x.shape[-1])
    x = x.reshape(-1, x.shape[-1])
    alpha, sigma = (v.expand(batch).reshape(-1) if isinstance(v, Tensor) else float(v) for v in (alpha, sigma))
    given = (x, alpha, sigma) if v is None else (x, alpha, sigma, v)
    per_point = max(1, per_point)
    size = max(1, allowed(room // x.element_size(), x.element_size(), least=per_point) // per_point)
    if len(x) <= size:
        out = formula(*given)
    else:
        starts = range(0, len(x), size)
        pieces = (formula(*(g[i : i + size] if isinstance(g, Tensor) else g for g in given)) for i in starts)
        first = next(pieces)
        if first.requires_grad:
            out = torch.cat([first, *pieces])
        else:
            out = first.new_empty(len(x), *first.shape[1:])
            out[:size] = first
            for i, piece in zip(starts[1:], pieces, strict=True):
                out[i : i + size] = piece
    return out.reshape(batch + out.shape[1:])
