"""Blurring a law by b moves its posterior by O(b^2) as b tends to zero, so the sharp law is the limit."""

import math

import pytest
import torch

from tests.laws.checks import Broken, typical
from toy_distributions import LAWS, Box


def rates(law):
    """Error at blur 0.01 over error at blur 0.001, of the posterior mean and covariance: 100 for O(b^2)."""
    x = typical(law, 0.8, 0.3)
    sharp = law.posterior_mean(x, 0.8, 0.3), law.posterior_cov(x, 0.8, 0.3)
    off = [
        [
            (blurred.posterior_mean(x, 0.8, 0.3) - sharp[0]).norm().item(),
            (blurred.posterior_cov(x, 0.8, 0.3) - sharp[1]).norm().item(),
        ]
        for blurred in (law.noised(1.0, 1e-2), law.noised(1.0, 1e-3))
    ]
    return [a / b for a, b in zip(*off, strict=True)]


@pytest.mark.parametrize("name", LAWS)
def test_the_posterior_moves_with_the_square_of_the_blur(name):
    assert rates(LAWS[name]()) == pytest.approx([100, 100], rel=0.02)


@pytest.mark.parametrize("name", LAWS)
def test_a_blur_that_is_not_squared_is_caught(name):
    law = Broken(LAWS[name](), noised=lambda law, a, s: law.noised(a, math.sqrt(s)))
    assert rates(law) != pytest.approx([100, 100], rel=0.02)


def test_no_noise_at_all_is_the_law_itself():
    for name in LAWS:
        law, x = LAWS[name](), typical(LAWS[name](), 0.8, 0.3)
        same = law.noised(1.0, 0.0)
        assert same.singular == law.singular
        assert torch.equal(same.posterior_mean(x, 0.8, 0.3), law.posterior_mean(x, 0.8, 0.3))


def test_the_density_of_a_box_is_the_limit_of_its_blurred_densities():
    box = Box([-1.0, 0.0], [1.0, 0.5])
    x = torch.tensor([[0.3, 0.2], [0.3, 0.7], [-2.0, 0.2], [1.0, 0.5]], dtype=torch.float64)
    blurred = box.noised(1.0, 1e-6)
    assert box.log_prob(x).tolist() == pytest.approx([0.0, -math.inf, -math.inf, 0.0], abs=1e-15)
    assert blurred.log_prob(x)[0].item() == pytest.approx(0.0, abs=1e-13)
    assert bool((blurred.log_prob(x)[1:3] < -1e9).all())
    assert blurred.log_prob(x)[3].item() == pytest.approx(math.log(0.25), rel=1e-12)  # a corner keeps a quarter
    assert box.score(x).tolist() == [[0, 0], [0, -math.inf], [math.inf, 0], [0, 0]]
    assert bool((blurred.score(x)[:3].sign() == box.score(x)[:3].sign()).all())
