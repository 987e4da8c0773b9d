"""Fokker-Planck: whether a drift and a noise move a density the way the noise process says it moves.

One family of SDEs shares the marginals p_t of a noise process. With f, g of the process and the score of p_t,

    dx = [ f x - (1 - kappa)/2 g^2 score ] dt + sqrt|kappa| g dw,
    d_t p + div(b p) - kappa g^2/2 lap p = 0,       b the bracket,

where kappa = 1 is the forward SDE, 0 the probability-flow ODE, -1 the reverse SDE (t and w running down), and
-eta^2 the reverse SDE of noise level eta g. Source: song2020score, eq. 6 and 13; huang2021variational.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from theory.estimate import Estimate
from theory.models import Exact
from theory.process import Level, NoiseProcess, Scalar
from toy_distributions.base import Distribution
from toy_distributions.mixture import GaussianMixture

STENCIL = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
"""Weights of f(t + j h) - f(t - j h), j = 1..4: the first derivative with an error of h^8 f^(9) / 630."""

SHORTER_STENCIL = (3 / 4, -3 / 20, 1 / 60, 0.0)
"""The same with an error of h^6 f^(7) / 140."""


def residual(
    law: Distribution,
    process: NoiseProcess,
    t: float,
    x: Tensor,
    *,
    kappa: float,
    drift_factor: float = 1.0,
    noise_factor: float = 1.0,
) -> Estimate:
    r"""Largest Fokker-Planck residual of the family member ``kappa`` over the points x (n, dim), relative.

    Divided by p, the equation reads

        d_t log p + div b + b . grad log p - kappa g^2/2 (lap log p + |grad log p|^2) = 0,

    and the value is its left side over the sum of its terms' absolute values. The density enters by log_prob alone
    (space derivatives automatic, the time derivative a central difference of eight points, 0.005 apart in lambda); the
    drift b is what samplers use, built on the model's score, its divergence automatic. The error is the difference
    to a six-point stencil plus the rounding of log p over the spacing.

    drift_factor multiplies the score term of b, noise_factor the noise variance |kappa| g^2; 1 and 1 are the family,
    other values serve as controls.
    """
    at = process.level(float(t))
    f, g2 = process.drift(float(t)), process.diffusion_squared(float(t))
    x = x.detach().clone().requires_grad_()
    log_p = law.noised(float(at.alpha), float(at.sigma)).log_prob(x)
    (grad,) = torch.autograd.grad(log_p.sum(), x, create_graph=True)
    drift = f * x - 0.5 * drift_factor * (1 - kappa) * g2 * Exact(law, process)(x, at).score
    rate, shorter, rounding = _time_derivative(law, process, at, x.detach())
    spread = -0.5 * noise_factor * kappa * g2
    terms = torch.stack(
        [rate, divergence(drift, x), (drift * grad).sum(-1), spread * divergence(grad, x), spread * (grad**2).sum(-1)]
    ).detach()
    size = terms.abs().sum(0)
    worst = (terms.sum(0).abs() / size).max().item()
    error = (((rate - shorter).abs() + rounding) / size).max().item()
    return Estimate(worst, error, "autograd in x, eight-point difference in t")


def _time_derivative(law: Distribution, process: NoiseProcess, at: Level, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """d log p_t(x) / dt by the two stencils, and a bound on the rounding error they share."""
    t, h = float(at.t), 0.005 / abs(float(at.lam_dot))
    if not (t - 4 * h > 0 and t + 4 * h < process.t_max):
        raise ValueError(f"the residual needs room for four differences on both sides of t; got t={t}.")

    def log_p(time: float) -> Tensor:
        level = process.level(time)
        return law.noised(float(level.alpha), float(level.sigma)).log_prob(x)

    after, before = (torch.stack([log_p(t + sign * j * h) for j in (1, 2, 3, 4)]) for sign in (1, -1))
    rate, shorter = (x.new_tensor(stencil) @ (after - before) / h for stencil in (STENCIL, SHORTER_STENCIL))
    size = torch.maximum(after.abs(), before.abs()).amax(0)
    return rate, shorter, 8 * torch.finfo(x.dtype).eps * (1 + size) / h


def divergence(field: Tensor, x: Tensor) -> Tensor:
    """div field at x by automatic differentiation, for a field (n, dim) computed row by row from x (n, dim)."""
    columns = [torch.autograd.grad(field[:, i].sum(), x, retain_graph=True)[0][:, i] for i in range(x.shape[-1])]
    return torch.stack(columns).sum(0)


def kernel(
    drift: Callable[[float], Scalar], diffusion_squared: Callable[[float], Scalar], s: Level, t: Level
) -> tuple[float, float]:
    """alpha and sigma^2 at level t of dx = f x dt + g dw, from those at level s.

    d alpha/dt = f alpha, d sigma^2/dt = 2 f sigma^2 + g^2, by DOP853: what the schedule's closed form must agree with.
    Source: song2020score, eq. 29 and appendix B; sarkka2019applied, eq. 5.50-5.51.
    """

    def slope(time: float, state: np.ndarray) -> list[float]:
        f = float(drift(time))
        return [f * state[0], 2 * f * state[1] + float(diffusion_squared(time))]

    state = [float(s.alpha), float(s.sigma) ** 2]
    run = solve_ivp(slope, (float(s.t), float(t.t)), state, method="DOP853", rtol=1e-13, atol=1e-16)
    if not run.success:
        raise ArithmeticError(f"the kernel's equations must reach t={t.t}; DOP853 stopped: {run.message}")
    return float(run.y[0, -1]), float(run.y[1, -1])


def gaussian_moments(
    law: GaussianMixture,
    process: NoiseProcess,
    s: Level,
    t: Level,
    *,
    kappa: float,
    drift_factor: float = 1.0,
    start: GaussianMixture | None = None,
) -> GaussianMixture:
    r"""Where the family member ``kappa`` takes N(m, V) from level s to level t on Gaussian data: a Gaussian.

    With b = A x + c, A and c read off the exact score, DOP853 integrates in t

        dm/dt = A m + c,      dV/dt = A V + V A^T + kappa g^2 I

    (for kappa < 0 time runs down, dV/d(-t) = -A V - V A^T + |kappa| g^2 I, which is the same line). Relative error
    about 1e-12. start: the law at s, by default the true one. drift_factor: as in ``residual``.
    """
    if law.components != 1:
        raise ValueError(f"gaussian_moments needs one Gaussian; got {law!r}.")
    start = law.noised(float(s.alpha), float(s.sigma)) if start is None else start
    d = law.dim
    centre, cov, eye = law.means[0].numpy(), law.full_covs()[0].numpy(), np.eye(d)

    def slope(time: float, state: np.ndarray) -> np.ndarray:
        at = process.level(min(max(time, 0.0), process.t_max))
        f, g2 = process.drift(at.t), process.diffusion_squared(at.t)
        pull = 0.5 * drift_factor * (1 - kappa) * g2 * np.linalg.inv(at.alpha**2 * cov + at.sigma**2 * eye)
        a = f * eye + pull
        mean, spread = state[:d], state[d:].reshape(d, d)
        return np.concatenate(
            [a @ mean - pull @ (at.alpha * centre), (a @ spread + spread @ a.T + kappa * g2 * eye).ravel()]
        )

    state = np.concatenate([start.means[0].numpy(), start.full_covs()[0].numpy().ravel()])
    run = solve_ivp(slope, (float(s.t), float(t.t)), state, method="DOP853", rtol=1e-13, atol=1e-16)
    if not run.success:
        raise ArithmeticError(f"the moment equations must reach t={t.t}; DOP853 stopped: {run.message}")
    mean, spread = run.y[:d, -1], run.y[d:, -1].reshape(d, d)
    return GaussianMixture.gaussian(torch.from_numpy(mean.copy()), torch.from_numpy(0.5 * (spread + spread.T)))
