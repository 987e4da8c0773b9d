"""scipy's adaptive Runge-Kutta methods as samplers: generic peers on the probability flow in lambda.

    dy/dlambda = D(y, k) - y,   y = x / alpha,  k = e^{-lambda},

as in ``torchdiffeq``. The whole batch is one system with one step size, which is what makes a sample's path depend on
its batch. The state is float64 inside; a result is in the type of y.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from studies.adapters.measure import Denoiser, Noise, Trace

METHODS = {"RK23": 3, "RK45": 5, "DOP853": 8}
"""Of the explicit methods of ``solve_ivp``, with the order of the result that goes on."""


@dataclass(frozen=True)
class Setting:
    """A method of METHODS with its tolerances. Raises ValueError for other methods and tolerances that are not > 0."""

    name: str = "DOP853"
    rtol: float = 1e-6
    atol: float = 1e-8
    stochastic: bool = False

    def __post_init__(self):
        if self.name not in METHODS:
            raise ValueError(f"name must be one of {', '.join(METHODS)}; got {self.name!r}.")
        for name, value in (("rtol", self.rtol), ("atol", self.atol)):
            if not value > 0:
                raise ValueError(f"{name} must be > 0; got {name}={value}.")


def trace(
    setting: Setting,
    denoiser: Denoiser,
    y: Tensor,
    ks: Sequence[float],
    *,
    precision: str = "double",
    noise: Noise | None = None,
    through: bool = False,
) -> Trace:
    """Run the method from y at level ks[0] to ks[-1]; of ks the two ends count, the steps between are its own.

    Raises ValueError for ``through``, as sigma = 0 is lambda = infinity, and if the method gives up.
    """
    if through:
        raise ValueError("a run in lambda cannot go through to sigma = 0; stop at the last level.")
    calls = 0

    def slope(lam: float, flat: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        state = torch.from_numpy(flat.reshape(y.shape))
        return (denoiser(state, 1.0, math.exp(-lam)).double() - state).numpy().ravel()

    first, last = -math.log(ks[0]), -math.log(ks[-1])
    run = solve_ivp(
        slope, (first, last), y.double().numpy().ravel(), method=setting.name, rtol=setting.rtol, atol=setting.atol
    )
    if not run.success:
        raise ValueError(f"{setting.name} must reach the last level; it says: {run.message}")
    states = [torch.from_numpy(column.copy()).reshape(y.shape) for column in run.y.T]
    places = [math.exp(-lam) for lam in run.t]
    return Trace(places, states, states[-1].to(y.dtype), calls)
