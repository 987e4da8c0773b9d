"""Cloud: squared distances from many points to very many centres, exact where they decide a responsibility."""

from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from toy_distributions import shapes
from toy_distributions.pieces import PIECE_BYTES, allowed
from toy_distributions.shapes import Scalar

FEW_DIMENSIONS = 16
"""Up to this many dimensions distances are differences: a product of matrices would not be faster."""

SLACK = 1e5
"""Largest error of a logit, in eps, at which distances may come from a product of matrices."""

CONTENDERS = 64
"""Centres whose distances are computed again as differences, where that suffices."""


class Cloud:
    """K centres m_k (K, d) with log weights (K,).

    ``distances(x, alpha, spread)`` gives |x - alpha m_k|^2 for x (n, d) as (n, K) plus a part (n, 1) common to all k.
    Weighted with w_k exp(-|x - alpha m_k|^2 / (2 spread)), errors in it move log weights by at most SLACK eps (2e-11 in
    float64) in many dimensions, and by what rounding x does in up to FEW_DIMENSIONS.
    """

    def __init__(self, means: Tensor, log_weights: Tensor):
        self.means, self.log_weights = means, log_weights
        self.count, self.dim = means.shape
        middle = means.mean(0)
        if middle.norm() <= 0.25 * torch.linalg.vector_norm(means, dim=-1).max():
            # about the origin no term is then much larger, and the means themselves serve without a copy
            self.centre, self.away = torch.zeros_like(middle), means
        else:
            self.centre, self.away = middle, means - middle
        self.squares = torch.linalg.vector_norm(self.away, dim=-1) ** 2  # without a temporary of the cloud's size

    def distances(self, x: Tensor, alpha: Scalar, spread: Tensor) -> tuple[Tensor, Tensor]:
        """alpha a number or (n,); spread, the variances, (K,) or (n, K)."""
        if self.dim <= FEW_DIMENSIONS:
            return self._by_differences(x, alpha, spread)
        return self._by_product(x, torch.as_tensor(shapes.column(alpha), dtype=x.dtype, device=x.device), spread)

    def _by_product(self, x: Tensor, alpha: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
        """About the centre c, |x - alpha c|^2 taken out: alpha^2 |m - c|^2 - 2 alpha <x - alpha c, m - c>.

        The rounding error of the product matters only where it is not small against the variance; there the
        contenders are computed again as differences.
        """
        away = x - alpha * self.centre
        own = (away**2).sum(-1, keepdim=True)
        rough = alpha * (alpha * self.squares - 2 * (away @ self.away.T))
        units = self.units(own, alpha, spread.amin(-1, keepdim=True))
        if bool((units <= SLACK).all()):
            return rough, own
        slack = units * torch.finfo(x.dtype).eps
        logits = self.log_weights - 0.5 * (rough / spread + self.dim * spread.log())
        best, index = logits.topk(min(CONTENDERS, self.count), -1)
        if bool((best[:, :1] - best[:, -1:] > 50 + slack).all()):  # the rest weighs less than e^-50
            exact = (rough + own).scatter(-1, index, self._of_contenders(x, alpha, index))
        else:
            scale = alpha.where(alpha > 0, 1.0)
            apart = scale * torch.cdist(x / scale, self.means, compute_mode="donot_use_mm_for_euclid_dist")
            exact = torch.where(alpha > 0, apart**2, own)
        nearest = exact.amin(-1, keepdim=True)
        return exact - nearest, nearest

    def _of_contenders(self, x: Tensor, alpha: Tensor, index: Tensor) -> Tensor:
        """|x - alpha m_k|^2 by differences for the k in index (n, m), as many points at a time as stay in the cache."""
        width = index.shape[1] * self.dim
        rows = max(1, allowed(PIECE_BYTES // x.element_size(), x.element_size(), least=width) // width)
        level = alpha.expand(len(x), 1).split(rows)
        parts = zip(x.split(rows), level, index.split(rows), strict=True)
        return torch.cat([((x.unsqueeze(-2) - a.unsqueeze(-1) * self.means[k]) ** 2).sum(-1) for x, a, k in parts])

    def units(self, own: Tensor, alpha: Scalar, spread: Tensor | float) -> Tensor:
        """Bound, in eps, on the rounding error of a logit that a product of matrices gives; own is |x - alpha c|^2."""
        farthest = self.squares.max()
        return 8 * alpha * (alpha * farthest + 2 * (own * farthest).sqrt()) / spread

    def _by_differences(self, x: Tensor, alpha: Scalar, spread: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of squared differences, one coordinate after the other; from afar the nearest centre is taken out:

        |x - a|^2 - |x - b|^2 = <b - a, (x - a) + (x - b)>.
        """

        def total(term: Callable[[Tensor, Tensor], Tensor], x: Tensor, alpha: Scalar) -> Tensor:
            columns = zip(x.split(1, -1), (shapes.column(alpha) * m for m in self.means.T), strict=True)
            return reduce(torch.add, (term(a, b) for a, b in columns))

        squares = total(lambda x, m: (x - m) ** 2, x, alpha)
        nearest, index = squares.min(-1, keepdim=True)
        excess = squares - nearest
        far = ((nearest / spread).amin(-1) > 32 + 2 * self.dim).nonzero()[:, 0]
        if len(far):
            scale, index = alpha[far] if isinstance(alpha, Tensor) else alpha, index[far]

            def difference(x: Tensor, m: Tensor) -> Tensor:
                nearer = m[index] if m.ndim == 1 else m.gather(-1, index)
                return (nearer - m) * ((x - m) + (x - nearer))

            excess = excess.index_copy(0, far, total(difference, x[far], scale))
        return excess, nearest
