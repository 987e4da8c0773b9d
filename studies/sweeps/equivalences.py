"""Equivalences: which named samplers are one and the same map, whatever they are called."""

import math
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from studies.store import Values
from studies.study import study
from theory import PROCESSES, SOLVERS, Exact, Independent, TimeGrid, solve
from theory.solvers import (
    DDIM,
    DPM2,
    ERSDE,
    SDEDPM,
    SEEDS,
    AdamsBashforth,
    Ancestral,
    DPMpp2M,
    DPMpp2S,
    EulerMaruyama,
    ExponentialAdams,
    PredictorCorrector,
    Restart,
    RungeKutta,
    SASolver,
    Solver,
)
from theory.solvers.er_sde import ode, sde
from theory.solvers.tableau import EULER
from toy_distributions import GaussianMixture

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

SAME = 1e-13
"""Largest difference of two states of size one after seven steps: some hundred roundings."""

LAW = GaussianMixture([0.4, 0.6], [[-1.0, 0.5], [0.6, -0.4]], [[0.3, 0.08], [0.05, 0.2]])
LAMS = (-1.0, -0.8, -0.2, 0.1, 0.9, 1.3, 1.4, 2.0)
CONTROL = "dpm_pp.2m, weight + 1e-9"

SETTINGS: dict[str, Callable[[], Solver]] = {
    "ddim, eta=0.5": lambda: DDIM(eta=0.5),
    "euler.ancestral, eta=0": lambda: Ancestral(eta=0.0),
    "euler.ancestral, eta=0.5": lambda: Ancestral(eta=0.5),
    "dpm.2, r1=1": lambda: DPM2(r1=1.0),
    "dpm_pp.2s, r1=1": lambda: DPMpp2S(r1=1.0),
    "sde_dpm_pp.1, eta=0": lambda: SDEDPM(1, eta=0.0),
    "sde_dpm.1, eta=0": lambda: SDEDPM(1, eta=0.0, reads="eps"),
    "sde_dpm_pp.2m, eta=0": lambda: SDEDPM(2, eta=0.0, weights="released"),
    "sde_dpm.2m, eta=0": lambda: SDEDPM(2, eta=0.0, reads="eps", weights="released"),
    "sde_dpm_pp.2m, eta=0, exact": lambda: SDEDPM(2, eta=0.0),
    "sde_dpm_pp.3m, eta=0": lambda: SDEDPM(3, eta=0.0),
    "sa_solver 1-0, tau=0": lambda: SASolver(1, 0, 0.0),
    "sa_solver 1-0, tau=1": lambda: SASolver(1, 0, 1.0),
    "sa_solver 3-0, tau=1": lambda: SASolver(3, 0, 1.0),
    "sa_solver 2-2, tau=0": lambda: SASolver(2, 2, 0.0),
    "unipc.2, exact": lambda: ExponentialAdams(2, halves="exact"),
    "unipc.1, no corrector": lambda: ExponentialAdams(1, correct=False),
    "unipc.2, no corrector": lambda: ExponentialAdams(2, correct=False),
    "unipc.3, no corrector, exact": lambda: ExponentialAdams(3, correct=False, halves="exact"),
    "seeds.1, eta=0": lambda: SEEDS(1, eta=0.0, reads="eps"),
    "seeds.2, eta=0": lambda: SEEDS(2, eta=0.0),
    "seeds.2, eta=0, eps": lambda: SEEDS(2, eta=0.0, reads="eps"),
    "seeds.3, eta=0": lambda: SEEDS(3, eta=0.0),
    "seeds.3, eta=0, eps": lambda: SEEDS(3, eta=0.0, reads="eps"),
    "er_sde.1, ode": lambda: ERSDE(1, phi=ode),
    "er_sde.1, sde": lambda: ERSDE(1, phi=sde),
    "deis.rho_ab1": lambda: AdamsBashforth(1),
    "euler tableau in k": lambda: RungeKutta(EULER),
    "euler_maruyama, eta=0": lambda: EulerMaruyama(eta=0.0),
    "predictor_corrector, no moves": lambda: PredictorCorrector(moves=0),
    "restart, no interval": lambda: Restart(intervals=()),
    CONTROL: lambda: DPMpp2M(0.5 + 1e-9),
}

REASONS = (
    ("ddim", "euler.k", "d(x/alpha)/dk = eps: DDIM is Euler's step in k"),
    ("ddim", "deis.rho_ab1", "one-point Adams-Bashforth in k is Euler's step"),
    ("ddim", "unipc.1, no corrector", "the integral of e^lam over a step, D held, is a difference of k"),
    ("ddim.eta1", "ddpm.beta_tilde", "eta = 1 injects the posterior variance of q(x_t | x_s, x_0)"),
    ("ddim.eta1", "sde_dpm_pp.1", "the reverse SDE with D held has this posterior as its law"),
    ("ddim.eta1", "euler.ancestral", "k_up, k_down are DDIM's eta in y = x / alpha"),
    ("ddim.eta1", "er_sde.1, sde", "phi = k^2 is the reverse SDE"),
    ("sde_dpm.1", "seeds.1", "one stage: the reverse SDE with e held"),
    ("dpm_pp.2m", "unipc.2, no corrector", "B2 puts half of expm1(-h) for h phi_2(-h)"),
    ("res.2m", "sde_dpm_pp.2m, eta=0, exact", "both integrate the line through two values of D exactly"),
    ("dpm_pp.3m", "sde_dpm_pp.3m, eta=0", "both integrate the parabola through three values of D exactly"),
    ("dpm.2", "midpoint.geometric", "at r1 = 1/2 the weight 1/(2 r1) leaves the middle prediction alone"),
    ("dpm.2, r1=1", "heun.k", "at r1 = 1 both predictions have half the weight, at the ends of the step in k"),
    ("dpm.2", "seeds.2, eta=0, eps", "eta = 0 leaves the ODE, and its two stages"),
    ("dpm.3", "seeds.3, eta=0, eps", "eta = 0 leaves the ODE, and its three stages"),
    ("dpm_pp.2s", "seeds.2, eta=0", "eta = 0 leaves the ODE, and its two stages"),
    ("dpm_pp.3s", "seeds.3, eta=0", "eta = 0 leaves the ODE, and its three stages"),
    ("ddim, eta=0.5", "euler.ancestral, eta=0.5", "k_up, k_down are DDIM's eta in y = x / alpha"),
    ("sde_dpm_pp.3m", "sa_solver 3-0, tau=1", "without a corrector, the same three points and noise"),
    ("euler.t", "quasi_taylor.1", "DDIM's coefficients to first order in the step of time are Euler's"),
    ("deis.rho_ab3", "deis.t_ab3", "alpha = 1, sigma = t: k is t"),
    ("dpm.2", "dpm.12", "a pair goes on with its higher method"),
    ("dpm.3", "dpm.23", "a pair goes on with its higher method"),
    ("dpm.2m", "sde_dpm.2m, eta=0", "the same two points in eps, with the same half"),
    ("unipc.2, exact", "sa_solver 2-2, tau=0", "tau = 0 leaves the ODE, and the corrector is UniPC's"),
    ("heun.k", "restart, no interval", "nothing to restart"),
    ("ddpm.beta_tilde", "predictor_corrector, no moves", "nothing to correct"),
    ("euler.t", "euler_maruyama, eta=0", "without noise the SDE's drift is the flow's velocity"),
    ("euler.t", "euler.k", "where alpha and sigma are affine in t, so is every flow of one point"),
    ("heun.t", "heun.k", "alpha = 1, sigma = t: k is t"),
)
"""Pairs of one class and why, in a few words."""


def solver_of(sampler: str) -> Solver:
    """The solver of a registry name, or of one of SETTINGS."""
    return SETTINGS[sampler]() if sampler in SETTINGS else SOLVERS[sampler]()


def ends(made: Solver, process: str) -> Tensor:
    """The states after one step, and after seven unequal ones, from four starts; with the same noise for all."""
    at = PROCESSES[process]()
    grid = TimeGrid(at, [at.time_at(lam) for lam in LAMS])
    y = torch.tensor([[0.4, -1.3], [1.1, 0.2], [-2.0, 0.7], [0.1, 3.0]], dtype=torch.float64)
    found = []
    for part in (TimeGrid(at, grid.times[:2]), grid):
        run = solve(made, Exact(LAW, at), part.levels[0].alpha * y, part, noise=Independent(0))
        found.append(run.end / part.levels[-1].alpha)
    return torch.cat(found)


def distance(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to states of size one or more."""
    return float(((a - b).abs() / b.abs().clamp_min(1.0)).max())


@cache
def _all(process: str) -> dict[str, Tensor]:
    found = {}
    for name in (*SOLVERS.names(), *SETTINGS):
        try:
            found[name] = ends(solver_of(name), process)
        except ValueError:  # it does not run on these levels: then it is like no other
            continue
    return found


@study(
    "equivalences",
    question="Which named samplers are the same map, to rounding?",
    axes={"process": ["vp_linear", "linear_path", "edm"], "sampler": [*SOLVERS.names(), *SETTINGS]},
)
def equivalences(process: str, sampler: str, *, seed: int) -> Values:
    """All samplers of the registry and of SETTINGS that take the same states to the same states with the same noise.

    After one step and after seven unequal ones on a mixture in the plane. nearest: of those that are another map.
    """
    known = _all(process)
    if sampler not in known:
        return {"same_as": "", "count": 0, "why": "does not run here", "nearest": "", "nearest_distance": math.inf}
    gaps = {name: distance(known[sampler], end) for name, end in known.items() if name != sampler}
    same = sorted(name for name, gap in gaps.items() if gap < SAME)
    nearest = min((name for name in gaps if name not in same), key=gaps.__getitem__)
    whole = {sampler, *same}
    why = "; ".join(f"{a} = {b}: {reason}" for a, b, reason in REASONS if {a, b} <= whole)
    return {
        "same_as": " | ".join(same),
        "count": len(same),
        "why": why,
        "nearest": nearest,
        "nearest_distance": gaps[nearest],
    }


def classes(table: "DataFrame") -> list[tuple[str, ...]]:
    """The classes of more than one sampler on one process, each sorted, the largest first."""
    found = {
        tuple(sorted({str(name), *str(same).split(" | ")}))
        for name, same in zip(table["sampler"], table["same_as"], strict=True)
        if same
    }
    return sorted(found, key=lambda each: (-len(each), each))


@equivalences.figure(
    "graph",
    caption="Lines join samplers that agree to 1e-13, after one step and after seven unequal ones, with the same "
    "noise; samplers that are like no other are left out. The control, which differs by 1e-9, is joined to none.",
)
def graph(table: "DataFrame") -> "Figure":
    from studies.figures import WIDE, blank, style_of
    from studies.theme import INK, SOFT

    processes = list(dict.fromkeys(table["process"]))
    found = {process: classes(cast("DataFrame", table[table["process"] == process])) for process in processes}
    most = max(1, *(sum(map(len, each)) + len(each) for each in found.values()))
    figure, axes = blank(width=WIDE, height=0.6 + 0.125 * most, columns=len(processes))
    for ax, process in zip(axes[0], processes, strict=True):
        place = 0.0
        for members in found[process]:
            nodes = {name: -place - i for i, name in enumerate(members)}
            ax.plot([0, 0], [-place, -place - len(members) + 1], color=SOFT, linewidth=1.2, zorder=1)
            for name, y in nodes.items():
                registered = "," not in name
                colour = style_of(name.split(",")[0]).colour
                ax.scatter([0], [y], s=18, color=colour if registered else "none", edgecolor=colour, zorder=2)
                ax.annotate(name, (0.12, y), fontsize=5.5, va="center", color=INK)
            place += len(members) + 1
        ax.set(xlim=(-0.3, 3), ylim=(-most, 1), title=process)
        ax.set_axis_off()
    return figure
