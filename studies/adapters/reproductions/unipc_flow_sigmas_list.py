"""UniPCMultistepScheduler.set_timesteps(sigmas=[...]) is annotated list[float] and raises TypeError for a list."""

from diffusers import UniPCMultistepScheduler


def main() -> bool:
    """Whether a list raises TypeError."""
    s = UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction")
    try:
        s.set_timesteps(sigmas=[0.9, 0.5, 0.1])
    except TypeError:
        return True
    return False


if __name__ == "__main__":
    print(f"TypeError for a list of sigmas: {main()}")
