"""The variational bound of an ancestral sampler on -log p(x_0), term by term, with the exact denoiser."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from theory.covariance import beta_tilde, entropy, path_kl, posterior_variance
from theory.estimate import Estimate
from theory.grid import TimeGrid
from theory.laws import affine_map
from theory.models import Exact
from theory.process import Level, Scalar
from theory.solvers.base import Solver
from toy_distributions.base import Distribution
from toy_distributions.mixture import GaussianMixture


class Bound(NamedTuple):
    """E over data of DDPM's L_T, of L_{N-1}, ..., L_1 (noisiest first) and of L_0, in nats."""

    prior: Estimate
    steps: tuple[Estimate, ...]
    reconstruction: Estimate

    @property
    def total(self) -> Estimate:
        parts = (self.prior, *self.steps, self.reconstruction)
        return Estimate(sum(p.value for p in parts), sum(p.error for p in parts), parts[-1].method)


def noise_weight(s: Level, t: Level, variance: float) -> float:
    r"""The weight of E |eps - eps_hat|^2 in DDPM's loss term for the step s -> t.

        beta_n^2 / (2 variance alpha_n (1 - bar alpha_n)) = beta^2 / (2 variance (alpha_s/alpha_t)^2 sigma_s^2)

    For variance = beta_tilde it is (snr_t - snr_s) / (2 snr_s): VDM's weight (snr_t - snr_s) / 2 of E |x_0 - x0_hat|^2.
    Source: ho2020ddpm, eq. 12; kingma2021vdm, eq. 14.
    """
    fresh = -math.expm1(-2 * (t.lam - s.lam))
    return float(s.sigma * fresh * t.alpha / s.alpha) ** 2 / (2 * variance)


def elbo(law: Distribution, grid: TimeGrid, variance: Callable[[Level, Level], float]) -> Bound:
    r"""The terms of  E[-log p(x_0)] <= L_T + sum_n L_{n-1} + L_0  for the sampler that starts from N(0, I).

        L_T     = E KL( q(x_T | x_0) || N(0, I) )
        L_{n-1} = E KL( q(x_t | x_s, x_0) || p(x_t | x_s) )
                = (d/2) [ log(v / beta_tilde) + beta_tilde / v - 1 ] + noise_weight(s, t, v) E |eps - eps_hat|^2
        L_0     = -E log p(x_0 | x_1) = (d/2) log(2 pi v_1) + noise_weight E |eps - eps_hat|^2

    with E |eps - eps_hat|^2 = snr_s d posterior_variance(s). The grid's last level is the data: alpha = 1, sigma = 0.
    Raises ValueError for grids that end elsewhere. Source: ho2020ddpm, eq. 5, 8 and 12.
    """
    *_, last = grid.levels
    if last.sigma != 0 or last.alpha != 1:
        raise ValueError(f"the bound is on data, so the grid must end at alpha=1, sigma=0; got {last}.")
    alpha, sigma, d = float(grid.levels[0].alpha), float(grid.levels[0].sigma), law.dim
    power = (law.cov.diagonal().sum() + law.mean @ law.mean).item()
    prior = 0.5 * (alpha**2 * power + d * (sigma**2 - 1 - 2 * math.log(sigma)))
    terms = []
    for s, t in zip(grid.levels, grid.levels[1:], strict=False):
        v = variance(s, t)
        miss = noise_weight(s, t, v) * d / float(s.k) ** 2
        blur = posterior_variance(law, s)
        if t is last:
            shape = 0.5 * d * math.log(2 * math.pi * v)
        else:
            ratio = beta_tilde(s, t) / v
            shape = 0.5 * d * (ratio - 1 - math.log(ratio))
        terms.append(Estimate(shape + miss * blur.value, miss * blur.error + 1e-15 * (1 + abs(shape)), blur.method))
    return Bound(Estimate(prior, 1e-15 * (1 + power)), tuple(terms[:-1]), terms[-1])


def bound_by_entropies(law: Distribution, grid: TimeGrid, variance: Callable[[Level, Level], float]) -> Estimate:
    """The same bound as  H(x_0) + KL(q_T || N(0, I)) + path KL: no denoising error enters but through the path KL."""
    first = grid.levels[0]
    alpha, sigma = float(first.alpha), float(first.sigma)
    noised = law.noised(alpha, sigma)
    power = (noised.cov.diagonal().sum() + noised.mean @ noised.mean).item()
    data, noisy, path = entropy(law), entropy(law, alpha, sigma), path_kl(law, grid, variance)
    prior = 0.5 * (power + law.dim * math.log(2 * math.pi)) - noisy.value
    return Estimate(data.value + prior + path.value, data.error + noisy.error + path.error, path.method)


def continuous_bound(law: Distribution, grid: TimeGrid) -> Estimate:
    r"""VDM's loss for infinitely many steps over the grid's range, (1/2) int mmse dsnr = int mmse e^{2 lambda} dlambda.

    By Gauss-Legendre, 8 nodes a unit of lambda; the error is the difference to 6. The process matters only through the
    ends of the range. Source: kingma2021vdm, eq. 18.
    """
    low, high = float(grid.levels[0].lam), float(grid.levels[-1].lam)

    def rule(nodes: int) -> tuple[float, float]:
        at, weights = np.polynomial.legendre.leggauss(nodes)
        half, value, error = 0.5 * (high - low), 0.0, 0.0
        for u, w in zip(at.tolist(), weights.tolist(), strict=True):
            lam = low + half * (1 + u)
            blur, weight = posterior_variance(law, grid.process.level_at(lam)), half * w * law.dim * math.exp(2 * lam)
            value, error = value + weight * blur.value, error + weight * blur.error
        return value, error

    (fine, error), (coarse, _) = (rule(math.ceil(n * (high - low))) for n in (8, 6))
    return Estimate(fine, abs(fine - coarse) + error, "quadrature")


def joint_of_data(law: GaussianMixture, grid: TimeGrid) -> GaussianMixture:
    """The joint law of (x_{t_0}, ..., x_{t_N}), noisiest first, when 1-D Gaussian data is noised."""
    alphas = torch.tensor([float(at.alpha) for at in grid.levels], dtype=torch.float64)
    sigmas = torch.tensor([float(at.sigma) for at in grid.levels], dtype=torch.float64)
    variances = alphas**2 * law.cov.item() + sigmas**2
    upper = torch.triu(alphas[:, None] / alphas * variances)  # Cov(x_i, x_j) = (alpha_i / alpha_j) Var x_j, i noisier
    return GaussianMixture.gaussian(alphas * law.mean, upper + upper.triu(1).T)


def joint_of_sampler(solver: Solver, law: GaussianMixture, grid: TimeGrid) -> GaussianMixture:
    """The joint law of (x_{t_0}, ..., x_{t_N}) under the solver's own steps from N(0, 1), on 1-D Gaussian data."""
    n, model = len(grid.levels), Exact(law, grid.process)
    mean, cov = torch.zeros(n, dtype=torch.float64), torch.eye(n, dtype=torch.float64)
    for i, (s, t) in enumerate(zip(grid.times, grid.times[1:], strict=False)):
        step = affine_map(solver, model, TimeGrid(grid.process, [s, t]), 1)
        slope = step.matrix.item()
        mean[i + 1] = slope * mean[i] + step.offset.item()
        cov[i + 1, : i + 1] = cov[: i + 1, i + 1] = slope * cov[i, : i + 1]
        cov[i + 1, i + 1] = slope**2 * cov[i, i] + step.noises.item() ** 2
    return GaussianMixture.gaussian(mean, cov)


def nested_bound(solver: Solver, law: GaussianMixture, grid: TimeGrid) -> Estimate:
    """E log q(x_1, x_2 | x_0) / p(x_0, x_1, x_2) of two steps by its definition: nested Gauss-Hermite quadrature.

    Over x_0 from a 1-D mixture and the two noises of x_1 and x_2 | x_1, 48 nodes an axis; the error is the difference
    to 36. Means and variances of p are read off the solver's steps; p(x_2) is N(0, 1).
    """
    if grid.steps != 2:
        raise ValueError(f"nested_bound takes a grid of two steps, (x_2, x_1, x_0); got {grid.steps}.")
    (noisy, middle, data), model = grid.levels, Exact(law, grid.process)
    a = float(noisy.alpha / middle.alpha)
    fresh = float(noisy.sigma) ** 2 - (a * float(middle.sigma)) ** 2

    def kernel(x: Tensor, s: Level, t: Level) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of p(x_t | x_s)."""
        flat = x.reshape(-1, 1)
        still, moved = (
            solver.step(model, flat, s, t, None, lambda s, t, like, z=z: torch.full_like(like, z)).x for z in (0, 1)
        )
        return still.reshape(x.shape), (moved - still).reshape(x.shape)

    def rule(nodes: int) -> float:
        at, weights = (torch.from_numpy(part) for part in np.polynomial.hermite_e.hermegauss(nodes))
        weights = weights / weights.sum()
        x0 = (law.means + law.covs.reshape(-1, 1).sqrt() * at)[:, :, None, None]
        x1 = float(middle.alpha) * x0 + float(middle.sigma) * at[:, None]
        x2 = a * x1 + math.sqrt(fresh) * at
        log_q = _log_normal(x1, float(middle.alpha) * x0, middle.sigma) + _log_normal(x2, a * x1, math.sqrt(fresh))
        log_p = (
            _log_normal(x2, 0.0, 1.0)
            + _log_normal(x1, *kernel(x2, noisy, middle))
            + _log_normal(x0, *kernel(x1, middle, data))
        )
        return torch.einsum("k,i,j,l,kijl->", law.weights, weights, weights, weights, log_q - log_p).item()

    fine, coarse = rule(48), rule(36)
    return Estimate(fine, abs(fine - coarse) + 1e-14 * (1 + abs(fine)), "nested quadrature")


def _log_normal(x: Tensor, mean: Tensor | float, std: Tensor | Scalar) -> Tensor:
    std = torch.as_tensor(std, dtype=torch.float64)
    return -0.5 * ((x - mean) / std) ** 2 - torch.log(std) - 0.5 * math.log(2 * math.pi)
