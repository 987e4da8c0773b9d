"""DPMSolverMultistepScheduler(final_sigmas_type="sigma_min") with Karras or exponential sigmas can end with NaN.

Such sigmas end at the training schedule's least sigma, and "sigma_min" appends it once more: the last step has length
0. The third-order update and the "heun" second-order one divide by the length; from 15 steps on they take that step.
"""

import torch
from diffusers import DPMSolverMultistepScheduler


def main(steps: int = 20, **config) -> bool:
    """Whether the finished sample is NaN, for a model that always answers 1/2."""
    s = DPMSolverMultistepScheduler(final_sigmas_type="sigma_min", use_karras_sigmas=True, **config)
    s.set_timesteps(steps)
    x = torch.ones(1, 1)
    for t in s.timesteps:
        x = s.step(torch.full((1, 1), 0.5), t, x, return_dict=False)[0]
    return bool(x.isnan().any())


if __name__ == "__main__":
    heun = main(solver_type="heun")
    print(f"NaN: order 3 {main(solver_order=3)}, order 2 heun {heun}, order 2 midpoint {main(solver_order=2)}")
