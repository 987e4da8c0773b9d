"""Every scheduler of diffusers and sampler of k-diffusion: has it the order it claims, and where does it lose it?"""

from typing import TYPE_CHECKING, Any

from studies.adapters import diffusers, k_diffusion
from studies.adapters.catalogue import ENTRIES, Entry, prefix
from studies.adapters.measure import end_error, law_error, law_order, path_error, path_order, point_mass, timestep_gap
from studies.store import Values
from studies.study import study
from theory.estimate import at_least

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

BAND = 0.1
"""An order holds from this much below the claim on; one above the claim is no failure."""


def _unavailable() -> str | None:
    return diffusers.unavailable() or k_diffusion.unavailable()


@study(
    "foreign_schedulers",
    question="Has every scheduler of diffusers, every sampler of k-diffusion, and torchdiffeq, the order claimed?",
    axes={"sampler": list(ENTRIES), "grid": ["uniform", "time", "graded", "rough"]},
    where=lambda cell: cell["grid"] in ENTRIES[str(cell["sampler"])].kinds,
    available=_unavailable,
)
def foreign_schedulers(sampler: str, grid: str, *, seed: int) -> Values:
    """Order of the library's own code on exact models, driven through its public calls, before the step to sigma = 0.

    Deterministic samplers: along 16 trajectories of a mixture in the plane, against the exact flow. Stochastic ones:
    mean and standard deviation of their exact output law on Gaussian data. grid: uniform in lambda with the sampler's
    usual start ("uniform"), and in the time of the linear schedule ("time"); two tiny first steps, an accurate start
    for multistep methods ("graded"); steps in the ratio 1 : 2 by turns ("rough"). order: with the library's float32
    read as float64. error, native: with the most steps, so and as the library runs it; best_native: the less of the
    native errors with the second fewest and the most steps. point_mass: how far the implied noise of a point mass
    moves; 0 is exact. timestep_gap: what a network that reads timesteps adds. end_error: distance of the finished
    sample to the exact end. -1: not measured. problem: where the run left the finite numbers.
    """
    entry = ENTRIES[sampler]
    values: Values = {
        "library": prefix(sampler),
        "measure": "law" if entry.setting.stochastic else "path",
        "claimed": entry.claimed,
        "claim": entry.where,
        "problem": "",
    }
    try:
        return values | _measured(entry, grid)
    except ArithmeticError as error:  # the run left the finite numbers
        lost = dict.fromkeys(("error", "native", "best_native", "point_mass", "timestep_gap", "end_error"), -1.0)
        return values | {"order": 0.0, "half_width": 0.0, "verdict": "FAILS", **lost, "problem": str(error)}


def _measured(entry: Entry, grid: str) -> Values:
    double, native = entry.sampler(precision="double"), entry.sampler(precision="native")
    path = not entry.setting.stochastic
    steps = tuple(4 * n for n in entry.steps) if grid == "time" else entry.steps  # its steps are unequal in lambda
    if path:
        order, error = path_order(double, grid, floor=entry.floor, steps=steps, adaptive=entry.adaptive)
    else:
        order, error = law_order(double, grid, floor=entry.floor, steps=steps)
    measure = path_error if path else law_error
    few = steps[1:2] if path and grid == "uniform" else ()
    natives = [measure(native, grid, n)[1] for n in (*few, steps[-1])]
    values: Values = {
        "order": order.value,
        "half_width": min(order.error, 99.0),
        "verdict": at_least(entry.claimed - BAND).judge(order).value,
        "error": error,
        "native": natives[-1],
        "best_native": min(natives),
    }
    rest = dict.fromkeys(("point_mass", "timestep_gap", "end_error"), -1.0)  # -1: not measured
    if path:
        rest["point_mass"] = point_mass(native, grid, steps[0])
    if path and grid == "uniform":
        if isinstance(entry.setting, diffusers.Setting):
            by_timestep = entry.sampler(precision="native", by="timestep")
            rest["timestep_gap"] = timestep_gap(native, by_timestep, steps[2])
        if entry.finishes:
            try:
                rest["end_error"] = end_error(native, steps[2])
            except ArithmeticError as error:
                values["problem"] = str(error)
    return values | rest


def _rows(table: "DataFrame", library: str | None = None, measure: str | None = None) -> list[dict[str, Any]]:
    """The table's rows of one library, or of one measure."""
    rows = [{str(column): value for column, value in row.items()} for row in table.to_dict(orient="records")]
    return [row for row in rows if library in (None, row["library"]) and measure in (None, row["measure"])]


def _orders(rows: list[dict[str, Any]]) -> "Figure":
    """One line a sampler: claimed order as a bar, observed ones as dots, filled if the claim holds."""
    from studies.figures import WIDE, blank
    from studies.theme import CYCLE, INK, PAPER, SOFT

    samplers = list(dict.fromkeys(row["sampler"] for row in rows))
    figure, axes = blank(width=WIDE, height=0.9 + 0.125 * len(samplers))
    ax = axes[0, 0]
    looks = {"uniform": ("o", CYCLE[0]), "time": ("v", CYCLE[3]), "graded": ("^", CYCLE[1]), "rough": ("s", CYCLE[2])}
    for row in rows:
        y = samplers.index(row["sampler"])
        ax.plot([row["claimed"]] * 2, [y - 0.4, y + 0.4], color=SOFT, lw=2.2, solid_capstyle="butt", zorder=1)
        marker, colour = looks[str(row["grid"])]
        face = colour if row["verdict"] == "HOLDS" else PAPER
        value = min(max(float(row["order"]), -0.5), 4.5)
        lost = row["problem"] and row["error"] == -1.0
        ax.plot(value, y, "x" if lost else marker, color=colour, markerfacecolor=face, markersize=4, zorder=3)
        half = min(float(row["half_width"]), 1.0)
        ax.plot([value - half, value + half], [y, y], color=colour, lw=0.7, zorder=2)
    ax.set_yticks(range(len(samplers)), [name.partition(":")[2] for name in samplers], fontsize=5.5)
    ax.set_ylim(len(samplers) - 0.4, -0.6)
    ax.set_xlim(-0.7, 5)
    ax.set_xlabel("order: claimed (bar), observed (dots; hollow: not found to hold)")
    for kind, (marker, colour) in looks.items():
        ax.plot([], [], marker, color=colour, label=kind)
    ax.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncol=4, labelcolor=INK)
    return figure


CAPTION = (
    "Grids: equal steps in lambda with the sampler's usual start (uniform), and in the time of the linear schedule "
    "(time); two tiny first steps, an accurate start (graded); steps 1 : 2 by turns, for methods that take any steps "
    "(rough). Adaptive samplers against their steps on average. The library's float32 read as float64. A cross: NaN. "
)


@foreign_schedulers.figure(
    "diffusers_along_paths",
    caption=CAPTION + "An order claimed with an accurate start in mind may not be reached from the usual one.",
)
def diffusers_along_paths(table: "DataFrame") -> "Figure":
    return _orders(_rows(table, "diffusers", "path"))


@foreign_schedulers.figure("diffusers_in_law", caption=CAPTION + "Mean and standard deviation of the exact output law.")
def diffusers_in_law(table: "DataFrame") -> "Figure":
    return _orders(_rows(table, "diffusers", "law"))


@foreign_schedulers.figure(
    "k_diffusion",
    caption=CAPTION + "Deterministic samplers along paths, stochastic ones (from euler_ancestral on) in law.",
)
def k_diffusion_orders(table: "DataFrame") -> "Figure":
    return _orders(_rows(table, "k_diffusion") + _rows(table, "torchdiffeq"))


@foreign_schedulers.figure(
    "float32",
    caption="Error with the most steps, in the library's own precision against the same code in double. On the line "
    "nothing is lost; named where float32 costs a factor of ten and more than 1e-4.",
)
def float32(table: "DataFrame") -> "Figure":
    from studies.figures import WIDE, blank
    from studies.theme import CYCLE, SOFT

    rows = [row for row in _rows(table, measure="path") if row["native"] > 0]
    figure, axes = blank(width=WIDE, height=3.4)
    ax = axes[0, 0]
    ax.plot([1e-10, 1], [1e-10, 1], color=SOFT, lw=0.7)
    for library, colour in (("diffusers", CYCLE[0]), ("k_diffusion", CYCLE[1]), ("torchdiffeq", CYCLE[2])):
        part = [row for row in rows if row["library"] == library]
        x, y = ([row[column] for row in part] for column in ("error", "native"))
        ax.plot(x, y, "o", color=colour, markersize=3, label=library)
    for row in rows:
        if row["native"] < max(10 * row["error"], 1e-4):
            continue
        name = f"{str(row['sampler']).partition(':')[2]}, {row['grid']}"
        ax.annotate(name, (row["error"], row["native"]), xytext=(4, 1), textcoords="offset points", fontsize=5.5)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel("error in double precision")
    ax.set_ylabel("error as the library runs it")
    ax.legend(loc="lower right")
    return figure
