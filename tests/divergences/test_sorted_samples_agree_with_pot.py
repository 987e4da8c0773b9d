"""W_p of samples on lines by sorting agrees with optimal transport by POT, whatever the sizes and the buffers."""

import math

import numpy as np
import ot
import pytest
import torch

from theory.divergences import samples, w2

EPS = 2.0**-52


def drawn(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 1.3**seed


def transported(x, y, power):
    cost = np.abs(x.numpy()[:, None] - y.numpy()[None]) ** power
    return float(ot.emd2([], [], cost, numItermax=10_000_000)) ** (1 / power)


def miss(found: float, exact: float, x: torch.Tensor, y: torch.Tensor) -> float:
    """In units of the rounding of a mean of n terms, each good to some eps of the largest point."""
    return abs(found - exact) / (64 * EPS * max(x.abs().max().item(), y.abs().max().item()))


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("sizes", [(1, 1), (50, 50), (50, 37), (3, 200), (1, 10)])
def test_lines(sizes, power):
    x, y = drawn(sizes[0], 1, 1)[:, 0], drawn(sizes[1], 1, 2)[:, 0]
    assert miss(samples.line(x, y, power), transported(x, y, power), x, y) <= 1
    assert miss(1.000001 * samples.line(x, y, power), transported(x, y, power), x, y) > 1


def test_two_sample_sets_on_the_line_are_sorted_not_transported():
    x, y = drawn(20_000, 1, 0), drawn(10_000, 1, 1)
    found = w2(x, y)
    assert found.method.startswith("sorting on 20000 and 10000")
    assert abs(found.value - 0.3) <= found.error  # N(0, 1) against N(0, 1.3^2)


@pytest.mark.parametrize("budget", [1, 1 << 12, 1 << 24])
def test_slices(budget, monkeypatch):
    monkeypatch.setattr(samples, "SLICE_BYTES", budget)
    x, y, units = drawn(300, 3, 0), drawn(300, 3, 1), torch.nn.functional.normalize(drawn(17, 3, 2), dim=-1)
    exact = ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), projections=units.T.numpy())
    before = x.clone()
    assert miss(samples.sliced(x, y, units).value, exact, x, y) <= 1
    assert torch.equal(x, before)
    each = samples.sliced_powers(x, y, units, 1)
    assert miss(each[4].item(), transported(x @ units[4], y @ units[4], 1), x, y) <= 1


def test_bad_points_are_refused_in_one_sentence():
    good = torch.zeros(3)
    with pytest.raises(ValueError, match=r"x must have shape \(n,\) with n >= 1; got \(3, 1\)"):
        samples.line(torch.zeros(3, 1), good, 2)
    with pytest.raises(ValueError, match=r"y must be finite; got values from 0.0 to nan"):
        samples.line(good, torch.tensor([0.0, math.nan]), 2)
    with pytest.raises(ValueError, match=r"power must be 1 or 2; got 3"):
        samples.line(good, good, 3)
