"""Labelled: joint laws of a point and a label, with the exact classifier at every noise level."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from toy_distributions import shapes
from toy_distributions.base import Distribution
from toy_distributions.mixture_of import MixtureOf
from toy_distributions.parts import deviations
from toy_distributions.shapes import Scalar


class Pairs(NamedTuple):
    x: Tensor
    """Points, (n, dim)."""
    y: Tensor
    """Their labels 0 .. K - 1, (n,) of int64."""


class Labelled:
    r"""The joint law of (x_0, y): y = k with probability w_k, and x_0 ~ p_k given y = k. Noise acts on x_0 alone.

    With p_k,t the law of alpha x_0 + sigma eps given y = k, m_k its posterior mean and p_t = sum_k w_k p_k,t,

        log p_t(y|x)      = log w_y + log p_y,t(x) - log p_t(x)
        grad log p_t(y|x) = score_y,t(x) - score_t(x) = (alpha / sigma^2) (m_y - sum_k p_t(k|x) m_k)

    The gradient is what classifier guidance adds to the score of p_t; scale = 1 makes it the score given y.

    weights (K,), positive, summing to one; laws: K of them, of one dim, dtype and device, boxes, clouds, mixtures in
    any company. ``marginal`` is the law of x_0, a MixtureOf; ``laws`` and ``weights`` are its own.

    Raises ValueError as ``MixtureOf`` does.
    Source: dhariwal2021diffusion, section 4.
    """

    def __init__(self, weights: Tensor | Sequence[float], laws: Sequence[Distribution]):
        self._fill(MixtureOf(weights, laws))

    def _fill(self, marginal: MixtureOf) -> None:
        self.marginal = marginal  # the law of x_0
        self.weights, self.laws, self.labels = marginal.weights, marginal.laws, len(marginal.laws)
        self.dim, self.dtype, self.device = marginal.dim, marginal.dtype, marginal.device

    @classmethod
    def _built(cls, marginal: MixtureOf) -> Self:
        law = object.__new__(cls)
        law._fill(marginal)
        return law

    def given(self, y: int) -> Distribution:
        """The law of x_0 given the label y. Raises ValueError for a label that is not in 0 .. K - 1."""
        if isinstance(y, bool) or int(y) != y or not 0 <= y < self.labels:
            raise ValueError(f"y must be a label from 0 to {self.labels - 1}; got y={y!r}.")
        return self.laws[int(y)]

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        """The same law in another dtype or on another device."""
        return self._built(self.marginal.to(dtype, device))

    def noised(self, alpha: float, sigma: float) -> Self:
        """The law of (alpha x_0 + sigma eps, y)."""
        return self._built(self.marginal.noised(alpha, sigma))

    def sample(self, n: int, *, generator: torch.Generator) -> Pairs:
        """n independent pairs. The generator lives on the law's device."""
        return Pairs(*self.marginal.sample_labelled(shapes.count("n", n), generator=generator))

    def class_log_prob(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """log p_t(y|x) of every label y at x (..., dim), shape (..., K).

        alpha and sigma: numbers, or tensors that broadcast to the batch; sigma > 0, as singular laws may compete.
        """
        x = self._points(x, alpha, sigma)
        return torch.log_softmax(self.marginal.log_joint(x, alpha, sigma), -1)

    def class_score(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """grad_x log p_t(y|x) of every label y at x (..., dim), shape (..., K, dim); sigma > 0."""
        x = self._points(x, alpha, sigma)
        parts, means = self.marginal._parts(x, alpha, sigma)
        gain = shapes.column(shapes.column(alpha)) / shapes.column(shapes.column(sigma)) ** 2
        return gain * deviations(parts, means)

    def _points(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        x = shapes.points(x, self.dim)
        shapes.level(alpha, sigma, batch=x.shape[:-1], positive=True)
        return x

    def __repr__(self) -> str:
        parts = ", ".join(f"{w:.6g}: {law!r}" for w, law in zip(self.weights.tolist()[:4], self.laws, strict=False))
        return f"Labelled({parts}{', ...' if self.labels > 4 else ''})"
