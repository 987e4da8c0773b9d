"""Laplace's and Student's laws, blurred, seen through noise: an integral over the line, panel by panel."""

import mpmath as mp

from tests.oracle.answer import Answer, Input, Question, plain
from tests.oracle.quadrature import gauss_legendre


def laplace(location: float, scale: float, blur: float, x: list[float], alpha: float, sigma: float):
    """The question, and its inputs, for x_0 = location + scale V + blur zeta, V of density e^{-|v|} / 2."""
    inputs = plain(location, scale, blur, *x, alpha, sigma)

    def question(values, digits):
        return _located(*values, lambda *seen: _laplace(*seen, digits))

    return question, inputs


def student_t(
    freedom: float, location: float, scale: float, blur: float, x: list[float], alpha: float, sigma: float
) -> tuple[Question, list[Input]]:
    """The question, and its inputs, for V of density proportional to (1 + v^2 / freedom)^{-(freedom + 1) / 2}."""
    inputs = plain(freedom, location, scale, blur, *x, alpha, sigma)

    def question(values, digits):
        nu, *rest = values
        return _located(*rest, lambda *seen: _student_t(nu, *seen, digits))

    return question, inputs


def _located(m, b, tau, x, alpha, sigma, integral) -> Answer:
    spread, y = alpha**2 * tau**2 + sigma**2, x - alpha * m
    log_mass, mean, variance = integral(y, alpha * b, spread)
    of_v, of_y = sigma**2 / spread, alpha * tau**2 / spread
    return Answer(
        [log_mass - mp.log(2 * mp.pi * spread) / 2],
        [(alpha * b * mean - y) / spread],
        [m + of_v * b * mean + of_y * y],
        [tau**2 * of_v + (of_v * b) ** 2 * variance],
    )


def _moments(nodes: list[tuple]) -> tuple:
    """Of (v, weight, log of the integrand at v): log of the integral, mean and variance of v."""
    top = max(log for _, _, log in nodes)
    weights = [w * mp.exp(log - top) for _, w, log in nodes]
    mass = mp.fsum(weights)
    mean = mp.fsum(w * v for w, (v, *_) in zip(weights, nodes, strict=True)) / mass
    variance = mp.fsum(w * (v - mean) ** 2 for w, (v, *_) in zip(weights, nodes, strict=True)) / mass
    return top + mp.log(mass), mean, variance


def _laplace(y, pull, spread, digits):
    """On either side of zero the integrand is one log-concave bump, cut where it has fallen by digits + 6 decades."""
    fall, nodes = mp.log(10) * (digits + 6), []
    q2 = pull**2 / spread
    for side in (1, -1):
        rate = 1 - side * pull * y / spread  # minus the slope of the log at zero
        peak = max(-rate / q2, mp.mpf(0))
        steep = max(rate, mp.mpf(0))
        reach = 2 * fall / (steep + mp.sqrt(steep**2 + 2 * fall * q2))
        low, high = max(peak - reach, mp.mpf(0)), peak + reach
        centre, half = (low + high) / 2, (high - low) / 2
        for node, weight in gauss_legendre(4 * digits):
            v = centre + half * node
            nodes.append((side * v, half * weight / 2, -v - (y - pull * side * v) ** 2 / (2 * spread)))
    return _moments(nodes)


def _student_t(nu, y, pull, spread, digits):
    r"""With v = sqrt(nu) sinh w the density is proportional to cosh(w)^{-nu}, and panels shorter than the widths of
    it and of the kernel cover all w at which the kernel is not negligible against its fall's worst compensation.
    """
    root, compensation = mp.sqrt(nu), (nu + 1) / 2 * mp.log(1 + (y / pull) ** 2 / nu)
    wide = mp.sqrt(2 * spread * (mp.log(10) * (digits + 6) + compensation))
    low, high = (mp.asinh((y + side * wide) / pull / root) for side in (-1, 1))
    log_constant = mp.loggamma((nu + 1) / 2) - mp.loggamma(nu / 2) - mp.log(mp.pi) / 2
    nodes, w = [], low
    while w < high:
        of_kernel = mp.sqrt(spread) / (pull * root * mp.cosh(w))
        length = min(mp.mpf(1) / 2, 2 / root, 2 * of_kernel, high - w)
        for node, weight in gauss_legendre(digits + 14):
            here = w + length * (1 + node) / 2
            v = root * mp.sinh(here)
            log = log_constant - nu * mp.log(mp.cosh(here)) - (y - pull * v) ** 2 / (2 * spread)
            nodes.append((v, length / 2 * weight, log))
        w += length
    return _moments(nodes)
