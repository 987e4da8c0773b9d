"""time_at undoes lambda on every process, for numbers and for tensors, over everything the process reaches."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from theory import PROCESSES

REACH = 12.0


def reachable(process):
    low, high = process.lam_range
    return max(low, -REACH), min(high, REACH)


@pytest.mark.parametrize("name", PROCESSES)
@given(place=st.floats(0, 1))
def test_the_level_found_has_the_lambda_asked_for(name, place):
    process = PROCESSES[name]()
    low, high = reachable(process)
    lam = low + place * (high - low)
    at = process.level_at(lam)
    # a time near t_max has absolute accuracy eps, and alpha there is about t_max - t: lambda loses eps / alpha
    allowed = 1e-13 + 4 * 2.2e-16 * max(1.0, abs(lam)) / min(at.alpha, 1.0)
    assert abs(at.lam - lam) <= allowed


@pytest.mark.parametrize("name", PROCESSES)
def test_tensors_and_numbers_agree(name):
    process = PROCESSES[name]()
    low, high = reachable(process)
    lams = torch.linspace(low, high, 41, dtype=torch.float64)
    together = process.level_at(lams)
    one_by_one = [process.level_at(lam) for lam in lams.tolist()]
    for entry in ("t", "alpha", "sigma", "alpha_dot", "sigma_dot"):
        expected = torch.tensor([getattr(at, entry) for at in one_by_one], dtype=torch.float64)
        got = torch.as_tensor(getattr(together, entry)).expand_as(expected)
        # levels are functions of t; near t = 0 a relative rounding of t is amplified by at most 1/2 in sigma
        torch.testing.assert_close(got, expected, rtol=2e-13, atol=1e-300)


@pytest.mark.parametrize("name", PROCESSES)
def test_lambda_falls_strictly_in_t(name):
    process = PROCESSES[name]()
    lams = process.level(torch.linspace(0, process.t_max, 401, dtype=torch.float64)[1:-1]).lam
    assert bool((lams.diff() < 0).all())


def test_the_check_would_catch_a_wrong_inverse():
    """sigma^2 and sigma confused, as between VP and sub-VP, moves lambda by far more than the bound."""
    vp, sub_vp = PROCESSES["vp_linear"](), PROCESSES["sub_vp"]()
    assert abs(sub_vp.level(vp.time_at(1.0)).lam - 1.0) > 0.1


@pytest.mark.parametrize("name", PROCESSES)
def test_out_of_reach_is_said_in_one_sentence(name):
    process = PROCESSES[name]()
    with pytest.raises(ValueError, match=r"t must lie in \[0, .*got values from -0.5"):
        process.level(-0.5)
    low = process.lam_range[0]
    beyond = low - 1 if math.isfinite(low) else None
    if beyond is not None:
        with pytest.raises(ValueError, match="lambda must lie in"):
            process.time_at(beyond)
