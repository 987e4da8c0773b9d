"""DDIMScheduler steps to t - T // N, which under "linspace" and "trailing" is not its own next timestep.

So the model is next called with a timestep that is not the level of the state. The data are one point at 0: x is
sigma eps, and a network that reads timesteps answers x / sigma(t); the noise it answers should never change.
"""

import torch
from diffusers import DDIMScheduler


def main(spacing: str = "linspace", steps: int = 30) -> float:
    """Largest relative change of the noise that the model answers; 0 under "leading"."""
    s = DDIMScheduler(timestep_spacing=spacing, clip_sample=False)
    s.set_timesteps(steps)
    sigma = (1 - s.alphas_cumprod) ** 0.5
    x, worst = sigma[s.timesteps[0]] * torch.ones(1, 1), 0.0
    for t in s.timesteps:
        eps = x / sigma[t]
        worst = max(worst, abs(eps.item() - 1))
        x = s.step(eps, t, x, return_dict=False)[0]
    return worst


if __name__ == "__main__":
    print(", ".join(f"{spacing}: {main(spacing):.1e}" for spacing in ("leading", "trailing", "linspace")))
