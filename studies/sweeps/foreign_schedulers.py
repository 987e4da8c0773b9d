"""Every scheduler of diffusers and sampler of k-diffusion: has it the order it claims, and where does it lose it?"""

from typing import TYPE_CHECKING

from studies.adapters import diffusers, k_diffusion
from studies.adapters.catalogue import ENTRIES, Entry, prefix
from studies.adapters.measure import end_error, law_error, law_order, path_error, path_order, point_mass, timestep_gap
from studies.store import Values
from studies.study import study
from theory.estimate import at_least

if TYPE_CHECKING:
    pass

BAND = 0.1
"""An order holds from this much below the claim on; one above the claim is no failure."""


def _unavailable() -> str | None:
    return diffusers.unavailable() or k_diffusion.unavailable()


@study(
    "foreign_schedulers",
    question="Has every scheduler of diffusers and every sampler of k-diffusion the order it claims?",
    axes={"sampler": list(ENTRIES), "grid": ["uniform", "graded", "rough"]},
    where=lambda cell: cell["grid"] in ENTRIES[str(cell["sampler"])].kinds,
    available=_unavailable,
)
def foreign_schedulers(sampler: str, grid: str, *, seed: int) -> Values:
    """Order of the library's own code on exact models, driven through its public calls, before the step to sigma = 0.

    Deterministic samplers: along 16 trajectories of a mixture in the plane, against the exact flow. Stochastic ones:
    mean and standard deviation of their exact output law on Gaussian data. grid: uniform in lambda with the sampler's
    usual start ("uniform"); the same with two tiny first steps, an accurate start for multistep methods ("graded");
    steps in the ratio 1 : 2 by turns ("rough"). order: with the library's float32 read as float64. error, native:
    with the most steps, so and as the library runs it; best_native: the least of the native errors over the steps.
    point_mass: how far the implied noise of a point mass moves; 0 is exact. timestep_gap: what a network that reads
    timesteps adds. end_error: distance of the finished sample to the exact end.
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
    order, error = (path_order if path else law_order)(double, grid, floor=entry.floor, steps=entry.steps)
    measure = path_error if path else law_error
    natives = [measure(native, grid, n)[1] for n in (entry.steps if path and grid == "uniform" else entry.steps[-1:])]
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
        rest["point_mass"] = point_mass(native, grid, entry.steps[0])
    if path and grid == "uniform":
        if isinstance(entry.setting, diffusers.Setting):
            by_timestep = entry.sampler(precision="native", by="timestep")
            rest["timestep_gap"] = timestep_gap(native, by_timestep, entry.steps[2])
        if entry.finishes:
            rest["end_error"] = end_error(native, entry.steps[2])
    return values | rest
