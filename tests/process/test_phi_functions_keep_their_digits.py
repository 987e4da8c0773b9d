"""phi_k(z) agrees with 50 digits at every argument: near zero, where the recursion fails, and far on both sides."""

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from theory.phi import phi, phi_of

ORDERS = [0, 1, 2, 3, 4]
arguments = st.one_of(
    st.floats(-60, 60), st.floats(-20, 1).map(lambda e: 10.0**e), st.floats(-20, 1).map(lambda e: -(10.0**e))
)


def exact(k: int, z: float) -> mpmath.mpf:
    """From the definition as an integral, by the series of e^z term by term: sum_j z^j / (j + k)!."""
    with mpmath.workdps(60):
        return mpmath.hyp1f1(1, k + 1, mpmath.mpf(z)) / mpmath.factorial(k)


@pytest.mark.parametrize("k", ORDERS)
@given(z=arguments)
def test_floats(k, z):
    assert abs(phi(k, z) / exact(k, z) - 1) < 1e-14


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("k", ORDERS)
def test_tensors(k, dtype):
    z = torch.cat([torch.linspace(-30, 30, 301, dtype=dtype), torch.logspace(-20, 0, 41, dtype=dtype)])
    for value, at in zip(phi_of(k, z).tolist(), z.tolist(), strict=True):
        assert abs(value / exact(k, at) - 1) < 64 * torch.finfo(dtype).eps


def test_the_plain_recursion_would_be_caught():
    z = 1e-5
    plain = ((math.expm1(z) / z - 1) / z - 0.5) / z
    assert abs(plain / exact(3, z) - 1) > 1e-7


def test_ends():
    assert phi(2, 0.0) == 0.5 and phi(3, -math.inf) == 0.0
    with pytest.raises(ValueError, match="k must be an integer >= 0; got k=-1"):
        phi(-1, 1.0)
