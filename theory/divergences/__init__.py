"""Divergences between laws, each an Estimate that says how it was found and how far off it may be."""

from theory.divergences.dispatch import kl, mmd, sliced_w2, tv, w1, w2

__all__ = ["kl", "mmd", "sliced_w2", "tv", "w1", "w2"]
