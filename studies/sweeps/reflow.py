"""Reflow: cost, straightness and intersection after 0, 1, 2, 3 reflows, from couplings whose velocity is exact."""

import json
import math
from functools import cache
from typing import TYPE_CHECKING

import torch

from studies.store import Values
from studies.study import study
from theory.coupling import GaussianCoupling, ellipse, rotation
from theory.divergences import w2
from theory.estimate import Estimate
from theory.flows import Points, even_panels, follow, line_flow
from theory.process import LinearPath
from theory.reflow import EmpiricalCoupling, MonotoneCoupling, Rectified, independent_intersection, rectify
from toy_distributions import LAWS, GaussianMixture

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PAIRS, BLUR = 300, 0.15
"""Pairs of an empirical coupling, and the radius of the blob that stands for each."""

DRAWN, TIMES = 60, 17
"""Paths kept for the pictures, and points on each."""


FLOOR = 1e-6
"""What is drawn for zero on a logarithmic scale."""


def _gaussian(case: str) -> GaussianCoupling:
    match case:
        case "gaussian_1d":
            data = LAWS["gaussian_1d"]()
            return GaussianCoupling.of_line(data.cov.item() ** 0.5, shift=data.mean.item())
        case "gaussian_1d, correlation -0.7":
            return GaussianCoupling.of_line(0.5, correlation=-0.7, shift=0.7)
        case "crossed gaussians":
            return GaussianCoupling.independent(ellipse(4.0, 0.25, math.pi / 4), ellipse(4.0, 0.25, 0.0))
        case _:
            return GaussianCoupling.of_map(rotation(math.pi / 2), GaussianMixture.gaussian([0.0, 0.0], 1.0))


def _gaussian_row(case: str, reflows: int) -> Values:
    coupling = _gaussian(case)
    optimal = GaussianCoupling.optimal(coupling.law(0.0), coupling.law(1.0)).cost
    for _ in range(reflows):
        coupling = coupling.rectified()
    rounding = Estimate(coupling.cost, 1e-12 * coupling.cost)
    return _row(rounding, optimal, coupling.straightness(), coupling.intersection(), "closed form and quadrature")


def _line_row(law: str, reflows: int) -> Values:
    """A 1-D law and N(0, 1): independent at first, monotone ever after."""
    return _independent_row(law) if reflows == 0 else _monotone_row(law)


def _independent_row(law: str) -> Values:
    data = LAWS[law]()
    points, lines = line_flow(data)
    curves = lines.along(LinearPath(), whole=True)
    optimal = points.expect((curves.chord**2).sum(-1))  # the first flow ends at the monotone coupling
    cost = Estimate(1.0 + data.cov.item() + data.mean.item() ** 2)
    s, v = points.expect(curves.straightness), independent_intersection(data)
    return _row(cost, optimal.value, s, v, "quadrature")


@cache
def _monotone_row(law: str) -> Values:
    coupling, noise = MonotoneCoupling(LAWS[law]()), GaussianMixture.gaussian(0.0, 1.0)
    few, many = Points.of_ranks(noise, 101, reach=6.0), Points.of_ranks(noise, 4001)
    curves = follow(coupling.velocity, few.x, even_panels(1.0, 0.0, 1, order=4))
    cost = many.expect(((coupling.map(many.x) - many.x) ** 2)[:, 0])
    # one pair passes through each (x, t), so that V = 0 by construction
    return _row(cost, cost.value, few.expect(curves.straightness), Estimate(0.0), "quadrature")


@cache
def _start(law: str) -> EmpiricalCoupling:
    generator = torch.Generator().manual_seed(0)
    x_0 = LAWS[law]().sample(PAIRS, generator=generator)
    return EmpiricalCoupling(x_0, torch.randn(x_0.shape, dtype=x_0.dtype, generator=generator), BLUR)


@cache
def _rectified(law: str, reflows: int) -> Rectified:
    coupling = _start(law) if reflows == 0 else _rectified(law, reflows - 1).coupling
    return rectify(coupling, panels=12, seed=reflows)


def _cloud_row(law: str, reflows: int) -> Values:
    coupling = _start(law) if reflows == 0 else _rectified(law, reflows - 1).coupling
    flow = _rectified(law, reflows)
    points = Points(coupling.x_1)
    cost = points.expect((coupling.difference**2).sum(-1))
    optimal = w2(coupling.x_0, coupling.x_1).value ** 2  # of the bare points: the best pairing of this very cloud
    row = _row(cost, optimal, flow.straightness, flow.intersection, f"monte carlo n={PAIRS}")
    keep = torch.linspace(0, len(flow.paths) - 1, TIMES).round().long()
    paths = flow.paths[keep, :DRAWN].transpose(0, 1)
    drawn = [[[round(coordinate, 3) for coordinate in point] for point in path] for path in paths.tolist()]
    return row | {"accuracy": flow.accuracy, "paths": json.dumps(drawn)}


def _row(cost: Estimate, optimal: float, s: Estimate, v: Estimate, method: str) -> Values:
    return {
        "cost": cost.value,
        "cost_error": cost.error,
        "optimal_cost": optimal,
        "straightness": s.value,
        "straightness_error": s.error,
        "intersection": v.value,
        "intersection_error": v.error,
        "method": method,
        "accuracy": 0.0,
        "paths": "",
    }


GAUSSIANS = ["gaussian_1d", "gaussian_1d, correlation -0.7", "crossed gaussians", "rotation by 90 degrees"]
LINES = ["mixture_1d"]
CLOUDS = ["mixture_2d", "ring_of_gaussians"]


@study(
    "reflow",
    question="What do cost, straightness and intersection become after 0, 1, 2 and 3 reflows?",
    axes={"coupling": [*GAUSSIANS, *LINES, *CLOUDS], "reflows": [0, 1, 2, 3]},
)
def reflow(coupling: str, reflows: int, *, seed: int) -> Values:
    """The coupling after ``reflows`` reflows: E|x_1 - x_0|^2, W2^2 of its ends, S and V of its flow.

    Gaussians in closed form, 1-D laws by quadrature; in the plane a cloud of pairs, each a Gaussian blob, with the
    exact velocity of that coupling. The clouds are drawn from one seed of their own, so that the four rows of a
    coupling are one history; every reflow adds the blob's variance to both ends.
    """
    if coupling in GAUSSIANS:
        return _gaussian_row(coupling, reflows)
    return _line_row(coupling, reflows) if coupling in LINES else _cloud_row(coupling, reflows)


@reflow.figure(
    "history",
    caption="Cost (with W2^2 as a dashed line), straightness S and intersection V against the number of reflows; "
    "values below 1e-6 are drawn there. On the line and for Gaussians one reflow makes the flow straight, optimal or "
    "not; for the clouds the rest comes from the width of their blobs.",
)
def history(table: "DataFrame") -> "Figure":
    from matplotlib import pyplot as plt

    from studies.figures import legend
    from studies.theme import CYCLE, WIDE

    figure, axes = plt.subplots(1, 3, figsize=(WIDE, 2.7))
    lines = {}
    for i, (name, rows) in enumerate(table.groupby("coupling", sort=False)):
        look = {"color": CYCLE[i % len(CYCLE)], "marker": "os^Dvp*"[i % 7]}
        for ax, column in zip(axes, ("cost", "straightness", "intersection"), strict=True):
            values = rows[column].clip(lower=0.0 if column == "cost" else FLOOR)
            (lines[str(name)],) = ax.plot(rows["reflows"], values, **look)
            known = rows[f"{column}_error"].clip(upper=0.9 * values)
            ax.errorbar(rows["reflows"], values, known, fmt="none", ecolor=look["color"], lw=0.7)
        axes[0].plot(rows["reflows"], rows["optimal_cost"], color=look["color"], lw=0.7, ls=(0, (4, 2)))
    for ax, label in zip(axes, (r"$E|x_1 - x_0|^2$", "straightness S", "intersection V"), strict=True):
        ax.set_xlabel("reflows")
        ax.set_ylabel(label)
        ax.set_xticks([0, 1, 2, 3])
    for ax in axes[1:]:
        ax.set_yscale("log")
    legend(figure, lines)
    return figure


@reflow.figure(
    "paths",
    caption="Paths of the flow from noise (dots) to data after 0, 1 and 3 reflows: clouds of 300 pairs in the plane.",
)
def paths(table: "DataFrame") -> "Figure":
    from matplotlib import pyplot as plt

    from studies.theme import CYCLE, INK, WIDE

    drawn = table[(table["paths"] != "") & table["reflows"].isin([0, 1, 3])]
    names = list(dict.fromkeys(drawn["coupling"]))
    figure, axes = plt.subplots(
        len(names), 3, figsize=(WIDE, 2.2 * len(names)), squeeze=False, sharex=True, sharey=True
    )
    for ax, (_, row) in zip(axes.ravel(), drawn.iterrows(), strict=True):
        for path in json.loads(str(row["paths"])):
            x, y = zip(*path, strict=True)
            ax.plot(x, y, color=CYCLE[0], lw=0.6, alpha=0.7)
            ax.plot(x[0], y[0], ".", color=INK, ms=2)
        ax.set_aspect("equal")
        ax.set_xlabel(f"x, {row['coupling']}, {row['reflows']} reflows")
        ax.set_ylabel("y")
    return figure
