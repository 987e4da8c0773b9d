"""CIFAR-10, exactly: all 50,000 training images as a Dirac mixture, and their Gaussian fit, under the same solvers."""

import base64
import io
import math
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from studies.cifar10 import data
from studies.cifar10.laws import code, law_of_images
from studies.store import Values
from studies.study import study
from theory import EDM, SOLVERS, Exact, solve, uniform_lambda
from theory.reference import gaussian_flow, ode_flow

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PROCESS = EDM()
K_START, K_END = 80.0, 0.2
"""Noise over data scale: from where only the mean image is left to where one training image is."""

STARTS = 8
"""Trajectories, from the same noise for every solver: x = K_START z."""

RTOL = 1e-7
"""Of the DOP853 reference on the 50,000 images, whose evaluations are dear: far below the errors measured here."""


@cache
def _start() -> Tensor:
    return K_START * torch.randn(STARTS, 3072, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@cache
def _reference(name: str) -> Tensor:
    s, t = (PROCESS.level(k) for k in (K_START, K_END))
    if name == "gaussian":
        return gaussian_flow(law_of_images(name), _start(), s, t)
    return ode_flow(law_of_images(name), _start(), s, t, rtol=RTOL, together=True)


@study(
    "cifar10_empirical",
    question="What do the same solvers do on real images: which order, which error, and at which images do they end?",
    axes={
        "law": ["gaussian", "empirical"],
        "solver": ["ddim", "heun.k", "dpm.2", "dpm_pp.2m"],
        "steps": [4, 8, 16, 32, 64],
    },
    available=lambda: data.unavailable(download=True),
    rests_on=code,
    max_jobs=1,
    threads=2,
)
def cifar10_empirical(law: str, solver: str, steps: int, *, seed: int) -> Values:
    """Error of 8 trajectories against the exact flow, RMS over pixels (which span [-1, 1]), and where they end.

    error: the median of the trajectories, which one that ends at another image leaves alone; error_rms: all of them.
    same_image: the share of trajectories whose denoised end is that of the exact flow, to half a grey level in every
    pixel.
    """
    made = SOLVERS[solver]()
    grid = uniform_lambda(PROCESS, steps, start=-math.log(K_START), end=-math.log(K_END))
    model = Exact(law_of_images(law), PROCESS)
    run = solve(made, model, _start(), grid, keep=False)
    exact = _reference(law)
    last = grid.levels[-1]
    ends, exact_ends = (model(x, last).x0 for x in (run.end, exact))
    agree = (ends - exact_ends).abs().amax(-1) < 0.5 / 127.5  # no pixel of the denoised end off by half a grey level
    each = (run.end - exact).square().mean(-1).sqrt()
    return {
        "h_max": grid.h_max,
        "evaluations": run.evaluations,
        "error": each.quantile(0.5).item(),
        "error_rms": each.square().mean().sqrt().item(),
        "same_image": agree.double().mean().item(),
        "order": float(made.facts.order or 0),
        "stochastic": 0,
        "images": _png(ends),
        "exact_images": _png(exact_ends),
    }


def _png(points: Tensor) -> str:
    """A row of images as PNG in base64: what a table can hold."""
    from PIL import Image

    row = data.as_images(points).permute(2, 0, 3, 1).reshape(32, -1, 3)
    out = io.BytesIO()
    Image.fromarray(row.numpy()).save(out, format="PNG")
    return base64.b64encode(out.getvalue()).decode()


@cifar10_empirical.figure(
    "error",
    caption="Left: the Gaussian fitted to the images. Right: the 50,000 training images themselves. Median of 8 "
    "trajectories of the RMS error a pixel.",
)
def error(table: "DataFrame") -> "Figure":
    from studies.figures import convergence_panels

    return convergence_panels(table, column="law", triangles=(1, 2), sharey=True)


@cifar10_empirical.figure(
    "images",
    caption="Where 8 trajectories end on the empirical law, from the same noise, each end denoised by its posterior "
    "mean: the exact flow on top, then each solver at 4, 8, 16 and 64 steps.",
)
def images(table: "DataFrame") -> "Figure":
    import numpy as np
    from PIL import Image

    from studies.figures import WIDE, blank

    chosen = [row for row in table.to_dict(orient="records") if row["law"] == "empirical" and row["steps"] != 32]
    shown = [(f"{row['solver']}, {row['steps']}", str(row["images"])) for row in chosen]
    half = (len(shown) + 1) // 2
    exact = ("exact flow", str(chosen[0]["exact_images"]))
    columns = [[exact, *shown[:half]], [exact, *shown[half:]]]
    figure, axes = blank(width=WIDE, height=0.38 * (half + 1), rows=half + 1, columns=2)
    for column, entries in enumerate(columns):
        for ax, (label, png) in zip(axes[:, column], entries, strict=True):
            ax.imshow(np.asarray(Image.open(io.BytesIO(base64.b64decode(png)))), interpolation="nearest")
            ax.set_axis_off()
            ax.text(-6, 16, label, ha="right", va="center", fontsize=7)
    return figure
