"""Stationary fields: what FFT says is what the dense Gaussian with the defining covariance says; images are served."""

import math
from itertools import product

import pytest
import torch

from tests.laws.checks import EPS, UNITS, Broken, typical, worst
from toy_distributions import GaussianMixture, PowerLawField, StationaryField, identities

COLOURS = [[1.0, 0.8, 0.6], [0.8, 1.0, 0.8], [0.6, 0.8, 1.0]]


def by_definition(grid, spectrum, channels):
    """(1/N) sum_k P(k) cos(2 pi k (p - q) / n) M, by loops over sites."""
    sites = torch.tensor(list(product(*(range(n) for n in grid))), dtype=torch.float64)
    turns = (sites / torch.tensor(grid)) @ (sites[:, None] - sites[None]).reshape(-1, len(grid)).T
    correlation = spectrum.reshape(-1) @ torch.cos(2 * math.pi * turns) / len(sites)
    return torch.kron(correlation.reshape(len(sites), len(sites)), channels)


def pair(grid=(4, 6), exponent=2.0, colours=COLOURS):
    colours = torch.tensor(colours).double()
    field = PowerLawField(grid, exponent, channels=colours, mean=0.3)
    lines = torch.meshgrid(*(torch.fft.fftfreq(n, dtype=torch.float64) * n for n in grid), indexing="ij")
    power = (1 + sum(line**2 for line in lines)) ** (-exponent / 2)
    cov = by_definition(grid, power / power.mean(), colours)
    return field, GaussianMixture.gaussian(field.mean, 0.5 * (cov + cov.T))


@pytest.mark.parametrize("sigma", [1e-3, 0.3, 1.0, 100.0])
@pytest.mark.parametrize("grid", [(4, 6), (5, 3), (7,), (2, 3, 2)])
def test_the_field_is_the_dense_gaussian(grid, sigma):
    field, dense = pair(grid)
    assert (field.cov - dense.cov).abs().max() <= UNITS * EPS * 1.0
    x = typical(field, 0.8, sigma)
    steepest = (x.norm(dim=-1) + 1) / sigma  # both round x and their spectrum before they divide by sigma
    pairs = [
        (field.posterior_mean(x, 0.8, sigma), dense.posterior_mean(x, 0.8, sigma), x.norm(dim=-1) + 1),
        (sigma * field.noised(0.8, sigma).score(x), sigma * dense.noised(0.8, sigma).score(x), steepest),
    ]
    for got, want, size in pairs:
        assert worst((got - want).norm(dim=-1), UNITS * EPS * size * field.dim) <= 1
    off = (field.noised(0.8, sigma).log_prob(x) - dense.noised(0.8, sigma).log_prob(x)).abs()
    assert worst(off, UNITS * EPS * field.dim * steepest**2) <= 1
    off = (field.posterior_cov(x, 0.8, sigma) - dense.posterior_cov(x, 0.8, sigma)).abs().amax((-2, -1))
    assert worst(off, UNITS * EPS * field.dim * torch.ones_like(off)) <= 1


def test_another_spectrum_is_caught():
    field, _ = pair()
    _, dense = pair(exponent=2.0 + 1e-9)
    assert (field.cov - dense.cov).abs().max() > UNITS * EPS
    # frequencies of a side of 6 counted 0 .. 5 rather than -2 .. 3
    line = torch.arange(6).double()
    with pytest.raises(ValueError, match=r"spectrum must be even, P\(-k\) = P\(k\); it is not at the flat index"):
        StationaryField(1 / (1 + line**2))


def image() -> StationaryField:
    return PowerLawField((32, 32), 2.0, channels=COLOURS, mean=0.5)


def test_images_are_served():
    """Tweedie, noising and gradients at the size of a CIFAR-10 image; nothing of size d x d is made."""
    law = image()
    assert law.dim == 3072
    x = typical(law, 0.8, 0.3, n=8)
    residual = identities.tweedie(law, x, 0.8, 0.3).norm(dim=-1)
    allowed = UNITS * EPS * 2 * x.norm(dim=-1)
    assert worst(residual, allowed) <= 1
    wrong = Broken(law, _posterior_mean=lambda law, x, a, s: law._posterior_mean(x, a, s * (1 + 1e-6)))
    assert worst(identities.tweedie(wrong, x, 0.8, 0.3).norm(dim=-1), allowed) > 1
    slope = identities.score_is_gradient(law.noised(0.8, 0.3), x).norm(dim=-1)
    assert worst(slope, UNITS * EPS * x.norm(dim=-1) / 0.09) <= 1
    sigma = torch.linspace(0.1, 2.0, 8).double()
    each = torch.stack([law.posterior_mean(y, 0.8, s) for y, s in zip(x, sigma.tolist(), strict=True)])
    torch.testing.assert_close(law.posterior_mean(x, 0.8, sigma), each, rtol=1e-12, atol=1e-12)
    assert law._noised_log_prob(x, 0.8, sigma).shape == (8,)


def test_an_image_has_unit_variance_and_the_colours_covariance():
    pixels = image().sample(2000, generator=torch.Generator().manual_seed(0)).reshape(2000, 1024, 3) - 0.5
    cov = torch.einsum("npa,npb->nab", pixels, pixels) / 1024
    spread = cov.std(0) / 2000**0.5
    assert ((cov.mean(0) - torch.tensor(COLOURS).double()) / spread).abs().max() < 6.5  # of 9, one run in 1e9


def test_refused_in_one_sentence():
    flat = torch.ones(4, dtype=torch.float64)
    bad = {
        "spectrum must have the grid's shape and be >= 0; got shape .* least value -1": lambda: StationaryField(-flat),
        r"channels must be a covariance \(c, c\); got shape \(2,\)": lambda: StationaryField(flat, [1.0, 1.0]),
        "channels must be symmetric positive semi-definite; got the least eigenvalue -1": lambda: StationaryField(
            flat, [[1.0, 2.0], [2.0, 1.0]]
        ),
        r"mean must be a number or have shape \(4,\); got \(3,\)": lambda: StationaryField(flat, mean=[0.0, 0.0, 0.0]),
        "outer must be finite and > 0": lambda: PowerLawField((4,), 2.0, outer=0.0),
        "grid must be an integer >= 1": lambda: PowerLawField((0, 4)),
    }
    for pattern, call in bad.items():
        with pytest.raises(ValueError, match=pattern) as caught:
            call()
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    silent = StationaryField([1.0, 0.0, 0.0, 0.0])
    assert silent.singular and not silent.noised(1.0, 0.1).singular
