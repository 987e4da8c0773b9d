"""Distribution: a law on R^d of which everything is known exactly."""

import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from toy_distributions import shapes
from toy_distributions.pieces import Formula, budgeted, in_pieces
from toy_distributions.shapes import Scalar


class Distribution(ABC):
    r"""A law p of x_0 on R^d with its noised density, score, posterior mean and posterior covariance in closed form.

    Throughout, x = alpha x_0 + sigma eps with eps ~ N(0, I) independent of x_0. Points have shape (..., dim); alpha
    and sigma are numbers or tensors that broadcast to the batch shape x.shape[:-1].

    Promises: laws are immutable; ``noised`` returns the same class, so the noised density and score are
    ``law.noised(alpha, sigma).log_prob(x)`` and ``.score(x)``; a singular law (Dirac, circle) has no density until it
    is noised, and says so. float64 unless made otherwise by ``to``.

    A subclass fills in the underscored formulas; the public methods check their arguments.
    """

    dim: int
    dtype: torch.dtype
    device: torch.device

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """E x_0, shape (dim,)."""

    @property
    @abstractmethod
    def cov(self) -> Tensor:
        """Cov x_0, shape (dim, dim)."""

    @property
    @abstractmethod
    def singular(self) -> bool:
        """Whether the law has no density on R^dim (it lives on a point, a curve, a subspace)."""

    @abstractmethod
    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        """The same law in another dtype or on another device."""

    @abstractmethod
    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        """n independent points, shape (n, dim). The generator lives on the law's device."""

    @abstractmethod
    def noised(self, alpha: float, sigma: float) -> Self:
        """The law of alpha x_0 + sigma eps, for numbers alpha >= 0 and sigma >= 0."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Natural log of the density at x (..., dim), shape (...). Raises ValueError if the law is singular."""
        x = shapes.points(x, self.dim)
        self._needs_density("log_prob")
        return self._within(lambda x, alpha, sigma: self._log_prob(x), x, 1.0, 0.0)

    def score(self, x: Tensor) -> Tensor:
        """Gradient of the log density at x (..., dim), same shape. Raises ValueError if the law is singular."""
        x = shapes.points(x, self.dim)
        self._needs_density("score")
        return self._within(lambda x, alpha, sigma: self._score(x), x, 1.0, 0.0)

    def posterior_mean(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """E[x_0 | alpha x_0 + sigma eps = x], shape of x (..., dim). Needs sigma > 0.

        This is the ideal denoiser; the score of the noised law is (alpha E[x_0|x] - x) / sigma^2 (Tweedie).
        """
        x = shapes.points(x, self.dim)
        shapes.level(alpha, sigma, batch=x.shape[:-1], positive=True)
        return self._within(self._posterior_mean, x, alpha, sigma)

    def posterior_cov(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """Cov[x_0 | alpha x_0 + sigma eps = x], shape (..., dim, dim). Needs sigma > 0."""
        x = shapes.points(x, self.dim)
        shapes.level(alpha, sigma, batch=x.shape[:-1], positive=True)
        return self._within(self._posterior_cov, x, alpha, sigma)

    def posterior_cov_vp(self, x: Tensor, alpha: Scalar, sigma: Scalar, v: Tensor) -> Tensor:
        """Cov[x_0|x] v for vectors v that broadcast to x (..., dim), shape of x. Needs sigma > 0.

        Mixtures and clouds never make the matrix. Raises ValueError for vectors of another shape or not finite.
        """
        x, v = shapes.points(x, self.dim), shapes.vectors(v, x)
        shapes.level(alpha, sigma, batch=x.shape[:-1], positive=True)
        return self._within(self._posterior_cov_vp, x, alpha, sigma, v)

    def posterior_cov_diag(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """The diagonal of Cov[x_0|x], shape of x (..., dim). Needs sigma > 0."""
        x = shapes.points(x, self.dim)
        shapes.level(alpha, sigma, batch=x.shape[:-1], positive=True)
        return self._within(self._posterior_cov_diag, x, alpha, sigma)

    def posterior_cov_trace(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """The trace of Cov[x_0|x], E[|x_0 - E[x_0|x]|^2 | x], shape (...). Needs sigma > 0."""
        x = shapes.points(x, self.dim)
        shapes.level(alpha, sigma, batch=x.shape[:-1], positive=True)
        return self._within(self._posterior_cov_trace, x, alpha, sigma)

    def _within(self, formula: Formula, x: Tensor, alpha: Scalar, sigma: Scalar, v: Tensor | None = None) -> Tensor:
        """The formula at once, or so many points at a time that what each takes fits the budget."""
        if budgeted():
            return in_pieces(formula, x, alpha, sigma, v=v, per_point=self.dim, room=sys.maxsize)
        return formula(x, alpha, sigma) if v is None else formula(x, alpha, sigma, v)

    def cdf(self, x: Tensor) -> Tensor:
        """P(x_0 <= x) of a 1-D law, for x of any shape."""
        self._needs_line("cdf")
        return self._cdf(shapes.floating("x", x))

    def quantile(self, u: Tensor) -> Tensor:
        """Smallest x with cdf(x) >= u of a 1-D law, for u in (0, 1) of any shape."""
        self._needs_line("quantile")
        u = shapes.floating("u", u)
        if u.numel() and not bool(((u > 0) & (u < 1)).all()):
            raise ValueError(f"u must lie in (0, 1); got values from {u.min().item()} to {u.max().item()}.")
        return self._quantile(u)

    @abstractmethod
    def _log_prob(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _score(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _posterior_mean(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor: ...

    @abstractmethod
    def _posterior_cov(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor: ...

    def _posterior_cov_vp(self, x: Tensor, alpha: Scalar, sigma: Scalar, v: Tensor) -> Tensor:
        return (self._posterior_cov(x, alpha, sigma) @ v.expand(x.shape).unsqueeze(-1)).squeeze(-1)

    def _posterior_cov_diag(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        return self._posterior_cov(x, alpha, sigma).diagonal(dim1=-2, dim2=-1)

    def _posterior_cov_trace(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        return self._posterior_cov_diag(x, alpha, sigma).sum(-1)

    def _noised_log_prob(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        """``noised(alpha, sigma).log_prob(x)`` for levels that may vary by point: equal levels are done together."""
        if not isinstance(alpha, Tensor) and not isinstance(sigma, Tensor):
            return self.noised(alpha, sigma)._log_prob(x)
        batch, flat = x.shape[:-1], x.reshape(-1, self.dim)
        alpha, sigma = (torch.as_tensor(v, dtype=torch.float64).expand(batch).reshape(-1) for v in (alpha, sigma))
        rows: dict[tuple[float, float], list[int]] = {}
        for i, level in enumerate(zip(alpha.tolist(), sigma.tolist(), strict=True)):
            rows.setdefault(level, []).append(i)
        out = flat.new_zeros(len(flat))
        for level, some in rows.items():
            some = torch.tensor(some, device=x.device)
            out = out.index_copy(0, some, self.noised(*level)._log_prob(flat[some]))
        return out.reshape(batch)

    def _cdf(self, x: Tensor) -> Tensor:
        raise ValueError(f"{self!r} has no closed cdf; noise a mixture or a Box instead.")

    def _quantile(self, u: Tensor) -> Tensor:
        """Newton's method on the cdf inside a shrinking bracket; a step that would leave the bracket halves it."""
        flat = u.reshape(-1)
        low, high = self._bracket(flat)
        x, out = 0.5 * (low + high), torch.empty_like(flat)
        open_ = torch.arange(len(flat), device=u.device)
        eps, spread = torch.finfo(u.dtype).eps, self._size()[1]
        turn = 0
        while len(open_):
            turn += 1
            gap = self._cdf(x) - flat[open_]
            low, high = torch.where(gap < 0, x, low), torch.where(gap < 0, high, x)
            middle = low + 0.5 * (high - low)
            wide = high - low > 100 * spread  # then in a tail, perhaps one like a power: halve the exponent
            middle = torch.where(wide, self._stretch(0.5 * (self._shrink(low) + self._shrink(high))), middle)
            # neighbouring floats, or as good as that about zero: nothing left to halve
            closed = (middle <= low) | (middle >= high) | (high - low <= eps**2 * spread)
            step = middle
            if not self.singular:
                density = self._log_prob(x.unsqueeze(-1)).exp()
                newton = x - gap / density
                sure = (gap.abs() <= eps * flat[open_]) & (density * spread > 1e-3)  # as near as u itself is known
                settled = sure | ((newton - x).abs() <= 2 * eps * x.abs())
                high, closed = torch.where(settled & ~closed, x, high), closed | settled
                if turn % 3:  # every third step halves, so that a slow tail cannot hold it up
                    step = torch.where((newton > low) & (newton < high) & ~wide, newton, middle)
            out[open_[closed]] = high[closed]
            open_, low, high, x = (part[~closed] for part in (open_, low, high, step))
        return out.reshape(u.shape)

    def _shrink(self, x: Tensor) -> Tensor:
        """A scale on which tails are short: asinh of x in units of the law's size."""
        centre, spread = self._size()
        return torch.asinh((x - centre) / (spread or 1.0))

    def _stretch(self, y: Tensor) -> Tensor:
        centre, spread = self._size()
        return centre + (spread or 1.0) * torch.sinh(y)

    def _size(self) -> tuple[float, float]:
        """Where a 1-D law lies and how wide it is, to start the search for a quantile."""
        return self.mean.item(), self.cov.item() ** 0.5

    def _bracket(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Points with cdf(low) < u <= cdf(high), from a table of the cdf."""
        if not u.numel():
            return u, u
        (centre, spread), eps = self._size(), torch.finfo(u.dtype).eps
        spread = max(spread, eps * abs(centre)) or 1e-300

        def outwards(side: int, enough: Callable[[Tensor], Tensor]) -> Tensor:
            x, reach = u.new_tensor(centre), 0.0
            while not bool(enough(self._cdf(x))):
                reach = 1.5 * reach + 1
                if reach > 705:
                    raise ValueError(f"u must have a quantile among the floats; got u from {u.min()} to {u.max()}.")
                x = u.new_tensor(centre + side * spread * math.sinh(reach))
            return x

        low = outwards(-1, lambda below: below < u.min())
        high = outwards(1, lambda below: below >= u.max().clamp_max(1 - 64 * eps))  # a rounded cdf need not reach one
        nodes = min(1025, 2 * u.numel() + 1)
        table = torch.linspace(
            self._shrink(low).item(), self._shrink(high).item(), nodes, dtype=u.dtype, device=u.device
        )
        table = self._stretch(table)
        table[0], table[-1] = low, high
        index = torch.searchsorted(self._cdf(table).cummax(0).values, u.contiguous()).clamp(1, nodes - 1)
        return table[index - 1], table[index]

    def _needs_density(self, asked: str) -> None:
        if self.singular:
            raise ValueError(
                f"{asked} needs a density, and {self!r} has none; blur it first: law.noised(1.0, sigma).{asked}(x)."
            )

    def _needs_line(self, asked: str) -> None:
        if self.dim != 1:
            raise ValueError(f"{asked} is defined for 1-D laws; got a law on R^{self.dim}.")
