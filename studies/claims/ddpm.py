"""DDPM (Ho, Jain, Abbeel 2020): reverse variances, what ancestral sampling does to a law, and the variational bound."""

from collections.abc import Iterable
from functools import partial

import torch

from studies.claim import FAILS, at_most, claim, near
from theory.covariance import beta, beta_tilde, conditional_variance, entropy, path_kl, posterior_variance
from theory.divergences import kl
from theory.elbo import (
    bound_by_entropies,
    continuous_bound,
    elbo,
    joint_of_data,
    joint_of_sampler,
    nested_bound,
    noise_weight,
)
from theory.estimate import Estimate
from theory.grid import TimeGrid, uniform_lambda, uniform_time
from theory.laws import affine_map, law_of
from theory.models import Exact
from theory.process import Level, VPLinear
from theory.slope import observed_order
from theory.solvers import SOLVERS, Solver
from theory.solvers.ddpm import DDPM, Variance
from toy_distributions.mixture import GaussianMixture

PROCESS = VPLinear()
EPS = torch.finfo(torch.float64).eps
NAMES: tuple[Variance, ...] = ("beta", "beta_tilde")
BIMODAL = GaussianMixture([0.3, 0.7], [[-1.0], [0.8]], [0.05, 0.1])

EXACT = 1e-12
"""Accepted distance of quantities that are equal in exact arithmetic: some 20 operations a step, up to 50 steps, with
condition numbers below 5 (1 / (1 - e^{-2h}) for the steps taken here), in units of 2.2e-16."""


def _steps(grid: TimeGrid) -> Iterable[tuple[Level, Level]]:
    return zip(grid.levels, grid.levels[1:], strict=False)


def _kernel_variance(variance: float, s: Level, t: Level) -> float:
    """Var[x_t | x_s] for N(m, variance) data by adding precisions: no lambda and no posterior of x_0 enters."""
    a = float(s.alpha / t.alpha)
    forward = float((s.sigma - a * t.sigma) * (s.sigma + a * t.sigma))
    return 1 / (1 / float(t.alpha**2 * variance + t.sigma**2) + a**2 / forward)


def _injected(solver: Solver, law: GaussianMixture, s: Level, t: Level) -> float:
    """The variance of the noise that the solver really adds in a step."""
    return (
        affine_map(solver, Exact(law, PROCESS), TimeGrid(PROCESS, [float(s.t), float(t.t)]), 1).noises[0, 0, 0].item()
        ** 2
    )


def _largest_mismatch(data_variance: float, variance: Variance) -> Estimate:
    law, solver = GaussianMixture.gaussian(0.7, data_variance), DDPM(variance)
    grid = uniform_lambda(PROCESS, 12, start=-3.0, end=3.0)
    worst = max(abs(_injected(solver, law, s, t) / _kernel_variance(data_variance, s, t) - 1) for s, t in _steps(grid))
    return Estimate(worst, 100 * EPS)


@claim(
    "ddpm.reverse_variance.unit_gaussian",
    statement="For data of unit variance the exact variance of q(x_t | x_s) is beta, on a variance-preserving process: "
    "largest relative difference over a grid.",
    source="ho2020ddpm, section 3.2",
    accepted=near(0.0, EXACT),
    control={"variance": "beta_tilde"},
)
def unit_gaussian(variance: Variance = "beta") -> Estimate:
    return _largest_mismatch(1.0, variance)


@claim(
    "ddpm.reverse_variance.dirac",
    statement="For a point mass the exact variance of q(x_t | x_s) is beta-tilde: largest relative difference over a "
    "grid.",
    source="ho2020ddpm, section 3.2",
    accepted=near(0.0, EXACT),
    control={"variance": "beta"},
)
def dirac(variance: Variance = "beta_tilde") -> Estimate:
    return _largest_mismatch(0.0, variance)


@claim(
    "ddpm.reverse_variance.extremes",
    statement="beta and beta-tilde are the two extreme choices: no data has a reverse variance above beta. Largest "
    "reverse variance over beta, for Gaussian data of variance 0.1 to 100.",
    source="ho2020ddpm, section 3.2",
    accepted=at_most(1 + EXACT),
    control={"upper": "beta / alpha"},
    expected=FAILS,
    finding="beta bounds the reverse variance only for data of variance at most 1 a direction; the bound for all data "
    "is beta / alpha.",
)
def extremes(upper: str = "beta") -> Estimate:
    grid = uniform_lambda(PROCESS, 12, start=-3.0, end=3.0)
    worst = 0.0
    for s, t in _steps(grid):
        bound = beta(s, t) if upper == "beta" else beta(s, t) * float(t.alpha / s.alpha) ** 2
        worst = max(worst, *(_kernel_variance(v, s, t) / bound for v in (0.1, 1.0, 4.0, 100.0)))
    return Estimate(worst, 100 * EPS)


@claim(
    "ddpm.dirac.marginals",
    statement="On a point mass, ancestral sampling with beta-tilde from the true x_T has the exact mean and standard "
    "deviation at the end, in 1, 2, 5 or 20 steps: largest error.",
    source="ho2020ddpm, eq. 6-7",
    accepted=near(0.0, EXACT),
    control={"variance": "beta"},
)
def dirac_marginals(variance: Variance = "beta_tilde") -> Estimate:
    law, worst = GaussianMixture.dirac(0.7), 0.0
    for steps in (1, 2, 5, 20):
        grid = uniform_time(PROCESS, steps, end=0.01)
        out, true = law_of(DDPM(variance), law, PROCESS, grid), law.noised(*_ends(grid))
        worst = max(worst, *_moment_errors(out, true))
    return Estimate(worst, 20 * 20 * EPS, "affine probing")


def _ends(grid: TimeGrid) -> tuple[float, float]:
    return float(grid.levels[-1].alpha), float(grid.levels[-1].sigma)


def _moment_errors(out, true: GaussianMixture) -> tuple[float, float]:
    """Absolute errors of the mean and of the standard deviation."""
    return abs(out.mean.item() - true.mean.item()), abs(out.cov.item() ** 0.5 - true.cov.item() ** 0.5)


@claim(
    "ddpm.gaussian.mean",
    statement="On Gaussian data, started from the true x_T, ancestral sampling has the exact mean for every number of "
    "steps, since each step's mean is a conditional expectation: largest error for 2 to 50 steps.",
    source="ho2020ddpm, eq. 6-7",
    accepted=near(0.0, EXACT),
    control={"solver": "euler_maruyama"},
)
def gaussian_mean(solver: str = "ddpm.beta_tilde") -> Estimate:
    law, worst = GaussianMixture.gaussian(0.7, 0.25), 0.0
    for steps in (2, 5, 10, 50):
        grid = uniform_lambda(PROCESS, steps, start=-2.0, end=2.0)
        out = law_of(SOLVERS[solver](), law, PROCESS, grid)
        worst = max(worst, _moment_errors(out, law.noised(*_ends(grid)))[0])
    return Estimate(worst, 50 * 20 * EPS, "affine probing")


@claim(
    "ddpm.prior.bias",
    statement="Started from N(0, 1) instead of q_T, ancestral sampling of N(m, v) ends with its mean off by "
    "m alpha_T^2 S_t / (alpha_t S_T), S = alpha^2 v + sigma^2, whatever the number of steps: largest relative "
    "difference from that for 1 to 50 steps.",
    source="ho2020ddpm, section 4 (L_T)",
    accepted=near(0.0, 1e-11),  # EXACT, through the loss of a digit where the mean is compared with the biased one
    control={"solver": "ddim"},
)
def prior_bias(solver: str = "ddpm.beta_tilde") -> Estimate:
    m, v, worst = 0.7, 0.25, 0.0
    law, start = GaussianMixture.gaussian(m, v), GaussianMixture.gaussian(0.0, 1.0)
    for steps in (1, 5, 50):
        grid = uniform_lambda(PROCESS, steps, start=-2.0, end=1.0)
        s, t = grid.levels[0], grid.levels[-1]
        out = law_of(SOLVERS[solver](), law, PROCESS, grid, start=start)
        bias = m * s.alpha**2 / t.alpha * (t.alpha**2 * v + t.sigma**2) / (s.alpha**2 * v + s.sigma**2)
        worst = max(worst, abs(float((t.alpha * m - out.mean.item()) / bias) - 1))
    return Estimate(worst, 50 * 20 * EPS * 20, "affine probing")


def _law_errors(variance: Variance, denoiser_variance: float) -> tuple[list[float], list[float], list[float]]:
    """Steps in lambda, errors of the output variance and KL(truth || output), for N(0.7, 0.25) data."""
    law, model = GaussianMixture.gaussian(0.7, 0.25), Exact(GaussianMixture.gaussian(0.7, denoiser_variance), PROCESS)
    h, errors, divergences = [], [], []
    for steps in (8, 16, 32, 64, 128):
        grid = uniform_lambda(PROCESS, steps, start=-2.0, end=2.0)
        true = law.noised(*_ends(grid))
        out = law_of(DDPM(variance), law, PROCESS, grid, model=model)
        h.append(grid.h_max)
        errors.append(abs(out.cov.item() - true.cov.item()))
        divergences.append(kl(true, out).value)
    return h, errors, divergences


@claim(
    "ddpm.gaussian.variance_order",
    statement="On Gaussian data the variance of ancestral samples converges with order 1 in the step size, for beta "
    "and for beta-tilde (the order further from 1).",
    source="ho2020ddpm, eq. 11",
    accepted=near(1.0, 0.05),
    control={"denoiser_variance": 1.0},
)
def variance_order(denoiser_variance: float = 0.25) -> Estimate:
    orders = [observed_order(*_law_errors(name, denoiser_variance)[:2], floor=1e-15) for name in NAMES]
    return max(orders, key=lambda order: abs(order.value - 1) + order.error)


@claim(
    "ddpm.gaussian.kl_order",
    statement="On Gaussian data the KL of the law of ancestral samples converges with order 2 in the step size, for "
    "beta and for beta-tilde (the order further from 2).",
    source="ho2020ddpm, eq. 11",
    accepted=near(2.0, 0.1),
    control={"denoiser_variance": 1.0},
)
def kl_order(denoiser_variance: float = 0.25) -> Estimate:
    orders = []
    for name in NAMES:
        h, _, divergences = _law_errors(name, denoiser_variance)
        orders.append(observed_order(h, divergences, floor=1e-15))
    return max(orders, key=lambda order: abs(order.value - 2) + order.error)


@claim(
    "ddpm.path_kl.order",
    statement="On a mixture the KL of the whole ancestral path converges with order 1 only, for beta as for "
    "beta-tilde (the order further from 1).",
    source="ho2020ddpm, appendix A, eq. 26",
    accepted=near(1.0, 0.05),
    control={"kernel": "conditional"},
)
def path_kl_order(kernel: str = "isotropic") -> Estimate:
    exact = partial(conditional_variance, BIMODAL)
    grids = [uniform_lambda(PROCESS, steps, start=-1.0, end=1.5) for steps in (5, 10, 20, 40, 80)]
    orders = []
    for variance in (beta, beta_tilde):
        paths = [path_kl(BIMODAL, grid, variance if kernel == "isotropic" else exact) for grid in grids]
        floor = max(path.error for path in paths)
        orders.append(observed_order([grid.h_max for grid in grids], [path.value for path in paths], floor=floor))
    return max(orders, key=lambda order: abs(order.value - 1) + order.error)


# The variational bound. Grids end at the data itself, where beta-tilde is 0, so the kernels have variance beta.


@claim(
    "ddpm.elbo.gaussian",
    statement="On Gaussian data the terms L_T + sum L_{t-1} + L_0 sum to E log q(x_{1:T} | x_0) / p(x_{0:T}), computed "
    "from the joint Gaussian laws of both chains (T = 4): difference in nats.",
    source="ho2020ddpm, eq. 3, 5 and 12",
    accepted=near(0.0, 1e-10),  # the joint covariances have condition numbers below 1e4; 5 variables
    control={"weight_alpha": False},
)
def elbo_gaussian(weight_alpha: bool = True) -> Estimate:
    law, grid = GaussianMixture.gaussian(0.7, 0.25), TimeGrid(PROCESS, [1.0, 0.6, 0.3, 0.1, 0.0])
    total = elbo(law, grid, beta).total.value
    if not weight_alpha:  # the weight beta_n^2 / (2 variance (1 - bar alpha_n)), with alpha_n left out
        for s, t in _steps(grid):
            miss = noise_weight(s, t, beta(s, t)) / float(s.k) ** 2 * posterior_variance(law, s).value
            total -= (1 - float(s.alpha / t.alpha) ** 2) * miss
    q, p = joint_of_data(law, grid), joint_of_sampler(DDPM("beta"), law, grid)
    conditioning = sum(torch.linalg.cond(joint.full_covs()[0]).item() for joint in (q, p))
    exact = kl(q, p).value + entropy(law).value
    return Estimate(total - exact, 5 * EPS * conditioning)


@claim(
    "ddpm.elbo.mixture",
    statement="On a mixture the terms L_T + L_1 + L_0 sum to E log q(x_1, x_2 | x_0) / p(x_0, x_1, x_2), computed by "
    "nested quadrature over (x_0, x_1, x_2): difference in nats.",
    source="ho2020ddpm, eq. 3, 5 and 12",
    accepted=near(0.0, 1e-10),  # Gauss-Hermite converges geometrically; from 36 to 48 nodes it moves by about 1e-12
    control={"prior": False},
)
def elbo_mixture(prior: bool = True) -> Estimate:
    grid = TimeGrid(PROCESS, [0.6, 0.35, 0.0])
    bound = elbo(BIMODAL, grid, beta)
    terms = bound.total.value if prior else bound.total.value - bound.prior.value
    nested = nested_bound(DDPM("beta"), BIMODAL, grid)
    return Estimate(terms - nested.value, bound.total.error + nested.error, nested.method)


@claim(
    "ddpm.elbo.reverse",
    statement="The same bound read backwards in time is the entropy of the data + KL(q_T || prior) + path KL of the "
    "reverse kernels (mixture, T = 6): difference in nats.",
    source="ho2020ddpm, appendix A, eq. 26",
    accepted=near(0.0, 1e-11),  # eight quadratures of entropies and denoising errors, each to about 1e-14
    control={"forward_variance": "beta_tilde"},
)
def elbo_reverse(forward_variance: str = "beta") -> Estimate:
    grid = TimeGrid(PROCESS, [1.0, 0.8, 0.6, 0.4, 0.2, 0.1, 0.0])

    def variance(s: Level, t: Level) -> float:  # beta-tilde is 0 in the last step: it keeps beta there
        return beta_tilde(s, t) if forward_variance == "beta_tilde" and t.sigma > 0 else beta(s, t)

    forward, backward = elbo(BIMODAL, grid, variance).total, bound_by_entropies(BIMODAL, grid, beta)
    return Estimate(forward.value - backward.value, forward.error + backward.error, backward.method)


@claim(
    "ddpm.elbo.vdm_weight",
    statement="With variance beta-tilde DDPM's weight of |eps - eps_hat|^2 is VDM's (snr_t - snr_s) / 2 of "
    "|x_0 - x0_hat|^2: largest relative difference over random schedules.",
    source="ho2020ddpm, eq. 12; kingma2021vdm, eq. 13-14",
    accepted=near(0.0, EXACT),
    control={"weight_alpha": False},
)
def vdm_weight(weight_alpha: bool = True) -> Estimate:
    lams = torch.rand(200, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 8 - 4
    worst = 0.0
    for first, second in lams.sort(-1).values.tolist():
        if second - first < 0.05:  # closer levels only make 1 - e^{-2h} ill-conditioned
            continue
        s, t = PROCESS.level_at(first), PROCESS.level_at(second)
        weight = noise_weight(s, t, beta_tilde(s, t)) * (1 if weight_alpha else (s.alpha / t.alpha) ** 2)
        worst = max(worst, abs(float(weight / s.k**2 / (0.5 * (t.k**-2 - s.k**-2))) - 1))
    return Estimate(worst, 1000 * EPS)


@claim(
    "ddpm.elbo.gap",
    statement="The path KL of ancestral sampling with beta-tilde is VDM's discretisation gap, the left Riemann sum "
    "minus the integral of half the denoising error over snr (mixture, 12 steps): difference in nats.",
    source="kingma2021vdm, eq. 14 and 18",
    accepted=near(0.0, 1e-10),  # quadrature errors of about 1e-14, weighted by snr up to 400
    control={"side": "clean"},
)
def discretisation_gap(side: str = "noisy") -> Estimate:
    grid = uniform_lambda(PROCESS, 12, start=-2.5, end=3.0)
    path, limit = path_kl(BIMODAL, grid, beta_tilde), continuous_bound(BIMODAL, grid)
    total, error = -path.value - limit.value, path.error + limit.error
    for s, t in _steps(grid):
        blur, weight = posterior_variance(BIMODAL, s if side == "noisy" else t), 0.5 * float(t.k**-2 - s.k**-2)
        total, error = total + weight * blur.value, error + weight * blur.error
    return Estimate(total, error, "quadrature")
