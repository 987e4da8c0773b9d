"""PNDM (Liu, Ren, Lin, Zhao 2022): the orders of pseudo numerical methods."""

from studies.claim import FAILS, claim, near
from theory.convergence import path_order
from theory.estimate import Estimate
from theory.process import VPLinear
from theory.solvers.adams import AdamsBashforth
from theory.solvers.pndm import PseudoRungeKutta
from theory.solvers.runge_kutta import RungeKutta
from theory.solvers.tableau import RK4
from toy_distributions.zoo import LAWS

PROCESS = VPLinear()
MIXTURE = LAWS["mixture_1d"]()
STEPS = (40, 80, 160, 320, 640)


@claim(
    "pndm.f.order",
    statement="F-PNDM converges with order 2 (mixture, grid uniform in lambda).",
    source="liu2022pndm, property 3.2",
    accepted=near(2.0, 0.05),
    control={"constant": False},
)
def order_of_f_pndm(constant: bool = True) -> Estimate:
    start = PseudoRungeKutta() if constant else RungeKutta(RK4)
    return path_order(AdamsBashforth(4, constant, start), MIXTURE, PROCESS, STEPS)


@claim(
    "pndm.runge_kutta.order",
    statement="The pseudo Runge-Kutta method keeps the order 4 of the classical one (mixture).",
    source="liu2022pndm, section 3.3, as usually quoted",
    accepted=near(4.0, 0.1),
    control={"middle": "k"},
    expected=FAILS,
    finding="Its middle stages stand at the middle in time, which is off the middle in k by O(h^2), while the weights "
    "are those of the middle: local error O(h^3), order 2. At the middle in k it is the classical method.",
)
def order_of_pseudo_runge_kutta(middle: str = "t") -> Estimate:
    solver = PseudoRungeKutta() if middle == "t" else RungeKutta(RK4)
    return path_order(solver, MIXTURE, PROCESS, (12, 20, 34, 58, 98, 166))
