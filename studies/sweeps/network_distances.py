"""How far a trained network's samples lie from real images, by solver and steps, beside those of the Gaussian fit."""

import math
from functools import cache
from typing import TYPE_CHECKING

from studies.cifar10 import generated
from studies.cifar10.generated import apart, digest, shown, unavailable
from studies.cifar10.served import reach
from studies.store import Values
from studies.study import study
from theory import EDM, SOLVERS, Exact, karras

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PROCESS = EDM()
K_START, K_END = 80.0, 0.02
SOLVER_NAMES = ["ddim", "dpm_pp.2m", "ddpm.beta_tilde", "sde_dpm_pp.2m", "edm.churn"]
STEPS = [5, 10, 20]


def _affordable(cell) -> bool:
    """As many steps as take no more evaluations than STEPS[-1], so that solvers meet at equal cost."""
    return cell["steps"] * (SOLVERS[cell["solver"]]().facts.evaluations or 1) <= STEPS[-1]


@study(
    "network_distances",
    question="How far from real images, in features, are a trained network's samples at few steps, and do second "
    "moments alone predict which solver is nearest?",
    axes={"model": ["shipped"], "solver": SOLVER_NAMES, "steps": STEPS},
    where=_affordable,
    available=unavailable,
    rests_on=digest,
    max_jobs=1,
    threads=2,
)
def network_distances(model: str, solver: str, steps: int, *, seed: int) -> Values:
    """FD, KD, precision, recall of 200 samples, classes in turn, on Karras' grid from k = 80 to 0.02, denoised there.

    gaussian_...: of the Gaussian fit's samples by the same solver, grid and starts. limit_...: of its exact samples.
    floor_...: of test images. Every ..._error is the half-width of a 95 % interval.
    """
    made = SOLVERS[solver]()
    start, end = reach(model, K_START, K_END)
    grid = karras(PROCESS, steps, start=-math.log(start), end=-math.log(end))
    drawn = generated.draw(generated.told(model, PROCESS), made, grid, generated.starts(), seed=seed)
    law, axes = generated.along_axes()
    ideal = generated.draw(Exact(law, PROCESS), made, grid, generated.starts().double() @ axes, seed=seed)
    return {
        "evaluations": drawn.evaluations,
        "images": len(drawn.points),
        "stochastic": int(made.facts.stochastic),
        "order": float(made.facts.order or 0),
        **generated.measured(generated.features(drawn.points)),
        **generated.measured(generated.features(ideal.points @ axes.T), "gaussian_"),
        **_limit(),
        **generated.floor(),
    }


@cache
def _limit() -> dict[str, float]:
    return generated.measured(generated.features(generated.gaussian_limit()), "limit_")


@network_distances.paragraph
def words(table: "DataFrame") -> str:
    """Which solver is nearest at the fewest and at the most evaluations, the floor, and what the fit predicts."""
    rows = table.to_dict(orient="records")
    first = rows[0]
    counts = sorted({row["evaluations"] for row in rows})
    said = []
    for count in dict.fromkeys((counts[0], counts[-1])):
        here = [row for row in rows if row["evaluations"] == count]
        best, ideal = (min(here, key=lambda row: row[name]) for name in ("fd", "gaussian_fd"))
        level = [row["solver"] for row in here if row is not best and not apart(row, best, "fd")]
        said.append(
            f"At {count} evaluations {best['solver']} is nearest with {shown(best, 'fd')}"
            f"{f', not told apart from {_list(level)}' if level else ''}; on the Gaussian fit it is {ideal['solver']} "
            f"with {shown(ideal, 'gaussian_fd')}"
        )
    reached = [f"{row['solver']} at {row['evaluations']}" for row in rows if _reaches(row, "fd", "floor_fd")]
    settled = [f"{row['solver']} at {row['evaluations']}" for row in rows if _reaches(row, "gaussian_fd", "limit_fd")]
    pairs = [(a, b) for a in rows for b in rows if a["solver"] < b["solver"] and a["evaluations"] == b["evaluations"]]
    clear = [pair for pair in pairs if apart(*pair, "fd") and apart(*pair, "gaussian_fd")]
    agree = [(a, b) for a, b in clear if (a["fd"] - b["fd"]) * (a["gaussian_fd"] - b["gaussian_fd"]) > 0]
    return (
        f"FD-cifar_classifier of {first['images']} images a cell; as many test images lie at "
        f"{shown(first, 'floor_fd')}, exact samples of the Gaussian fit at {shown(first, 'limit_fd')}. "
        f"{'. '.join(said)}. The floor is within the error bar of {_list(reached) or 'no cell'}; on the fit its own "
        f"limit is within that of {_list(settled) or 'no cell'}. Of {len(pairs)} pairs of solvers at equal evaluations "
        f"{len(clear)} are told apart both on the network and on the fit, {len(agree)} of them in the same order."
    )


def _reaches(row: dict, name: str, target: str) -> bool:
    return abs(row[name] - row[target]) <= row[f"{name}_error"] + row[f"{target}_error"]


def _list(names: list[str]) -> str:
    return ", ".join(names)


@network_distances.figure(
    "distances",
    caption="Distances to 10,000 training images in the features of the classifier; bars and bands are 95 % intervals. "
    "Left: the network, grey the test images; right: the Gaussian fit under the same solvers, grids and starts, grey "
    "its exact samples.",
)
def distances(table: "DataFrame") -> "Figure":
    from studies.figures import WIDE, blank, facts_in, legend, styles_of

    figure, axes = blank(width=WIDE, height=4.6, rows=2, columns=2, sharex=True)
    styles, lines = styles_of(table["solver"], facts_in(table)), {}
    columns = (("", "floor_", "network"), ("gaussian_", "limit_", "Gaussian fit"))
    for row, measure in zip(axes, ("fd", "kd"), strict=True):
        for ax, (prefix, target, title) in zip(row, columns, strict=True):
            name, level = f"{prefix}{measure}", f"{target}{measure}"
            middle, half = table[level].iloc[0], table[f"{level}_error"].iloc[0]
            ax.axhspan(middle - half, middle + half, color="0.75", linewidth=0)
            ax.axhline(middle, color="0.5", linewidth=0.8)
            for solver, style in styles.items():
                part = table[table["solver"] == solver]
                bars = ax.errorbar(
                    part["evaluations"], part[name], part[f"{name}_error"],
                    markersize=3, linewidth=1, capsize=2, **style.line(),
                )  # fmt: skip
                lines[solver] = bars.lines[0]
            ax.set(xscale="log", ylim=(min(0.0, middle - half), None))
            ax.set_xticks(counts := sorted(set(table["evaluations"])), [str(count) for count in counts])
            ax.minorticks_off()
            if measure == "fd":
                ax.set_title(title)
            else:
                ax.set_xlabel("model evaluations")
        row[0].set_ylabel(f"{measure.upper()}-cifar_classifier")
    legend(figure, lines)
    return figure
