"""Time grids: strictly decreasing times from noise to data, and the builders that place them."""

from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate, pairwise

import torch

from theory.process import Level, NoiseProcess
from toy_distributions.shapes import count


class TimeGrid:
    """Times t_0 > t_1 > ... > t_N of a process, with all their levels evaluated at once.

    times: strictly decreasing, within [0, t_max]. ``levels[i]`` is the Level at times[i], in Python floats.
    h_max: the largest step in lambda, the variable in which solver orders are stated; inf if the grid touches
    alpha = 0 or sigma = 0. Raises ValueError for fewer than two times and for times that do not decrease.
    """

    def __init__(self, process: NoiseProcess, times: Sequence[float] | torch.Tensor):
        times = [float(t) for t in times]
        if len(times) < 2:
            raise ValueError(f"a time grid needs at least two times; got {len(times)}.")
        for i, (s, t) in enumerate(pairwise(times)):
            if not s > t:
                raise ValueError(
                    f"a time grid runs from noise to data, so its times must decrease strictly; "
                    f"got times[{i}]={s!r}, times[{i + 1}]={t!r}."
                )
        self.process = process
        self.times = tuple(times)
        self.levels: tuple[Level, ...] = tuple(process.level(t) for t in times)

    @property
    def steps(self) -> int:
        return len(self.times) - 1

    @cached_property
    def h_max(self) -> float:
        lams = [float(at.lam) for at in self.levels]
        return max(b - a for a, b in pairwise(lams))

    def __repr__(self) -> str:
        first, last = float(self.levels[0].lam), float(self.levels[-1].lam)
        return f"TimeGrid({self.process!r}, {self.steps} steps, lambda {first:.4g} .. {last:.4g})"


def uniform_lambda(process: NoiseProcess, steps: int, *, start: float = -3.0, end: float = 3.0) -> TimeGrid:
    """``steps`` equal steps in lambda = log(alpha/sigma), from ``start`` up to ``end``, both in lambda."""
    lams = _line(steps, start, end)
    return TimeGrid(process, [process.time_at(lam) for lam in lams])


def uniform_time(process: NoiseProcess, steps: int, *, start: float | None = None, end: float = 1e-3) -> TimeGrid:
    """``steps`` equal steps in t, from ``start`` (default t_max) down to ``end``, both in t."""
    return TimeGrid(process, _line(steps, process.t_max if start is None else start, end))


def quadratic(process: NoiseProcess, steps: int, *, start: float | None = None, end: float = 1e-3) -> TimeGrid:
    """``steps`` equal steps in sqrt(t), from ``start`` (default t_max) down to ``end``, both in t.

    Source: song2020ddim, appendix D.2 (tau_i = floor(c i^2)).
    """
    roots = _line(steps, (process.t_max if start is None else start) ** 0.5, end**0.5)
    return TimeGrid(process, [root * root for root in roots])


def karras(process: NoiseProcess, steps: int, *, start: float = -3.0, end: float = 3.0, rho: float = 7.0) -> TimeGrid:
    """``steps`` equal steps in k^(1/rho), k = sigma/alpha = e^-lambda, from lambda ``start`` up to lambda ``end``.

    rho -> inf is uniform in lambda, rho = 1 uniform in k. Source: karras2022edm, eq. 5.
    """
    if not rho > 0:
        raise ValueError(f"rho must be > 0; got rho={rho}.")
    lam0, lam1 = torch.tensor([start, end], dtype=torch.float64)
    roots = _line(steps, torch.exp(-lam0 / rho).item(), torch.exp(-lam1 / rho).item())
    lams = (-rho * torch.tensor(roots, dtype=torch.float64).log()).tolist()
    return TimeGrid(process, [process.time_at(lam) for lam in lams])


def log_snr_power(
    process: NoiseProcess, steps: int, *, start: float = -3.0, end: float = 3.0, power: float = 2.0
) -> TimeGrid:
    """lambda_i = end + (start - end) (1 - i / steps)^power: equal steps in a root of the way in lambda still to go.

    power = 1 is uniform in lambda; above 1 the steps shrink towards the data, below it towards the noise.
    """
    if not power > 0:
        raise ValueError(f"power must be > 0; got power={power}.")
    steps = count("steps", steps)
    lams = [end + (start - end) * (1 - i / steps) ** power for i in range(steps)]
    return TimeGrid(process, [process.time_at(lam) for lam in [*lams, end]])


def alternating(
    process: NoiseProcess, steps: int, *, start: float = -3.0, end: float = 3.0, ratio: float = 3.0
) -> TimeGrid:
    """Steps in lambda that are short and long by turns, 1 : ``ratio``: what formulas for equal steps cannot stand."""
    if not ratio > 0:
        raise ValueError(f"ratio must be > 0; got ratio={ratio}.")
    sizes = [ratio if i % 2 else 1.0 for i in range(count("steps", steps))]
    ends = [0.0, *accumulate(sizes)]
    return TimeGrid(process, [process.time_at(start + (end - start) * place / ends[-1]) for place in ends])


GRIDS = {
    "uniform_lambda": uniform_lambda,
    "uniform_time": uniform_time,
    "quadratic": quadratic,
    "karras": karras,
    "log_snr_power": log_snr_power,
    "alternating": alternating,
}


def _line(steps: int, start: float, end: float) -> list[float]:
    steps = count("steps", steps)
    line = [start + (end - start) * i / steps for i in range(steps)]
    return [*line, end]  # the ends exactly as asked for
