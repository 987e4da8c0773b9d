"""Everything a law says is finite for sigma from 1e-6 to 1e4, near its support and far from it, in both precisions."""

from itertools import product

import pytest
import torch

from tests.laws.checks import centre, levels_of, typical
from toy_distributions import LAWS, Box, Circle, Distribution, GaussianMixture, Product, Sphere

MORE = {
    "sphere in R^1000": lambda: Sphere(1000, radius=30.0),
    "two points as a sphere": lambda: Sphere(1, radius=2.0),
    "thin box": lambda: Box([0.0, -1e3], [1e-6, 1e3]),
    "blurred circle far away": lambda: Circle(0.1, blur=1e-3, centre=[1e3, -1e3]),
    "cloud": lambda: GaussianMixture.empirical(
        torch.randn(300, 20, generator=torch.Generator().manual_seed(0)).double()
    ),
    "product of everything": lambda: Product(LAWS["mixture_2d"](), Sphere(4), Box(0.0, 1.0), LAWS["subspace"]()),
}
SIGMAS = [10.0**e for e in range(-6, 5, 2)]


def said(law: Distribution, x: torch.Tensor, alpha: float, sigma: float) -> list[torch.Tensor]:
    noised = law.noised(alpha, sigma)
    out = [noised.log_prob(x), noised.score(x), law.posterior_mean(x, alpha, sigma)]
    return out + ([law.posterior_cov(x, alpha, sigma)] if law.dim <= 32 else [])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("name", [*LAWS, *MORE])
def test_finite(name, dtype):
    law = (LAWS[name] if name in LAWS else MORE[name])()
    small = law.to(dtype)
    for alpha, sigma in levels_of(law, product((0.0, 1e-4, 1.0), SIGMAS)):
        near = typical(law, alpha, sigma, 3)
        x = torch.cat([near, 30 * near, torch.zeros_like(near[:1]), alpha * centre(law)[None]]).to(dtype)
        for part in said(small, x, alpha, sigma):
            assert part.dtype == dtype
            assert bool(part.isfinite().all()), (alpha, sigma)


@pytest.mark.parametrize("name", LAWS)
def test_gradients_are_finite(name):
    law = LAWS[name]()
    for alpha, sigma in levels_of(law, product((0.0, 1e-4, 1.0), (1e-6, 0.1, 1e4))):
        near = typical(law, alpha, sigma, 3)
        x = torch.cat([near, 30 * near, torch.zeros_like(near[:1]), alpha * centre(law)[None]]).requires_grad_()
        for part in said(law, x, alpha, sigma):
            (gradient,) = torch.autograd.grad(part.sum(), x, allow_unused=True)
            assert gradient is None or bool(gradient.isfinite().all()), (alpha, sigma)


def test_a_formula_that_overflows_is_caught():
    law, x = LAWS["mixture_1d"](), torch.tensor([[0.3]], dtype=torch.float64)
    away = x.unsqueeze(-2) - law.means  # responsibilities without a maximum taken out
    weight = law.weights * torch.exp(-0.5 * (away[..., 0] / 1e-6) ** 2)
    assert not bool((weight / weight.sum(-1, keepdim=True)).isfinite().all())
