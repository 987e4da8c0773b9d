"""score(x) is the gradient of log_prob(x), by automatic differentiation, for every law at every noise."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.laws.checks import EPS, UNITS, Broken, narrowest, reach, typical, worst
from toy_distributions import LAWS, Distribution, identities
from toy_distributions import strategies as draws


def miss(law: Distribution, x: torch.Tensor) -> float:
    """The residual in units of what rounding x and the parameters does to a function with this score's slope."""
    residual = identities.score_is_gradient(law, x).norm(dim=-1)
    arm = x.norm(dim=-1) + reach(law)
    slope = slopes(law, x) + 1 / narrowest(law)
    return worst(residual, UNITS * EPS * (law.score(x).norm(dim=-1) + slope * arm))


def slopes(law: Distribution, x: torch.Tensor) -> torch.Tensor:
    x = x.detach().requires_grad_()
    score = law.score(x)
    rows = [torch.autograd.grad(score[..., i].sum(), x, retain_graph=True)[0] for i in range(law.dim)]
    return torch.stack(rows, -1).flatten(-2).norm(dim=-1)


@given(st.data(), draws.laws(), draws.noise_levels())
def test_for_laws_drawn(data, law, level):
    x = data.draw(draws.points_of(law, *level))
    assert miss(law.noised(*level), x) <= 1


@pytest.mark.parametrize("name", LAWS)
def test_for_the_zoo(name):
    law = LAWS[name]()
    for sigma in (1e-6, 1e-3, 0.3, 1.0, 1e4):
        assert miss(law.noised(0.8, sigma), typical(law, 0.8, sigma)) <= 1, sigma


@pytest.mark.parametrize("name", LAWS)
def test_a_score_that_is_a_millionth_too_large_is_caught(name):
    law = Broken(LAWS[name]().noised(0.8, 0.3), _score=lambda law, x: (1 + 1e-6) * law._score(x))
    assert miss(law, typical(LAWS[name](), 0.8, 0.3)) > 1
