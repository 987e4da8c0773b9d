"""The house style of figures: widths, colours on light and on dark pages, letters, lines."""

from contextlib import AbstractContextManager
from typing import Any, cast

import matplotlib
from cycler import cycler

NARROW, WIDE = 3.3, 6.8  # inches: one and two columns of a paper

PAPER, INK, SOFT, GRID = "#fffffe", "#1b1f24", "#5f6875", "#e3e6ea"

# Found by a search: any two differ by at least 0.11 in OKLab (a just visible step is 0.02) for normal, protan, deutan
# and tritan readers, and each has a contrast of at least 3:1 with the paper.
FAMILIES = {
    "ddim": "#2962ad",
    "dpm": "#0f299d",
    "dpm_pp": "#8e70f8",
    "euler": "#bf6000",
    "heun": "#790105",
    "edm": "#a42a18",
    "ddpm": "#01906f",
    "euler_maruyama": "#10a3bb",
    "langevin": "#774968",
    "predictor_corrector": "#601c5b",
}
SPARE = ("#5b6770", "#7a7f2e", "#b0507a", "#3d7a3a", "#6f5a3c")  # for a family that has no colour of its own yet

# What each of these colours becomes on a dark page; a page that inlines a figure swaps them (studies.page does).
DARK = {
    PAPER: "#14171c",
    INK: "#e4e7ec",
    SOFT: "#9aa4b2",
    GRID: "#2b313a",
    "#2962ad": "#4686ff",
    "#0f299d": "#8891c0",
    "#8e70f8": "#7e69c1",
    "#bf6000": "#f38000",
    "#790105": "#df4242",
    "#a42a18": "#ffc7b3",
    "#01906f": "#6bb790",
    "#10a3bb": "#baedff",
    "#774968": "#ff99ee",
    "#601c5b": "#956a86",
    "#5b6770": "#a3afb9",
    "#7a7f2e": "#c2c76a",
    "#b0507a": "#e68bb1",
    "#3d7a3a": "#7cc078",
    "#6f5a3c": "#c4a67c",
}

CYCLE = ("#2962ad", "#bf6000", "#01906f", "#8e70f8", "#790105", "#10a3bb", "#774968", "#0f299d", "#a42a18", "#601c5b")
RC: dict[str, Any] = {
    "figure.facecolor": PAPER,
    "figure.edgecolor": PAPER,
    "figure.figsize": (NARROW, 2.5),
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "savefig.facecolor": PAPER,
    "savefig.edgecolor": PAPER,
    "savefig.bbox": None,
    "savefig.dpi": 200,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same letters everywhere
    "font.size": 8,
    "mathtext.fontset": "dejavusans",
    "text.color": INK,
    "axes.facecolor": PAPER,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.titlepad": 5,
    "axes.labelsize": 8,
    "axes.labelpad": 3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=CYCLE),
    "axes.formatter.use_mathtext": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 1.5,
    "ytick.minor.size": 1.5,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "lines.markeredgewidth": 0.9,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "legend.handlelength": 2.6,
    "legend.columnspacing": 1.4,
    "legend.labelspacing": 0.35,
    "image.cmap": "cividis",
    "svg.fonttype": "path",
    "svg.hashsalt": "exactscore",
    "pdf.fonttype": 42,
}


def theme() -> AbstractContextManager[None]:
    """The house style as a context: ``with theme(): figure = ...``."""
    return matplotlib.rc_context(cast(Any, RC))
