"""Any kind of prediction gives every other, through the one 2x2 solve; blindness is said, not returned as NaN."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from theory import PROCESSES, Kind, Level, Prediction


def truth(kind, x0, eps, at):
    p, q = kind.row(at)
    return p * x0 + q * eps


@pytest.mark.parametrize("name", PROCESSES)
@given(lam=st.floats(-3.5, 3.5), seed=st.integers(0, 2**31))
def test_every_kind_reads_as_every_other(name, lam, seed):
    process = PROCESSES[name]()
    at = process.level_at(lam)
    generator = torch.Generator().manual_seed(seed)
    x0, eps = torch.randn(2, 5, 3, generator=generator, dtype=torch.float64)
    x = at.alpha * x0 + at.sigma * eps
    size = 1 + x0.abs().max() + eps.abs().max()
    for given_kind in Kind:
        prediction = Prediction(given_kind, truth(given_kind, x0, eps, at), x, at)
        for asked in Kind:
            got, expected = getattr(prediction, asked.value), truth(asked, x0, eps, at)
            scale = size * (max(map(abs, at[1:])) + 1 / at.sigma) * (1 + 1 / at.sigma + 1 / at.alpha)
            assert (got - expected).abs().max() < 1e-14 * scale * 10


def test_levels_may_vary_by_point():
    process = PROCESSES["vp_linear"]()
    at = process.level_at(torch.tensor([-1.0, 0.5, 2.0], dtype=torch.float64))
    x0, eps = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = at.alpha[:, None] * x0 + at.sigma[:, None] * eps
    torch.testing.assert_close(Prediction(Kind.EPS, eps, x, at).x0, x0)


def test_a_blind_kind_is_named():
    at = Level(1.0, 0.0, 1.0, -1.0, 1.0)
    x = torch.ones(1, 1)
    with pytest.raises(ValueError, match=r"eps prediction at alpha=0.0.* does not determine x0"):
        _ = Prediction(Kind.EPS, x, x, at).x0
    assert Prediction(Kind.VELOCITY, x, x, at).x0.item() == pytest.approx(0.0)


def test_the_check_would_catch_a_sign():
    at = PROCESSES["vp_linear"]().level_at(0.3)
    x0, eps = torch.tensor([[1.0]], dtype=torch.float64), torch.tensor([[-0.7]], dtype=torch.float64)
    x = at.alpha * x0 + at.sigma * eps
    wrong_v = at.sigma * x0 - at.alpha * eps
    assert not math.isclose(Prediction(Kind.V, wrong_v, x, at).x0.item(), 1.0, abs_tol=0.1)
