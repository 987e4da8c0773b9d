"""DDIM (Song, Meng, Ermon 2021): one step, its order, and what eta changes."""

import math

import torch

from studies.claim import FAILS, at_most, claim, near
from theory.convergence import path_order
from theory.estimate import Estimate
from theory.grid import uniform_lambda
from theory.laws import law_of
from theory.models import Exact
from theory.noise import Independent
from theory.process import VPLinear
from theory.solvers import SOLVERS, solve
from theory.solvers.ddim import DDIM
from theory.solvers.ddpm import DDPM, Variance
from toy_distributions.mixture import GaussianMixture

PROCESS = VPLinear()
EPS = torch.finfo(torch.float64).eps
TRIMODAL = GaussianMixture([0.3, 0.5, 0.2], [[-1.0], [0.4], [1.2]], [0.05, 0.1, 0.04])

EXACT = 1e-12
"""Accepted distance of quantities that are equal in exact arithmetic: some 20 operations a step, up to 50 steps, with
condition numbers below 5, in units of 2.2e-16."""


def _states(law: GaussianMixture, lam: float, n: int) -> torch.Tensor:
    at = PROCESS.level_at(lam)
    return law.noised(float(at.alpha), float(at.sigma)).sample(n, generator=torch.Generator().manual_seed(0))


@claim(
    "ddim.order",
    statement="DDIM has order 1 in the step size in lambda, along probability-flow trajectories of a mixture.",
    source="song2020ddim, eq. 13-14; lu2022dpm, theorem 3.2 with k = 1",
    accepted=near(1.0, 0.05),
    control={"coefficient": 1.1},
)
def order(coefficient: float = 1.0) -> Estimate:
    return path_order(DDIM(coefficient=coefficient), TRIMODAL, PROCESS, (16, 32, 64, 128, 256))


@claim(
    "ddim.dirac.one_step",
    statement="On a point mass one DDIM step of any size ends on the exact trajectory: largest error for steps of "
    "lambda from -4 to -3, 0 or 4.",
    source="song2020ddim, eq. 13",
    accepted=near(0.0, EXACT),
    control={"solver": "euler.t"},
)
def one_step(solver: str = "ddim") -> Estimate:
    point, worst = 0.7, 0.0
    law = GaussianMixture.dirac(point)
    x = _states(law, -4.0, 16)
    for end in (-3.0, 0.0, 4.0):
        grid = uniform_lambda(PROCESS, 1, start=-4.0, end=end)
        s, t = grid.levels
        eps = (x - s.alpha * point) / s.sigma  # the noise a trajectory keeps
        out = solve(SOLVERS[solver](), Exact(law, PROCESS), x, grid).end
        worst = max(worst, (out - t.alpha * point - t.sigma * eps).abs().max().item())
    return Estimate(worst, 100 * EPS)


@claim(
    "ddim.exponential_euler",
    statement="DDIM is the exponential Euler step x_t = (alpha_t/alpha_s) x_s - sigma_t (e^h - 1) eps, and Euler in "
    "k = sigma/alpha, at any step size: largest difference on a mixture.",
    source="song2020ddim, eq. 13-14; lu2022dpm, eq. 4.1",
    accepted=near(0.0, EXACT),
    control={"weight": "h"},
)
def exponential_euler(weight: str = "e^h - 1") -> Estimate:
    x, model, worst = _states(TRIMODAL, -2.0, 64), Exact(TRIMODAL, PROCESS), 0.0
    for end in (-1.9, -1.0, 2.0):
        grid = uniform_lambda(PROCESS, 1, start=-2.0, end=end)
        s, t = grid.levels
        h = float(t.lam - s.lam)
        drive = h if weight == "h" else math.expm1(h)
        exponential = t.alpha / s.alpha * x - t.sigma * drive * model(x, s).eps
        in_k = solve(SOLVERS["euler.k"](), model, x, grid).end
        out = solve(DDIM(), model, x, grid).end
        worst = max(worst, (out - exponential).abs().max().item(), (out - in_k).abs().max().item())
    # x_t is a difference of terms up to alpha_t / alpha_s = e^2 in size
    return Estimate(worst, 200 * EPS)


@claim(
    "ddim.dirac.marginals",
    statement="On a point mass every eta keeps mean and standard deviation exact, in 1, 3 or 20 steps, for eta = 0, "
    "0.3, 0.7, 1: largest error.",
    source="song2020ddim, lemma 1",
    accepted=near(0.0, EXACT),
    control={"coefficient": 1.01},
)
def dirac_marginals(coefficient: float = 1.0) -> Estimate:
    law, worst = GaussianMixture.dirac(0.7), 0.0
    for steps in (1, 3, 20):
        grid = uniform_lambda(PROCESS, steps, start=-3.0, end=3.0)
        t = grid.levels[-1]
        for eta in (0.0, 0.3, 0.7, 1.0):
            out = law_of(DDIM(eta, coefficient), law, PROCESS, grid)
            worst = max(worst, abs(out.mean.item() - float(t.alpha) * 0.7), abs(out.cov.item() ** 0.5 - float(t.sigma)))
    return Estimate(worst, 20 * 20 * EPS, "affine probing")


@claim(
    "ddim.lemma1",
    statement="Whatever the injected variances, q(x_t | x_0) = N(alpha_t x_0, sigma_t^2): largest relative error of "
    "the variance over random schedules and injections.",
    source="song2020ddim, lemma 1 and eq. 7",
    accepted=near(0.0, EXACT),
    control={"kept": "1 - injected"},
)
def lemma1(kept: str = "sigma^2 - injected") -> Estimate:
    generator, worst = torch.Generator().manual_seed(0), 0.0
    for _ in range(50):
        sigmas, shares = torch.rand(2, 20, generator=generator, dtype=torch.float64).clamp_min(0.05).tolist()
        sigmas.sort(reverse=True)
        variance = sigmas[0] ** 2
        for s, t, share in zip(sigmas, sigmas[1:], shares, strict=False):
            injected = share * t**2
            remaining = (1.0 if kept.startswith("1") else t**2) - injected
            variance = (
                remaining / s**2 * variance + injected
            )  # of sqrt(remaining) (x_s - alpha_s x_0) / sigma_s + noise
            worst = max(worst, abs(variance / t**2 - 1))
    return Estimate(worst, 20 * 5 * EPS)


@claim(
    "ddim.theorem1.weight",
    statement="Each term of the bound J is gamma |eps - eps_hat|^2, gamma = (g sigma_s / alpha_s)^2 / (2 injected) and "
    "g = alpha_t - alpha_s sqrt(sigma_t^2 - injected) / sigma_s: largest relative difference to the KL of the "
    "sampler's own Gaussian steps, over eta and steps.",
    source="song2020ddim, theorem 1 and appendix B",
    accepted=near(0.0, EXACT),
    control={"with_gain": False},
)
def bound_weight(with_gain: bool = True) -> Estimate:
    truth, guess, worst = 0.7, 0.2, 0.0
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
    for end in (-0.5, 0.5, 2.0):
        s, t = PROCESS.level_at(-1.0), PROCESS.level_at(end)
        for eta in (0.2, 0.6, 1.0):
            injected = (eta * float(t.sigma)) ** 2 * -math.expm1(-2 * float(t.lam - s.lam))
            means = [
                DDIM(eta).step(Exact(GaussianMixture.dirac(x0), PROCESS), x, s, t, None, lambda s, t, like: 0 * like).x
                for x0 in (truth, guess)
            ]
            divergence = (means[0] - means[1]) ** 2 / (2 * injected)  # of two Gaussians of variance ``injected``
            g = float(t.alpha - s.alpha * math.sqrt(t.sigma**2 - injected) / s.sigma) if with_gain else 1.0
            gamma = (g * float(s.k)) ** 2 / (2 * injected)
            eps_gap = (truth - guess) / float(s.k)
            worst = max(worst, (divergence / (gamma * eps_gap**2) - 1).abs().max().item())
    return Estimate(worst, 500 * EPS)


@claim(
    "ddim.eta1.ddpm",
    statement="With eta = 1 DDIM is DDPM with the variance beta-tilde, on any grid: largest difference on a mixture "
    "with the same noise.",
    source="song2020ddim, section 4.1 and eq. 16",
    accepted=near(0.0, EXACT),
    control={"variance": "beta"},
)
def eta1(variance: Variance = "beta_tilde") -> Estimate:
    x, model, worst = _states(TRIMODAL, -2.0, 64), Exact(TRIMODAL, PROCESS), 0.0
    for steps in (1, 3, 20):
        grid = uniform_lambda(PROCESS, steps, start=-2.0, end=2.0)
        ends = [solve(s, model, x, grid, noise=Independent(seed=0)).end for s in (DDIM(eta=1.0), DDPM(variance))]
        worst = max(worst, (ends[0] - ends[1]).abs().max().item())
    return Estimate(worst, 20 * 50 * EPS)


@claim(
    "ddim.gaussian.variance_loss",
    statement="On Gaussian data deterministic DDIM ends with too little variance for every number of steps: largest "
    "ratio to the exact variance, for data variances 0.25, 1 and 4 and 2 to 64 steps.",
    source="song2020ddim, eq. 13 (Euler on the convex curve k -> sqrt(v + k^2) runs below it)",
    accepted=at_most(1.0),
    control={"coefficient": 1.1},
)
def variance_loss(coefficient: float = 1.0) -> Estimate:
    worst = 0.0
    for v in (0.25, 1.0, 4.0):
        law = GaussianMixture.gaussian(0.7, v)
        for steps in (2, 4, 8, 16, 32, 64):
            grid = uniform_lambda(PROCESS, steps, start=-3.0, end=3.0)
            true = law.noised(float(grid.levels[-1].alpha), float(grid.levels[-1].sigma)).cov.item()
            out = law_of(DDIM(coefficient=coefficient), law, PROCESS, grid)
            worst = max(worst, out.cov.item() / true)
    return Estimate(worst, 64 * 20 * EPS, "affine probing")


@claim(
    "ddim.eta.marginals",
    statement="The marginals of the samples do not depend on eta: largest relative difference of the output variance "
    "to that of eta = 0, for eta = 0.5 and 1 and Gaussian data of variance 0.25 in 5 steps.",
    source="song2020ddim, section 4.1",
    accepted=near(0.0, EXACT),
    control={"data_variance": 0.0},
    expected=FAILS,
    finding="The invariance is one of the inference process; the sampler's output depends on eta at any finite number "
    "of steps, even with the exact denoiser, unless the data is a point mass.",
)
def eta_marginals(data_variance: float = 0.25) -> Estimate:
    law = GaussianMixture.gaussian(0.7, data_variance)
    grid = uniform_lambda(PROCESS, 5, start=-3.0, end=3.0)
    still, *others = (law_of(DDIM(eta), law, PROCESS, grid).cov.item() for eta in (0.0, 0.5, 1.0))
    return Estimate(max(abs(other / still - 1) for other in others), 5 * 40 * EPS, "affine probing")
