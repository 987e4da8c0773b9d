"""torchdiffeq's integrators as samplers: generic peers on the probability flow in lambda.

    dy/dlambda = D(y, k) - y,   y = x / alpha,  k = e^{-lambda}

is smooth and of unit scale in lambda, so fixed steps in lambda need no knowledge of diffusion. Fixed methods step on
the levels they are given; adaptive ones take one step size for the whole batch and are asked for the last level by
``step_t``, since otherwise the end comes from a low-order interpolant. Time is float64 (the default would be the dtype
of the levels). "rk4" is the 3/8 rule. Tested with 0.2.5.
"""

import importlib
import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from studies.adapters.measure import Denoiser, Noise, Trace

NEEDED = "torchdiffeq is not installed; run: pip install 'exactscore[k-diffusion]'"
FIXED = {"euler": 1, "midpoint": 2, "heun2": 2, "heun3": 3, "rk4": 4, "explicit_adams": 3}
ADAPTIVE = ("bosh3", "dopri5", "dopri8", "adaptive_heun", "fehlberg2")


def unavailable() -> str | None:
    """None if torchdiffeq can be imported, else one sentence that names the extra."""
    return None if importlib.util.find_spec("torchdiffeq") else NEEDED


@dataclass(frozen=True)
class Setting:
    """A method of ``odeint``, with rtol and atol if it is adaptive."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    stochastic: bool = False


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
    """Run the method from y at level ks[0] over the levels ks, in the precision of y.

    Raises ImportError naming the extra, ValueError for ``through``: sigma = 0 is lambda = infinity.
    """
    if unavailable():
        raise ImportError(NEEDED)
    if through:
        raise ValueError("a run in lambda cannot go through to sigma = 0; stop at the last level.")
    calls = 0

    def slope(lam: Tensor, state: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return denoiser(state, 1.0, math.exp(-float(lam))).to(state) - state

    asked = torch.tensor([-math.log(k) for k in ks], dtype=torch.float64)
    options: dict[str, Any] = {}
    if setting.name in ADAPTIVE:
        asked = asked[[0, -1]]
        options = {"dtype": torch.float64, "step_t": asked[-1:]}
    elif "adams" in setting.name:
        options = {"max_order": 4}  # three points; the default, 12, is stable only for tiny steps
    state = y if precision == "double" else y.float()
    run = importlib.import_module("torchdiffeq").odeint
    states = run(slope, state, asked, method=setting.name, options=options, **setting.options)
    places = list(ks) if len(states) == len(ks) else [ks[0], ks[-1]]
    return Trace(places, [row.double() for row in states], states[-1].double(), calls)
