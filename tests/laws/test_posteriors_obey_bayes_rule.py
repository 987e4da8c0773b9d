"""Bayes: p(x|y) p(y) = p(x) p(y|x) for observations, p_tilted Z = p e^quadratic for tilts, everywhere; log p(y)."""

import math

import mpmath as mp
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.laws.checks import EPS, UNITS, typical, worst
from tests.oracle.moved import bayes, tilt
from toy_distributions import LAWS, Box, GaussianMixture, MixtureOf, affine, conditioned, tilted
from toy_distributions import strategies as draws

DENSE = ("isotropic", "diagonal", "full")


def observation(seed: int, d: int, m: int, noise: float):
    generator = torch.Generator().manual_seed(seed)
    A, root = (torch.randn(m, n, dtype=torch.float64, generator=generator) for n in (d, m))
    R = noise * (root @ root.T + torch.eye(m, dtype=torch.float64))
    return A, torch.randn(m, dtype=torch.float64, generator=generator), 0.5 * (R + R.T)


def bayes_miss(law, A, y, R, x, spoilt=1.0):
    """Both sides' logarithms, in units of what rounding does to them: each is a sum of squares and of logarithms."""
    found = conditioned(law, A, y, spoilt * R)
    likelihood = GaussianMixture.gaussian(y, R)
    left, right = found.law.log_prob(x) + found.log_evidence, law.log_prob(x) + likelihood.log_prob(x @ A.T)
    arm = 1 + x.norm(dim=-1) + law.means.norm(dim=-1).max()
    # log p moves by |score| times rounding of points, and by |x - m|^2 / v times rounding of covariances
    steep = found.law.score(x).norm(dim=-1) + law.score(x).norm(dim=-1)
    steep = steep + likelihood.score(x @ A.T).norm(dim=-1) * torch.linalg.matrix_norm(A, 2)
    widest = max(law._variances.max().item(), 1.0)
    narrow = min(law._variances.min().item(), found.law._variances.min().item(), torch.linalg.eigvalsh(R)[0].item())
    size = left.abs() + right.abs() + abs(found.log_evidence) + steep * arm * (widest / narrow) ** 0.5 + widest / narrow
    return worst((left - right).abs(), UNITS * EPS * size)


@given(st.data(), draws.mixtures(structures=DENSE), st.floats(-4, 2), st.integers(0, 2**31), st.integers(1, 3))
def test_observations(data, law, exponent, seed, m):
    if law.singular:
        law = law.noised(1.0, 0.1)
    A, y, R = observation(seed, law.dim, m, 10**exponent)
    x = data.draw(draws.points_of(law, 1.0, 0.0))
    assert bayes_miss(law, A, y, R, x) <= 1


def test_a_component_of_next_to_no_weight_is_all_there_is_far_out():
    """Its posterior weight is 1e-533; the other's density at x is 1e-5000."""
    law = GaussianMixture([0.25, 0.75], [[0.0, 0.0]] * 2, [[1.0, 0.01], [1.0, 1.0]])
    A, y, R = observation(0, 2, 2, 1e-4)
    x = torch.tensor([[-1.1, 0.1], [-0.9, 1.1]], dtype=torch.float64)
    assert conditioned(law, A, y, R).law.weights.min() == 0
    assert bayes_miss(law, A, y, R, x) <= 1


@pytest.mark.parametrize("seed", range(3))
def test_noise_that_is_a_millionth_too_large_is_caught(seed):
    law = LAWS["mixture_2d"]()
    A, y, R = observation(seed, 2, 2, 0.3)
    assert bayes_miss(law, A, y, R, typical(law, 1.0, 0.0)) <= 1
    assert bayes_miss(law, A, y, R, typical(law, 1.0, 0.0), spoilt=1 + 1e-6) > 1


@pytest.mark.parametrize("name", ["gaussian_1d", "mixture_1d", "gaussian_2d", "mixture_2d", "ring_of_gaussians"])
@pytest.mark.parametrize("strength", [-0.5, 0.0, 0.7, 30.0])
def test_tilts(name, strength):
    law = LAWS[name]()
    J = strength * (torch.eye(law.dim, dtype=torch.float64) + 0.2)
    h = torch.arange(1, law.dim + 1, dtype=torch.float64)
    found, x = tilted(law, J, h), typical(law, 1.0, 0.0)
    right = law.log_prob(x) - 0.5 * ((x @ J) * x).sum(-1) + x @ h
    left = found.law.log_prob(x) + found.log_evidence
    of_log = UNITS * EPS * (left.abs() + right.abs() + 1) * 10  # strength over the largest precision is at most 10
    assert worst((left - right).abs(), of_log) <= 1
    spoilt = tilted(law, J + 1e-6, h)
    assert worst((spoilt.law.log_prob(x) + spoilt.log_evidence - right).abs(), of_log) > 1


@pytest.mark.parametrize("noise", [1e-8, 0.0])
def test_the_evidence_agrees_with_fifty_digits(noise):
    law = LAWS["mixture_2d"]()
    A, y = torch.tensor([[1.0, -0.5]]).double(), torch.tensor([0.3]).double()
    with mp.workdps(50):
        parts = [[mp.mpf(w) for w in law.weights.tolist()], law.means.tolist(), law.full_covs().tolist()]
        exact = bayes(*parts, A.tolist(), y.tolist(), [[mp.mpf(noise)]])[3]
        z = tilt(*parts, [[mp.mpf(2), mp.mpf(0)], [mp.mpf(0), mp.mpf(3)]], [mp.mpf(1), mp.mpf(-1)])[3]
    assert conditioned(law, A, y, noise).log_evidence == pytest.approx(float(exact), rel=1e-13)
    assert tilted(law, [2.0, 3.0], [1.0, -1.0]).log_evidence == pytest.approx(float(z), rel=1e-13)


def test_an_exact_observation_holds_exactly():
    law = conditioned(LAWS["gaussian_2d"](), [[1.0, 2.0]], [0.7], 0.0).law
    x = typical(law, 1.0, 0.0)
    assert law.singular and (x @ torch.tensor([1.0, 2.0]).double() - 0.7).abs().max() < 8 * EPS
    cloud = GaussianMixture.empirical([[0.0, 1.0], [0.0, 2.0], [3.0, 1.0]])
    found = conditioned(cloud, [[1.0, 0.0]], [0.0], 0.0)
    assert found.law.means.tolist() == [[0.0, 1.0], [0.0, 2.0]]
    assert found.log_evidence == pytest.approx(math.log(2 / 3))
    with pytest.raises(ValueError, match="y must be possible where noise_cov is zero"):
        conditioned(cloud, [[1.0, 0.0]], [1.5], 0.0)


def test_points_win_over_densities_where_the_observation_is_exact():
    law = MixtureOf([0.9, 0.1], [GaussianMixture.gaussian([0.0, 0.0], 1.0), GaussianMixture.dirac([0.5, 2.0])])
    found = conditioned(law, [[1.0, 0.0]], [0.5], 0.0)
    assert found.law.means.tolist() == [[0.5, 2.0]]
    almost = conditioned(law, [[1.0, 0.0]], [0.5], 1e-24)
    assert almost.law.mean.tolist() == pytest.approx([0.5, 2.0], rel=1e-10)


def test_one_look_after_the_other_is_both_at_once():
    law, A, R = (
        LAWS["mixture_2d"](),
        torch.tensor([[1.0, 0.5], [-1.0, 2.0]]).double(),
        torch.tensor([0.1, 0.3]).double(),
    )
    y = torch.tensor([0.2, -0.7]).double()
    both = conditioned(law, A, y, R)
    first = conditioned(law, A[:1], y[:1], R[:1])
    second = conditioned(first.law, A[1:], y[1:], R[1:])
    x = typical(law, 1.0, 0.0)
    torch.testing.assert_close(second.law.log_prob(x), both.law.log_prob(x), rtol=1e-12, atol=1e-12)
    assert first.log_evidence + second.log_evidence == pytest.approx(both.log_evidence, rel=1e-13)


@given(draws.mixtures(), st.integers(0, 2**31), st.integers(1, 4), draws.noise_levels(sigmas=(1e-2, 10)))
def test_an_affine_map_moves_the_moments(law, seed, m, level):
    generator = torch.Generator().manual_seed(seed)
    A = torch.randn(m, law.dim, dtype=torch.float64, generator=generator)
    b = torch.randn(m, dtype=torch.float64, generator=generator)
    made = affine(law, A, b)
    size = A.norm() * (law.means.norm(dim=-1).max() + law.cov.diagonal().sum().sqrt()) + b.norm()
    assert (made.mean - A @ law.mean - b).norm() <= UNITS * EPS * size
    assert (made.cov - A @ law.cov @ A.T).norm() <= UNITS * EPS * size**2
    wrong = affine(law, A * (1 + 1e-6), b)
    assert (wrong.mean - A @ law.mean - b).norm() > UNITS * EPS * size or law.mean.norm() < 1e-3 * size


def test_structures_are_kept_where_they_can_be():
    isotropic = GaussianMixture([0.5, 0.5], [[0.0, 1.0], [1.0, 0.0]], [0.1, 0.2])
    assert affine(isotropic, [[0.0, 2.0], [-2.0, 0.0]]).covs.ndim == 1
    assert affine(isotropic, [[0.0, 2.0], [3.0, 0.0]]).covs.ndim == 2
    assert affine(isotropic, [[1.0, 2.0], [3.0, 0.0]]).covs.ndim == 3
    lifted = affine(isotropic, [[1.0, 2.0], [3.0, 0.0], [1.0, 1.0]])
    assert lifted.singular and lifted.dim == 3 and torch.linalg.matrix_rank(lifted.cov) == 2
    cloud = GaussianMixture.empirical([[0.0, 1.0], [1.0, 0.0]])
    assert not affine(cloud, [[1.0, 2.0]]).covs.any()
    assert isinstance(affine(MixtureOf([1.0], [isotropic]), [[1.0, 2.0]]), MixtureOf)


REFUSED = {
    r"Box\(.* A\^T A = c\^2 I only .* any matrix is accepted for a GaussianMixture": lambda: affine(
        Box([0.0, 0.0], [1.0, 1.0]), [[1.0, 1.0], [0.0, 1.0]]
    ),
    r"matrix must have shape \(m, 1\), as the law is on R\^1; got \(1, 2\)": lambda: affine(
        Box(0.0, 1.0), [[1.0, 1.0]]
    ),
    r"shift must have shape \(1,\), one entry a row of matrix; got \(2,\)": lambda: affine(
        Box(0.0, 1.0), [[1.0]], [0.0, 0.0]
    ),
    r"conditioned takes a GaussianMixture, or a MixtureOf such; got Box": lambda: conditioned(
        Box(0.0, 1.0), [[1.0]], [0.0], 1.0
    ),
    r"noise_cov must be positive semi-definite; got the eigenvalue -1": lambda: conditioned(
        LAWS["gaussian_1d"](), [[1.0]], [0.0], -1.0
    ),
    r"noise_cov must be symmetric; it differs from its transpose by 1": lambda: conditioned(
        LAWS["gaussian_2d"](), [[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0], [[1.0, 1.0], [0.0, 2.0]]
    ),
    r"noise_cov must be a number or have shape \(1,\) or \(1, 1\); got \(2,\)": lambda: conditioned(
        LAWS["gaussian_1d"](), [[1.0]], [0.0], [1.0, 1.0]
    ),
    r"matrix must have shape \(m, 1\).* and y \(m,\); got \(1, 1\) and \(2,\)": lambda: conditioned(
        LAWS["gaussian_1d"](), [[1.0]], [0.0, 1.0], 1.0
    ),
    r"precision must leave something normalisable: .* eigenvalue -1 for component 0; raise": lambda: tilted(
        LAWS["gaussian_1d"](), -8.0
    ),
    r"linear must have shape \(1,\), as the law is on R\^1; got \(2,\)": lambda: tilted(
        LAWS["gaussian_1d"](), 1.0, [0.0, 1.0]
    ),
}


@pytest.mark.parametrize("pattern", REFUSED)
def test_refused_in_one_sentence(pattern):
    with pytest.raises(ValueError, match=pattern) as caught:
        REFUSED[pattern]()
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
