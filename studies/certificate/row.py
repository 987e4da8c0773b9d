"""What the parts of a certificate share: the row, the laws and grids to measure on, and how an order is judged."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from studies.target import Target
from theory.convergence import LAM_END, LAM_START, PathReference, path_reference
from theory.estimate import Estimate
from theory.grid import TimeGrid, alternating
from theory.models import Exact
from theory.process import VE, NoiseProcess
from theory.reference import ode_flow
from theory.slope import observed_order
from toy_distributions import LAWS as ZOO
from toy_distributions import GaussianMixture
from toy_distributions.base import Distribution

LAWS: dict[str, Distribution] = {
    "gaussian": ZOO["gaussian_1d"](),
    "mixture": ZOO["mixture_1d"](),
    "plane": GaussianMixture([0.4, 0.6], [[-1.0, 0.5], [0.6, -0.4]], [[0.3, 0.08], [0.05, 0.2]]),
}
OWN_LEVELS = "it chooses its levels itself"
LADDERS = ((20, 40, 80, 160, 320), (40, 80, 160, 320, 640), (120, 200, 340, 580, 1000))
WIDE = GaussianMixture.gaussian(0.7, 4.0)
BAND = 0.1


@dataclass(frozen=True)
class Row:
    """One fact: what is declared, what was measured, HOLDS, FAILS or OPEN, and why."""

    fact: str
    declared: str
    measured: str
    verdict: str
    reason: str = ""


def in_time(process: NoiseProcess, steps: int) -> TimeGrid:
    """Equal steps in t between the same two levels."""
    first, last = process.time_at(LAM_START), process.time_at(LAM_END)
    return TimeGrid(process, np.linspace(first, last, steps + 1).tolist())


def unequal(process: NoiseProcess, steps: int) -> TimeGrid:
    """Short and long steps in lambda by turns, 1 : 3."""
    return alternating(process, steps, start=LAM_START, end=LAM_END)


GRIDS: dict[str, Callable[[NoiseProcess, int], TimeGrid]] = {"unequal steps": unequal, "equal steps in t": in_time}


def states(law: Distribution, process: NoiseProcess, n: int) -> Tensor:
    at = process.level_at(LAM_START)
    z = law.noised(float(at.alpha), float(at.sigma))
    return z.sample(n, generator=torch.Generator().manual_seed(3))


def stochastic(target: Target) -> bool:
    return target.facts is not None and target.facts.stochastic


@lru_cache(maxsize=8)
def reference_of(law: Distribution) -> PathReference:
    """Four exact trajectories of a law, found once: most of the time of a certificate was spent on them."""
    return path_reference(law, VE(), n=4)


@lru_cache(maxsize=64)
def _reference_between(law: Distribution, lam: float, lam_end: float) -> PathReference:
    """As ``reference_of``, between two other levels, to 1e-8: levels of a sampler's own are many."""
    process = VE(sigma_min=1e-6, sigma_max=1e6)
    s, t = process.level_at(lam), process.level_at(lam_end)
    x = law.noised(float(s.alpha), float(s.sigma)).sample(4, generator=torch.Generator().manual_seed(0))
    return PathReference(x / s.alpha, ode_flow(law, x, s, t, rtol=1e-10, together=True) / t.alpha)


def reference_on(law: Distribution, grid: TimeGrid) -> PathReference:
    """The reference between the first and the last level of a grid."""
    lam, lam_end = float(grid.levels[0].lam), float(grid.levels[-1].lam)
    if abs(lam - LAM_START) < 1e-9 and abs(lam_end - LAM_END) < 1e-9:
        return reference_of(law)
    return _reference_between(law, lam, lam_end)


def error_on(target: Target, law: Distribution, grid: TimeGrid) -> float:
    """Root mean square distance of four runs to the exact flow, at the grid's last level, in x / alpha."""
    reference, first, last = reference_on(law, grid), grid.levels[0], grid.levels[-1]
    end = target.run(Exact(law, grid.process), first.alpha * reference.start, grid, keep=False).end / last.alpha
    return ((end - reference.end) ** 2).sum(-1).mean().sqrt().item()


def floor_of(target: Target) -> float:
    """Below which an error on its grids says nothing: rounding, or the reference between levels of its own."""
    return target.floor if target.any_grid else max(target.floor, 1e-8)


def order_on(target: Target, law: Distribution, grid: Callable, process: NoiseProcess, ladder) -> Estimate:
    """The observed order in h_max of the distance to the exact flow, on one ladder of steps.

    No order is found where the ends of a sampler's own levels move by more than two steps along the ladder.
    """
    made = [grid(process, steps) for steps in ladder]
    h = [each.h_max for each in made]
    for end in (0, -1):
        lams = [float(each.levels[end].lam) for each in made]
        if any(abs(lam - lams[-1]) > 2 * step + 1e-9 for lam, step in zip(lams, h, strict=True)):
            return Estimate(0.0, math.inf, "slope: its ends move with the number of steps")
    return observed_order(h, [error_on(target, law, each) for each in made], floor=floor_of(target))


def ladders_of(target: Target) -> tuple[tuple[int, ...], ...]:
    """Numbers of steps, each ladder finer than the one before.

    A sampler that picks its levels among so many training steps gets whole parts of them, so that its steps are equal
    there; which of two is the finer counts less than that there are two.
    """
    if target.reach is None:
        return LADDERS
    parts = (50, 20, 10, 5, 4), (40, 25, 8, 5, 2)
    return tuple(tuple(max(target.reach // part - 1, 2) for part in each) for each in parts)


def judged_order(
    fact: str,
    declared: float | None,
    measure: Callable[[tuple[int, ...]], Estimate],
    *,
    ladders: tuple[tuple[int, ...], ...] = LADDERS,
    slack: float = BAND,
) -> Row:
    """Finer ladders are asked only while coarser ones do not settle it; FAILS needs two that agree on less.

    slack: how far below the declared order a slope must be to count as less.
    """
    found = [measure(ladders[0])]
    if declared is None:
        text = f"{found[0].value:.2f} ± {found[0].error:.2f}"
        return Row(fact, "-", text, "OPEN", "nothing is declared")
    text = ""
    for ladder in (*ladders[1:], None):
        last = found[-1]
        text = f"{last.value:.2f} ± {last.error:.2f}"
        if last.error < BAND and last.value > declared - BAND:
            faster = last.value > declared + BAND
            return Row(fact, f"{declared:g}", text, "HOLDS", "faster than declared here" if faster else "")
        less = last.error < BAND and last.value < declared - slack
        if len(found) > 1 and less and abs(last.value - found[-2].value) < BAND:
            return Row(fact, f"{declared:g}", text, "FAILS", "the error falls more slowly than declared")
        if ladder is not None:
            found.append(measure(ladder))
    return Row(fact, f"{declared:g}", text, "OPEN", "no window of steps with one slope")
