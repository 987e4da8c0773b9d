"""The closed form is the KL of the real run; each neighbour of the optimal grid, and each plain one, is worse."""

import pytest
import torch

from theory import SOLVERS, VPLinear, karras, law_of, uniform_lambda
from theory.divergences import kl
from theory.optimal_grid import ancestral_kl, ancestral_optimal
from toy_distributions import GaussianMixture

PROCESS = VPLinear()


def _lams(grid):
    return torch.tensor([at.lam for at in grid.levels], dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 5, 12])
@pytest.mark.parametrize("solver", ["ddpm.beta_tilde", "sde_dpm_pp.1"])
def test_the_closed_form_is_the_law_of_the_output(steps, solver):
    grid, variances = karras(PROCESS, steps), (0.04, 1.5)
    law = GaussianMixture([1.0], [[0.7, -0.3]], [variances])
    last = grid.levels[-1]
    exact, output = law.noised(float(last.alpha), float(last.sigma)), law_of(SOLVERS[solver](), law, PROCESS, grid)
    assert ancestral_kl(_lams(grid), variances).item() == pytest.approx(kl(exact, output).value, rel=1e-9)
    wrong = law_of(SOLVERS["ddpm.beta"](), law, PROCESS, grid)  # of another variance: another KL
    assert abs(kl(exact, wrong).value - kl(exact, output).value) > 1e-3


@pytest.mark.parametrize("variances", [(0.25,), (0.01, 0.3)])
def test_neighbours_and_plain_grids_are_worse(variances):
    lams = _lams(ancestral_optimal(PROCESS, 8, variances))
    best = ancestral_kl(lams, variances)
    for plain in (uniform_lambda(PROCESS, 8), karras(PROCESS, 8)):
        assert ancestral_kl(_lams(plain), variances) > 1.05 * best
    for i in range(1, 8):
        for change in (-0.02, 0.02):
            moved = lams.clone()
            moved[i] += change
            assert ancestral_kl(moved, variances) > best


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="start must be < end"):
        ancestral_optimal(PROCESS, 4, start=1.0, end=0.0)
    with pytest.raises(ValueError, match="variances"):
        ancestral_optimal(PROCESS, 4, (0.0,))
