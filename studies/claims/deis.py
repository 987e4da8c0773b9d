"""DEIS (Zhang, Chen 2022) and iPNDM: Adams-Bashforth methods in k = sigma/alpha, and what constant weights cost."""

from typing import Literal

from studies.claim import FAILS, claim, near
from theory.convergence import path_order
from theory.estimate import Estimate
from theory.grid import GRIDS
from theory.process import VPLinear
from theory.solvers.adams import AdamsBashforth
from theory.solvers.runge_kutta import RungeKutta
from theory.solvers.tableau import MIDPOINT, RK4
from toy_distributions.zoo import LAWS

PROCESS = VPLinear()
MIXTURE = LAWS["mixture_1d"]()
START = RungeKutta(RK4)
STEPS = (40, 80, 160, 320, 640)


@claim(
    "deis.rho_ab.order",
    statement="Four-step Adams-Bashforth in k with the weights of the grid (rhoAB3) has order 4 from an accurate start "
    "(mixture, grid uniform in lambda).",
    source="zhang2022deis, section 3.3",
    accepted=near(4.0, 0.1),
    control={"constant": True},
)
def order_of_rho_ab(constant: bool = False) -> Estimate:
    return path_order(AdamsBashforth(4, constant, START), MIXTURE, PROCESS, STEPS)


@claim(
    "deis.ipndm.order",
    statement="iPNDM and PLMS with four points are fourth-order methods (mixture, grid uniform in lambda, accurate "
    "start).",
    source="zhang2022deis, section 3.3; liu2022pndm, section 3.3, as usually quoted",
    accepted=near(4.0, 0.1),
    control={"constant": False},
    expected=FAILS,
    finding="Constant weights are those of equal steps in k. On any other grid they miss O(h^3) a step, and the order "
    "is 2; the weights of the grid at hand have order 4.",
)
def order_of_ipndm(constant: bool = True) -> Estimate:
    return path_order(AdamsBashforth(4, constant, START), MIXTURE, PROCESS, STEPS)


@claim(
    "deis.ipndm.unequal",
    statement="iPNDM has order 2 on every grid (mixture, steps in lambda short and long by turns, 1 : 3).",
    source="liu2022pndm, property 3.2, as usually quoted",
    accepted=near(2.0, 0.1),
    control={"levels": "uniform_lambda"},
    expected=FAILS,
    finding="Constant weights need neighbouring steps that become equal. Where their ratio stays 3 each step errs by "
    "O(h^2) and the order is 1; on a grid uniform in lambda it is 2.",
)
def order_of_ipndm_on_unequal_steps(levels: str = "alternating") -> Estimate:
    return path_order(AdamsBashforth(4, constant=True), MIXTURE, PROCESS, (*STEPS, 1280), levels=GRIDS[levels])


@claim(
    "deis.rho_rk.order",
    statement="The classical Runge-Kutta method of order 4 keeps its order in k (rho4RK, mixture).",
    source="zhang2022deis, section 3.3",
    accepted=near(4.0, 0.05),
    control={"stages": 2},
)
def order_of_rho_rk(stages: int = 4) -> Estimate:
    tableau = {2: MIDPOINT, 4: RK4}[stages]
    return path_order(RungeKutta(tableau), MIXTURE, PROCESS, (12, 20, 34, 58, 98, 166))


@claim(
    "deis.midpoint.gaussian",
    statement="The midpoint rule in k has order 3 on every Gaussian: on y = m + c sqrt(v + k^2) its local error "
    "(h^3 / 24) (y''' + 3 k y'' / (v + k^2)) is zero. Observed order.",
    source="zhang2022deis, section 3.3; derived",
    accepted=near(3.0, 0.05),
    control={"law": "mixture_1d"},
)
def order_of_the_midpoint_rule(law: str = "gaussian_1d") -> Estimate:
    return path_order(RungeKutta(MIDPOINT), LAWS[law](), PROCESS, (20, 40, 80, 160, 320))


@claim(
    "deis.t_ab.order",
    statement="Three-step Adams-Bashforth with eps interpolated in time and integrated exactly over k (tAB2) has order "
    "3 from an accurate start (mixture, grid uniform in lambda).",
    source="zhang2022deis, section 3.2",
    accepted=near(3.0, 0.05),
    control={"variable": "k", "constant": True},
)
def order_of_t_ab(variable: Literal["k", "t"] = "t", constant: bool = False) -> Estimate:
    return path_order(AdamsBashforth(3, constant, START, variable), MIXTURE, PROCESS, STEPS)
