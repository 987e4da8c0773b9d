"""Independent is reproducible, PerRow ignores batch mates, Brownian is one path on every refinement."""

import pytest
import torch

from theory import Brownian, Independent, PerRow, VPLinear, no_noise, uniform_lambda
from theory.noise import snr_clock, time_clock

PROCESS = VPLinear()
COARSE = uniform_lambda(PROCESS, 6, start=-1, end=2)
FINE = uniform_lambda(PROCESS, 24, start=-1, end=2)


def increments(source, grid, clock, like):
    steps = list(zip(grid.levels, grid.levels[1:], strict=False))
    return [source(s, t, like) * abs(clock(t) - clock(s)) ** 0.5 for s, t in steps]


def test_independent_repeats_with_its_seed_only():
    like = torch.zeros(100, 2, dtype=torch.float64)
    s, t = COARSE.levels[:2]
    a, b, c = (Independent(seed)(s, t, like) for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_a_row_s_noise_does_not_depend_on_its_batch():
    like = torch.zeros(4, 3, dtype=torch.float64)
    s, t = COARSE.levels[:2]
    together, alone = PerRow([5, 6, 7, 8]), PerRow([7])
    for _ in range(3):
        assert torch.equal(together(s, t, like)[2], alone(s, t, like[:1])[0])


@pytest.mark.parametrize(
    "source", [PerRow(range(20_000)), Brownian(0, COARSE), Independent(0)], ids=lambda s: type(s).__name__
)
def test_every_source_is_standard_normal(source):
    z = source(COARSE.levels[1], COARSE.levels[2], torch.zeros(20_000, 5, dtype=torch.float64)).flatten()
    n = len(z)
    # five standard errors: a false alarm once in 2e6 runs; the seeds are fixed, so never by chance
    assert abs(z.mean()) < 5 / n**0.5
    assert abs(z.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((z**4).mean() - 3) < 5 * (96 / n) ** 0.5
    ranks = torch.special.ndtr(z.sort().values)
    steps = torch.arange(1, n + 1, dtype=torch.float64) / n
    assert (ranks - steps).abs().max() < 2.7 / n**0.5  # Kolmogorov-Smirnov at 1e-6
    columns = z.reshape(-1, 5).T.corrcoef() - torch.eye(5)
    assert columns.abs().max() < 5 / (n / 5) ** 0.5


@pytest.mark.parametrize("clock", [time_clock, snr_clock])
def test_brownian_increments_add_up_under_refinement(clock):
    like = torch.zeros(50, 2, dtype=torch.float64)
    coarse = increments(Brownian(3, COARSE, clock), COARSE, clock, like)
    fine = increments(Brownian(3, COARSE, clock), FINE, clock, like)
    for i, increment in enumerate(coarse):
        total = torch.stack(fine[4 * i : 4 * i + 4]).sum(0)
        assert (total - increment).abs().max() < 1e-9 * abs(clock(FINE.levels[0]) - clock(FINE.levels[-1])) ** 0.5


def test_independent_increments_would_not_add_up():
    like = torch.zeros(50, 2, dtype=torch.float64)
    coarse = increments(Independent(3), COARSE, time_clock, like)
    fine = increments(Independent(3), FINE, time_clock, like)
    assert (torch.stack(fine[:4]).sum(0) - coarse[0]).abs().max() > 0.1


def test_brownian_increments_are_uncorrelated_with_unit_rate():
    like = torch.zeros(20_000, 1, dtype=torch.float64)
    source = Brownian(1, FINE)
    z = torch.cat([source(s, t, like) for s, t in zip(FINE.levels, FINE.levels[1:], strict=False)], 1)
    gap = z.T.cov() - torch.eye(z.shape[1], dtype=torch.float64)
    assert gap.abs().max() < 6 * (2 / len(z)) ** 0.5


def test_brownian_may_be_queried_in_any_order():
    like = torch.zeros(3, 1, dtype=torch.float64)
    forward, backward = Brownian(2, FINE), Brownian(2, FINE)
    pairs = list(zip(FINE.levels, FINE.levels[1:], strict=False))
    one = {i: forward(*pair, like) for i, pair in enumerate(pairs)}
    other = {i: backward(*pairs[i], like) for i in reversed(range(len(pairs)))}
    for i in one:
        torch.testing.assert_close(one[i], other[i], rtol=0, atol=1e-9)


def test_bad_sources_are_named():
    s, t = COARSE.levels[:2]
    with pytest.raises(ValueError, match="pass noise=Independent"):
        no_noise(s, t, torch.zeros(1, 1))
    with pytest.raises(ValueError, match="PerRow has 2 seeds and the state has 3 rows"):
        PerRow([1, 2])(s, t, torch.zeros(3, 1))
    with pytest.raises(ValueError, match="covers the grid it was made for"):
        Brownian(0, COARSE)(PROCESS.level_at(-2.0), PROCESS.level_at(-1.5), torch.zeros(1, 1))
