"""Every deterministic solver on a trained network: error to a fine run from the same noise, beside the Gaussian fit."""

import math
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from studies.cifar10 import data
from studies.cifar10.laws import along_axes
from studies.cifar10.served import digest, network, reach, unavailable
from studies.cifar10.validation import normals, run
from studies.store import Values
from studies.study import study
from theory import EDM, SOLVERS, Exact, uniform_lambda
from theory.reference import gaussian_flow
from theory.slope import observed_order
from toy_distributions import GaussianMixture

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

PROCESS = EDM()
K_START, K_END = 80.0, 0.05
"""Noise over data scale at the ends: from pure noise to where the images stand and only grain is left."""

STARTS = 4
REFERENCE_STEPS = 640
LIMIT = 1e-3
"""Relative RMS distance to the common end within which a solver is said to meet it."""
SHOWN = ["ddim", "heun.k", "dpm.2", "dpm.3", "dpm_pp.2m", "dpm_pp.3m", "unipc.2", "ipndm.4"]
DETERMINISTIC = [name for name in SOLVERS.names() if not SOLVERS[name]().facts.stochastic]
STEPS = [5, 10, 20, 40, 80, 160, 320, 640, 1280]
MOST = {1.0: 1280, 2.0: 160}
"""Steps by declared order, enough to come near the limit that all solvers share; 80 for the others."""

TWINS = {
    **dict.fromkeys(["euler.k", "euler.t", "quasi_taylor.1", "quasi_taylor.2", "quasi_taylor.3"], "ddim"),
    **dict.fromkeys(["dpm.12", "midpoint.geometric"], "dpm.2"),
    **{f"deis.t_ab{n}": f"deis.rho_ab{n}" for n in (2, 3, 4)},
    "heun.t": "heun.k",
    "dpm.23": "dpm.3",
}
"""The same maps as another solver where alpha = 1 and sigma = t, as on this process: run on coarse grids only."""


def _affordable(cell) -> bool:
    solver, steps = cell["solver"], cell["steps"]
    return steps <= (20 if solver in TWINS else MOST.get(SOLVERS[solver]().facts.order or 0.0, 80))


class Limit(NamedTuple):
    end: Tensor
    doubt: float
    """RMS distance of two references by different methods, relative to the RMS of the end."""


@cache
def _starts() -> Tensor:
    return normals(STARTS, seed=0)


@cache
def _limit(model: str) -> Limit:
    """The end of the network's flow: DPM-Solver-3 on a fine grid, beside RK4 in k on another."""
    served = network(model)
    fine = run(SOLVERS["dpm.3"](), served, _starts(), _grid(model, REFERENCE_STEPS // 3)).end
    other = run(SOLVERS["rk4.lam"](), served, _starts(), _grid(model, REFERENCE_STEPS // 4)).end
    return Limit(fine, _rms(fine - other) / _rms(fine))


@cache
def _end(model: str, solver: str, steps: int) -> tuple[Tensor, int]:
    """Where the network's trajectories end, and its evaluations. Kept, since the grid of twice the steps asks again."""
    found = run(SOLVERS[solver](), network(model), _starts(), _grid(model, steps))
    return found.end, found.evaluations


@cache
def _gaussian(model: str) -> tuple[GaussianMixture, Tensor, Tensor]:
    """The fit in coordinates along its axes, where it costs nothing, and the starts and their exact ends there."""
    law, axes = along_axes()
    starts = _starts().double() @ axes
    ends = reach(model, K_START, K_END)
    s, t = (PROCESS.level(k) for k in ends)
    return law, starts, gaussian_flow(law, ends[0] * starts, s, t)


def _grid(model: str, steps: int):
    start, end = reach(model, K_START, K_END)
    return uniform_lambda(PROCESS, steps, start=-math.log(start), end=-math.log(end))


def _rms(x: Tensor) -> float:
    return x.double().square().mean().sqrt().item()


@study(
    "network_orders",
    question="Do solvers keep their orders on a trained network, as they do on the Gaussian fitted to its data?",
    axes={"model": ["shipped"], "solver": DETERMINISTIC, "steps": STEPS},
    where=_affordable,
    available=lambda: unavailable("shipped") or data.unavailable(download=True),
    rests_on=digest,
    max_jobs=1,
    threads=2,
)
def network_orders(model: str, solver: str, steps: int, *, seed: int) -> Values:
    """RMS distance of 4 trajectories' ends from their limit, relative to the RMS of the end; uniform steps in lambda.

    error: on the network, in float32; doubt: how far two references of it are apart. extrapolated: the error of
    (2^p x_N - x_{N/2}) / (2^p - 1) with the declared order p; of x_N itself where N is odd. gaussian_error: the same
    solver, grid and noise on the Gaussian fit, against its exact flow.
    """
    made, grid = SOLVERS[solver](), _grid(model, steps)
    limit = _limit(model)
    end, evaluations = _end(model, solver, steps)
    share = 0 if steps % 2 else 1 / (2 ** (made.facts.order or 1) - 1)
    before = _end(model, solver, steps // 2)[0] if share else end
    law, starts, exact = _gaussian(model)
    ideal = run(made, Exact(law, PROCESS), starts, grid)
    return {
        "h_max": grid.h_max,
        "evaluations": evaluations,
        "error": _rms(end - limit.end) / _rms(limit.end),
        "extrapolated": _rms(end + share * (end - before) - limit.end) / _rms(limit.end),
        "doubt": limit.doubt,
        "gaussian_error": _rms(ideal.end - exact) / _rms(exact),
        "order": float(made.facts.order or 0),
        "stochastic": 0,
    }


def orders(table: "DataFrame") -> "DataFrame":
    """By solver: declared order, observed on the network and on the Gaussian fit, each with its error."""
    import pandas as pd

    rows = []
    for solver, part in table[~table["solver"].isin(TWINS)].groupby("solver", sort=False):
        h, doubt = part["h_max"].tolist(), max(part["doubt"].tolist())
        seen = observed_order(h, part["error"].tolist(), floor=max(doubt, 1e-6) / 10, points=4)
        ideal = observed_order(h, part["gaussian_error"].tolist(), floor=1e-13, points=4)
        rows.append((solver, max(part["order"]), seen.value, seen.error, ideal.value, ideal.error))
    columns = ["solver", "declared", "network", "network_error", "gaussian", "gaussian_error"]
    return pd.DataFrame(rows, columns=columns)


@network_orders.paragraph
def words(table: "DataFrame") -> str:
    """How far every solver comes to the common limit, and which orders are seen."""
    found = orders(table).to_dict(orient="records")
    seen = [row for row in found if row["network_error"] < 0.2]
    lost = [row for row in seen if abs(row["network"] - row["declared"]) > 0.2 + row["network_error"]]
    finest = {row["solver"]: row for row in table.sort_values("steps").to_dict(orient="records")}
    twins = [solver for solver in finest if solver in TWINS]
    met = [solver for solver in finest if solver not in TWINS and finest[solver]["error"] <= LIMIT]
    late = [solver for solver in finest if solver not in (*TWINS, *met) and finest[solver]["extrapolated"] <= LIMIT]
    named = ", ".join(f"{row['solver']} {row['network']:.1f} for {row['declared']:g}" for row in lost)
    ddim = [f"DDIM's slope is {r['network']:.2f} ± {r['network_error']:.2f}. " for r in found if r["solver"] == "ddim"]
    near = f"{len(met)} of {len(finest) - len(twins)} solvers come within {LIMIT:g} of the common limit"
    nearer = f", and {len(late)} more by extrapolation from their finest two ({', '.join(late)})" if late else ""
    same = f"{len(twins)} other solvers are the same maps as one of these on this process. " if twins else ""
    return (
        f"{near} on their finest grid{nearer}; two references of it differ by {table['doubt'].max():.1g}. "
        f"{same}{''.join(ddim)}"
        f"On the network {len(seen)} of {len(found)} orders have a window, {len(seen) - len(lost)} of them as declared"
        f"{f' (not so: {named})' if lost else ''}; the "
        f"other {len(found) - len(seen)} stay OPEN, as their errors do not fall at one rate on these grids."
    )


@network_orders.figure(
    "error",
    caption="Left: the network; right: the Gaussian fitted to the images, same solvers, grids and noise.",
)
def error(table: "DataFrame") -> "Figure":
    import pandas as pd

    from studies.figures import convergence_panels

    few = table[table["solver"].isin(SHOWN)]
    ideal = few.assign(on="Gaussian fit", error=few["gaussian_error"])
    shown = pd.concat([few.assign(on="network"), ideal], ignore_index=True)
    return convergence_panels(shown, column="on", triangles=(1, 2, 3), sharey=True)
