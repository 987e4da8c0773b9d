"""Stochastic solvers broken in one way each, by wrapping: what the checks must reject."""

import math
from dataclasses import dataclass

from theory.process import Level
from theory.solvers import Facts, Solver, Step


@dataclass(frozen=True)
class Mutant(Solver):
    inner: Solver

    @property
    def facts(self) -> Facts:
        return self.inner.facts


@dataclass(frozen=True)
class NoiseTwice(Mutant):
    """Adds its noise twice over, from two draws: variance 2 for 1."""

    def step(self, model, x, s, t, memory, noise) -> Step:
        return self.inner.step(model, x, s, t, memory, lambda a, b, like: noise(a, b, like) + noise(a, b, like))


@dataclass(frozen=True)
class Decay(Mutant):
    """Forgets the decay e^{-eta h} of the state."""

    eta: float = 1.0

    def step(self, model, x, s, t, memory, noise) -> Step:
        right = self.inner.step(model, x, s, t, memory, noise)
        return Step(right.x - t.sigma / s.sigma * math.expm1(-self.eta * (t.lam - s.lam)) * x, right.memory)


@dataclass(frozen=True)
class Stale(Mutant):
    """Shifts the levels of its history, and not the predictions."""

    def step(self, model, x, s, t, memory, noise) -> Step:
        found, kept, _ = self.inner.step(model, x, s, t, memory, noise)
        if memory:
            kept = ((kept[0][0], memory[0][1]), *kept[1:])
        return Step(found, kept)


@dataclass(frozen=True)
class Ratio(Mutant):
    """Takes r^power for the ratio r of the last step to this one: right on equal steps, wrong on others.

    power = -1 inverts it. Then the errors of the steps cancel in the sum, but for those of its two ends: what is wrong
    in every step has the right order on any grid.
    """

    power: float = 0.0

    def step(self, model, x, s, t, memory, noise) -> Step:
        told = memory
        if memory:
            (r, value), *older = memory
            h = t.lam - s.lam
            lam = s.lam - h * ((s.lam - r.lam) / h) ** self.power
            told = ((Level(math.nan, math.exp(lam), 1.0, math.nan, math.nan), value), *older)
        return self.inner.step(model, x, s, t, told, noise)
