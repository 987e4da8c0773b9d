"""How far a solver is from the truth at a given step: along paths, and in law. Orders are slopes of these.

Grids are uniform in lambda, from LAM_START, where the model still changes, to LAM_END, before data-scale stiffness.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from theory.estimate import Estimate
from theory.grid import TimeGrid, uniform_lambda
from theory.laws import law_of
from theory.models import Exact
from theory.noise import Noise, snr_clock, time_clock
from theory.process import Level, NoiseProcess
from theory.reference import flow
from theory.slope import observed_order
from theory.solvers.base import Solver, solve
from theory.solvers.euler_maruyama import EulerMaruyama
from toy_distributions.base import Distribution
from toy_distributions.mixture import GaussianMixture

LAM_START, LAM_END = -0.5, 2.5


class PathReference(NamedTuple):
    """Starts and exact ends of probability-flow trajectories in y = x / alpha, the same for every process."""

    start: Tensor
    end: Tensor


def path_reference(law: Distribution, process: NoiseProcess, *, n: int = 16, seed: int = 0) -> PathReference:
    """n starts drawn from the noised law at LAM_START, and where the exact flow takes them by LAM_END.

    Both are divided by alpha, so a reference found with one process serves every other. Error about 1e-12.
    """
    s, t = process.level_at(LAM_START), process.level_at(LAM_END)
    generator = torch.Generator().manual_seed(seed)
    x = law.noised(float(s.alpha), float(s.sigma)).sample(n, generator=generator)
    return PathReference(x / s.alpha, flow(law, x, s, t) / t.alpha)


def path_error(
    solver: Solver,
    law: Distribution,
    process: NoiseProcess,
    steps: int,
    reference: PathReference,
    levels: Callable[..., TimeGrid] = uniform_lambda,
) -> tuple[TimeGrid, float]:
    """The grid, and the root mean square over the reference's trajectories of |y - y_exact| at LAM_END."""
    grid = levels(process, steps, start=LAM_START, end=LAM_END)
    first, last = grid.levels[0], grid.levels[-1]
    end = solve(solver, Exact(law, process), first.alpha * reference.start, grid, keep=False).end / last.alpha
    return grid, ((end - reference.end) ** 2).sum(-1).mean().sqrt().item()


def path_order(
    solver: Solver,
    law: Distribution,
    process: NoiseProcess,
    steps: Sequence[int],
    *,
    n: int = 4,
    levels: Callable[..., TimeGrid] = uniform_lambda,
) -> Estimate:
    """The observed order in h_max along n trajectories of a law, on grids of so many ``steps`` made by ``levels``."""
    reference = path_reference(law, process, n=n)
    runs = [path_error(solver, law, process, count, reference, levels) for count in steps]
    return observed_order([grid.h_max for grid, _ in runs], [error for _, error in runs], floor=1e-12)


def law_error(solver: Solver, law: GaussianMixture, process: NoiseProcess, steps: int) -> tuple[TimeGrid, float]:
    """The grid, and |mean - exact| + |std - exact| in y = x / alpha of the exact output law on one Gaussian, summed."""
    grid = uniform_lambda(process, steps, start=LAM_START, end=LAM_END)
    last = grid.levels[-1]
    got, exact = law_of(solver, law, process, grid), law.noised(float(last.alpha), float(last.sigma))
    spreads = [torch.linalg.eigvalsh(each.cov).sqrt() for each in (got, exact)]
    misses = (got.mean - exact.mean).abs().sum() + (spreads[0] - spreads[1]).abs().sum()
    return grid, float(misses / last.alpha)


def law_order(solver: Solver, law: GaussianMixture, process: NoiseProcess, steps: Sequence[int]) -> Estimate:
    """The observed weak order in h_max on one Gaussian: of |mean - exact| + |std - exact| in y = x / alpha, summed.

    The law of the output is exact (``law_of``), so nothing is sampled; started from the true law at LAM_START.
    """
    runs = [law_error(solver, law, process, count) for count in steps]
    return observed_order([grid.h_max for grid, _ in runs], [error for _, error in runs], floor=1e-13)


def strong_error(
    solver: Solver,
    law: Distribution,
    process: NoiseProcess,
    steps: int,
    *,
    paths: int,
    finer: int = 4,
    seed: int = 0,
) -> tuple[TimeGrid, float, float]:
    """The grid, the mean distance to a run on ``finer`` times more steps of the same Brownian paths, and its standard
    error. For laws where no exact solution of the SDE is at hand.

    The mean of |.|, which strong order is defined by (kloeden1992numerical, section 9.6), and not its square: between
    the modes of a mixture neighbouring paths part, and a few of them would decide a mean square. The Brownian path
    runs in t for Euler-Maruyama and in snr for the exponential (DDPM-like) steps, whose noise is additive there.
    Measured in y = x / alpha. With an error C h^p the reference's own takes C down to C (1 - finer^-p) at most, at
    every h alike, and leaves the slope.
    """
    grid = uniform_lambda(process, steps, start=LAM_START, end=LAM_END)
    fine = uniform_lambda(process, finer * steps, start=LAM_START, end=LAM_END)
    clock = time_clock if isinstance(solver, EulerMaruyama) else snr_clock
    first, last = grid.levels[0], grid.levels[-1]
    generator = torch.Generator().manual_seed(seed)
    x = law.noised(float(first.alpha), float(first.sigma)).sample(paths, generator=generator)
    widths = torch.tensor([clock(at) for at in fine.levels], dtype=x.dtype).diff().abs()
    steps_of_path = torch.randn(len(widths), *x.shape, dtype=x.dtype, generator=generator)
    steps_of_path *= widths.sqrt()[:, None, None]

    def path(every: int) -> Noise:
        """Its increments over ``every`` intervals of the fine grid at a time, in the order a run asks for them."""
        ends = iter(range(every, len(widths) + 1, every))

        def noise(s: Level, t: Level, like: Tensor) -> Tensor:
            end = next(ends)
            return steps_of_path[end - every : end].sum(0) / widths[end - every : end].sum().sqrt()

        return noise

    model = Exact(law, process)
    coarse_end = solve(solver, model, x, grid, noise=path(finer), keep=False).end
    fine_end = solve(solver, model, x, fine, noise=path(1), keep=False).end
    distance = torch.linalg.vector_norm(coarse_end - fine_end, dim=-1) / last.alpha
    return grid, distance.mean().item(), distance.std().item() / paths**0.5
