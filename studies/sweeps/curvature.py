"""Curvature: how straight the flow lines of each law are under each process, in time and in other coordinates."""

import json
from functools import cache
from typing import TYPE_CHECKING

import torch

from studies.store import Values
from studies.study import study
from theory.flows import Curves, FlowLines, Points, even_panels, flow_lines
from theory.process import PROCESSES, TrigonometricPath
from toy_distributions import LAWS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

LAM_START, LAM_END = -3.9, 4.6
"""The window of log(alpha/sigma) that all seven processes cover: from noise fifty times the data to noise 0.01."""

GRID = 41
"""Points a side of the grid at the noisy end on which flow lines of a law in the plane start; on the line, ranks."""

DRAWN = 14
"""Flow lines kept for the pictures."""


@cache
def _lines(law: str) -> tuple[Points, FlowLines]:
    """The flow lines of a law in the window. They belong to the law alone, so all processes share them."""
    data, rule = LAWS[law](), even_panels(LAM_START, LAM_END, 12)
    circle = TrigonometricPath()  # alpha^2 + sigma^2 = 1: the coordinate z
    first, middle = (circle.level_at(lam) for lam in (LAM_START, 1.5))
    start = data.noised(first.alpha, first.sigma)
    if data.dim == 1:
        points = Points.of_ranks(start, 401, guide=data.noised(middle.alpha, middle.sigma))
    else:
        points = Points.of_grid(start, GRID)
    return points, flow_lines(data, points.x, rule)


def _measured(curves: Curves, points: Points, name: str) -> Values:
    """S, the detour S / int |x'|^2, and the angle turned. Errors: of the expectation, and what is missing in the
    balance  int |x'|^2 = S + |chord|^2,  which the quadrature in time must close."""
    s, chord, energy = (
        points.expect(values) for values in (curves.straightness, (curves.chord**2).sum(-1), curves.energy)
    )
    error = s.error + abs(energy.value - s.value - chord.value)
    standing = energy.value < 1e-20 * (curves.x**2).sum(-1).mean().item()  # nothing moves but rounding
    row: Values = {
        f"straightness{name}": s.value,
        f"straightness{name}_error": error,
        f"detour{name}": 0.0 if standing else s.value / energy.value,
        f"detour{name}_error": 0.0 if standing else (error + s.value / energy.value * energy.error) / energy.value,
    }
    if curves.x.shape[-1] > 1:
        angle = points.expect(curves.turning)
        row |= {f"turning{name}_radians": angle.value, f"turning{name}_radians_error": angle.error}
    return row


@study(
    "curvature",
    question="How straight are the probability-flow lines of a law under each process, in time and in x/alpha against "
    "sigma/alpha?",
    axes={
        "process": ["linear_path", "trigonometric_path", "vp_cosine", "vp_linear", "sub_vp", "edm", "ve"],
        "law": [
            "gaussian_1d",
            "mixture_1d",
            "two_points",
            "standard_normal",
            "gaussian_2d",
            "mixture_2d",
            "circle",
            "ring_of_gaussians",
        ],
    },
)
def curvature(process: str, law: str, *, seed: int) -> Values:
    """S, detour and turning of the lines from lambda = -3.9 to 4.6. Quadrature throughout: the seed is not used."""
    points, lines = _lines(law)
    along = lines.along(PROCESSES[process]())
    row = _measured(along, points, "") | _measured(lines.scaled(), points, "_scaled")
    row["lines"] = _drawn(along, points) if law == "mixture_1d" else ""
    return row


def _drawn(curves: Curves, points: Points) -> str:
    """Lines at evenly spaced ranks as JSON: the clock, and x of each line at it."""
    assert points.weights is not None
    rows = torch.searchsorted(points.weights.cumsum(0), torch.linspace(0.01, 0.99, DRAWN, dtype=torch.float64))
    x = curves.x[::2, rows, 0].T
    return json.dumps({"t": _short(curves.clock[::2]), "x": [_short(line) for line in x]})


def _short(values: torch.Tensor) -> list[float]:
    return [float(f"{value:.5g}") for value in values.tolist()]


@curvature.figure(
    "detour",
    caption="Detour: the share of the mean square speed that does not go into getting from end to end, S / int |x'|^2; "
    "0 for lines run straight at constant speed. In each process's own (x, t); the last row is x / alpha against "
    "sigma / alpha, the same for all processes.",
)
def detour(table: "DataFrame") -> "Figure":
    import pandas as pd
    from matplotlib import pyplot as plt

    from studies.figures import heatmap
    from studies.theme import WIDE

    first = table.drop_duplicates("law")
    scaled = pd.DataFrame({"process": "x/α over σ/α", "law": first["law"], "detour": first["detour_scaled"]})
    rows = pd.concat([pd.DataFrame(table[["process", "law", "detour"]]), scaled])
    figure, ax = plt.subplots(figsize=(WIDE, 3.2))
    heatmap(ax, rows, x="law", y="process", value="detour", fmt=".3f", label="detour")
    return figure


@curvature.figure(
    "turning",
    caption="Angle by which a flow line turns from noise to data, mean over lines, with the error of the quadrature.",
)
def turning(table: "DataFrame") -> "Figure":
    import pandas as pd
    from matplotlib import pyplot as plt

    from studies.theme import CYCLE, WIDE

    plane = table[table["turning_radians"].notna()]
    figure, ax = plt.subplots(figsize=(WIDE, 2.6))
    processes = list(dict.fromkeys(plane["process"]))
    laws = list(dict.fromkeys(plane["law"]))
    width = 0.8 / len(processes)
    for i, process in enumerate(processes):
        rows = pd.DataFrame(plane[plane["process"] == process]).set_index("law").loc[laws]
        at = [j + (i - (len(processes) - 1) / 2) * width for j in range(len(laws))]
        ax.bar(at, rows["turning_radians"], width, label=process, color=CYCLE[i % len(CYCLE)])
        ax.errorbar(at, rows["turning_radians"], rows["turning_radians_error"], fmt="none", ecolor="#1b1f24", lw=0.6)
    ax.set_xticks(range(len(laws)), laws)
    ax.set_xlabel("law")
    ax.set_ylabel("angle turned [rad]")
    figure.legend(loc="outside lower center", ncols=4)
    return figure


@curvature.figure("flow_lines", caption="Flow lines of the 1-D mixture in each process's own time, noise to the right.")
def lines_in_time(table: "DataFrame") -> "Figure":
    from matplotlib import pyplot as plt

    from studies.theme import CYCLE, WIDE

    drawn = table[table["lines"] != ""]
    figure, axes = plt.subplots(2, 4, figsize=(WIDE, 3.4), squeeze=False)
    for ax, (_, row) in zip(axes.ravel(), drawn.iterrows(), strict=False):
        curves = json.loads(str(row["lines"]))
        for line in curves["x"]:
            ax.plot(curves["t"], line, color=CYCLE[0], lw=0.7)
        ax.set_xlabel(f"t, {row['process']}")
        ax.set_ylabel("x")
    for ax in axes.ravel()[len(drawn) :]:
        ax.set_axis_off()
    return figure
