"""The public strategies draw valid laws over the domain they name, and the docstring's example runs as written."""

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from toy_distributions import Box, GaussianMixture, Product, Sphere, strategies


def example() -> str:
    """The example in the module's docstring, from its first import to its last line."""
    lines = (strategies.__doc__ or "").split("\n")
    start = next(i for i, line in enumerate(lines) if line.strip().startswith("from hypothesis"))
    end = next(i for i, line in enumerate(lines) if line.startswith("Everything drawn"))
    return "\n".join(line[4:] for line in lines[start:end])


def ddim(law, x, alpha, sigma):
    x0 = law.posterior_mean(x, alpha, sigma)
    return alpha * x0 + 0.9 * (x - alpha * x0)


def wrong(law, x, alpha, sigma):
    return law.posterior_mean(x, alpha, sigma) + 0.9 * (x - alpha * law.posterior_mean(x, alpha, sigma))


def test_the_example_passes_for_a_right_sampler_and_fails_for_a_wrong_one():
    scope = {"torch": torch, "denoise": ddim}
    exec(example(), scope)  # the user's test, word for word
    quick = settings(max_examples=10, derandomize=True, deadline=None, phases=[Phase.generate])
    run = quick(scope["test_one_step_keeps_the_law_of_a_dirac"])
    run()
    scope["denoise"] = wrong
    with pytest.raises(AssertionError):
        run()


@given(strategies.mixtures(dims=[2], structures=["full"], components=[3]))
def test_mixtures_are_as_ordered(law):
    assert isinstance(law, GaussianMixture)
    assert (law.dim, law.components, law.covs.ndim) == (2, 3, 3)


@given(strategies.spheres(), strategies.boxes(), strategies.products(), strategies.laws())
def test_every_strategy_draws_its_kind(sphere, box, product, law):
    assert isinstance(sphere, Sphere)
    assert isinstance(box, Box)
    assert isinstance(product, Product)
    assert {part.dtype for part in (sphere, box, product, law)} == {torch.float64}


@given(st.data(), strategies.laws(), strategies.noise_levels())
def test_points_have_the_laws_dimension(data, law, level):
    alpha, sigma = level
    assert 1e-4 <= alpha <= 1
    assert 1e-6 <= sigma <= 1e4
    assert data.draw(strategies.points_of(law, *level, n=3)).shape == (3, law.dim)


@given(strategies.noise_levels(alphas=(0.5, 0.9), sigmas=(0.1, 0.2)))
def test_levels_keep_to_the_range_named(level):
    assert 0.5 <= level[0] <= 0.9
    assert 0.1 <= level[1] <= 0.2
