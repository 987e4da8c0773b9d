"""E[(x_0 - E[x_0|x])^3 | x] = (sigma^2/alpha) dCov/dx = (sigma^2/alpha)^3 d^3 log p_t/dx^3: Tweedie to third order."""

import pytest

from tests.laws.checks import EPS, UNITS, Broken, reach, typical, worst
from toy_distributions import LAWS, identities

LEVELS = [(1.0, 0.1), (0.8, 0.3), (0.5, 1.0), (0.1, 3.0)]


def miss(law, x, alpha, sigma):
    """The residual in units of rounding: p_t is a sum of exponentials of -|x - alpha u|^2 / (2 sigma^2), whose first
    derivatives times sigma^2 / alpha are as large as |x| / alpha + |u|, and whose second times its square are
    (sigma / alpha)^2. The third derivative of log p_t is made of their products."""
    residual = identities.third_cumulant_is_derivative(law, x, alpha, sigma).flatten(-3).norm(dim=-1)
    return worst(residual, UNITS * EPS * (x.norm(dim=-1) / alpha + reach(law) + sigma / alpha) ** 3)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", LAWS)
def test_for_the_zoo(name, level):
    law = LAWS[name]()
    assert miss(law, typical(law, *level), *level) <= 1


@pytest.mark.parametrize("name", LAWS)
def test_a_covariance_that_varies_too_much_is_caught(name):
    def wrong(law, x, alpha, sigma):
        return law._posterior_cov(x, alpha, sigma) * (1 + 1e-8 * x[..., :1, None])

    level = (0.8, 0.3)
    if LAWS[name]().posterior_cov(typical(LAWS[name](), *level), *level).any():  # a point mass has none to spoil
        assert miss(Broken(LAWS[name](), _posterior_cov=wrong), typical(LAWS[name](), *level), *level) > 1


@pytest.mark.parametrize("name", LAWS)
def test_a_density_with_a_cubic_error_is_caught(name):
    def wrong(law, x):
        return law._log_prob(x) + 1e-7 * (x**3).sum(-1)

    level = (0.8, 0.3)
    law = LAWS[name]()

    class Wrong(Broken):
        def noised(self, alpha, sigma):
            return Broken(self.law.noised(alpha, sigma), _log_prob=wrong)

    assert miss(Wrong(law), typical(law, *level), *level) > 1
