"""DPMSolverSinglestepScheduler(solver_order=3, algorithm_type="sde-dpmsolver++", solver_type="heun"): the same sign.

One block of three calls over 3h; the data prediction is lambda^2 whatever the state, the noise is 0. The update goes
back to the state at the start of the block, so its exact mean is an integral over the block.
"""

import math
from unittest import mock

import numpy as np
import torch
from diffusers import DPMSolverSinglestepScheduler
from scipy.integrate import quad


def main(h: float = 0.1) -> float:
    """(computed - exact) / (alpha (3h)^2): bounded by about h if the term were right or missing."""
    lam = h * np.array([4.0, 3.0, 2.0, 1.0, 0.0])
    bar = 1 / (1 + np.exp(-2 * lam))
    betas = 1 - bar / np.concatenate([[1.0], bar[:-1]])
    s = DPMSolverSinglestepScheduler(
        trained_betas=betas.tolist(),
        num_train_timesteps=5,
        solver_order=3,
        algorithm_type="sde-dpmsolver++",
        solver_type="heun",
        prediction_type="sample",
        lower_order_final=True,
    )
    s.set_timesteps(4)  # orders 1, 2, 3, 1
    x = torch.zeros(1, 1, dtype=torch.float64)
    where = "diffusers.schedulers.scheduling_dpmsolver_singlestep.randn_tensor"
    with mock.patch(where, lambda shape, **_: torch.zeros(shape, dtype=torch.float64)):
        for t, at in zip(s.timesteps[:3], (0.0, h, 2 * h), strict=True):
            x = s.step(torch.full_like(x, at**2), t, x, return_dict=False)[0]
    alpha, end = 1 / math.sqrt(1 + math.exp(-6 * h)), 3 * h
    exact = alpha * quad(lambda at: 2 * math.exp(2 * (at - end)) * at * at, 0.0, end, epsabs=1e-14)[0]
    return (x.item() - exact) / (alpha * end * end)


if __name__ == "__main__":
    print(f"error of one third-order step over h^2: {', '.join(f'{main(h):.3f} at h={h}' for h in (0.4, 0.2, 0.1))}")
