"""What the parts of a certificate share: the row, the laws and grids to measure on, and how an order is judged."""

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
from theory.slope import observed_order
from toy_distributions import LAWS as ZOO
from toy_distributions import GaussianMixture
from toy_distributions.base import Distribution

LAWS: dict[str, Distribution] = {
    "gaussian": ZOO["gaussian_1d"](),
    "mixture": ZOO["mixture_1d"](),
    "plane": GaussianMixture([0.4, 0.6], [[-1.0, 0.5], [0.6, -0.4]], [[0.3, 0.08], [0.05, 0.2]]),
}
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


def order_on(target: Target, law: Distribution, grid: Callable, process: NoiseProcess, ladder) -> Estimate:
    """The observed order in h_max of the distance to the exact flow, on one ladder of steps."""
    reference = reference_of(law)
    h, errors = [], []
    for steps in ladder:
        made = grid(process, steps)
        first, last = made.levels[0], made.levels[-1]
        end = target.run(Exact(law, process), first.alpha * reference.start, made, keep=False).end / last.alpha
        h.append(made.h_max)
        errors.append(((end - reference.end) ** 2).sum(-1).mean().sqrt().item())
    return observed_order(h, errors, floor=1e-13)


def judged_order(fact: str, declared: float | None, measure: Callable[[tuple[int, ...]], Estimate]) -> Row:
    """Finer ladders are asked only while coarser ones do not settle it; FAILS needs two that agree on less."""
    found = [measure(LADDERS[0])]
    if declared is None:
        text = f"{found[0].value:.2f} ± {found[0].error:.2f}"
        return Row(fact, "-", text, "OPEN", "nothing is declared")
    text = ""
    for ladder in (*LADDERS[1:], None):
        last = found[-1]
        text = f"{last.value:.2f} ± {last.error:.2f}"
        if last.error < BAND and last.value > declared - BAND:
            faster = last.value > declared + BAND
            return Row(fact, f"{declared:g}", text, "HOLDS", "faster than declared here" if faster else "")
        if len(found) > 1 and last.error < BAND and abs(last.value - found[-2].value) < BAND:
            return Row(fact, f"{declared:g}", text, "FAILS", "the error falls more slowly than declared")
        if ladder is not None:
            found.append(measure(ladder))
    return Row(fact, f"{declared:g}", text, "OPEN", "no window of steps with one slope")
