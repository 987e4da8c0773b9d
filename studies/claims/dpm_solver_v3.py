"""DPM-Solver-v3 (Zheng, Lu, Chen, Zhu 2023): what fitting the linear part to the model makes exact, and its orders."""

import math
from functools import cache

import torch

from studies.claim import FAILS, at_most, claim, near
from theory.convergence import path_order
from theory.estimate import Estimate
from theory.grid import TimeGrid, uniform_lambda
from theory.model_statistics import FittedStatistics, GaussianStatistics, quadrature_statistics
from theory.models import Exact
from theory.process import VPLinear
from theory.reference import flow
from theory.solvers import Solver, solve
from theory.solvers.dpm_v3 import Coefficients, Constant, DPMv3
from theory.solvers.runge_kutta import RungeKutta
from theory.solvers.tableau import RK4
from theory.solvers.unipc import ExponentialAdams
from toy_distributions.mixture import GaussianMixture
from toy_distributions.zoo import LAWS

PROCESS = VPLinear()
STEPS = (20, 40, 80, 160, 320, 640)
STARTS = {"usual": None, "rk4": RungeKutta(RK4)}
UNEQUAL = (-1.0, -0.7, -0.5, 0.1, 0.4, 0.9, 1.0, 1.5)
MEAN, VARIANCES = (0.7, -1.2), (0.25, 2.0)


def _states() -> torch.Tensor:
    return torch.randn(9, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def _one_step(turn: float, share: float) -> Estimate:
    """The largest error of one step of the first order from lambda = -3 to 3, on a Gaussian turned by an angle."""
    rotation = torch.tensor([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]], dtype=torch.float64)
    cov = rotation @ torch.diag(torch.tensor(VARIANCES, dtype=torch.float64)) @ rotation.T
    law = GaussianMixture.gaussian(list(MEAN), 0.5 * (cov + cov.T))
    own = GaussianStatistics(torch.tensor(MEAN, dtype=torch.float64), law.cov.diagonal())

    def statistics(lam: torch.Tensor) -> Coefficients:
        l, s, b = own(lam)
        return Coefficients(share * l, s, b)

    grid, x = uniform_lambda(PROCESS, 1), _states()
    end = solve(DPMv3(statistics, 1), Exact(law, PROCESS), x, grid).end
    error = (end - flow(law, x, *grid.levels)).abs().max().item()
    return Estimate(error, 1e-13, "one step from nine states")


@claim(
    "dpm_solver_v3.gaussian.exact",
    statement="With the exact statistics of a Gaussian of diagonal covariance, one step of the first order from "
    "lambda = -3 to 3 has no error.",
    source="zheng2023dpm, section 3.2 (l, s and b minimise the first-order error; zero here, derived)",
    accepted=at_most(1e-12),
    control={"share": 0.5},
)
def gaussian_exact(share: float = 1.0) -> Estimate:
    """share: multiplies l; s and b are left as they are."""
    return _one_step(0.0, share)


@claim(
    "dpm_solver_v3.gaussian.correlated",
    statement="With the exact statistics of any Gaussian, one step of the first order has no error.",
    source="zheng2023dpm, section 3.2, read without its restriction to coefficients by coordinate",
    accepted=at_most(1e-12),
    control={"turn": 0.0},
    expected=FAILS,
    finding="l, s and b act on each coordinate by itself. Turned by 45 degrees the coordinates are correlated, f still "
    "depends on x, and the step errs like any other method's. Along the coordinate axes it is exact.",
)
def gaussian_correlated(turn: float = math.pi / 4) -> Estimate:
    return _one_step(turn, 1.0)


def _gap(statistics: Constant, other: Solver) -> Estimate:
    grid = TimeGrid(PROCESS, [PROCESS.time_at(lam) for lam in UNEQUAL])
    model, x = Exact(LAWS["mixture_2d"](), PROCESS), _states()
    ends = [solve(solver, model, x, grid).end for solver in (DPMv3(statistics, 3, correct=True), other)]
    return Estimate((ends[0] - ends[1]).abs().max().item(), 1e-14, "two runs from nine states")


@claim(
    "dpm_solver_v3.data.is_unipc",
    statement="With l = 1, s = b = 0 it is the exponential method in the data prediction, UniPC-3 with exact weights, "
    "on any grid. Largest distance of their states.",
    source="zheng2023dpm, section 3 (data prediction as a special case)",
    accepted=at_most(1e-13),
    control={"l": 0.99},
)
def data_is_unipc(l: float = 1.0) -> Estimate:
    return _gap(Constant(l, 0.0), ExponentialAdams(3, halves="exact"))


@claim(
    "dpm_solver_v3.noise.is_unipc",
    statement="With l = 0, s = -1, b = 0 it is the exponential method in the noise prediction, UniPC-3 in eps with "
    "exact weights, on any grid. With s = 0 it is not: f is e^-lambda eps, and s = -1 takes the factor out. Largest "
    "distance of their states.",
    source="zheng2023dpm, section 3 (noise prediction as a special case); s derived",
    accepted=at_most(1e-13),
    control={"s": 0.0},
)
def noise_is_unipc(s: float = -1.0) -> Estimate:
    return _gap(Constant(0.0, s), ExponentialAdams(3, reads="eps", halves="exact"))


@cache
def _own() -> FittedStatistics:
    return quadrature_statistics(LAWS["mixture_1d"](), -0.5, 2.5)


def _order(points: int, correct: bool = False, start: Solver | None = None) -> Estimate:
    return path_order(DPMv3(_own(), points, correct, start), LAWS["mixture_1d"](), PROCESS, STEPS)


@claim(
    "dpm_solver_v3.2.order",
    statement="The two-point predictor has order 2 with its usual start (mixture, its own statistics).",
    source="zheng2023dpm, section 3.3",
    accepted=near(2.0, 0.05),
    control={"points": 1},
)
def order_2(points: int = 2) -> Estimate:
    return _order(points)


@claim(
    "dpm_solver_v3.3.order",
    statement="The three-point predictor converges with order 3 as it is run, from one and then two points (mixture, "
    "its own statistics).",
    source="zheng2023dpm, section 3.3, as usually quoted",
    accepted=near(3.0, 0.1),
    control={"start": "rk4"},
    expected=FAILS,
    finding="From its usual start the order is 2: the first step errs by O(h^2), which nothing damps, and the "
    "statistics only make that error small. From two steps of a Runge-Kutta method it is 3.",
)
def order_3(start: str = "usual") -> Estimate:
    return _order(3, start=STARTS[start])


@claim(
    "dpm_solver_v3.corrector.order",
    statement="The corrector raises the order by one at no evaluation: two points with it have order 3 (mixture, its "
    "own statistics).",
    source="zheng2023dpm, section 3.3",
    accepted=near(3.0, 0.1),
    control={"correct": False},
)
def corrector_order(correct: bool = True) -> Estimate:
    return _order(2, correct)
