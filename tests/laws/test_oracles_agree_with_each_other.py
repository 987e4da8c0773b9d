"""The oracles agree where two of them answer the same question, with closed forms, and with a finer quadrature."""

from importlib import import_module

import mpmath as mp
import pytest

from tests import oracle
from tests.oracle import quadrature


def gap(one, other):
    """Largest difference of two answers, relative to each part's size."""
    out = 0.0
    for a, b in zip(one, other, strict=True):
        size = max(abs(v) for v in b)
        out = max(out, float(max(abs(u - v) for u, v in zip(a, b, strict=True)) / (size or 1)))
    return out


def test_a_sphere_in_one_dimension_is_a_mixture_of_two_points():
    one = oracle.sphere(1.5, 0.2, [0.3], [0.9], 0.8, 0.5)
    two = oracle.mixture([0.5, 0.5], [[-1.2], [1.8]], [[[0.04]], [[0.04]]], [0.9], 0.8, 0.5)
    assert gap(oracle.answer(*one), oracle.answer(*two)) < 1e-15  # 0.04 and 1.8 are rounded, 0.2^2 is not


@pytest.mark.parametrize("sigma", [1e-3, 0.3, 5.0])
def test_the_sphere_in_space_is_elementary(sigma):
    x, radius = [0.6, -0.5, 0.9], 1.25
    got = oracle.answer(*oracle.sphere(radius, 0.0, [0.0] * 3, x, 1.0, sigma))
    with mp.workdps(60):
        far = mp.sqrt(mp.fsum(mp.mpf(v) ** 2 for v in x))
        kappa = radius * far / mp.mpf(sigma) ** 2
        langevin = mp.coth(kappa) - 1 / kappa
        assert max(abs(m - radius * langevin * v / far) for m, v in zip(got.mean, x, strict=True)) < 1e-50


def test_a_box_is_elementary():
    a, b, x, sigma = -0.5, 1.25, 0.375, 0.5
    got = oracle.answer(*oracle.box([a], [b], 0.0, [x], 1.0, sigma))
    with mp.workdps(60):
        mass = mp.ncdf((b - mp.mpf(x)) / sigma) - mp.ncdf((a - mp.mpf(x)) / sigma)
        bells = [mp.npdf((mp.mpf(x) - edge) / sigma) / sigma for edge in (a, b)]
        assert abs(got.log_prob[0] - mp.log(mass / (b - a))) < 1e-50
        assert abs(got.score[0] - (bells[0] - bells[1]) / mass) < 1e-50
        assert abs(got.mean[0] - (x + sigma**2 * (bells[0] - bells[1]) / mass)) < 1e-50


def finer(low, high, digits):
    centre, half = (low + high) / 2, (high - low) / 2
    return [(centre + half * x, half * w) for x, w in quadrature.gauss_legendre(300)]


def coarser(low, high, digits):
    centre, half = (low + high) / 2, (high - low) / 2
    return [(centre + half * x, half * w) for x, w in quadrature.gauss_legendre(12)]


INTEGRALS = [import_module("tests.oracle.sphere"), import_module("tests.oracle.box")]
QUESTIONS = {
    "sphere near": oracle.sphere(1.0, 0.1, [0.0] * 4, [0.5, 0.5, 0.6, -0.4], 0.9, 1e-4),
    "sphere wide": oracle.sphere(1.0, 0.0, [0.0] * 2, [30.0, 40.0], 0.9, 20.0),
    "box edge": oracle.box([-1.0], [1.0], 0.0, [1.01], 1.0, 1e-2),
    "box inside": oracle.box([-1.0], [1.0], 0.1, [0.3], 1.0, 1e-3),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_more_nodes_change_nothing_and_far_fewer_do(name, monkeypatch):
    base = oracle.answer(*QUESTIONS[name])
    for module in INTEGRALS:
        monkeypatch.setattr(module, "rule", finer)
    assert gap(oracle.answer(*QUESTIONS[name]), base) < 1e-45
    for module in INTEGRALS:
        monkeypatch.setattr(module, "rule", coarser)
    assert gap(oracle.answer(*QUESTIONS[name]), base) > 1e-40


def test_the_condition_number_is_the_sum_of_the_sensitivities():
    """For N(m, v) at x: log p has the derivative (x - m)/S in m, -(x - m)/S in x, and so on."""
    m, v, x, alpha, sigma = 0.7, 0.25, 1.5, 1.0, 0.5
    got = oracle.condition(*oracle.mixture([1.0], [[m]], [[[v]]], [x], alpha, sigma)).log_prob[0]
    S, y = v + sigma**2, x - m
    by_variance = 0.5 * (y**2 / S**2 - 1 / S)
    by_alpha = m * y / S + by_variance * 2 * v
    parts = [1.0, m * y / S, v * abs(by_variance), x * y / S, abs(by_alpha), 2 * sigma**2 * abs(by_variance)]
    assert float(got) == pytest.approx(sum(parts), rel=1e-9)
