"""The exact strong error is what a coarse run differs from ever finer runs of the real solver on the same path by.

Both runs are affine in the increments of the fine grid, so their distance in mean square needs no sampling.
"""

import math

import pytest
import torch

from theory.grid import uniform_lambda
from theory.laws import affine_map
from theory.models import Exact
from theory.noise import snr_clock, time_clock
from theory.process import PROCESSES
from theory.solvers import DDIM, DDPM, EulerMaruyama
from theory.strong import gaussian_strong_error
from toy_distributions.mixture import GaussianMixture

LAW = GaussianMixture.gaussian([0.7, -0.2], [[0.25, 0.1], [0.1, 0.5]])
COARSE = 6
CLOCKS = {"t": time_clock, "snr": snr_clock}


def _refined_distance(solver, process, clock: str, finer: int) -> float:
    grids = [uniform_lambda(process, steps, start=-0.5, end=1.5) for steps in (COARSE, COARSE * finer)]
    coarse, fine = (affine_map(solver, Exact(LAW, process), grid, LAW.dim) for grid in grids)
    lengths = [torch.tensor([CLOCKS[clock](at) for at in grid.levels]).diff().abs() for grid in grids]
    share = (lengths[1] / lengths[0].repeat_interleave(finer)).sqrt()[:, None, None]
    noises = fine.noises - share * coarse.noises.repeat_interleave(finer, 0)
    start = LAW.noised(float(grids[0].levels[0].alpha), float(grids[0].levels[0].sigma))
    matrix = fine.matrix - coarse.matrix
    mean = matrix @ start.mean + fine.offset - coarse.offset
    return math.sqrt((mean @ mean + (matrix @ start.cov @ matrix.T).trace() + (noises**2).sum()).item())


CASES = [
    (EulerMaruyama(), "t"),
    (EulerMaruyama(drift_factor=1.1), "t"),
    (EulerMaruyama(), "snr"),
    (DDIM(eta=1.0), "snr"),
    (DDPM("beta"), "snr"),
]


@pytest.mark.parametrize("name", ["vp_linear", "ve"])
@pytest.mark.parametrize(("solver", "clock"), CASES, ids=str)
def test_strong_error(name, solver, clock):
    process = PROCESSES[name]()
    grid = uniform_lambda(process, COARSE, start=-0.5, end=1.5)
    exact = gaussian_strong_error(solver, LAW, process, grid, clock=clock).value
    if getattr(solver, "drift_factor", 1.0) != 1:  # its runs refine to another limit than the reverse SDE
        assert abs(_refined_distance(solver, process, clock, 32) / exact - 1) > 0.02
        return
    rough, fine = (_refined_distance(solver, process, clock, finer) for finer in (32, 64))
    limit = 2 * fine - rough  # the fine run's own error is of first order
    assert abs(fine / exact - 1) < 0.05
    assert abs(limit / exact - 1) < 0.1 * abs(fine / exact - 1) + 1e-4


@pytest.mark.parametrize("eta", [0.5, 2.0])
def test_strong_error_of_other_noise_levels(eta):
    """Order 1 for the family's other members, each against its own exact solution."""
    process = PROCESSES["vp_linear"]()
    errors = [
        gaussian_strong_error(
            EulerMaruyama(eta=eta), LAW, process, uniform_lambda(process, steps, start=-0.5, end=1.5), eta=eta
        ).value
        for steps in (64, 128)
    ]
    assert abs(math.log2(errors[0] / errors[1]) - 1) < 0.02


def test_strong_error_says_what_it_needs():
    process = PROCESSES["vp_linear"]()
    grid = uniform_lambda(process, 4, start=-0.5, end=1.5)
    with pytest.raises(ValueError, match="one Gaussian"):
        mixture = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [1.0, 1.0])
        gaussian_strong_error(EulerMaruyama(), mixture, process, grid)
    with pytest.raises(ValueError, match="draw one normal"):
        gaussian_strong_error(EulerMaruyama(eta=0.0), LAW, process, grid, eta=0.0)
    with pytest.raises(ValueError, match="clock must be"):
        gaussian_strong_error(EulerMaruyama(), LAW, process, grid, clock="lambda")  # pyright: ignore[reportArgumentType]
