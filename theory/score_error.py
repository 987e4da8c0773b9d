"""What a score error of a known L2 size does to the law: the SDE is bounded by it, the probability-flow ODE is not."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from theory.estimate import Estimate
from theory.line_diffusion import LineDiffusion
from theory.process import NoiseProcess
from theory.score_matching import LineDensity, fisher_divergence
from toy_distributions.mixture import GaussianMixture


def fisher_integral(
    p: GaussianMixture, q: GaussianMixture, process: NoiseProcess, *, start: float = 0.0, end: float | None = None
) -> Estimate:
    r"""(1/2) int_start^end g^2 E_{p_t} |score p_t - score q_t|^2 dt for two 1-D mixtures under one noise process.

    It equals KL(p_start || q_start) - KL(p_end || q_end): de Bruijn's identity for a pair of laws. Times in t, end
    defaults to t_max. Gauss-Legendre with 64 nodes; the error compares 48 nodes.
    Source: song2021maximum, theorem 1 and its proof.
    """
    end = process.t_max if end is None else end

    def rule(nodes: int) -> tuple[float, float]:
        at, weights = np.polynomial.legendre.leggauss(nodes)
        total = error = 0.0
        for u, weight in zip(at.tolist(), weights.tolist(), strict=True):
            level = process.level(start + 0.5 * (1 + u) * (end - start))
            fisher = fisher_divergence(*(law.noised(float(level.alpha), float(level.sigma)) for law in (p, q)))
            factor = 0.25 * weight * (end - start) * float(process.diffusion_squared(level.t))
            total, error = total + factor * fisher.value, error + factor * fisher.error
        return total, error

    (fine, error), (coarse, _) = rule(64), rule(48)
    return Estimate(fine, abs(fine - coarse) + error, "quadrature")


@dataclass(frozen=True)
class Ripple:
    r"""A fast small ripple in the score of N(0, 1): s_hat - s = 2 size sin(k x), with dx = -x/2 dt + dw for a time 1.

    The true law stays N(0, 1). The true ODE stands still; the rippled one moves at the velocity size sin(k x), with the
    flow map tan(k x_1 / 2) = e^{k size} tan(k x_0 / 2), which piles the mass up on points 2 pi / k apart. The rippled
    reverse SDE is dx = (-x/2 + 2 size sin(k x)) dt + dw, whose noise washes the ripple out. For both

        (1/2) int g^2 E |s_hat - s|^2 dt = size^2 (1 - e^{-2 k^2}).

    k: the ripple's wave number; size > 0.
    """

    k: float = 40.0
    size: float = 0.1

    @property
    def bound(self) -> float:
        """(1/2) int g^2 E |s_hat - s|^2 dt."""
        return -(self.size**2) * math.expm1(-2 * self.k**2)

    def ode_kl(self) -> Estimate:
        """KL(N(0, 1) || law of the rippled ODE), both flows followed exactly."""
        c = math.exp(-self.k * self.size)
        panels = math.ceil(18 * self.k / math.sqrt(c))  # the log density of the image peaks over a width c / k
        line = LineDensity(lambda x: -0.5 * x[:, 0] ** 2 - 0.5 * math.log(2 * math.pi), -9.0, 9.0, panels)
        return line.mean_of(lambda x: self._log_ratio(x[:, 0], c))

    def _log_ratio(self, x: Tensor, c: float) -> Tensor:
        """log of N(0, 1) over its image at x: with y the preimage, (y^2 - x^2) / 2 - log dy/dx."""
        half = 0.5 * self.k * x
        turns = math.pi * torch.round(half / math.pi)
        y = 2 / self.k * (torch.atan(c * torch.tan(half - turns)) + turns)
        slope = c / (torch.cos(half) ** 2 + (c * torch.sin(half)) ** 2)
        return 0.5 * (y**2 - x**2) - slope.log()

    def sde_kl(self, *, cells: int = 4000, steps: int = 100) -> Estimate:
        """KL(N(0, 1) || law of the rippled reverse SDE), by finite volumes; the error compares a coarser grid."""
        fine, coarse = self._sde_kl(cells, steps), self._sde_kl(cells // 2, steps // 2)
        return Estimate(fine, abs(fine - coarse), "finite volumes")

    def _sde_kl(self, cells: int, steps: int) -> float:
        def log_density(x: Tensor) -> Tensor:
            return -0.5 * x**2 - 4 * self.size / self.k * torch.cos(self.k * x)

        line = LineDiffusion(log_density, -8.0, 8.0, cells=cells, rate=0.5)
        p = torch.exp(-0.5 * line.x**2)
        p = p / (p.sum() * line.width)
        q = line.evolved(p, 1.0, steps=steps)
        return (p * (p / q).log()).sum().item() * line.width
