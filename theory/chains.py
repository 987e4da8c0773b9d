"""Markov chains that hold a law still: Langevin moves (ULA, MALA), and moves of point and noise level together.

Each move is a pure function of the state and of the random numbers it is given, so that its law can be integrated
instead of sampled.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from theory.process import NoiseProcess
from toy_distributions.base import Distribution
from toy_distributions.shapes import number, points


def langevin_mean(x: Tensor, score: Tensor, step_size: float) -> Tensor:
    """x + (a/2) score, the mean of a Langevin move whose noise has variance a."""
    return x + 0.5 * step_size * score


@dataclass(frozen=True, eq=False)
class Langevin:
    r"""Langevin moves of a law:  y = x + (a/2) score(x) + sqrt(a) z,  accepted or not as Metropolis and Hastings say.

    adjusted: True is MALA, which holds the law still exactly, for any a > 0; False is ULA, which takes every y, and on
    N(m, S) has the stationary variance S / (1 - a / (4 S)).
    law: one with a density. step_size: a.

    Raises ValueError for a singular law and a step that is not positive.
    Source: roberts1996exponential, section 1.4.
    """

    law: Distribution
    step_size: float
    adjusted: bool = True

    def __post_init__(self):
        number("step_size", self.step_size, positive=True)
        if self.law.singular:
            raise ValueError(f"law must have a density, which {self.law!r} has not; give law.noised(alpha, sigma).")

    def mean(self, x: Tensor) -> Tensor:
        """Of what is proposed from x (..., dim)."""
        return langevin_mean(x, self.law.score(x), self.step_size)

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        """log of p(y) q(x | y) / (p(x) q(y | x)), (...): y is accepted with probability min(1, e^this)."""
        there, back = y - self.mean(x), x - self.mean(y)
        moved = (there.square() - back.square()).sum(-1) / (2 * self.step_size)
        return self.law.log_prob(y) - self.law.log_prob(x) + moved

    def acceptance(self, x: Tensor, y: Tensor) -> Tensor:
        """The probability (...) with which a proposal y from x is taken; 1 if not adjusted."""
        if not self.adjusted:
            return torch.ones_like(x[..., 0])
        return self.log_ratio(x, y).clamp_max(0.0).exp()

    def move(self, x: Tensor, z: Tensor, u: Tensor) -> Tensor:
        """One move of every point: z standard normal, of the shape (..., dim) of x; u uniform on [0, 1), (...)."""
        points(x, self.law.dim)
        y = self.mean(x) + self.step_size**0.5 * z
        return torch.where((u < self.acceptance(x, y)).unsqueeze(-1), y, x)


@dataclass(frozen=True, eq=False)
class LevelChain:
    r"""Denoising MCMC's chain on points and noise levels, for the joint law  p_k(x) w_k,  k = 0 .. K-1.

    x <- x + (eta/2) score(x, level k) + sqrt(eta) z,    then    k ~ p(k | x) prop. to p_k(x) w_k.

    The second is a Gibbs draw and holds the joint law still; the first is unadjusted: on N(m, v) data one move from
    the joint law leaves the variance at level k too large by eta^2 / (4 S_k), S_k = alpha_k^2 v + sigma_k^2, and it is
    stable only for eta < 4 S_k at every level. A state (x, k) is then carried to sigma = 0 by any solver that starts
    at level k.

    lams: the levels, K of them, in lambda. weights: w (K,), equal by default, ``prior`` once they sum to 1.
    step_size: eta. pick: "draw" is the
    method; "argmax" takes the likeliest level, as the authors' demonstration does, and is no Gibbs draw.

    Raises ValueError for no levels, weights of another number or sign, a step that is not positive, another pick.
    Source: kim2023denoising, section 3.
    """

    law: Distribution
    process: NoiseProcess
    lams: Sequence[float]
    step_size: float
    weights: Sequence[float] | Tensor | None = None
    pick: Literal["draw", "argmax"] = "draw"
    prior: Tensor = field(init=False)
    alphas: Tensor = field(init=False)
    sigmas: Tensor = field(init=False)
    noised: tuple[Distribution, ...] = field(init=False)

    def __post_init__(self):
        number("step_size", self.step_size, positive=True)
        levels = [self.process.level_at(lam) for lam in self.lams]
        if not levels:
            raise ValueError("lams must name at least one level; got none.")
        if self.pick not in ("draw", "argmax"):
            raise ValueError(f"pick must be 'draw' or 'argmax'; got {self.pick!r}.")
        alphas = torch.tensor([float(at.alpha) for at in levels], dtype=torch.float64)
        sigmas = torch.tensor([float(at.sigma) for at in levels], dtype=torch.float64)
        weights = torch.as_tensor(self.weights if self.weights is not None else [1.0] * len(levels)).to(alphas)
        if weights.shape != alphas.shape or not bool((weights > 0).all() & weights.isfinite().all()):
            raise ValueError(f"weights must be {len(levels)} positive numbers, one a level; got {self.weights}.")
        object.__setattr__(self, "alphas", alphas)
        object.__setattr__(self, "sigmas", sigmas)
        object.__setattr__(self, "prior", weights / weights.sum())
        object.__setattr__(self, "noised", tuple(self.law.noised(float(at.alpha), float(at.sigma)) for at in levels))

    def probabilities(self, x: Tensor) -> Tensor:
        """Of each level, given x (..., dim): shape (..., K)."""
        log_joint = torch.stack([law.log_prob(x) for law in self.noised], -1) + self.prior.to(x).log()
        if self.pick == "draw":
            return log_joint.softmax(-1)
        return torch.nn.functional.one_hot(log_joint.argmax(-1), len(self.noised)).to(x)

    def mean(self, x: Tensor, index: Tensor) -> Tensor:
        """Of the points after their move; index (...) names the level of each."""
        alpha, sigma = self.alphas.to(x)[index], self.sigmas.to(x)[index]
        denoised = self.law.posterior_mean(x, alpha, sigma)
        score = (alpha.unsqueeze(-1) * denoised - x) / sigma.square().unsqueeze(-1)
        return langevin_mean(x, score, self.step_size)

    def move(self, x: Tensor, index: Tensor, z: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Point and level after one move of each; z standard normal, (..., dim), and u uniform on [0, 1), (...)."""
        x = self.mean(x, index) + self.step_size**0.5 * z
        below = self.probabilities(x).cumsum(-1) <= u.unsqueeze(-1)
        return x, below.sum(-1).clamp_max(len(self.noised) - 1)
