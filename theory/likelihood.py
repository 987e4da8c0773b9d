"""Likelihood by the instantaneous change of variables along the probability-flow ODE, in the process's own time."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from theory.fokker_planck import divergence
from theory.models import Model
from theory.process import Level
from toy_distributions.base import Distribution


class Flowed(NamedTuple):
    """Ends (n, dim) of trajectories and the integrals (n,) of the divergence along them."""

    end: Tensor
    expansion: Tensor


def flow_in_time(model: Model, x: Tensor, s: Level, t: Level, *, rtol: float = 1e-12) -> Tensor:
    """Where dx/dt = v(x, t), v the model's velocity, takes x (n, dim) from level s to level t, in either direction.

    DOP853 in the process's own time, each trajectory with its own step sizes. Raises ArithmeticError if it gives up.
    """

    def slope(time: float, state: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(state[None]), _level(model, time)).velocity[0].numpy()

    return _integrated(slope, x.detach().double().numpy(), s, t, rtol)


def flow_with_divergence(model: Model, x: Tensor, s: Level, t: Level, *, rtol: float = 1e-12) -> Flowed:
    r"""The same trajectories with the integral of div v along them, which is log |det dx_t/dx_s|.

    The divergence is exact: automatic differentiation of the model, one pass a dimension.
    """
    dim = x.shape[-1]

    def slope(time: float, state: np.ndarray) -> np.ndarray:
        point = torch.from_numpy(state[None, :dim]).clone().requires_grad_()
        with torch.enable_grad():
            velocity = model(point, _level(model, time)).velocity
            spread = divergence(velocity, point)
        return np.append(velocity.detach().numpy()[0], spread.item())

    start = np.pad(x.detach().double().numpy(), ((0, 0), (0, 1)))
    out = _integrated(slope, start, s, t, rtol)
    return Flowed(out[:, :dim], out[:, dim])


def _level(model: Model, time: float) -> Level:
    return model.process.level(min(max(time, 0.0), model.process.t_max))  # DOP853 may overshoot an end by rounding


def _integrated(slope: Callable, start: np.ndarray, s: Level, t: Level, rtol: float) -> Tensor:
    rows = []
    for row in start:
        run = solve_ivp(slope, (float(s.t), float(t.t)), row, method="DOP853", rtol=rtol, atol=rtol)
        if not run.success:
            raise ArithmeticError(f"the probability-flow ODE must reach t={t.t}; DOP853 stopped: {run.message}")
        rows.append(run.y[:, -1])
    return torch.from_numpy(np.stack(rows))


def ode_log_likelihood(
    model: Model, x: Tensor, s: Level, t: Level, prior: Distribution, *, rtol: float = 1e-12, trace_factor: float = 1.0
) -> Tensor:
    r"""log density at x (n, dim), at the data end s, of the law that the model's ODE makes of ``prior`` at level t.

        log p_s(x) = log prior(x_t) + int_s^t div v(x_tau, tau) dtau

    It is the law of the ODE at level s, not that of the data at sigma = 0, and exact up to rtol. s: the clean end,
    with sigma > 0 for a model that needs it. trace_factor: multiplies the integral; 1 is the formula, any other value
    serves as a control.
    Source: chen2018neural, eq. 8; song2020score, eq. 39.
    """
    end, expansion = flow_with_divergence(model, x, s, t, rtol=rtol)
    return prior.log_prob(end) + trace_factor * expansion
