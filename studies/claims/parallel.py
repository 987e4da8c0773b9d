"""ParaDiGMS (Shih et al. 2023): what Picard sweeps end at, how many they take, and what they cost."""

import torch

from studies.claim import FAILS, at_most, claim, near
from theory.estimate import Estimate
from theory.grid import uniform_lambda
from theory.models import Exact
from theory.noise import Independent
from theory.parallel import PicardRun, picard
from theory.process import VPLinear
from theory.solvers import DDIM, DDPM, Solver, solve
from toy_distributions.mixture import GaussianMixture

PROCESS = VPLinear()
EPS = torch.finfo(torch.float64).eps
TRIMODAL = GaussianMixture([0.3, 0.5, 0.2], [[-1.0], [0.4], [1.2]], [0.05, 0.1, 0.04])
GRID = uniform_lambda(PROCESS, 50, start=-2.5, end=2.5)
START = torch.linspace(-2.5, 2.5, 21, dtype=torch.float64)[:, None]


def _swept(solver: Solver, **options) -> PicardRun:
    return picard(solver, Exact(TRIMODAL, PROCESS), START, GRID, noise=Independent(0), **options)


@claim(
    "paradigms.fixed_point",
    statement="Picard sweeps over all 50 steps of DDIM and of DDPM end at the sequential run on the same noise: "
    "largest difference of a state (mixture).",
    source="shih2023parallel",
    accepted=near(0.0, 1e-12),
    control={"shift": 1},
)
def fixed_point(shift: int = 0) -> Estimate:
    worst = 0.0
    for solver in (DDIM(), DDPM()):
        run = _swept(solver, shift=shift)
        states = solve(solver, Exact(TRIMODAL, PROCESS), START, GRID, noise=Independent(0)).states
        worst = max(worst, *((a - b).abs().max().item() for a, b in zip(run.states, states, strict=True)))
    return Estimate(worst, 50 * 10 * EPS)  # 50 sums, of terms below 10 units


@claim(
    "paradigms.sweeps",
    statement="With tolerance 1e-3 fewer sweeps than half the steps are enough for DDIM of 50 steps (mixture): sweeps "
    "over steps.",
    source="shih2023parallel",
    accepted=at_most(0.5),
    control={"window": 1},
)
def sweeps(window: int = 50) -> Estimate:
    return Estimate(_swept(DDIM(), tolerance=1e-3, window=window).sweeps / GRID.steps, 0.0)


@claim(
    "paradigms.cost",
    statement="The sweeps cost no more model calls than the steps in turn: calls over steps, DDIM of 50 steps, "
    "tolerance 1e-3 (mixture).",
    source="shih2023parallel, as usually quoted",
    accepted=at_most(1.0),
    control={"window": 1},
    expected=FAILS,
    finding="They cost several times as many; what falls is the number of calls that wait for each other. A window of "
    "one step costs as many as the steps in turn, and is them.",
)
def cost(window: int = 50) -> Estimate:
    return Estimate(_swept(DDIM(), tolerance=1e-3, window=window).evaluations / GRID.steps, 0.0)
