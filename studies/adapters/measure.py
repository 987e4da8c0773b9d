"""What is measured on a foreign sampler: order along paths, order in law, the point mass, all against exact answers.

A sampler is a function ``trace(denoiser, y, ks, noise=...) -> Trace``. States are read as y = x / alpha, in which the
probability flow, dy/dk = (y - D(y, k)) / k with k = sigma / alpha, is the same for every family.
"""

import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from theory.convergence import LAM_END, LAM_START, PathReference, path_reference
from theory.estimate import Estimate
from theory.process import VE, VPLinear
from theory.reference import flow
from theory.slope import observed_order
from toy_distributions import LAWS, GaussianMixture
from toy_distributions.base import Distribution

Denoiser = Callable[[Tensor, float, float], Tensor]
"""(x, alpha, sigma) -> E[x0 | alpha x0 + sigma eps = x]."""

LAW = "mixture_2d"
"""Of the path errors: an anisotropic mixture in the plane, far from linear at the levels of the runs."""

MEAN, VARIANCE = 0.7, 0.3
"""Of the Gaussian of the errors in law."""

STEPS = (18, 36, 72, 144, 288)
"""Multiples of 6: whole blocks of two and of three steps, and whole periods of the rough grid."""


class Trace(NamedTuple):
    """A run: its states y = x / alpha at the levels k (stages left out), what it returned, and its model calls."""

    k: list[float]
    y: list[Tensor]
    end: Tensor
    evaluations: int


class Noise(Protocol):
    """A standard normal of this shape; interval: (k, k_next) for an increment of a Brownian path in k, scaled to 1."""

    def __call__(self, shape: torch.Size, interval: tuple[float, float] | None) -> Tensor: ...


class Sampler(Protocol):
    def __call__(
        self, denoiser: Denoiser, y: Tensor, ks: Sequence[float], *, noise: Noise | None = None, through: bool = False
    ) -> Trace: ...


def levels(kind: str, steps: int) -> list[float]:
    """k = e^{-lambda} at ``steps`` + 1 levels from lambda = LAM_START up to LAM_END.

    uniform: equal steps in lambda. time: equal steps in the time of VPLinear, which is the schedule "linear" of
    diffusers' classes refined by more training steps. rough: steps in the ratio 1 : 2 by turns, which no smooth map of
    a uniform grid is: it tells a method with the right ratios from one that assumes equal steps. graded: uniform but
    for two first steps of size h^2 and h^{4/3}, whose errors are below those of the rest up to order 4: an accurate
    start for a multistep method that starts with lower orders.
    """
    h = (LAM_END - LAM_START) / steps
    match kind:
        case "uniform":
            widths = [h] * steps
        case "rough":
            widths = [h * (1 + i % 2) for i in range(steps)]
        case "time":
            process = VPLinear()
            first, last = process.time_at(LAM_START), process.time_at(LAM_END)
            times = [first + (last - first) * i / steps for i in range(steps + 1)]
            lams = [float(process.level(t).lam) for t in times]
            widths = [b - a for a, b in pairwise(lams)]
        case "graded":
            first = [h * h / 4, h ** (4 / 3) / 2]
            rest = (LAM_END - LAM_START - sum(first)) / (steps - 2)
            widths = [*first, *([rest] * (steps - 2))]
        case _:
            raise ValueError(f"kind must be 'uniform', 'time', 'rough' or 'graded'; got {kind!r}.")
    scale = (LAM_END - LAM_START) / sum(widths)
    lams = [LAM_START]
    for width in widths:
        lams.append(lams[-1] + scale * width)
    return [*(math.exp(-lam) for lam in lams[:-1]), math.exp(-LAM_END)]


@cache
def _law() -> Distribution:
    return LAWS[LAW]()


@cache
def _reference() -> PathReference:
    return path_reference(_law(), VE())


def denoiser(law: Distribution) -> Denoiser:
    return lambda x, alpha, sigma: law.posterior_mean(x.double(), alpha, sigma)


def _carried(law: Distribution, y: Tensor, k: float, k_to: float) -> Tensor:
    """y moved along the flow over a gap of rounding size: the error is the square of it."""
    return y + (k_to - k) / k * (y - law.posterior_mean(y, 1.0, k))


def path_error(sampler: Sampler, kind: str, steps: int, *, adaptive: bool = False) -> tuple[float, float]:
    """(largest step in lambda, root mean square distance in y to the exact flow at the run's last level).

    The last level is the one before the step to sigma = 0, which is of first order in every sampler. adaptive: the
    mean step in place of the largest, for a run that chooses its steps: as its work counts them.
    """
    law, reference, ks = _law(), _reference(), levels(kind, steps)
    run = sampler(denoiser(law), reference.start, ks)
    begin = run.k[0]
    for got, wanted in ((begin, ks[0]), (run.k[-1], ks[-1])):
        if abs(got / wanted - 1) > 1e-4:
            raise ValueError(
                f"the run must go from k={ks[0]:.6g} to k={ks[-1]:.6g}; it went {begin:.6g} to {run.k[-1]:.6g}."
            )
    # float32 tables are off by about 1e-7: the start was given at ks[0], so its error is that of another trajectory
    shift = _carried(law, reference.end, ks[-1], run.k[-1])
    widths = [math.log(a / b) for a, b in pairwise(run.k)]
    h = sum(widths) / len(widths) if adaptive else max(widths)
    return h, ((run.y[-1] - shift) ** 2).sum(-1).mean().sqrt().item()


def path_order(
    sampler: Sampler, kind: str, *, floor: float = 1e-13, steps: Sequence[int] = STEPS, adaptive: bool = False
) -> tuple[Estimate, float]:
    """The observed order along paths, and the error with the most steps."""
    rows = [path_error(sampler, kind, n, adaptive=adaptive) for n in steps]
    return observed_order(*zip(*rows, strict=True), floor=floor), rows[-1][1]


def end_error(sampler: Sampler, steps: int) -> float:
    """Root mean square distance of what a whole run returns to the exact flow at sigma = 0: the floor of its end."""
    law, reference, ks = _law(), _reference(), levels("uniform", steps)
    run = sampler(denoiser(law), reference.start, ks, through=True)
    return ((run.end - _clean()) ** 2).sum(-1).mean().sqrt().item()


@cache
def _clean() -> Tensor:
    """Where the trajectories of the reference end: the flow to k = 1e-6, within 1e-6 of its end."""
    process = VE(sigma_min=1e-7)
    s, t = process.level_at(LAM_END), process.level_at(-math.log(1e-6))
    return flow(_law(), _reference().end, s, t)


def timestep_gap(by_sigma: Sampler, by_timestep: Sampler, steps: int) -> float:
    """Root mean square distance, at the last level, between a run with the model at the levels the sampler believes
    and one with the model at the levels that a network infers from its timesteps."""
    law, reference, ks = _law(), _reference(), levels("uniform", steps)
    one, two = (sampler(denoiser(law), reference.start, ks) for sampler in (by_sigma, by_timestep))
    return ((one.y[-1] - two.y[-1]) ** 2).sum(-1).mean().sqrt().item()


class Dry:
    """A source of zeros that remembers what it was asked for."""

    def __init__(self):
        self.asked: list[tuple[float, float] | None] = []

    def __call__(self, shape: torch.Size, interval: tuple[float, float] | None) -> Tensor:
        self.asked.append(interval)
        return torch.zeros(shape, dtype=torch.float64)


class Probe:
    """Unit vectors: row 2 + j of the batch has the j-th independent normal at 1 and every other at 0.

    Independent draws are a normal each. Increments of a Brownian path are sums over the intervals between all ends
    that the run asked for, a normal each, times the root of the share of the interval.
    """

    def __init__(self, asked: Sequence[tuple[float, float] | None]):
        ends = sorted({end for interval in asked if interval for end in interval})
        self._ends, self._draws = ends, len(asked)
        self.normals = sum(interval is None for interval in asked) + max(len(ends) - 1, 0)
        self._next = max(len(ends) - 1, 0)

    def __call__(self, shape: torch.Size, interval: tuple[float, float] | None) -> Tensor:
        z = torch.zeros(shape, dtype=torch.float64)
        if interval is None:
            z[2 + self._next] = 1.0
            self._next += 1
            return z
        low, high = sorted(interval)
        for j, (a, b) in enumerate(pairwise(self._ends)):
            if low <= a and b <= high:
                z[2 + j] = math.sqrt((b - a) / (high - low))
        return z


def law_error(sampler: Sampler, kind: str, steps: int) -> tuple[float, float]:
    """(largest step, error of mean or standard deviation in y, whichever is larger), exactly, on Gaussian data.

    There a run is affine in its start and its normals, so one batch of unit vectors shows it whole.
    """
    law = GaussianMixture.gaussian(torch.tensor([MEAN]).double(), torch.tensor([[VARIANCE]]).double())
    ks, dry = levels(kind, steps), Dry()
    run = sampler(denoiser(law), torch.zeros(3, 1, dtype=torch.float64), ks, noise=dry)
    probe = Probe(dry.asked)
    y = torch.zeros(2 + probe.normals, 1, dtype=torch.float64)
    y[1] = 1.0
    run = sampler(denoiser(law), y, ks, noise=probe)
    out = run.y[-1][:, 0]
    offset, slopes = out[0], out[1:] - out[0]
    mean = slopes[0] * MEAN + offset
    variance = slopes[0] ** 2 * (VARIANCE + ks[0] ** 2) + (slopes[1:] ** 2).sum()
    exact = math.sqrt(VARIANCE + run.k[-1] ** 2)
    h = max(math.log(a / b) for a, b in pairwise(run.k))
    return h, max(abs(mean.item() - MEAN), abs(variance.sqrt().item() - exact))


def law_order(
    sampler: Sampler, kind: str, *, floor: float = 1e-13, steps: Sequence[int] = STEPS
) -> tuple[Estimate, float]:
    """The observed weak order on Gaussian data, and the error with the most steps."""
    rows = [law_error(sampler, kind, n) for n in steps]
    return observed_order(*zip(*rows, strict=True), floor=floor), rows[-1][1]


def point_mass(sampler: Sampler, kind: str, steps: int, **more: Any) -> float:
    """How far the noise that the states imply moves, on the point mass at 1: max over states of |eps_i - eps_0|.

    Exactly 0 for every deterministic method whose levels are the levels of its states, at any step: there the noise
    and the data predictions are constant along the run. A last sample at sigma = 0 would be blind to the levels.
    """
    point = torch.ones(1, 1, dtype=torch.float64)
    law = GaussianMixture.dirac(point[0])
    start = torch.tensor([[-1.0], [0.3], [2.0]], dtype=torch.float64)
    ks = levels(kind, steps)
    run = sampler(denoiser(law), 1.0 + ks[0] * start, ks, **more)
    implied = [(y - 1.0) / k for k, y in zip(run.k, run.y, strict=True)]
    return max((e - start).abs().max().item() for e in implied)
