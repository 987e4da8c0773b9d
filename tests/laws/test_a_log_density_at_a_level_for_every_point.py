"""log p_t at levels that vary by point is that of the law noised by each: every class has a formula of its own."""

import pytest
import torch

from tests.laws.checks import EPS, UNITS, reach, typical, worst
from toy_distributions import LAWS

ALPHA, SIGMA = [0.0, 1e-3, 0.5, 0.8, 1.0, 0.8], [1e4, 1.0, 1e-6, 0.3, 1e-3, 0.3]


def miss(law, at_once, shape=(6,)) -> float:
    """Against noised(...).log_prob, in units of what rounding points of that size does at that noise."""
    levels = list(zip(ALPHA, SIGMA, strict=True))
    x = torch.cat([typical(law, a, s, 1, seed) for seed, (a, s) in enumerate(levels)])
    alone = torch.stack([law.noised(a, s).log_prob(y) for y, (a, s) in zip(x, levels, strict=True)])
    alpha, sigma = torch.tensor(ALPHA, dtype=torch.float64), torch.tensor(SIGMA, dtype=torch.float64)
    got = at_once(x.reshape(*shape, -1), alpha.reshape(shape), sigma.reshape(shape)).reshape(6)
    slope = torch.stack([law.noised(a, s).score(y).norm() for y, (a, s) in zip(x, levels, strict=True)])
    size = alone.abs() + law.dim + slope * (x.norm(dim=-1) + alpha * reach(law))
    # a squared distance over sigma^2 that is small beside those that were subtracted
    size = size + law.dim**0.5 * (x.norm(dim=-1) + alpha * reach(law)) / sigma
    return worst((got - alone).abs(), UNITS * EPS * size)


@pytest.mark.parametrize("name", LAWS)
def test_for_the_zoo(name):
    law = LAWS[name]()
    assert miss(law, law._noised_log_prob) <= 1
    assert miss(law, law._noised_log_prob, (2, 3)) <= 1
    one = law._noised_log_prob(typical(law, 0.8, 0.3, 1)[0], torch.tensor(0.8).double(), 0.3)
    assert one.shape == () and law._noised_log_prob(torch.zeros(0, law.dim).double(), 0.8, 0.3).shape == (0,)


@pytest.mark.parametrize("name", LAWS)
def test_a_level_off_by_a_millionth_is_caught(name):
    law = LAWS[name]()
    assert miss(law, lambda x, a, s: law._noised_log_prob(x, a, s * (1 + 1e-6))) > 1
