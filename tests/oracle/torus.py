"""A blurred torus seen through noise: Bessel functions around the axis, an integral around the tube."""

from collections.abc import Sequence

import mpmath as mp

from tests.oracle.answer import Answer, Input, Question, plain
from tests.oracle.curve import Arc, _pieces
from tests.oracle.quadrature import rule


def torus(
    major: float, minor: float, blur: float, centre: Sequence[float], x: Sequence[float], alpha: float, sigma: float
) -> tuple[Question, list[Input]]:
    """The question, and its inputs, for x_0 = centre + a point of the torus, uniform by area, + blur zeta in R^3."""
    inputs = plain(major, minor, blur, *centre, *x, alpha, sigma)

    def question(values, digits):
        R, r, tau, *rest = values
        return _integral(R, r, tau, rest[:3], rest[3:6], *rest[6:], digits)

    return question, inputs


def _integral(R, r, tau, c, x, alpha, sigma, digits) -> Answer:
    spread = alpha**2 * tau**2 + sigma**2
    y = [x[i] - alpha * c[i] for i in range(3)]
    far = mp.hypot(y[0], y[1])
    along = [y[0] / far, y[1] / far] if far > 0 else [mp.mpf(1), mp.mpf(0)]
    tube = Arc(-mp.pi, mp.pi, lambda v: [R + r * mp.cos(v), r * mp.sin(v)], lambda v: [-r * mp.sin(v), r * mp.cos(v)])
    nodes = []
    for _, low, high in _pieces([tube], [far, y[2]], alpha, spread, 2.303 * (digits + 6)):
        for v, w in rule(low, high, digits):
            g, up = tube.place(v)
            kappa = alpha * g * far / spread
            zero, one = mp.besseli(0, kappa), mp.besseli(1, kappa)
            # E cos u, E cos^2 u and E sin^2 u under exp(kappa cos u)
            first = one / zero
            sine = first / kappa if kappa > 0 else mp.mpf(1) / 2
            f = ((far - alpha * g) ** 2 + (y[2] - alpha * up) ** 2) / (2 * spread) - mp.log(zero) + kappa
            nodes.append((f, w * g / (2 * mp.pi * R), g * first, up, g * g * (1 - sine - first**2), g * g * sine))
    top = min(node[0] for node in nodes)
    weights = [w * mp.exp(top - f) for f, w, *_ in nodes]
    mass = mp.fsum(weights)

    def mean(values):
        return mp.fsum(w * v for w, v in zip(weights, values, strict=True)) / mass

    _, _, towards, ups, radial, sideways = zip(*nodes, strict=True)
    m, z = mean(towards), mean(ups)
    steep = mean(radial) + mean([(v - m) ** 2 for v in towards])
    flat, mixed = mean(sideways), mean([(v - m) * (u - z) for v, u in zip(towards, ups, strict=True)])
    high = mean([(u - z) ** 2 for u in ups])
    on = [m * along[0], m * along[1], z]
    cov = [[(flat if i == j else 0) + (steep - flat) * along[i] * along[j] for j in range(2)] for i in range(2)]
    cov = [[*cov[0], mixed * along[0]], [*cov[1], mixed * along[1]], [mixed * along[0], mixed * along[1], high]]
    log_prob = mp.log(mass) - top - mp.mpf(3) / 2 * mp.log(2 * mp.pi * spread)
    of_torus, of_y, within = sigma**2 / spread, alpha * tau**2 / spread, tau**2 * sigma**2 / spread
    return Answer(
        [log_prob],
        [(alpha * on[i] - y[i]) / spread for i in range(3)],
        [c[i] + of_torus * on[i] + of_y * y[i] for i in range(3)],
        [(within if i == j else 0) + of_torus**2 * cov[i][j] for i in range(3) for j in range(3)],
    )
