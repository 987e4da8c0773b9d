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
class Thresholded(Model):
    r"""A model whose x0-prediction D is kept in a range that the data are known to have.

        static:    D <- clamp(D, -bound, bound)
        dynamic:   D <- bound clamp(D, -q, q) / q,   q = max(bound, the ``quantile`` of |D| over a sample's coordinates)

    The clipped prediction is continuous and has kinks: orders above 1 are no longer guaranteed, and the flow is not
    that of any law. quantile: None for the static one; 0.995 is usual for the dynamic one.
    Raises ValueError for a bound that is not positive and a quantile outside (0, 1].
    Source: saharia2022photorealistic, section 2.3.
    """

    inner: Model
    bound: float = 1.0
    quantile: float | None = None

    def __post_init__(self):
        if not self.bound > 0:
            raise ValueError(f"bound must be > 0; got bound={self.bound}.")
        if self.quantile is not None and not 0 < self.quantile <= 1:
            raise ValueError(f"quantile must lie in (0, 1]; got quantile={self.quantile}.")

    @property
    def process(self) -> NoiseProcess:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.process

    def __call__(self, x: Tensor, at: Level) -> Prediction:
        x0 = self.inner(x, at).x0
        if self.quantile is None:
            return Prediction(Kind.X0, x0.clamp(-self.bound, self.bound), x, at)
        sizes = torch.quantile(x0.abs().flatten(1), self.quantile, dim=1).clamp_min(self.bound)
        q = sizes.reshape(-1, *[1] * (x0.ndim - 1))
        return Prediction(Kind.X0, self.bound * torch.maximum(torch.minimum(x0, q), -q) / q, x, at)


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
