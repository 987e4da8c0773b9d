"""Mixtures at many points: tables, planes and screens give what differences give, or hand the point back."""

import math

import pytest
import torch

from tests.laws.checks import EPS, rounding, typical, worst
from toy_distributions import GaussianMixture, averages, grids, mixture, parts, streams
from toy_distributions.cloud import Cloud

LEVELS = [(1.0, 1e-6), (0.7, 1e-3), (0.7, 0.3), (0.01, 1.0), (0.0, 1.0), (1.0, 30.0), (1.0, 1e4)]


def law(d: int, kind: str = "full", spread: float = 2.0, components: int = 12) -> GaussianMixture:
    generator = torch.Generator().manual_seed(d)
    means = spread * torch.randn(components, d, dtype=torch.float64, generator=generator)
    roots = torch.randn(components, d, d, dtype=torch.float64, generator=generator)
    covs = roots @ roots.mT / d + 0.05 * torch.eye(d, dtype=torch.float64)
    covs[0] *= 1e-4
    covs[1, :, 0] = covs[1, 0, :] = 0.0  # a flat direction
    weights = torch.linspace(-40, 0, components, dtype=torch.float64).exp()
    given = {"full": covs, "diagonal": covs.diagonal(dim1=-2, dim2=-1), "isotropic": covs[:, -1, -1]}[kind]
    return GaussianMixture(weights / weights.sum(), means, given)


def points(law: GaussianMixture, alpha: float, sigma: float, n: int = 3000) -> torch.Tensor:
    near = typical(law, alpha, sigma, n)
    return torch.cat([near, 30 * near[: n // 10]])


def answers(law: GaussianMixture, x: torch.Tensor, alpha: float, sigma: float) -> tuple[torch.Tensor, ...]:
    noised = law.noised(alpha, sigma)
    return law.posterior_mean(x, alpha, sigma), noised.score(x), noised.log_prob(x)


def miss(law: GaussianMixture, alpha: float, sigma: float, aside: float = 0.0) -> float:
    """In units of what rounding x and the parameters does, and of 1e-12 of the size of an answer."""
    x = points(law, alpha, sigma)
    x[:, -1] += aside
    found = answers(law, x, alpha, sigma)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixture, "worthwhile", lambda terms, x: False)
        plain = answers(law, x, alpha, sigma)
        bound = rounding(law, x, alpha, sigma)
    of_mean = bound.mean + 1e-12 * plain[0].norm(dim=-1)
    of_score = bound.tweedie + 1e-12 * sigma**2 * plain[1].norm(dim=-1)
    of_log = 1e-12 * plain[2].abs().clamp_min(1) + x.norm(dim=-1) * bound.tweedie / sigma**2
    return max(
        worst((found[0] - plain[0]).norm(dim=-1), of_mean),
        worst(sigma**2 * (found[1] - plain[1]).norm(dim=-1), of_score),
        worst((found[2] - plain[2]).abs(), of_log),
    )


@pytest.mark.parametrize("kind", ["full", "diagonal", "isotropic"])
@pytest.mark.parametrize("d", [1, 2, 5, 8, 9, 24])
def test_they_agree(d, kind):
    for level in LEVELS:
        assert miss(law(d, kind), *level) <= 1, level


def sure(d: int, alpha: float, sigma: float, spread: float = 2.0) -> float:
    """The share of rows that the fast route answers itself."""
    p = law(d, spread=spread).noised(alpha, sigma)
    terms = averages.Terms(p._log_weights, p.means, p._variances, p._axes)
    nothing = torch.zeros_like(terms.spread)
    x = points(law(d, spread=spread), alpha, sigma)
    assert averages.worthwhile(terms, x)
    return averages.averages(terms, averages.Pull(p.means, nothing, nothing), x).sure.double().mean().item()


def test_where_they_serve_and_where_they_stand_back():
    for d in (1, 2, 8):
        assert sure(d, 0.7, 0.3) > 0.85  # the points thirty times as far may be handed back
        assert sure(d, 1.0, 1e-6, spread=1e6) < 0.1
    assert sure(24, 0.7, 0.3) > 0.85
    assert sure(24, 0.01, 1.0) == 0  # every component contends


@pytest.mark.parametrize("d", [2, 24])
def test_tables_are_not_trusted_far_from_every_mean(d, monkeypatch):
    """There the logits are large and alike, and only their small differences matter."""
    means = torch.zeros(12, d, dtype=torch.float64)
    means[:, 0] = torch.linspace(-1, 1, 12)
    row = GaussianMixture(torch.full((12,), 1 / 12, dtype=torch.float64), means, torch.ones(12, dtype=torch.float64))
    assert miss(row, 1.0, 0.05, aside=1e8) <= 1
    if d == 2:
        monkeypatch.setattr(averages, "LOGIT_UNITS", math.inf)
        assert miss(row, 1.0, 0.05, aside=1e8) > 1


def test_a_logit_off_by_1e_9_is_caught(monkeypatch):
    monkeypatch.setattr(averages, "BITS", averages.BITS * (1 + 1e-9))
    assert miss(law(2), 0.7, 0.3) > 1


def test_a_screen_that_drops_a_contender_is_caught(monkeypatch):
    assert miss(law(24, spread=0.5), 0.7, 0.3) <= 1
    monkeypatch.setattr(averages, "NEGLIGIBLE", 0.1)
    monkeypatch.setattr(averages, "CROWDED", 1.0)
    assert miss(law(24, spread=0.5), 0.7, 0.3) > 1


@pytest.mark.parametrize("d", [2, 24])
def test_pieces_do_not_matter(d, monkeypatch):
    p, level = law(d), (0.7, 0.3)
    x = points(p, *level)
    whole = answers(p, x, *level)
    for name, size in (("CACHED", 1), ("STRETCH", 100), ("PAIRS", 1)):
        monkeypatch.setattr(averages, name, size)
    for a, b in zip(answers(p, x, *level), whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e3 * EPS)


@pytest.mark.parametrize("d", [2, 24])
def test_whoever_wants_derivatives_gets_them(d):
    p = law(d)
    x = points(p, 0.7, 0.3, 800).requires_grad_()
    noised = p.noised(0.7, 0.3)
    (gradient,) = torch.autograd.grad(noised.log_prob(x).sum(), x)
    torch.testing.assert_close(gradient, noised.score(x.detach()), rtol=1e-9, atol=1e-9)


def cloud_miss(d: int, sigma: float) -> float:
    """A large cloud's stream against differences; its points come in pairs that compete at this noise."""
    generator = torch.Generator().manual_seed(d)
    points_of_it = torch.randn(150, d, dtype=torch.float64, generator=generator).repeat(2, 1)
    points_of_it[150:] += sigma * torch.randn(150, d, dtype=torch.float64, generator=generator)
    small = GaussianMixture.empirical(points_of_it)
    x = points(small, 0.7, sigma)
    plain, bound = small.posterior_mean(x, 0.7, sigma), rounding(small, x, 0.7, sigma).mean
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "DIRECT_ELEMENTS", 0)
        large = GaussianMixture.empirical(points_of_it).posterior_mean(x, 0.7, sigma)
    return worst((large - plain).norm(dim=-1), bound + 1e-12 * (plain.norm(dim=-1) + 1))


@pytest.mark.parametrize("sigma", [1e-6, 1e-3, 0.03, 0.3, 3.0, 1e4])
@pytest.mark.parametrize("d", [1, 2, 5, 16, 17, 40])
def test_streams_agree(d, sigma, monkeypatch):
    assert cloud_miss(d, sigma) <= 1
    in_blocks(monkeypatch)
    assert cloud_miss(d, sigma) <= 1
    monkeypatch.setattr(streams, "SPARSE", 2.0)  # whatever is heard, one by one
    assert cloud_miss(d, sigma) <= 1


def in_blocks(monkeypatch):
    """Many blocks, so that the maximum runs, and no way round them."""
    monkeypatch.setattr(streams, "gridded_sums", lambda *_: None)
    for name, size in (("CACHED", 7 * streams.ROWS), ("QUERIES", 50), ("WEIGHTS", 50 * 30)):
        monkeypatch.setattr(streams, name, size)


def on_a_grid(d: int, sigma: float, dtype: torch.dtype = torch.float64, aside: float = 0.0) -> tuple[float, float]:
    """The largest error of sums through a grid, in units of the bound, and the share of rows that it answers."""
    generator = torch.Generator().manual_seed(d)
    small = GaussianMixture.empirical(torch.randn(300, d, dtype=torch.float64, generator=generator)).to(dtype)
    x = torch.cat([typical(small, 0.7, sigma, 200), 3 * typical(small, 0.7, sigma, 10, seed=1)]).to(dtype)
    x[-1] += aside
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grids, "NODES_PER_POINT", 10_000)
        patch.setattr(grids, "MOST_WORK", 10_000)
        found = grids.gridded_sums(Cloud(small.means, small._log_weights), x, 0.7, sigma**2)
    if found is None:
        return 0.0, 0.0
    mean, sure = found
    exact, x = small.to(torch.float64), x[sure].double()
    plain = exact.posterior_mean(x, 0.7, sigma)
    bound = torch.finfo(dtype).eps / EPS * (rounding(exact, x, 0.7, sigma).mean + 1e-12 * (plain.norm(dim=-1) + 1))
    return worst((mean[sure].double() - plain).norm(dim=-1), bound), sure.double().mean().item()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("d", [1, 2])
def test_sums_through_a_grid_agree(d, dtype):
    for sigma, least in ((1e-3, 0.0), (0.1, 0.9), (0.5, 0.95), (3.0, 0.95), (1e4, 0.95)):
        miss, share = on_a_grid(d, sigma, dtype)
        assert miss <= 1, sigma
        assert share >= least, sigma
    assert on_a_grid(d, 0.5, dtype, aside=1e30)[0] <= 1
    assert on_a_grid(3, 0.5, dtype) == (0, 0)


def test_a_grid_too_coarse_is_caught(monkeypatch):
    monkeypatch.setattr(grids, "SAFETY", 1e-8)
    assert on_a_grid(2, 0.5)[0] > 1


def test_a_grid_that_ends_before_the_points_is_caught(monkeypatch):
    whole = grids.Grid
    monkeypatch.setattr(grids, "Grid", lambda low, high, dtype: whole(low + 3, high - 3, dtype))
    assert on_a_grid(2, 0.5)[0] > 1


def test_a_grid_trusted_where_its_sums_vanish_is_caught(monkeypatch):
    lone = GaussianMixture.empirical(torch.tensor([[0.0, 0.0], [100.0, 100.0]], dtype=torch.float64))
    x = torch.tensor([[50.0, 50.1]], dtype=torch.float64).repeat(20_000, 1)
    cloud = Cloud(lone.means, lone._log_weights)
    monkeypatch.setattr(grids, "MOST_WORK", 10_000)
    found = grids.gridded_sums(cloud, x, 1.0, 1.0)
    assert found is not None
    assert not found[1].any()


@pytest.mark.parametrize("d", [2, 40])
def test_a_stream_that_forgets_to_scale_down_is_caught(d, monkeypatch):
    in_blocks(monkeypatch)
    monkeypatch.setattr(torch.Tensor, "mul_", lambda self, other: self)
    assert cloud_miss(d, 0.3) > 1


def test_a_stream_that_leaves_out_what_is_heard_is_caught(monkeypatch):
    in_blocks(monkeypatch)
    monkeypatch.setattr(streams, "UNHEARD", 1e14)
    assert cloud_miss(40, 0.3) > 1


def test_a_stream_trusted_beyond_its_digits_is_caught(monkeypatch):
    assert cloud_miss(2, 1e-5) <= 1
    monkeypatch.setattr(streams, "LOGIT_UNITS", math.inf)
    assert cloud_miss(2, 1e-5) > 1


def test_products_trusted_beyond_their_digits_are_caught(monkeypatch):
    assert cloud_miss(40, 1e-5) <= 1
    monkeypatch.setattr(streams, "SLACK", math.inf)
    assert cloud_miss(40, 1e-5) > 1
