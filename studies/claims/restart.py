"""Restart sampling (Xu et al. 2023): what a cycle does to the law, to its errors, and what it cannot mend."""

import torch

from studies.claim import FAILS, at_most, claim, near
from theory.estimate import Estimate
from theory.flow_map import FlowMap
from theory.grid import TimeGrid
from theory.laws import law_of
from theory.process import VE, VPLinear
from theory.solvers import Restart
from theory.solvers.euler_heun import Heun
from theory.solvers.restart import Interval
from toy_distributions.mixture import GaussianMixture

PROCESS = VE()
EPS = torch.finfo(torch.float64).eps
GAUSSIAN = GaussianMixture.gaussian(0.7, 0.25)
TILTED = GaussianMixture.gaussian([0.5, -1.0], [[1.0, 0.6], [0.6, 0.5]])
NOISIER, CLEANER = -0.5, 1.0
"""Ends of the interval in lambda: k = 1.65 and 0.37."""


@claim(
    "restart.law",
    statement="With an exact deterministic part Restart keeps the law exactly: largest error of mean and covariance "
    "after three intervals (correlated Gaussian data, VP).",
    source="xu2023restart",
    accepted=near(0.0, 1e-12),
    control={"noise_scale": 1.01},
)
def law_of_restart(noise_scale: float = 1.0) -> Estimate:
    process = VPLinear()
    grid = TimeGrid(process, [process.time_at(lam) for lam in (-2.0, -1.1, 0.2, 0.5, 1.3, 2.0)])
    intervals = (Interval(-1.0, 0.5, 3, 2), Interval(0.1, 0.4), Interval(0.0, 1.6, 1, 4))
    out = law_of(Restart(FlowMap(TILTED), intervals, noise_scale), TILTED, process, grid)
    exact = TILTED.noised(float(grid.levels[-1].alpha), float(grid.levels[-1].sigma))
    gap = max((out.mean - exact.mean).abs().max().item(), (out.cov - exact.cov).abs().max().item())
    return Estimate(gap, 500 * EPS, "affine probing")


def _variance(inner, repeats: int, steps: int, start: GaussianMixture | None = None) -> float:
    """At the cleaner end of the interval, after so many repeats."""
    grid = TimeGrid(PROCESS, [PROCESS.time_at(lam) for lam in (CLEANER - 0.1, CLEANER)])
    solver = Restart(inner, (Interval(NOISIER, CLEANER, repeats, steps),))
    return law_of(solver, GAUSSIAN, PROCESS, grid, start=start).cov.item()


def _true_variance(lam: float) -> float:
    return 0.25 + float(PROCESS.level_at(lam).sigma) ** 2


@claim(
    "restart.contraction",
    statement="Each repeat multiplies an error of the variance by (v + t_min^2) / (v + t_max^2) on N(m, v) data: ratio "
    "to that power after 1, 2 and 3 repeats, less 1 (largest).",
    source="xu2023restart, the theorem on contraction, in closed form",
    accepted=near(0.0, 1e-10),
    control={"noisier": -0.3},
)
def contraction(noisier: float = NOISIER) -> Estimate:
    first = GAUSSIAN.noised(1.0, float(PROCESS.level_at(CLEANER - 0.1).sigma))
    wrong, flow = GaussianMixture.gaussian(first.mean, first.cov + 0.3), FlowMap(GAUSSIAN)
    rate = _true_variance(CLEANER) / _true_variance(noisier)
    before = 0.3 * _true_variance(CLEANER) / _true_variance(CLEANER - 0.1)
    worst = 0.0
    for repeats in (1, 2, 3):
        left = (_variance(flow, repeats, 3, wrong) - _true_variance(CLEANER)) / before
        worst = max(worst, abs(left / rate**repeats - 1))
    return Estimate(worst, 200 * EPS / rate**3, "affine probing")


@claim(
    "restart.removes_errors",
    statement="Restarting often enough removes the errors of the sampler: relative error of the variance after 100 "
    "repeats of three Heun steps (Gaussian data).",
    source="xu2023restart, as usually quoted",
    accepted=at_most(1e-6),
    control={"inner": "exact"},
    expected=FAILS,
    finding="It removes what came before. Each repeat brings the error of its own steps anew, and the law ends at the "
    "fixed point of the discretised cycle; only an exact inner flow ends at the truth.",
)
def many_repeats(inner: str = "heun") -> Estimate:
    solver = Heun() if inner == "heun" else FlowMap(GAUSSIAN)
    return Estimate(abs(_variance(solver, 100, 3) / _true_variance(CLEANER) - 1), 1e-13, "affine probing")
