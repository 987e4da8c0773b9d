"""Product: independent blocks of coordinates, each with a law of its own."""

from typing import Self

import torch
from torch import Tensor

from toy_distributions import shapes
from toy_distributions.base import Distribution
from toy_distributions.shapes import Scalar


class Product(Distribution):
    r"""x_0 = (x_0^1, ..., x_0^m) with independent blocks x_0^j ~ p_j on R^{d_j}, so p = prod_j p_j on R^{sum d_j}.

    Noise acts on coordinates one by one, so everything splits: log densities add, scores and posterior means are
    stacked, posterior covariances are block-diagonal.

    laws: at least one, of one dtype and device. Singular if any of them is.

    Raises ValueError for no laws, for something that is not a law, for laws of several dtypes or devices.
    """

    def __init__(self, *laws: Distribution):
        if not laws:
            raise ValueError("Product needs at least one law; got none.")
        for law in laws:
            if not isinstance(law, Distribution):
                raise ValueError(f"Product takes laws, as in Product(Circle(), Box(0, 1)); got {type(law).__name__}.")
        kinds = {(law.dtype, law.device) for law in laws}
        if len(kinds) > 1:
            got = ", ".join(sorted(f"{dtype} on {device}" for dtype, device in kinds))
            raise ValueError(f"the laws of a Product must share dtype and device; got {got}. Use law.to(...).")
        self.laws = laws
        self.dim, self.dtype, self.device = sum(law.dim for law in laws), laws[0].dtype, laws[0].device

    @property
    def mean(self) -> Tensor:
        return torch.cat([law.mean for law in self.laws])

    @property
    def cov(self) -> Tensor:
        return torch.block_diag(*(law.cov for law in self.laws))

    @property
    def singular(self) -> bool:
        return any(law.singular for law in self.laws)

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        return type(self)(*(law.to(dtype, device) for law in self.laws))

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        n = shapes.count("n", n)
        return torch.cat([law.sample(n, generator=generator) for law in self.laws], -1)

    def noised(self, alpha: float, sigma: float) -> Self:
        return type(self)(*(law.noised(alpha, sigma) for law in self.laws))

    def _blocks(self, x: Tensor) -> list[tuple[Distribution, Tensor]]:
        return list(zip(self.laws, x.split([law.dim for law in self.laws], -1), strict=True))

    def _log_prob(self, x: Tensor) -> Tensor:
        return torch.stack([law._log_prob(block) for law, block in self._blocks(x)]).sum(0)

    def _noised_log_prob(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        return torch.stack([law._noised_log_prob(block, alpha, sigma) for law, block in self._blocks(x)]).sum(0)

    def _score(self, x: Tensor) -> Tensor:
        return torch.cat([law._score(block) for law, block in self._blocks(x)], -1)

    def _posterior_mean(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        return torch.cat([law._posterior_mean(block, alpha, sigma) for law, block in self._blocks(x)], -1)

    def _posterior_cov(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        out = x.new_zeros((*x.shape, self.dim))
        end = 0
        for law, block in self._blocks(x):
            start, end = end, end + law.dim
            out[..., start:end, start:end] = law._posterior_cov(block, alpha, sigma)
        return out

    def _cdf(self, x: Tensor) -> Tensor:
        return self.laws[0]._cdf(x)

    def __repr__(self) -> str:
        return f"Product({', '.join(repr(law) for law in self.laws)})"
