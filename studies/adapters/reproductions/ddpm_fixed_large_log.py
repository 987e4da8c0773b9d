"""DDPMScheduler(variance_type="fixed_large_log") returns NaN: it takes the square root of the logarithm of beta."""

import torch
from diffusers import DDPMScheduler


def main() -> bool:
    """Whether one step from a finite state and a finite model answer is NaN."""
    s = DDPMScheduler(variance_type="fixed_large_log")
    s.set_timesteps(50)
    x = s.step(torch.zeros(1, 1), s.timesteps[0], torch.zeros(1, 1), return_dict=False)[0]
    return bool(x.isnan().any())


if __name__ == "__main__":
    print(f"NaN after one step: {main()}")
