"""posterior_cov_vp, its diagonal and its trace are those of posterior_cov, for every law and for large clouds."""

import pytest
import torch

from tests.laws.checks import EPS, UNITS, Broken, rounding, typical, worst
from toy_distributions import LAWS, GaussianMixture, parts, second_moments

LEVELS = [(0.8, 1e-3), (0.8, 0.3), (0.01, 1.0), (1.0, 30.0), (1.0, 1e4)]


def low_rank() -> GaussianMixture:
    generator = torch.Generator().manual_seed(0)
    means, factors = torch.randn(3, 6, generator=generator).double(), torch.randn(3, 6, 2, generator=generator).double()
    return GaussianMixture.low_rank([0.5, 0.3, 0.2], means, factors, [0.0, 0.1, 1.0])


def cloud(spread: float, d: int = 24) -> GaussianMixture:
    generator = torch.Generator().manual_seed(d)
    means = torch.randn(60, d, dtype=torch.float64, generator=generator)
    means[30:] = means[:30] + 1e-3 * torch.randn(30, d, dtype=torch.float64, generator=generator)
    variances = spread * torch.rand(60, dtype=torch.float64, generator=generator)
    return GaussianMixture(torch.full((60,), 1 / 60, dtype=torch.float64), means, variances)


def miss(law, asked, alpha: float, sigma: float) -> float:
    """Against the matrix of law, of which a rounded x or parameter moves the root of an entry as it moves the mean."""
    x = torch.cat([typical(asked, alpha, sigma, 12), 5 * typical(asked, alpha, sigma, 4, seed=1)])
    v = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(3))
    cov = law.posterior_cov(x, alpha, sigma)
    trace = cov.diagonal(dim1=-2, dim2=-1).sum(-1)
    # a mean is moved by `rounding`, and so is each contender's distance from it
    moved = rounding(law, x, alpha, sigma).mean
    bound = 2e-13 * trace + UNITS * trace.sqrt() * moved + moved**2
    found = asked.posterior_cov_vp(x, alpha, sigma, v), asked.posterior_cov_diag(x, alpha, sigma)
    exact = (cov @ v.unsqueeze(-1)).squeeze(-1), cov.diagonal(dim1=-2, dim2=-1)
    return max(
        worst((found[0] - exact[0]).norm(dim=-1), v.norm(dim=-1) * bound),
        worst((found[1] - exact[1]).norm(dim=-1), bound),
        worst((asked.posterior_cov_trace(x, alpha, sigma) - trace).abs(), bound),
    )


@pytest.mark.parametrize("name", LAWS)
def test_for_the_zoo(name):
    for level in LEVELS:
        assert miss(LAWS[name](), LAWS[name](), *level) <= 1, level


@pytest.mark.parametrize("sigma", [1e-3, 0.3, 30.0])
def test_for_low_rank(sigma):
    assert miss(low_rank(), low_rank(), 0.8, sigma) <= 1


@pytest.mark.parametrize("spread", [0.0, 1e-4, 1.0])
@pytest.mark.parametrize("level", LEVELS)
def test_for_large_clouds(level, spread, monkeypatch):
    law = cloud(spread)
    monkeypatch.setattr(parts, "DIRECT_ELEMENTS", 0)
    assert law._parts.large
    assert miss(law, law, *level) <= 1


def test_levels_and_vectors_for_every_point(monkeypatch):
    for elements in (1 << 16, 0):
        monkeypatch.setattr(parts, "DIRECT_ELEMENTS", elements)
        law = cloud(0.1, 5)
        x, sigma = typical(law, 1.0, 0.5, 6).reshape(2, 3, 5), torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
        v = torch.ones(5, dtype=torch.float64)
        exact = law.posterior_cov(x, 1.0, sigma)
        torch.testing.assert_close(law.posterior_cov_vp(x, 1.0, sigma, v), exact @ v, rtol=1e-10, atol=1e-12)
        found = law.posterior_cov_trace(x, 1.0, sigma)
        torch.testing.assert_close(found, exact.diagonal(dim1=-2, dim2=-1).sum(-1), rtol=1e-10, atol=1e-12)
        assert law.posterior_cov_vp(x[:0], 1.0, sigma, v).shape == (0, 3, 5)


def test_no_matrix_is_made(monkeypatch):
    """4,000 x 4,000 entries a point would not pass unnoticed: the law is asked for no matrix at all."""
    generator = torch.Generator().manual_seed(0)
    means, factors = torch.randn(2, 4000, generator=generator), torch.randn(2, 4000, 3, generator=generator)
    monkeypatch.setattr(GaussianMixture, "_posterior_cov", None)
    monkeypatch.setattr(GaussianMixture, "covs", None)
    for law in (
        GaussianMixture.low_rank([0.5, 0.5], means.double(), factors.double(), [0.1, 0.2]),
        GaussianMixture.empirical(torch.randn(50, 4000, generator=generator)),
    ):
        x = typical(law, 1.0, 1.0, 2)
        assert law.posterior_cov_vp(x, 1.0, 1.0, x).shape == x.shape
        assert law.posterior_cov_trace(x, 1.0, 1.0).shape == (2,)


def test_products_that_cancel_are_caught(monkeypatch):
    law = cloud(0.0)
    monkeypatch.setattr(parts, "DIRECT_ELEMENTS", 0)
    assert miss(law, law, 0.8, 1e-3) <= 1
    monkeypatch.setattr(second_moments, "DIGITS", 1e300)
    assert miss(law, law, 0.8, 1e-3) > 1


@pytest.mark.parametrize("name", LAWS)
def test_a_product_off_by_1e_8_is_caught(name):
    law = LAWS[name]()
    wrong = Broken(law, _posterior_cov=lambda law, x, a, s: law._posterior_cov(x, a, s) * (1 + 1e-8))
    assert miss(law, wrong, 0.8, 0.3) > 1 or not law.posterior_cov(typical(law, 0.8, 0.3), 0.8, 0.3).abs().max() > EPS


def test_bad_vectors_are_refused_in_one_sentence():
    law = LAWS["mixture_2d"]()
    x = torch.zeros(3, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"v must broadcast to the shape \(3, 2\) of x; got \(3,\)"):
        law.posterior_cov_vp(x, 1.0, 1.0, torch.ones(3))
    with pytest.raises(ValueError, match=r"v must be a tensor of shape \(3, 2\); got list"):
        law.posterior_cov_vp(x, 1.0, 1.0, [1.0, 2.0])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"v must be finite"):
        law.posterior_cov_vp(x, 1.0, 1.0, torch.tensor([1.0, float("nan")]))
