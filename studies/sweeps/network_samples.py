"""Pictures: what a trained network draws from the same noise under several solvers, step by step."""

import base64
import io
import math
from typing import TYPE_CHECKING

import torch

from studies.cifar10 import data
from studies.cifar10.served import digest, network, reach, unavailable
from studies.cifar10.validation import normals, run
from studies.store import Values
from studies.study import study
from theory import EDM, SOLVERS, Independent, karras
from theory.noise import no_noise

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PROCESS = EDM()
K_START, K_END = 80.0, 0.02
EACH = 10
"""One image of each class a row, from the same noise in every row."""

SOLVER_NAMES = ["ddim", "heun.k", "dpm_pp.2m", "unipc.2", "ddpm.beta_tilde", "er_sde.2"]
GUIDANCE = 2.0


@study(
    "network_samples",
    question="What does the shipped network draw, and from how many steps on?",
    axes={"model": ["shipped"], "solver": SOLVER_NAMES, "steps": [5, 10, 20, 40]},
    available=lambda: unavailable("shipped"),
    rests_on=digest,
    max_jobs=1,
    threads=2,
)
def network_samples(model: str, solver: str, steps: int, *, seed: int) -> Values:
    """Ten images, one a class, on Karras' grid from k = 80 to 0.02 and denoised there; guidance 2."""
    made = SOLVERS[solver]()
    served = network(model)
    if served.conventions.labels:
        served = network(model, labels=torch.arange(EACH), guidance=GUIDANCE)
    start, end = reach(model, K_START, K_END)
    grid = karras(PROCESS, steps, start=-math.log(start), end=-math.log(end))
    noise = Independent(0) if made.facts.stochastic else no_noise
    with torch.no_grad():
        found = run(made, served, normals(EACH, seed=0), grid, noise=noise)
        end = served(found.end, grid.levels[-1]).x0
    return {"evaluations": found.evaluations + 1, "images": row_of_images(end)}


def row_of_images(points: torch.Tensor) -> str:
    """Images side by side as PNG in base64: what a table can hold."""
    from PIL import Image

    row = data.as_images(points).permute(2, 0, 3, 1).reshape(32, -1, 3)
    out = io.BytesIO()
    Image.fromarray(row.numpy()).save(out, format="PNG")
    return base64.b64encode(out.getvalue()).decode()


@network_samples.figure(
    "images",
    caption="Columns: solvers; rows: steps. In every strip the same ten starts, one a class in the official order "
    "(airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck), guidance 2, from k = 80.",
)
def images(table: "DataFrame") -> "Figure":
    import numpy as np
    from PIL import Image

    from studies.figures import WIDE, blank

    solvers, steps = list(dict.fromkeys(table["solver"])), sorted(set(table["steps"]))
    columns = 2
    blocks = math.ceil(len(solvers) / columns)
    rows = blocks * len(steps)
    figure, axes = blank(width=WIDE, height=0.36 * (rows + 0.6 * blocks), rows=rows, columns=columns)
    for i, solver in enumerate(solvers):
        for j, count in enumerate(steps):
            ax = axes[i // columns * len(steps) + j, i % columns]
            cell = table[(table["solver"] == solver) & (table["steps"] == count)].iloc[0]
            ax.imshow(np.asarray(Image.open(io.BytesIO(base64.b64decode(cell["images"])))), interpolation="nearest")
            ax.set_axis_off()
            ax.text(-6, 16, str(count), ha="right", va="center", fontsize=7)
            if j == 0:
                ax.set_title(solver, fontsize=8)
    for ax in axes.flat[len(solvers) * len(steps) :]:
        ax.set_axis_off()
    return figure
