"""Spectral gaps and densities of reversible diffusions on the line against closed forms."""

import math

import pytest
import torch

from theory.line_diffusion import LineDiffusion
from toy_distributions.mixture import GaussianMixture


def _of(law: GaussianMixture, reach: float, **settings) -> LineDiffusion:
    return LineDiffusion(lambda x: law.log_prob(x[:, None]), -reach, reach, **settings)


@pytest.mark.parametrize("variance", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_gap_of_an_ornstein_uhlenbeck_process(variance, rate):
    """It is D / v, approached with order 2 in the cells' width."""
    law, reach = GaussianMixture.gaussian(0.0, variance), 8 * variance**0.5
    errors = [_of(law, reach, cells=n, rate=rate).gap() * variance / rate - 1 for n in (500, 1000)]
    assert abs(errors[1]) < 1e-4
    assert abs(math.log2(errors[0] / errors[1]) - 2) < 0.01


def test_density_of_an_ornstein_uhlenbeck_process():
    """From N(1, 0.3), dx = -x dt + sqrt2 dw reaches N(e^-t, 0.3 e^-2t + 1 - e^-2t)."""
    line = _of(GaussianMixture.gaussian(0.0, 1.0), 8.0, cells=6000)  # fine, so that only the time step shows
    start, time = GaussianMixture.gaussian(1.0, 0.3), 0.7
    fade = math.exp(-time)
    end = GaussianMixture.gaussian(fade, 0.3 * fade**2 + 1 - fade**2)
    errors = []
    for steps in (20, 40):
        found = line.evolved(start.log_prob(line.x[:, None]).exp(), time, steps=steps)
        assert abs(found.sum().item() * line.width - 1) < 1e-10
        errors.append((found - end.log_prob(line.x[:, None]).exp()).abs().max().item())
    assert errors[1] < 1e-4
    assert 3 < errors[0] / errors[1] < 5


def test_mode_weights_relax_at_the_gap():
    """From equal weights the left mass is pi + (1/2 - pi) e^{-gap t}, once motion inside the modes is over."""
    means, spread = [[-2.0], [2.0]], [0.5, 0.5]
    line = _of(GaussianMixture([0.2, 0.8], means, spread), 7.0, cells=2000)
    start = GaussianMixture([0.5, 0.5], means, spread).log_prob(line.x[:, None]).exp()
    left = line.x < 0
    masses = [line.evolved(start, time, steps=200)[left].sum().item() * line.width for time in (6.0, 8.0, 10.0)]
    rate = math.log((masses[0] - masses[1]) / (masses[1] - masses[2])) / 2
    assert abs(rate / line.gap() - 1) < 1e-3
    assert abs(masses[0] - 0.2 - 0.3 * math.exp(-6 * line.gap())) < 5e-3


def test_intervals_are_checked():
    with pytest.raises(ValueError, match="low < high"):
        LineDiffusion(lambda x: -(x**2), 1.0, -1.0)
    with pytest.raises(ValueError, match="finite"):
        LineDiffusion(lambda x: torch.log(x), -1.0, 1.0)
