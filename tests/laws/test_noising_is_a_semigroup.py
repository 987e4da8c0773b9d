"""Noising by (a, s) and then by (b, t) is noising by (a b, sqrt(b^2 s^2 + t^2)), as laws."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.laws.checks import EPS, UNITS, Broken, narrowest, reach, typical, worst
from tests.laws.test_score_is_the_gradient_of_the_log_density import slopes
from toy_distributions import LAWS, identities
from toy_distributions import strategies as draws


def miss(law, x, first, second):
    log_prob, score = identities.noising_is_a_semigroup(law, x, first, second)
    once = law.noised(first[0] * second[0], math.hypot(second[0] * first[1], second[1]))
    size, arm = once.score(x).norm(dim=-1), x.norm(dim=-1) + reach(once)
    # rounding x or a mean moves log p by score . dx; rounding a variance, by at most the rest
    of_log = UNITS * EPS * (size * arm + once.log_prob(x).abs() + arm**2 * slopes(once, x) + law.dim)
    of_score = UNITS * EPS * (size + (slopes(once, x) + 1 / narrowest(once)) * arm)
    return max(worst(log_prob.abs(), of_log), worst(score.norm(dim=-1), of_score))


@given(st.data(), draws.laws(), draws.noise_levels(), draws.noise_levels())
def test_for_laws_drawn(data, law, first, second):
    x = second[0] * data.draw(draws.points_of(law, *first))
    x = x + second[1] * data.draw(draws.points_of(LAWS["standard_normal"](), 0.0, 1.0, n=len(x)))[:, :1]
    assert miss(law, x, first, second) <= 1


@pytest.mark.parametrize("name", LAWS)
def test_for_the_zoo(name):
    law = LAWS[name]()
    assert miss(law, typical(law, 0.42, 0.5), (0.6, 0.3), (0.7, 0.4)) <= 1


@pytest.mark.parametrize("name", [name for name in LAWS if name != "cauchy"])  # which has no moments
def test_the_law_that_is_noised_is_of_the_same_class_and_has_the_right_moments(name):
    law = LAWS[name]()
    noised = law.noised(0.6, 0.3)
    assert type(noised) is type(law)
    assert (noised.mean - 0.6 * law.mean).abs().max() <= 4 * EPS * reach(law)
    expected = 0.36 * law.cov + 0.09 * law.cov.new_ones(law.dim).diag()
    assert (noised.cov - expected).abs().max() <= 16 * EPS * reach(law) ** 2


@pytest.mark.parametrize("name", LAWS)
def test_adding_standard_deviations_is_caught(name):
    law = Broken(LAWS[name](), noised=lambda law, a, s: law.noised(a, s + 1e-9 * (s == 0.4)))
    assert miss(law, typical(LAWS[name](), 0.42, 0.5), (0.6, 0.3), (0.7, 0.4)) > 1
