"""A blurred sphere seen through noise: the integral over the angle between a point of the sphere and x."""

import math
from collections.abc import Sequence

import mpmath as mp

from tests.oracle.answer import Answer, Input, Question, plain
from tests.oracle.quadrature import rule


def sphere(
    radius: float, blur: float, centre: Sequence[float], x: Sequence[float], alpha: float, sigma: float
) -> tuple[Question, list[Input]]:
    """The question, and its inputs, for x_0 = centre + radius u + blur zeta in R^len(x)."""
    d = len(x)
    inputs = plain(radius, blur, *centre, *x, alpha, sigma)

    def question(values, digits):
        R, tau, *rest = values
        c, point, (a, s) = rest[:d], rest[d : 2 * d], rest[2 * d :]
        return _integral(R, tau, c, point, a, s, digits)

    return question, inputs


def _integral(R, tau, c, x, alpha, sigma, digits) -> Answer:
    d = len(x)
    y = [x[i] - alpha * c[i] for i in range(d)]
    far = mp.sqrt(mp.fsum(v * v for v in y))
    spread = alpha**2 * tau**2 + sigma**2
    along = [v / far for v in y] if far > 0 else [mp.mpf(i == 0) for i in range(d)]
    log_mass, lag, radial, across = _angle(d, alpha * R * far / spread, digits)
    # |x - alpha R u|^2 = (far - alpha R)^2 + 2 alpha R far (1 - cos)
    log_prob = log_mass - (far - alpha * R) ** 2 / (2 * spread) - mp.mpf(d) / 2 * mp.log(2 * mp.pi * spread)
    # given u and x, x_0 - c is Gaussian: its prior N(R u, tau^2), its observation y = alpha (x_0 - c) + sigma eps
    within = tau**2 * sigma**2 / spread
    of_u, of_y = R * sigma**2 / spread, alpha * tau**2 / spread
    u = [(1 - lag) * e for e in along]
    score = [(alpha * R * u[i] - y[i]) / spread for i in range(d)]
    mean = [c[i] + of_u * u[i] + of_y * y[i] for i in range(d)]
    cov = [
        (within + of_u**2 * across if i == j else 0) + of_u**2 * (radial - across) * along[i] * along[j]
        for i in range(d)
        for j in range(d)
    ]
    return Answer([log_prob], score, mean, cov)


def _angle(d: int, kappa, digits: int):
    """log E e^{kappa (cos - 1)}, and under that tilt E(1 - cos), Var cos, E sin^2 / (d - 1), for u uniform."""
    if d == 1:
        back = mp.exp(-2 * kappa)
        lag = 2 * back / (1 + back)
        return mp.log((1 + back) / 2), lag, lag * (2 - lag), mp.mpf(0)
    low, high = _bump(d, float(kappa), 2.303 * (digits + 6))
    low, high = mp.mpf(low), mp.pi if high == math.pi else mp.mpf(high)
    mass = first = second = sines = mp.mpf(0)
    for angle, weight in rule(low, high, digits):
        sine, half = mp.sin(angle), mp.sin(angle / 2)
        lag = 2 * half * half
        density = weight * mp.exp(-kappa * lag) * sine ** (d - 2)
        mass += density
        first += density * lag
        second += density * lag * lag
        sines += density * sine * sine
    area = mp.sqrt(mp.pi) * mp.gamma(mp.mpf(d - 1) / 2) / mp.gamma(mp.mpf(d) / 2)  # the integral of sin^(d-2)
    lag = first / mass
    return mp.log(mass / area), lag, second / mass - lag**2, sines / mass / (d - 1)


def _bump(d: int, kappa: float, drop: float) -> tuple[float, float]:
    """The interval of angles where the integrand is above e^-drop of its largest value, in ordinary precision."""

    power = d - 2

    def log_density(angle: float) -> float:
        sines = power * math.log(max(math.sin(angle), 1e-300)) if power else 0.0
        return sines - 2 * kappa * math.sin(angle / 2) ** 2

    # the maximum, where kappa sin^2 = power cos, so that the cosine solves kappa (1 - c^2) = power c
    half = power / 2
    peak = math.acos(min(1.0, kappa / (half + math.hypot(half, kappa)))) if power else 0.0
    top = log_density(peak)
    edges = []
    for end in (0.0, math.pi):
        inner, outer = peak, end
        if log_density(end) > top - drop:
            edges.append(end)
            continue
        for _ in range(80):
            middle = (inner + outer) / 2
            inner, outer = (middle, outer) if log_density(middle) > top - drop else (inner, middle)
        edges.append(outer)
    return edges[0], edges[1]
