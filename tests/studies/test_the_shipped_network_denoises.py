"""The network in the package is the one its card describes, and denoises."""

import torch

from studies.cifar10.loading import load
from studies.cifar10.served import SHIPPED, network
from theory import EDM


def test_it_loads_and_is_as_small_as_said():
    model = load(SHIPPED)
    count = sum(p.numel() for p in model.network.parameters())
    assert 0.9e6 < count < 1.0e6
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 2.5e6


def test_a_smooth_picture_comes_back_out_of_noise():
    """Against the best guess without a network: x scaled by the variance ratio."""
    line = torch.linspace(-0.8, 0.8, 32)
    picture = torch.stack([line.expand(32, 32), line.expand(32, 32).T, 0.5 * torch.ones(32, 32)])
    x0 = picture.reshape(1, 3072).repeat(4, 1)
    k = 0.3
    x = x0 + k * torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        denoised = network("shipped")(x, EDM().level(k)).x0
    shrunk = x * 0.25 / (0.25 + k**2)
    assert (denoised - x0).square().mean() < 0.15 * (shrunk - x0).square().mean()
    assert (denoised - x0).square().mean() < 0.1 * k**2
