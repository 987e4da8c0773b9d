"""The moments of a direction seen through noise agree with mpmath for every dimension and every kappa."""

import mpmath as mp
import pytest
import torch

from tests.laws.checks import EPS
from toy_distributions import bessel

DIMS = [1, 2, 3, 4, 5, 9, 33, 61, 62, 63, 200, 3072]
KAPPAS = [0.0, 1e-300, 1e-12, 1e-3, 0.4, 1.0, 7.0, 29.99, 30.0, 30.01, 100.0, 3333.0, 1e6, 1e12, 1e24]


def bessel_i(nu, kappa):
    """e^{-kappa} I_nu(kappa): the power series, or from where it serves Hankel's expansion."""
    if kappa < 4 * nu**2 + 200:
        return mp.exp(-kappa) * mp.besseli(nu, kappa)
    term = total = mp.mpf(1)
    for k in range(1, 1000):
        term *= -(4 * nu**2 - (2 * k - 1) ** 2) / (8 * k * kappa)
        total += term
        if abs(term) < mp.mpf(10) ** -80:
            return total / mp.sqrt(2 * mp.pi * kappa)
    raise ArithmeticError("Hankel's expansion does not serve here")


def oracle(dim: int, kappa: float):
    """E u_1 / kappa, Var u_1 and log E exp(kappa (u_1 - 1)) with 50 digits."""
    nu, kappa = mp.mpf(dim) / 2 - 1, mp.mpf(kappa)
    if kappa < mp.mpf("1e-100"):
        return 1 / mp.mpf(dim), 1 / mp.mpf(dim), -kappa
    below, here = bessel_i(nu, kappa), bessel_i(nu + 1, kappa)
    ratio = here / below
    mass = mp.loggamma(nu + 1) + nu * mp.log(2 / kappa) + mp.log(below)
    return ratio / kappa, 1 - ratio**2 - (dim - 1) * ratio / kappa, mass


def miss(dim, kappas, pull, radial, mass):
    """Largest relative errors of pull and radial, and largest error of the mass over its own size (at least 1)."""
    worst = [0.0, 0.0, 0.0]
    with mp.workdps(120):
        for i, kappa in enumerate(kappas):
            for j, (got, want) in enumerate(zip((pull[i], radial[i], mass[i]), oracle(dim, kappa), strict=True)):
                size = max(1, abs(want)) if j == 2 else max(abs(want), mp.mpf("1e-300"))
                worst[j] = max(worst[j], float(abs(mp.mpf(got.item()) - want) / size))
    return worst


@pytest.mark.parametrize("dim", DIMS)
def test_against_mpmath(dim):
    kappas = KAPPAS + ([dim / 2.0, dim * 1.0] if dim > 40 else [])
    if dim == 1:
        kappas = [kappa for kappa in kappas if kappa < 1e5]  # beyond, the variance e^{-2 kappa} is no float
    kappa = torch.tensor(kappas, dtype=torch.float64)
    moments, mass = bessel.direction(dim, kappa), bessel.log_mass(dim, kappa)
    errors = miss(dim, kappas, *moments, mass)
    # up to 31 steps down: a ratio's error shrinks on the way, logarithms add up, and the variance's error grows by at
    # most 61, the product of (j + 1/2) / (j - 1/2)
    assert errors[0] < 8 * EPS
    assert errors[1] < 61 * EPS
    assert errors[2] < 31 * EPS
    assert torch.equal(bessel.pull(dim, kappa), moments.pull)


@pytest.mark.parametrize("dim", [2, 3, 9])
def test_a_wrong_coefficient_is_caught(dim, monkeypatch):
    kappa = torch.tensor([31.0], dtype=torch.float64)
    table = {name: [list(row) for row in rows] for name, rows in bessel._coefficients().items()}
    table["U"][2][0] *= 1.01
    monkeypatch.setattr(bessel, "_coefficients", lambda: table)
    assert max(miss(dim, kappa.tolist(), *bessel.direction(dim, kappa), bessel.log_mass(dim, kappa))) > 1e-13


@pytest.mark.parametrize("dim", DIMS)
def test_float32(dim):
    kappa = torch.tensor([k for k in KAPPAS if k > 1e-30 or k == 0], dtype=torch.float32)
    exact = bessel.direction(dim, kappa.double())
    for got, want in zip(bessel.direction(dim, kappa), exact, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-37)
    torch.testing.assert_close(
        bessel.log_mass(dim, kappa).double(), bessel.log_mass(dim, kappa.double()), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("dim", DIMS)
def test_derivatives(dim):
    """d log E exp(kappa (u_1 - 1)) / d kappa = E u_1 - 1, and d E u_1 / d kappa = Var u_1."""
    kappa = torch.tensor([0.0, 0.3, 5.0, 29.0, 31.0, 500.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(bessel.log_mass(dim, kappa).sum(), kappa)
    mean = kappa * bessel.pull(dim, kappa)
    (variance,) = torch.autograd.grad(mean.sum(), kappa)
    torch.testing.assert_close(slope, mean.detach() - 1, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(variance, bessel.direction(dim, kappa).radial.detach(), rtol=1e-11, atol=1e-15)


def test_shapes():
    for shape in ((), (0,), (2, 3), (2, 0)):
        kappa = torch.ones(shape, dtype=torch.float64)
        assert bessel.pull(3, kappa).shape == bessel.log_mass(3, kappa).shape == shape
    many = torch.linspace(0, 60, 2 * bessel.PIECE + 7, dtype=torch.float64)
    torch.testing.assert_close(bessel.pull(3, many)[5000:5003], bessel.pull(3, many[5000:5003]), rtol=1e-15, atol=0)
