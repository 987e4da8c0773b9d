"""Training on states rolled back from a noisier level (Deng et al. 2023), and the exposure bias that it is to cure."""

import math
from dataclasses import dataclass

import torch

from studies.claim import FAILS, at_most, claim, near
from theory.covariance import AnalyticDPM
from theory.divergences import kl
from theory.estimate import Estimate
from theory.grid import TimeGrid, uniform_lambda
from theory.laws import affine_map, law_of
from theory.models import Exact
from theory.process import VPLinear
from theory.slope import observed_order
from theory.solvers import DDIM, Solver
from theory.solvers.base import Facts, Step
from toy_distributions.mixture import GaussianMixture

PROCESS = VPLinear()
EPS = torch.finfo(torch.float64).eps
V = 0.25
GAUSSIAN = GaussianMixture.gaussian(0.7, V)
AT = 0.0
"""The level trained at, in lambda."""
ROLLED = 0.8
"""How far back, in lambda, the state comes from that is rolled forward to it."""


@dataclass(frozen=True)
class Renoise(Solver):
    """The denoised point noised afresh, x_t = alpha_t D(x_s) + sigma_t z: the published code's way from s to t."""

    @property
    def facts(self) -> Facts:
        return Facts(order=None, evaluations=1, stochastic=True)

    def step(self, model, x, s, t, memory, noise) -> Step:
        return Step(t.alpha * model(x, s).x0 + t.sigma * noise(s, t, x))


ROLLBACKS: dict[str, Solver] = {"exact": AnalyticDPM(GAUSSIAN), "renoise": Renoise(), "ddim": DDIM()}


def _rolled(rollback: str, lams: list[float]) -> tuple[float, float]:
    """Cov(x_0, x_t) and Var(x_t) at the last of the levels, for x_0 noised to the first and brought here by a sampler.

    With one level alone x_t is x_0 noised to it, the state that training without a rollback sees.
    """
    first = PROCESS.level_at(lams[0])
    alpha, spread = float(first.alpha), float(first.alpha**2 * V + first.sigma**2)
    if len(lams) == 1:
        return alpha * V, spread
    grid = TimeGrid(PROCESS, [PROCESS.time_at(lam) for lam in lams])
    way = affine_map(ROLLBACKS[rollback], Exact(GAUSSIAN, PROCESS), grid, 1)
    matrix, noise = way.matrix.item(), (way.noises**2).sum().item()
    return matrix * alpha * V, matrix**2 * spread + noise


def _learned(rollback: str, lams: list[float]) -> float:
    """Slope of the best denoiser of the states seen in training, over that of the true posterior mean."""
    covariance, variance = _rolled(rollback, lams)
    true = _rolled(rollback, lams[-1:])
    return covariance / variance / (true[0] / true[1])


@claim(
    "scheduled_sampling.consistent",
    statement="A model trained on states rolled back from a noisier level, with the clean image as target, learns the "
    "true denoiser, if the way back is exact: slope of what it learns over the true one (Gaussian data).",
    source="deng2022markup, section 3, as usually quoted",
    accepted=near(1.0, 1e-3),
    control={"rolled": 0.0},
    expected=FAILS,
    finding="Given the noisier state, the rolled-back one and the image are independent: the best answer is the mean "
    "of the noisier level's denoiser given x_t, of a slope smaller by (v + k_t^2) / (v + k_s^2), even with a perfect "
    "model and exact reverse steps. Without a rollback it is the true one.",
)
def consistent(rolled: float = ROLLED) -> Estimate:
    lams = [AT - rolled, AT] if rolled else [AT]
    return Estimate(_learned("exact", lams), 50 * EPS, "affine probing")


@claim(
    "scheduled_sampling.slope",
    statement="What is learned with an exact way back has the true slope times (v + k_t^2) / (v + k_s^2) on N(m, v) "
    "data, in however many steps: largest relative difference over one, two and four steps.",
    source="deng2022markup, section 3, in closed form",
    accepted=near(0.0, 1e-12),
    control={"rollback": "ddim"},
)
def slope(rollback: str = "exact") -> Estimate:
    ratio = (V + math.exp(-2 * AT)) / (V + math.exp(-2 * (AT - ROLLED)))
    runs = [[AT - ROLLED * (1 - i / steps) for i in range(steps + 1)] for steps in (1, 2, 4)]
    return Estimate(max(abs(_learned(rollback, lams) / ratio - 1) for lams in runs), 100 * EPS, "affine probing")


@claim(
    "scheduled_sampling.bias_order",
    statement="The bias of the learned slope vanishes with the distance rolled back, to first order: observed order of "
    "1 - slope / true slope (Gaussian data).",
    source="deng2022markup, section 3, in closed form",
    accepted=near(1.0, 0.02),
    control={"rollback": "renoise"},
)
def bias_order(rollback: str = "exact") -> Estimate:
    far = [0.4 / 2**i for i in range(7)]
    return observed_order(far, [abs(1 - _learned(rollback, [AT - h, AT])) for h in far], floor=1e-14)


@claim(
    "scheduled_sampling.renoise",
    statement="The way back may be the denoised point noised afresh, as in the published code, if the step is short: "
    "what the variance of the state lacks, relative, after one step of 0.001 in lambda (Gaussian data).",
    source="deng2022markup, the published code",
    accepted=at_most(0.001),
    control={"rollback": "exact"},
    expected=FAILS,
    finding="It lacks alpha_t^2 v sigma_s^2 / (alpha_s^2 v + sigma_s^2), the posterior variance of the image, however "
    "short the step is: a denoised point is less spread than the data. The exact reverse step lacks nothing.",
)
def renoised(rollback: str = "renoise") -> Estimate:
    true = _rolled(rollback, [AT])[1]
    return Estimate(1 - _rolled(rollback, [AT - 0.001, AT])[1] / true, 50 * EPS, "affine probing")


@claim(
    "scheduled_sampling.exposure",
    statement="A perfect model meets in sampling the states it was trained on: largest KL, over 20 levels, of the "
    "noised data from the states of ancestral sampling in steps of 0.3 in lambda (Gaussian data).",
    source="deng2022markup, section 1, on exposure bias",
    accepted=at_most(1e-9),
    control={"variance": "optimal"},
    expected=FAILS,
    finding="With finite steps it does not, though the model errs nowhere: the reverse kernel's variance is too small "
    "and the states drift from the noised data. With the optimal variance they do not on Gaussian data.",
)
def exposure(variance: str = "beta_tilde") -> Estimate:
    solver = AnalyticDPM(GAUSSIAN) if variance == "optimal" else DDIM(eta=1.0)
    whole = uniform_lambda(PROCESS, 20)
    worst = Estimate(0.0)
    for reached in range(1, 21):
        grid, end = TimeGrid(PROCESS, whole.times[: reached + 1]), whole.levels[reached]
        met = kl(GAUSSIAN.noised(float(end.alpha), float(end.sigma)), law_of(solver, GAUSSIAN, PROCESS, grid))
        worst = max(worst, met, key=float)
    return worst
