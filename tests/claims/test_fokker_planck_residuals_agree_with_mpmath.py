"""The residual of a right and of a wrong drift is what high-precision differentiation of the density gives."""

import math

import mpmath
import pytest
import torch

from theory.fokker_planck import gaussian_moments, kernel, residual
from theory.process import PROCESSES, VPLinear
from toy_distributions.mixture import GaussianMixture

WEIGHTS, MEANS, VARIANCES = (0.3, 0.7), (-1.0, 0.8), (0.2, 0.05)
LAW = GaussianMixture(list(WEIGHTS), [[m] for m in MEANS], list(VARIANCES))
TILTED = GaussianMixture.gaussian([0.7, -0.2], [[0.25, 0.1], [0.1, 0.5]])


def _log_density(x, t, beta_min=0.1, beta_max=20.0):
    """log p_t(x) of the mixture under VP, from the definition."""
    b = beta_min * t + (beta_max - beta_min) * t**2 / 2
    alpha, variance = mpmath.exp(-b / 2), -mpmath.expm1(-b)
    total = mpmath.mpf(0)
    for w, m, v in zip(WEIGHTS, MEANS, VARIANCES, strict=True):
        s = alpha**2 * v + variance
        total += w * mpmath.exp(-((x - alpha * m) ** 2) / (2 * s)) / mpmath.sqrt(2 * mpmath.pi * s)
    return mpmath.log(total)


@pytest.mark.parametrize(("kappa", "drift_factor"), [(1, 1), (0, 1), (-1, 1), (-4, 1), (0, 2), (-1, 0.5), (-4, 0.2)])
def test_residual_of_vp_on_a_mixture(kappa, drift_factor):
    x, t = 0.37, 0.31
    with mpmath.workdps(40):
        beta = mpmath.mpf("0.1") + mpmath.mpf("19.9") * mpmath.mpf(t)
        rate = mpmath.diff(lambda u: _log_density(mpmath.mpf(x), u), mpmath.mpf(t))
        first = mpmath.diff(lambda y: _log_density(y, mpmath.mpf(t)), mpmath.mpf(x))
        second = mpmath.diff(lambda y: _log_density(y, mpmath.mpf(t)), mpmath.mpf(x), 2)
        pull = drift_factor * (1 - mpmath.mpf(kappa)) / 2 * beta
        drift, expansion = -beta / 2 * mpmath.mpf(x) - pull * first, -beta / 2 - pull * second
        terms = [rate, expansion, drift * first, -kappa * beta / 2 * second, -kappa * beta / 2 * first**2]
        exact = float(abs(sum(terms)) / sum(abs(term) for term in terms))
    point = torch.tensor([[x]], dtype=torch.float64)
    found = residual(LAW, VPLinear(), t, point, kappa=float(kappa), drift_factor=float(drift_factor))
    assert abs(found.value - exact) < 1e-10
    assert found.error < 1e-9
    assert (exact > 0.01) == (drift_factor != 1)


def test_residual_needs_room_for_its_differences():
    with pytest.raises(ValueError, match="room for four differences"):
        residual(LAW, VPLinear(), 1.0, torch.zeros(1, 1, dtype=torch.float64), kappa=0.0)


@pytest.mark.parametrize("name", ["vp_linear", "ve", "linear_path"])
@pytest.mark.parametrize("factor", [1.0, 1.3])
def test_moments_of_a_scaled_flow(name, factor):
    """For the ODE with its score times c, a variance S becomes S_s (S_t / S_s)^c (alpha_t / alpha_s)^{2 (1 - c)}."""
    process, law = PROCESSES[name](), GaussianMixture.gaussian(0.0, 0.25)
    s, t = process.level_at(-1.0), process.level_at(1.5)
    spread_s, spread_t = (0.25 * float(at.alpha) ** 2 + float(at.sigma) ** 2 for at in (s, t))
    exact = spread_s * (spread_t / spread_s) ** factor * float(t.alpha / s.alpha) ** (2 * (1 - factor))
    out = gaussian_moments(law, process, s, t, kappa=0.0, drift_factor=factor)
    assert abs(out.cov.item() / exact - 1) < 1e-11


@pytest.mark.parametrize("kappa", [1.0, 0.0, -1.0, -4.0])
def test_every_member_of_the_family_has_the_marginals(kappa):
    process = VPLinear()
    clean, noisy = process.level_at(2.0), process.level_at(-1.5)
    s, t = (clean, noisy) if kappa > 0 else (noisy, clean)
    out, true = gaussian_moments(TILTED, process, s, t, kappa=kappa), TILTED.noised(float(t.alpha), float(t.sigma))
    assert (out.mean - true.mean).abs().max() < 1e-11
    assert (out.cov - true.cov).abs().max() < 1e-11


def test_kernel_of_an_ornstein_uhlenbeck_process():
    process = VPLinear(beta_min=2.0, beta_max=2.0)
    alpha, variance = kernel(lambda t: -1.0, lambda t: 2.0, process.level(0.0), process.level(0.7))
    assert abs(alpha - math.exp(-0.7)) < 1e-12
    assert abs(variance + math.expm1(-1.4)) < 1e-12
