"""Score SDE (Song et al. 2021): kernels, the family of SDEs, likelihood, KL, encodings and priors."""

import math
from collections.abc import Callable

import torch

from studies.claim import FAILS, at_most, claim, near
from theory.divergences import kl
from theory.estimate import Estimate
from theory.fokker_planck import gaussian_moments, kernel, residual
from theory.likelihood import flow_in_time, ode_log_likelihood
from theory.models import Exact
from theory.process import PROCESSES, VE, NoiseProcess, SubVP, VPLinear
from theory.score_error import Ripple, fisher_integral
from theory.slope import observed_order
from toy_distributions.base import Distribution
from toy_distributions.mixture import GaussianMixture
from toy_distributions.zoo import LAWS

EPS = torch.finfo(torch.float64).eps

VP, SUB_VP, EXPLODING = VPLinear(), SubVP(), VE()

TILTED = GaussianMixture.gaussian([0.7, -0.2], [[0.25, 0.1], [0.1, 0.5]])

INTEGRATED = 1e-10
"""Accepted relative distance of quantities found by DOP853 at rtol 1e-13: up to 100 steps whose errors add up, growing
tenfold at most on the way to the end."""

DIFFERENCED = 1e-9
"""Accepted Fokker-Planck residual relative to its terms. Rounding of log p (eps 10) over the difference of 0.005 in
lambda is 4e-13 of the largest term; where the terms themselves nearly cancel (the probability flow far from the data)
their sum of absolute values is up to a thousand times smaller."""


def _worst(estimates: list[Estimate]) -> Estimate:
    return max(estimates, key=lambda estimate: estimate.value + estimate.error)


# The forward kernels


@claim(
    "score_sde.kernel.all_processes",
    statement="Integrating d alpha/dt = f alpha and d sigma^2/dt = 2 f sigma^2 + g^2 gives the closed forms of alpha "
    "and sigma^2 of every noise process: largest relative difference.",
    source="song2020score, appendix B",
    accepted=near(0.0, INTEGRATED),
    control={"diffusion_factor": 0.5},
)
def kernel_of_all(diffusion_factor: float = 1.0) -> Estimate:
    worst = 0.0
    for name in PROCESSES:
        process = PROCESSES[name]()
        s, t = process.level(0.01 * process.t_max), process.level(0.95 * process.t_max)
        alpha, variance = kernel(process.drift, lambda u, p=process: diffusion_factor * p.diffusion_squared(u), s, t)
        worst = max(worst, abs(alpha / float(t.alpha) - 1), abs(variance / float(t.sigma) ** 2 - 1))
    return Estimate(worst, 100 * 1e-13, "DOP853")


@claim(
    "score_sde.kernel.published",
    statement="The published f and g, VE: g^2 = 2 sigma^2 log(sigma_max/sigma_min); VP: f = -beta/2, g^2 = beta; "
    "sub-VP: g^2 = beta (1 - e^{-2B}), have the kernels of the paper: largest relative difference of alpha and "
    "sigma^2.",
    source="song2020score, eq. 29-33",
    accepted=near(0.0, INTEGRATED),
    control={"sub_vp_exponent": 1.0},
)
def published_kernels(sub_vp_exponent: float = 2.0) -> Estimate:
    rate = math.log(EXPLODING.sigma_max / EXPLODING.sigma_min)

    def beta(t: float) -> float:
        return VP.beta_min + (VP.beta_max - VP.beta_min) * t

    def integral(t: float) -> float:
        return VP.beta_min * t + 0.5 * (VP.beta_max - VP.beta_min) * t**2

    published: list[tuple[NoiseProcess, Callable[[float], float], Callable[[float], float]]] = [
        (EXPLODING, lambda t: 0.0, lambda t: 2 * rate * EXPLODING.sigma_min**2 * math.exp(2 * rate * t)),
        (VP, lambda t: -0.5 * beta(t), beta),
        (SUB_VP, lambda t: -0.5 * beta(t), lambda t: -beta(t) * math.expm1(-sub_vp_exponent * integral(t))),
    ]
    worst = 0.0
    for process, drift, diffusion in published:
        s, t = process.level(0.0), process.level(0.5)
        alpha, variance = kernel(drift, diffusion, s, t)
        worst = max(worst, abs(alpha / float(t.alpha) - 1), abs(variance / float(t.sigma) ** 2 - 1))
    return Estimate(worst, 100 * 1e-13, "DOP853")


@claim(
    "score_sde.sub_vp.variance",
    statement="The variance of the sub-VP kernel is the square of that of VP with the same beta, hence never larger: "
    "largest relative difference over t.",
    source="song2020score, section 3.4 and eq. 29",
    accepted=near(0.0, 1e-14),  # five operations on each side
    control={"power": 1},
)
def sub_vp_variance(power: int = 2) -> Estimate:
    # power 1 reads 1 - e^{-B}, the standard deviation of sub-VP, as its variance
    times = [i / 200 for i in range(1, 201)]
    worst = max(abs(float(SUB_VP.level(t).sigma) ** 2 / float(VP.level(t).sigma) ** (2 * power) - 1) for t in times)
    return Estimate(worst, 4 * EPS)


# One law for the whole family


def _family_residual(kappa: float, drift_factor: float = 1.0, noise_factor: float = 1.0) -> Estimate:
    """Largest residual over three processes, three laws and three noise levels, at 20 points of each noised law."""
    generator = torch.Generator().manual_seed(0)
    worst = []
    for process in (VP, EXPLODING, SUB_VP):
        for law in (LAWS["mixture_1d"](), LAWS["mixture_2d"](), LAWS["circle"]()):
            for lam in (-1.5, 0.0, 1.5):
                at = process.level_at(lam)
                x = law.noised(float(at.alpha), float(at.sigma)).sample(20, generator=generator)
                factors = {"drift_factor": drift_factor, "noise_factor": noise_factor}
                worst.append(residual(law, process, float(at.t), x, kappa=kappa, **factors))
    return _worst(worst)


@claim(
    "score_sde.forward_sde.fokker_planck",
    statement="The density of the noised law solves the Fokker-Planck equation of the forward SDE dx = f x dt + g dw "
    "(VP, VE, sub-VP; mixtures on the line and in the plane, a circle): largest relative residual.",
    source="song2020score, eq. 5",
    accepted=at_most(DIFFERENCED),
    control={"noise_factor": 0.5},
)
def forward_fokker_planck(noise_factor: float = 1.0) -> Estimate:
    return _family_residual(1.0, noise_factor=noise_factor)


@claim(
    "score_sde.probability_flow.fokker_planck",
    statement="The density of the noised law solves the continuity equation of the probability-flow ODE dx = [f x - "
    "g^2/2 score] dt: largest relative residual.",
    source="song2020score, eq. 13 and appendix D.1",
    accepted=at_most(DIFFERENCED),
    control={"drift_factor": 2.0},
)
def flow_fokker_planck(drift_factor: float = 1.0) -> Estimate:
    return _family_residual(0.0, drift_factor)


@claim(
    "score_sde.reverse_sde.fokker_planck",
    statement="The density of the noised law solves the Fokker-Planck equation of the reverse SDE dx = [f x - g^2 "
    "score] dt + g dw, time running down: largest relative residual.",
    source="song2020score, eq. 6; anderson1982reverse",
    accepted=at_most(DIFFERENCED),
    control={"drift_factor": 0.5},
)
def reverse_fokker_planck(drift_factor: float = 1.0) -> Estimate:
    return _family_residual(-1.0, drift_factor)


@claim(
    "score_sde.family.fokker_planck",
    statement="Every noise level h gives the same marginals if the drift follows it, dx = [f x - (g^2 + h^2)/2 score] "
    "dt + h dw, here h = 2 g: largest relative residual.",
    source="huang2021variational; song2020score, appendix D.1",
    accepted=at_most(DIFFERENCED),
    control={"drift": "without_noise"},
)
def family_fokker_planck(drift: str = "with_noise") -> Estimate:
    # without_noise keeps the drift of the ODE, g^2/2 = (g^2 + h^2)/2 / 5, and adds the noise h all the same
    return _family_residual(-4.0, 1.0 if drift == "with_noise" else 0.2)


@claim(
    "score_sde.family.gaussian_law",
    statement="On correlated Gaussian data the reverse SDE, the probability-flow ODE and the member h = 2 g end in "
    "the same law, found from their mean and covariance equations: largest difference relative to the variance.",
    source="song2020score, eq. 6 and 13",
    accepted=near(0.0, INTEGRATED),
    control={"drift_factor": 0.9},
)
def family_gaussian_law(drift_factor: float = 1.0) -> Estimate:
    worst = 0.0
    for process in (VP, EXPLODING):
        s, t = process.level_at(-1.5), process.level_at(2.0)
        true = TILTED.noised(float(t.alpha), float(t.sigma))
        for kappa in (0.0, -1.0, -4.0):
            out = gaussian_moments(TILTED, process, s, t, kappa=kappa, drift_factor=drift_factor)
            gap = max((out.mean - true.mean).abs().max().item(), (out.cov - true.cov).abs().max().item())
            worst = max(worst, gap / true.cov.diagonal().min().item())
    return Estimate(worst, 100 * 1e-13, "DOP853")


# Likelihood


def _likelihood_error(law: Distribution, trace_factor: float) -> Estimate:
    s, t = VP.level_at(2.0), VP.level_at(-1.5)
    clean = law.noised(float(s.alpha), float(s.sigma))
    x = clean.sample(2, generator=torch.Generator().manual_seed(1))
    prior = law.noised(float(t.alpha), float(t.sigma))
    found = ode_log_likelihood(Exact(law, VP), x, s, t, prior, rtol=1e-10, trace_factor=trace_factor)
    return Estimate((found - clean.log_prob(x)).abs().max().item(), 100 * 1e-10, "DOP853")


@claim(
    "score_sde.likelihood.line",
    statement="The instantaneous change of variables along the probability-flow ODE gives the exact log density of a "
    "1-D mixture: largest error in nats at points drawn from it.",
    source="song2020score, eq. 39",
    accepted=near(0.0, 1e-7),  # rtol 1e-10 a step, some 60 steps, a score whose slope amplifies state errors up to 10
    control={"trace_factor": 0.5},
)
def likelihood_line(trace_factor: float = 1.0) -> Estimate:
    return _likelihood_error(LAWS["mixture_1d"](), trace_factor)


@claim(
    "score_sde.likelihood.plane",
    statement="The same in two dimensions, on a mixture of three tilted Gaussians: largest error in nats.",
    source="song2020score, eq. 39",
    accepted=near(0.0, 1e-7),
    control={"trace_factor": 0.5},
)
def likelihood_plane(trace_factor: float = 1.0) -> Estimate:
    return _likelihood_error(LAWS["mixture_2d"](), trace_factor)


@claim(
    "score_sde.likelihood.of_data",
    statement="Integrated from t = 1e-3, as samplers and evaluations do, the ODE's likelihood is that of the data "
    "(1-D mixture): largest difference to the data's log density in nats.",
    source="song2020score, appendix C, as quoted",
    accepted=near(0.0, 1e-7),
    control={"density": "noised"},
    expected=FAILS,
    finding="The exact likelihood of the ODE is that of the law at the end of the integration, here a thousandth of a "
    "nat away from that of the data.",
)
def likelihood_of_data(density: str = "data") -> Estimate:
    law, s, t = LAWS["mixture_1d"](), VP.level(1e-3), VP.level_at(-1.5)
    x = law.sample(2, generator=torch.Generator().manual_seed(1))
    prior = law.noised(float(t.alpha), float(t.sigma))
    found = ode_log_likelihood(Exact(law, VP), x, s, t, prior, rtol=1e-10)
    target = law if density == "data" else law.noised(float(s.alpha), float(s.sigma))
    return Estimate((found - target.log_prob(x)).abs().max().item(), 100 * 1e-10, "DOP853")


# KL


@claim(
    "score_sde.kl.identity",
    statement="For two laws noised by one SDE, KL(p_0 || q_0) = KL(p_T || q_T) + (1/2) int g^2 E_p |score p - score "
    "q|^2 dt (two 1-D mixtures): difference of the two sides over KL(p_0 || q_0).",
    source="song2021maximum, theorem 1 (equality case)",
    accepted=near(0.0, 1e-11),  # both sides by quadrature to about 1e-13
    control={"factor": 1.0},
)
def kl_identity(factor: float = 0.5) -> Estimate:
    p = GaussianMixture([0.3, 0.5, 0.2], [[-1.0], [0.4], [1.2]], [0.05, 0.1, 0.04])
    q = GaussianMixture([0.5, 0.5], [[-0.8], [0.9]], [0.2, 0.3])
    (first, last), path = _kl_at_ends(p, q, VP), fisher_integral(p, q, VP)
    gap = first.value - last.value - 2 * factor * path.value
    return Estimate(gap / first.value, (first.error + last.error + path.error) / first.value, "quadrature")


def _kl_at_ends(p: GaussianMixture, q: GaussianMixture, process: NoiseProcess) -> tuple[Estimate, Estimate]:
    levels = process.level(0.0), process.level(process.t_max)
    first, last = (kl(*(law.noised(float(at.alpha), float(at.sigma)) for law in (p, q))) for at in levels)
    return first, last


@claim(
    "score_sde.kl.probability_flow_bound",
    statement="KL(p_0 || output law) <= KL(p_T || prior) + (1/2) int g^2 E |score - score_hat|^2 dt for the "
    "probability-flow ODE (N(0, 1) data, prior exact, the score off by 0.2 sin 40 x): left side over right side.",
    source="song2021maximum, theorem 1, as quoted for the ODE",
    accepted=at_most(1.0),
    control={"sampler": "sde"},
    expected=FAILS,
    finding="A score error of L2 size 0.01 in the theorem's norm moves the law of the probability-flow ODE by a KL of "
    "2.65; the theorem is about the reverse SDE, whose law moves by 2.5e-5.",
)
def probability_flow_bound(sampler: str = "ode") -> Estimate:
    ripple = Ripple(k=40.0, size=0.1)
    found = ripple.ode_kl() if sampler == "ode" else ripple.sde_kl()
    return Estimate(found.value / ripple.bound, found.error / ripple.bound, found.method)


# What the flow depends on


@claim(
    "score_sde.encoding.unique",
    statement="The encoding depends on the law alone: the probability-flow maps of VE and VP between equal "
    "signal-to-noise ratios agree in x / alpha (mixtures on the line and in the plane, each ODE in its own time): "
    "largest difference.",
    source="song2020score, section 4.3; karras2022edm, section 2",
    accepted=near(0.0, 1e-7),  # rtol 1e-10, two runs of some 60 steps, amplified up to 10 towards the data
    control={"rescaled": False},
)
def encoding_unique(rescaled: bool = True) -> Estimate:
    worst = 0.0
    for law in (LAWS["mixture_1d"](), LAWS["mixture_2d"]()):
        y = law.noised(1.0, math.exp(2.0)).sample(2, generator=torch.Generator().manual_seed(2))
        ends = []
        for process in (VP, EXPLODING):
            s, t = process.level_at(-2.0), process.level_at(2.0)
            end = flow_in_time(Exact(law, process), s.alpha * y, s, t, rtol=1e-10)
            ends.append(end / t.alpha if rescaled else end)
        worst = max(worst, (ends[0] - ends[1]).abs().max().item())
    return Estimate(worst, 100 * 1e-10, "DOP853")


def _prior_mismatch_order(kappa: float) -> Estimate:
    """Order in 1/sigma_T of the mean error of N(1, 0.25) sampled from N(0, sigma_T^2)."""
    law, process = GaussianMixture.gaussian(1.0, 0.25), VE(sigma_max=400.0)
    t = process.level_at(-math.log(0.02))
    scales, errors = [], []
    for sigma in (10.0, 20.0, 40.0, 80.0, 160.0, 320.0):
        s = process.level_at(-math.log(sigma))
        out = gaussian_moments(law, process, s, t, kappa=kappa, start=GaussianMixture.gaussian(0.0, sigma**2))
        scales.append(1 / sigma)
        errors.append(abs(out.mean.item() - 1.0))
    return observed_order(scales, errors, floor=1e-12)


@claim(
    "score_sde.prior_mismatch.sde",
    statement="Sampling VE from N(0, sigma_T^2) misses the data's mean by an error that falls like 1/sigma_T^2 for "
    "the reverse SDE: exponent.",
    source="song2020score, eq. 6, which carries a mean error by S_0 / S_T, S = v + sigma^2",
    accepted=near(2.0, 0.02),
    control={"kappa": 0.0},
)
def prior_mismatch_sde(kappa: float = -1.0) -> Estimate:
    return _prior_mismatch_order(kappa)


@claim(
    "score_sde.prior_mismatch.ode",
    statement="For the probability-flow ODE the same error falls only like 1/sigma_T: exponent.",
    source="song2020score, eq. 13, which carries a mean error by sqrt(S_0 / S_T), S = v + sigma^2",
    accepted=near(1.0, 0.02),
    control={"kappa": -1.0},
)
def prior_mismatch_ode(kappa: float = 0.0) -> Estimate:
    return _prior_mismatch_order(kappa)
