"""A noised density has mass one; E E[x_0|x] = E x_0; E Cov[x_0|x] + Cov E[x_0|x] = Cov x_0: by lattice sums in x."""

import pytest
import torch

from tests.laws.checks import Broken
from toy_distributions import LAWS, Distribution, GaussianMixture, Product, Sphere, identities

TAILED = ["laplace", "student_t", "cauchy", "tailed_mixture"]
SMALL = [name for name in LAWS if LAWS[name]().dim <= 2 and name not in TAILED]
LEVELS = [(1.0, 0.3), (0.6, 0.8), (0.0, 1.0), (1.0, 20.0)]
ROUNDING = 1e-13
"""The lattice has some 1e5 points whose weights, all positive, sum to one."""


def mass(law: Distribution, alpha: float, sigma: float) -> float:
    return abs(identities.total_mass(law.noised(alpha, sigma), step=sigma / 2, reach=9))


def moments(law: Distribution, alpha: float, sigma: float) -> tuple[float, float]:
    mean = identities.total_mean(law, alpha, sigma, step=sigma / 2, reach=9)
    cov = identities.total_cov(law, alpha, sigma, step=sigma / 2, reach=9)
    return mean.abs().max().item(), cov.abs().max().item()


@pytest.mark.parametrize("level", LEVELS, ids=str)
@pytest.mark.parametrize("name", SMALL)
def test_for_the_zoo(name, level):
    law = LAWS[name]()
    size = 1 + law.cov.diagonal().max().item()
    assert mass(law, *level) < ROUNDING
    mean, cov = moments(law, *level)
    assert mean < ROUNDING * size
    assert cov < ROUNDING * size


@pytest.mark.parametrize("level", LEVELS, ids=str)
@pytest.mark.parametrize("name", TAILED)
def test_for_laws_with_tails(name, level):
    """The same sums over x = c + w sinh u, which reaches 1e17 widths w."""
    law = LAWS[name]()
    noised = law.noised(*level)
    u = torch.arange(-40, 40 + 1 / 32, 1 / 16, dtype=torch.float64)
    c, w = noised._size()
    x, step = (c + w * u.sinh()).unsqueeze(-1), w * u.cosh() / 16

    def misses(law: Distribution) -> list[float]:
        weight = law.noised(*level).log_prob(x).exp() * step
        off = [weight.sum().item() - 1]
        if name != "cauchy":
            m, v = law.posterior_mean(x, *level)[:, 0] - law.mean, law.posterior_cov(x, *level)[:, 0, 0]
            off += [(weight @ m).item(), (weight @ (v + m**2) - law.cov).item()]
        return [abs(v) for v in off]

    assert max(misses(law)) < ROUNDING * (1 + w**2)
    if level == (1.0, 0.3) and name in ("laplace", "student_t"):
        assert misses(wrong_weights(law))[0] > ROUNDING * 100
        assert misses(wrong_mean(law))[1] > ROUNDING * 100
        assert misses(wrong_cov(law))[2] > ROUNDING * 100


def wrong_weights(law: Distribution) -> Distribution:
    return Broken(law, _log_prob=lambda law, x: law._log_prob(x) + 1e-9)


def wrong_cov(law: Distribution) -> Distribution:
    return Broken(law, _posterior_cov=lambda law, x, a, s: law._posterior_cov(x, a, s) + 1e-9)


def wrong_mean(law: Distribution) -> Distribution:
    return Broken(law, _posterior_mean=lambda law, x, a, s: law._posterior_mean(x, a, s) + 1e-9)


@pytest.mark.parametrize("name", ["mixture_1d", "circle", "box_1d"])
def test_broken_laws_are_caught(name):
    law = LAWS[name]()
    assert mass(wrong_weights(law), 1.0, 0.3) > ROUNDING * 100
    assert moments(wrong_mean(law), 1.0, 0.3)[0] > ROUNDING * 100
    assert moments(wrong_cov(law), 1.0, 0.3)[1] > ROUNDING * 100


def test_a_lattice_says_what_it_cannot_cover():
    with pytest.raises(ValueError, match=r"R\^1 and R\^2; got a law on R\^3"):
        identities.total_mass(Sphere(3, blur=1.0), step=0.5)
    with pytest.raises(ValueError, match="must have at most"):
        identities.total_mass(GaussianMixture.gaussian([0.0, 0.0], 1.0), step=1e-6)
    with pytest.raises(ValueError, match=r"R\^4"):
        identities.total_mass(Product(*[GaussianMixture.gaussian([0.0, 0.0], 1.0)] * 2), step=0.5)
