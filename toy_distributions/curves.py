"""Curves with names: segment, ellipse, trefoil, Lissajous figure, Swiss roll, two moons.

Each makes a ``Curve`` with gamma(t) as its docstring says, uniform by arc length unless a density with respect to arc
length is given, as a positive smooth function of the parameters t (a tensor of any shape); it need not be normalised.
blur: standard deviation of the Gaussian blur; centre (dim,): added to every point. All raise ValueError for a negative
blur, a centre of the wrong shape, and a density that is not positive and smooth.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from toy_distributions import shapes
from toy_distributions.curve import Curve
from toy_distributions.paths import Waves

Density = Callable[[Tensor], Tensor]

Vector = Sequence[float]


class _Arc(NamedTuple):
    """One arc of a curve: waves holds the vectors A, B and perhaps C, D of every frequency."""

    span: tuple[float, float]
    waves: Mapping[int, Sequence[Vector]]
    origin: Vector
    line: Vector | None = None


def _curve(
    name: str,
    arcs: Sequence[_Arc],
    blur: float,
    centre: Tensor | Vector | None,
    density: Density | None,
) -> Curve:
    """A curve from its arcs, moved by ``centre``."""
    dim = len(arcs[0].origin)
    place = torch.zeros(dim, dtype=torch.float64) if centre is None else shapes.floating("centre", centre).double()
    if place.shape != (dim,):
        raise ValueError(f"centre must have shape ({dim},), as the curve lies in R^{dim}; got {tuple(place.shape)}.")
    frequencies = sorted({k for arc in arcs for k in arc.waves})
    K = len(frequencies)
    table = torch.zeros(len(arcs), 2, 2 * K, dim, dtype=torch.float64)
    for i, arc in enumerate(arcs):
        for k, rows in arc.waves.items():
            at = frequencies.index(k)
            for j, row in enumerate(rows):
                table[i, j // 2, at + K * (j % 2)] = torch.tensor(row, dtype=torch.float64)
    origin, line, span = (
        torch.tensor(rows, dtype=torch.float64)
        for rows in ([a.origin for a in arcs], [a.line or [0.0] * dim for a in arcs], [a.span for a in arcs])
    )
    k, start = torch.tensor(frequencies, dtype=torch.float64), span[:, 0].clone()
    return Curve(Waves(k, origin + place, line, table, start, span[:, 1] - start, density), blur, name=name)


def Segment(
    start: Vector,
    end: Vector,
    blur: float = 0.0,
    *,
    density: Density | None = None,
) -> Curve:
    """The segment start + t (end - start), 0 <= t <= 1, in any dimension.

    Raises ValueError for ends that coincide or differ in dimension.
    """
    a, b = shapes.floating("start", start).double(), shapes.floating("end", end).double()
    if a.ndim != 1 or a.shape != b.shape or torch.equal(a, b):
        raise ValueError(f"start and end must be two different points (dim,); got {start} and {end}.")
    arc = _Arc((0.0, 1.0), {}, a.tolist(), (b - a).tolist())
    return _curve(f"segment of length {(b - a).norm().item():.6g}", [arc], blur, None, density)


def Ellipse(
    across: float = 1.0,
    up: float = 0.5,
    blur: float = 0.0,
    *,
    centre: Tensor | Vector | None = None,
    density: Density | None = None,
) -> Curve:
    """The ellipse (across cos t, up sin t), 0 <= t <= 2 pi. For a circle use ``Circle``, which needs no quadrature.

    Raises ValueError for semi-axes that are not positive.
    """
    a, b = shapes.number("across", across, positive=True), shapes.number("up", up, positive=True)
    arc = _Arc((0.0, 2 * math.pi), {1: [[a, 0.0], [0.0, b]]}, [0.0, 0.0])
    return _curve(f"ellipse with semi-axes {a:.6g} and {b:.6g}", [arc], blur, centre, density)


def Trefoil(
    size: float = 1.0,
    blur: float = 0.0,
    *,
    centre: Tensor | Vector | None = None,
    density: Density | None = None,
) -> Curve:
    """The trefoil knot size/3 (sin t + 2 sin 2t, cos t - 2 cos 2t, -sin 3t), 0 <= t <= 2 pi, in space.

    Raises ValueError for a size that is not positive.
    """
    s = shapes.number("size", size, positive=True) / 3
    waves = {
        1: [[0.0, s, 0.0], [s, 0.0, 0.0]],
        2: [[0.0, -2 * s, 0.0], [2 * s, 0.0, 0.0]],
        3: [[0.0, 0.0, 0.0], [0.0, 0.0, -s]],
    }
    arc = _Arc((0.0, 2 * math.pi), waves, [0.0, 0.0, 0.0])
    return _curve(f"trefoil knot of size {3 * s:.6g}", [arc], blur, centre, density)


def Lissajous(
    across: int = 3,
    up: int = 2,
    blur: float = 0.0,
    *,
    size: float = 1.0,
    phase: float = math.pi / 2,
    centre: Tensor | Vector | None = None,
    density: Density | None = None,
) -> Curve:
    """The Lissajous figure size (sin(across t + phase), sin(up t)), 0 <= t <= 2 pi, for two different frequencies.

    Raises ValueError for frequencies that are equal or not positive, for a size that is not positive, and for a phase
    at which the curve stops and turns (its speed vanishes).
    """
    a, b = shapes.count("across", across), shapes.count("up", up)
    s = shapes.number("size", size, positive=True)
    if a == b:
        raise ValueError(f"across and up must be two different frequencies; got {a} twice. Use Ellipse or Segment.")
    waves = {a: [[s * math.sin(phase), 0.0], [s * math.cos(phase), 0.0]], b: [[0.0, 0.0], [0.0, s]]}
    arc = _Arc((0.0, 2 * math.pi), waves, [0.0, 0.0])
    return _curve(f"Lissajous figure {a}:{b} of size {s:.6g}", [arc], blur, centre, density)


def SwissRoll(
    size: float = 1.0,
    blur: float = 0.0,
    *,
    centre: Tensor | Vector | None = None,
    density: Density | None = None,
) -> Curve:
    """The spiral size/(4.5 pi) (t cos t, t sin t), 1.5 pi <= t <= 4.5 pi, of outer radius ``size`` in the plane.

    Uniform by arc length; the Swiss roll of scikit-learn, seen from its side, is uniform in t, which here is
    density=lambda t: 1 / (1 + t**2).sqrt(). Raises ValueError for a size that is not positive.
    """
    s = shapes.number("size", size, positive=True) / (4.5 * math.pi)
    nothing = [0.0, 0.0]
    arc = _Arc((1.5 * math.pi, 4.5 * math.pi), {1: [nothing, nothing, [s, 0.0], [0.0, s]]}, nothing)
    return _curve(f"Swiss roll of radius {size:.6g}", [arc], blur, centre, density)


def TwoMoons(
    size: float = 1.0,
    blur: float = 0.0,
    *,
    centre: Tensor | Vector | None = None,
    density: Density | None = None,
) -> Curve:
    """Two half circles of radius ``size`` that reach into each other: size times (cos t, sin t) and
    (1 - cos t, 1/2 - sin t), 0 <= t <= pi, with equal weights.

    Raises ValueError for a size that is not positive.
    """
    s = shapes.number("size", size, positive=True)
    upper = _Arc((0.0, math.pi), {1: [[s, 0.0], [0.0, s]]}, [0.0, 0.0])
    lower = _Arc((0.0, math.pi), {1: [[-s, 0.0], [0.0, -s]]}, [s, s / 2])
    return _curve(f"two moons of radius {s:.6g}", [upper, lower], blur, centre, density)
