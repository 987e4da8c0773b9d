"""Reversible diffusions on the line by finite volumes: their spectral gap, and the density after a time."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.linalg import cho_solve_banded, cholesky_banded, eigh_tridiagonal
from torch import Tensor


class LineDiffusion:
    r"""dx = D (log pi)'(x) dt + sqrt(2 D) dw on [low, high], reflected at the ends, as a jump chain between n cells.

    The chain jumps from cell i to its neighbour j at the rate  (D / h^2) sqrt(pi_j / pi_i), h the width of a cell, so
    it has pi as its stationary law exactly and differs from the diffusion by O(h^2). In u = p / sqrt(pi) its generator
    is a symmetric tridiagonal matrix -H with constant off-diagonals.

    log_density: log pi up to a constant, tensors (n,) -> (n,). rate: D.
    Langevin dynamics dx = score dt + sqrt2 dw of a law has log_density = log p and rate 1.
    """

    def __init__(
        self,
        log_density: Callable[[Tensor], Tensor],
        low: float,
        high: float,
        *,
        cells: int = 2000,
        rate: float = 1.0,
    ):
        if not low < high:
            raise ValueError(f"an interval needs low < high; got low={low}, high={high}.")
        self.width = (high - low) / cells
        self.x = torch.linspace(low + 0.5 * self.width, high - 0.5 * self.width, cells, dtype=torch.float64)
        log_pi = log_density(self.x).detach()
        if not bool(log_pi.isfinite().all()):
            raise ValueError(f"log_density must be finite on [{low}, {high}]; narrow the interval.")
        self._half = 0.5 * (log_pi - log_pi.max())
        step = self._half.diff()
        scale = rate / self.width**2
        leave = torch.zeros(cells, dtype=torch.float64)
        leave[:-1] += step.exp()
        leave[1:] += (-step).exp()
        self._diagonal, self._off = (scale * leave).numpy(), -scale

    def gap(self) -> float:
        """The smallest positive eigenvalue of H: the slowest rate at which laws approach pi. Error O(h^2)."""
        off = np.full(len(self._diagonal) - 1, self._off)
        lowest = eigh_tridiagonal(self._diagonal, off, select="i", select_range=(0, 1), eigvals_only=True)
        return float(lowest[1])

    def evolved(self, density: Tensor, time: float, *, steps: int = 100) -> Tensor:
        """The density (cells,) at the cells' centres after ``time``, from ``density``: mass is kept to rounding.

        Two-stage L-stable SDIRK, order 2 in time / steps: fast modes are damped, not made to oscillate.
        """
        gamma = 1 - 0.5**0.5
        dt = time / steps
        bands = np.zeros((2, len(self._diagonal)))
        bands[0, 1:] = gamma * dt * self._off
        bands[1] = 1 + gamma * dt * self._diagonal
        factor = cholesky_banded(bands)
        u = (density / self._half.exp()).numpy()
        for _ in range(steps):
            first = self._slope(cho_solve_banded((factor, False), u))
            second = self._slope(cho_solve_banded((factor, False), u + (1 - gamma) * dt * first))
            u = u + dt * ((1 - gamma) * first + gamma * second)
        return torch.from_numpy(u) * self._half.exp()

    def _slope(self, u: np.ndarray) -> np.ndarray:
        """-H u."""
        out = -self._diagonal * u
        out[1:] -= self._off * u[:-1]
        out[:-1] -= self._off * u[1:]
        return out
