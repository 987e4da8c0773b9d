"""DPM-Solver-v3: an exponential integrator whose linear part is fitted to the model."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from theory.models import Answered
from theory.prediction import Kind
from theory.process import Level
from theory.solvers.base import Facts, Solver, Step, extra
from theory.solvers.ddim import DDIM
from toy_distributions.gauss import rule, to_coefficients

PANEL = 1.0
"""Longest piece of lambda that one Gauss rule integrates over."""

NODES = 20
"""Of that rule. The statistics of a Gaussian have poles pi/2 off the real line: 20 nodes leave (3.1 + 3.3)^-20."""


class Coefficients(NamedTuple):
    """l, s and b at n values of lambda: each (n, dim), or (n, 1) where all coordinates share it."""

    l: Tensor
    s: Tensor
    b: Tensor


Statistics = Callable[[Tensor], Coefficients]
"""The paper's empirical model statistics: lambda (n,), float64, to Coefficients. Smooth functions of lambda."""


@dataclass(frozen=True)
class Constant:
    """Statistics that do not depend on lambda: ``DATA`` and ``NOISE`` are the two that older methods use."""

    l: float
    s: float
    b: float = 0.0

    def __call__(self, lam: Tensor) -> Coefficients:
        return Coefficients(
            *(torch.full((len(lam), 1), value, dtype=torch.float64) for value in (self.l, self.s, self.b))
        )


DATA = Constant(1.0, 0.0)
"""f = -D: the exponential integrators of the data prediction (DPM-Solver++, UniPC)."""

NOISE = Constant(0.0, -1.0)
"""f = e^-lam eps, and s = -1 makes its remainder eps: those of the noise prediction (DPM-Solver)."""


@dataclass(frozen=True)
class DPMv3(Solver):
    r"""Exponential multistep method in the parameterization that given statistics l, s, b of the model define.

    With y = x / alpha, the probability-flow ODE is dy/dlam = -e^{-lam} eps. For any l(lam) it is

        dy/dlam = -l y - f,      f = (sigma eps - l x) / alpha = (1 - l) y - D,

    and for any s(lam), b(lam), with L and S the integrals of l and s from lam_s and B that of e^{-S} b,

        y_t = e^{-L_t} [ y_s - int_{lam_s}^{lam_t} e^{L+S} (B + g) dlam ],      g = e^{-S} f - B,

    exactly, since g' = e^{-S} (f' - s f - b) along the flow. The predictor puts the polynomial in lambda through the
    last ``points`` values of g in place of g; the corrector does the same step again with the value at t as one more
    point, at no evaluation, as UniPC's does (``ExponentialAdams``). The last state is not corrected.

    l = diag E sigma grad eps makes f depend on x the least, and the regression of f' on f gives the s, b for which g
    changes the least: ``theory.model_statistics`` finds them. Where the model is that of a Gaussian of diagonal
    covariance and the statistics are its own, g is constant, and every step is exact at any h. With ``DATA`` and
    ``NOISE`` it is the exponential Adams method in D and eps with exact weights.

    Order: ``points`` without a corrector, points + 1 with one, for any smooth statistics, from an accurate ``start`` (a
    solver that takes the first points - 1 steps); from the usual start of fewer points at most 2 and 3. The integrals
    of l, s and b are Gauss sums, so statistics have to be smooth between the nodes of the grid.
    A step from alpha = 0 or to sigma = 0 is infinite in lambda: DDIM's is taken, and the history begins anew.

    Not in the registry, since the statistics belong to one model.
    Raises ValueError for points outside 1 .. 4, and for statistics of another dimension than the state's.
    Source: zheng2023dpm, section 3 (the formulation, the optimal l, s, b, and the multistep method).
    """

    statistics: Statistics
    points: int = 2
    correct: bool = False
    start: Solver | None = None

    def __post_init__(self):
        if self.points not in (1, 2, 3, 4):
            raise ValueError(f"points must be 1, 2, 3 or 4; got points={self.points}.")

    @property
    def facts(self) -> Facts:
        limit = 2 + self.correct if self.start is None else (self.start.facts.order or 0) + 1
        return Facts(
            order=min(self.points + self.correct, limit),
            evaluations=1,
            reads=Kind.X0,
            start_up=extra(self.start, self.points),
            multistep=self.points + self.correct > 1,
        )

    def step(self, model, x, s, t, memory, noise) -> Step:
        prediction = model(x, s)
        if not math.isfinite(t.lam - s.lam):
            return Step(DDIM().step(Answered(model, x, s, prediction), x, s, t, None, noise).x)
        l = _as(x, self._at([float(s.lam)]).l[0])
        now = (s, (1 - l) * (x / s.alpha) - prediction.x0)
        before: Tensor | None = memory[0] if memory else None
        history: tuple[tuple[Level, Tensor], ...] = memory[1] if memory else ()
        if self.start is not None and len(history) < self.points - 1:
            found = self.start.step(Answered(model, x, s, prediction), x, s, t, None, noise).x
            return Step(found, memory=(None, (now, *history)[: self.points]))
        if self.correct and before is not None:
            x = self._moved(before, next(iter(history))[0], s, [now, *history])
        history = (now, *history)[: self.points]
        return Step(self._moved(x, s, t, history), memory=(x, history))

    def _moved(self, x: Tensor, s: Level, t: Level, points) -> Tensor:
        """From x at s to t, with the polynomial through the points (level, f), of which the newest may lie at t."""
        start, h = float(s.lam), float(t.lam - s.lam)
        along = self._integrals(start, h)
        places = [float(at.lam - s.lam) / h for at, _ in points]
        share = along.weights * torch.exp(along.l + along.s - along.l_end)
        y = _as(x, torch.exp(-along.l_end)) * (x / s.alpha) - _as(x, (share * along.b).sum(0))
        for j, (place, (at, f)) in enumerate(zip(places, points, strict=True)):
            others = [other for i, other in enumerate(places) if i != j]
            basis = np.prod([(along.places - other) / (place - other) for other in others], 0)
            weight = (share * torch.as_tensor(basis, dtype=torch.float64).reshape(-1, 1)).sum(0)
            if at is not s:
                back = self._integrals(start, float(at.lam - s.lam))
                f = _as(x, torch.exp(-back.s_end)) * f - _as(x, back.b_end)
            y = y - _as(x, weight) * f
        return t.alpha * y

    def _at(self, lams: list[float]) -> Coefficients:
        return self.statistics(torch.tensor(lams, dtype=torch.float64))

    def _integrals(self, start: float, h: float) -> "_Integrals":
        """L, S and B from lambda = start at the nodes of a composite Gauss rule up to start + h, and at its end.

        h: of either sign.
        """
        panels = max(1, math.ceil(abs(h) / PANEL))
        width = h / panels
        nodes, weights = rule(NODES)
        inside = torch.cat([nodes + i for i in range(panels)])
        l, s, b = (value.reshape(panels, NODES, -1) for value in self.statistics(start + width * inside))
        (to_l, l_end), (to_s, s_end) = _running(l, width), _running(s, width)
        to_b, b_end = _running(torch.exp(-to_s) * b, width)
        to_l, to_s, to_b = (value.flatten(0, 1) for value in (to_l, to_s, to_b))
        every = (width * weights).repeat(panels).unsqueeze(-1)
        return _Integrals((inside / panels).numpy(), every, to_l, to_s, to_b, l_end, s_end, b_end)


class _Integrals(NamedTuple):
    """places: nodes as shares of the step, (n,); weights: (n, 1); l, s, b: L, S, B there, (n, dim), and at the end."""

    places: np.ndarray
    weights: Tensor
    l: Tensor
    s: Tensor
    b: Tensor
    l_end: Tensor
    s_end: Tensor
    b_end: Tensor


def _running(values: Tensor, width: float) -> tuple[Tensor, Tensor]:
    """Integrals from the first panel's beginning to every node, (panels, nodes, dim), and over all panels, (dim,)."""
    _, weights = rule(NODES)
    whole = width * (weights.unsqueeze(-1) * values).sum(1)
    within = width * (_to_integrals() @ values)
    return within + (whole.cumsum(0) - whole).unsqueeze(1), whole.sum(0)


@cache
def _to_integrals() -> Tensor:
    """The matrix that takes values at the nodes of ``rule(NODES)`` to the integrals from 0 to each node.

    Of the interpolating polynomial: int_0^x P_k(2u - 1) du = (P_{k+1} - P_{k-1})(2x - 1) / (4k + 2), and x for k = 0.
    """
    places, _ = rule(NODES)
    values = np.polynomial.legendre.legvander(2 * places.numpy() - 1, NODES)
    degrees = np.arange(1, NODES)
    higher = (values[:, 2:] - values[:, :-2]) / (4 * degrees + 2)
    return torch.from_numpy(np.concatenate([places.numpy()[:, None], higher], 1)) @ to_coefficients(NODES)


def _as(x: Tensor, value: Tensor) -> Tensor:
    """A coefficient a coordinate, in the dtype and on the device of the states x (..., dim)."""
    if len(value) not in (1, x.shape[-1]):
        raise ValueError(f"statistics must have as many coordinates as the states; got {len(value)} and {x.shape[-1]}.")
    return cast(Tensor, value.to(x))
