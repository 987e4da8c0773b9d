"""FlowMatchEulerDiscreteScheduler(shift=3): the ends of its schedule are shifted twice.

The constructor shifts all sigmas and keeps their ends; set_timesteps draws its line between these and shifts again.
So the last sigma before 0 is shift(shift(1/1000)), and the sigmas between differ from shifted equal steps.
"""

from diffusers import FlowMatchEulerDiscreteScheduler


def main(shift: float = 3.0, steps: int = 20) -> float:
    """The last sigma before 0 over shift(1/1000), the once shifted end of the schedule; 1 if shifted once."""
    s = FlowMatchEulerDiscreteScheduler(shift=shift)
    s.set_timesteps(steps)
    once = shift * 1e-3 / (1 + (shift - 1) * 1e-3)
    return float(s.sigmas[-2]) / once


if __name__ == "__main__":
    print(f"last sigma before 0 over the once shifted end: {main():.3f}")
