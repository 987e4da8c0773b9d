"""The exact laws beside a network: the training images as a Dirac mixture, and the Gaussian fitted to them."""

from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from studies.cifar10 import data
from toy_distributions import GaussianMixture, fit_gaussian

LAWS = ("gaussian", "empirical")


@cache
def law_of_images(name: str, dtype: torch.dtype = torch.float64) -> GaussianMixture:
    """Of the 50,000 training images as points of [-1, 1]^3072, by name; kept for the process."""
    if name not in LAWS:
        raise ValueError(f"law must be one of {', '.join(LAWS)}; got {name!r}.")
    if name == "empirical":
        return GaussianMixture.empirical(data.as_points(data.load("train").images, dtype))
    if dtype != torch.float64:
        return law_of_images(name).to(dtype)
    return fit_gaussian(data.as_points(data.load("train").images))


@cache
def along_axes() -> tuple[GaussianMixture, Tensor]:
    """The Gaussian fit in coordinates along its principal axes, where it costs nothing, and the axes (3072, 3072)."""
    fit = law_of_images("gaussian")
    variances, axes = torch.linalg.eigh(fit.cov)
    return GaussianMixture.gaussian(fit.mean @ axes, variances.clamp_min(0)), axes


def code() -> str:
    """What results with these laws rest on beside the two lower rooms: this file."""
    return Path(__file__).read_text(encoding="utf-8")
