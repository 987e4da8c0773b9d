"""UniPCMultistepScheduler(solver_type="bh1") and (predict_x0=False) end with NaN under the default final sigma, 0.

At sigma = 0 the step in lambda is infinite. "bh1" multiplies it by a correction that is 0; the noise prediction
multiplies sigma = 0 by its exponential. Every call but the last is finite.
"""

import torch
from diffusers import UniPCMultistepScheduler


def main(**config) -> bool:
    """Whether the finished sample is NaN, for a model that always answers 1/2."""
    s = UniPCMultistepScheduler(**config)
    s.set_timesteps(20)
    x = torch.ones(1, 1)
    for t in s.timesteps:
        x = s.step(torch.full((1, 1), 0.5), t, x, return_dict=False)[0]
    return bool(x.isnan().any())


if __name__ == "__main__":
    print(f"NaN: bh1 {main(solver_type='bh1')}, noise prediction {main(predict_x0=False)}, defaults {main()}")
