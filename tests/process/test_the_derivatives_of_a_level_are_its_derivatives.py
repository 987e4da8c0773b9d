"""alpha', sigma', f and g^2 against automatic differentiation and against the moment equations."""

import pytest
import torch

from theory import PROCESSES


def times(process):
    return torch.linspace(0.02, 0.98, 49, dtype=torch.float64) * process.t_max


def gap(process, scale=1.0):
    """Largest relative gap between the formulas (scaled by ``scale``) and automatic differentiation."""
    t = times(process).requires_grad_()
    at = process.level(t)
    gaps = []
    for value, formula in ((at.alpha, at.alpha_dot), (at.sigma, at.sigma_dot)):
        slope = (
            torch.autograd.grad(value.sum(), t, allow_unused=True, retain_graph=True)[0]
            if value.requires_grad
            else torch.zeros_like(t)
        )
        slope = torch.zeros_like(t) if slope is None else slope
        gaps.append(((scale * formula - slope).abs() / (slope.abs() + 1e-3)).max().item())
    return max(gaps)


@pytest.mark.parametrize("name", PROCESSES)
def test_formulas_match_automatic_differentiation(name):
    assert gap(PROCESSES[name]()) < 1e-11


@pytest.mark.parametrize("name", PROCESSES)
def test_a_factor_two_would_be_caught(name):
    assert gap(PROCESSES[name](), scale=2.0) > 0.5


@pytest.mark.parametrize("name", PROCESSES)
def test_drift_and_diffusion_generate_the_marginals(name):
    """d sigma^2 / dt = 2 f sigma^2 + g^2, the second moment equation of dx = f x dt + g dw."""
    process = PROCESSES[name]()
    t = times(process)
    at = process.level(t)
    left = 2 * at.sigma * at.sigma_dot
    right = 2 * process.drift(t) * at.sigma**2 + process.diffusion_squared(t)
    torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-12)
    assert bool((process.diffusion_squared(t) > 0).all())
