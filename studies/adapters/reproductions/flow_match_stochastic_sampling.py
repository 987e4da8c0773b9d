"""FlowMatchEulerDiscreteScheduler(stochastic_sampling=True) with an exact velocity does not sample the law.

Data N(0, 1). Each step replaces the state by its data prediction, whose variance is less than the data's, plus fresh
noise. With an exact model the variance so lost is not given back, however many steps there are. (With a model that
maps a state to a sample, a consistency model, none would be lost.)
"""

from unittest import mock

import torch
from diffusers import FlowMatchEulerDiscreteScheduler


def main(steps: int = 64) -> float:
    """Standard deviation of the output, by unit vectors; the data's is 1."""
    s = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
    s.set_timesteps(steps)
    x, calls = torch.zeros(steps + 1, 1), 0
    x[0] = 1.0

    def unit(shape, **_):
        nonlocal calls
        calls += 1
        z = torch.zeros(shape)
        z[calls] = 1.0
        return z

    with mock.patch("diffusers.schedulers.scheduling_flow_match_euler_discrete.randn_tensor", unit):
        for t, sigma in zip(s.timesteps, s.sigmas, strict=False):
            x0 = (1 - sigma) / ((1 - sigma) ** 2 + sigma**2) * x  # E[x0 | x] for data N(0, 1)
            x = s.step((x - x0) / sigma, t, x, return_dict=False)[0]
    return x.square().sum().sqrt().item()


if __name__ == "__main__":
    print("standard deviation, should be 1:", ", ".join(f"{main(n):.3f} at {n} steps" for n in (4, 16, 64, 256)))
