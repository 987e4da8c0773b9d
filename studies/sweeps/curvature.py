"""Curvature: how straight the flow lines of each law are under each process, in time and in other coordinates."""

import json
from functools import cache
from typing import TYPE_CHECKING

import torch

from studies.study import study
from theory.estimate import Estimate
from theory.flows import Curves, FlowLines, Points, even_panels, flow_lines
from theory.process import PROCESSES, TrigonometricPath
from toy_distributions import LAWS

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

LAM_START, LAM_END = -3.9, 4.6
"""The window of log(alpha/sigma) that all seven processes cover: from noise fifty times the data to noise 0.01."""

SAMPLE = 400
"""Flow lines of a law in the plane, drawn at the noisy end; on the line a rule of ranks replaces them."""

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
        points = Points.of_sample(start, SAMPLE, seed=0)
    return points, flow_lines(data, points.x, rule)


def _measured(curves: Curves, points: Points, name: str) -> dict[str, float | str]:
    """S, S over the mean square chord, and the angle turned. Errors: of the expectation, and what is missing in the
    balance  int |x'|^2 = S + |chord|^2,  which the quadrature in time must close."""
    s, chord, energy = (
        points.expect(values) for values in (curves.straightness, (curves.chord**2).sum(-1), curves.energy)
    )
    missing = abs(energy.value - s.value - chord.value)
    row: dict[str, float | str] = {
        f"straightness{name}": s.value,
        f"straightness{name}_error": s.error + missing,
        f"relative_straightness{name}": s.value / chord.value,
        f"relative_straightness{name}_error": (s.error + missing) / chord.value,
    }
    if curves.x.shape[-1] > 1:
        angle: Estimate = points.expect(curves.turning)
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
def curvature(process: str, law: str, *, seed: int) -> dict[str, float | str]:
    """S and turning of the lines from lambda = -3.9 to 4.6. The 2-D laws share one draw across processes, so the seed
    is not used and processes differ by more than their error bars suggest."""
    points, lines = _lines(law)
    along = lines.along(PROCESSES[process]())
    row = _measured(along, points, "") | _measured(lines.scaled(), points, "_scaled")
    row["method"] = "sample" if points.weights is None else "quadrature"
    row["lines"] = _drawn(along) if law == "mixture_1d" else ""
    return row


def _drawn(curves: Curves) -> str:
    """A few curves as JSON: the clock, and x of each line at it."""
    rows = torch.linspace(0, curves.x.shape[1] - 1, DRAWN + 2).round().long()[1:-1]
    x = curves.x[::2, rows, 0].T
    return json.dumps({"t": _short(curves.clock[::2]), "x": [_short(line) for line in x]})


def _short(values: torch.Tensor) -> list[float]:
    return [float(f"{value:.5g}") for value in values.tolist()]


@curvature.figure(
    "straightness",
    caption="S over the mean square distance between the ends, 0 for lines run straight at constant speed, in each "
    "process's own (x, t); the last row is (x / alpha, sigma / alpha), the same for all.",
)
def straightness(table: "DataFrame") -> "Figure":
    import pandas as pd
    from matplotlib import pyplot as plt

    from studies.figures import heatmap
    from studies.theme import WIDE

    own = table[["process", "law", "relative_straightness"]]
    scaled = table.drop_duplicates("law")[["law", "relative_straightness_scaled"]]
    scaled = scaled.rename(columns={"relative_straightness_scaled": "relative_straightness"})
    rows = pd.concat([own, scaled.assign(process="x/α, σ/α")])
    figure, ax = plt.subplots(figsize=(WIDE, 3.2))
    # an exactly straight flow is 0, which has no place on a logarithmic scale
    rows["relative_straightness"] = rows["relative_straightness"].clip(lower=1e-6)
    heatmap(
        ax, rows, x="law", y="process", value="relative_straightness", fmt=".1e", label="S / mean square chord", log=True
    )
    return figure


@curvature.figure(
    "turning", caption="Angle by which a flow line turns from noise to data, mean over lines; error bars: four standard errors."
)
def turning(table: "DataFrame") -> "Figure":
    from matplotlib import pyplot as plt

    from studies.theme import CYCLE, WIDE

    plane = table[table["turning_radians"].notna()]
    figure, ax = plt.subplots(figsize=(WIDE, 2.6))
    processes = list(dict.fromkeys(plane["process"]))
    laws = list(dict.fromkeys(plane["law"]))
    width = 0.8 / len(processes)
    for i, process in enumerate(processes):
        rows = plane[plane["process"] == process].set_index("law").loc[laws]
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
