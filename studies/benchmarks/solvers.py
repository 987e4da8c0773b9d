"""What samplers cost beyond their model calls: ours beside diffusers' schedulers and k-diffusion's functions.

Every way takes STEPS steps on a model that costs nothing; the ways of one method are called in turn, in one process.
Run: python -m studies.benchmarks.solvers --out reports/benchmarks_solvers.md
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from studies.adapters import diffusers, k_diffusion
from studies.benchmarks.tables import machine, table, verdict
from theory import SOLVERS, Independent, Kind, Model, Prediction, VPLinear, solve, uniform_lambda
from theory.process import Level, NoiseProcess

STEPS, ROUNDS = 50, 7
SHAPES = ((1, 2), (10_000, 2), (64, 3, 32, 32))
MOST = {"diffusers": 1 / 4, "k-diffusion": 1 / 2}
"""What is asked of ours, as a share of theirs."""

Run = Callable[[Tensor], Any]


@dataclass(frozen=True)
class Method:
    """One method under its three names; None where a library does not have it."""

    ours: str
    scheduler: tuple[str, dict] | None = None
    function: tuple[str, dict] | None = None


METHODS = [
    Method("ddim", ("DDIMScheduler", {"clip_sample": False}), ("sample_euler", {})),
    Method("heun.k", ("HeunDiscreteScheduler", {}), ("sample_heun", {})),
    Method("dpm_pp.2m", ("DPMSolverMultistepScheduler", {}), ("sample_dpmpp_2m", {})),
    Method("dpm_pp.3m", ("DPMSolverMultistepScheduler", {"solver_order": 3})),
    Method("dpm_pp.2s", ("DPMSolverSinglestepScheduler", {"solver_order": 2})),
    Method("dpm.2m", ("DEISMultistepScheduler", {})),
    Method("unipc.2", ("UniPCMultistepScheduler", {})),
    Method("ipndm.4", ("PNDMScheduler", {"skip_prk_steps": True}), ("sample_lms", {})),
]


class Free(Model):
    """A model that costs nothing: it predicts what it was given, in the kind that the solver reads."""

    def __init__(self, process: NoiseProcess, kind: Kind):
        self.process, self.kind = process, kind

    def __call__(self, x: Tensor, at: Level) -> Prediction:
        return Prediction(self.kind, x, x, at)


def our_way(name: str) -> Run:
    process, solver = VPLinear(), SOLVERS[name]()
    grid, model = uniform_lambda(process, STEPS, start=-3, end=3), Free(process, solver.facts.reads)
    return lambda x: solve(solver, model, x, grid, noise=Independent(0), keep=False)


def scheduler_way(name: str, config: dict) -> Run:
    """A scheduler's own loop; setting its timesteps is not counted."""
    scheduler = diffusers.scheduler_class(name)(**config)

    def run(x: Tensor) -> Tensor:
        for t in scheduler.timesteps:
            x = scheduler.step(scheduler.scale_model_input(x, t), t, x, return_dict=False)[0]
        return x

    def fresh(x: Tensor) -> Run:
        scheduler.set_timesteps(STEPS)
        return run

    run.prepare = fresh  # pyright: ignore[reportFunctionMemberAccess]
    return run


def function_way(name: str, options: dict) -> Run:
    sample = getattr(k_diffusion.sampling(), name)
    sigmas = torch.exp(torch.linspace(3, -3, STEPS + 1, dtype=torch.float64)).float()
    return lambda x: sample(lambda x, sigma: x, x, sigmas, disable=True, **options)


def ways_of(method: Method) -> dict[str, Run]:
    ways = {"ours": our_way(method.ours)}
    if method.scheduler and not diffusers.unavailable():
        ways["diffusers"] = scheduler_way(*method.scheduler)
    if method.function and not k_diffusion.unavailable():
        ways["k-diffusion"] = function_way(*method.function)
    return ways


def seconds_a_step(ways: dict[str, Run], x: Tensor) -> dict[str, list[float]]:
    """Each way's time a step, round by round, after one call that warms up."""
    out: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, run in ways.items():
            getattr(run, "prepare", lambda x: None)(x)
            begun = time.perf_counter()
            run(x)
            if turn:
                out[name].append((time.perf_counter() - begun) / STEPS)
    return out


def bare_step(x: Tensor) -> Run:
    """The arithmetic of DDIM alone."""

    def run(x: Tensor) -> Tensor:
        for _ in range(STEPS):
            x = 0.9 * x + 0.1 * x
        return x

    return run


def report() -> str:
    head = ["method", "ours, us a step", *(f"{name}, us" for name in MOST), *(f"ours / {name}" for name in MOST)]
    parts = [
        "# Benchmarks of the solvers",
        f"""\
Made by `python -m studies.benchmarks.solvers`. Time a step beyond the model, which costs nothing here; medians of
{ROUNDS} rounds in which the ways of a method are called in turn, {STEPS} steps a call, float32. Asked: at most
{MOST["diffusers"]} of diffusers and {MOST["k-diffusion"]} of k-diffusion. A step of Heun's method is two calls of its
scheduler.""",
        machine(torch.get_num_threads()),
    ]
    for shape in SHAPES:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        bare = statistics.median(seconds_a_step({"bare": bare_step(x)}, x)["bare"])
        rows = []
        for method in METHODS:
            found = seconds_a_step(ways_of(method), x)
            times = {name: statistics.median(seconds) for name, seconds in found.items()}
            row = [f"`{method.ours}`", f"{1e6 * times['ours']:.1f}"]
            row += [f"{1e6 * times[name]:.1f}" if name in times else "" for name in MOST]
            for name, most in MOST.items():
                if name not in times:
                    row.append("")
                    continue
                shares = [a / b for a, b in zip(found["ours"], found[name], strict=True)]
                row.append(
                    f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f}), {verdict(shares, most)}"
                )
            rows.append(row)
        parts += [f"## State {shape}", f"The bare two-term update takes {1e6 * bare:.1f} us.", table(head, rows)]
        print("\n\n".join(parts[-3:]), flush=True)
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help="write the tables to this Markdown file")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    text = report()
    if options.out is not None:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
