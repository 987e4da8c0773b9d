"""Grids decrease, have the ends asked for, and are uniform in the variable they name."""

import pytest
import torch

from theory import (
    GRIDS,
    LinearPath,
    TimeGrid,
    VPLinear,
    karras,
    log_snr_power,
    quadratic,
    uniform_lambda,
    uniform_time,
)

PROCESS = VPLinear()


def test_uniform_lambda_is_uniform_in_lambda():
    lams = torch.tensor([at.lam for at in uniform_lambda(PROCESS, 10, start=-3, end=3).levels])
    torch.testing.assert_close(lams, torch.linspace(-3, 3, 11, dtype=lams.dtype))


def test_uniform_time_and_quadratic_are_uniform_in_t_and_its_root():
    times = torch.tensor(uniform_time(PROCESS, 10, end=0.01).times, dtype=torch.float64)
    torch.testing.assert_close(times, torch.linspace(1, 0.01, 11, dtype=torch.float64))
    roots = torch.tensor(quadratic(PROCESS, 10, end=0.01).times, dtype=torch.float64).sqrt()
    torch.testing.assert_close(roots, torch.linspace(1, 0.1, 11, dtype=torch.float64))


def test_karras_is_uniform_in_a_power_of_k():
    k = torch.tensor([at.k for at in karras(PROCESS, 10, start=-3, end=3, rho=7).levels], dtype=torch.float64)
    spacing = (k ** (1 / 7)).diff()
    torch.testing.assert_close(spacing, spacing[:1].expand_as(spacing), rtol=1e-10, atol=0)


def test_log_snr_power_is_uniform_in_a_root_of_the_way_to_go():
    lams = torch.tensor([at.lam for at in log_snr_power(PROCESS, 10, start=-3, end=3, power=2).levels])
    roots = ((3 - lams) / 6).clamp_min(0) ** 0.5
    torch.testing.assert_close(roots, torch.linspace(1, 0, 11, dtype=lams.dtype), rtol=0, atol=1e-7)
    assert log_snr_power(PROCESS, 10, power=1.0).h_max == pytest.approx(uniform_lambda(PROCESS, 10).h_max)
    assert log_snr_power(PROCESS, 10, power=3.0).h_max > uniform_lambda(PROCESS, 10).h_max + 0.5
    with pytest.raises(ValueError, match="power must be > 0; got power=0"):
        log_snr_power(PROCESS, 4, power=0)


def test_h_max_is_the_largest_step_in_lambda():
    grid = TimeGrid(PROCESS, [PROCESS.time_at(lam) for lam in (-1.0, 0.0, 2.5, 3.0)])
    assert grid.h_max == pytest.approx(2.5)
    assert TimeGrid(LinearPath(), [1.0, 0.5, 0.0]).h_max == float("inf")


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_needs_a_step(name):
    with pytest.raises(ValueError, match="steps must be an integer >= 1; got steps=0"):
        GRIDS[name](PROCESS, 0)


def test_times_that_do_not_decrease_are_named():
    with pytest.raises(ValueError, match=r"must decrease strictly; got times\[1\]=0.5, times\[2\]=0.6"):
        TimeGrid(PROCESS, [1.0, 0.5, 0.6])
    with pytest.raises(ValueError, match="at least two times; got 1"):
        TimeGrid(PROCESS, [1.0])
    with pytest.raises(ValueError, match="must decrease strictly"):
        uniform_lambda(PROCESS, 4, start=2.0, end=-1.0)
    with pytest.raises(ValueError, match="rho must be > 0; got rho=0"):
        karras(PROCESS, 4, rho=0)
