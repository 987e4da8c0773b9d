"""Runge-Kutta methods on the probability-flow ODE, in k = sigma/alpha and in lambda = log(alpha/sigma)."""

import math
from dataclasses import dataclass
from typing import Literal

from theory.prediction import Kind
from theory.process import Level, NoiseProcess
from theory.solvers.base import SOLVERS, Exactness, Facts, Solver, Step
from theory.solvers.tableau import HEUN, KUTTA3, MIDPOINT, RK4, Tableau


@dataclass(frozen=True)
class RungeKutta(Solver):
    r"""An explicit Runge-Kutta method on y = x / alpha,

        variable="k":    dy/dk   = eps                 (the form of EDM and of DEIS's rhoRK)
        variable="lam":  dy/dlam = -k eps

    with stages Y_i = y_s + (tau_t - tau_s) sum_j a_ij f_j at tau_s + c_i (tau_t - tau_s).

    In k exact where eps is a polynomial in k that does not depend on x, of the degree of the tableau's quadrature,
    hence for a point mass; in lambda exact for no model but eps = 0: the factor k is left to the quadrature.
    Source: zhang2022deis, section 3.3 (rhoRK); hairer1993solving, chapter II.1.
    """

    tableau: Tableau = HEUN
    variable: Literal["k", "lam"] = "k"

    def __post_init__(self):
        if self.variable not in ("k", "lam"):
            raise ValueError(f"variable must be 'k' or 'lam'; got {self.variable!r}.")

    @property
    def facts(self) -> Facts:
        exact = Exactness(Kind.EPS, "k", self.tableau.degree) if self.variable == "k" else None
        return Facts(order=self.tableau.order, evaluations=self.tableau.stages, reads=Kind.EPS, exact=exact)

    def step(self, model, x, s, t, memory, noise) -> Step:
        y, slopes = x / s.alpha, []
        h = t.k - s.k if self.variable == "k" else t.lam - s.lam
        for c, row in zip(self.tableau.c, self.tableau.a, strict=True):
            at = self._node(model.process, s, t, float(c))
            stage = y
            for weight, slope in zip(row, slopes, strict=True):
                if weight:
                    stage = stage + h * float(weight) * slope
            eps = model(at.alpha * stage, at).eps
            slopes.append(eps if self.variable == "k" else -at.k * eps)
        for weight, slope in zip(self.tableau.b, slopes, strict=True):
            if weight:
                y = y + h * float(weight) * slope
        return Step(t.alpha * y)

    def _node(self, process: NoiseProcess, s: Level, t: Level, c: float) -> Level:
        if c in (0.0, 1.0):
            return s if c == 0 else t
        if self.variable == "lam":
            return process.level_at(s.lam + c * (t.lam - s.lam))
        return process.level_at(-math.log(s.k + c * (t.k - s.k)))


@SOLVERS.add("midpoint.k")
def _midpoint_k() -> Solver:
    """The explicit midpoint rule in k = sigma/alpha."""
    return RungeKutta(MIDPOINT)


@SOLVERS.add("kutta3.k")
def _kutta3_k() -> Solver:
    """Kutta's method of order 3 in k = sigma/alpha (DEIS's rho3Kutta)."""
    return RungeKutta(KUTTA3)


@SOLVERS.add("rk4.k")
def _rk4_k() -> Solver:
    """The classical Runge-Kutta method of order 4 in k = sigma/alpha (DEIS's rho4RK)."""
    return RungeKutta(RK4)


@SOLVERS.add("heun.lam")
def _heun_lam() -> Solver:
    """Heun's method in lambda = log(alpha/sigma), without an exponential: the contrast to DPM-Solver."""
    return RungeKutta(HEUN, "lam")


@SOLVERS.add("rk4.lam")
def _rk4_lam() -> Solver:
    """The classical Runge-Kutta method of order 4 in lambda = log(alpha/sigma)."""
    return RungeKutta(RK4, "lam")
