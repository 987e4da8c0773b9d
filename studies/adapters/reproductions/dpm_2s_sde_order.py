"""DPMSolverSinglestepScheduler(solver_order=2, algorithm_type="sde-dpmsolver++"): the law's error is of order 1.

Data N(0, 1), so every state is N(0, 1) and the exact data prediction is alpha x: the output's variance should be 1.
The run is linear in its start and its normals; each of them is given to a row of the batch of its own, so that the
sum of squares of the rows is the variance, exactly. The stage and the step draw independent noise.
"""

import math
from unittest import mock

import numpy as np
import torch
from diffusers import DPMSolverSinglestepScheduler


def main(steps: int = 64, order: int = 2) -> float:
    """The output's standard deviation minus 1, after an even number of steps over lambda in [-1, 2]."""
    h = 3.0 / steps
    lam = 2.0 + h - h * np.arange(steps + 2)
    bar = 1 / (1 + np.exp(-2 * lam))
    betas = 1 - bar / np.concatenate([[1.0], bar[:-1]])
    s = DPMSolverSinglestepScheduler(
        trained_betas=betas.tolist(),
        num_train_timesteps=steps + 2,
        solver_order=order,
        algorithm_type="sde-dpmsolver++",
        prediction_type="sample",
        lower_order_final=True,
    )
    s.set_timesteps(steps + 1)
    calls = 0

    def unit(shape, **_):
        nonlocal calls
        calls += 1
        z = torch.zeros(shape, dtype=torch.float64)
        z[calls] = 1.0
        return z

    x = torch.zeros(steps + 2, 1, dtype=torch.float64)
    x[0] = 1.0
    with mock.patch("diffusers.schedulers.scheduling_dpmsolver_singlestep.randn_tensor", unit):
        for t, k in zip(s.timesteps[:steps], s.sigmas, strict=False):
            x = s.step(x / math.sqrt(1 + k.item() ** 2), t, x, return_dict=False)[0]
    return x.square().sum().sqrt().item() - 1


if __name__ == "__main__":
    print("standard deviation - 1:", ", ".join(f"{main(n):.5f} at {n} steps" for n in (16, 32, 64, 128)))
