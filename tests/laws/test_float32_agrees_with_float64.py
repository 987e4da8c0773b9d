"""In float32 a law is off by no more than rounding its parameters and points to float32 makes it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.laws.checks import EPS, Broken, rounding, typical, worst
from toy_distributions import LAWS
from toy_distributions import strategies as draws

COARSER = torch.finfo(torch.float32).eps / EPS


def miss(law, x, alpha, sigma):
    small = law.to(torch.float32)
    x32 = x.float()
    mean, score = small.posterior_mean(x32, alpha, sigma), small.noised(alpha, sigma).score(x32)
    cov, log_prob = small.posterior_cov(x32, alpha, sigma), small.noised(alpha, sigma).log_prob(x32)
    assert {part.dtype for part in (mean, score, cov, log_prob)} == {torch.float32}
    x = x32.double()
    bound = rounding(law, x, alpha, sigma)
    tweedie = sigma**2 * (score.double() - law.noised(alpha, sigma).score(x))
    return max(
        worst((mean.double() - law.posterior_mean(x, alpha, sigma)).norm(dim=-1), COARSER * bound.mean),
        worst(tweedie.norm(dim=-1), COARSER * bound.tweedie),
    )


@given(st.data(), draws.laws(), draws.noise_levels())
def test_for_laws_drawn(data, law, level):
    assert miss(law, data.draw(draws.points_of(law, *level)), *level) <= 1


@pytest.mark.parametrize("name", LAWS)
def test_for_the_zoo(name):
    law = LAWS[name]()
    for sigma in (1e-6, 1e-3, 0.3, 1.0, 1e4):
        assert miss(law, typical(law, 0.8, sigma), 0.8, sigma) <= 1, sigma


@pytest.mark.parametrize("name", LAWS)
def test_half_precision_would_be_caught(name):
    def halved(law, x, alpha, sigma):
        return law._posterior_mean(x.bfloat16().to(x.dtype), alpha, sigma).bfloat16().to(x.dtype)

    law = LAWS[name]()
    x = typical(law, 0.8, 0.3)
    exact = law.to(torch.float32)
    law.to = lambda dtype=None, device=None: Broken(exact, _posterior_mean=halved)
    assert miss(law, x, 0.8, 0.3) > 1


@pytest.mark.parametrize("name", LAWS)
def test_there_and_back_keeps_the_law(name):
    law = LAWS[name]()
    same = law.to(torch.float64).to(device="cpu")
    x = typical(law, 0.8, 0.3)
    assert type(same) is type(law)
    assert torch.equal(same.posterior_mean(x, 0.8, 0.3), law.posterior_mean(x, 0.8, 0.3))
    assert law.to(torch.float32).dtype == torch.float32
