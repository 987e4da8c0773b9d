"""Models: maps from (state, level) to a Prediction. The only door between laws or networks and samplers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from theory.prediction import Kind, Prediction
from theory.process import Level, NoiseProcess
from toy_distributions.base import Distribution


class Model(ABC):
    """``model(x, at)`` predicts what was noised into the state x (..., dim) at the level ``at``."""

    process: NoiseProcess

    @abstractmethod
    def __call__(self, x: Tensor, at: Level) -> Prediction: ...


@dataclass(frozen=True)
class Exact(Model):
    """The perfect denoiser of a law: predicts E[x_0 | x_t = x] in closed form."""

    law: Distribution
    process: NoiseProcess

    def __call__(self, x: Tensor, at: Level) -> Prediction:
        return Prediction(Kind.X0, self.law.posterior_mean(x, at.alpha, at.sigma), x, at)


@dataclass(eq=False)
class Counted(Model):
    """A model that counts its own calls: ``evaluations`` is the NFE, whatever the solver believes it spends."""

    inner: Model
    evaluations: int = 0

    @property
    def process(self) -> NoiseProcess:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.process

    def __call__(self, x: Tensor, at: Level) -> Prediction:
        self.evaluations += 1
        return self.inner(x, at)


@dataclass(frozen=True, eq=False)
class Answered(Model):
    """A model with one answer known already, so that a method that starts another shares its first evaluation."""

    inner: Model
    x: Tensor
    at: Level
    prediction: Prediction

    @property
    def process(self) -> NoiseProcess:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.process

    def __call__(self, x: Tensor, at: Level) -> Prediction:
        return self.prediction if x is self.x and at is self.at else self.inner(x, at)


@dataclass(frozen=True)
class Perturbed(Model):
    r"""A model whose noise prediction is off by a vector of known length: |eps_hat - eps| = size at every state.

    So the score error is exactly size / sigma, and E |s_hat - s|^2 = size^2 / sigma^2 under every law. The direction
    is fixed, drawn from ``seed``; the perturbed model of a Gaussian stays affine.
    """

    inner: Model
    size: float
    seed: int = 0

    @property
    def process(self) -> NoiseProcess:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.process

    def __call__(self, x: Tensor, at: Level) -> Prediction:
        direction = torch.randn(
            x.shape[-1], generator=torch.Generator().manual_seed(self.seed), dtype=torch.float64
        ).to(x)
        eps = self.inner(x, at).eps + (self.size / direction.norm()) * direction
        return Prediction(Kind.EPS, eps, x, at)
