"""UniPC (Zhao, Bai, Rao, Zhou, Lu 2023): what its corrector buys, and what its start costs."""

from typing import Literal

import torch

from studies.claim import FAILS, at_most, claim, near
from theory.convergence import path_order
from theory.estimate import Estimate
from theory.grid import TimeGrid
from theory.models import Exact
from theory.process import VPLinear
from theory.solvers import solve
from theory.solvers.dpm_pp import DPMpp2M
from theory.solvers.runge_kutta import RungeKutta
from theory.solvers.tableau import RK4
from theory.solvers.unipc import ExponentialAdams
from toy_distributions.zoo import LAWS

PROCESS = VPLinear()
MIXTURE = LAWS["mixture_1d"]()
STEPS = (40, 80, 160, 320, 640)
STARTS = {"usual": None, "rk4": RungeKutta(RK4)}
UNEQUAL = (-1.0, -0.7, -0.5, 0.1, 0.4, 0.9, 1.0, 1.5)


@claim(
    "unipc.corrector.order",
    statement="The corrector raises the order by one at no evaluation: UniPC-2 has order 3 (mixture, grid uniform in "
    "lambda).",
    source="zhao2023unipc, theorem 3.1",
    accepted=near(3.0, 0.1),
    control={"correct": False},
)
def corrector_order(correct: bool = True) -> Estimate:
    return path_order(ExponentialAdams(2, correct), MIXTURE, PROCESS, STEPS)


@claim(
    "unipc.3.order",
    statement="UniPC-3 has order 4 as it is run: UniPC-1, then UniPC-2, then UniPC-3 (mixture, lambda from -0.5).",
    source="zhao2023unipc, theorem 3.1, as usually quoted",
    accepted=near(4.0, 0.1),
    control={"start": "rk4"},
    expected=FAILS,
    finding="From its usual start the order is 3: the first step, UniPC-1, errs by O(h^3), which nothing damps. From "
    "two steps of a Runge-Kutta method of order 4 it is 4.",
)
def order_of_unipc_3(start: str = "usual") -> Estimate:
    return path_order(ExponentialAdams(3, start=STARTS[start]), MIXTURE, PROCESS, (80, 120, 180, 270, 400, 500))


@claim(
    "unipc.b1.order",
    statement="B(h) does not matter for the order: UniPC-2 with B1 has order 3 too (mixture).",
    source="zhao2023unipc, theorem 3.1",
    accepted=near(3.0, 0.1),
    control={"correct": False},
)
def order_with_b1(correct: bool = True) -> Estimate:
    return path_order(ExponentialAdams(2, correct, halves="b1"), MIXTURE, PROCESS, STEPS)


@claim(
    "unipc.predictor.is_2m",
    statement="UniP-2 with B2 is DPM-Solver++(2M), step by step on any grid. Largest distance of their states.",
    source="zhao2023unipc, section 3.4",
    accepted=at_most(1e-13),
    control={"halves": "b1"},
)
def predictor_is_2m(halves: Literal["exact", "b1", "b2"] = "b2") -> Estimate:
    grid = TimeGrid(PROCESS, [PROCESS.time_at(lam) for lam in UNEQUAL])
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).unsqueeze(-1)
    ends = [
        solve(solver, Exact(MIXTURE, PROCESS), x, grid).end
        for solver in (ExponentialAdams(2, correct=False, halves=halves), DPMpp2M())
    ]
    return Estimate((ends[0] - ends[1]).abs().max().item(), 1e-15, "two runs from nine states")
