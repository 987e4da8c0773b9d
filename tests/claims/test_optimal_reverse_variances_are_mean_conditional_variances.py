"""posterior_variance, fisher_information and optimal_variance against mpmath and joint Gaussians; their bounds hold."""

import math

import mpmath as mp
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from theory import VPLinear, affine_map, law_of, uniform_lambda
from theory.covariance import (
    AnalyticDPM,
    OptimalVariance,
    beta,
    beta_tilde,
    conditional_variance,
    fisher_information,
    optimal_variance,
    posterior_variance,
    variance_bounds,
)
from theory.models import Exact
from theory.process import PROCESSES
from theory.solvers import DDPM
from toy_distributions import GaussianMixture

PROCESS = VPLinear()
MIXTURE = GaussianMixture([0.3, 0.5, 0.2], [[-1.0], [0.4], [1.2]], [0.05, 0.1, 0.04])
PAIR = GaussianMixture([0.4, 0.6], [[-1.0], [1.0]], [0.0, 0.0])


def mp_moments(law, at):
    """E Cov[x_0 | x] and E score^2 from the definition: integrals over x_0 inside integrals over x, in 20 digits."""
    mp.mp.dps = 20
    alpha, sigma = mp.mpf(at.alpha), mp.mpf(at.sigma)
    parts = [
        (mp.mpf(w), mp.mpf(m), mp.mpf(v))
        for w, m, v in zip(law.weights.tolist(), law.means[:, 0].tolist(), law.covs.tolist(), strict=True)
    ]

    def normal(x, mean, variance):
        return mp.exp(-((x - mean) ** 2) / (2 * variance)) / mp.sqrt(2 * mp.pi * variance)

    def raw(x, power):
        """int x_0^power p(x_0) N(x; alpha x_0, sigma^2) dx_0, a component at a time, by completing the square."""
        total = mp.mpf(0)
        for w, m, v in parts:
            s = alpha**2 * v + sigma**2
            mean, variance = m + alpha * v / s * (x - alpha * m), v * sigma**2 / s
            total += w * normal(x, alpha * m, s) * (mean if power == 1 else mean**2 + variance if power == 2 else 1)
        return total

    centres = sorted(alpha * m for _, m, _ in parts)
    spread = max(mp.sqrt(alpha**2 * v + sigma**2) for _, _, v in parts)
    ends = [centres[0] - 12 * spread, *centres, centres[-1] + 12 * spread]

    def uncertainty(x):
        p = raw(x, 0)
        return raw(x, 2) - raw(x, 1) ** 2 / p

    def squared_score(x):
        spreads = [(w, alpha * m, alpha**2 * v + sigma**2) for w, m, v in parts]
        slope = sum(w * (mean - x) / s * normal(x, mean, s) for w, mean, s in spreads)
        return slope**2 / raw(x, 0)

    return float(mp.quad(uncertainty, ends)), float(mp.quad(squared_score, ends))


@pytest.mark.parametrize("law", [MIXTURE, PAIR], ids=["mixture", "pair"])
@pytest.mark.parametrize("lam", [-1.5, 1.0])
def test_both_moments_agree_with_mpmath_within_their_errors(law, lam):
    at = PROCESS.level_at(lam)
    blur, gamma = mp_moments(law, at)
    for estimate, exact in ((posterior_variance(law, at), blur), (fisher_information(law, at), gamma)):
        assert abs(estimate.value - exact) <= estimate.error + 4e-16 * abs(exact)
        assert estimate.error <= 1e-13 * (1 + abs(exact))


@pytest.mark.parametrize("name", PROCESSES)
@given(lam=st.floats(-3, 3))
def test_score_and_denoiser_tell_the_same_on_every_process(name, lam):
    process = PROCESSES[name]()
    assume(process.lam_range[0] <= lam <= process.lam_range[1])
    at = process.level_at(lam)
    blur, gamma = posterior_variance(MIXTURE, at), fisher_information(MIXTURE, at)
    left, right = at.sigma**2 * gamma.value, 1 - blur.value / at.k**2
    assert abs(left - right) <= at.sigma**2 * gamma.error + blur.error / at.k**2 + 1e-14


def test_both_moments_are_means_over_directions():
    law, at = GaussianMixture.gaussian([0.3, 0.1, 0.0], [0.25, 4.0, 0.0]), PROCESS.level_at(-0.3)
    single = [GaussianMixture.gaussian(0.0, v) for v in (0.25, 4.0, 0.0)]
    for moment in (posterior_variance, fisher_information):
        assert moment(law, at).value == pytest.approx(sum(moment(one, at).value for one in single) / 3, rel=1e-14)


def joint_conditional(law, s, t, eta):
    """Mean and covariance of x_t | x_s for Gaussian data, as a Schur complement of the joint covariance."""
    d = law.dim
    rho = math.sqrt(1 - eta**2 * (1 - math.exp(-2 * (t.lam - s.lam))))
    eye = torch.eye(d, dtype=torch.float64)
    cross = s.alpha * t.alpha * law.cov + s.sigma * t.sigma * rho * eye
    var_s, var_t = s.alpha**2 * law.cov + s.sigma**2 * eye, t.alpha**2 * law.cov + t.sigma**2 * eye
    return var_t - cross @ torch.linalg.solve(var_s, cross)


@given(
    seed=st.integers(0, 10**6), lam=st.floats(-2, 2), h=st.floats(0.05, 4), eta=st.sampled_from([0.0, 0.3, 0.8, 1.0])
)
def test_the_optimal_variance_is_the_mean_of_the_conditional_covariance(seed, lam, h, eta):
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(3, 2, generator=generator, dtype=torch.float64)  # rank-deficient: one direction is flat
    law = GaussianMixture.gaussian(torch.randn(3, generator=generator, dtype=torch.float64), root @ root.T)
    s, t = PROCESS.level_at(lam), PROCESS.level_at(lam + h)
    exact = joint_conditional(law, s, t, eta).diagonal().mean().item()
    size = (t.alpha**2 * law.cov + t.sigma**2 * torch.eye(3, dtype=torch.float64)).abs().max().item()
    assert abs(optimal_variance(law, s, t, eta=eta).value - exact) <= 1e-13 * size * (1 + 1 / s.sigma**2)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("h", [1e-9, 1e-4, 1.0])
def test_short_steps_keep_their_digits(eta, h):
    law = GaussianMixture.gaussian(0.0, 0.25)
    s, t = PROCESS.level_at(0.4), PROCESS.level_at(0.4 + h)
    mp.mp.dps = 40
    alpha_s, sigma_s, alpha_t, sigma_t = (mp.mpf(value) for value in (s.alpha, s.sigma, t.alpha, t.sigma))
    step = mp.mpf(t.lam) - mp.mpf(s.lam)  # the levels' own lambdas: what their rounding does is the levels' matter
    rho = mp.sqrt(1 - mp.mpf(eta) ** 2 * (1 - mp.exp(-2 * step)))
    gain = alpha_t * (1 - rho * mp.exp(-step))
    blur = mp.mpf(0.25) * sigma_s**2 / (mp.mpf(0.25) * alpha_s**2 + sigma_s**2)
    exact = mp.mpf(eta) ** 2 * sigma_t**2 * (1 - mp.exp(-2 * step)) + gain**2 * blur
    assert abs(optimal_variance(law, s, t, eta=eta).value / exact - 1) < 1e-14


def test_the_last_step_to_the_data_has_the_posterior_variance():
    s, data = PROCESS.level_at(0.5), PROCESS.level(0.0)
    for eta in (0.0, 0.5, 1.0):
        assert optimal_variance(MIXTURE, s, data, eta=eta).value == pytest.approx(
            posterior_variance(MIXTURE, s).value, rel=1e-14
        )


@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_its_pointwise_version_averages_to_it(eta):
    s, t = PROCESS.level_at(-0.3), PROCESS.level_at(0.6)
    noised = MIXTURE.noised(s.alpha, s.sigma)
    x = torch.linspace(-8, 8, 4001, dtype=torch.float64)[:, None]
    mean = (noised.log_prob(x).exp() * conditional_variance(MIXTURE, s, t, eta=eta)(x)).sum().item() * 16 / 4000
    assert mean == pytest.approx(optimal_variance(MIXTURE, s, t, eta=eta).value, rel=1e-13)


@given(
    weight=st.floats(0.05, 0.95),
    gap=st.floats(0, 4),
    variances=st.tuples(st.floats(0, 3), st.floats(0, 3)),
    lam=st.floats(-2, 2),
    h=st.floats(0.05, 3),
    eta=st.floats(0, 1),
)
def test_every_bound_holds(weight, gap, variances, lam, h, eta):
    law = GaussianMixture([weight, 1 - weight], [[0.0], [gap]], list(variances))
    s, t = PROCESS.level_at(lam), PROCESS.level_at(lam + h)
    best, bounds = optimal_variance(law, s, t, eta=eta), variance_bounds(law, s, t, eta=eta)
    slack = best.error + 1e-14 * bounds.upper
    assert bounds.lower - slack <= best.value <= bounds.cramer_rao + slack
    assert bounds.cramer_rao <= bounds.upper * (1 + 1e-14)
    points = GaussianMixture([weight, 1 - weight], [[0.0], [gap]], [0.0, 0.0])
    support = variance_bounds(points, s, t, eta=eta, half_width=gap / 2).support
    assert optimal_variance(points, s, t, eta=eta).value <= support + slack


def test_two_far_points_nearly_attain_the_bound_by_support():
    s, t = PROCESS.level_at(-4.0), PROCESS.level_at(0.0)  # the noise hides which of the two it was
    pair = GaussianMixture([0.5, 0.5], [[-0.3], [0.3]], [0.0, 0.0])
    best, support = optimal_variance(pair, s, t).value, variance_bounds(pair, s, t, half_width=0.3).support
    assert 0 < support - best < 1e-4 * support


def test_a_point_and_a_gaussian_attain_their_bounds():
    s, t = PROCESS.level_at(-1.0), PROCESS.level_at(1.0)
    point, gaussian = GaussianMixture.dirac([0.3, 0.1]), GaussianMixture.gaussian([0.3, 0.1], 4.0)
    assert optimal_variance(point, s, t).value == variance_bounds(point, s, t).lower == beta_tilde(s, t)
    assert optimal_variance(gaussian, s, t).value == pytest.approx(
        variance_bounds(gaussian, s, t).cramer_rao, rel=1e-14
    )
    assert optimal_variance(gaussian, s, t).value > beta(s, t)  # data wider than the prior: beta is no upper bound


def test_the_named_variances_are_those_that_the_sampler_adds():
    grid = uniform_lambda(PROCESS, 1, start=-1.0, end=0.5)
    s, t = grid.levels
    law = GaussianMixture.gaussian(0.0, 1.0)
    for name, variance in (("beta", beta), ("beta_tilde", beta_tilde)):
        added = affine_map(DDPM(name), Exact(law, PROCESS), grid, 1).noises.item() ** 2
        assert added == pytest.approx(variance(s, t), rel=1e-14)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_analytic_dpm_keeps_isotropic_gaussians_and_only_those(eta):
    grid = uniform_lambda(PROCESS, 4, start=-2.0, end=2.0)
    level = grid.levels[-1]
    round_law = GaussianMixture.gaussian([0.5, -0.2, 0.1], 0.3)
    out, true = (
        law_of(AnalyticDPM(round_law, eta), round_law, PROCESS, grid),
        round_law.noised(level.alpha, level.sigma),
    )
    torch.testing.assert_close(out.cov, true.cov, rtol=1e-13, atol=1e-15)
    torch.testing.assert_close(out.mean, true.mean, rtol=1e-13, atol=1e-15)
    long_law = GaussianMixture.gaussian([0.5, -0.2, 0.1], [1.0, 0.1, 0.1])
    out, true = law_of(AnalyticDPM(long_law, eta), long_law, PROCESS, grid), long_law.noised(level.alpha, level.sigma)
    assert ((out.cov - true.cov).abs().max() / true.cov.max()).item() > 0.01


def test_ddpm_takes_the_optimal_variance_as_its_own():
    grid = uniform_lambda(PROCESS, 3, start=-1.0, end=1.0)
    law = GaussianMixture.gaussian(0.2, 0.4)
    by_ddpm = law_of(DDPM(OptimalVariance(law)), law, PROCESS, grid)
    by_name = law_of(AnalyticDPM(law, 1.0), law, PROCESS, grid)
    torch.testing.assert_close(by_ddpm.cov, by_name.cov, rtol=1e-13, atol=0)


def test_misuse_is_answered_in_one_sentence():
    s, t = PROCESS.level_at(-1.0), PROCESS.level_at(1.0)
    with pytest.raises(ValueError, match=r"eta must lie in \[0, 1\]; got eta=1.5"):
        optimal_variance(MIXTURE, s, t, eta=1.5)
    with pytest.raises(ValueError, match="lambda must rise"):
        optimal_variance(MIXTURE, t, s)
    plane = GaussianMixture([0.5, 0.5], [[0.0, 0.0], [1.0, 1.0]], [0.1, 0.1])
    with pytest.raises(ValueError, match="one Gaussian or a 1-D law"):
        posterior_variance(plane, s)
    with pytest.raises(ValueError, match="1-D laws"):
        conditional_variance(plane, s, t)
