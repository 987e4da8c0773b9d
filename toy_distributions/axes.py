"""Axes: the directions in which the components of a mixture are independent, and how to turn into them and back."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor


class Axes:
    r"""Orthonormal axes of K components in R^d: the standard ones, a full basis each, or r < d of them and the rest.

    basis: None; or (K, d, r), the axes as columns. ``turn`` gives coordinates (..., K, R) in which a covariance is
    diagonal, with R = d; but with r < d axes R = r + d: the coordinates on the axes, and what they leave of the point
    as it stands, so that no matrix d x d is ever needed. Variances (K, R) then repeat the last one d times.
    """

    def __init__(self, basis: Tensor | None):
        self.basis = basis
        self.thin = basis is not None and basis.shape[-1] < basis.shape[-2]

    def to(self, dtype: torch.dtype | None, device: torch.device | str | None) -> Self:
        return type(self)(None if self.basis is None else self.basis.to(device=device, dtype=dtype))

    def turner(self, k: int) -> Callable[[Tensor], Tensor]:
        """``turn`` of component k alone, for x (n, d)."""
        if self.basis is None:
            return lambda x: x
        basis = self.basis[k]
        return lambda x: torch.cat([x @ basis, x - (x @ basis) @ basis.T], -1) if self.thin else x @ basis

    def back_of(self, k: int, y: Tensor) -> Tensor:
        """``back`` of component k alone, for y (n, R)."""
        if self.basis is None:
            return y
        rank = self.basis.shape[-1]
        on = y[:, :rank] @ self.basis[k].T
        return on + y[:, rank:] if self.thin else on

    def turn(self, x: Tensor) -> Tensor:
        """U_k^T x_k for x (..., K, d) or (..., 1, d)."""
        if self.basis is None:
            return x
        if x.shape[-2] == 1:
            on = torch.einsum("...d,kde->...ke", x.squeeze(-2), self.basis)
        else:
            on = torch.einsum("...kd,kde->...ke", x, self.basis)
        if not self.thin:
            return on
        return torch.cat([on, x - torch.einsum("...ke,kde->...kd", on, self.basis)], -1)

    def back(self, y: Tensor) -> Tensor:
        """The vectors (..., K, d) with the coordinates y (..., K, R), R = d, 1 or r + d."""
        if self.basis is None:
            return y
        if not self.thin:
            return torch.einsum("...ke,kde->...kd", y, self.basis)
        on, rest = y.split([self.basis.shape[-1], self.basis.shape[-2]], -1)
        return torch.einsum("...ke,kde->...kd", on, self.basis) + rest

    def matrix(self, values: Tensor, dim: int) -> Tensor:
        """U_k diag(values_k) U_k^T (..., K, d, d) for values (..., K, R)."""
        if self.basis is None:
            return torch.diag_embed(values.expand(*values.shape[:-1], dim))
        if not self.thin:
            return (self.basis * values.unsqueeze(-2)) @ self.basis.mT
        rank = self.basis.shape[-1]
        rest = values[..., rank:]
        on = (self.basis * (values[..., :rank] - rest[..., :1]).unsqueeze(-2)) @ self.basis.mT
        return on + torch.diag_embed(rest)

    def diagonal(self, values: Tensor, dim: int) -> Tensor:
        """The diagonal of ``matrix``, (..., K, d), without the matrix."""
        if self.basis is None:
            return values.expand(*values.shape[:-1], dim)
        if not self.thin:
            return torch.einsum("...ke,kde->...kd", values, self.basis**2)
        rank = self.basis.shape[-1]
        rest = values[..., rank:]
        return torch.einsum("...ke,kde->...kd", values[..., :rank] - rest[..., :1], self.basis**2) + rest

    def total(self, values: Tensor, dim: int) -> Tensor:
        """The sum of values (..., K, R) over the dim directions: the trace of ``matrix``, shape (..., K)."""
        if self.thin and self.basis is not None:
            rank = self.basis.shape[-1]
            return values[..., :rank].sum(-1) + (dim - rank) * values[..., rank]
        return values.sum(-1) * (dim // values.shape[-1])
