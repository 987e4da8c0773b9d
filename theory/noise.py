"""Noise sources: ``noise(s, t, like)`` is a standard normal for the interval from level s to level t, shaped as like.

A source is what makes a stochastic run reproducible in the sense an experiment needs: by seed, by row, or by path.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from theory.grid import TimeGrid
from theory.process import Level


class Noise(Protocol):
    def __call__(self, s: Level, t: Level, like: Tensor) -> Tensor: ...


def no_noise(s: Level, t: Level, like: Tensor) -> Tensor:
    """The source of deterministic runs: a solver that asks it for noise is told to name a real one."""
    raise ValueError(
        "this solver draws noise, and noise=no_noise has none; pass noise=Independent(seed=0), for example."
    )


class Independent:
    """Fresh normals for every call, from one seed. The rows of a batch share the stream."""

    def __init__(self, seed: int):
        self._seed = int(seed)
        self._generators: dict[torch.device, torch.Generator] = {}

    def __call__(self, s: Level, t: Level, like: Tensor) -> Tensor:
        generator = self._generators.get(like.device)
        if generator is None:
            generator = torch.Generator(device=like.device).manual_seed(self._seed)
            self._generators[like.device] = generator
        return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=generator)


class PerRow:
    """One seed a row: a row's noise does not depend on which rows share its batch, nor on the device.

    seeds: one integer for each row of the first axis. Call number n of the source gives row i the normals that
    (seeds[i], n) determine.
    """

    def __init__(self, seeds: Sequence[int] | Tensor):
        self._seeds = torch.as_tensor(seeds, dtype=torch.int64)
        if self._seeds.ndim != 1:
            raise ValueError(f"seeds must be one integer a row, shape (n,); got shape {tuple(self._seeds.shape)}.")
        self._calls = 0

    def __call__(self, s: Level, t: Level, like: Tensor) -> Tensor:
        if like.shape[0] != len(self._seeds):
            raise ValueError(
                f"PerRow has {len(self._seeds)} seeds and the state has {like.shape[0]} rows; give one each."
            )
        z = _counter_normals(self._seeds.to(like.device), self._calls, like[0].numel())
        self._calls += 1
        return z.reshape(like.shape).to(like.dtype)


def time_clock(at: Level) -> float:
    """Brownian motion in t, as in dx = f x dt + g dw: the clock of Euler-Maruyama."""
    return float(at.t)


def snr_clock(at: Level) -> float:
    """Brownian motion in e^{2 lambda}: the clock in which exponential (DDPM, SDE-DPM-Solver++) noise is additive.

    For frozen D the reverse SDE reads d(x alpha / sigma^2) = D d(snr) + dW(snr) in snr = alpha^2 / sigma^2.
    """
    return float((at.alpha / at.sigma) ** 2)


class Brownian:
    """Increments of one Brownian path, the same path on every refinement of a grid.

    The normal for an interval is the path's increment over it divided by its standard deviation, in the clock given.
    The path is a dyadic Brownian bridge whose every node is drawn from (seed, node), so no query changes another.

    grid: its two ends delimit the path; any grid between the same ends may use it.
    Source: the virtual Brownian tree, li2020scalable, section 4.
    """

    DEPTH = 30
    """Halvings down to the leaf; inside a leaf, 1e-9 of the path's length, the path is a straight line."""

    def __init__(self, seed: int, grid: TimeGrid, clock: Callable[[Level], float] = time_clock):
        self._seed, self._clock = int(seed), clock
        self._start, self._end = clock(grid.levels[0]), clock(grid.levels[-1])
        self._brackets: list[tuple[float, float, Tensor, Tensor, int]] = []  # from the whole path down to a leaf
        self._last: tuple[float, Tensor] | None = None

    def __call__(self, s: Level, t: Level, like: Tensor) -> Tensor:
        if self._last is None or self._last[1].shape != like.shape or self._last[1].device != like.device:
            self._brackets = [(0.0, 1.0, torch.zeros_like(like), self._node(1, like), 2)]
            self._last = 0.0, self._brackets[0][2]
        first, second = self._place(s), self._place(t)
        before = self._last[1] if self._last[0] == first else self._path(first, like)
        after = self._path(second, like)
        self._last = second, after
        return (after - before) / (second - first) ** 0.5

    def _place(self, at: Level) -> float:
        place = (self._clock(at) - self._start) / (self._end - self._start)
        if not -1e-9 <= place <= 1 + 1e-9:
            raise ValueError(f"the Brownian path covers the grid it was made for; got t={at.t}, which lies outside it.")
        return min(max(place, 0.0), 1.0)

    def _path(self, place: float, like: Tensor) -> Tensor:
        while not self._brackets[-1][0] <= place <= self._brackets[-1][1]:
            self._brackets.pop()  # neighbouring queries share most of their ancestors
        low, high, at_low, at_high, node = self._brackets[-1]
        while place not in (low, high) and len(self._brackets) <= self.DEPTH:
            middle = 0.5 * (low + high)
            at_middle = 0.5 * (at_low + at_high) + 0.5 * (high - low) ** 0.5 * self._node(node, like)
            if place < middle:
                high, at_high, node = middle, at_middle, 2 * node
            else:
                low, at_low, node = middle, at_middle, 2 * node + 1
            self._brackets.append((low, high, at_low, at_high, node))
        return at_low + (place - low) / (high - low) * (at_high - at_low)

    def _node(self, node: int, like: Tensor) -> Tensor:
        rows = torch.tensor([self._seed], device=like.device)
        return _counter_normals(rows, node, like.numel()).reshape(like.shape).to(like.dtype)


def _counter_normals(seeds: Tensor, call: int, n: int) -> Tensor:
    """Standard normals (len(seeds), n) that are a function of (seed, call, column) alone, by integer mixing."""
    column = torch.arange(n, dtype=torch.int64, device=seeds.device)
    state = _mix(_mix(_mix(seeds) + call)[:, None] + column)
    uniform = ((state >> 11) & ((1 << 53) - 1)).double().add(0.5).mul(2.0**-53)
    return torch.special.ndtri(uniform)


def _mix(z: Tensor) -> Tensor:
    """The splitmix64 finaliser on int64 tensors, whose arithmetic wraps around (steele2014splittable)."""
    z = z + (-7046029254386353131)
    z = (z ^ ((z >> 30) & ((1 << 34) - 1))) * (-4658895280553007687)
    z = (z ^ ((z >> 27) & ((1 << 37) - 1))) * (-7723592293110705685)
    return z ^ ((z >> 31) & ((1 << 33) - 1))
