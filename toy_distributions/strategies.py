r"""Hypothesis strategies that draw laws, noise levels and points, to test code of your own against exact answers.

Say you have written a sampler ``denoise(law, x, alpha, sigma)``, one step of DDIM down to noise 0.9 sigma. On a
Dirac it must keep x on the line through the point, whatever the level, so this test needs no tolerance for
discretisation:

    from hypothesis import given, strategies as st
    from toy_distributions import strategies as laws

    @given(st.data(), laws.mixtures(dims=[1, 2], components=[1], structures=["dirac"]), laws.noise_levels())
    def test_one_step_keeps_the_law_of_a_dirac(data, law, level):
        alpha, sigma = level
        x = data.draw(laws.points_of(law, alpha, sigma))
        y = denoise(law, x, alpha, sigma)
        eps = (x - alpha * law.mean) / sigma
        assert torch.allclose(y, alpha * law.mean + 0.9 * sigma * eps, rtol=1e-9)

Everything drawn is float64 and on the CPU. Only continuous things and small sizes are drawn; for the named laws
iterate over ``LAWS``. This is the one module of the package that needs hypothesis.
"""

import math
from collections.abc import Sequence

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from torch import Tensor

from toy_distributions.base import Distribution
from toy_distributions.box import Box
from toy_distributions.line import Laplace, StudentT
from toy_distributions.mixture import GaussianMixture
from toy_distributions.mixture_of import MixtureOf
from toy_distributions.product import Product
from toy_distributions.sphere import Sphere

STRUCTURES = ("dirac", "isotropic", "diagonal", "full")


def _between(low: float, high: float) -> SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, allow_subnormal=False)


def _scales(low: float, high: float) -> SearchStrategy[float]:
    """Log-uniform numbers in [low, high]."""
    return _between(math.log10(low), math.log10(high)).map(lambda e: min(max(10.0**e, low), high))


def _vectors(dim: int, low: float = -3.0, high: float = 3.0) -> SearchStrategy[Tensor]:
    # the fourth moment of coordinates below 1e-77 would not be a float
    coordinate = _between(low, high).map(lambda v: v if abs(v) > 1e-70 else 0.0)
    entries = st.lists(coordinate, min_size=dim, max_size=dim)
    return entries.map(lambda v: torch.tensor(v, dtype=torch.float64))


@st.composite
def mixtures(
    draw: DrawFn,
    dims: Sequence[int] = (1, 2, 3),
    structures: Sequence[str] = STRUCTURES,
    components: Sequence[int] = (1, 2, 3, 4),
) -> GaussianMixture:
    """Mixtures of up to four components; "full" covariances are rank-deficient now and then."""
    d, k = draw(st.sampled_from(list(dims))), draw(st.sampled_from(list(components)))
    structure = draw(st.sampled_from(list(structures)))
    weights = torch.tensor(draw(st.lists(_scales(1e-3, 1), min_size=k, max_size=k)), dtype=torch.float64)
    means = torch.stack([draw(_vectors(d)) for _ in range(k)])
    if structure == "dirac":
        covs = torch.zeros(k, dtype=torch.float64)
    elif structure == "isotropic":
        covs = torch.tensor([draw(_scales(1e-4, 10)) for _ in range(k)], dtype=torch.float64)
    elif structure == "diagonal":
        covs = torch.tensor([[draw(_scales(1e-4, 10)) for _ in range(d)] for _ in range(k)], dtype=torch.float64)
    else:
        roots = torch.stack([torch.stack([draw(_vectors(d)) for _ in range(d)]) for _ in range(k)])
        covs = roots @ roots.mT
        covs = 0.5 * (covs + covs.mT)
    return GaussianMixture(weights / weights.sum(), means, covs)


@st.composite
def spheres(draw: DrawFn, dims: Sequence[int] = (1, 2, 3, 5, 10)) -> Sphere:
    """Spheres of radius 1e-2 .. 1e2, about half of them blurred, about half of them off the origin."""
    d = draw(st.sampled_from(list(dims)))
    centre = draw(st.one_of(st.none(), _vectors(d)))
    return Sphere(d, draw(_scales(1e-2, 1e2)), draw(st.one_of(st.just(0.0), _scales(1e-3, 10))), centre=centre)


@st.composite
def boxes(draw: DrawFn, dims: Sequence[int] = (1, 2, 3)) -> Box:
    """Boxes with sides 1e-2 .. 1e2, about half of them blurred."""
    d = draw(st.sampled_from(list(dims)))
    low = draw(_vectors(d))
    sides = torch.tensor([draw(_scales(1e-2, 1e2)) for _ in range(d)], dtype=torch.float64)
    return Box(low, low + sides, draw(st.one_of(st.just(0.0), _scales(1e-3, 10))))


@st.composite
def tailed(draw: DrawFn) -> Laplace | StudentT:
    """Laplace's and Student's laws on the line, of scales 1e-2 .. 1e2, about half of them blurred."""
    location, scale = draw(_between(-3, 3)), draw(_scales(1e-2, 1e2))
    blur = draw(st.one_of(st.just(0.0), _scales(1e-3, 10)))
    if draw(st.booleans()):
        return Laplace(location, scale, blur)
    return StudentT(draw(_scales(1, 1e3)), location, scale, blur)


@st.composite
def products(draw: DrawFn) -> Product:
    """Products of two or three small laws of different kinds."""
    small = st.one_of(mixtures(dims=(1, 2), components=(1, 2)), spheres(dims=(1, 2, 3)), boxes(dims=(1, 2)))
    return Product(*draw(st.lists(small, min_size=2, max_size=3)))


@st.composite
def mixtures_of(draw: DrawFn, dims: Sequence[int] = (1, 2, 3)) -> MixtureOf:
    """Mixtures of two or three small laws of different kinds on one R^d."""
    d = [draw(st.sampled_from(list(dims)))]
    small = st.one_of(mixtures(dims=d, components=(1, 2)), spheres(dims=d), boxes(dims=d))
    laws = draw(st.lists(small, min_size=2, max_size=3))
    weights = torch.tensor([draw(_scales(1e-3, 1)) for _ in laws], dtype=torch.float64)
    return MixtureOf(weights / weights.sum(), laws)


def laws() -> SearchStrategy[Distribution]:
    """Any of them."""
    return st.one_of(mixtures(), spheres(), boxes(), products(), mixtures_of())


def noise_levels(
    *, alphas: tuple[float, float] = (1e-4, 1.0), sigmas: tuple[float, float] = (1e-6, 1e4)
) -> SearchStrategy[tuple[float, float]]:
    """Pairs (alpha, sigma), log-uniform over the ranges named, with alpha = 1 in half of them."""
    return st.tuples(st.one_of(st.just(alphas[1]), _scales(*alphas)), _scales(*sigmas))


def points_of(law: Distribution, alpha: float, sigma: float, n: int = 4) -> SearchStrategy[Tensor]:
    """n typical points of alpha x_0 + sigma eps, shape (n, dim)."""

    def points(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        eps = torch.randn(n, law.dim, dtype=torch.float64, generator=generator)
        return alpha * law.sample(n, generator=generator) + sigma * eps

    return st.integers(0, 2**31 - 1).map(points)
