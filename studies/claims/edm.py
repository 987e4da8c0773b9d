"""EDM (Karras et al. 2022): Heun's method in sigma, churn, preconditioning, tangents that point to the denoised."""

import math
from typing import Literal

import numpy as np
import torch

from studies.claim import FAILS, claim, near
from theory.convergence import path_error, path_reference
from theory.estimate import Estimate
from theory.flow_map import FlowMap
from theory.grid import TimeGrid, karras, uniform_lambda
from theory.laws import law_of
from theory.models import Exact
from theory.preconditioning import EDMPreconditioning
from theory.process import EDM, PROCESSES, VE, LinearPath, NoiseProcess, VPLinear
from theory.slope import observed_order
from theory.solvers import Churn, Heun, Solver, solve
from toy_distributions.base import Distribution
from toy_distributions.mixture import GaussianMixture
from toy_distributions.zoo import LAWS

EPS = torch.finfo(torch.float64).eps

PROCESS = EDM()
GAUSSIAN = GaussianMixture.gaussian(0.7, 0.25)
LINE, PLANE = LAWS["mixture_1d"](), LAWS["mixture_2d"]()

ROUNDED = 1e-11
"""Accepted distance of runs that agree in exact arithmetic: 40 steps of 30 operations, an amplification up to 10
towards the data, a posterior with condition numbers up to 100, in units of 2.2e-16."""


# Heun


@claim(
    "edm.heun.order",
    statement="Heun's method on dx/dsigma = (x - D)/sigma has order 2 (mixtures on the line and in the plane; the "
    "order further from 2).",
    source="karras2022edm, algorithm 1",
    accepted=near(2.0, 0.05),
    control={"weight": 0.75},
)
def heun_order(weight: float = 0.5) -> Estimate:
    orders = []
    for law in (LINE, PLANE):
        reference, h, errors = path_reference(law, PROCESS, n=2), [], []
        for steps in (16, 32, 64, 128, 256):
            grid, error = path_error(Heun("k", weight), law, PROCESS, steps, reference)
            h.append(grid.h_max)
            errors.append(error)
        orders.append(observed_order(h, errors, floor=1e-12))
    return max(orders, key=lambda order: abs(order.value - 2) + order.error)


@claim(
    "edm.heun.every_process",
    statement="Heun in k = sigma/alpha is one sampler for every process: on grids of equal k its ends agree with "
    "EDM's in x / alpha (mixtures, VP, VE, linear path; 20 steps): largest difference.",
    source="karras2022edm, eq. 4 and appendix C",
    accepted=near(0.0, ROUNDED),
    control={"variable": "t"},
)
def heun_every_process(variable: Literal["k", "t"] = "k") -> Estimate:
    worst = 0.0
    for law in (LINE, PLANE):
        y = law.noised(1.0, math.exp(1.5)).sample(20, generator=torch.Generator().manual_seed(0))
        ends = [_run(Heun(variable), law, process, y) for process in (PROCESS, VPLinear(), VE(), LinearPath())]
        worst = max(worst, *((end - ends[0]).abs().max().item() for end in ends[1:]))
    return Estimate(worst, 20 * 30 * 10 * EPS)


def _run(solver: Solver, law: Distribution, process: NoiseProcess, y: torch.Tensor) -> torch.Tensor:
    grid = karras(process, 20, start=-1.5, end=2.5)
    x = float(grid.levels[0].alpha) * y
    return solve(solver, Exact(law, process), x, grid, keep=False).end / float(grid.levels[-1].alpha)


@claim(
    "edm.heun.affine_noise",
    statement="Heun in k is exact in one step where the predicted noise is constant along the trajectory, as on a "
    "point mass: largest error relative to the state, on every process.",
    source="karras2022edm, section 3",
    accepted=near(0.0, 1e-13),  # 30 operations on a state that shrinks up to 20 times
    control={"variable": "t"},
)
def heun_affine_noise(variable: Literal["k", "t"] = "k") -> Estimate:
    law, worst = GaussianMixture.dirac(0.7), 0.0
    for name in PROCESSES:
        process = PROCESSES[name]()
        s, t = process.level_at(-1.0), process.level_at(2.0)
        z = torch.tensor([[-1.5], [0.3]], dtype=torch.float64)
        grid = TimeGrid(process, [float(s.t), float(t.t)])
        end = solve(Heun(variable), Exact(law, process), s.alpha * 0.7 + s.sigma * z, grid).end
        exact = t.alpha * 0.7 + t.sigma * z
        worst = max(worst, ((end - exact).abs().max() / exact.abs().max()).item())
    return Estimate(worst, 10 * 20 * EPS)


# Churn


def _variance_error(solver: Solver, grid: TimeGrid) -> float:
    true = GAUSSIAN.noised(1.0, float(grid.levels[-1].sigma))
    return abs(law_of(solver, GAUSSIAN, PROCESS, grid).cov.item() / true.cov.item() - 1)


@claim(
    "edm.churn.keeps_law",
    statement="Churn keeps the law: with the exact flow in the place of Heun, 20 churned steps on Gaussian data end "
    "in the true law. Largest error of mean and variance, relative.",
    source="karras2022edm, section 4",
    accepted=near(0.0, 1e-12),  # 20 steps of some 20 operations, exact in exact arithmetic
    control={"noise_scale": 1.007},
)
def churn_keeps_law(noise_scale: float = 1.0) -> Estimate:
    worst = 0.0
    for rate in (0.2, 1.0):
        grid = uniform_lambda(PROCESS, 20, start=-2.0, end=3.0)
        out = law_of(Churn(FlowMap(GAUSSIAN), rate=rate, noise_scale=noise_scale), GAUSSIAN, PROCESS, grid)
        true = GAUSSIAN.noised(1.0, float(grid.levels[-1].sigma))
        worst = max(worst, abs(out.mean.item() / true.mean.item() - 1), abs(out.cov.item() / true.cov.item() - 1))
    return Estimate(worst, 20 * 20 * EPS, "affine probing")


@claim(
    "edm.churn.weak_order",
    statement="With gamma = S_churn / N and Heun inside, the law of the churned sampler converges with Heun's order 2 "
    "on Gaussian data (variance, S_churn = 5).",
    source="karras2022edm, algorithm 2",
    accepted=near(2.0, 0.1),
    control={"noise_scale": 1.007},
)
def churn_weak_order(noise_scale: float = 1.0) -> Estimate:
    return _churned_order("S_churn / N", -2.0, 2.5, noise_scale)


def _churned_order(gamma: str, start: float, end: float, noise_scale: float = 1.0) -> Estimate:
    h, errors = [], []
    for steps in (15, 30, 60, 120, 240):
        grid = uniform_lambda(PROCESS, steps, start=start, end=end)
        lift = 5.0 / steps if gamma == "S_churn / N" else math.sqrt(2) - 1
        rate = math.log1p(min(lift, math.sqrt(2) - 1)) / grid.h_max
        h.append(grid.h_max)
        errors.append(_variance_error(Churn(Heun(), rate=rate, noise_scale=noise_scale), grid))
    return observed_order(h, errors, floor=1e-13)


@claim(
    "edm.churn.clipped",
    statement="The law of the churned sampler converges with Heun's order 2 whatever gamma <= sqrt(2) - 1 (Gaussian "
    "data, gamma at the clip for every N).",
    source="karras2022edm, section 4, as quoted",
    accepted=near(2.0, 0.1),
    control={"gamma": "S_churn / N"},
    expected=FAILS,
    finding="Held at the clip, gamma makes every Heun step span a fixed factor of sigma, so the law error does not "
    "fall with N; gamma = S_churn / N restores order 2.",
)
def churn_clipped(gamma: str = "sqrt(2) - 1") -> Estimate:
    return _churned_order(gamma, -2.0, 1.0)


# Preconditioning


@claim(
    "edm.preconditioning.unit_variance",
    statement="For data of variance sigma_data^2 the network's input c_in x and target (y - c_skip x)/c_out have unit "
    "variance at every noise level, whatever the law (a mixture): largest difference from 1.",
    source="karras2022edm, appendix B.6",
    accepted=near(0.0, 1e-13),  # 20 operations; where 1 - c_skip cancels, its share of the variance is as small
    control={"sigma_data": 1.0},
)
def unit_variance(sigma_data: float | None = None) -> Estimate:
    data = LINE.cov.item()
    wrap, worst = EDMPreconditioning(data**0.5 if sigma_data is None else sigma_data), 0.0
    for k in np.geomspace(0.002, 80, 15).tolist():
        # (y, x) = (y, y + k n) has the covariance [[data, data], [data, data + k^2]]
        kept, left = 1 - wrap.c_skip(k), wrap.c_skip(k) * k
        target = (kept**2 * data + left**2) / wrap.c_out(k) ** 2
        worst = max(worst, abs(target - 1), abs(wrap.c_in(k) ** 2 * (data + k**2) - 1))
    return Estimate(worst, 20 * EPS)


@claim(
    "edm.preconditioning.skip_minimises_output",
    statement="c_skip = sigma_data^2 / (k^2 + sigma_data^2) minimises the variance of y - c_skip x, the network's "
    "share: largest distance to the minimiser found on a mixture.",
    source="karras2022edm, appendix B.6",
    accepted=near(0.0, 1e-13),  # 50 operations without cancellation
    control={"sigma_data": 1.0},
)
def skip_minimises_output(sigma_data: float | None = None) -> Estimate:
    data = LINE.cov.item()
    wrap, worst = EDMPreconditioning(data**0.5 if sigma_data is None else sigma_data), 0.0
    for k in (0.05, 0.3, 1.0, 5.0):
        low, middle, high = (_network_share(c, k) for c in (0.0, 0.5, 1.0))  # a parabola in c
        worst = max(worst, abs(0.5 + 0.25 * (low - high) / (low - 2 * middle + high) - wrap.c_skip(k)))
    return Estimate(worst, 50 * EPS)


def _network_share(c: float, k: float) -> float:
    """Var[y - c (y + k n)] for y ~ LINE: the variance of (1 - c) y + c k n."""
    return LINE.noised(1 - c, c * k).cov.item()


@claim(
    "edm.preconditioning.gaussian_network",
    statement="On N(0, sigma_data^2 I) data the ideal network is F = 0 at every noise level: largest |F| over points "
    "within three standard deviations.",
    source="karras2022edm, eq. 7 and table 1",
    accepted=near(0.0, 1e-10),  # D - c_skip x cancels 10 roundings of x, over c_out >= 0.002
    control={"sigma_data": 1.0},
)
def gaussian_network(sigma_data: float = 0.5) -> Estimate:
    law, wrap, worst = (
        GaussianMixture.gaussian(torch.zeros(2, dtype=torch.float64), 0.25),
        EDMPreconditioning(sigma_data),
        0.0,
    )
    z = torch.linspace(-3, 3, 13, dtype=torch.float64)
    for k in np.geomspace(0.002, 80, 15).tolist():
        x = torch.cartesian_prod(z, z) * math.hypot(k, 0.5)
        network = (law.posterior_mean(x, 1.0, k) - wrap.c_skip(k) * x) / wrap.c_out(k)
        worst = max(worst, network.abs().max().item())
    return Estimate(worst, 10 * EPS * 1.5 / 0.002)


# Trajectories


@claim(
    "edm.tangent.points_to_denoised",
    statement="With sigma(t) = t and alpha = 1 the tangent of a probability-flow trajectory, followed to t = 0, ends "
    "at the denoiser's output: largest |x - t dx/dt - D| on a mixture.",
    source="karras2022edm, section 3",
    accepted=near(0.0, 1e-12),  # 10 operations on states up to 20
    control={"process": "vp_linear"},
)
def tangent(process: str = "edm") -> Estimate:
    schedule, worst = PROCESSES[process](), 0.0
    for lam in (-2.0, 0.0, 2.0):
        at = schedule.level_at(lam)
        x = PLANE.noised(float(at.alpha), float(at.sigma)).sample(20, generator=torch.Generator().manual_seed(0))
        answer = Exact(PLANE, schedule)(x, at)
        worst = max(worst, (x - at.t * answer.velocity - answer.x0).abs().max().item())
    return Estimate(worst, 10 * 20 * EPS)


@claim(
    "edm.last_step.floor",
    statement="The last Euler step to sigma = 0 leaves N(m, v) with the standard deviation sqrt(v) / sqrt(1 + k^2/v), "
    "even after exact steps: largest relative difference for k = 0.002 to 0.5.",
    source="karras2022edm, algorithm 1 (sigma_N = 0)",
    accepted=near(0.0, 1e-12),  # 20 steps of some 20 operations
    control={"last": "stop"},
)
def last_step_floor(last: Literal["denoise", "stop"] = "denoise") -> Estimate:
    v, worst = 0.25, 0.0
    for k in (0.002, 0.05, 0.5):
        grid = uniform_lambda(PROCESS, 5, start=-1.0, end=-math.log(k))
        out = law_of(FlowMap(GAUSSIAN), GAUSSIAN, PROCESS, grid, last=last)
        worst = max(worst, abs(out.cov.item() ** 0.5 / math.sqrt(v / (1 + k**2 / v)) - 1))
    return Estimate(worst, 20 * 20 * EPS, "affine probing")
