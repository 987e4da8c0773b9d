"""A point's answer does not depend on the batch it comes in, its shape, or how the batch is cut in pieces."""

import pytest
import torch

from tests.laws.checks import EPS, UNITS, Broken, levels_of, rounding, typical, worst
from toy_distributions import LAWS, GaussianMixture, parts, pieces
from toy_distributions.cloud import FEW_DIMENSIONS, Cloud


def miss(law, got, x, alpha, sigma):
    """Posterior means ``got`` (n, dim) against those of one point at a time, alpha and sigma being lists."""
    alone = torch.stack([law.posterior_mean(y, a, s) for y, a, s in zip(x, alpha, sigma, strict=True)])
    bound = torch.stack([rounding(law, y, a, s).mean for y, a, s in zip(x, alpha, sigma, strict=True)])
    return worst((got - alone).norm(dim=-1), bound)


@pytest.mark.parametrize("name", LAWS)
def test_shapes(name):
    for shape in ((), (0,), (1,), (12,), (3, 4), (2, 1, 6), (2, 0, 3)):
        keeps_its_shape(LAWS[name](), shape)


def keeps_its_shape(law, shape):
    n = torch.Size(shape).numel()
    x = typical(law, 0.8, 0.3, 12)[:n]
    batch = x.reshape(*shape, law.dim)
    noised = law.noised(0.8, 0.3)
    assert noised.log_prob(batch).shape == shape
    assert noised.score(batch).shape == (*shape, law.dim)
    assert law.posterior_cov(batch, 0.8, 0.3).shape == (*shape, law.dim, law.dim)
    mean = law.posterior_mean(batch, 0.8, 0.3)
    assert mean.shape == (*shape, law.dim)
    if shape == (3, 4):
        assert miss(law, mean.reshape(n, law.dim), x, [0.8] * n, [0.3] * n) <= 1
    torch.testing.assert_close(noised.score(batch).reshape(n, law.dim), noised.score(x), rtol=1e-11, atol=1e-11)


LEVELS = [0.0, 1e-3, 0.5, 0.8, 1.0, 1.0], [1e4, 1.0, 1e-6, 0.3, 1e-3, 30.0]


@pytest.mark.parametrize("name", LAWS)
def test_a_level_for_every_point(name):
    law = LAWS[name]()
    alpha, sigma = LEVELS if levels_of(law, [(0.0, 1e4)]) else ([1e-3, *LEVELS[0][1:]], LEVELS[1])
    x = torch.cat([typical(law, a, s, 1, seed) for seed, (a, s) in enumerate(zip(alpha, sigma, strict=True))])
    a, s = (torch.tensor(level, dtype=torch.float64) for level in (alpha, sigma))
    assert miss(law, law.posterior_mean(x, a, s), x, alpha, sigma) <= 1
    table = law.posterior_mean(x.reshape(2, 3, -1), a.reshape(2, 3), s.reshape(2, 3))
    assert miss(law, table.reshape(6, -1), x, alpha, sigma) <= 1
    covs = torch.stack([law.posterior_cov(*each) for each in zip(x, alpha, sigma, strict=True)])
    torch.testing.assert_close(law.posterior_cov(x, a, s), covs, rtol=1e-10, atol=1e-13)
    one = law.posterior_mean(x, 0.8, s[3:4])  # a number and a tensor that broadcasts
    assert miss(law, one, x, [0.8] * 6, [0.3] * 6) <= 1


@pytest.mark.parametrize("name", LAWS)
def test_a_level_given_to_the_wrong_point_is_caught(name):
    law = Broken(LAWS[name](), _posterior_mean=lambda law, x, a, s: law._posterior_mean(x, a, s + 1e-6 * (x.ndim > 1)))
    x = typical(LAWS[name](), 0.8, 0.3, 6)
    assert miss(law, law.posterior_mean(x, 0.8, 0.3), x, [0.8] * 6, [0.3] * 6) > 1 or name == "dirac"


@pytest.mark.parametrize("name", LAWS)
def test_pieces(name, monkeypatch):
    law = LAWS[name]()
    x = typical(law, 0.8, 0.3, 37)
    level = 0.8, torch.linspace(0.1, 2.0, 37, dtype=torch.float64)
    whole = law.posterior_mean(x, *level), law.posterior_cov(x, *level), law.noised(0.8, 0.3).log_prob(x)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1)
    cut = law.posterior_mean(x, *level), law.posterior_cov(x, *level), law.noised(0.8, 0.3).log_prob(x)
    for a, b in zip(whole, cut, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def cloud(n: int, d: int, spread: float, apart: float = 0.01) -> GaussianMixture:
    """n isotropic components in R^d, in pairs close to each other, so that they compete at a noise of that size."""
    generator = torch.Generator().manual_seed(n + d)
    means = torch.randn(n // 2, d, dtype=torch.float64, generator=generator).repeat(2, 1)
    means[: n // 2] += apart * torch.randn(n // 2, d, dtype=torch.float64, generator=generator)
    variances = spread * torch.rand(n, dtype=torch.float64, generator=generator)
    return GaussianMixture(torch.full((n,), 1 / n, dtype=torch.float64), means, variances)


def cloud_miss(law: GaussianMixture, monkeypatch, alpha: float, sigma: float) -> float:
    """The path for large clouds against plain differences. A product of matrices may err by 1e5 eps in a logit."""
    x = torch.cat([typical(law, alpha, sigma, 20), 10 * typical(law, alpha, sigma, 5, seed=1)])
    direct = law.posterior_mean(x, alpha, sigma), law.noised(alpha, sigma).log_prob(x)
    monkeypatch.setattr(parts, "DIRECT_ELEMENTS", 0)
    large = law.posterior_mean(x, alpha, sigma), law.noised(alpha, sigma).log_prob(x)
    per_point = law.posterior_mean(x, alpha, torch.full((25,), sigma, dtype=torch.float64))
    monkeypatch.undo()
    bound = rounding(law, x, alpha, sigma)
    spread = law.posterior_cov(x, alpha, sigma).diagonal(dim1=-2, dim2=-1).sum(-1).sqrt()
    allowed = bound.mean + (1e5 * EPS * spread if law.dim > FEW_DIMENSIONS else 0)
    of_log = 1e5 * EPS + UNITS * EPS * direct[1].abs() + (x.norm(dim=-1) * bound.tweedie) / sigma**2
    return max(
        worst((large[0] - direct[0]).norm(dim=-1), allowed),
        worst((per_point - direct[0]).norm(dim=-1), allowed),
        worst((large[1] - direct[1]).abs(), of_log),
    )


@pytest.mark.parametrize("spread", [0.0, 1e-3])
@pytest.mark.parametrize("dim", [2, 24])
def test_large_clouds(dim, spread, monkeypatch):
    for sigma in (1e-6, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 10.0, 1e4):
        for apart in (0.01, min(sigma, 1.0)):
            assert cloud_miss(cloud(200, dim, spread, apart), monkeypatch, 0.7, sigma) <= 1, (sigma, apart)


@pytest.mark.parametrize("sigma", [1e-6, 1e-3, 0.1])
def test_a_large_cloud_of_many_contenders(sigma, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(2, 1, 24, generator=generator).double().expand(2, 100, 24).reshape(200, 24)
    means = means + 0.1 * sigma * torch.randn(200, 24, generator=generator).double()
    assert cloud_miss(GaussianMixture.empirical(means), monkeypatch, 0.7, sigma) <= 1


def test_a_large_cloud_at_alpha_zero(monkeypatch):
    law = cloud(200, 24, 0.0)
    monkeypatch.setattr(parts, "DIRECT_ELEMENTS", 0)
    alpha = torch.tensor([0.0, 1.0], dtype=torch.float64)
    x = torch.stack([torch.ones(24, dtype=torch.float64), law.means[7]])
    mean = law.posterior_mean(x, alpha, 1e-6)
    torch.testing.assert_close(mean[0], law.mean, rtol=0, atol=1e-14)
    torch.testing.assert_close(mean[1], law.means[7], rtol=0, atol=1e-14)


def test_a_large_cloud_without_its_refinement_is_caught(monkeypatch):
    def product_only(self, x, alpha, spread):
        return alpha * (alpha * (self.means**2).sum(-1) - 2 * x @ self.means.T), (x**2).sum(-1, keepdim=True)

    law = cloud(200, 24, 0.0, apart=1e-6)
    assert cloud_miss(law, pytest.MonkeyPatch(), 0.7, 1e-6) <= 1
    monkeypatch.setattr(Cloud, "_by_product", product_only)
    assert cloud_miss(law, pytest.MonkeyPatch(), 0.7, 1e-6) > 1
