"""Reverse covariances: what noise a reverse step should have, and the path KL of choosing another.

A step runs from level s to the cleaner level t, h = lam_t - lam_s. The forward family that DDIM's eta names couples

    x_s = alpha_s x_0 + sigma_s eps,
    x_t = alpha_t x_0 + sigma_t (rho eps + sqrt(1 - rho^2) z),      1 - rho^2 = eta^2 (1 - e^{-2h}),

with x_0, eps, z independent; eta = 1 is the forward noising process itself. Given x_s alone,

    x_t = (sigma_t rho / sigma_s) x_s + gain x_0 + sqrt(injected) z,     x_0 ~ p(x_0 | x_s),
    injected = eta^2 sigma_t^2 (1 - e^{-2h}),     gain = alpha_t (1 - rho e^{-h}).

All results are Estimates: closed form for one Gaussian in any dimension, quadrature for any 1-D law.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from theory.estimate import Estimate
from theory.grid import TimeGrid
from theory.process import Level
from theory.solvers.base import Facts, Solver, Step
from theory.solvers.ddim import DDIM
from toy_distributions.base import Distribution
from toy_distributions.mixture import GaussianMixture

EPS = torch.finfo(torch.float64).eps
MAX_NODES = 1 << 18

PointVariance = Callable[[Tensor], Tensor]
"""A variance that depends on the state: x (n, 1) -> (n,)."""


@lru_cache(maxsize=512)  # laws and levels are immutable, and a sampler asks for each level many times
def posterior_variance(law: Distribution, at: Level) -> Estimate:
    """E tr Cov[x_0 | x_t] / d, the mean square error a dimension of the best denoiser (mmse / d).

    For N(m, V) with eigenvalues v of V it is the mean of v sigma^2 / (alpha^2 v + sigma^2).
    """
    alpha, sigma = float(at.alpha), float(at.sigma)
    if sigma == 0:
        return Estimate(0.0)
    if (variances := _gaussian(law)) is not None:
        return _exactly((variances * sigma**2 / (alpha**2 * variances + sigma**2)).mean().item())
    return _expectation(law, alpha, sigma, lambda x, _: law.posterior_cov(x, alpha, sigma)[:, 0, 0])


def fisher_information(law: Distribution, at: Level) -> Estimate:
    """Gamma = E |grad log q_t(x_t)|^2 / d, the quantity Analytic-DPM estimates by Monte Carlo.

    sigma^2 Gamma = 1 - (alpha / sigma)^2 E tr Cov[x_0 | x_t] / d  ties it to ``posterior_variance``, and loses the
    digits of a small posterior variance: use that where both would do.
    Source: bao2022analytic, theorem 1 (Gamma_n without the 1/d is their expectation).
    """
    alpha, sigma = float(at.alpha), float(at.sigma)
    noised = law.noised(alpha, sigma)
    if (variances := _gaussian(noised)) is not None:
        return _exactly((1 / variances).mean().item())
    return _expectation(law, alpha, sigma, lambda x, _: noised.score(x)[:, 0] ** 2)


@lru_cache(maxsize=512)
def entropy(law: Distribution, alpha: float = 1.0, sigma: float = 0.0) -> Estimate:
    """Differential entropy -E log q(x), in nats, of x = alpha x_0 + sigma eps: -inf where that has no density."""
    noised = law.noised(alpha, sigma)
    if (variances := _gaussian(noised)) is not None:
        terms = 0.5 * torch.log(2 * math.pi * math.e * variances)
        return Estimate(terms.sum().item(), 2 * EPS * (1 + terms.abs().sum().item()))
    if noised.singular:
        return Estimate(-math.inf)
    return _expectation(law, alpha, sigma, lambda x, log_q: -log_q)


def optimal_variance(law: Distribution, s: Level, t: Level, *, eta: float = 1.0) -> Estimate:
    r"""The variance of the isotropic Gaussian reverse kernel, exact mean given, that has the lowest path KL.

        v* = injected + gain^2 E tr Cov[x_0 | x_s] / d
           = injected + c^2 (1 - sigma_s^2 Gamma_s),    c = gain sigma_s / alpha_s = sigma_t (e^h - rho),

    evaluated in the first form, a sum of positive terms. In the paper's letters, n for s and n-1 for t, injected is
    lambda_n^2 and c is sqrt(bar beta_n / alpha_n) - sqrt(bar beta_{n-1} - lambda_n^2), where alpha_n is the one-step
    product (alpha_s / alpha_t)^2; their sigma_n^2 is this v*. For eta = 1 (DDPM) v* = (beta/alpha)(1 - beta Gamma).

    Optimal for the law of the whole path. The marginal law of the samples can be better with another variance.
    Source: bao2022analytic, theorem 1.
    """
    injected, gain = _coupling(s, t, eta)
    blur = posterior_variance(law, s)
    value = injected + gain**2 * blur.value
    return Estimate(value, gain**2 * blur.error + _lam_rounding(s, t) * value, blur.method)


@dataclass(frozen=True)
class OptimalVariance:
    """``optimal_variance`` of a law as a function of the levels, for ``DDPM(variance=...)`` and ``path_kl``."""

    law: Distribution
    eta: float = 1.0

    def __call__(self, s: Level, t: Level) -> float:
        return optimal_variance(self.law, s, t, eta=self.eta).value


def beta(s: Level, t: Level) -> float:
    """DDPM's large variance sigma_s^2 (1 - e^{-2h}), that of q(x_s | x_t): optimal for N(0, I) data on a VP process."""
    return -math.expm1(-2 * (t.lam - s.lam)) * float(s.sigma) ** 2


def beta_tilde(s: Level, t: Level) -> float:
    """DDPM's small variance sigma_t^2 (1 - e^{-2h}), that of q(x_t | x_s, x_0): optimal for a point mass."""
    return -math.expm1(-2 * (t.lam - s.lam)) * float(t.sigma) ** 2


def conditional_variance(law: Distribution, s: Level, t: Level, *, eta: float = 1.0) -> PointVariance:
    """x -> Var[x_t | x_s = x] of a 1-D law: injected + gain^2 Cov[x_0 | x_s = x], whose mean is the optimal variance.

    The best Gaussian kernel of all (exact SN-DPM / NPR-DPM). Source: bao2022estimating, theorem 1.
    """
    if law.dim != 1:
        raise ValueError(f"a variance by point is defined here for 1-D laws; got a law on R^{law.dim}.")
    injected, gain = _coupling(s, t, eta)
    return lambda x: injected + gain**2 * law.posterior_cov(x, float(s.alpha), float(s.sigma))[:, 0, 0]


class VarianceBounds(NamedTuple):
    """lower <= optimal variance <= each of upper, cramer_rao and support."""

    lower: float
    upper: float
    cramer_rao: float
    support: float


def variance_bounds(
    law: Distribution, s: Level, t: Level, *, eta: float = 1.0, half_width: float = math.inf
) -> VarianceBounds:
    r"""Bounds on ``optimal_variance`` that need no score.

        lower      = injected                                              attained by a point mass
        upper      = injected + c^2                                        approached as the data variance -> inf
        cramer_rao = injected + gain^2 v sigma_s^2 / (alpha_s^2 v + sigma_s^2),    v = tr Cov x_0 / d
        support    = injected + gain^2 half_width^2                        for data in a cube of that half-width

    cramer_rao replaces the best denoiser by the best linear one (equivalently Gamma >= 1 / (alpha^2 v + sigma^2)); it
    lies below both ``upper`` and ``support``, and is attained iff x_s is an isotropic Gaussian.
    half_width: (b - a) / 2 of data in [a, b]^d; inf leaves ``support`` infinite.
    Source: bao2022analytic, theorem 2; cramer_rao is derived here.
    """
    injected, gain = _coupling(s, t, eta)
    spread = law.cov.diagonal().mean().item()
    alpha, sigma = float(s.alpha), float(s.sigma)
    linear = spread * sigma**2 / (alpha**2 * spread + sigma**2)
    upper = injected + (gain * float(s.k)) ** 2
    return VarianceBounds(injected, upper, injected + gain**2 * linear, injected + (gain * half_width) ** 2)


def reverse_kl(law: Distribution, s: Level, t: Level, variance: float | PointVariance, *, eta: float = 1.0) -> Estimate:
    r"""E KL( q(x_t | x_s)  ||  N(E[x_t | x_s], variance I) ), over x_s ~ q_s: one step's share of the path KL.

        = (d/2) [ log(2 pi v) + v* / v ] - H(x_t | x_s)

    for an isotropic variance v, so that choosing v instead of v* costs (d/2) (log(v / v*) + v* / v - 1) for every
    law. The conditional entropy needs no nested integral: two noisy looks at one x_0 are one better look,

        H(x_t | x_s) = H(a x_0 + b eps) - H(x_s) + (d/2) log(2 pi e sigma_s^2),
        b^2 = injected,    a^2 = gain^2 + snr_s injected        (a/b = alpha_t / sigma_t for eta = 1).

    variance: a number > 0; for 1-D laws also a function of the state x_s, (n, 1) -> (n,).
    inf where the kernel q(x_t | x_s) has no density (a point mass at eta = 0, data on a subspace at t = 0).
    """
    if callable(variance):
        return _reverse_kl_by_point(law, s, t, variance, eta)
    if not variance > 0:
        raise ValueError(f"variance must be > 0; got variance={variance}. A reverse kernel without noise has no KL.")
    injected, gain = _coupling(s, t, eta)
    if (variances := _gaussian(law)) is not None:
        kernel = injected + gain**2 * variances * s.sigma**2 / (s.alpha**2 * variances + s.sigma**2)
        excess = (kernel - variance) / variance  # in this form a nearly right variance keeps its digits
        terms = 0.5 * (excess - torch.log1p(excess))
        return Estimate(terms.sum().item(), (_lam_rounding(s, t) + 8 * EPS) * excess.abs().sum().item())
    blur = optimal_variance(law, s, t, eta=eta)
    left = Estimate(
        0.5 * (math.log(2 * math.pi * variance) + blur.value / variance),
        0.5 * blur.error / variance + EPS * (1 + abs(math.log(variance))),
        "quadrature",
    )
    return _difference(left, _reverse_entropy(law, s, t, eta))


def path_kl(law: Distribution, grid: TimeGrid, variance: Callable[[Level, Level], float | PointVariance]) -> Estimate:
    """KL( q(x_{t_0}, ..., x_{t_N}) || p ) of the ancestral sampler with the exact mean and the given variances.

    Both chains are Markov from noise to data, so it is the sum of ``reverse_kl`` over the grid (eta = 1). The sampler
    starts from the true q_{t_0}; another start adds KL(q_{t_0} || start). By the chain rule it bounds the KL of the
    marginal laws from above.

    variance: (s, t) -> number or function of the state, e.g. ``beta``, ``beta_tilde``, ``OptimalVariance(law)``,
    ``partial(conditional_variance, law)``.
    """
    steps = [reverse_kl(law, s, t, variance(s, t)) for s, t in zip(grid.levels, grid.levels[1:], strict=False)]
    return Estimate(sum(step.value for step in steps), sum(step.error for step in steps), steps[0].method)


@dataclass(frozen=True)
class AnalyticDPM(Solver):
    """DDIM's mean at eta with the optimal isotropic variance of a law: eta = 1 Analytic-DDPM, eta = 0 Analytic-DDIM.

    Promise: on isotropic Gaussian data every marginal is exact, on any grid. DDIM with eta = 0 is its noise-free part.
    law: the data law, whose posterior variance at each level replaces the paper's Monte Carlo estimate of Gamma.
    Source: bao2022analytic, theorem 1 and section 4.
    """

    law: Distribution
    eta: float = 1.0

    @property
    def facts(self) -> Facts:
        return Facts(order=1, evaluations=1, stochastic=True, weak_order=1)

    def step(self, model, x, s, t, memory, noise) -> Step:
        mean = DDIM(eta=self.eta).step(model, x, s, t, memory, lambda s, t, like: torch.zeros_like(like)).x
        return Step(mean + math.sqrt(optimal_variance(self.law, s, t, eta=self.eta).value) * noise(s, t, x))


def _coupling(s: Level, t: Level, eta: float) -> tuple[float, float]:
    """injected and gain, as sums and products of positive terms: accurate for small h, finite for h = inf."""
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1]; got eta={eta}.")
    h = t.lam - s.lam
    if not h > 0:
        raise ValueError(f"a step runs from noise to data, so lambda must rise; got lambda {s.lam:.6g} to {t.lam:.6g}.")
    fresh, q = -math.expm1(-2 * h), math.exp(-2 * h)
    rho_q = math.sqrt((1 - eta) * (1 + eta) * q + (eta * q) ** 2)  # rho e^{-h}
    return eta**2 * float(t.sigma) ** 2 * fresh, float(t.alpha) * fresh * (1 + eta**2 * q) / (1 + rho_q)


def _reverse_entropy(law: Distribution, s: Level, t: Level, eta: float) -> Estimate:
    if eta == 1:  # in terms of x_t itself, which is the next step's x_s: half of all entropies are then known already
        look, constant = (t.alpha, t.sigma), 0.5 * math.log(2 * math.pi * math.e * beta(s, t))
    else:
        injected, gain = _coupling(s, t, eta)
        look = math.sqrt(gain**2 + (s.alpha / s.sigma) ** 2 * injected), math.sqrt(injected)
        constant = 0.5 * math.log(2 * math.pi * math.e * s.sigma**2)
    sharper, noisier = entropy(law, *look), entropy(law, s.alpha, s.sigma)
    first = Estimate(sharper.value + constant, sharper.error + _lam_rounding(s, t) + EPS * abs(constant), "quadrature")
    return _difference(first, noisier)


def _reverse_kl_by_point(law: Distribution, s: Level, t: Level, variance: PointVariance, eta: float) -> Estimate:
    exact = conditional_variance(law, s, t, eta=eta)

    def cross_entropy(x: Tensor, _: Tensor) -> Tensor:
        v = variance(x)
        if not bool((v > 0).all()):
            raise ValueError(f"variance(x) must be > 0; got {v.min().item()}.")
        return 0.5 * (torch.log(2 * math.pi * v) + exact(x) / v)

    left = _expectation(law, float(s.alpha), float(s.sigma), cross_entropy)
    if (variances := _gaussian(law)) is not None:  # the kernel is then Gaussian, and so is its entropy
        injected, gain = _coupling(s, t, eta)
        kernel = injected + gain**2 * variances * s.sigma**2 / (s.alpha**2 * variances + s.sigma**2)
        value = 0.5 * math.log(2 * math.pi * math.e * kernel.item())
        return _difference(left, Estimate(value, _lam_rounding(s, t) + EPS * abs(value)))
    return _difference(left, _reverse_entropy(law, s, t, eta))


def _difference(left: Estimate, right: Estimate) -> Estimate:
    rounding = 2 * EPS * (abs(left.value) + abs(right.value)) if math.isfinite(right.value) else 0.0
    return Estimate(left.value - right.value, left.error + right.error + rounding, "quadrature")


def _lam_rounding(s: Level, t: Level) -> float:
    """Relative error of 1 - e^{-2h} from the rounding of the two lambdas."""
    h = float(t.lam - s.lam)
    return 4 * EPS * (1 + float(abs(s.lam) + abs(t.lam)) / h) if math.isfinite(h) else 4 * EPS


def _exactly(value: float) -> Estimate:
    return Estimate(value, 8 * EPS * abs(value))


def _gaussian(law: Distribution) -> Tensor | None:
    """The eigenvalues of one Gaussian's covariance; None for any other law."""
    if isinstance(law, GaussianMixture) and law.components == 1:
        return torch.linalg.eigvalsh(law.full_covs()[0]).clamp_min(0)
    return None


def _expectation(law: Distribution, alpha: float, sigma: float, f: Callable[[Tensor, Tensor], Tensor]) -> Estimate:
    """E f(x, log q(x)) for x ~ q, the 1-D law noised, by the trapezoid rule on the line, doubled until it is stable.

    The rule converges like exp(-2 pi^2 (w / h)^2) for integrands with the smoothness of a Gaussian of width w, and
    starts at h = w / 1.5. Error: the last change by doubling, the tails (integrand at both ends times the range), and
    rounding.
    """
    if law.dim != 1:
        raise ValueError(f"an exact expectation needs one Gaussian or a 1-D law; got {law!r}.")
    q = law.noised(alpha, sigma)
    low, high, width = _window(q, sigma)
    if not 1.5 * (high - low) < width * MAX_NODES:
        raise ValueError(
            f"quadrature must resolve the density's finest feature; {width:.3g} on a range of {high - low:.3g} takes "
            f"more than {MAX_NODES} nodes. Use a larger sigma."
        )
    intervals = max(64, math.ceil(1.5 * (high - low) / width))

    def integrand(x: Tensor) -> Tensor:
        log_q = q.log_prob(x[:, None])
        return f(x[:, None], log_q) * log_q.exp()

    def trapezoid_sums(x: Tensor) -> tuple[float, float]:
        values = integrand(x)
        return values.sum().item(), values.abs().sum().item()

    ends = integrand(torch.tensor([low, high], dtype=torch.float64))
    total, size = trapezoid_sums(torch.linspace(low, high, intervals + 1, dtype=torch.float64)[1:-1])
    value = total * (high - low) / intervals
    tails = ends.abs().sum().item() * (high - low)
    while True:
        h = (high - low) / intervals
        middle, middle_size = trapezoid_sums(low + h * (torch.arange(intervals, dtype=torch.float64) + 0.5))
        total, size, intervals = total + middle, size + middle_size, 2 * intervals
        previous, value = value, total * h / 2
        rounding = 16 * EPS * size * h / 2
        if abs(value - previous) <= rounding or intervals > MAX_NODES:
            return Estimate(value, abs(value - previous) + tails + rounding, "quadrature")


def _window(q: Distribution, sigma: float) -> tuple[float, float, float]:
    """An interval outside which the density is below e^-50 of its scale, and the width of its finest feature."""
    if isinstance(q, GaussianMixture):
        spread = q.covs.reshape(-1).sqrt()
        centres = q.means[:, 0]
        return (centres - 10 * spread).min().item(), (centres + 10 * spread).max().item(), spread.min().item()
    centre = q.mean.item()
    edges = q.quantile(torch.tensor([1e-15, 1 - 1e-15], dtype=torch.float64)).tolist()
    low, high = (centre + 1.4 * (edge - centre) for edge in edges)
    return low, high, sigma
