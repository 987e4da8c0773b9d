"""What a denoiser of images does, in numbers that exact laws have too: errors by noise level, bounds, straightness.

Every function takes a Model on points (n, 3072), so that a network, the Gaussian fit and the empirical law are asked
the same questions on the same images and the same noise.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from studies.cifar10 import data
from theory.covariance import beta, beta_tilde
from theory.grid import TimeGrid
from theory.models import Model
from theory.noise import Noise, no_noise
from theory.process import Level
from theory.solvers.base import Solver, solve

BITS = 256
"""Grey levels of a channel: bits per dimension are about these, not about a density."""


def pixels(split: str, n: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """n images of a split as points of [-1, 1]^3072 and their labels, drawn without replacement."""
    images, labels = data.load(split)
    index = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:n]
    return data.as_points(images[index], dtype), labels[index]


def normals(n: int, *, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """(n, 3072) standard normals, the same in every dtype up to rounding."""
    return torch.randn(n, 3072, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def denoising_errors(model: Model, x0: Tensor, lam: float, *, seed: int, chunk: int = 64) -> Tensor:
    """(n,) mean squared error a pixel of x0 (n, 3072) denoised at log-SNR lam; the noise depends on the seed alone."""
    at = model.process.level_at(lam)
    x = at.alpha * x0 + at.sigma * normals(len(x0), seed=seed).to(x0)
    with torch.no_grad():
        parts = [model(part, at).x0 for part in x.split(chunk)]
    return (torch.cat(parts) - x0).square().mean(-1)


class Trajectories(NamedTuple):
    end: Tensor
    """(n, 3072)."""
    evaluations: int


def run(solver: Solver, model: Model, z: Tensor, grid: TimeGrid, *, noise: Noise = no_noise) -> Trajectories:
    """Trajectories from sigma z, z standard normals, without automatic differentiation."""
    with torch.no_grad():
        found = solve(solver, model, float(grid.levels[0].sigma) * z, grid, keep=False, noise=noise)
    return Trajectories(found.end, found.evaluations)


def straightness(model: Model, solver: Solver, z: Tensor, grid: TimeGrid) -> float:
    """S = E int_0^1 |(x_1 - x_0) - v_t|^2 dt / E |x_1 - x_0|^2 of the trajectories in linear-path coordinates.

    x_t / (alpha + sigma) is what the state is on the path (1 - t) x_0 + t x_1 at t = sigma / (alpha + sigma), whatever
    the process; on a grid the velocity is that of its polygon, which takes a part of second order off S. 0 for
    straight lines. Source: liu2022rectified, eq. 7; lee2023curvature, eq. 9.
    """
    with torch.no_grad():
        states = solve(solver, model, float(grid.levels[0].sigma) * z, grid).states
    t = torch.tensor([float(at.sigma) / float(at.alpha + at.sigma) for at in grid.levels], dtype=torch.float64)
    path = torch.stack([x / float(a.alpha + a.sigma) for x, a in zip(states, grid.levels, strict=True)])
    chord = (path[-1] - path[0]) / float(t[-1] - t[0])
    widths = t.diff()[:, None, None].to(path)
    off = (path.diff(dim=0) / widths - chord) ** 2 * widths.abs()
    return float(off.sum() / (chord**2).sum() / widths.abs().sum())


VARIANCES = ("beta", "beta_tilde", "optimal")


def reverse_variance(which: str, s: Level, t: Level, mse: float) -> float:
    """The variance of an ancestral step: DDPM's two, or the best one for a denoiser with this mean squared error.

    optimal = beta_tilde + gain^2 mse, gain the weight of x_0 in the mean of q(x_t | x_s, x_0): the least ELBO that a
    variance common to all pixels and states can have. Source: bao2022analytic, theorem 1; bao2022estimating, eq. 13.
    """
    if which == "beta":
        return beta(s, t)
    if which == "beta_tilde":
        return beta_tilde(s, t)
    gain = float(t.alpha) * -math.expm1(-2 * float(t.lam - s.lam))
    return beta_tilde(s, t) + gain**2 * mse


def elbo_bits(grid: TimeGrid, mse: Sequence[float], which: str, power: float) -> tuple[float, float]:
    r"""Terms of the variational bound in bits a dimension: (prior, steps), all but the reconstruction of pixels.

    mse: the denoiser's mean squared error a pixel at each level of the grid but the last; power: E x_0^2 a pixel.

        prior   KL( q(x_N | x_0) || N(0, sigma_N^2 I) )  a dimension,
        steps   1/2 [ log(v / beta_tilde) + beta_tilde / v - 1 + gain^2 mse / v ]  summed over the steps s -> t.

    Source: ho2020ddpm, eq. 5; theory.elbo has the same for exact laws.
    """
    first = grid.levels[0]
    prior = 0.5 * float(first.alpha) ** 2 * power / float(first.sigma) ** 2
    total = 0.0
    for s, t, miss in zip(grid.levels, grid.levels[1:], mse, strict=False):
        v, least = reverse_variance(which, s, t, miss), beta_tilde(s, t)
        gain = float(t.alpha) * -math.expm1(-2 * float(t.lam - s.lam))
        total += 0.5 * (math.log(v / least) + least / v - 1 + gain**2 * miss / v)
    return prior / math.log(2), total / math.log(2)


def pixel_bits(x0: Tensor, at: Level, *, seed: int) -> Tensor:
    """(n,) bits a dimension to name each pixel's grey level from x_1 = alpha x_0 + sigma eps, as N(x_1/alpha, k^2).

    The grey levels' cells are the intervals between neighbours, the outer ones reach to infinity.
    Source: ho2020ddpm, eq. 13; kingma2021vdm, section 3.1.
    """
    k = float(at.k)
    y = x0.double() + k * normals(len(x0), seed=seed, dtype=torch.float64)
    step = 1 / (BITS - 1)
    low = torch.where(x0 <= -1 + step / 2, -math.inf, x0.double() - step)
    high = torch.where(x0 >= 1 - step / 2, math.inf, x0.double() + step)
    # by symmetry of the normal law both ends are taken on the side where its tails keep their digits
    flip = (low - y).clamp_min(-1e300) > 0
    a, b = torch.where(flip, y - high, low - y) / k, torch.where(flip, y - low, high - y) / k
    log_mass = torch.special.log_ndtr(b) + torch.log1p(
        -torch.exp(torch.special.log_ndtr(a) - torch.special.log_ndtr(b))
    )
    return -log_mass.mean(-1) / math.log(2)


def ode_bits(model: Model, x0: Tensor, grid: TimeGrid, *, seed: int, prior_variance: float = 0.0) -> Tensor:
    r"""(n,) bits a dimension of x0, dequantised uniformly, by the probability-flow ODE run from data to noise.

    In y = x / alpha the flow is dy = eps dk, so in u = log k it is dy/du = k eps, and
    log p(y_0) = log N(y_K; 0, (K^2 + prior_variance) I) + int k tr(d eps/dy) du. Both are carried up the grid
    together by Heun's method, the trace by one Rademacher probe v an image, v^T J v: unbiased, so that the mean over
    images is too, and the spread over images holds the probes' part. The step's own error is told by a finer grid.
    Source: song2020score, eq. 39 and 40; hutchinson1990stochastic.
    """
    generator = torch.Generator().manual_seed(seed)
    step = 2 / (BITS - 1)
    y = x0 + step * (torch.rand(x0.shape, generator=generator) - 0.5).to(x0)
    probe = (2.0 * torch.randint(0, 2, x0.shape, generator=generator) - 1).to(x0)

    def slope(y: Tensor, at: Level) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            y = y.detach().requires_grad_()
            eps = model(float(at.alpha) * y, at).eps
            (pulled,) = torch.autograd.grad((eps * probe).sum(), y)
        return float(at.k) * eps.detach(), float(at.k) * (pulled * probe).sum(-1, dtype=torch.float64)

    expansion = torch.zeros(len(y), dtype=torch.float64)
    levels = grid.levels[::-1]
    here = slope(y, levels[0])
    for s, t in pairwise(levels):
        h = float(s.lam - t.lam)
        there = slope(y + h * here[0], t)
        y = y + h / 2 * (here[0] + there[0])
        expansion += h / 2 * (here[1] + there[1])
        here = slope(y, t)
    variance = float(levels[-1].k) ** 2 + prior_variance
    d = x0.shape[-1]
    log_prior = -0.5 * (y.double().square().sum(-1) / variance + d * math.log(2 * math.pi * variance))
    return -(log_prior + expansion) / (d * math.log(2)) - math.log2(step)
