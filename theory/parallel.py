"""ParaDiGMS: all steps of a one-step sampler at once, by Picard iteration, instead of one after the other."""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from theory.grid import TimeGrid
from theory.models import Counted, Model
from theory.noise import Noise, no_noise
from theory.process import Level
from theory.solvers.base import Solver


@dataclass(frozen=True, eq=False)
class PicardRun:
    """What ``picard`` returns: the states at the grid's levels, the sweeps it took, and the model calls of them all.

    changes: of each sweep, the root mean square by which it moved the state it moved most.
    """

    states: tuple[Tensor, ...]
    sweeps: int
    evaluations: int
    changes: tuple[float, ...]


def picard(
    solver: Solver,
    model: Model,
    x: Tensor,
    grid: TimeGrid,
    *,
    noise: Noise = no_noise,
    tolerance: float = 0.0,
    window: int | None = None,
    shift: int = 0,
) -> PicardRun:
    r"""Solve x_{i+1} = step_i(x_i), i = 0 .. N - 1, by sweeps over a window of ``window`` steps (default all N):

        x_{i+1} <- x_w + sum_{j=w..i} [ step_j(x_j) - x_j ],      x_w the state before the window.

    All steps of a sweep read the states of the sweep before, so that their model calls may run at once. The fixed
    point is the sequential run. Each sweep makes at least one more state final: N sweeps are always enough, and the
    states are then those of ``solve`` up to rounding (the sums add N increments). The noise of every step is drawn
    once, in order, and kept: a step's noise that changed from sweep to sweep would leave nothing to converge to.

    After a sweep the window slides to the first state that it moved by more than the tolerance, in root mean square
    over all of x; so the rows of a batch wait for each other. With tolerance 0 it is the sequential run to rounding.
    shift: 0 is the method; 1 sums the increments one index off, and serves as a control.

    Raises ValueError for a multistep solver, tolerance < 0 and window < 1.
    Source: shih2023parallel, algorithm 1.
    """
    if solver.facts.multistep:
        raise ValueError(f"solver must be one of single steps; got {solver!r}.")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be >= 0; got tolerance={tolerance}.")
    width = grid.steps if window is None else window
    if width < 1:
        raise ValueError(f"window must be at least 1; got window={window}.")
    counted, steps = Counted(model), tuple(pairwise(grid.levels))
    sources = [_Kept(noise) for _ in steps]
    states, changes, first = [x] * (grid.steps + 1), [], 0
    moves: dict[int, Tensor] = {}
    while first < grid.steps:
        last = min(first + width, grid.steps)
        for i in range(first, last):
            sources[i].rewind()
            s, t = steps[i]
            moves[i] = solver.step(counted, states[i], s, t, None, sources[i]).x - states[i]
        total, gaps = states[first], []
        for i in range(first, last):
            total = total + moves[max(i - shift, 0)]
            gaps.append((total - states[i + 1]).square().mean().sqrt().item())
            states[i + 1] = total
        changes.append(max(gaps))
        # the first new state came from a final one; the next is final if that one did not move, and so on
        done = 1
        while done < len(gaps) and gaps[done - 1] <= tolerance:
            done += 1
        first += done
        for i in range(last + 1, min(first + width, grid.steps) + 1):
            states[i] = states[last]
    return PicardRun(tuple(states), len(changes), counted.evaluations, tuple(changes))


class _Kept:
    """A source that draws each of its normals once and gives them again after a rewind."""

    def __init__(self, noise: Noise):
        self._noise, self._drawn, self._next = noise, [], 0

    def rewind(self) -> None:
        self._next = 0

    def __call__(self, s: Level, t: Level, like: Tensor) -> Tensor:
        if self._next == len(self._drawn):
            self._drawn.append(self._noise(s, t, like))
        self._next += 1
        return self._drawn[self._next - 1]
