"""Samples have the law's mean and covariance within their standard errors, and its cdf where there is one.

False alarms: the largest of m standard normal numbers exceeds Z with probability below 2 m exp(-Z^2/2); with m = 500
entries in this file and Z = 6.5 that is 7e-7. Squares have heavier tails, but n = 20000 of them are close to normal.
"""

import math

import pytest
import torch
from hypothesis import given

from tests.laws.checks import Broken
from toy_distributions import LAWS, Distribution, identities
from toy_distributions import strategies as draws

N, Z = 20_000, 6.5


def largest(law: Distribution, seed: int = 0) -> float:
    mean, cov = identities.sample_moments(law, N, generator=torch.Generator().manual_seed(seed))
    return max(mean.abs().max().item(), cov.abs().max().item())


@pytest.mark.parametrize("level", [(1.0, 0.0), (0.6, 0.8)], ids=str)
@pytest.mark.parametrize("name", [name for name in LAWS if name != "cauchy"])  # which has none
def test_moments_for_the_zoo(name, level):
    assert largest(LAWS[name]().noised(*level)) < Z


@given(draws.laws())
def test_moments_for_laws_drawn(law):
    assert largest(law) < Z


@pytest.mark.parametrize("level", [(1.0, 0.0), (0.6, 0.8)], ids=str)
@pytest.mark.parametrize("name", [name for name in LAWS if LAWS[name]().dim == 1])
def test_the_empirical_cdf_is_the_cdf(name, level):
    law = LAWS[name]().noised(*level)
    x = law.sample(N, generator=torch.Generator().manual_seed(1))[:, 0].sort().values
    gap = torch.maximum(
        (law.cdf(x) - torch.arange(N) / N).min().abs(), (law.cdf(x) - torch.arange(1, N + 1) / N).max().abs()
    )
    if level[1] > 0:  # a law with atoms jumps
        assert gap < math.sqrt(math.log(2 / 1e-7) / (2 * N))  # Dvoretzky, Kiefer, Wolfowitz: one run in 1e7


@pytest.mark.parametrize("name", [name for name in LAWS if name not in ("dirac", "cauchy")])
def test_samples_a_tenth_too_wide_are_caught(name):
    def wide(law, n, *, generator):
        return law.mean + 1.1 * (law.sample(n, generator=generator) - law.mean)

    def moved(law, n, *, generator):
        return law.sample(n, generator=generator) + 0.1 * law.cov.diagonal().max().sqrt()

    assert largest(Broken(LAWS[name]().noised(1.0, 0.3), sample=wide)) > Z
    assert largest(Broken(LAWS[name]().noised(1.0, 0.3), sample=moved)) > Z


@pytest.mark.parametrize("name", LAWS)
def test_the_generator_decides(name):
    law = LAWS[name]()
    one, same, other = (law.sample(9, generator=torch.Generator().manual_seed(s)) for s in (3, 3, 4))
    assert one.shape == (9, law.dim)
    assert torch.equal(one, same)
    assert name == "dirac" or not torch.equal(one, other)
