"""A blurred curve seen through noise: the integral along the curve of its speed times the Gaussian kernel."""

from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import mpmath as mp
import numpy as np

from tests.oracle.answer import Answer, Input, Question, plain
from tests.oracle.quadrature import rule


class Arc(NamedTuple):
    start: object
    end: object
    place: Callable
    """From a parameter to a list of coordinates."""
    velocity: Callable


def _segment(values) -> list[Arc]:
    d = len(values) // 2
    a, b = values[:d], values[d:]
    gap = [v - u for u, v in zip(a, b, strict=True)]
    return [Arc(mp.mpf(0), mp.mpf(1), lambda t: [u + t * g for u, g in zip(a, gap, strict=True)], lambda t: gap)]


def _ellipse(values) -> list[Arc]:
    a, b = values
    return [
        Arc(mp.mpf(0), 2 * mp.pi, lambda t: [a * mp.cos(t), b * mp.sin(t)], lambda t: [-a * mp.sin(t), b * mp.cos(t)])
    ]


def _trefoil(values) -> list[Arc]:
    s = values[0] / 3

    def place(t):
        (c1, s1), (c2, s2) = mp.cos_sin(t), mp.cos_sin(2 * t)
        return [s * (s1 + 2 * s2), s * (c1 - 2 * c2), -s * mp.sin(3 * t)]

    def velocity(t):
        (c1, s1), (c2, s2) = mp.cos_sin(t), mp.cos_sin(2 * t)
        return [s * (c1 + 4 * c2), s * (4 * s2 - s1), -3 * s * mp.cos(3 * t)]

    return [Arc(mp.mpf(0), 2 * mp.pi, place, velocity)]


def _lissajous(values) -> list[Arc]:
    """Frequencies three and two, a quarter of a turn out of phase."""
    s = values[0]
    return [
        Arc(
            mp.mpf(0),
            2 * mp.pi,
            lambda t: [s * mp.cos(3 * t), s * mp.sin(2 * t)],
            lambda t: [-3 * s * mp.sin(3 * t), 2 * s * mp.cos(2 * t)],
        )
    ]


def _swiss_roll(values) -> list[Arc]:
    s = values[0] / (mp.mpf(9) / 2 * mp.pi)

    def velocity(t):
        c, n = mp.cos_sin(t)
        return [s * (c - t * n), s * (n + t * c)]

    return [
        Arc(mp.mpf(3) / 2 * mp.pi, mp.mpf(9) / 2 * mp.pi, lambda t: [s * t * mp.cos(t), s * t * mp.sin(t)], velocity)
    ]


def _two_moons(values) -> list[Arc]:
    s, half = values[0], mp.mpf(1) / 2
    turn = lambda t: [-s * mp.sin(t), s * mp.cos(t)]
    back = lambda t: [s * mp.sin(t), -s * mp.cos(t)]
    return [
        Arc(mp.mpf(0), mp.pi, lambda t: [s * mp.cos(t), s * mp.sin(t)], turn),
        Arc(mp.mpf(0), mp.pi, lambda t: [s * (1 - mp.cos(t)), s * (half - mp.sin(t))], back),
    ]


SHAPES = {
    "segment": _segment,
    "ellipse": _ellipse,
    "trefoil": _trefoil,
    "lissajous": _lissajous,
    "swiss_roll": _swiss_roll,
    "two_moons": _two_moons,
}


def curve(
    shape: str,
    parameters: Sequence[float],
    blur: float,
    centre: Sequence[float],
    x: Sequence[float],
    alpha: float,
    sigma: float,
) -> tuple[Question, list[Input]]:
    """The question, and its inputs, for x_0 = centre + gamma(T) + blur zeta, gamma(T) uniform by arc length."""
    d, m = len(x), len(parameters)
    inputs = plain(*parameters, *centre, *x, blur, alpha, sigma)

    def question(values, digits):
        own, c, point = values[:m], values[m : m + d], values[m + d : m + 2 * d]
        tau, scale, noise = values[m + 2 * d :]
        arcs = SHAPES[shape](own)
        length = own[0] * _length(shape, digits) if m == 1 else mp.fsum(_speeds(arc, digits) for arc in arcs)
        return _integral(arcs, length, c, point, tau, scale, noise, digits)

    return question, inputs


@cache
def _length(shape: str, digits: int):
    """The length of a shape of size one."""
    return mp.fsum(_speeds(arc, digits) for arc in SHAPES[shape]([mp.mpf(1)]))


def _size(vector):
    return mp.sqrt(mp.fsum(v * v for v in vector))


FIRST = 16
"""Pieces of every arc; the speed is smooth on each."""


def _speeds(arc: Arc, digits: int):
    edges = [arc.start + (arc.end - arc.start) * i / FIRST for i in range(FIRST + 1)]
    return mp.fsum(w * _size(arc.velocity(t)) for low, high in pairwise(edges) for t, w in rule(low, high, digits))


def _integral(arcs, length, centre, x, tau, alpha, sigma, digits) -> Answer:
    d = range(len(x))
    spread = alpha**2 * tau**2 + sigma**2
    y = [x[i] - alpha * centre[i] for i in d]
    nodes = []  # exponent, weight, place
    for arc, low, high in _pieces(arcs, y, alpha, spread, 2.303 * (digits + 6)):
        for t, w in rule(low, high, digits):
            place = arc.place(t)
            away = [y[i] - alpha * place[i] for i in d]
            nodes.append((mp.fsum(v * v for v in away) / (2 * spread), w * _size(arc.velocity(t)) / length, place))
    top = min(f for f, _, _ in nodes)
    weights = [w * mp.exp(top - f) for f, w, _ in nodes]
    mass = mp.fsum(weights)
    places = [place for _, _, place in nodes]
    mean = [mp.fsum(w * p[i] for w, p in zip(weights, places, strict=True)) / mass for i in d]
    cov = [
        [mp.fsum(w * (p[i] - mean[i]) * (p[j] - mean[j]) for w, p in zip(weights, places, strict=True)) for j in d]
        for i in d
    ]
    log_prob = mp.log(mass) - top - mp.mpf(len(x)) / 2 * mp.log(2 * mp.pi * spread)
    score = [(alpha * mean[i] - y[i]) / spread for i in d]
    of_curve, of_y = sigma**2 / spread, alpha * tau**2 / spread
    within = tau**2 * sigma**2 / spread
    return Answer(
        [log_prob],
        score,
        [centre[i] + of_curve * mean[i] + of_y * y[i] for i in d],
        [(within if i == j else 0) + of_curve**2 * cov[i][j] / mass for i in d for j in d],
    )


SAMPLES = 33


def _pieces(arcs, y, alpha, spread, drop: float) -> list[tuple]:
    """Pieces of the arcs over which the exponent varies by at most 60, where it is within ``drop`` of its smallest.

    Found in ordinary precision from samples. To ``drop`` comes what a distance of the whole curve adds to a variance.
    """
    alpha, spread = float(alpha), float(spread)
    y = np.array([float(v) for v in y])
    pieces = [(arc, i / FIRST, (i + 1) / FIRST) for arc in arcs for i in range(FIRST)]
    drop += 60 + 2 * max(0.0, np.log(alpha * (1 + np.linalg.norm(y)) / np.sqrt(spread)))
    done, lowest = [], np.inf
    while pieces:
        seen = []
        for arc, a, b in pieces:
            s = np.linspace(a, b, SAMPLES)
            with mp.workdps(15):
                start, length = float(arc.start), float(arc.end - arc.start)
                place = np.array([[float(v) for v in arc.place(mp.mpf(start + length * u))] for u in s])
            f = ((y - alpha * place) ** 2).sum(-1) / (2 * spread)
            seen.append((f.min(), f.max()))
            lowest = min(lowest, f.min())
        following = []
        for (arc, a, b), (low, high) in zip(pieces, seen, strict=True):
            if low - (high - low) > lowest + drop:
                continue
            if high - low <= 60:
                done.append((arc, a, b, low))
            else:
                middle = (a + b) / 2
                following += [(arc, a, middle), (arc, middle, b)]
        pieces = following
    return [
        (arc, arc.start + (arc.end - arc.start) * mp.mpf(a), arc.start + (arc.end - arc.start) * mp.mpf(b))
        for arc, a, b, low in done
        if low <= lowest + drop + 60
    ]
