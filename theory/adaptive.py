"""Runs that choose their own steps in lambda: an embedded pair, its error estimate, and a controller."""

from typing import NamedTuple

import torch
from torch import Tensor

from theory.grid import TimeGrid
from theory.models import Counted, Model
from theory.noise import no_noise
from theory.solvers.base import Solver, Trajectory
from toy_distributions.shapes import number


class AdaptiveRun(NamedTuple):
    trajectory: Trajectory
    """On the grid of accepted steps; its evaluations count the rejected ones too."""
    rejected: int


def solve_adaptive(
    pair: Solver,
    model: Model,
    x: Tensor,
    *,
    start: float,
    end: float,
    rtol: float = 0.05,
    atol: float = 0.0078,
    first: float = 0.05,
    safety: float = 0.9,
    most: int = 100_000,
) -> AdaptiveRun:
    r"""Run a pair from states x at lambda = ``start`` to lambda = ``end`` with steps in lambda of its own choice.

    pair: a solver of order p whose Step.error is the difference of its result and one of order p - 1. A step h is
    accepted if

        E = max over the batch of rms( error / max(atol, rtol max(|x_low|, |x_before|)) ) <= 1,

    x_before the lower result of the last accepted step, and the next h is safety h E^{-1/p}, at most what is left. The
    higher result goes on. E is that of the lower method, so what is reached is usually better than asked.

    A sample's path depends on its batch, since the batch shares its steps. The defaults are those of DPM-Solver for
    images in [-1, 1].

    Raises ValueError for a solver without an error estimate, start >= end, tolerances that are not positive, and for
    a run that would need more than ``most`` steps.
    Source: lu2022dpm, appendix C.3 (algorithms of DPM-Solver-12 and -23).
    """
    for name, value in (("rtol", rtol), ("atol", atol), ("first", first), ("safety", safety)):
        number(name, value, positive=True)
    if not start < end:
        raise ValueError(f"start must be < end, in lambda; got start={start}, end={end}.")
    process, order = model.process, pair.facts.order
    counted, lam, h, before = Counted(model), start, first, x
    s, rejected = process.level_at(start), 0
    times, states = [float(s.t)], [x]
    for _ in range(most):
        h = min(h, end - lam)
        # the last step ends where it was asked to, exactly
        reached = end if h >= end - lam else lam + h
        t = process.level_at(reached)
        found = pair.step(counted, x, s, t, None, no_noise)
        if found.error is None or not order:
            raise ValueError(f"an adaptive run needs a solver with an error estimate, such as dpm.23; got {pair!r}.")
        low = found.x - found.error
        scale = torch.clamp_min(rtol * torch.maximum(low.abs(), before.abs()), atol)
        each = (found.error / scale).reshape(len(x), -1) if x.ndim > 1 else (found.error / scale).reshape(1, -1)
        worst = each.square().mean(-1).sqrt().max().item()
        if not worst < float("inf"):
            raise ValueError(f"the run must stay finite; {pair!r} left the finite numbers at lambda = {lam:.4g}.")
        if worst <= 1:
            x, s, lam, before = found.x, t, reached, low
            times.append(float(s.t))
            states.append(x)
            if lam == end:
                return AdaptiveRun(
                    Trajectory(TimeGrid(process, times), tuple(states), x, counted.evaluations), rejected
                )
        else:
            rejected += 1
        h = safety * h * max(worst, 1e-10) ** (-1 / order)
    raise ValueError(
        f"most must allow for the steps that the tolerances need; got most={most}, lambda={lam:.6g} reached."
    )
