"""What a solver costs beyond its model calls: time a step on a (10000, 2) state, beside the bare arithmetic of DDIM.

Run: python -m studies.benchmarks.solver_overhead
"""

import statistics
import time
from functools import partial

import torch

from theory import SOLVERS, Independent, Kind, Model, Prediction, VPLinear, solve, uniform_lambda
from theory.process import Level, NoiseProcess

STEPS, REPEATS = 50, 7


class Free(Model):
    """A model that costs nothing: it predicts what it was given."""

    def __init__(self, process: NoiseProcess):
        self.process = process

    def __call__(self, x: torch.Tensor, at: Level) -> Prediction:
        return Prediction(Kind.X0, x, x, at)


def median_seconds(run) -> float:
    run()
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def main() -> None:
    process = VPLinear()
    grid = uniform_lambda(process, STEPS, start=-3, end=3)
    for shape in ((1, 2), (10_000, 2), (64, 3, 32, 32)):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))

        def arithmetic(x=x):
            for _ in range(STEPS):
                x = 0.9 * x + 0.1 * x
            return x

        bare = median_seconds(arithmetic) / STEPS
        draw = median_seconds(lambda x=x: [torch.randn_like(x) for _ in range(STEPS)]) / STEPS
        print(f"state {shape}: bare two-term update {bare * 1e6:.1f} us, one normal draw {draw * 1e6:.1f} us")
        for name in SOLVERS:
            solver = SOLVERS[name]()
            noise = Independent(0)
            run = partial(solve, solver, Free(process), x, grid, noise=noise, keep=False)
            seconds = median_seconds(run) / STEPS
            print(f"  {name:20} {seconds * 1e6:8.1f} us a step  ({seconds / bare:.1f} x bare)")


if __name__ == "__main__":
    main()
