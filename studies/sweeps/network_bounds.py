"""Bits per dimension of a trained network: the variational bound under three reverse variances, and the ODE's."""

import math
from functools import cache
from typing import TYPE_CHECKING

import torch

from studies.cifar10 import data
from studies.cifar10.laws import along_axes, law_of_images
from studies.cifar10.served import digest, network, reach, unavailable
from studies.cifar10.validation import (
    VARIANCES,
    denoising_errors,
    elbo_bits,
    ode_bits,
    pixel_bits,
    pixels,
)
from studies.store import Values
from studies.study import study
from theory import EDM, Exact, uniform_lambda
from theory.grid import TimeGrid
from theory.models import Model

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PROCESS = EDM()
K_START, K_END = 80.0, 0.004
IMAGES = 32
ODE_IMAGES, ODE_STEPS = 16, 48


def _grid(model: str, steps: int) -> TimeGrid:
    start, end = reach(model, K_START, K_END)
    return uniform_lambda(PROCESS, steps, start=-math.log(start), end=-math.log(end))


@cache
def _model(model: str, of: str) -> Model:
    return network(model) if of == "network" else Exact(law_of_images("gaussian", torch.float32), PROCESS)


@cache
def _errors(model: str, of: str) -> dict[float, float]:
    """Mean squared errors at the levels of the network's finest grid, which hold those of the others: halved steps."""
    images, _ = pixels("test", IMAGES, seed=3)
    return {
        round(float(at.lam), 9): denoising_errors(_model(model, of), images, float(at.lam), seed=4).mean().item()
        for at in _grid(model, STEPS[-1]).levels[:-1]
    }


STEPS = [4, 8, 16, 32, 64]


@study(
    "network_bounds",
    question="Which reverse variance gives a trained network the best bound, and how far is the bound from the ODE's?",
    axes={"model": ["shipped"], "variance": [*VARIANCES, "ode"], "steps": STEPS},
    where=lambda cell: cell["variance"] != "ode" or cell["steps"] in (STEPS[-2], STEPS[-1]),
    available=lambda: unavailable("shipped") or data.unavailable(download=True),
    rests_on=digest,
    max_jobs=1,
    threads=2,
)
def network_bounds(model: str, variance: str, steps: int, *, seed: int) -> Values:
    """Bits a dimension on 32 test images (16 for the ODE), without labels; gaussian_...: of the Gaussian fit.

    error: two standard errors over the images, of the ODE's number and of the reconstruction term.
    """
    images, _ = pixels("test", IMAGES, seed=3)
    out: Values = {}
    if variance == "ode":
        grid = _grid(model, ODE_STEPS if steps == STEPS[-1] else ODE_STEPS // 2)
        few = images[:ODE_IMAGES]
        bits = ode_bits(network(model), few, grid, seed=5, prior_variance=0.25)
        law, axes = along_axes()
        step = 2 / 255
        spread = torch.rand(few.shape, generator=torch.Generator().manual_seed(5)) - 0.5
        points = (few + step * spread).double() @ axes
        ideal = -law.noised(1.0, float(grid.levels[-1].sigma)).log_prob(points) / (3072 * math.log(2)) - math.log2(step)
        return {
            "bits": bits.mean().item(),
            "bits_error": 2 * bits.std().item() / len(bits) ** 0.5,
            "gaussian_bits": ideal.mean().item(),
        }
    grid = _grid(model, steps)
    power = images.square().mean().item()
    last = pixel_bits(images, grid.levels[-1], seed=6)
    for of, column in (("network", "bits"), ("gaussian", "gaussian_bits")):
        known = _errors(model, of)
        misses = [known[round(float(at.lam), 9)] for at in grid.levels[:-1]]
        out[column] = sum(elbo_bits(grid, misses, variance, power)) + last.mean().item()
    return out | {"bits_error": 2 * last.std().item() / len(last) ** 0.5}


@network_bounds.paragraph
def words(table: "DataFrame") -> str:
    """The gain of the optimal variance at few steps, and the two bounds."""
    rows = {(row["variance"], row["steps"]): row for row in table.to_dict(orient="records")}
    best, told = {steps: rows["optimal", steps] for steps in STEPS}, []
    for steps in (STEPS[0], STEPS[-1]):
        least = min((rows[name, steps] for name in ("beta", "beta_tilde")), key=lambda row: row["bits"])
        gains = [least[column] - best[steps][column] for column in ("bits", "gaussian_bits")]
        told.append(f"{gains[0]:.2f} at {steps} steps (Gaussian fit {gains[1]:.2f})")
    coarse, last = (rows["ode", steps] for steps in STEPS[-2:])
    change = abs(last["bits"] - coarse["bits"])
    return (
        f"The optimal variance saves, against the better of DDPM's two, {' and '.join(told)} bits a dimension. "
        f"The bound at {STEPS[-1]} steps is {best[STEPS[-1]]['bits']:.2f} bits; the "
        f"probability-flow ODE gives {last['bits']:.2f} ± {last['bits_error']:.2f} (step error about {change:.2g}); "
        f"the Gaussian fit of the data {last['gaussian_bits']:.2f}."
    )


@network_bounds.figure(
    "bits",
    caption="Left: the network; right: the Gaussian fit under the same bound. Dashed: the probability-flow ODE of "
    "uniformly dequantised images.",
)
def bits(table: "DataFrame") -> "Figure":
    from studies.figures import WIDE, blank

    figure, axes = blank(width=WIDE, height=2.6, rows=1, columns=2, sharey=True)
    for ax, column, title in ((axes[0, 0], "bits", "network"), (axes[0, 1], "gaussian_bits", "Gaussian fit")):
        for name in VARIANCES:
            part = table[table["variance"] == name]
            ax.plot(part["steps"], part[column], marker="o", markersize=3, linewidth=1, label=name.replace("_", " "))
        ode = table.loc[table["variance"] == "ode", column].tolist()
        ax.axhline(ode[-1], linestyle="--", color="0.4", linewidth=0.9, label="ODE")
        ax.set(xscale="log", xlabel="steps", title=title)
        ax.set_xticks(STEPS, [str(s) for s in STEPS])
        ax.minorticks_off()
    axes[0, 0].set_ylabel("bits per dimension")
    axes[0, 1].legend()
    return figure
