"""Sweeps over all steps at once end at the run of the steps in turn, in no more sweeps than steps; mutants do not."""

import math

import pytest
import torch

from theory import Exact, Independent, VPLinear, solve, uniform_lambda
from theory.noise import no_noise
from theory.parallel import picard
from theory.solvers import DDIM, DDPM, SEEDS, Ancestral, Churn, DPMpp2M, Euler, Heun

from .mutants import NoiseTwice
from .problems import PLANE

PROCESS = VPLinear()
GRID = uniform_lambda(PROCESS, 12, start=-2, end=2)
MODEL = Exact(PLANE, PROCESS)
FIRST = GRID.levels[0]
START = PLANE.noised(FIRST.alpha, FIRST.sigma).sample(8, generator=torch.Generator().manual_seed(0))


def gaps(run, solver):
    """Of each state, from the sequential run."""
    source = Independent(1) if solver.facts.stochastic else no_noise
    states = solve(solver, MODEL, START, GRID, noise=source).states
    return [(a - b).abs().max().item() for a, b in zip(run.states, states, strict=True)]


def swept(solver, **options):
    return picard(solver, MODEL, START, GRID, noise=Independent(1), **options)


@pytest.mark.parametrize("window", [None, 1, 5])
@pytest.mark.parametrize("solver", [DDIM(), Heun(), DDPM(), Ancestral(), SEEDS(2), Churn()], ids=repr)
def test_the_end_is_the_sequential_run(solver, window):
    run = swept(solver, window=window)
    assert max(gaps(run, solver)) < 1e-13 * (1 + START.abs().max().item()) * GRID.steps
    assert run.sweeps <= GRID.steps and len(run.changes) == run.sweeps
    if window == 1:
        assert run.sweeps == GRID.steps and run.evaluations == solver.facts.cost(GRID.steps)
    else:
        assert run.evaluations > solver.facts.cost(GRID.steps)


def test_a_tolerance_saves_sweeps_and_costs_about_itself():
    exact, loose = swept(DDIM()), swept(DDIM(), tolerance=1e-3)
    assert loose.sweeps < exact.sweeps <= GRID.steps
    assert 1e-9 < max(gaps(loose, DDIM())) < 1e-2


def test_mutants_do_not_end_there():
    assert max(gaps(swept(DDIM(), shift=1), DDIM())) > 0.01
    assert max(gaps(swept(NoiseTwice(DDPM())), DDPM())) > 0.01
    assert max(gaps(swept(Euler("t")), DDIM())) > 0.01


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"solver must be one of single steps; got DPMpp2M"):
        swept(DPMpp2M())
    with pytest.raises(ValueError, match=r"tolerance must be >= 0; got tolerance=nan"):
        swept(DDIM(), tolerance=math.nan)
    with pytest.raises(ValueError, match=r"window must be at least 1; got window=0"):
        swept(DDIM(), window=0)
