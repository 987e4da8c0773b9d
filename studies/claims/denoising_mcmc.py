"""Denoising MCMC (Kim & Ye 2023): a chain on points and noise levels, whose states are then denoised."""

import math

import torch
from scipy.special import polygamma
from torch import Tensor

from studies.claim import FAILS, at_most, claim, near
from theory.chains import LevelChain
from theory.estimate import Estimate
from theory.grid import uniform_lambda
from theory.models import Exact
from theory.process import VE
from theory.solvers import solve
from theory.solvers.runge_kutta import RungeKutta
from theory.solvers.tableau import RK4
from toy_distributions.mixture import GaussianMixture

PROCESS = VE()
EPS = torch.finfo(torch.float64).eps
BIMODAL = GaussianMixture([0.3, 0.7], [[-1.0], [0.8]], [0.05, 0.1])
V = 0.25
GAUSSIAN = GaussianMixture.gaussian(0.0, V)
LAMS = tuple(torch.linspace(2.0, -1.0, 7).tolist())
"""Levels of the chain: sigma from 0.14 to 2.7."""


def _line(chain: LevelChain, nodes: int) -> tuple[Tensor, Tensor]:
    """Points (n, 1) over all levels, and the joint density times the spacing, (n, K): the trapezoidal rule."""
    reach = 10 * math.sqrt(float(chain.noised[-1].cov))
    x = torch.linspace(-reach, reach, nodes, dtype=torch.float64)[:, None]
    joint = torch.stack([law.log_prob(x) for law in chain.noised], -1).exp() * chain.prior
    return x, joint * (2 * reach / (nodes - 1))


def _after_a_draw(pick: str, draws: int = 1) -> Estimate:
    """How far the law of a state after a new level lies from the joint law: largest relative error of the weight of a
    level and of E x^2 there. With several draws for one point, the one of least noise is kept."""
    chain = LevelChain(BIMODAL, PROCESS, LAMS, 0.01, pick=pick)  # pyright: ignore[reportArgumentType]
    found = []
    for nodes in (4001, 8001):
        x, joint = _line(chain, nodes)
        least = 1 - (1 - chain.probabilities(x).cumsum(-1)).clamp_min(0.0) ** draws  # level <= k, the least noise first
        after = joint.sum(-1, keepdim=True) * least.diff(dim=-1, prepend=torch.zeros_like(least[:, :1]))
        moments = torch.stack([(q * x**power).sum(0) for q in (after, joint) for power in (0, 2)])
        weights, seconds = moments[0], moments[1] / moments[0].clamp_min(1e-300)
        errors = [seconds / (moments[3] / moments[2]) - 1]
        if draws == 1:  # the selection changes the weights, and may
            errors.append(weights / moments[2] - 1)
        found.append(max(e.abs().max().item() for e in errors))
    return Estimate(found[1], abs(found[1] - found[0]) + 1e4 * EPS, "quadrature")


@claim(
    "dmcmc.gibbs",
    statement="A level drawn from p(level | x) leaves the joint law of point and level as it was: largest relative "
    "error of the levels' weights and of E x^2 at each of 7 levels (mixture on the line).",
    source="kim2023denoising, section 3",
    accepted=near(0.0, 1e-9),
    control={"pick": "argmax"},
)
def gibbs(pick: str = "draw") -> Estimate:
    return _after_a_draw(pick)


@claim(
    "dmcmc.argmax",
    statement="The likeliest level may be taken for a draw, as the authors' demonstration does: the same error.",
    source="kim2023denoising, the published demonstration",
    accepted=at_most(0.01),
    control={"pick": "draw"},
    expected=FAILS,
    finding="The level is then a function of the point: at each level only the points for which it is the likeliest "
    "are left, and their law is not the noised law that the denoiser is told of.",
)
def argmax(pick: str = "argmax") -> Estimate:
    return _after_a_draw(pick)


@claim(
    "dmcmc.least_noise",
    statement="Of several moves the state of least noise may be kept, as the authors' demonstration does: largest "
    "relative error of E x^2 at a level, 10 draws of the level for one point (the limit of small moves of x).",
    source="kim2023denoising, the published demonstration",
    accepted=at_most(0.01),
    control={"draws": 1},
    expected=FAILS,
    finding="Within a few moves point and level are correlated, and to be kept at a level a point must not have been "
    "seen at a smaller one: it lies further out than the noised law of that level. Independent states "
    "could be selected by their level without harm.",
)
def least_noise(draws: int = 10) -> Estimate:
    return _after_a_draw("draw", draws)


@claim(
    "dmcmc.langevin_bias",
    statement="The unadjusted move of x leaves the variance at a level too large by eta^2 / (4 S), S = v + sigma^2, "
    "in one move from the joint law: largest relative error of that at 7 levels (N(0, v) data).",
    source="kim2023denoising, section 3, in closed form",
    accepted=near(0.0, 1e-9),
    control={"noise_scale": math.sqrt(2)},
)
def langevin_bias(noise_scale: float = 1.0) -> Estimate:
    eta, worst = 0.05, 0.0
    chain = LevelChain(GAUSSIAN, PROCESS, LAMS, eta)
    for k, law in enumerate(chain.noised):
        s = float(law.cov)
        slope = chain.mean(torch.ones(1, 1, dtype=torch.float64), torch.tensor([k])).item()
        excess = slope**2 * s + noise_scale**2 * eta - s
        worst = max(worst, abs(excess / (eta**2 / (4 * s)) - 1))
    return Estimate(worst, 1e-11, "closed form")


@claim(
    "dmcmc.denoising",
    statement="A state of the joint law, denoised from its own level, has the data's law whatever the level: largest "
    "distance of quantiles from those of the noised data at lambda = 3, RK4 from each of 7 levels (1-D mixture).",
    source="kim2023denoising, section 3",
    accepted=near(0.0, 1e-5),
    control={"off_by": 1},
)
def denoising(off_by: int = 0) -> Estimate:
    """The control denoises from the next cleaner level."""
    ranks = torch.special.ndtr(torch.linspace(-4, 4, 161, dtype=torch.float64))
    model, worst, error = Exact(BIMODAL, PROCESS), 0.0, 0.0
    for k in range(off_by, len(LAMS)):
        at = PROCESS.level_at(LAMS[k])
        start = BIMODAL.noised(float(at.alpha), float(at.sigma)).quantile(ranks)[:, None]
        gaps = []
        for steps in (30, 60):
            grid = uniform_lambda(PROCESS, steps, start=LAMS[k - off_by], end=3.0)
            end = grid.levels[-1]
            out = solve(RungeKutta(RK4), model, start, grid, keep=False).end[:, 0]
            exact = BIMODAL.noised(float(end.alpha), float(end.sigma)).quantile(ranks)
            gaps.append((out - exact).abs().max().item())
        worst, error = max(worst, gaps[1]), max(error, abs(gaps[1] - gaps[0]))
    return Estimate(worst, error, "quantiles")


@claim(
    "dmcmc.width",
    statement="The chain sees the level of a point to within 1 / sqrt(2 d) in log sigma, so that its walk over levels "
    "slows down with the dimension: deviation of log sigma given x, times sqrt(2 d), d = 1024 (data at a point).",
    source="kim2023denoising, section 3 (derived: the exact deviation is sqrt(psi'(d/2)) / 2)",
    accepted=near(1.0, 0.002),
    control={"dim": 2},
)
def width(dim: int = 1024) -> Estimate:
    reach = min(24 / math.sqrt(2 * dim), -PROCESS.lam_range[0])
    lams = torch.linspace(-reach, reach, 801, dtype=torch.float64)
    chain = LevelChain(
        GaussianMixture.gaussian(torch.zeros(dim, dtype=torch.float64), 0.0), PROCESS, lams.tolist(), 0.01
    )
    x = torch.ones(1, dim, dtype=torch.float64)  # |x|^2 = d, most likely at sigma = 1
    given = chain.probabilities(x)[0]
    mean = given @ lams
    deviation = math.sqrt(float(given @ (lams - mean) ** 2))
    exact = 0.5 * math.sqrt(float(polygamma(1, dim / 2)))
    return Estimate(deviation * math.sqrt(2 * dim), abs(deviation - exact) * math.sqrt(2 * dim), "sum over levels")
