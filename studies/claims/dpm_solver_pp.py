"""DPM-Solver++ (Lu, Zhou, Bao, Chen, Li, Zhu 2022): orders of its multistep and singlestep methods."""

from studies.claim import FAILS, claim, near
from theory.convergence import path_order
from theory.estimate import Estimate
from theory.process import VPLinear
from theory.solvers import Solver
from theory.solvers.dpm_pp import DPMpp2M, DPMpp2S, DPMpp3M, DPMpp3S
from theory.solvers.runge_kutta import RungeKutta
from theory.solvers.tableau import RK4
from toy_distributions.zoo import LAWS

PROCESS = VPLinear()
STARTS = {"usual": None, "rk4": RungeKutta(RK4)}


def _order(solver: Solver) -> Estimate:
    return path_order(solver, LAWS["mixture_1d"](), PROCESS, (20, 40, 80, 160, 320, 640))


@claim(
    "dpm_solver_pp.2s.order",
    statement="DPM-Solver++(2S) has order 2 in the largest step of lambda (mixture).",
    source="lu2022dpmpp, section 4.1",
    accepted=near(2.0, 0.05),
    control={"weight": 1.0},
)
def order_2s(weight: float = 0.5) -> Estimate:
    return _order(DPMpp2S(weight=weight))


@claim(
    "dpm_solver_pp.2m.order",
    statement="DPM-Solver++(2M) has order 2 with its usual start, one DDIM step (mixture).",
    source="lu2022dpmpp, section 4.2",
    accepted=near(2.0, 0.05),
    control={"weight": 1.0},
)
def order_2m(weight: float = 0.5) -> Estimate:
    return _order(DPMpp2M(weight))


@claim(
    "dpm_solver_pp.3s.order",
    statement="DPM-Solver++(3S) has order 3 with r1 = 1/3, r2 = 2/3 (mixture).",
    source="lu2022dpmpp, appendix on third-order methods",
    accepted=near(3.0, 0.05),
    control={"r2": 0.5},
)
def order_3s(r2: float = 2 / 3) -> Estimate:
    return _order(DPMpp3S(r2=r2))


@claim(
    "dpm_solver_pp.3m.order",
    statement="The multistep method of third order, 3M, converges with order 3 as it is run: DDIM, then 2M, then 3M "
    "(mixture).",
    source="lu2022dpmpp, appendix on third-order methods",
    accepted=near(3.0, 0.1),
    control={"start": "rk4"},
    expected=FAILS,
    finding="From its usual start the order is 2: one DDIM step errs by O(h^2), which nothing damps. From two steps of "
    "a Runge-Kutta method it is 3.",
)
def order_3m(start: str = "usual") -> Estimate:
    return _order(DPMpp3M(start=STARTS[start]))
