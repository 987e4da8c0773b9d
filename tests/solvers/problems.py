"""The laws on which solvers are tried: a Gaussian, a 1-D mixture, an anisotropic 2-D mixture."""

import torch

from toy_distributions import GaussianMixture

GAUSSIAN = GaussianMixture.gaussian(0.7, 0.25)
MIXTURE = GaussianMixture([0.3, 0.5, 0.2], [[-1.0], [0.4], [1.2]], [0.05, 0.1, 0.04])
PLANE = GaussianMixture(
    [0.3, 0.5, 0.2],
    [[-1.0, 0.5], [0.6, -0.4], [1.0, 1.2]],
    torch.tensor([[[0.3, 0.1], [0.1, 0.08]], [[0.05, -0.02], [-0.02, 0.2]], [[0.1, 0.0], [0.0, 0.03]]]),
)
LAWS = {"gaussian": GAUSSIAN, "mixture": MIXTURE, "plane": PLANE}


def sees_the_process(name: str) -> bool:
    """Whether a solver's formula holds time itself; without it, all processes are one in y = x / alpha and lambda."""
    return ".t" in name or name.startswith(("pndm.", "quasi_taylor."))
