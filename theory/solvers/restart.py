"""Restart: at chosen levels go back up with fresh noise and come down again, several times, around any solver."""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from theory.solvers.base import SOLVERS, Facts, Solver, Step
from theory.solvers.euler_heun import Heun


class Interval(NamedTuple):
    """From the first grid level at or beyond ``cleaner`` up to ``noisier``, both in lambda, and down in ``steps``
    steps; ``repeats`` times."""

    noisier: float
    cleaner: float
    repeats: int = 2
    steps: int = 3


@SOLVERS.add("restart")
@dataclass(frozen=True)
class Restart(Solver):
    r"""An inner solver that, where it first reaches the cleaner end of an interval, restarts from its noisier end:

        y_up = y_t + noise_scale sqrt(k_up^2 - k_t^2) z,      y = x / alpha,

    then the inner solver's steps, equal in lambda, from k_up down to k_t; and again, ``repeats`` times. Intervals that
    one step reaches together are done from the noisier to the cleaner one.

    With an exact inner flow the law is kept exactly, and an error of it is contracted: on N(m, v) data, in y, one
    repeat multiplies an error of the mean by g and one of the variance by g^2, g^2 = (v + k_t^2) / (v + k_up^2). The
    inner solver's own error over the interval comes in anew with each repeat: after many, the variance is the fixed
    point of one cycle, and not the true one. As an interval's steps are fixed the whole has no order in h_max.

    noise_scale: 1 is the method; any other value does not keep the law and serves as a control.
    facts: the evaluations of all intervals are its start_up, for a grid that reaches them all.
    Raises ValueError for a multistep inner solver, an interval whose ends do not rise, and repeats or steps < 1.
    Source: xu2023restart, which spaces the steps of a cycle as EDM does.
    """

    inner: Solver = field(default_factory=Heun)
    intervals: tuple[Interval, ...] = (Interval(-0.5, 1.0),)
    noise_scale: float = 1.0

    def __post_init__(self):
        if self.inner.facts.multistep:
            raise ValueError(f"inner must be a solver of single steps; got {self.inner!r}.")
        for each in self.intervals:
            if not each.noisier < each.cleaner:
                raise ValueError(f"an interval must rise in lambda from its noisier end to its cleaner; got {each}.")
            if each.repeats < 1 or each.steps < 1:
                raise ValueError(f"an interval's repeats and steps must be at least 1; got {each}.")

    @property
    def facts(self) -> Facts:
        inner = self.inner.facts
        more = inner.evaluations * sum(each.repeats * each.steps for each in self.intervals)
        kept = self.noise_scale == 1
        return Facts(None, inner.evaluations, stochastic=True, reads=inner.reads, start_up=more, keeps_law=kept)

    def step(self, model, x, s, t, memory, noise) -> Step:
        x = self.inner.step(model, x, s, t, None, noise).x
        for each in sorted(self.intervals, key=lambda each: each.cleaner):
            if not s.lam < each.cleaner <= t.lam:
                continue
            lams = [each.noisier + (t.lam - each.noisier) * i / each.steps for i in range(each.steps)]
            levels = [*(model.process.level_at(lam) for lam in lams), t]
            up = levels[0]
            fresh = self.noise_scale * up.alpha * math.sqrt((up.k - t.k) * (up.k + t.k))
            for _ in range(each.repeats):
                x = up.alpha / t.alpha * x + fresh * noise(t, up, x)
                for a, b in pairwise(levels):
                    x = self.inner.step(model, x, a, b, None, noise).x
        return Step(x)
