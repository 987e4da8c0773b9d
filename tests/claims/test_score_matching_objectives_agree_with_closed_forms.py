"""The objectives of a linear score on Gaussian data are polynomials; the others are integrated by mpmath."""

import math

import mpmath
import pytest
import torch

from theory.score_matching import (
    LineDensity,
    boundary,
    denoising,
    explicit,
    fisher_divergence,
    fisher_information,
    implicit,
)
from toy_distributions.mixture import GaussianMixture

M, V, A, B = 0.7, 0.3, 0.4, -1.7
GAUSSIAN = GaussianMixture.gaussian(M, V)
MIXTURE = GaussianMixture([0.3, 0.7], [[-1.0], [0.8]], [0.2, 0.05])
HALF_NORMAL = LineDensity(lambda x: 0.5 * math.log(2 / math.pi) - 0.5 * x[:, 0] ** 2, 0.0, 14.0)


def _linear(x: torch.Tensor) -> torch.Tensor:
    return A + B * x


def test_linear_score_on_a_gaussian():
    p = LineDensity.of(GAUSSIAN)
    square = (A + B * M) ** 2 + B**2 * V
    assert abs(implicit(_linear, p).value - (B + 0.5 * square)) < 1e-13
    assert abs(explicit(_linear, p).value - (B + 0.5 * square + 0.5 / V)) < 1e-13
    assert abs(fisher_information(p).value - 1 / V) < 1e-12


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("sigma", [0.1, 1.0, 3.0])
def test_denoising_a_linear_score(sigma, power):
    exact = 0.5 * ((A + B * M) ** 2 + B**2 * V + (B * sigma + sigma**-power) ** 2)
    assert abs(denoising(_linear, GAUSSIAN, sigma, target_power=power).value / exact - 1) < 1e-12


def test_denoising_a_saturating_score_by_mpmath():
    """Given x = x_0 + sigma z, the target z / sigma has a known conditional law: another route than (x_0, z)."""
    sigma = 0.5
    with mpmath.workdps(20):
        total = mpmath.mpf(0)
        for w, m, v in zip((0.3, 0.7), (-1.0, 0.8), (0.2, 0.05), strict=True):
            spread = v + sigma**2

            def integrand(x, m=m, v=v, spread=spread):
                mean, variance = (x - m) / spread, v / (spread * sigma**2)  # of z / sigma given x
                return mpmath.npdf(x, m, mpmath.sqrt(spread)) * ((mpmath.tanh(2 * x) + mean) ** 2 + variance) / 2

            total += w * mpmath.quad(integrand, [m - 8, m - 2, m - 0.5, m, m + 0.5, m + 2, m + 8])
    found = denoising(lambda x: torch.tanh(2 * x), MIXTURE, sigma)
    assert abs(found.value / float(total) - 1) < 1e-11
    assert found.error < 1e-9


def test_fisher_divergence_by_mpmath():
    other = GAUSSIAN
    with mpmath.workdps(20):

        def log_p(x):
            parts = zip((0.3, 0.7), (-1.0, 0.8), (0.2, 0.05), strict=True)
            return mpmath.log(sum(w * mpmath.npdf(x, m, mpmath.sqrt(v)) for w, m, v in parts))

        def integrand(x):
            return mpmath.exp(log_p(x)) * (mpmath.diff(log_p, x) + (x - M) / V) ** 2

        exact = float(mpmath.quad(integrand, [-4, -2, -1, 0, 0.5, 0.8, 1.1, 2, 3]))
    found = fisher_divergence(MIXTURE, other)
    assert abs(found.value / exact - 1) < 1e-9
    assert found.error < 1e-10


def test_an_edge_costs_the_boundary_term():
    """Half-normal: explicit - implicit - (1/2) E score^2 = p(0) s(0), since -[p s] between 0 and infinity is that."""
    gap = explicit(_linear, HALF_NORMAL).value - implicit(_linear, HALF_NORMAL).value
    gap -= 0.5 * fisher_information(HALF_NORMAL).value
    assert abs(gap - math.sqrt(2 / math.pi) * A) < 1e-12
    assert abs(boundary(_linear, HALF_NORMAL) + math.sqrt(2 / math.pi) * A) < 1e-12


def test_mean_of_reports_its_error():
    p = LineDensity.of(MIXTURE)
    assert abs(p.mean_of(lambda x: torch.ones_like(x[:, 0])).value - 1) < 1e-13
    rough = LineDensity(MIXTURE.log_prob, -4.0, 4.0, panels=2).mean_of(lambda x: x[:, 0] ** 2)
    exact = (MIXTURE.cov + MIXTURE.mean**2).item()
    assert 1e-6 < abs(rough.value - exact) <= 2 * rough.error
