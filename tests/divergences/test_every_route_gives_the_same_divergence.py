"""Closed form, quadrature and samples are routes to one number: they meet within the errors they state."""

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from theory import VPLinear, law_of, uniform_lambda
from theory.divergences import kl, mmd, sliced_w2, tv, w1, w2
from theory.solvers import DDIM
from toy_distributions import GaussianMixture

MIXTURE = GaussianMixture([0.3, 0.5, 0.2], [[-1.0], [0.4], [1.2]], [0.05, 0.1, 0.04])
OTHER = GaussianMixture([0.6, 0.4], [[-0.5], [0.9]], [0.3, 0.02])
means = st.floats(-3, 3)
variances = st.floats(-6, 3).map(lambda x: 10**x)


def gaussian(mean, variance):
    return GaussianMixture.gaussian(mean, variance)


def twin(law):
    """The same Gaussian as two equal components: forces the quadrature route."""
    return GaussianMixture([0.5, 0.5], law.means.repeat(2, 1), law.covs.reshape(-1).repeat(2))


def meet(one, other, slack=1.0):
    return abs(one.value - other.value) <= slack * (one.error + other.error) + 1e-300


def mp_kl(m, v, n, w):
    m, v, n, w = map(mpmath.mpf, (m, v, n, w))
    return (v / w + (m - n) ** 2 / w - 1 - mpmath.log(v / w)) / 2


@given(m=means, v=variances, n=means, w=variances)
def test_gaussian_kl_has_the_digits_it_says(m, v, n, w):
    with mpmath.workdps(50):
        exact = mp_kl(m, v, n, w)
        found = kl(gaussian(m, v), gaussian(n, w))
        assert abs(found.value - exact) <= found.error + 1e-30
        assert found.error <= 1e-10 * (1 + exact)


@given(m=means, v=variances, shift=st.floats(1e-9, 1e-3), stretch=st.floats(-1e-3, 1e-3))
def test_the_kl_of_close_gaussians_keeps_its_digits(m, v, shift, stretch):
    p, q = gaussian(0.0, v), gaussian(shift * v**0.5, v * (1 + stretch))
    with mpmath.workdps(50):
        exact = mp_kl(p.means.item(), p.covs.item(), q.means.item(), q.covs.item())
        found = kl(p, q)
        assert abs(found.value - exact) <= found.error
        assert found.error <= 1e-8 * exact + 1e-18


@pytest.mark.parametrize("divergence", [kl, tv, w1, w2])
@pytest.mark.parametrize("m, v, n, w", [(0, 1, 0.5, 2), (0, 1, 0, 1.0000001), (1, 1e-4, -1, 4), (0, 1, 6, 0.5)])
def test_quadrature_meets_the_closed_form(divergence, m, v, n, w):
    p, q = gaussian(float(m), float(v)), gaussian(float(n), float(w))
    by_rule = divergence(twin(p), twin(q))
    assert "quadrature" in by_rule.method and by_rule.error < 1e-9 * max(1.0, by_rule.value)
    if divergence is not w1:
        assert meet(divergence(p, q), by_rule), (divergence(p, q), by_rule)
    elif v == w:
        assert abs(by_rule.value - abs(m - n)) <= by_rule.error


def test_the_check_would_catch_a_swapped_kl():
    p, q = gaussian(0.0, 1.0), gaussian(0.5, 2.0)
    assert not meet(kl(p, q), kl(twin(q), twin(p)))


def test_mixtures_agree_with_mpmath():
    def density(law, x):
        terms = zip(law.weights.tolist(), law.means[:, 0].tolist(), law.covs.tolist(), strict=True)
        return sum(w * mpmath.npdf(x, m, mpmath.sqrt(v)) for w, m, v in terms)

    with mpmath.workdps(30):
        points = [-6, -2, -1, -0.5, 0, 0.4, 0.9, 1.2, 2, 6]
        exact = mpmath.quad(lambda x: density(MIXTURE, x) * mpmath.log(density(MIXTURE, x) / density(OTHER, x)), points)
        found = kl(MIXTURE, OTHER)
        assert abs(found.value - exact) <= found.error + 1e-15 and found.error < 1e-11


def test_laws_of_very_different_widths_are_resolved():
    spike = GaussianMixture([0.5, 0.5], [[0.0], [100.0]], [1e-8, 1.0])
    other = GaussianMixture([0.25, 0.75], [[0.0], [100.0]], [1e-8, 1.0])
    found = kl(spike, other)  # the components do not overlap, so only the weights count
    assert abs(found.value - 0.5 * math.log(4 / 3)) <= found.error + 1e-12 and found.error < 1e-10
    assert abs(tv(spike, other).value - 0.25) <= tv(spike, other).error
    blunt = GaussianMixture([0.5, 0.5], [[0.0], [100.0]], [1.0, 1e-8])
    distance = w2(spike, blunt)
    assert abs(distance.value - (1 - 1e-4)) <= distance.error + 1e-12


def test_point_masses_have_quantiles_with_jumps():
    two, point = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [0.0, 0.0]), GaussianMixture.dirac(0.0)
    assert w2(two, point).value == pytest.approx(1.0, abs=1e-13)
    assert w1(two, MIXTURE).error < 1e-9
    normal = gaussian(0.0, 1.0)
    found = w2(two, twin(normal))  # E (|Z| - 1)^2 = 2 - 2 sqrt(2 / pi)
    assert abs(found.value - (2 - 2 * (2 / torch.pi) ** 0.5) ** 0.5) <= found.error + 1e-12
    assert kl(two, twin(normal)).value == float("inf")


def test_transported_laws_take_part_in_every_divergence():
    """The output law of DDIM on a Gaussian written twice is known in closed form by affine probing."""
    law, process = gaussian(0.7, 0.25), VPLinear()
    grid = uniform_lambda(process, 8, start=-1, end=2)
    last = grid.levels[-1]
    exact, affine = law.noised(last.alpha, last.sigma), law_of(DDIM(), law, process, grid)
    moved = law_of(DDIM(), twin(law), process, grid)
    for divergence in (kl, tv, w1, w2):
        closed, by_rule = divergence(exact, affine), divergence(twin(exact), moved)
        assert abs(closed.value - by_rule.value) <= closed.error + by_rule.error + 1e-11, divergence.__name__
    closed, by_rule = kl(affine, exact), kl(moved, twin(exact))
    assert abs(closed.value - by_rule.value) <= closed.error + by_rule.error + 1e-11


def test_sampled_routes_cover_the_truth():
    p = GaussianMixture.gaussian([0.0, 1.0], [[1.0, 0.3], [0.3, 0.5]])
    q = GaussianMixture.gaussian([0.6, 1.0], [[1.0, 0.2], [0.2, 0.7]])
    x, y = (law.sample(1500, generator=torch.Generator().manual_seed(i)) for i, law in enumerate((p, q)))
    assert meet(w2(p, q), w2(x, y))
    assert meet(mmd(p, q), mmd(x, y)) and mmd(x, y).error < 0.1
    assert meet(sliced_w2(p, q), sliced_w2(x, y), slack=2)
    assert not meet(mmd(p, p), mmd(x, y))
