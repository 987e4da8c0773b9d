"""A blurred box seen through noise: one integral over each side."""

from collections.abc import Sequence

import mpmath as mp

from tests.oracle.answer import Answer, Input, Question, plain
from tests.oracle.quadrature import rule


def box(
    low: Sequence[float], high: Sequence[float], blur: float, x: Sequence[float], alpha: float, sigma: float
) -> tuple[Question, list[Input]]:
    """The question, and its inputs, for x_0 = u + blur zeta, u uniform between low and high in R^len(x)."""
    d = len(x)
    inputs = plain(*low, *high, blur, *x, alpha, sigma)

    def question(values, digits):
        a, b, tau, point, (scale, noise) = (
            values[:d],
            values[d : 2 * d],
            values[2 * d],
            values[2 * d + 1 : -2],
            values[-2:],
        )
        sides = [_side(a[i], b[i], point[i], tau, scale, noise, digits) for i in range(d)]
        logs, score, mean, variance = zip(*sides, strict=True)
        cov = [variance[i] if i == j else mp.mpf(0) for i in range(d) for j in range(d)]
        return Answer([mp.fsum(logs)], list(score), list(mean), cov)

    return question, inputs


def _side(a, b, x, tau, alpha, sigma, digits):
    spread = alpha**2 * tau**2 + sigma**2

    def kernel(u):
        return mp.exp(-((x - alpha * u) ** 2) / (2 * spread))

    # integrate where the kernel is above 10^-(digits + 6) of its largest value on [a, b]
    nearest = min(max(x / alpha, a), b)
    distance = abs(x - alpha * nearest)
    drop = 2 * spread * mp.log(10) * (digits + 6)
    reach = drop / (distance + mp.sqrt(distance**2 + drop)) / alpha
    left, right = max(a, nearest - reach), min(b, nearest + reach)
    top = distance**2 / (2 * spread)
    mass = first = mp.mpf(0)
    nodes = []
    for u, weight in rule(left, right, digits):
        density = weight * mp.exp(top - (x - alpha * u) ** 2 / (2 * spread))
        nodes.append((u, density))
        mass += density
        first += density * u
    m = first / mass
    v = mp.fsum(density * (u - m) ** 2 for u, density in nodes) / mass
    log_prob = mp.log(mass / (b - a)) - top - mp.log(2 * mp.pi * spread) / 2
    # the derivative in x of the integral of a function of x - alpha u is a difference of its ends
    score = (kernel(a) - kernel(b)) * mp.exp(top) / mass / alpha
    within = tau**2 * sigma**2 / spread
    of_u, of_x = sigma**2 / spread, alpha * tau**2 / spread
    return log_prob, score, of_u * m + of_x * x, within + of_u**2 * v
