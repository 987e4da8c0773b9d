"""What a stochastic step does to a law of which everything is known: exact on a Gaussian, so nothing is sampled."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from studies.certificate.row import WIDE, Row
from studies.target import SolverTarget, Target
from theory.convergence import LAM_END, LAM_START
from theory.grid import uniform_lambda
from theory.laws import law_of
from theory.models import Exact
from theory.process import Level, NoiseProcess
from theory.reference import gaussian_flow
from theory.solvers.base import Facts, Moves, Solver, Step

EXACT = 1e-12
"""Of a law after some tens of moves, relative: some hundred roundings."""

PLACES = (LAM_START, 0.5, 1.5)


def exact_law(target: Target, process: NoiseProcess) -> Iterator[Row]:
    """The declared exact laws of Langevin moves, and of noise put around an exact flow."""
    facts = target.facts
    if facts is None or not facts.stochastic or not isinstance(target, SolverTarget):
        return
    if facts.moves is not None:
        yield _stationary(target.solver, facts.moves, process)
        yield _carried(target.solver, process)
    if facts.keeps_law:
        yield _kept(target.solver, process)


class _Unit:
    """A source of noise whose call number j is 1 in row 2 + j and 0 elsewhere."""

    def __init__(self):
        self.calls = 0

    def __call__(self, s: Level, t: Level, like: Tensor) -> Tensor:
        z = torch.zeros_like(like)
        if 2 + self.calls < len(z):
            z[2 + self.calls] = 1.0
        self.calls += 1
        return z


def affine_step(solver: Solver, process: NoiseProcess, s: Level, t: Level) -> tuple[float, float, Tensor]:
    """(offset, gain, noises) of one step on WIDE's model, x -> offset + gain x + sum_j noises[j] z_j.

    The levels may be the same one, which no grid can hold.
    """
    model, dry = Exact(WIDE, process), _Unit()
    solver.step(model, torch.zeros(1, 1, dtype=torch.float64), s, t, None, dry)
    x = torch.zeros(2 + dry.calls, 1, dtype=torch.float64)
    x[1] = 1.0
    out = solver.step(model, x, s, t, None, _Unit()).x[:, 0]
    moved = out - out[0]
    return float(out[0]), float(moved[1]), moved[2:]


def _stationary(solver: Solver, moves: Moves, process: NoiseProcess) -> Row:
    """Of a step from a level to itself: its gain, the mean it keeps, and the variance that repeating it tends to; the
    variance again from the last draws of a step between two levels.

    With r = 1 - a / (2 S) one move is x - mu -> r (x - mu) + sqrt(a) z; its variance V solves V = r^2 V + a, hence
    V = a / (1 - r^2) = S / (1 - a / (4 S)).
    After n of them from a point, the variance is V (1 - r^2n).
    """
    gaps = {"gain": 0.0, "mean": 0.0, "variance": 0.0}
    v, m = float(WIDE.cov), float(WIDE.mean)
    for lam in PLACES:
        at = process.level_at(lam)
        total, mean = float(at.alpha) ** 2 * v + float(at.sigma) ** 2, float(at.alpha) * m
        a = moves.size * float(at.sigma) ** 2
        wanted, variance = (1 - a / (2 * total)) ** moves.number, total / (1 - a / (4 * total))
        r = a / (2 * total)
        grown = -math.expm1(2 * moves.number * (math.log1p(-r) if r < 1 else math.log(r - 1)))  # 1 - (1 - r)^2n
        offset, gain, noises = affine_step(solver, process, at, at)
        last = affine_step(solver, process, process.level_at(lam - 0.3), at)[2][-moves.number :]
        gaps["gain"] = max(gaps["gain"], abs(gain - wanted))
        gaps["mean"] = max(gaps["mean"], abs(offset + gain * mean - mean) / mean)
        for each in (noises, last):
            found = float(each.square().sum()) / grown
            gaps["variance"] = max(gaps["variance"], abs(found / variance - 1))
    wrong = [name for name, gap in gaps.items() if not gap < EXACT]
    measured = ", ".join(f"{name} off by {gap:.1e}" for name, gap in gaps.items())
    declared = f"S / (1 - a / 4S), a = {moves.size:.3g} sigma^2, {moves.number} moves"
    return Row(
        "stationary law of its moves", declared, measured,
        "FAILS" if wrong else "HOLDS", f"the {' and the '.join(wrong)} of its moves are others" if wrong else "",
    )  # fmt: skip


def _carried(solver: Solver, process: NoiseProcess) -> Row:
    """Between levels the mean must go along: what a step h misses of it must vanish faster than h."""
    s, m = process.level_at(0.5), float(WIDE.mean)
    rates = []
    for h in (1e-3, 1e-5):
        t = process.level_at(0.5 + h)
        offset, gain, _ = affine_step(solver, process, s, t)
        rates.append(abs(offset + gain * float(s.alpha) * m - float(t.alpha) * m) / h)
    measured = f"{rates[0]:.1e} and {rates[1]:.1e} a step, over h"
    if rates[1] < max(0.1 * rates[0], 1e-9):
        return Row("mean carried between levels", "yes", measured, "HOLDS")
    if rates[1] > 1e-3 and rates[1] > 0.8 * rates[0]:
        return Row("mean carried between levels", "yes", measured, "FAILS", "it is left behind by an amount of order h")
    return Row("mean carried between levels", "yes", measured, "OPEN", "neither of order h nor less")


@dataclass(frozen=True)
class GaussianFlow(Solver):
    """The exact flow of WIDE as a solver, with the facts of the one it stands for."""

    stands_for: Facts

    @property
    def facts(self) -> Facts:
        return self.stands_for

    def step(self, model, x, s, t, memory, noise) -> Step:
        return Step(gaussian_flow(WIDE, x, s, t))


def _kept(solver: Any, process: NoiseProcess) -> Row:
    """The law of a run whose inner solver is the exact flow, against the true one."""
    fact = "law kept around an exact inner flow"
    inner = getattr(solver, "inner", None)
    if not isinstance(inner, Solver):
        return Row(fact, "yes", "-", "OPEN", "it has no solver in a field inner to put the flow in")
    started = replace(cast(Any, solver), inner=GaussianFlow(inner.facts))
    grid = uniform_lambda(process, 12, start=LAM_START, end=LAM_END)
    end = grid.levels[-1]
    found, true = law_of(started, WIDE, process, grid), WIDE.noised(float(end.alpha), float(end.sigma))
    gaps = {
        "mean": float((found.mean - true.mean).abs() / true.mean.abs()),
        "variance": float((found.cov - true.cov).abs() / true.cov),
    }
    wrong = [name for name, gap in gaps.items() if not gap < EXACT]
    measured = ", ".join(f"{name} off by {gap:.1e}" for name, gap in gaps.items())
    why = f"the {' and the '.join(wrong)} change where the flow is exact" if wrong else ""
    return Row(fact, "yes", measured, "FAILS" if wrong else "HOLDS", why)
