"""IPNDMScheduler is called fourth-order; on its own schedule its error falls like the square of the step.

Its weights are those of equal steps in sigma/alpha, and its schedule has no such steps. The data are N(0, v), whose
flow is known: x grows with sqrt(alpha^2 v + sigma^2). Compared after three quarters of the steps, away from both ends.
"""

import math
from itertools import pairwise

import torch
from diffusers import IPNDMScheduler


def main(steps: int = 64, v: float = 0.05) -> float:
    """Relative error of the state after three quarters of its steps, the schedule taken to double precision."""
    s = IPNDMScheduler()
    s.set_timesteps(steps)
    sigma = torch.sin(torch.linspace(1, 0, steps + 1, dtype=torch.float64) * math.pi / 2) ** 2
    alpha = (1 - sigma**2).sqrt()
    s.betas, s.alphas = sigma, alpha
    scale = (alpha**2 * v + sigma**2).sqrt()
    x = torch.ones(1, 1, dtype=torch.float64)
    for i, t in enumerate(s.timesteps[: 3 * steps // 4]):
        x0 = alpha[i] * v / scale[i] ** 2 * x
        eps = sigma[i] / scale[i] ** 2 * x
        x = s.step(alpha[i] * eps - sigma[i] * x0, t, x, return_dict=False)[0]
    return abs(x.item() / (scale[3 * steps // 4] / scale[0]).item() - 1)


if __name__ == "__main__":
    errors = [main(n) for n in (32, 64, 128, 256)]
    slopes = ", ".join(f"{math.log2(a / b):.2f}" for a, b in pairwise(errors))
    print(f"errors {errors}, observed orders {slopes}")
