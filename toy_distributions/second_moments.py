"""Posterior covariances of mixtures without their matrices: products with vectors, diagonals, traces."""

from enum import Enum, auto
from functools import partial

import torch
from torch import Tensor

from toy_distributions.averages import NEGLIGIBLE
from toy_distributions.parts import Components, deviations
from toy_distributions.pieces import PIECE_BYTES, allowed, in_pieces
from toy_distributions.shapes import Scalar

DIGITS = 1e3
"""Rounding of a sum of products, in eps of the covariance's trace, beyond which a row is summed by differences."""


class Part(Enum):
    PRODUCT = auto()
    DIAGONAL = auto()
    TRACE = auto()


def second_moment(
    law: Components, part: Part, x: Tensor, alpha: Scalar, sigma: Scalar, v: Tensor | None = None
) -> Tensor:
    """Cov[x_0|x] v, its diagonal, both (..., d), or its trace (...).

    In pieces: of components and points, or for a large cloud of products of matrices.
    """
    formula = partial(_of_a_cloud if law.large else _of_components, law, part)
    per_point = 4 * law.components if law.large else law.components * law.width
    return in_pieces(formula, x, alpha, sigma, v=x if v is None else v, per_point=per_point)


def _of_components(law: Components, part: Part, x: Tensor, alpha: Scalar, sigma: Scalar, v: Tensor) -> Tensor:
    """sum_k r_k [ U_k diag(within_k) U_k^T + (D_k - E)(D_k - E)^T ], asked of v, of the diagonal, of the trace."""
    weight, means, within = law.parts(x, alpha, sigma)
    weight, axes = weight.unsqueeze(-1), law.axes
    away = deviations(weight, means)
    if part is Part.PRODUCT:
        along = (away * v.unsqueeze(-2)).sum(-1, keepdim=True)
        inside = axes.back(within * axes.turn(v.unsqueeze(-2)))
        return (weight * (along * away + inside)).sum(-2)
    if part is Part.DIAGONAL:
        return (weight * (away**2 + axes.diagonal(within, law.dim))).sum(-2)
    return (weight[..., 0] * ((away**2).sum(-1) + axes.total(within, law.dim))).sum(-1)


def _of_a_cloud(law: Components, part: Part, x: Tensor, alpha: Scalar, sigma: Scalar, v: Tensor) -> Tensor:
    """For many isotropic components, by products of matrices; rows where those cancel, one by one as differences.

    With z_k = m_k - c about the cloud's centre c, w = x - alpha c, delta = E - c, D_k - E = a_k z_k + b_k w - delta.
    """
    weight, to_mean, to_x, within = law.cloud_parts(x, alpha, sigma)
    means = law.means
    centre = means.mean(0)
    z = means - centre
    w = x - (alpha.unsqueeze(-1) if isinstance(alpha, Tensor) else alpha) * centre
    by_x = (weight * to_x).sum(-1, keepdim=True)
    delta = (weight * to_mean) @ z + by_x * w
    squares = torch.linalg.vector_norm(z, dim=-1) ** 2
    own = (w**2).sum(-1)
    cross = (weight * to_mean * to_x * (w @ z.T)).sum(-1)
    trace = (weight * to_mean**2) @ squares if to_mean.ndim == 1 else (weight * to_mean**2 * squares).sum(-1)
    of_w = (weight * to_x**2).sum(-1)
    between = trace + 2 * cross + of_w * own - (delta**2).sum(-1)
    inside = (weight * within).sum(-1)
    terms = 8 * (trace + 2 * cross.abs() + of_w * own + (delta**2).sum(-1))
    total = between.clamp_min(0) + law.dim * inside
    if part is Part.PRODUCT:
        along = to_mean * (v @ z.T) + to_x * (w * v).sum(-1, keepdim=True) - (delta * v).sum(-1, keepdim=True)
        along = weight * along
        out = (along * to_mean) @ z + (along * to_x).sum(-1, keepdim=True) * w
        out = out - along.sum(-1, keepdim=True) * delta + inside.unsqueeze(-1) * v
    elif part is Part.DIAGONAL:
        out = (weight * to_mean**2) @ z**2 + 2 * ((weight * to_mean * to_x) @ z) * w
        out = out + of_w.unsqueeze(-1) * w**2 - delta**2 + inside.unsqueeze(-1)
    else:
        out = total
    rows = (terms > DIGITS * total / law.dim ** (part is Part.DIAGONAL)).nonzero()[:, 0].tolist()
    for i in rows:
        level = (value if value.ndim == 1 else value[i] for value in (to_mean, to_x, within))
        out = out.index_copy(
            0, torch.tensor([i], device=x.device), _row(means, part, x[i], v[i], weight[i], *level).unsqueeze(0)
        )
    return out


def _row(
    means: Tensor, part: Part, x: Tensor, v: Tensor, weight: Tensor, to_mean: Tensor, to_x: Tensor, within: Tensor
) -> Tensor:
    """One point, by differences from its heaviest component, over the components that weigh anything."""
    heard = (weight > NEGLIGIBLE * weight.max()).nonzero()[:, 0]
    weight, to_mean, to_x, within = (each[heard] for each in (weight, to_mean, to_x, within))
    heaviest = int(weight.argmax())
    anchor = means[heard[heaviest]]
    step = max(1, allowed(PIECE_BYTES // means.element_size(), means.element_size(), least=len(x)) // len(x))
    pieces = [slice(i, i + step) for i in range(0, len(heard), step)]

    def away(some: slice) -> Tensor:
        # D_k - D_j = a_k (m_k - m_j) + (a_k - a_j) m_j + (b_k - b_j) x
        shift = (to_mean[some] - to_mean[heaviest])[:, None] * anchor + (to_x[some] - to_x[heaviest])[:, None] * x
        return to_mean[some, None] * (means[heard[some]] - anchor) + shift

    middle = torch.stack([weight[some] @ away(some) for some in pieces]).sum(0)
    inside = (weight * within).sum()
    parts = []
    for some in pieces:
        gap, share = away(some) - middle, weight[some]
        if part is Part.PRODUCT:
            parts.append((share * (gap @ v)) @ gap)
        else:
            squares = share @ gap**2
            parts.append(squares if part is Part.DIAGONAL else squares.sum())
    own = {Part.PRODUCT: inside * v, Part.DIAGONAL: inside, Part.TRACE: inside * len(x)}[part]
    return torch.stack(parts).sum(0) + own
