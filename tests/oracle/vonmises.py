"""A blurred sphere with von Mises' and Fisher's density seen through noise: both tilt it by an exponential."""

from collections.abc import Sequence

import mpmath as mp

from tests.oracle.answer import Answer, Input, Question, plain
from tests.oracle.sphere import _angle


def von_mises_fisher(
    pull: Sequence[float],
    radius: float,
    blur: float,
    centre: Sequence[float],
    x: Sequence[float],
    alpha: float,
    sigma: float,
) -> tuple[Question, list[Input]]:
    """The question, and its inputs, for x_0 = centre + radius u + blur zeta, u of density exp(pull . u)."""
    d = len(x)
    inputs = plain(*pull, radius, blur, *centre, *x, alpha, sigma)

    def question(values, digits):
        a, (R, tau), rest = values[:d], values[d : d + 2], values[d + 2 :]
        return _tilted(a, R, tau, rest[:d], rest[d : 2 * d], *rest[2 * d :], digits)

    return question, inputs


def _tilted(a, R, tau, c, x, alpha, sigma, digits) -> Answer:
    d = len(x)
    y = [x[i] - alpha * c[i] for i in range(d)]
    spread = alpha**2 * tau**2 + sigma**2
    # exp(a . u) exp(-|y - alpha R u|^2 / (2 S)) = exp(b . u) exp(-(|y|^2 + alpha^2 R^2) / (2 S))
    b = [a[i] + alpha * R * y[i] / spread for i in range(d)]
    before, after = (mp.sqrt(mp.fsum(v * v for v in vector)) for vector in (a, b))
    along = [v / after for v in b] if after > 0 else [mp.mpf(i == 0) for i in range(d)]
    log_before, *_ = _angle(d, before, digits)
    log_after, lag, radial, across = _angle(d, after, digits)
    shell = (mp.fsum(v * v for v in y) + (alpha * R) ** 2) / (2 * spread)
    log_prob = log_after + after - log_before - before - shell - mp.mpf(d) / 2 * mp.log(2 * mp.pi * spread)
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
