"""Images are points of [-1, 1]^3072, and the way back is exact and clamps."""

import numpy as np
import pytest
import torch

from studies.cifar10.data import as_images, as_points


def images() -> torch.Tensor:
    """Every value of a byte occurs, in no order that a transposition would keep."""
    values = np.random.default_rng(0).permutation(np.resize(np.arange(256, dtype=np.uint8), 2 * 3072))
    return torch.from_numpy(values.reshape(2, 3, 32, 32))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_there_and_back(dtype: torch.dtype):
    points = as_points(images(), dtype)
    assert points.shape == (2, 3072) and points.dtype == dtype
    assert (points.min(), points.max()) == (-1, 1)
    assert torch.equal(as_images(points), images())
    assert torch.equal(as_images(points + 0.49 / 127.5), images())
    assert not torch.equal(as_images(points + 0.51 / 127.5), images())  # the control: half a byte is the limit


def test_float64_is_the_default_and_the_images_stay_as_they_were():
    given = images()
    assert as_points(given).dtype == torch.float64 and torch.equal(given, images())
    points = as_points(given)
    as_images(points)
    assert torch.equal(points, as_points(given))


def test_a_coordinate_is_channel_then_row_then_column():
    one = torch.zeros(3, 32, 32, dtype=torch.uint8)
    one[2, 5, 7] = 255
    assert as_points(one).argmax() == 2 * 1024 + 5 * 32 + 7


def test_leading_axes_are_kept_and_may_be_empty():
    assert as_images(torch.zeros(4, 0, 3072)).shape == (4, 0, 3, 32, 32)
    assert as_points(torch.zeros(4, 0, 3, 32, 32, dtype=torch.uint8)).shape == (4, 0, 3072)


def test_what_lies_outside_is_clamped():
    assert as_images(torch.full((3072,), 1e30)).unique().tolist() == [255]
    assert as_images(torch.full((3072,), -1e30)).unique().tolist() == [0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_points_that_are_not_finite_are_refused(value: float):
    points = torch.zeros(3, 3072)
    points[1, 17] = value
    with pytest.raises(ValueError, match="points must be finite"):
        as_images(points)


def test_other_shapes_and_types_are_refused():
    with pytest.raises(ValueError, match=r"images must be uint8 \(..., 3, 32, 32\); got torch.float32 \(3, 32, 32\)"):
        as_points(torch.zeros(3, 32, 32))
    with pytest.raises(ValueError, match=r"got torch.uint8 \(32, 32, 3\)"):
        as_points(torch.zeros(32, 32, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"points must be floating \(..., 3072\); got torch.float32 \(3071,\)"):
        as_images(torch.zeros(3071))
    with pytest.raises(ValueError, match=r"got torch.int64"):
        as_images(torch.zeros(3072, dtype=torch.int64))
