"""Euler and Heun on the probability-flow ODE: in k = sigma/alpha (the EDM form), and in t as the contrast."""

from dataclasses import dataclass
from typing import Literal

from theory.prediction import Kind
from theory.solvers.base import SOLVERS, Exactness, Facts, Solver, Step, combined

Variable = Literal["k", "t"]


def _check(variable: str) -> None:
    if variable not in ("k", "t"):
        raise ValueError(f"variable must be 'k' or 't'; got {variable!r}.")


@dataclass(frozen=True)
class Euler(Solver):
    r"""Euler's method on the probability-flow ODE.

    variable="k":  d(x/alpha)/dk = eps, so  x_t = alpha_t [ x_s / alpha_s + (k_t - k_s) eps_s ], which is DDIM.
    variable="t":  dx/dt = alpha' x_0 + sigma' eps, so  x_t = x_s + (t - s) (alpha'_s x0_s + sigma'_s eps_s).

    In k exact where eps is constant along the trajectory (a point mass); in t it is not.
    Source: karras2022edm, algorithm 1 without lines 6-8; song2020score, eq. 13.
    """

    variable: Variable = "k"

    def __post_init__(self):
        _check(self.variable)

    @property
    def facts(self) -> Facts:
        if self.variable == "t":
            return Facts(order=1, evaluations=1, reads=Kind.VELOCITY)
        return Facts(order=1, evaluations=1, reads=Kind.EPS, exact=Exactness(Kind.EPS, "k", 0))

    def step(self, model, x, s, t, memory, noise) -> Step:
        if self.variable == "t":
            return Step(x + (t.t - s.t) * model(x, s).velocity)
        eps = model(x, s).eps
        return Step(combined(t.alpha / s.alpha, x, (t.alpha * (t.k - s.k), eps)))


@dataclass(frozen=True)
class Heun(Solver):
    r"""Heun's method (the explicit trapezoid) on the probability-flow ODE.

    With slope f_s at s and f_t at the Euler point,  y_t = y_s + (tau_t - tau_s) [ (1 - weight) f_s + weight f_t ],
    for y = x / alpha, tau = k, f = eps (variable="k", the EDM form) or y = x, tau = t, f = velocity (variable="t").

    weight: 1/2 is the method; any other value has order 1 and serves as a control.
    Source: karras2022edm, algorithm 1.
    """

    variable: Variable = "k"
    weight: float = 0.5

    def __post_init__(self):
        _check(self.variable)

    @property
    def facts(self) -> Facts:
        order = 2 if self.weight == 0.5 else 1
        if self.variable == "t":
            return Facts(order=order, evaluations=2, reads=Kind.VELOCITY)
        return Facts(order=order, evaluations=2, reads=Kind.EPS, exact=Exactness(Kind.EPS, "k", order - 1))

    def step(self, model, x, s, t, memory, noise) -> Step:
        if self.variable == "t":
            h = t.t - s.t
            first = model(x, s).velocity
            second = model(x + h * first, t).velocity
            return Step(x + h * ((1 - self.weight) * first + self.weight * second))
        scale, h = t.alpha / s.alpha, t.alpha * (t.k - s.k)
        first = model(x, s).eps
        second = model(combined(scale, x, (h, first)), t).eps
        return Step(combined(scale, x, (h * (1 - self.weight), first), (h * self.weight, second)))


@SOLVERS.add("euler.k")
def _euler_k() -> Solver:
    """Euler on the probability-flow ODE in k = sigma/alpha (EDM form; equals DDIM)."""
    return Euler("k")


@SOLVERS.add("euler.t")
def _euler_t() -> Solver:
    """Euler on the probability-flow ODE in plain t: the contrast to the k form."""
    return Euler("t")


@SOLVERS.add("heun.k")
def _heun_k() -> Solver:
    """Heun on the probability-flow ODE in k = sigma/alpha (the deterministic EDM sampler)."""
    return Heun("k")


@SOLVERS.add("heun.t")
def _heun_t() -> Solver:
    """Heun on the probability-flow ODE in plain t: the contrast to the k form."""
    return Heun("t")
