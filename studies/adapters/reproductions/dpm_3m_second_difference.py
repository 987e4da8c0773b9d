"""DPMSolverMultistepScheduler(solver_order=3): the second derivative enters with half its weight.

A third-order multistep update is exact when the data prediction is a quadratic in lambda. Here it is lambda^2, on
equal steps of 1; the exact update is an integral, done by quadrature. What is missing is of third order in the step,
so the method has order 2 from any start. (The class's singlestep relative has the factor 2 that is missing here.)
"""

import math

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler
from scipy.integrate import quad


def main(order: int = 3) -> float:
    """(computed - exact) / (the exact term of the second derivative): 0 if it is there, -1 if it is missing."""
    lam = np.array([2.0, 1.0, 0.0, -1.0])  # training levels, the cleanest first
    bar = 1 / (1 + np.exp(-2 * lam))
    betas = 1 - bar / np.concatenate([[1.0], bar[:-1]])
    s = DPMSolverMultistepScheduler(
        trained_betas=betas.tolist(),
        num_train_timesteps=4,
        solver_order=order,
        prediction_type="sample",
        timestep_spacing="trailing",
        lower_order_final=False,
    )
    s.set_timesteps(4)
    x = before = torch.zeros(1, 1, dtype=torch.float64)
    for t, at in zip(s.timesteps[:3], (-1.0, 0.0, 1.0), strict=True):
        before = x
        x = s.step(torch.full_like(x, at**2), t, x, return_dict=False)[0]
    alpha = [1 / math.sqrt(1 + math.exp(-2 * at)) for at in (1.0, 2.0)]
    integral = quad(lambda at: math.exp(at - 2.0) * at * at, 1.0, 2.0, epsabs=1e-14)[0]
    exact = alpha[1] * math.exp(-2.0) / (alpha[0] * math.exp(-1.0)) * before.item() + alpha[1] * integral
    curved = quad(lambda at: math.exp(at - 2.0) * (at - 1) ** 2, 1.0, 2.0, epsabs=1e-14)[0]
    return (x.item() - exact) / (alpha[1] * curved)


if __name__ == "__main__":
    print(f"share of the second derivative's term that is missing: {-main():.4f}")
