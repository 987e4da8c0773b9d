"""SEEDS (Gonzalez et al. 2023) and ancestral samplers: what the noise of stages and of steps has to be."""

from dataclasses import dataclass

import torch

from studies.claim import FAILS, claim, near
from theory.convergence import law_order
from theory.estimate import Estimate
from theory.flow_map import FlowMap
from theory.grid import TimeGrid
from theory.laws import law_of
from theory.models import Exact
from theory.noise import Independent
from theory.process import VE, NoiseProcess, VPLinear
from theory.solvers import DDIM, DDPM, SDEDPM, SEEDS, Ancestral, Facts, Solver, Step, solve
from theory.solvers.dpm_pp import DPMpp2S
from theory.solvers.euler_heun import Euler
from theory.strong import strong_order
from toy_distributions.mixture import GaussianMixture

PROCESS = VPLinear()
EPS = torch.finfo(torch.float64).eps
WIDE = GaussianMixture.gaussian(0.7, 4.0)
TILTED = GaussianMixture.gaussian([0.5, -1.0], [[1.0, 0.6], [0.6, 0.5]])
TRIMODAL = GaussianMixture([0.3, 0.5, 0.2], [[-1.0], [0.4], [1.2]], [0.05, 0.1, 0.04])
STEPS = (20, 40, 80, 160, 320)
UNEQUAL = (-2.0, -1.5, -0.2, 0.1, 0.9, 2.0)


def _gap(one: Solver, other: Solver, *processes: NoiseProcess) -> Estimate:
    """Largest difference of two runs on one noise, over processes (by default VP and VE), on unequal steps."""
    worst = 0.0
    for process in processes or (PROCESS, VE()):
        grid = TimeGrid(process, [process.time_at(lam) for lam in UNEQUAL])
        start, model = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None], Exact(TRIMODAL, process)
        first, second = (
            solve(solver, model, grid.levels[0].sigma * start, grid, noise=Independent(0)).end
            for solver in (one, other)
        )
        worst = max(worst, (first - second).abs().max().item())
    return Estimate(worst, 100 * EPS)


@claim(
    "seeds.1.sde_dpm",
    statement="SEEDS-1 in the noise prediction is SDE-DPM-Solver-1: largest difference of two runs on one noise "
    "(mixture; VP and VE, unequal steps).",
    source="gonzalez2023seeds",
    accepted=near(0.0, 1e-13),
    control={"stages": 2},
)
def one_stage(stages: int = 1) -> Estimate:
    return _gap(SEEDS(stages, reads="eps"), SDEDPM(1, reads="eps"))


@claim(
    "seeds.2.weak_order",
    statement="SEEDS-2 has weak order 2 if its stage lies on the path of the step (Gaussian data, mean and deviation).",
    source="gonzalez2023seeds, read as a statement on laws",
    accepted=near(2.0, 0.05),
    control={"nested": False},
)
def weak_order_of_two_stages(nested: bool = True) -> Estimate:
    return law_order(SEEDS(2, nested=nested), WIDE, PROCESS, STEPS)


@claim(
    "seeds.3.weak_order",
    statement="SEEDS-3 is of third order in law (Gaussian data, mean and deviation).",
    source="gonzalez2023seeds, as usually quoted",
    accepted=near(3.0, 0.1),
    control={"eta": 0.0},
    expected=FAILS,
    finding="Its weak order is 2; order 3 is that of its deterministic part, which it has without noise (eta = 0).",
)
def weak_order_of_three_stages(eta: float = 1.0) -> Estimate:
    return law_order(SEEDS(3, eta), WIDE, PROCESS, (10, 20, 40, 80, 160))


@claim(
    "seeds.3.strong_order",
    statement="SEEDS-3 converges along Brownian paths with order 1 (Gaussian data, the path in alpha^2/sigma^2).",
    source="gonzalez2023seeds",
    accepted=near(1.0, 0.05),
    control={"eta": 0.9},
)
def strong_order_of_three_stages(eta: float = 1.0) -> Estimate:
    return strong_order(SEEDS(3, eta), WIDE, PROCESS, clock=2.0, steps=(20, 40, 80, 160, 320))


@claim(
    "ancestral.euler.ddpm",
    statement="Euler-a with eta = 1 is DDPM with beta-tilde, on any process, if it is applied to x / alpha: largest "
    "difference of two runs on one noise (mixture; VP and VE).",
    source="crowson2022kdiffusion, sample_euler_ancestral; ho2020ddpm, eq. 6-7",
    accepted=near(0.0, 1e-13),
    control={"eta": 0.9},
)
def euler_ancestral(eta: float = 1.0) -> Estimate:
    return _gap(Ancestral(Euler(), eta), DDPM("beta_tilde"))


@claim(
    "ancestral.euler.ddim",
    statement="Euler-a with eta is DDIM with the same eta, for 0.4: largest difference of two runs on one noise "
    "(mixture; VP and VE).",
    source="crowson2022kdiffusion, get_ancestral_step; song2020ddim, eq. 16",
    accepted=near(0.0, 1e-13),
    control={"eta": 0.5},
)
def euler_ancestral_is_ddim(eta: float = 0.4) -> Estimate:
    return _gap(Ancestral(Euler(), eta), DDIM(0.4))


@claim(
    "ancestral.law",
    statement="With an exact deterministic step ancestral sampling keeps the law exactly, in five steps, for eta = 1 "
    "and 1/2: largest error of mean and covariance (correlated Gaussian data).",
    source="crowson2022kdiffusion, get_ancestral_step",
    accepted=near(0.0, 1e-12),
    control={"noise_scale": 1.01},
)
def law_of_ancestral(noise_scale: float = 1.0) -> Estimate:
    worst, grid = 0.0, TimeGrid(PROCESS, [PROCESS.time_at(lam) for lam in UNEQUAL])
    exact = TILTED.noised(float(grid.levels[-1].alpha), float(grid.levels[-1].sigma))
    for eta in (1.0, 0.5):
        out = law_of(Ancestral(FlowMap(TILTED), eta, noise_scale), TILTED, PROCESS, grid)
        worst = max(worst, (out.mean - exact.mean).abs().max().item(), (out.cov - exact.cov).abs().max().item())
    return Estimate(worst, 500 * EPS, "affine probing")


@dataclass(frozen=True)
class _InX(Solver):
    """Euler-a as k-diffusion writes it, on x and sigma, whatever alpha is."""

    @property
    def facts(self) -> Facts:
        return Facts(order=1, evaluations=1, stochastic=True)

    def step(self, model, x, s, t, memory, noise) -> Step:
        up = t.sigma * (1 - (t.sigma / s.sigma) ** 2) ** 0.5
        down = t.sigma * t.sigma / s.sigma
        return Step(x + (down - s.sigma) * model(x, s).eps + up * noise(s, t, x))


@claim(
    "ancestral.euler.in_x",
    statement="The recipe of k-diffusion's ancestral samplers may be applied to the state x of any process: largest "
    "difference from the step in x / alpha (mixture).",
    source="crowson2022kdiffusion, get_ancestral_step, as found in adaptations to VP",
    accepted=near(0.0, 1e-13),
    control={"process": "ve"},
    expected=FAILS,
    finding="sigma stands for sigma / alpha in it: on VP the step in x has neither the drift nor the noise of the "
    "reverse SDE. It is right where alpha = 1.",
)
def recipe_in_x(process: str = "vp") -> Estimate:
    return _gap(_InX(), Ancestral(), {"vp": PROCESS, "ve": VE()}[process])


@claim(
    "ancestral.2s.weak_order",
    statement="DPM++2S-a has weak order 2 (Gaussian data, mean and deviation).",
    source="crowson2022kdiffusion, sample_dpmpp_2s_ancestral",
    accepted=near(2.0, 0.05),
    control={"weight": 1.0},
)
def weak_order_of_2s_ancestral(weight: float = 0.5) -> Estimate:
    return law_order(Ancestral(DPMpp2S(weight=weight)), WIDE, PROCESS, STEPS)
