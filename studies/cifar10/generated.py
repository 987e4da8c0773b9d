"""What a network and exact laws draw from the same starts, and how far it lies from real images in features.

A set of drawn images is compared with training images in the features of `studies.cifar10.classifier`. Beside it stand
the floor, test images in the same number, and the Gaussian fitted to the training images, drawn from the same starts by
the same solver on the same grid: what their second moments alone predict.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from studies.cifar10 import classifier, data, served
from studies.cifar10.distances import Moments, fd, half_width, kd, precision_recall
from studies.cifar10.features import Extractor, cifar_classifier
from studies.cifar10.laws import along_axes
from studies.cifar10.model import NetworkModel
from studies.cifar10.validation import normals
from theory import Independent, solve
from theory.estimate import Estimate
from theory.grid import TimeGrid
from theory.models import Model
from theory.process import NoiseProcess
from theory.solvers.base import Solver

IMAGES = 200
"""Images of a set, 20 of each class: what few minutes of one core can draw."""

REFERENCE = 10_000
FLOORS = 10
"""Training images to compare with, and disjoint sets of test images whose mean distance is the floor."""

MEASURES = ("fd", "kd", "precision", "recall")


def unavailable(name: str = "shipped") -> str | None:
    """Why feature distances of this network cannot be had here, or None."""
    if not (classifier.WEIGHTS.is_file() and classifier.WEIGHTS.with_suffix(".json").is_file()):
        return "this copy came without the classifier whose features it compares images by."
    return served.unavailable(name) or data.unavailable(download=True)


def digest(name: str = "shipped") -> str:
    """What feature distances rest on beside laws and solvers: what the network does, and the classifier's weights."""
    weights = classifier.WEIGHTS.read_bytes() if classifier.WEIGHTS.is_file() else b""
    return served.digest(name) + hashlib.sha256(weights).hexdigest()


class Drawn(NamedTuple):
    points: Tensor
    """(n, 3072), in [-1, 1] where they are proper images."""
    evaluations: int


def draw(model: Model, solver: Solver, grid: TimeGrid, z: Tensor, *, seed: int) -> Drawn:
    """The solver's ends from sigma z, z (n, 3072) standard normals, denoised at the last level; its noise from seed.

    Raises ValueError as `theory.solve` does, for a run that leaves the finite numbers too.
    """
    start = float(grid.levels[0].sigma) * z
    with torch.no_grad():
        found = solve(solver, model, start, grid, noise=Independent(seed), last="denoise", keep=False)
    return Drawn(found.end, found.evaluations)


def told(name: str, process: NoiseProcess, *, guidance: float = 1.0) -> NetworkModel:
    """The network for IMAGES states of classes in turn, as frequent as in the data; without labels if it knows none."""
    plain = served.network(name, process=process)
    return plain.serving(process, labels=classes(), guidance=guidance) if plain.conventions.labels else plain


def classes() -> Tensor:
    """(IMAGES,) 0 ... 9 in turn."""
    return torch.arange(IMAGES) % 10


def starts() -> Tensor:
    """(IMAGES, 3072) standard normals, the same for all sets, so that their differences are sharper than they are."""
    return normals(IMAGES, seed=0)


def gaussian_limit() -> Tensor:
    """(IMAGES, 3072) where the exact flow of the Gaussian fit takes the starts, from infinite noise to none."""
    law, axes = along_axes()
    return (law.means + law.covs.sqrt() * (starts().double() @ axes)) @ axes.T


@cache
def extractor() -> Extractor:
    return cifar_classifier(classifier.WEIGHTS)


def features(points: Tensor) -> np.ndarray:
    """(n, 64) of points (n, 3072) as images of 256 grey levels; what lies outside [-1, 1] is clamped first."""
    return extractor().features(data.as_images(points))


def guesses(found: np.ndarray) -> np.ndarray:
    """(n,) the classes that the classifier names from its own features (n, 64)."""
    with torch.no_grad():
        return classifier.load(classifier.WEIGHTS).decide(torch.from_numpy(found).float()).argmax(1).numpy()


def _some(split: str, n: int) -> Tensor:
    images, labels = data.load(split)
    return images[torch.randperm(len(labels), generator=torch.Generator().manual_seed(1))[:n]]


@cache
def reference() -> np.ndarray:
    """(REFERENCE, 64) features of training images, drawn without replacement."""
    return extractor().features(_some("train", REFERENCE))


@cache
def _moments() -> Moments:
    return Moments.of(reference())


def measured(found: np.ndarray, prefix: str = "") -> dict[str, float]:
    """FD, KD, precision and recall of features (n, 64) against the reference, and the half-widths of their errors.

    FD is taken against the moments of all of it, KD against ten times as many training images as there are features,
    precision and recall against as many, since they depend on both numbers. The errors are those of the drawn images:
    the reference is the same for all.
    """
    known, n = reference(), len(found)
    precision, recall = precision_recall(found, known[:n])
    distances = (fd(found, _moments()), kd(found, known[: 10 * n], block=max(2, n // 4)), precision, recall)
    return columns({f"{prefix}{name}": value for name, value in zip(MEASURES, distances, strict=True)})


@cache
def floor() -> dict[str, float]:
    """The mean of each measure over FLOORS disjoint sets of IMAGES test images, and its 95 % half-width."""
    found = extractor().features(_some("test", FLOORS * IMAGES))
    sets = [measured(some) for some in np.array_split(found, FLOORS)]
    return {
        key: value
        for name in MEASURES
        for key, value in columns({f"floor_{name}": mean_of([one[name] for one in sets])}).items()
    }


def mean_of(values: Sequence[float]) -> Estimate:
    """The mean of independent values and its 95 % half-width by Student's law. Raises ValueError for fewer than two."""
    if len(values) < 2:
        raise ValueError(f"a mean with an error needs at least 2 values; got {len(values)}.")
    x = np.asarray(values, np.float64)
    error = half_width(len(x)) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return Estimate(float(x.mean()), error, f"mean of {len(x)}, 95 %")


def part(hits: np.ndarray) -> Estimate:
    """The part of n hits that are true, with two binomial standard errors, not zero at 0 and 1 (Agresti and Coull)."""
    n, value = len(hits), float(np.mean(hits))
    smooth = (value * n + 2) / (n + 4)
    return Estimate(value, 2 * math.sqrt(smooth * (1 - smooth) / (n + 4)) + abs(smooth - value), f"n={n}, binomial")


def apart(a: Mapping[str, Any], b: Mapping[str, Any], name: str) -> bool:
    """Whether the intervals of a column in two rows of a table do not meet; their errors stand in name_error."""
    return bool(abs(a[name] - b[name]) > a[f"{name}_error"] + b[f"{name}_error"])


def shown(row: Mapping[str, Any], name: str) -> str:
    """A column of a row with its error, in words."""
    return f"{row[name]:.3g} ± {row[f'{name}_error']:.1g}"


def columns(estimates: dict[str, Estimate]) -> dict[str, float]:
    """Each estimate as two columns: its name, and its name with _error."""
    return {
        key: number for name, e in estimates.items() for key, number in ((name, e.value), (f"{name}_error", e.error))
    }
