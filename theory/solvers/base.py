"""What a solver is, and the one loop that runs it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, SupportsFloat

import torch
from torch import Tensor

from theory.grid import TimeGrid
from theory.models import Counted, Model
from theory.noise import Noise, no_noise
from theory.prediction import Kind
from theory.process import Level
from toy_distributions.registry import Registry


class Exactness(NamedTuple):
    """One step, once started, integrates polynomial predictions of that degree without error, and not beyond.

    kind: the prediction; variable: "lam", "k" or "t". The polynomial does not depend on x. Degree 0 is a point mass.
    """

    kind: Kind
    variable: Literal["lam", "k", "t"]
    degree: int


class Moves(NamedTuple):
    """A step to level t ends with ``number`` Langevin moves x + (a/2) score + sqrt(a) z there, a = size sigma_t^2.

    A step from a level to itself is nothing but these.

    On N(m, v) data, S = alpha^2 v + sigma^2, each multiplies the distance to the mean by 1 - a / (2 S), and the chain
    of them has the stationary law N(alpha m, S / (1 - a / (4 S))).
    """

    number: int
    size: float


@dataclass(frozen=True)
class Facts:
    """What a solver promises; a test measures every entry.

    order: exponent of the global error in h_max along deterministic trajectories; None if it has none (MCMC), and for
    stochastic solvers the order of their deterministic part. evaluations: model calls a step; start_up: those beyond
    that which the first steps of a run take, once. multistep: whether it uses what earlier steps saw. reads: the
    prediction the formula is written in. weak_order, strong_order: of the law and of the path, for stochastic solvers.
    exact: the models for which a step has no error at all. moves: the Langevin moves of a step. keeps_law: whether the
    law has no error at all where the solver in the field ``inner`` is the exact flow.
    """

    order: int | None
    evaluations: int
    stochastic: bool = False
    reads: Kind = Kind.X0
    weak_order: int | None = None
    strong_order: float | None = None
    start_up: int = 0
    multistep: bool = False
    exact: Exactness | None = None
    moves: Moves | None = None
    keeps_law: bool = False

    def cost(self, steps: int) -> int:
        """Model calls of a run of so many steps (no fewer than the start takes)."""
        return self.evaluations * steps + self.start_up


def combined(scale: SupportsFloat, x: Tensor, *terms: tuple[SupportsFloat, Tensor]) -> Tensor:
    """scale x + sum of weight times value: one new tensor, and one pass over it for each term."""
    out = float(scale) * x
    for weight, value in terms:
        out.add_(value, alpha=float(weight))
    return out


def extra(start: "Solver | None", points: int) -> int:
    """Model calls, beyond one a step, of a multistep method whose first points - 1 steps another solver takes."""
    return 0 if start is None else (points - 1) * (start.facts.evaluations - 1)


class Step(NamedTuple):
    """What a step returns: the state at t, what the next step may need to know, and an error estimate if it has one."""

    x: Tensor
    memory: Any = None
    error: Tensor | None = None


class Solver(ABC):
    """One step of a sampler, pure: the same arguments give the same Step. Solvers are frozen dataclasses."""

    @property
    @abstractmethod
    def facts(self) -> Facts: ...

    @abstractmethod
    def step(self, model: Model, x: Tensor, s: Level, t: Level, memory: Any, noise: Noise) -> Step:
        """From the state x at level s to the state at the cleaner level t; memory is the last step's, or None."""


SOLVERS: Registry[Callable[..., Solver]] = Registry("solver")


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A run: the grid, its states (one a grid time, or only the last), the end point, and the model calls it took.

    ``end`` is the last state, or the denoised last state if the run was asked to end with ``last="denoise"``.
    """

    grid: TimeGrid
    states: tuple[Tensor, ...]
    end: Tensor
    evaluations: int


def solve(
    solver: Solver,
    model: Model,
    x: Tensor,
    grid: TimeGrid,
    *,
    noise: Noise = no_noise,
    last: Literal["stop", "denoise"] = "stop",
    keep: bool = True,
) -> Trajectory:
    """Run a solver over a grid, from states x at grid.times[0].

    x: (..., dim), or any shape a network takes. noise: the source of a stochastic solver's normals. last: "stop" ends
    at the last grid level; "denoise" adds the one step to sigma = 0 that every sampler has, x_0 = D(x, t_N), at the
    cost of one evaluation. keep: whether all states are kept or the last only.

    Raises ValueError if the model and the grid disagree about the process, if x is not finite, or if the run leaves
    the finite numbers (with the step at which it did, when the states are kept).
    """
    if last not in ("stop", "denoise"):
        raise ValueError(f"last must be 'stop' or 'denoise'; got {last!r}.")
    if model.process != grid.process:
        raise ValueError(f"model and grid must share one process; got {model.process!r} and {grid.process!r}.")
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise ValueError(f"x must be a floating-point tensor of states; got {getattr(x, 'dtype', type(x).__name__)}.")
    if not bool(x.detach().isfinite().all()):
        raise ValueError("x must be finite; got states with NaN or infinity.")
    counted = Counted(model)
    states, memory = [x], None
    for s, t in zip(grid.levels, grid.levels[1:], strict=False):
        x, memory, _ = solver.step(counted, x, s, t, memory, noise)
        if keep:
            states.append(x)
        else:
            states = [x]
    end = x if last == "stop" else counted(x, grid.levels[-1]).x0
    if not bool(torch.isfinite(end.detach().sum())) and not bool(end.detach().isfinite().all()):
        bad = next((i for i, state in enumerate(states) if not bool(state.isfinite().all())), len(states))
        where = f"at step {bad} of {grid.steps}" if keep else "somewhere on the way"
        raise ValueError(f"the run must stay finite; {solver!r} left the finite numbers {where} on {grid!r}.")
    return Trajectory(grid, tuple(states), end, counted.evaluations)
