"""Adams-Bashforth methods in k = sigma/alpha: DEIS's rhoAB and tAB on any grid, and the constant weights of PNDM."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from theory.models import Answered
from theory.phi import weights_at
from theory.prediction import Kind
from theory.process import NoiseProcess
from theory.solvers.base import SOLVERS, Exactness, Facts, Solver, Step, combined, extra
from toy_distributions.gauss import rule

CONSTANT = {
    1: (1.0,),
    2: (3 / 2, -1 / 2),
    3: (23 / 12, -16 / 12, 5 / 12),
    4: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}

QUADRATURE = 20
"""Nodes for the integrals of time's polynomials over one step in k."""


@dataclass(frozen=True)
class AdamsBashforth(Solver):
    r"""y = x / alpha, dy/dk = eps: eps is replaced by the polynomial through its last values and integrated.

        y_t = y_s + sum_j w_j eps_j,      w_j = int_{k_s}^{k_t} prod_{i != j} (k - k_i) / (k_j - k_i) dk

    over the last ``points`` nodes (rhoAB of DEIS with r = points - 1). variable="t" interpolates eps in time instead,
    w_j = int prod_{i != j} (t(k) - t_i) / (t_j - t_i) dk (tAB), by Gauss-Legendre quadrature in k. constant=True takes
    the weights of equal steps whatever the grid, as iPNDM and PNDM do: then the order is at most 2 where the
    ratios of neighbouring steps in k tend to one, as on grids uniform in lambda, and 1 where they do not.

    It starts with fewer points, DDIM first. Such a step errs by O(h^2), which nothing damps: from this start the order
    is at most 2, from ``start`` of order >= points - 1, which takes the first points - 1 steps, it is ``points``.
    Exact, once started, for eps a polynomial of degree points - 1 in k (or t) that does not depend on x.
    Source: zhang2022deis, section 3.3; liu2022pndm, eq. 12 (constant weights).
    """

    points: int = 2
    constant: bool = False
    start: Solver | None = None
    variable: Literal["k", "t"] = "k"

    def __post_init__(self):
        if self.points not in CONSTANT:
            raise ValueError(f"points must be 1, 2, 3 or 4; got points={self.points}.")
        if self.variable not in ("k", "t"):
            raise ValueError(f"variable must be 'k' or 't'; got {self.variable!r}.")

    @property
    def facts(self) -> Facts:
        started = self.start is not None and (self.start.facts.order or 0) >= self.points - 1
        limit = self.points if started and not self.constant else 2
        return Facts(
            order=min(self.points, limit),
            evaluations=1,
            reads=Kind.EPS,
            start_up=extra(self.start, self.points),
            multistep=self.points > 1,
            exact=Exactness(Kind.EPS, self.variable, 0 if self.constant else self.points - 1),
        )

    def step(self, model, x, s, t, memory, noise) -> Step:
        prediction = model(x, s)
        history = ((s, prediction.eps), *(memory or ()))[: self.points]
        if self.start is not None and len(history) < self.points:
            return Step(self.start.step(Answered(model, x, s, prediction), x, s, t, None, noise).x, memory=history)
        step = float(t.k - s.k)
        levels = [at for at, _ in history]
        if self.constant:
            weights = [step * w for w in CONSTANT[len(history)]]
        elif self.variable == "k":
            weights = _weights([float(at.k) for at in levels], step)
        else:
            weights = _weights_in_time(model.process, [float(at.t) for at in levels], float(s.k), step)
        terms = ((t.alpha * weight, eps) for weight, (_, eps) in zip(weights, history, strict=True))
        return Step(combined(t.alpha / s.alpha, x, *terms), memory=history)


def _weights(nodes: list[float], step: float) -> list[float]:
    """Integrals of the Lagrange polynomials over [nodes[0], nodes[0] + step], in units that keep their digits."""
    if len(nodes) == 1:
        return [step]
    assert all(newer < older for newer, older in pairwise(nodes))
    places = [(node - nodes[0]) / step for node in nodes]  # 0, then the older nodes on the other side of the step
    return weights_at(places, [step / (n + 1) for n in range(len(nodes))])


def _weights_in_time(process: NoiseProcess, nodes: list[float], start: float, step: float) -> list[float]:
    """Integrals over k from ``start`` of the Lagrange polynomials in time, which is a smooth function of k."""
    if len(nodes) == 1:
        return [step]
    places, weights = rule(QUADRATURE)
    times = process.time_at(-(start + step * places).log()).numpy()
    basis = [np.prod([(times - other) / (node - other) for other in nodes if other != node], 0) for node in nodes]
    return [step * float(weights.numpy() @ values) for values in basis]


@SOLVERS.add("deis.rho_ab2")
def _rho_ab2() -> Solver:
    """Two-step Adams-Bashforth in k on any grid (DEIS rhoAB1): order 2 at one evaluation."""
    return AdamsBashforth(2)


@SOLVERS.add("deis.rho_ab3")
def _rho_ab3() -> Solver:
    """Three-step Adams-Bashforth in k on any grid (DEIS rhoAB2), with its usual start."""
    return AdamsBashforth(3)


@SOLVERS.add("deis.rho_ab4")
def _rho_ab4() -> Solver:
    """Four-step Adams-Bashforth in k on any grid (DEIS rhoAB3), with its usual start."""
    return AdamsBashforth(4)


@SOLVERS.add("deis.t_ab2")
def _t_ab2() -> Solver:
    """DEIS tAB1: eps interpolated in time through two values, integrated exactly: order 2 at one evaluation."""
    return AdamsBashforth(2, variable="t")


@SOLVERS.add("deis.t_ab3")
def _t_ab3() -> Solver:
    """DEIS tAB2, with its usual start."""
    return AdamsBashforth(3, variable="t")


@SOLVERS.add("deis.t_ab4")
def _t_ab4() -> Solver:
    """DEIS tAB3, with its usual start."""
    return AdamsBashforth(4, variable="t")


@SOLVERS.add("ipndm.4")
def _ipndm() -> Solver:
    """iPNDM: four-step Adams-Bashforth with the weights of equal steps in k, whatever the grid."""
    return AdamsBashforth(4, constant=True)
