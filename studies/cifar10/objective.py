"""What a network is trained to say: parameterisations, the loss of one batch, and what no network can beat."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from theory.preconditioning import EDMPreconditioning
from theory.prediction import Kind
from theory.process import EDM, Level, LinearPath, NoiseProcess, TrigonometricPath, VPLinear

PRECONDITIONING = EDMPreconditioning(sigma_data=0.5)
"""0.5 is the standard deviation of CIFAR-10's pixels in [-1, 1], rounded, as EDM has it."""

LOG_K_MEAN, LOG_K_STD = -1.2, 1.2
"""log(sigma / alpha) is drawn from this normal law in every parameterisation, so that their losses can be compared."""


@dataclass(frozen=True)
class Parameterisation:
    """A process and the reading of its pair (x_0, eps) that the network gives; kind None is EDM's preconditioned F."""

    process: NoiseProcess
    kind: Kind | None

    def draw(self, count: int, generator: torch.Generator) -> Level:
        """Levels of ``count`` images, tensors (count,) in float64."""
        log_k = LOG_K_MEAN + LOG_K_STD * torch.randn(count, generator=generator, dtype=torch.float64)
        low, high = self.process.lam_range
        return self.process.level_at((-log_k).clamp(low + 1e-3, min(high, 12.0)))

    def pair(self, x0: Tensor, eps: Tensor, at: Level) -> tuple[Tensor, Tensor, Tensor]:
        """What goes into the network, what should come out, and by what an error there is multiplied in D."""
        alpha, sigma = (torch.as_tensor(value).expand(len(x0)).to(x0)[:, None, None, None] for value in at[1:3])
        x = alpha * x0 + sigma * eps
        if self.kind is None:
            out = PRECONDITIONING.c_out(sigma)
            return PRECONDITIONING.c_in(sigma) * x, (x0 - PRECONDITIONING.c_skip(sigma) * x) / out, out
        p, q = (torch.as_tensor(part, dtype=torch.float64).expand(len(x0)) for part in self.kind.row(at))
        p, q = (part.to(x0)[:, None, None, None] for part in (p, q))
        return x, p * x0 + q * eps, sigma / (p * sigma - q * alpha)


PARAMETERISATIONS = {
    "edm": Parameterisation(EDM(), None),
    "eps": Parameterisation(VPLinear(), Kind.EPS),
    "v": Parameterisation(TrigonometricPath(), Kind.V),
    "velocity": Parameterisation(LinearPath(), Kind.VELOCITY),
}


def c_noise(at: Level) -> Tensor:
    """log(sigma / alpha) / 4: how a level is told to every network of ours."""
    return -torch.as_tensor(at.lam) / 4


BINS = torch.linspace(-4.0, 5.0, 19)
"""Edges of the bins of lambda in which losses are told."""


class Losses(NamedTuple):
    loss: Tensor
    """Mean squared error of the network's own output: what is minimised."""
    errors: Tensor
    """(n,) mean squared error of the denoiser, by image."""
    lam: Tensor
    """(n,)."""


def losses(
    network: Callable[..., Tensor], how: Parameterisation, x0: Tensor, labels: Tensor, generator: torch.Generator
) -> Losses:
    """x0: (n, 3, 32, 32) in [-1, 1]; levels and noise are drawn from the generator, on the CPU on every device."""
    at = how.draw(len(x0), generator)
    eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype).to(x0.device)
    inner, wanted, scale = how.pair(x0, eps, at)
    if x0.is_contiguous(memory_format=torch.channels_last):
        inner = inner.contiguous(memory_format=torch.channels_last)
    noise = c_noise(at).to(device=x0.device, dtype=inner.dtype)
    miss = (network(inner, noise, labels).float() - wanted) ** 2
    with torch.no_grad():
        errors = (miss * scale**2).mean((1, 2, 3))
    return Losses(miss.mean(), errors, torch.as_tensor(at.lam))


def step_seed(seed: int, step: int) -> int:
    """One seed for each step, so that a resumed run draws what the uninterrupted one would have drawn."""
    return (seed << 40) + step


def label_dropped(labels: Tensor, null: int, rate: float, generator: torch.Generator) -> Tensor:
    return torch.where(torch.rand(len(labels), generator=generator) < rate, null, labels)


def warm_stable_decay(step: int, steps: int, *, warm: int, decay: float = 0.2) -> float:
    """Factor of the learning rate: rises over ``warm`` steps, stays, and falls to zero over the last share of steps."""
    return min(1.0, (step + 1) / warm, (steps - step) / max(1.0, math.ceil(decay * steps)))
