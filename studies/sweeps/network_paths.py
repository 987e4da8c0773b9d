"""How straight the trajectories of a trained network are, beside those of the Gaussian fit and of the images."""

import math
from functools import cache
from typing import TYPE_CHECKING

import torch

from studies.cifar10 import data
from studies.cifar10.laws import law_of_images
from studies.cifar10.served import digest, network, reach, unavailable
from studies.cifar10.validation import normals, straightness
from studies.store import Values
from studies.study import study
from theory import EDM, SOLVERS, Exact, uniform_lambda
from theory.models import Model

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PROCESS = EDM()
STARTS = 8
STEPS = 48
K_START = 80.0


@cache
def _model(name: str, of: str) -> Model:
    return network(name) if of == "network" else Exact(law_of_images(of, torch.float32), PROCESS)


@study(
    "network_paths",
    question="Are a trained network's trajectories as straight as those of exact laws fitted to its data?",
    axes={"model": ["shipped"], "of": ["network", "gaussian", "empirical"], "k_end": [1.0, 0.3, 0.1]},
    available=lambda: unavailable("shipped") or data.unavailable(download=True),
    rests_on=digest,
    max_jobs=1,
    threads=2,
)
def network_paths(model: str, of: str, k_end: float, *, seed: int) -> Values:
    """S of 8 trajectories from k = 80 to k_end in linear-path coordinates, by DPM-Solver++(2M) on two grids.

    error: the change of S when the steps are halved in number, three times what the finer one is off by.
    """
    k_start, k_stop = reach(model, K_START, k_end)
    found = [
        straightness(
            _model(model, of),
            SOLVERS["dpm_pp.2m"](),
            normals(STARTS, seed=0),
            uniform_lambda(PROCESS, steps, start=-math.log(k_start), end=-math.log(k_stop)),
        )
        for steps in (STEPS // 2, STEPS)
    ]
    return {"straightness": found[1], "error": abs(found[1] - found[0])}


@network_paths.paragraph
def words(table: "DataFrame") -> str:
    """The three numbers at the cleanest end."""
    last = {row["of"]: row for row in table.to_dict(orient="records") if row["k_end"] == 0.1}
    told = ", ".join(f"{name} {row['straightness']:.3f} ± {row['error']:.1g}" for name, row in last.items())
    nearer = min(
        ("gaussian", "empirical"), key=lambda of: abs(last[of]["straightness"] - last["network"]["straightness"])
    )
    return f"S down to k = 0.1: {told} (0 is straight). The network is nearer to the {nearer} law."


@network_paths.figure("straightness", caption="S from k = 80 down to k_end; bars are the change from half the steps.")
def figure(table: "DataFrame") -> "Figure":
    from studies.figures import blank

    drawn, axes = blank()
    ax = axes[0, 0]
    for of in dict.fromkeys(table["of"]):
        part = table[table["of"] == of]
        ax.errorbar(
            part["k_end"],
            part["straightness"],
            part["error"],
            marker="o",
            markersize=3,
            linewidth=1,
            capsize=2,
            label=of,
        )
    ax.set(xscale="log", xlabel=r"$k_{\mathrm{end}}$", ylabel="S", ylim=(0, None))
    ax.legend()
    return drawn
