"""A network's denoising error at every noise level, beside what the images themselves and their Gaussian fit allow."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from studies.cifar10 import data
from studies.cifar10.laws import law_of_images
from studies.cifar10.served import digest, network, reach, unavailable
from studies.cifar10.validation import denoising_errors, pixels
from studies.store import Value, Values
from studies.study import study
from theory import EDM, Exact

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

IMAGES = 256
SHOWN = {"network": "network", "labelled": "network, told the class", "empirical": "empirical"}


def _trained(cell: Mapping[str, Value]) -> bool:
    """Whether the network was trained at this level; a network that is not here is asked nothing."""
    k = math.exp(-cast("float", cell["lam"]))
    return unavailable(model := str(cell["model"])) is not None or reach(model, k, k) == (k, k)


@study(
    "network_errors",
    question="How far is a trained network from the exact denoiser of its training images, at which noise?",
    axes={
        "model": ["shipped"],
        "split": ["train", "test"],
        "lam": [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0],
    },
    where=_trained,
    available=lambda: unavailable("shipped") or data.unavailable(download=True),
    rests_on=digest,
    max_jobs=1,
    threads=2,
)
def network_errors(model: str, split: str, lam: float, *, seed: int) -> Values:
    """Mean squared error a pixel of x_0 given x_0 + k eps, on the same 256 images and the same noise for all.

    network: without labels; labelled: told the class, if it knows classes. empirical: the exact denoiser of the 50,000
    training images, which none can beat on them on average; gaussian: of their Gaussian fit, the best linear one.
    ..._above: differences to the network's, image by image. Each with two standard errors.
    """
    images, labels = pixels(split, IMAGES)
    process = EDM()
    told = network(model, labels=labels if network(model).conventions.labels else None)
    found = {
        "network": denoising_errors(network(model), images, lam, seed=1),
        "labelled": denoising_errors(told, images, lam, seed=1, chunk=len(images)),
        "gaussian": denoising_errors(Exact(law_of_images("gaussian", torch.float32), process), images, lam, seed=1),
        "empirical": denoising_errors(
            Exact(law_of_images("empirical", torch.float32), process), images, lam, seed=1, chunk=IMAGES
        ),
    }
    out: Values = {"k": math.exp(-lam)}
    for name, errors in found.items():
        out |= _mean(name, errors)
    for name in ("gaussian", "empirical"):
        out |= _mean(f"{name}_above", found[name] - found["network"])
    return out


def _mean(name: str, errors: Tensor) -> Values:
    values = errors.double()
    return {name: values.mean().item(), f"{name}_error": 2 * values.std().item() / len(values) ** 0.5}


@network_errors.paragraph
def words(table: "DataFrame") -> str:
    """Where the network lies between the exact denoiser of the images and the best linear one."""
    rows = table.to_dict(orient="records")
    train, test = ([row for row in rows if row["split"] == split] for split in ("train", "test"))
    below = [row["lam"] for row in train if row["empirical_above"] - row["empirical_above_error"] > 0]
    beats = [row["lam"] for row in test if row["gaussian_above"] - row["gaussian_above_error"] > 0]
    loses = [row["lam"] for row in test if row["gaussian_above"] + row["gaussian_above_error"] < 0]
    gain, best = max((10 * math.log10(row["gaussian"] / row["network"]), row["lam"]) for row in test)
    first = (
        f"On the training images the network's error lies BELOW that of their exact denoiser at lambda = "
        f"{_list(below)}, which cannot be: look for a leak"
        if below
        else "On the training images the network's error lies nowhere below that of their exact denoiser"
    )
    return (
        f"{first}. On test images it beats the Gaussian fit at lambda = {_list(beats) or 'none'}, by most, "
        f"{gain:.2f} dB, at lambda = {best:g}; it loses to it at lambda = {_list(loses) or 'none'}. Elsewhere the two "
        "agree within two standard errors."
    )


def _list(values: list[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


@network_errors.figure(
    "errors",
    caption="Mean squared error a pixel over that of the Gaussian fit, so that 1 is the best linear denoiser. Bars are "
    "two standard errors over 256 images; the exact denoiser of the training images knows each of them by heart.",
)
def errors(table: "DataFrame") -> "Figure":
    from studies.figures import WIDE, blank

    figure, axes = blank(width=WIDE, height=2.6, rows=1, columns=2)
    for ax, split in zip(axes[0], ("train", "test"), strict=True):
        part = table[table["split"] == split]
        for name, label in SHOWN.items():
            low, bar = part[name] / part["gaussian"], part[f"{name}_error"] / part["gaussian"]
            ax.errorbar(part["lam"], low, bar, marker="o", markersize=3, linewidth=1, capsize=2, label=label)
        ax.axhline(1.0, color="0.5", linewidth=0.8, label="Gaussian fit")
        ax.set(title=f"{split} images", xlabel=r"$\lambda$")
    axes[0, 0].set_ylim(0, None)
    axes[0, 1].set_yscale("log")  # on images it has not seen the exact denoiser errs a hundredfold
    axes[0, 0].set_ylabel("error over the Gaussian fit's")
    axes[0, 1].legend()
    return figure
