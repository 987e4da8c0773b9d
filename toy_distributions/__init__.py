"""Laws on R^d with everything known exactly: noised density, score, posterior mean and posterior covariance."""

from toy_distributions.base import Distribution
from toy_distributions.mixture import GaussianMixture

__all__ = ["Distribution", "GaussianMixture"]
