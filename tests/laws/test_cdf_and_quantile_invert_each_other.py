"""On the line: the cdf agrees with mpmath into both tails, its slope is the density, the quantile inverts it."""

import mpmath as mp
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.laws.checks import EPS, UNITS, Broken, typical, worst
from tests.oracle.quadrature import gauss_legendre
from toy_distributions import LAWS, Box, Distribution, GaussianMixture, Laplace, MixtureOf, StudentT
from toy_distributions import strategies as draws
from toy_distributions.line import Line

LINE = [name for name in LAWS if LAWS[name]().dim == 1]


def oracle(law: Distribution, x: float):
    """P(x_0 <= x): a sum of normal cdfs, or the integral of one over the box, by its antiderivative."""
    x = mp.mpf(x)
    if isinstance(law, MixtureOf):
        return mp.fsum(w * oracle(part, x) for w, part in zip(law.weights.tolist(), law.laws, strict=True))
    if isinstance(law, GaussianMixture):
        parts = zip(law.weights.tolist(), law.means[:, 0].tolist(), law._variances[:, 0].tolist(), strict=True)
        return mp.fsum(w * mp.ncdf((x - mp.mpf(m)) / mp.sqrt(mp.mpf(v))) for w, m, v in parts)
    if isinstance(law, Line):
        y = x - mp.mpf(law.location.item())
        form = laplace_below if isinstance(law, Laplace) else student_below
        below = form(law, -abs(y), mp.mpf(law.scale), mp.mpf(law.blur))
        return below if y < 0 else 1 - below
    assert isinstance(law, Box)
    low, high, blur = mp.mpf(law.low.item()), mp.mpf(law.high.item()), mp.mpf(law.blur)

    def antiderivative(z):
        return z * mp.ncdf(z) + mp.npdf(z)

    return blur * (antiderivative((x - low) / blur) - antiderivative((x - high) / blur)) / (high - low)


def laplace_below(law: Laplace, y, b, tau):
    """Phi(y / tau), and two terms e^{+-y / b} times a normal cdf: by parts."""
    pull = tau**2 / (2 * b**2)
    left, right = (mp.exp(pull + s * y / b) * mp.ncdf(-s * y / tau - tau / b) / 2 for s in (1, -1))
    return mp.ncdf(y / tau) + left - right


def student_below(law: StudentT, y, b, tau):
    """The integral of the density of V times Phi((y - b V) / tau), at V = sqrt(nu) sinh w, panel by panel."""
    with mp.workdps(30):
        nu = mp.mpf(law.freedom)
        root = mp.sqrt(nu)
        constant = mp.gamma((nu + 1) / 2) / mp.gamma(nu / 2) / mp.sqrt(mp.pi)
        edge = mp.asinh((y + 12 * tau) / b / root)
        w, total = -abs(mp.asinh(y / b / root)) - 50 / nu, mp.mpf(0)
        while w < edge:
            here = b * root * mp.cosh(w)
            far = max(0, (y - 12 * tau - b * root * mp.sinh(w)) / here)  # as far as the cdf is one
            length = min(max(2 * tau / here, far / 2), mp.mpf(1) / 2, edge - w)
            for node, weight in gauss_legendre(20):
                v = w + length * (1 + node) / 2
                z = (y - b * root * mp.sinh(v)) / tau
                total += length / 2 * weight * constant * mp.cosh(v) ** -nu * (mp.ncdf(z) if abs(z) < 12 else z > 0)
            w += length
        return total


def miss(law: Distribution, x: torch.Tensor, exact: Distribution) -> float:
    """In units of what rounding x, and the parameters, does: eps times density times size."""
    with mp.workdps(80):
        want = torch.tensor([float(oracle(exact, v)) for v in x.tolist()], dtype=torch.float64)
    size = x.abs() + sum(abs(v) for v in exact._size())
    return worst((law.cdf(x) - want).abs(), UNITS * EPS * (want + size * exact.log_prob(x.unsqueeze(-1)).exp()))


@pytest.mark.parametrize("level", [(1.0, 1e-4), (0.6, 0.8), (0.01, 1.0), (1.0, 1e4)], ids=str)
@pytest.mark.parametrize("name", LINE)
def test_the_cdf_agrees_with_mpmath(name, level):
    law = LAWS[name]().noised(*level)
    centre, spread = law._size()
    many = 7 if name in ("student_t", "cauchy", "tailed_mixture") else 41  # whose oracle is an integral
    x = torch.linspace(centre - 8 * spread, centre + 8 * spread, many).double()
    x = torch.cat([x, typical(law, 1.0, 0.0, many // 2)[:, 0]])
    assert miss(law, x, law) <= 1
    assert miss(Broken(law, _cdf=lambda law, x: law._cdf(x) + 1e-13), x, law) > 1


@given(
    st.data(),
    st.one_of(draws.mixtures(dims=[1]), draws.boxes(dims=[1]), draws.tailed()),
    draws.noise_levels(sigmas=(1e-3, 1e4)),
)
def test_the_quantile_inverts_the_cdf(data, law, level):
    law = law.noised(*level)
    exponents = data.draw(st.lists(st.floats(-200, -0.001), min_size=1, max_size=8))
    low = 10 ** torch.tensor(exponents, dtype=torch.float64)
    u = torch.cat([low, 1 - low]).clamp(1e-290, 1 - EPS)
    x = law.quantile(u)
    size = x.abs() + abs(law._size()[0])
    density = law.log_prob(x.unsqueeze(-1)).exp()
    allowed = UNITS * EPS * (u + density * size) + 2 * EPS * u * u.log().abs()  # sums of exp(log) lose eps |log|
    assert worst((law.cdf(x) - u).abs(), allowed) <= 1
    order = u.argsort()
    assert bool((x[order].diff() * density[order][1:] >= -2 * allowed[order][1:]).all())


@given(st.data(), draws.mixtures(dims=[1], structures=["dirac"]))
def test_the_quantile_of_a_discrete_law_is_the_smallest_point_that_will_do(data, law):
    u = torch.tensor(data.draw(st.lists(st.floats(1e-6, 1 - 1e-6), min_size=1, max_size=8)), dtype=torch.float64)
    x = law.quantile(u)
    assert bool((law.cdf(x) >= u).all())
    assert bool((law.cdf(x - 1e-12 * (1 + x.abs())) < u).all())


def test_shapes_and_edges():
    for name in LINE:
        law = LAWS[name]().noised(0.6, 0.8)
        u = torch.full((2, 0, 3), 0.5, dtype=torch.float64)
        assert law.quantile(u).shape == law.cdf(u).shape == (2, 0, 3)
        assert law.quantile(torch.tensor(0.5, dtype=torch.float64)).shape == ()
        far = torch.tensor([-1e300, 1e300], dtype=torch.float64)
        assert law.cdf(far).tolist() == pytest.approx([0.0, 1.0], abs=1e-290)
    box = Box(-1.0, 3.0)
    x = torch.tensor([-2.0, -1.0, 0.0, 3.0, 4.0], dtype=torch.float64)
    assert box.cdf(x).tolist() == [0, 0, 0.25, 1, 1]
    torch.testing.assert_close(box.quantile(torch.tensor([0.25, 0.5]).double()), torch.tensor([0.0, 1.0]).double())
