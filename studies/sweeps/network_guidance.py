"""Classifier-free guidance of a trained network: fidelity bought with diversity, beside guided exact Gaussians."""

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from studies.cifar10 import data, generated
from studies.cifar10.generated import apart, digest, shown, unavailable
from studies.cifar10.laws import law_of_images
from studies.cifar10.served import reach
from studies.store import Values
from studies.study import study
from theory import EDM, SOLVERS, karras
from theory.models import Model
from theory.prediction import Kind, Prediction
from theory.process import Level, NoiseProcess
from toy_distributions import GaussianMixture

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PROCESS = EDM()
K_START, K_END = 80.0, 0.02
SOLVER, STEPS = "dpm_pp.2m", 10
SCALES = [1.0, 1.5, 2.0, 3.0, 5.0]
SHOWN = {"fd": "FD-cifar_classifier", "precision": "precision", "recall": "recall", "accuracy": "accuracy"}


@dataclass(frozen=True, eq=False)
class GuidedClasses(Model):
    """D_null + guidance (D_label - D_null), exact, for classes N(m_y, W) of one covariance, diagonal here.

    law: K components with one diagonal covariance, whose mixture D_null knows. labels: (n,) from 0 to K - 1, one for
    each state (n, dim). Raises ValueError for a law of another kind. Source: ho2022classifier, eq. 6.
    """

    law: GaussianMixture
    process: NoiseProcess
    labels: Tensor
    guidance: float = 1.0

    def __post_init__(self):
        covs = self.law.covs
        if covs.ndim != 2 or not bool((covs == covs[0]).all()):
            raise ValueError(f"the classes must have one diagonal covariance; got covariances {tuple(covs.shape)}.")

    def __call__(self, x: Tensor, at: Level) -> Prediction:
        alpha, sigma = float(at.alpha), float(at.sigma)
        variances, means = self.law.covs[0], self.law.means[self.labels]
        shrunk = alpha * variances / (alpha**2 * variances + sigma**2)
        told = means + shrunk * (x - alpha * means)
        if self.guidance == 1.0:
            return Prediction(Kind.X0, told, x, at)
        return Prediction(Kind.X0, torch.lerp(self.law.posterior_mean(x, alpha, sigma), told, self.guidance), x, at)


@cache
def classes_along_axes() -> tuple[GaussianMixture, Tensor]:
    """The classes' means and the covariance within classes of the training images, along its axes; the axes."""
    images, labels = data.load("train")
    fit = law_of_images("gaussian")
    means = torch.stack([data.as_points(images[labels == y]).mean(0) for y in range(10)])
    weights = labels.bincount(minlength=10).double() / len(labels)
    away = means - fit.mean
    variances, axes = torch.linalg.eigh(fit.cov - (weights[:, None] * away).T @ away)
    return GaussianMixture(weights, means @ axes, variances.clamp_min(0).expand(10, -1).contiguous()), axes


@study(
    "network_guidance",
    question="What does classifier-free guidance do to fidelity, diversity and the label, on a network and on exact "
    "Gaussian classes?",
    axes={"model": ["shipped"], "scale": SCALES},
    available=unavailable,
    rests_on=digest,
    max_jobs=1,
    threads=2,
)
def network_guidance(model: str, scale: float, *, seed: int) -> Values:
    """FD, KD, precision, recall of 200 samples, and the part that the classifier gives the label asked for.

    DPM-Solver++(2M), 10 steps on Karras' grid from k = 80 to 0.02, denoised there, classes in turn. gaussian_...: the
    same of Gaussian classes with their own means and one covariance, guided exactly. floor_...: of test images. Every
    ..._error is the half-width of a 95 % interval. Scale 1 is no guidance; above it an evaluation asks the network
    twice. All scales share their starts, so that what differs between them is sharper than the intervals.
    """
    made, z = SOLVERS[SOLVER](), generated.starts()
    start, end = reach(model, K_START, K_END)
    grid = karras(PROCESS, STEPS, start=-math.log(start), end=-math.log(end))
    drawn = generated.draw(generated.told(model, PROCESS, guidance=scale), made, grid, z, seed=seed)
    law, axes = classes_along_axes()
    exact = GuidedClasses(law, PROCESS, generated.classes(), scale)
    ideal = generated.draw(exact, made, grid, z.double() @ axes, seed=seed)
    found: Values = {"evaluations": drawn.evaluations, "images": len(drawn.points)}
    for points, prefix in ((drawn.points, ""), (ideal.points @ axes.T, "gaussian_")):
        values = generated.features(points)
        found |= generated.measured(values, prefix) | _named(values, generated.classes(), prefix)
    return found | generated.floor() | _floor_named()


def _named(values: np.ndarray, labels: Tensor, prefix: str) -> dict[str, float]:
    return generated.columns({f"{prefix}accuracy": generated.part(generated.guesses(values) == labels.numpy())})


@cache
def _floor_named() -> dict[str, float]:
    images, labels = data.load("test")
    few = slice(0, generated.FLOORS * generated.IMAGES)
    return _named(generated.extractor().features(images[few]), labels[few], "floor_")


@network_guidance.paragraph
def words(table: "DataFrame") -> str:
    """How each measure goes from no guidance to the most, and where FD is least, beside the exact classes."""
    rows = sorted(table.to_dict(orient="records"), key=lambda row: row["scale"])
    first, last = rows[0], rows[-1]
    said = []
    for name, label in SHOWN.items():
        moves = [_move(first, last, prefix + name) for prefix in ("", "gaussian_")]
        said.append(f"{label} {moves[0]} (Gaussian classes: {moves[1]}; test images: {shown(first, f'floor_{name}')})")
    least = [_least(rows, name) for name in ("fd", "gaussian_fd")]
    return (
        f"From scale {first['scale']:g} to {last['scale']:g}: {'; '.join(said)}. FD is least at scale {least[0]}, on "
        f"the Gaussian classes at {least[1]}. {first['images']} samples a cell."
    )


def _least(rows: list[dict], name: str) -> str:
    best = min(rows, key=lambda row: row[name])
    level = ", ".join(f"{row['scale']:g}" for row in rows if row is not best and not apart(row, best, name))
    return f"{best['scale']:g}{f' (not told apart from {level})' if level else ''}"


def _move(a: dict, b: dict, name: str) -> str:
    verb = "rises" if b[name] > a[name] else "falls"
    told = f"from {shown(a, name)} to {shown(b, name)}"
    return f"{verb} {told}" if apart(a, b, name) else f"goes {told}, within the error bars"


@network_guidance.figure(
    "guidance",
    caption="Bars are 95 % intervals; grey: test images, whose accuracy is the classifier's own. The Gaussian classes "
    "have the means of the training images' classes and one covariance.",
)
def guidance(table: "DataFrame") -> "Figure":
    from studies.figures import WIDE, blank

    figure, axes = blank(width=WIDE, height=4.6, rows=2, columns=2, sharex=True)
    for ax, (name, label) in zip(axes.flat, SHOWN.items(), strict=True):
        for prefix, of in (("", "network"), ("gaussian_", "Gaussian classes")):
            column = f"{prefix}{name}"
            ax.errorbar(
                table["scale"], table[column], table[f"{column}_error"],
                marker="o", markersize=3, linewidth=1, capsize=2, label=of,
            )  # fmt: skip
        ax.axhline(table[f"floor_{name}"].iloc[0], color="0.5", linewidth=0.8, label="test images")
        ax.set(ylabel=label, ylim=(min(0.0, table[f"floor_{name}"].min()), None))
    for ax in axes[1]:
        ax.set_xlabel("guidance scale")
    axes[0, 0].legend()
    return figure
