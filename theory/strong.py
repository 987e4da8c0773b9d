"""The strong (pathwise) error of a stochastic sampler on Gaussian data, exactly: no path is drawn."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from theory.estimate import Estimate
from theory.grid import TimeGrid, uniform_lambda
from theory.laws import affine_map
from theory.models import Exact
from theory.noise import snr_clock, time_clock
from theory.process import Level, NoiseProcess
from theory.slope import observed_order
from theory.solvers.base import Solver
from toy_distributions.mixture import GaussianMixture

Clock = Literal["t", "snr"] | float


def gaussian_strong_error(
    solver: Solver, law: GaussianMixture, process: NoiseProcess, grid: TimeGrid, *, clock: Clock = "t", eta: float = 1.0
) -> Estimate:
    r"""(E |X_h - X|^2)^{1/2} at the grid's end, X the exact solution of the reverse SDE driven by the same path.

    For N(m, V) data and the reverse SDE of noise level eta g, both are affine in the start x and the path w,

        X   = mean_t + Phi(t, s) (x - mean_s) + int Phi(t, tau) a(tau) dw_tau,
        X_h = matrix x + offset + sum_i noises_i z_i,      z_i = (increment of w over part i) / sqrt(length of part i),

    with matrix, offset, noises read off the real solver code, so that with S = alpha^2 V + sigma^2

        E |X_h - X|^2 = |E (X_h - X)|^2 + tr (matrix - Phi) S_s (matrix - Phi)^T
                        + sum_i int_i | Phi(t, tau) a(tau) - noises_i / sqrt(length_i) |_F^2 dtau,
        Phi(t, tau)   = (S_t / S_tau)^{(1 + eta^2)/2} (alpha_tau / alpha_t)^{eta^2}.

    clock: the variable in which w is a Brownian motion. "t", as in dx = ... + eta g dw: a = eta g. "snr" =
    alpha^2/sigma^2, in which the noise of DDPM-like steps is additive: a = eta sigma^2 / alpha. A number p stands for
    e^{p lambda}, a = eta sigma e^{-p lambda / 2} sqrt(2 / |p|): 2 eta^2 is the clock of exponential methods in x0, 2 of
    which is "snr", and -2 that of those in eps. Clocks couple the noise inside a step differently, and agree on whole
    steps.

    The solver draws one normal a step, or one for each of the parts into which its stages cut the step. The error
    compares Gauss-Legendre rules of 6 and 5 nodes a part.
    """
    if law.components != 1:
        raise ValueError(f"gaussian_strong_error needs one Gaussian; got {law!r}.")
    probed = affine_map(solver, Exact(law, process), grid, law.dim)
    ends = [grid.levels[0], *(end for _, end in probed.draws)]
    tiled = all(begin.lam == before.lam for (begin, _), before in zip(probed.draws, ends, strict=False))
    if not probed.draws or not tiled or ends[-1].lam != grid.levels[-1].lam:
        raise ValueError(
            f"each step must draw one normal, or one for each of the parts it is cut into; {solver!r} drew "
            f"{len(probed.noises)} in {grid.steps} steps, and not for intervals that follow each other."
        )
    variances, basis = torch.linalg.eigh(law.full_covs()[0])
    first, last = grid.levels[0], grid.levels[-1]

    def propagator(at: Level) -> Tensor:
        """The diagonal (..., d) of Phi(t, at) in the basis of V."""
        alpha, sigma = (torch.as_tensor(part, dtype=torch.float64)[..., None] for part in (at.alpha, at.sigma))
        growth = (last.alpha**2 * variances + last.sigma**2) / (alpha**2 * variances + sigma**2)
        return growth ** (0.5 * (1 + eta**2)) * (alpha / last.alpha) ** (eta**2)

    matrix, noises = (basis.T @ part @ basis for part in (probed.matrix, probed.noises))
    gap = matrix - torch.diag(propagator(first))
    mean = probed.matrix @ (first.alpha * law.means[0]) + probed.offset - last.alpha * law.means[0]
    start = (mean**2).sum() + (gap**2 * (first.alpha**2 * variances + first.sigma**2)).sum()
    place, level_of, amplitude = _clock(clock, process)
    places = torch.tensor([place(at) for at in ends], dtype=torch.float64)
    low, lengths = places[:-1, None], places.diff()[:, None]

    def path(nodes: int) -> float:
        at, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(nodes))
        level = level_of(low + 0.5 * (1 + at) * lengths)
        exact = torch.diag_embed(eta * amplitude(level)[..., None] * propagator(level))
        miss = exact - (noises / lengths[..., None].abs().sqrt())[:, None]
        return (0.5 * weights * lengths.abs() * (miss**2).sum((-2, -1))).sum().item()

    fine, coarse = path(6), path(5)
    value = math.sqrt(start.item() + fine)
    return Estimate(value, abs(fine - coarse) / max(value, 1e-300) + 1e-14, "affine probing and quadrature")


def strong_order(
    solver: Solver,
    law: GaussianMixture,
    process: NoiseProcess,
    *,
    clock: Clock = "t",
    eta: float = 1.0,
    steps: Sequence[int] = (10, 20, 40, 80, 160),
) -> Estimate:
    """The observed order of ``gaussian_strong_error`` in h_max, on grids uniform in lambda from -1/2 to 5/2."""
    h, errors = [], []
    for count in steps:
        grid = uniform_lambda(process, count, start=-0.5, end=2.5)
        h.append(grid.h_max)
        errors.append(gaussian_strong_error(solver, law, process, grid, clock=clock, eta=eta).value)
    return observed_order(h, errors, floor=1e-13)


def _clock(
    clock: Clock, process: NoiseProcess
) -> tuple[Callable[[Level], float], Callable[[Tensor], Level], Callable[[Level], Tensor]]:
    """Where a level stands in the clock's variable, the way back, and the noise amplitude per unit of that variable."""
    if clock == "t":
        return time_clock, process.level, lambda at: torch.as_tensor(process.diffusion_squared(at.t)).sqrt()
    if clock == "snr":
        return (
            snr_clock,
            lambda snr: process.level_at(0.5 * snr.log()),
            lambda at: at.sigma**2 / torch.as_tensor(at.alpha),
        )
    if isinstance(clock, str) or clock == 0:
        raise ValueError(f"clock must be 't', 'snr' or a number other than 0; got {clock!r}.")
    return (
        lambda at: math.exp(clock * at.lam),
        lambda place: process.level_at(place.log() / clock),
        lambda at: (
            torch.as_tensor(at.sigma * (2 / abs(clock)) ** 0.5) * torch.exp(-0.5 * clock * torch.as_tensor(at.lam))
        ),
    )
