"""Work against precision: particles a second that reach a strong error, ours beside generic integrators and diffusers.

Every way carries the same particles along the probability flow of a mixture in the plane with the same exact denoiser,
and is given the fewest steps, or the loosest tolerance, of its ladder with which its error is small enough.
Run: python -m studies.benchmarks.work_precision --out reports/benchmarks_work_precision.md
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from studies.adapters import diffusers, scipy_ode, torchdiffeq
from studies.adapters.catalogue import ENTRIES
from studies.adapters.measure import LAW, denoiser, levels
from studies.benchmarks.tables import machine, table, verdict
from theory import SOLVERS, VE, Exact, Solver, TimeGrid, solve
from theory.convergence import LAM_END, LAM_START
from theory.reference import ode_flow
from theory.solvers.unipc import ExponentialAdams
from toy_distributions import LAWS

PARTICLES, JUDGED, ROUNDS = 100_000, 500, 3
TARGETS = (1e-3, 1e-6)
STEPS = (6, 8, 10, 12, 15, 18, 24, 30, 36, 48, 60, 72, 96, 120, 144, 192, 240, 288, 384, 576)
TOLERANCES = tuple(10 ** (-e / 4) for e in range(4, 45))
GRID = "uniform"
NAMED = ("heun.k", "rk4.lam", "kutta3.k", "dpm_pp.2m", "dpm_pp.3m", "unipc.2", "unipc.3")
OURS: dict[str, Callable[[], Solver]] = {name: SOLVERS[name] for name in NAMED} | {
    "unipc of 4 points, start rk4.lam": lambda: ExponentialAdams(4, start=SOLVERS["rk4.lam"]()),
    "unipc of 3 points, start rk4.lam": lambda: ExponentialAdams(3, start=SOLVERS["rk4.lam"]()),
}
CLASSES = ("DPMSolverMultistepScheduler/2M++", "DPMSolverMultistepScheduler/3M++", "UniPCMultistepScheduler/3")

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Way:
    """A rival and its ladder, from the cheapest to the dearest setting; reason: why it cannot run here."""

    side: str
    name: str
    ladder: tuple[float, ...]
    at: Callable[[float], Run]
    reason: str | None = None


def our_run(name: str, steps: float) -> Run:
    law, process = LAWS[LAW](), VE()
    grid = TimeGrid(process, [process.time_at(-math.log(k)) for k in levels(GRID, int(steps))])
    solver, model = OURS[name](), Exact(law, process)
    return lambda y: solve(solver, model, y, grid, keep=False).end


def scheduler_run(name: str, steps: float) -> Run:
    given = ENTRIES[f"diffusers:{name}"].setting
    assert isinstance(given, diffusers.Setting)
    law, ks = LAWS[LAW](), levels(GRID, int(steps))
    return lambda y: diffusers.trace(given, denoiser(law), y, ks).y[-1]


def generic_run(trace: Callable, given: Callable[[float], object], tolerance: float) -> Run:
    law, ks = LAWS[LAW](), levels(GRID, 6)
    return lambda y: trace(given(tolerance), denoiser(law), y, ks).end


def ways() -> list[Way]:
    out = [Way("ours", name, STEPS, partial(our_run, name)) for name in OURS]
    for method in ("dopri5", "dopri8"):
        given = partial(_torchdiffeq, method)
        run = partial(generic_run, torchdiffeq.trace, given)
        out.append(Way("torchdiffeq", method, TOLERANCES, run, torchdiffeq.unavailable()))
    for method in ("RK45", "DOP853"):
        given = partial(_scipy, method)
        out.append(Way("scipy", method, TOLERANCES, partial(generic_run, scipy_ode.trace, given)))
    for name in CLASSES:
        out.append(Way("diffusers", name, STEPS, partial(scheduler_run, name), diffusers.unavailable()))
    return out


def _torchdiffeq(method: str, tolerance: float) -> torchdiffeq.Setting:
    return torchdiffeq.Setting(method, {"rtol": tolerance, "atol": tolerance})


def _scipy(method: str, tolerance: float) -> scipy_ode.Setting:
    return scipy_ode.Setting(method, rtol=tolerance, atol=tolerance)


@dataclass(frozen=True)
class Found:
    """A way's cheapest setting that reaches a target on the judged particles, its run and its error there."""

    way: Way
    setting: float
    run: Run
    error: float


def cheapest(way: Way, target: float, start: Tensor, exact: Tensor) -> Found | None:
    """The first of the ladder whose strong error, root mean square in y = x / alpha, is at most the target.

    By bisection, as errors fall along a ladder; where they do not quite, the setting found still reaches the target.
    """
    low, high, found = 0, len(way.ladder), None
    while low < high:
        middle = (low + high) // 2
        run = way.at(way.ladder[middle])
        error = strong_error(run(start), exact)
        if error <= target:
            high, found = middle, Found(way, way.ladder[middle], run, error)
        else:
            low = middle + 1
    return found


def strong_error(end: Tensor, exact: Tensor) -> float:
    return float((end[: len(exact)] - exact).square().sum(-1).mean().sqrt())


def timed(found: list[Found], start: Tensor, exact: Tensor, target: float) -> dict[str, tuple[list[float], float]]:
    """Seconds of each round, the ways in turn, and the error of the run of all particles, by the way's name."""
    out: dict[str, tuple[list[float], float]] = {}
    for turn in range(ROUNDS + 1):
        for each in found:
            begun = time.perf_counter()
            end = each.run(start)
            seconds = time.perf_counter() - begun
            if not turn:  # warms up
                error = strong_error(end, exact)
                if error > 2 * target:
                    raise ValueError(f"{each.way.name} must reach {target:g} on all particles; got {error:.3g}.")
                out[each.way.name] = ([], error)
            else:
                out[each.way.name][0].append(seconds)
    return out


def report(particles: int) -> str:
    law, process = LAWS[LAW](), VE()
    s, t = process.level_at(LAM_START), process.level_at(LAM_END)
    start = law.noised(float(s.alpha), float(s.sigma)).sample(particles, generator=torch.Generator().manual_seed(0))
    judged = start[:JUDGED]
    exact = ode_flow(law, judged, s, t, together=True)
    parts = [
        "# Work against precision",
        f"""\
Made by `python -m studies.benchmarks.work_precision`. {particles:,} particles along the probability flow of `{LAW}`
from lambda = {LAM_START} to {LAM_END}, float64, one exact denoiser for all. Each way has the fewest steps (equal in
lambda) or the loosest tolerance (rtol = atol, in lambda) of its ladder whose root mean square error on {JUDGED}
particles, against DOP853 at 1e-13, is at most the target; medians of {ROUNDS} rounds in which the ways take turns.
Asked: our best ahead of each.""",
        machine(torch.get_num_threads()),
    ]
    for target in TARGETS:
        parts += [f"## Strong error {target:g}", contest(target, start, judged, exact)]
        print("\n\n".join(parts[-2:]), flush=True)
    return "\n\n".join(parts) + "\n"


def contest(target: float, start: Tensor, judged: Tensor, exact: Tensor) -> str:
    """The table of one target: our best against each rival, round by round."""
    everyone = [way for way in ways() if way.reason is None]
    found = {way.name: cheapest(way, target, judged, exact) for way in everyone}
    times = timed([each for each in found.values() if each is not None], start, exact, target)
    best = min(
        (way.name for way in everyone if way.side == "ours" and way.name in times), key=lambda n: median(times, n)
    )
    rows = []
    for way in sorted(everyone, key=lambda way: median(times, way.name)):
        one = found[way.name]
        if one is None:
            rows.append([way.side, f"`{way.name}`", "none reaches it", "", "", "", ""])
            continue
        seconds, error = times[way.name]
        shares = [a / b for a, b in zip(times[best][0], seconds, strict=True)]
        judgement = "" if way.side == "ours" else verdict(shares, 1.0)
        setting = f"{one.setting:.0f} steps" if way.ladder is STEPS else f"tolerance {one.setting:.1e}"
        rate = f"{len(start) / statistics.median(seconds):,.0f}"
        share = f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f})"
        rows.append([way.side, f"`{way.name}`", setting, f"{error:.1e}", rate, share, judgement])
    rows += [[way.side, f"`{way.name}`", way.reason, "", "", "", ""] for way in ways() if way.reason is not None]
    head = ["by", "way", "setting", "strong error", "particles a second", f"time of `{best}` / its time", "ahead"]
    return table(head, rows)


def median(times: dict[str, tuple[list[float], float]], name: str) -> float:
    return statistics.median(times[name][0]) if name in times else math.inf


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help="write the tables to this Markdown file")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--particles", type=int, default=PARTICLES)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    text = report(options.particles)
    if options.out is not None:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
