"""A thresholded model clips what it should, leaves alone what is inside, and treats each sample by itself."""

import pytest
import torch

from theory import Exact, Kind, Model, Prediction, Thresholded, VPLinear
from toy_distributions import LAWS

PROCESS = VPLinear()
AT = PROCESS.level_at(0.3)


class Says(Model):
    """Predicts what it was told, whatever the state."""

    process = PROCESS

    def __init__(self, x0):
        self.x0 = x0

    def __call__(self, x, at):
        return Prediction(Kind.X0, self.x0, x, at)


def test_static_and_dynamic_ranges():
    said = torch.tensor([[0.2, -0.5, 0.9], [4.0, -2.0, 1.0]], dtype=torch.float64)
    static = Thresholded(Says(said))(said, AT).x0
    assert static.tolist() == [[0.2, -0.5, 0.9], [1.0, -1.0, 1.0]]
    dynamic = Thresholded(Says(said), quantile=0.5)(said, AT).x0
    assert dynamic.tolist() == [[0.2, -0.5, 0.9], [1.0, -1.0, 0.5]]  # q = max(1, 0.5) and max(1, 2)
    assert Thresholded(Says(said), quantile=1.0)(said, AT).x0.tolist() == [[0.2, -0.5, 0.9], [1.0, -0.5, 0.25]]


def test_a_sample_does_not_depend_on_its_batch():
    law = LAWS["mixture_2d"]()
    model = Thresholded(Exact(law, PROCESS), 0.5, 0.9)
    x = torch.linspace(-2, 2, 8, dtype=torch.float64).reshape(4, 2)
    together = model(x, AT).x0
    assert torch.equal(together, torch.cat([model(x[i : i + 1], AT).x0 for i in range(4)]))
    assert (together - Exact(law, PROCESS)(x, AT).x0).abs().max() > 0.01


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="bound must be > 0; got bound=0"):
        Thresholded(Says(torch.zeros(1, 1)), 0.0)
    with pytest.raises(ValueError, match=r"quantile must lie in \(0, 1\]; got quantile=1.5"):
        Thresholded(Says(torch.zeros(1, 1)), quantile=1.5)
