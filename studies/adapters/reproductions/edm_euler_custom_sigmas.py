"""EDMEulerScheduler.set_timesteps(sigmas=...) does not use the sigmas it is given.

They are taken for the ramp from 0 to 1 of the schedule: "karras" puts them through its formula, "exponential" uses
their number alone.
"""

import torch
from diffusers import EDMEulerScheduler


def main(schedule: str = "exponential") -> float:
    """Largest relative difference between the sigmas asked for and those set; 0 if they were used."""
    wanted = torch.tensor([80.0, 5.0, 1.0, 0.1])
    s = EDMEulerScheduler(sigma_schedule=schedule)
    s.set_timesteps(sigmas=wanted)
    return float((s.sigmas[:-1] / wanted - 1).abs().max())


if __name__ == "__main__":
    print(", ".join(f"{schedule}: off by a factor of {main(schedule):.1e}" for schedule in ("karras", "exponential")))
