"""Zero only between equals; invariances, contractions, orderings and brackets, over random mixtures."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from theory.divergences import kl, mmd, sliced_w2, tv, w1, w2
from toy_distributions import GaussianMixture


@st.composite
def mixtures(draw, dim=1, least=0.01, most=3):
    k = draw(st.integers(1, most))
    weights = torch.tensor(draw(st.lists(st.floats(0.1, 1), min_size=k, max_size=k)), dtype=torch.float64)
    means = torch.tensor(draw(st.lists(st.floats(-2, 2), min_size=k * dim, max_size=k * dim)), dtype=torch.float64)
    variances = torch.tensor(draw(st.lists(st.floats(least, 2), min_size=k, max_size=k)), dtype=torch.float64)
    return GaussianMixture(weights / weights.sum(), means.reshape(k, dim), variances)


few = settings(max_examples=12)


@few
@given(p=mixtures())
def test_equal_laws_have_no_distance(p):
    q = GaussianMixture(p.weights.flip(0), p.means.flip(0), p.covs.flip(0))
    for divergence in (kl, tv, w1, w2, mmd):
        found = divergence(p, q)
        assert abs(found.value) <= found.error + 1e-12, divergence.__name__


@few
@given(p=mixtures(), q=mixtures())
def test_the_brackets_of_pinsker_and_bretagnolle_huber(p, q):
    d, t = kl(p, q), tv(p, q)
    assert t.value**2 <= d.value / 2 + d.error + 2 * t.error
    assert t.value <= math.sqrt(1 - math.exp(-d.high)) + t.error + 1e-12


@few
@given(p=mixtures(), q=mixtures())
def test_w1_is_at_most_w2(p, q):
    one, two = w1(p, q), w2(p, q)
    assert one.low <= two.high + 1e-12


@few
@given(p=mixtures(), q=mixtures(), sigma=st.floats(0.1, 2))
def test_noise_contracts(p, q, sigma):
    noised = [law.noised(1.0, sigma) for law in (p, q)]
    for divergence in (kl, tv, w1, w2):
        before, after = divergence(p, q), divergence(*noised)
        assert after.low <= before.high + 1e-12, divergence.__name__


@few
@given(p=mixtures(), q=mixtures(), scale=st.floats(0.2, 5), shift=st.floats(-3, 3))
def test_kl_is_invariant_and_w2_scales_under_affine_maps(p, q, scale, shift):
    moved = [GaussianMixture(law.weights, scale * law.means + shift, scale**2 * law.covs) for law in (p, q)]
    d, e = kl(p, q), kl(*moved)
    assert abs(d.value - e.value) <= 2 * (d.error + e.error) + 1e-11 * (1 + d.value)
    d, e = w2(p, q), w2(*moved)
    assert abs(scale * d.value - e.value) <= scale * d.error + e.error + 1e-11


def test_the_invariance_check_would_catch_a_standard_deviation_for_a_variance():
    p, q = GaussianMixture.gaussian(0.0, 1.0), GaussianMixture.gaussian(0.0, 2.0)
    wrong = [GaussianMixture.gaussian(0.0, 3 * v) for v in (1.0, 2.0)]
    assert abs(3 * w2(p, q).value - w2(*wrong).value) > 0.1


@few
@given(p=mixtures(dim=2, most=1), q=mixtures(dim=2, most=1))
def test_sliced_w2_is_below_w2_and_blind_to_rotation(p, q):
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    turned = [GaussianMixture(law.weights, law.means @ turn.T, law.covs) for law in (p, q)]
    one, other = sliced_w2(p, q), sliced_w2(*turned)
    assert abs(one.value - other.value) <= one.error + other.error + 1e-9
    assert one.low <= w2(p, q).high


def test_gaussian_kl_and_bures_in_many_dimensions():
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 6, 6, dtype=torch.float64, generator=generator)
    p = GaussianMixture.gaussian(torch.zeros(6, dtype=torch.float64), a @ a.T + 0.1 * torch.eye(6))
    q = GaussianMixture.gaussian(torch.ones(6, dtype=torch.float64), b @ b.T + 0.1 * torch.eye(6))
    reference = torch.distributions.kl_divergence(
        *(torch.distributions.MultivariateNormal(law.means[0], law.full_covs()[0]) for law in (p, q))
    )
    assert kl(p, q).value == pytest.approx(reference.item(), rel=1e-11)
    # Bures by its defining formula, with the matrix square root through eigenvalues of the product
    P, Q = p.full_covs()[0], q.full_covs()[0]
    cross = torch.linalg.eigvals(P @ Q).real.clamp_min(0).sqrt().sum()
    square = 6.0 + P.trace() + Q.trace() - 2 * cross
    assert w2(p, q).value == pytest.approx(square.sqrt().item(), rel=1e-9)


def test_degenerate_gaussians():
    line, same = (GaussianMixture.gaussian([0.0, 0.0], [[v, v], [v, v]]) for v in (1.0, 2.0))
    off, full = (
        GaussianMixture.gaussian([1.0, 0.0], [[1.0, 1.0], [1.0, 1.0]]),
        GaussianMixture.gaussian([0.0, 0.0], 1.0),
    )
    assert kl(line, same).value == pytest.approx(0.5 * (0.5 - 1 + math.log(2)), rel=1e-9)
    assert kl(line, off).value == kl(full, line).value == kl(line, full).value == math.inf
    assert w2(line, same).value == pytest.approx(2**0.5 * (2**0.5 - 1), rel=1e-9)


def test_bad_input_is_refused_in_one_sentence():
    p, plane = GaussianMixture.gaussian(0.0, 1.0), GaussianMixture.gaussian([0.0, 0.0], 1.0)
    with pytest.raises(ValueError, match="one space; got dimensions 1 and 2"):
        kl(p, plane)
    with pytest.raises(ValueError, match=r"samples q must be finite, of shape \(n, d\).*got \(0, 1\)"):
        w2(p, torch.zeros(0, 1))
    with pytest.raises(ValueError, match="samples p must be finite"):
        w1(torch.full((3, 1), float("nan")), p)
    with pytest.raises(ValueError, match="q must be a law or a tensor of samples; got str"):
        tv(p, "normal")
    with pytest.raises(ValueError, match="kl needs two Gaussians or two 1-D laws"):
        kl(torch.zeros(3, 1), p)
    with pytest.raises(ValueError, match="bandwidth must be > 0; got 0"):
        mmd(p, p, bandwidth=0)
    with pytest.raises(ValueError, match="at most 5000 samples a side"):
        w2(torch.randn(6000, 2), torch.randn(10, 2))
