"""CIFAR-10 in the laboratory: the data, and what is built on them."""

from studies.cifar10.data import (
    Cifar10,
    DataUnavailable,
    Source,
    as_images,
    as_points,
    describe,
    find,
    load,
    unavailable,
)

__all__ = [
    "Cifar10",
    "DataUnavailable",
    "Source",
    "as_images",
    "as_points",
    "describe",
    "find",
    "load",
    "unavailable",
]
