"""The laws of the plane: their noised densities and score fields, each at three noise levels."""

import base64
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from studies.store import Values
from studies.study import study
from toy_distributions import LAWS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PIXELS, ARROWS = 64, 12
SIGMAS = [0.05, 0.2, 0.8]


@study(
    "gallery",
    question="What do the laws of the plane look like, and where do their scores point?",
    axes={"law": [name for name in LAWS.names() if LAWS[name]().dim == 2], "sigma": SIGMAS},
)
def gallery(law: str, sigma: float, *, seed: int) -> Values:
    """Density of x_0 + sigma eps on a square lattice, as a share of its largest value there, and the score.

    Both as bytes in base64, row by row from below: density 0 to 255; score as sigma^2 score in units of the largest,
    -127 to 127, its two coordinates last. reach: half the side of the square about the law's mean.
    """
    data = LAWS[law]()
    reach = 2.4 * float(data.cov.diagonal().max()) ** 0.5 + 2 * sigma
    noised = data.noised(1.0, sigma)
    density = noised.log_prob(_lattice(data.mean, reach, PIXELS))
    pull = sigma**2 * noised.score(_lattice(data.mean, reach, ARROWS))
    longest = pull.norm(dim=-1).max()
    return {
        "reach": reach,
        "longest": longest.item(),
        "density": _text((255 * (density - density.max()).exp()).round().to(torch.uint8)),
        "score": _text((127 * pull / longest).round().to(torch.int8)),
    }


def _lattice(centre: Tensor, reach: float, n: int) -> Tensor:
    """The middles of n x n equal squares, (n, n, 2): first axis y upwards, second x, last the coordinates."""
    line = reach * (2 * torch.arange(n, dtype=torch.float64) + 1 - n) / n
    y, x = torch.meshgrid(line, line, indexing="ij")
    return centre + torch.stack([x, y], -1)


def _text(values: Tensor) -> str:
    return base64.b64encode(values.contiguous().numpy().tobytes()).decode()


@gallery.figure(
    "sheet",
    caption="Square root of the density (each panel to its own largest value) and the score, times sigma^2, as arrows "
    "to a panel's own scale.",
)
def sheet(table: "DataFrame") -> "Figure":
    import numpy as np

    from studies.figures import WIDE, blank

    names = list(dict.fromkeys(table["law"]))
    across = 2
    rows = -(-len(names) // across)
    figure, axes = blank(width=WIDE, height=1.16 * rows, rows=rows, columns=across * len(SIGMAS))
    for ax in axes.ravel():
        ax.set_axis_off()
    for row in table.to_dict(orient="records"):
        place = names.index(row["law"])
        ax = axes[place % rows, place // rows * len(SIGMAS) + SIGMAS.index(row["sigma"])]
        density = np.frombuffer(base64.b64decode(str(row["density"])), np.uint8).reshape(PIXELS, PIXELS)
        arrows = np.frombuffer(base64.b64decode(str(row["score"])), np.int8).reshape(ARROWS, ARROWS, 2)
        ax.imshow(np.sqrt(density / 255), origin="lower", extent=(0, 1, 0, 1), cmap="Blues", vmax=1.3)
        line = (np.arange(ARROWS) + 0.5) / ARROWS
        look = {"scale": 9, "width": 0.008, "headwidth": 4, "alpha": 0.8}
        ax.quiver(line, line, *(arrows[..., i] / 127.0 for i in (0, 1)), rasterized=True, **look)  # else megabytes
        title = rf"{row['law']}, $\sigma = {row['sigma']:g}$"
        ax.set_title(title, fontsize=min(5.5, 160 / len(title)), pad=2)  # the longest fit their panel
    return figure
