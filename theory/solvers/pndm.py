"""PNDM: pseudo numerical methods, classical weights with DDIM's transfer in place of an Euler step."""

from dataclasses import dataclass

from theory.prediction import Kind
from theory.solvers.adams import AdamsBashforth
from theory.solvers.base import SOLVERS, Exactness, Facts, Solver, Step
from theory.solvers.euler_heun import Heun


@dataclass(frozen=True)
class PseudoRungeKutta(Solver):
    r"""The classical Runge-Kutta method with its middle stages at the middle of the step in time.

    With the transfer x -> (alpha_v / alpha_u) x + alpha_v (k_v - k_u) e of DDIM from u to v, m the level at
    (t_s + t_t) / 2,

        e_1 = eps(x, s),   e_2 = eps(transfer to m by e_1),   e_3 = eps(transfer to m by e_2),
        e_4 = eps(transfer to t by e_3),   x_t = transfer of x to t by (e_1 + 2 e_2 + 2 e_3 + e_4) / 6.

    The middle in time is off the middle in k by O(h^2), so the weight 2/3 of e_2 and e_3 belongs to another node and
    the local error is O(h^3): order 2. Where the two middles agree it is the classical method, of order 4.
    Exact for a constant eps. Source: liu2022pndm, eq. 13 and algorithm 2.
    """

    @property
    def facts(self) -> Facts:
        return Facts(order=2, evaluations=4, reads=Kind.EPS, exact=Exactness(Kind.EPS, "k", 0))

    def step(self, model, x, s, t, memory, noise) -> Step:
        middle = model.process.level(0.5 * (s.t + t.t))
        y = x / s.alpha

        def seen(at, slope):
            return model(at.alpha * (y + (at.k - s.k) * slope), at).eps

        first = model(x, s).eps
        second = seen(middle, first)
        third = seen(middle, second)
        fourth = seen(t, third)
        return Step(t.alpha * (y + (t.k - s.k) / 6 * (first + 2 * (second + third) + fourth)))


@SOLVERS.add("pndm.s")
def _pndm_s() -> Solver:
    """S-PNDM: two-step Adams-Bashforth with constant weights, started by Heun's method in k."""
    return AdamsBashforth(2, constant=True, start=Heun("k"))


@SOLVERS.add("pndm.f")
def _pndm_f() -> Solver:
    """F-PNDM: four-step Adams-Bashforth with constant weights, started by three pseudo Runge-Kutta steps."""
    return AdamsBashforth(4, constant=True, start=PseudoRungeKutta())
