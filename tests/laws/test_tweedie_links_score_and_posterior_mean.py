"""alpha E[x_0|x] = x + sigma^2 score(x) of the noised law: two separate formulas, one number."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.laws.checks import Broken, levels_of, rounding, typical, worst
from toy_distributions import LAWS, identities
from toy_distributions import strategies as draws


def miss(law, x, alpha, sigma):
    residual = identities.tweedie(law, x, alpha, sigma).norm(dim=-1)
    return worst(residual, rounding(law, x, alpha, sigma).tweedie)


@given(st.data(), draws.laws(), draws.noise_levels())
def test_for_laws_drawn(data, law, level):
    assert miss(law, data.draw(draws.points_of(law, *level)), *level) <= 1


@pytest.mark.parametrize("name", LAWS)
def test_for_the_zoo(name):
    law = LAWS[name]()
    for alpha, sigma in levels_of(law, product((0.0, 1e-3, 1.0), (1e-6, 1e-3, 0.3, 1.0, 1e4))):
        assert miss(law, typical(law, alpha, sigma), alpha, sigma) <= 1, (alpha, sigma)


@pytest.mark.parametrize("name", LAWS)
def test_a_posterior_mean_at_another_noise_is_caught(name):
    law = Broken(LAWS[name](), _posterior_mean=lambda law, x, a, s: law._posterior_mean(x, a, s * (1 + 1e-6)))
    assert miss(law, typical(LAWS[name](), 0.8, 0.3), 0.8, 0.3) > 1 or name == "dirac"
