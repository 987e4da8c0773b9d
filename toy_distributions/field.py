"""StationaryField: Gaussian fields on periodic grids, images among them, with everything done by FFT."""

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from toy_distributions import shapes
from toy_distributions.base import Distribution
from toy_distributions.pieces import Formula, in_pieces
from toy_distributions.shapes import Scalar

SPECTRUM_EPS = 64 * torch.finfo(torch.float64).eps


class StationaryField(Distribution):
    r"""The Gaussian field on a periodic grid of N sites with c channels whose covariance depends on distance only:

        Cov(x_pa, x_qb) = M_ab (1/N) sum_k P(k) exp(2 pi i k . (p - q) / n)

    for sites p, q, frequencies k and channels a, b. With M = E diag(mu) E^T and the unitary Fourier transform U, the
    coordinates U x E are independent with variances v_kj = P(k) mu_j, so with S = alpha^2 v + sigma^2 and
    y = x - alpha m

        log p(x)   = -(1/2) sum_kj [ |(U y E)_kj|^2 / v_kj + log(2 pi v_kj) ]                      (at alpha = 1)
        E[x_0|x]   = m + U* (alpha v / S) U y,       Cov[x_0|x] = U* (v sigma^2 / S) U

    all in O(d log d) but the covariances, which are made as d x d matrices where they are asked for.

    spectrum: P, of the grid's shape (n_1, ..., n_r), in the order of torch.fft.fftfreq, >= 0, P(-k) = P(k); the mean of
    P is the variance of a site where M_aa = 1. channels: M (c, c), symmetric positive semi-definite; without it, one
    channel. mean: a number or (d,), d = n_1 ... n_r c. Points are the field flattened, channels last, so an image
    (32, 32, 3) is x.reshape(..., 32, 32, 3). Singular where some v_kj = 0.

    Raises ValueError for a spectrum that is negative or not even, channels that are no covariance, wrong shapes.
    Source: dietrich1997fast, section 2 (circulant covariances are diagonal in Fourier space).
    """

    def __init__(
        self,
        spectrum: Tensor | Sequence,
        channels: Tensor | Sequence[Sequence[float]] | None = None,
        mean: Tensor | Sequence[float] | float = 0.0,
    ):
        spectrum = shapes.floating("spectrum", spectrum)
        if spectrum.ndim == 0 or spectrum.numel() == 0 or bool((spectrum < 0).any()):
            raise ValueError(
                f"spectrum must have the grid's shape and be >= 0; got shape {tuple(spectrum.shape)} and the least "
                f"value {spectrum.min().item() if spectrum.numel() else None}."
            )
        axes = tuple(range(spectrum.ndim))
        mirrored = spectrum.flip(axes).roll([1] * spectrum.ndim, axes)
        off = (spectrum - mirrored).abs()
        if bool((off > SPECTRUM_EPS * spectrum.max()).any()):
            where = tuple(off.flatten().argmax().unsqueeze(0).numpy().tolist())
            raise ValueError(f"spectrum must be even, P(-k) = P(k); it is not at the flat index {where[0]}.")
        grid = tuple(spectrum.shape)
        half = (0.5 * (spectrum + mirrored))[..., : grid[-1] // 2 + 1]
        one = torch.ones(1, 1, dtype=spectrum.dtype, device=spectrum.device)
        M = one if channels is None else shapes.floating("channels", channels).to(spectrum)
        if M.ndim != 2 or M.shape[0] != M.shape[1] or M.numel() == 0:
            raise ValueError(f"channels must be a covariance (c, c); got shape {tuple(M.shape)}.")
        mu, turn = torch.linalg.eigh(0.5 * (M + M.T))
        eps = 64 * len(M) * torch.finfo(M.dtype).eps * M.abs().max()
        if bool((M - M.T).abs().max() > eps) or bool(mu.min() < -eps):
            raise ValueError(
                f"channels must be symmetric positive semi-definite; got the least eigenvalue {mu.min().item():.6g}."
            )
        mu = torch.where(mu > eps / 16, mu, 0.0)
        dim = math.prod(grid) * len(M)
        mean = shapes.floating("mean", mean).to(spectrum)
        if mean.shape not in ((), (dim,)):
            raise ValueError(f"mean must be a number or have shape ({dim},); got {tuple(mean.shape)}.")
        self._fill(half.unsqueeze(-1) * mu, turn, mean.expand(dim), grid)

    def _fill(self, variances: Tensor, turn: Tensor, mean: Tensor, grid: tuple[int, ...]) -> None:
        self._variances, self._turn, self._mean, self.grid = variances, turn, mean, grid
        self.channels = turn.shape[0]
        self.dim, self.dtype, self.device = len(mean), mean.dtype, mean.device

    @classmethod
    def _built(cls, *parts) -> Self:
        law = object.__new__(cls)
        law._fill(*parts)
        return law

    @property
    def mean(self) -> Tensor:
        return self._mean

    @property
    def cov(self) -> Tensor:
        """(d, d), made each time."""
        return self._matrix(self._variances)

    @property
    def singular(self) -> bool:
        return bool((self._variances <= 0).any())

    def to(self, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Self:
        moved = (part.to(device=device, dtype=dtype) for part in (self._variances, self._turn, self._mean))
        return self._built(*moved, self.grid)

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        n = shapes.count("n", n)
        z = torch.randn(n, self.dim, dtype=self.dtype, device=self.device, generator=generator)
        return self._mean + self._filtered(z, self._variances.sqrt())

    def noised(self, alpha: float, sigma: float) -> Self:
        alpha, sigma = float(alpha), float(sigma)
        shapes.level(alpha, sigma)
        return self._built(alpha**2 * self._variances + sigma**2, self._turn, alpha * self._mean, self.grid)

    def _log_prob(self, x: Tensor) -> Tensor:
        return self._noised_log_prob(x, 1.0, 0.0)

    def _noised_log_prob(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        twice = torch.full_like(self._variances[..., :1], 2.0)  # rfft leaves out what is a mirror image
        twice[..., 0, :] = 1.0
        if self.grid[-1] % 2 == 0:
            twice[..., -1, :] = 1.0

        def formula(x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
            spread = self._spread(alpha, sigma)
            z = self._transformed(x - shapes.column(alpha) * self._mean)
            terms = twice * ((z.real**2 + z.imag**2) / spread + (2 * math.pi * spread).log())
            return -0.5 * terms.flatten(1).sum(-1)

        return self._pieces(formula, x, alpha, sigma)

    def _score(self, x: Tensor) -> Tensor:
        def formula(x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
            return self._filtered(self._mean - x, 1 / self._variances)

        return self._pieces(formula, x, 1.0, 0.0)

    def _posterior_mean(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        def formula(x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
            gain = self._level(alpha) * self._variances / self._spread(alpha, sigma)
            return self._mean + self._filtered(x - shapes.column(alpha) * self._mean, gain)

        return self._pieces(formula, x, alpha, sigma)

    def _posterior_cov(self, x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
        def formula(x: Tensor, alpha: Scalar, sigma: Scalar) -> Tensor:
            left = self._variances * self._level(sigma) ** 2 / self._spread(alpha, sigma)
            return self._matrix(left) + 0.0 * x[:, :1, None]  # the same at every x: its derivatives are zeros

        return self._pieces(formula, x, alpha, sigma, per_site=self.dim)

    def _pieces(self, formula: Formula, x: Tensor, alpha: Scalar, sigma: Scalar, per_site: int = 4) -> Tensor:
        if x.numel() == 0:  # FFT libraries refuse to transform no fields at all
            out = formula(x.new_zeros(1, self.dim), 1.0, 1.0)
            return out[:0].reshape(x.shape[:-1] + out.shape[1:])
        return in_pieces(formula, x, alpha, sigma, per_point=per_site * self.dim)

    def _level(self, value: Scalar) -> Scalar:
        """A per-point number (n,) made to broadcast against (n, frequencies, channels)."""
        return value.reshape(-1, *[1] * self._variances.ndim) if isinstance(value, Tensor) else value

    def _spread(self, alpha: Scalar, sigma: Scalar) -> Tensor:
        return self._level(alpha) ** 2 * self._variances + self._level(sigma) ** 2

    def _transformed(self, y: Tensor) -> Tensor:
        """U y E of fields y (n, d): (n, frequencies, channels), half of the frequencies as in torch.fft.rfftn."""
        fields = y.reshape(-1, *self.grid, self.channels) @ self._turn
        return torch.fft.rfftn(fields, dim=self._axes(fields), norm="ortho")

    def _filtered(self, y: Tensor, gain: Tensor) -> Tensor:
        """U* gain U y for y (n, d) and a gain a frequency and channel, (..., frequencies, channels)."""
        z = gain * self._transformed(y)
        fields = torch.fft.irfftn(z, s=self.grid, dim=self._axes(z), norm="ortho") @ self._turn.T
        return fields.reshape(y.shape)

    def _axes(self, fields: Tensor) -> tuple[int, ...]:
        return tuple(range(fields.ndim - 1 - len(self.grid), fields.ndim - 1))

    def _matrix(self, values: Tensor) -> Tensor:
        """U* values U as a matrix (..., d, d), from its correlations at every distance."""
        correlation = torch.fft.irfftn(values, s=self.grid, dim=self._axes(values))
        sites = torch.stack(torch.meshgrid(*(torch.arange(n) for n in self.grid), indexing="ij"), -1)
        sites = sites.reshape(-1, len(self.grid))
        apart = (sites[:, None] - sites[None]) % torch.tensor(self.grid)
        index = torch.zeros(apart.shape[:2], dtype=torch.long)
        for axis, n in enumerate(self.grid):
            index = index * n + apart[..., axis]
        batch = values.shape[: values.ndim - 1 - len(self.grid)]
        flat = correlation.reshape(*batch, -1, self.channels)[..., index.to(values.device), :]
        full = torch.einsum("...pqj,aj,bj->...paqb", flat, self._turn, self._turn)
        return full.reshape(*batch, self.dim, self.dim)

    def __repr__(self) -> str:
        grid = " x ".join(str(n) for n in self.grid)
        channels = f" with {self.channels} channels" if self.channels > 1 else ""
        return f"StationaryField({grid} sites{channels})"


def PowerLawField(
    grid: Sequence[int],
    exponent: float = 2.0,
    *,
    outer: float = 1.0,
    channels: Tensor | Sequence[Sequence[float]] | None = None,
    mean: Tensor | Sequence[float] | float = 0.0,
) -> StationaryField:
    r"""The field with P(k) proportional to (|k|^2 + outer^2)^{-exponent / 2}, k in cycles a side, and mean P one.

    Natural images have an exponent of about 2: equal power in every octave of the plane. exponent = 0 is white noise.

    grid: sites a side, (32, 32) for an image; outer > 0: the frequency below which the spectrum is flat; channels,
    mean: see StationaryField.

    Raises ValueError for sides that are no counts, an outer scale that is not positive.
    Source: field1987relations.
    """
    sides = [shapes.count("grid", n) for n in grid]
    outer = shapes.number("outer", outer, positive=True)
    lines = [torch.fft.fftfreq(n, dtype=torch.float64) * n for n in sides]
    square = torch.stack(torch.meshgrid(*lines, indexing="ij")).square().sum(0) + outer**2
    logs = -0.5 * exponent * square.log()
    spectrum = torch.exp(logs - logs.max())
    return StationaryField(spectrum / spectrum.mean(), channels, mean)
