"""On a centred Gaussian the distance of two runs on one path is Gaussian: its mean is sqrt(2/pi) of the exact error."""

import math

import pytest

from theory.convergence import LAM_END, LAM_START, strong_error
from theory.grid import uniform_lambda
from theory.process import PROCESSES
from theory.solvers import DDIM, DDPM, EulerMaruyama
from theory.strong import gaussian_strong_error
from toy_distributions.mixture import GaussianMixture

LAW = GaussianMixture.gaussian(0.0, 0.25)
FINER = 16


@pytest.mark.parametrize("name", ["vp_linear", "ve"])
@pytest.mark.parametrize(
    ("solver", "clock", "other"),
    [(EulerMaruyama(), "t", "snr"), (DDIM(eta=1.0), "snr", "t"), (DDPM("beta"), "snr", "t")],
    ids=str,
)
def test_sampled_strong_error(name, solver, clock, other):
    process = PROCESSES[name]()
    grid = uniform_lambda(process, 8, start=LAM_START, end=LAM_END)
    found, error = strong_error(solver, LAW, process, 8, paths=20_000, finer=FINER)[1:]

    def expected(clock):
        exact = gaussian_strong_error(solver, LAW, process, grid, clock=clock).value
        return math.sqrt(2 / math.pi) * exact / float(grid.levels[-1].alpha)

    # the fine run's own error is of order 1: up to 1 / FINER of the coarse one's
    slack = 4 * error + 1.5 / FINER * expected(clock)
    assert abs(found - expected(clock)) < slack
    assert abs(found - expected(other)) > slack or abs(expected(other) / expected(clock) - 1) < 0.15
