"""DPM-Solver (Lu, Zhou, Bao, Chen, Li, Zhu 2022): its orders, its free r1, what it is exact for, its step control."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from studies.claim import FAILS, claim, near
from theory.adaptive import solve_adaptive
from theory.convergence import path_error, path_order, path_reference
from theory.divergences import kl
from theory.estimate import Estimate
from theory.grid import TimeGrid, uniform_lambda
from theory.laws import law_of
from theory.models import Exact, Model
from theory.prediction import Kind, Prediction
from theory.process import Level, NoiseProcess, VPLinear
from theory.slope import observed_order
from theory.solvers import Solver, solve
from theory.solvers.ddim import DDIM
from theory.solvers.dpm import DPM2, DPM3, DPM12, DPM23, DPMFast
from toy_distributions.mixture import GaussianMixture

PROCESS = VPLinear()
EPS = torch.finfo(torch.float64).eps
GAUSSIAN = GaussianMixture.gaussian(0.7, 0.25)
TRIMODAL = GaussianMixture([0.3, 0.5, 0.2], [[-1.0], [0.4], [1.2]], [0.05, 0.1, 0.04])
R1 = (0.1, 0.25, 0.5, 1.0)

EXACT = 1e-12
"""Accepted distance of quantities that are equal in exact arithmetic: one step of some 40 operations, with factors
sigma_t (e^h - 1) / r1 and alpha_t / alpha_s below 100, in units of 2.2e-16."""


@dataclass(frozen=True)
class Drifting(Model):
    """A noise prediction 1 + slope lambda, whatever the state: its probability-flow ODE integrates in closed form."""

    process: NoiseProcess
    slope: float

    def __call__(self, x: Tensor, at: Level) -> Prediction:
        return Prediction(Kind.EPS, torch.full_like(x, 1 + self.slope * float(at.lam)), x, at)

    def flow(self, x: Tensor, s: Level, t: Level) -> Tensor:
        """x_t = (alpha_t / alpha_s) x_s - alpha_t int_s^t e^{-l} (1 + slope l) dl."""

        def primitive(lam: float) -> float:
            return -math.exp(-lam) * (1 + self.slope * (1 + lam))

        return t.alpha / s.alpha * x - t.alpha * (primitive(float(t.lam)) - primitive(float(s.lam)))


def _orders(law: GaussianMixture, weight: float) -> Estimate:
    """The order furthest from 2 among all r1."""
    orders = [path_order(DPM2(r1, weight), law, PROCESS, (10, 20, 40, 80, 160)) for r1 in R1]
    return max(orders, key=lambda order: abs(order.value - 2) + order.error)


@claim(
    "dpm_solver.order.gaussian",
    statement="DPM-Solver-2 has order 2 on Gaussian data for every r1: the order furthest from 2 among r1 = 0.1, 0.25, "
    "0.5, 1.",
    source="lu2022dpm, theorem 3.2 with k = 2 and appendix B",
    accepted=near(2.0, 0.05),
    control={"weight": 1.0},
)
def order_on_gaussian(weight: float = 0.5) -> Estimate:
    return _orders(GAUSSIAN, weight)


@claim(
    "dpm_solver.order.mixture",
    statement="DPM-Solver-2 has order 2 on a mixture for every r1: the order furthest from 2 among r1 = 0.1, 0.25, "
    "0.5, 1.",
    source="lu2022dpm, theorem 3.2 with k = 2 and appendix B",
    accepted=near(2.0, 0.05),
    control={"weight": -0.5},
)
def order_on_mixture(weight: float = 0.5) -> Estimate:
    return _orders(TRIMODAL, weight)


@claim(
    "dpm_solver.law.kl_order",
    statement="On Gaussian data the KL of the law of DPM-Solver-2's samples has order 4, twice that of its paths "
    "(r1 = 1/2).",
    source="lu2022dpm, theorem 3.2 with k = 2",
    accepted=near(4.0, 0.1),
    control={"weight": 1.0},
)
def kl_order(weight: float = 0.5) -> Estimate:
    h, divergences = [], []
    for steps in (8, 16, 32, 64, 128):
        grid = uniform_lambda(PROCESS, steps, start=-1.0, end=1.5)
        true = GAUSSIAN.noised(float(grid.levels[-1].alpha), float(grid.levels[-1].sigma))
        h.append(grid.h_max)
        divergences.append(kl(true, law_of(DPM2(weight=weight), GAUSSIAN, PROCESS, grid)).value)
    return observed_order(h, divergences, floor=1e-16)


def _one_step(solver: Solver, model: Model, x: Tensor, s: Level, t: Level) -> Tensor:
    return solve(solver, model, x, TimeGrid(PROCESS, [float(s.t), float(t.t)])).end


@claim(
    "dpm_solver.constant_noise",
    statement="One step of DPM-Solver-2 is exact where the noise prediction is constant, at any size and for every "
    "r1: largest error, the noise being constant everywhere or along the trajectories of a point mass.",
    source="lu2022dpm, eq. 3.7",
    accepted=near(0.0, EXACT),
    control={"slope": 0.5},
)
def constant_noise(slope: float = 0.0) -> Estimate:
    x, point, worst = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None], 0.7, 0.0
    drifting, still = Drifting(PROCESS, slope), Exact(GaussianMixture.dirac(point), PROCESS)
    s = PROCESS.level_at(-2.0)
    eps = (x - s.alpha * point) / s.sigma
    for end in (-1.5, 0.0, 2.0):
        t = PROCESS.level_at(end)
        for r1 in R1:
            to_noise = _one_step(DPM2(r1), drifting, x, s, t) - drifting.flow(x, s, t)
            to_point = _one_step(DPM2(r1), still, x, s, t) - t.alpha * point - t.sigma * eps
            worst = max(worst, to_noise.abs().max().item(), to_point.abs().max().item())
    return Estimate(worst, 1000 * EPS)


@claim(
    "dpm_solver.affine_noise",
    statement="With the weight phi_2(h) / phi_1(h) in place of 1/2, one step of DPM-Solver-2 is exact where the noise "
    "prediction is affine in lambda, at any size and for every r1: largest error.",
    source="lu2022dpm, appendix B; hochbruck2010exponential, two-stage methods",
    accepted=near(0.0, EXACT),
    control={"weight": "half"},
)
def affine_noise(weight: str = "phi_2 / phi_1") -> Estimate:
    x, worst = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None], 0.0
    model, s = Drifting(PROCESS, 0.5), PROCESS.level_at(-2.0)
    for end in (-1.5, 0.0, 2.0):
        t = PROCESS.level_at(end)
        h = float(t.lam - s.lam)
        ratio = 0.5 if weight == "half" else 1 / h - 1 / math.expm1(h)
        for r1 in R1:
            worst = max(worst, (_one_step(DPM2(r1, ratio), model, x, s, t) - model.flow(x, s, t)).abs().max().item())
    return Estimate(worst, 1000 * EPS)


@claim(
    "dpm_solver.first_order",
    statement="DPM-Solver-1, the second-order method without its correction, is DDIM: largest difference of one step "
    "on a mixture.",
    source="lu2022dpm, eq. 3.7 and section 4.1",
    accepted=near(0.0, EXACT),
    control={"weight": 0.5},
)
def first_order(weight: float = 0.0) -> Estimate:
    x, model, worst = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None], Exact(TRIMODAL, PROCESS), 0.0
    s = PROCESS.level_at(-2.0)
    for end in (-1.5, 0.0, 2.0):
        t = PROCESS.level_at(end)
        gap = _one_step(DPM2(weight=weight), model, x, s, t) - _one_step(DDIM(), model, x, s, t)
        worst = max(worst, gap.abs().max().item())
    return Estimate(worst, 1000 * EPS)


@claim(
    "dpm_solver.third_order.free_nodes",
    statement="r1 and r2 of DPM-Solver-3 are free hyper-parameters: it has order 3 at r1 = 1/3, r2 = 1/2 (mixture).",
    source="lu2022dpm, algorithm 2, as usually quoted",
    accepted=near(3.0, 0.05),
    control={"r2": 2 / 3},
    expected=FAILS,
    finding="Order 3 needs r2 = 2/3, with any r1: the weight 1/r2 of the last stage has to integrate u^2. Any other r2 "
    "has order 2.",
)
def free_nodes(r1: float = 1 / 3, r2: float = 0.5) -> Estimate:
    return _order_on_trimodal(DPM3(r1, r2))


@claim(
    "dpm_solver.third_order.every_r1",
    statement="With r2 = 2/3 DPM-Solver-3 has order 3 for every r1: the order furthest from 3 among r1 = 0.2, 1/3, "
    "0.5, 0.9 (mixture).",
    source="lu2022dpm, theorem 3.2 with k = 3",
    accepted=near(3.0, 0.05),
    control={"correct": False},
)
def every_r1(correct: bool = True) -> Estimate:
    orders = [_order_on_trimodal(DPM3(r1, correct=correct)) for r1 in (0.2, 1 / 3, 0.5, 0.9)]
    return max(orders, key=lambda order: abs(order.value - 3) + order.error)


def _order_on_trimodal(solver: Solver) -> Estimate:
    return path_order(solver, TRIMODAL, PROCESS, (20, 40, 80, 160, 320, 640))


@claim(
    "dpm_solver.adaptive.cost",
    statement="The steps of DPM-Solver-23 with its step size control grow like tolerance^(-1/3) (mixture, tolerances "
    "1e-4 to 1e-8). Observed exponent.",
    source="lu2022dpm, appendix C.3",
    accepted=near(1 / 3, 0.03),
    control={"pair": 12},
)
def adaptive_cost(pair: int = 23) -> Estimate:
    solver, tolerances = {12: DPM12(), 23: DPM23()}[pair], (1e-4, 1e-6, 1e-8)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).unsqueeze(-1)
    counts = [
        solve_adaptive(
            solver, Exact(TRIMODAL, PROCESS), x, start=-3.0, end=2.0, rtol=tol, atol=tol
        ).trajectory.grid.steps
        for tol in tolerances
    ]
    early, late = (math.log(b / a) / math.log(100) for a, b in pairwise(counts))
    return Estimate(late, abs(late - early) / 3 + 1 / counts[1] / math.log(100), "two ratios of counts")


@claim(
    "dpm_solver.fast.order",
    statement='A "fast" run of N = 1 mod 3 evaluations, of DPM-Solver-3 and one DDIM step at its end, has order 2 '
    "(mixture): the single DDIM step errs by O(h^2).",
    source="lu2022dpm, section 3.4",
    accepted=near(2.0, 0.1),
    control={"rest": 2},
)
def fast_order(rest: int = 1) -> Estimate:
    """rest: N mod 3; with 2 the last step is DPM-Solver-2, of local error O(h^3), and the order is 3."""
    reference = path_reference(TRIMODAL, PROCESS, n=4)
    runs = [
        path_error(DPMFast(3 * steps - 3 + rest), TRIMODAL, PROCESS, steps, reference)
        for steps in (20, 40, 80, 160, 320)
    ]
    return observed_order([grid.h_max for grid, _ in runs], [error for _, error in runs], floor=1e-12)
