"""DPMSolverMultistepScheduler(use_exponential_sigmas=True): timesteps are cut, not rounded, to integers.

With Karras sigmas the same class rounds. A network that reads timesteps is so told half a timestep too little noise on
average. The same holds for the beta sigmas, and in the Singlestep, UniPC, DEIS and SASolver schedulers.
"""

import numpy as np
from diffusers import DPMSolverMultistepScheduler


def main(kind: str = "exponential", steps: int = 50) -> float:
    """Mean of (timestep handed out - timestep of the sigma used), over the steps."""
    s = DPMSolverMultistepScheduler(**{f"use_{kind}_sigmas": True})
    s.set_timesteps(steps)
    bar = s.alphas_cumprod.double().numpy()
    log_k = 0.5 * np.log((1 - bar) / bar)
    exact = np.interp(np.log(s.sigmas[:-1].double().numpy()), log_k, np.arange(len(log_k)))
    return float((s.timesteps.numpy() - exact).mean())


if __name__ == "__main__":
    print(", ".join(f"{kind}: {main(kind):+.2f} timesteps" for kind in ("exponential", "beta", "karras")))
