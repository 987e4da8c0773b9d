"""Splitting methods for guided sampling: the denoiser's flow by one solver, the guidance's in steps of its own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from theory.prediction import Kind
from theory.process import Level, Scalar
from theory.solvers.base import Facts, Solver, Step
from theory.solvers.ddim import DDIM

Guidance = Callable[[Tensor, Level], Tensor]
"""What guidance adds to the noise prediction at (x, level): -scale sigma grad log p_t(y|x), of the shape of x."""


@dataclass(frozen=True)
class Split(Solver):
    r"""y = x / alpha, dy/dk = eps(y, k) + g(y, k), g the guidance: the two terms in turn.

        scheme="lie":     all of g by one step at s, then eps by ``inner`` from s to t          (LTSP)
        scheme="strang":  half of g at s, then eps by ``inner``, then half of g at t            (STSP)

    A step of g is Euler's, y + dk g, or with substeps="midpoint" the explicit midpoint rule's, at twice the calls of
    the guidance. The model is called as ``inner`` calls it.

    Order 1 with Lie's scheme and with Euler's steps. Order 2 for Strang's scheme with midpoint steps and a one-step
    inner solver of order >= 2. A multistep inner solver, PLMS as in the paper, has order 1 here: its history runs along
    the guided path, whose d eps / dk is not the one along the flow of eps alone, and each step errs by O(h^2).

    guidance: a function (x, level) -> what is added to eps, such as -scale sigma grad log p_t(y|x).
    full: True takes the whole of g in either half of Strang's scheme: guidance twice, a control that does not converge.
    Source: wizadwongsa2023accelerating, section 3.3.
    """

    guidance: Guidance
    inner: Solver = field(default_factory=DDIM)
    scheme: Literal["lie", "strang"] = "strang"
    substeps: Literal["euler", "midpoint"] = "euler"
    full: bool = False

    def __post_init__(self):
        for name, known in (("scheme", ("lie", "strang")), ("substeps", ("euler", "midpoint"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}; got {name}={getattr(self, name)!r}.")

    @property
    def facts(self) -> Facts:
        inner = self.inner.facts
        second = self.scheme == "strang" and self.substeps == "midpoint" and not inner.multistep
        order = None if inner.order is None else min(inner.order, 2 if second else 1)
        order = None if self.full and self.scheme == "strang" else order
        return Facts(
            order=order,
            evaluations=inner.evaluations,
            reads=Kind.EPS,
            start_up=inner.start_up,
            multistep=inner.multistep,
        )

    def step(self, model, x, s, t, memory, noise) -> Step:
        change = t.k - s.k
        first = 1.0 if self.scheme == "lie" or self.full else 0.5
        x = self._pushed(x, s, first * change)
        found = self.inner.step(model, x, s, t, memory, noise)
        if self.scheme == "lie":
            return found
        return found._replace(x=self._pushed(found.x, t, first * change), error=None)

    def _pushed(self, x: Tensor, at: Level, change: Scalar) -> Tensor:
        """The flow of dy/dk = g(y, k) with k held at the level's, over ``change``."""
        slope = self.guidance(x, at)
        if self.substeps == "midpoint":
            slope = self.guidance(x + at.alpha * 0.5 * change * slope, at)
        return x + at.alpha * change * slope
