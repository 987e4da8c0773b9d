"""Langevin dynamics across noise levels: annealed Langevin (NCSN) and predictor-corrector."""

import math
from dataclasses import dataclass, field

from theory.prediction import Kind
from theory.solvers.base import SOLVERS, Facts, Moves, Solver, Step
from theory.solvers.ddpm import DDPM


@SOLVERS.add("langevin.annealed")
@dataclass(frozen=True)
class AnnealedLangevin(Solver):
    r"""Annealed Langevin dynamics: at each level, ``moves`` unadjusted Langevin moves with a step prop. to sigma^2.

    At level t, with a = step sigma_t^2,   x <- x + (a/2) score(x, t) + sqrt(a) z,   ``moves`` times;
    between levels x is rescaled by alpha_t / alpha_s (nothing, for VE).

    On N(m, v) data the variance at a level tends to S / (1 - a / (4 S)), S = alpha^2 v + sigma^2: the bias does not
    vanish with more moves, so the solver has no order. NCSN has a_i = epsilon sigma_i^2 / sigma_L^2, so its step is
    epsilon / sigma_L^2 (2e-5 / 1e-4 = 0.2).
    Source: song2019ncsn, algorithm 1.
    """

    moves: int = 10
    step_size: float = 0.2

    @property
    def facts(self) -> Facts:
        moves = Moves(self.moves, self.step_size)
        return Facts(order=None, evaluations=self.moves, reads=Kind.SCORE, stochastic=True, moves=moves)

    def step(self, model, x, s, t, memory, noise) -> Step:
        a = self.step_size * t.sigma**2
        x = t.alpha / s.alpha * x
        for _ in range(self.moves):
            x = x + 0.5 * a * model(x, t).score + math.sqrt(a) * noise(s, t, x)
        return Step(x)


@SOLVERS.add("predictor_corrector")
@dataclass(frozen=True)
class PredictorCorrector(Solver):
    r"""A predictor's step to level t, then ``moves`` Langevin corrections there.

    x <- x + epsilon score(x, t) + sqrt(2 epsilon) z   with   epsilon = 2 (snr sigma_t)^2.

    The paper sets epsilon = 2 (snr |z| / |score|)^2 with norms averaged over the batch, which couples the samples;
    |z| / |score| is sigma_t where the score is that of pure noise, and that value is taken here, so the kernel is a
    Markov kernel a sample. Two Langevin conventions differ by a factor 2: here a = 2 epsilon of AnnealedLangevin.
    The corrector's bias does not vanish with the grid, so the solver has no order.
    Source: song2020score, algorithms 2-5.
    """

    predictor: Solver = field(default_factory=lambda: DDPM("beta_tilde"))
    moves: int = 1
    snr: float = 0.16

    @property
    def facts(self) -> Facts:
        inner, moves = self.predictor.facts, Moves(self.moves, 4 * self.snr**2)
        calls = inner.evaluations + self.moves
        return Facts(order=None, evaluations=calls, reads=inner.reads, stochastic=True, moves=moves)

    def step(self, model, x, s, t, memory, noise) -> Step:
        x, memory, _ = self.predictor.step(model, x, s, t, memory, noise)
        epsilon = 2 * (self.snr * t.sigma) ** 2
        for _ in range(self.moves):
            x = x + epsilon * model(x, t).score + math.sqrt(2 * epsilon) * noise(s, t, x)
        return Step(x, memory=memory)
