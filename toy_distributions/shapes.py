"""Checks at the door: each returns what it was given, made uniform, or says in one sentence what is wrong."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Scalar = float | Tensor
"""A Python float, or a tensor that broadcasts against the batch shape of the points."""


def floating(name: str, value: Tensor | Sequence | float, dtype: torch.dtype | None = None) -> Tensor:
    """A finite floating-point tensor; lists and numbers become float64 unless a dtype is named."""
    if not isinstance(value, Tensor):
        value = torch.as_tensor(value, dtype=dtype or torch.float64)
    if not value.is_floating_point():
        raise ValueError(f"{name} must hold real floating-point numbers; got dtype {value.dtype}. Convert it first.")
    finite(name, value)
    return value


def finite(name: str, value: Tensor) -> None:
    """Raise ValueError if any entry is NaN or infinite, with how many and where the first one is."""
    # a sum is finite only if every entry is, and costs one pass without a temporary; overflow is settled below
    if bool(value.detach().sum().isfinite()):
        return
    bad = ~value.isfinite()
    if bad.any():
        first = tuple(bad.nonzero()[0].tolist())
        raise ValueError(
            f"{name} must be finite; got {int(bad.sum())} of {value.numel()} entries that are not, "
            f"the first is {value[first].item()} at index {first}."
        )


def points(x: Tensor, dim: int) -> Tensor:
    """Points of shape (..., dim), floating and finite."""
    if not isinstance(x, Tensor):
        raise ValueError(
            f"x must be a tensor of shape (..., {dim}); got {type(x).__name__}. Wrap it in torch.as_tensor."
        )
    if x.ndim == 0 or x.shape[-1] != dim:
        hint = " For a 1-D law add the last axis with x.unsqueeze(-1)." if dim == 1 else ""
        raise ValueError(f"x must have shape (..., {dim}), one point per row; got {tuple(x.shape)}.{hint}")
    return floating("x", x)


def vectors(v: Tensor, x: Tensor) -> Tensor:
    """Vectors that broadcast to the points x (..., dim), floating and finite."""
    if not isinstance(v, Tensor):
        raise ValueError(f"v must be a tensor of shape {tuple(x.shape)}; got {type(v).__name__}.")
    try:
        fits = v.ndim > 0 and v.shape[-1] == x.shape[-1] and torch.broadcast_shapes(v.shape, x.shape) == x.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"v must broadcast to the shape {tuple(x.shape)} of x; got {tuple(v.shape)}.")
    return floating("v", v)


def level(alpha: Scalar, sigma: Scalar, *, batch: torch.Size | None = None, positive: bool = False) -> None:
    """alpha >= 0 and sigma >= 0 (> 0 if ``positive``), finite, tensors broadcasting to the batch shape."""
    for name, value in (("alpha", alpha), ("sigma", sigma)):
        if isinstance(value, Tensor):
            finite(name, value)
            low = value.min().item() if value.numel() else 0.0
            if batch is not None:
                try:
                    fits = torch.broadcast_shapes(value.shape, batch) == batch
                except RuntimeError:
                    fits = False
                if not fits:
                    raise ValueError(
                        f"{name} must be a number or broadcast to the batch shape {tuple(batch)} of x; "
                        f"got shape {tuple(value.shape)}."
                    )
        else:
            low = float(value)
            if not math.isfinite(low):
                raise ValueError(f"{name} must be finite; got {name}={value}.")
        if low < 0:
            raise ValueError(f"{name} must be >= 0; got {name}={low}.")
        if positive and name == "sigma" and low == 0:
            raise ValueError(
                "sigma must be > 0 for a posterior, since at sigma = 0 the point is alpha x_0 itself; got sigma=0. "
                "Stop the grid at a small sigma or use solve(..., last='denoise')."
            )


def column(value: Scalar) -> Scalar:
    """A per-point number made to broadcast against points of shape (..., dim)."""
    return value.unsqueeze(-1) if isinstance(value, Tensor) else value


def count(name: str, value: int, least: int = 1) -> int:
    """An integer >= ``least``."""
    if isinstance(value, bool) or int(value) != value or value < least:
        raise ValueError(f"{name} must be an integer >= {least}; got {name}={value!r}.")
    return int(value)


def number(name: str, value: float, *, positive: bool = False) -> float:
    """A finite number >= 0, or > 0 if ``positive``."""
    if isinstance(value, Tensor) and value.numel() != 1:
        raise ValueError(f"{name} must be one number; got a tensor of shape {tuple(value.shape)}.")
    value = float(value)
    if not math.isfinite(value) or value < 0 or (positive and value == 0):
        raise ValueError(f"{name} must be finite and {'> 0' if positive else '>= 0'}; got {name}={value}.")
    return value
