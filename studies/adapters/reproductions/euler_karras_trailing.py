"""EulerDiscreteScheduler(use_karras_sigmas=True): under "trailing" and "leading" the range depends on the steps.

The Karras formula is given the sigmas at the timesteps of the chosen spacing, not those of the training schedule; so
under "trailing" the least sigma, where the last step to 0 begins, is far above that of "linspace".
DPMSolverMultistepScheduler takes the training schedule's range under every spacing.
"""

from diffusers import DPMSolverMultistepScheduler, EulerDiscreteScheduler


def main(steps: int = 10) -> float:
    """Least sigma above 0 of the Euler class over that of the DPM-Solver class, both under "trailing"."""
    least = []
    for cls in (EulerDiscreteScheduler, DPMSolverMultistepScheduler):
        s = cls(use_karras_sigmas=True, timestep_spacing="trailing")
        s.set_timesteps(steps)
        least.append(float(s.sigmas[-2]))
    return least[0] / least[1]


if __name__ == "__main__":
    print(f"least sigma, Euler over DPM-Solver: {main(10):.1f} at 10 steps, {main(100):.1f} at 100 steps")
